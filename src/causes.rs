//! An error with its causes in one line: the one place that joins them, since no error's own `Display` says its cause.

use std::error::Error;

/// The error, then each cause after a colon.
pub fn one_line(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Some libraries' errors say their cause themselves.
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
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
    }

    #[test]
    fn each_cause_is_said_once() {
        assert_eq!(one_line(&Layer::Rust), "it rusts");
        let error = Layer::Door(Layer::SaysItsCause(Layer::Rust.into()).into());
        assert_eq!(one_line(&error), "cannot open the door: the lock is stuck: it rusts");
    }
}
