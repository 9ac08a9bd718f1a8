//! Joins an error and its causes into one line. This is the only place that does so, because `Display` of an error omits its cause.

use std::error::Error;

use safe_display::printable;

/// The error, then each cause after a colon. Several lines of one error, as in lists of libraries, are joined. The text may come
/// from the far side, so characters that control a display are escaped, and likely session tokens are cut.
pub fn one_line(error: &dyn Error) -> String {
    after(error.to_string(), error.source())
}

/// As [`one_line`], for an error with this text and this cause.
pub fn after(mut text: String, mut cause: Option<&dyn Error>) -> String {
    while let Some(error) = cause {
        let more = error.to_string();
        // Errors of some libraries include their cause.
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default().to_owned();
    let text = lines.fold(first, |text, line| if text.ends_with(':') { text + " " + line } else { text + "; " + line });
    printable::line(&printable::without_tokens(&text)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Layer {
        #[error("cannot open the door")]
        Door(#[source] Box<Self>),
        #[error("the lock is stuck: {0}")]
        SaysItsCause(#[source] Box<Self>),
        #[error("it rusts")]
        Rust,
        #[error("among these:\n  wind\n\n  rain\n")]
        List,
        #[error("\u{1b}]0;title\u{7} \u{202e}said\r")]
        FarSide,
    }

    #[test]
    fn each_cause_is_said_once() {
        assert_eq!(one_line(&Layer::Rust), "it rusts");
        assert_eq!(one_line(&Layer::Door(Layer::List.into())), "cannot open the door: among these: wind; rain");
        assert_eq!(
            one_line(&Layer::Door(Layer::FarSide.into())),
            r"cannot open the door: \u{1b}]0;title\u{7} \u{202e}said"
        );
        let error = Layer::Door(Layer::SaysItsCause(Layer::Rust.into()).into());
        assert_eq!(one_line(&error), "cannot open the door: the lock is stuck: it rusts");
    }
}
