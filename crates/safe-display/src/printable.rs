//! Foreign text, made safe for a terminal, a log and a SQL client: characters that control a display become visible.
//!
//! The escaped characters are the control characters (C0, DEL and C1, including ESC and CSI), the line and paragraph separators,
//! and the characters that change the direction of text (Unicode, UAX #9), which can make a text appear as another one.

use std::{borrow::Cow, fmt::Write as _};

/// One line: all characters that control a display are escaped, including newlines. Printable characters stay unchanged, so
/// escaping twice has no further effect.
pub fn line(text: &str) -> Cow<'_, str> {
    escape(text, controls)
}

/// Several lines: as [`line()`], but newlines stay.
pub fn lines(text: &str) -> Cow<'_, str> {
    escape(text, |c| c != '\n' && controls(c))
}

/// JSON whose strings may contain characters that control a display (serializers escape only C0): they get the escapes of
/// JSON, so the meaning does not change. Newlines between tokens stay.
pub fn json(text: &str) -> Cow<'_, str> {
    if !text.contains(|c| c != '\n' && controls(c)) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if c != '\n' && controls(c) {
            // All these characters are in the basic plane and have one code unit.
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    escaped.into()
}

/// Several lines in an unknown encoding: as [`lines`] if they are UTF-8. Otherwise only the control characters of ASCII are
/// escaped, which no encoding of a database uses for other characters.
pub fn bytes(text: &[u8]) -> Cow<'_, [u8]> {
    if let Ok(text) = std::str::from_utf8(text) {
        return match lines(text) {
            Cow::Borrowed(text) => text.as_bytes().into(),
            Cow::Owned(text) => text.into_bytes().into(),
        };
    }
    let mut escaped = Vec::with_capacity(text.len());
    for &byte in text {
        if byte.is_ascii_control() && byte != b'\n' {
            escaped.extend(char::from(byte).escape_default().map(|c| c as u8));
        } else {
            escaped.push(byte);
        }
    }
    escaped.into()
}

/// The shortest run of token characters that is cut from the text of an error. Session tokens have several hundred characters;
/// the longest names in AWS (the id of an ECS task in Systems Manager) have no capital letters.
const TOKEN: usize = 100;

/// The text of an error of AWS, which may quote the request, without the parts that look like a session token.
pub fn without_tokens(text: &str) -> Cow<'_, str> {
    let in_token = |c: char| c.is_ascii_alphanumeric() || "+/=_%-".contains(c);
    let is_token = |run: &str| {
        let has = |class: fn(&char) -> bool| run.chars().any(|c| class(&c));
        run.len() >= TOKEN
            && has(char::is_ascii_uppercase)
            && has(char::is_ascii_lowercase)
            && has(char::is_ascii_digit)
    };
    if text.len() < TOKEN || !text.split(|c| !in_token(c)).any(is_token) {
        return text.into();
    }
    let mut cut = String::with_capacity(text.len());
    for piece in text.split_inclusive(|c| !in_token(c)) {
        let (run, separator) = piece.split_at(piece.rfind(in_token).map_or(0, |last| last + 1));
        cut.push_str(if is_token(run) { "[cut]" } else { run });
        cut.push_str(separator);
    }
    cut.into()
}

/// Whether a character acts on a display instead of being shown.
pub fn controls(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}'
            | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escape(text: &str, escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&escaped) {
        return text.into();
    }
    let shown = |c: char| if escaped(c) { c.escape_default().to_string() } else { c.into() };
    text.chars().map(shown).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_controls_a_display_is_shown_as_its_escape() {
        assert_eq!(line("a\u{1b}[2J\n\t\u{9b}31m\u{202e}z\u{ef}"), r"a\u{1b}[2J\n\t\u{9b}31m\u{202e}zï");
        assert_eq!(lines("a\nb\r"), "a\nb\\r");
        assert_eq!(json("{\"a\":\"\u{9b}\u{2066}\"}\n"), "{\"a\":\"\\u009b\\u2066\"}\n");
        assert_eq!(&*bytes(b"a\x1b[2J\n\xff"), b"a\\u{1b}[2J\n\xff");
        assert_eq!(&*bytes("a\u{9b}\n".as_bytes()), b"a\\u{9b}\n");
        assert!(matches!(line("plain, zoë, 日本 👩‍💻"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_token_is_cut_from_an_error_and_names_are_not() {
        let token = "IQoJb3JpZ2luX2VjE/+=".repeat(20);
        for (text, expected) in [
            (format!("'host:x\nx-amz-security-token:{token}\n'"), "'host:x\nx-amz-security-token:[cut]\n'".to_owned()),
            (format!("token {token}"), "token [cut]".into()),
            (token.clone(), "[cut]".into()),
            (token.replace('/', "%2F").replace('+', "%2B") + "&a=b", "[cut]&a=b".into()),
        ] {
            assert_eq!(without_tokens(&text), expected);
        }
        let task = format!(
            "ecs:{}_{}_{}-0123456789 is not connected",
            "a-cluster-".repeat(9),
            "0af1".repeat(8),
            "0af1".repeat(8)
        );
        assert_eq!(without_tokens(&task), task);
        assert_eq!(without_tokens("zoë, 日本"), "zoë, 日本");
    }

    proptest! {
        #[test]
        fn nothing_that_controls_a_display_is_left(text in "\\PC*|(?s:.)*") {
            prop_assert!(!line(&text).contains(controls));
            let once = line(&text);
            prop_assert_eq!(line(&once), &*once);
            prop_assert!(!lines(&text).contains(|c| c != '\n' && controls(c)));
        }

        #[test]
        fn json_keeps_its_meaning(text in "(?s:.)*") {
            let value = serde_json::json!({ "text": text });
            let printed = format!("{value:#}");
            let escaped = json(&printed);
            prop_assert!(!escaped.contains(|c| c != '\n' && controls(c)));
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
        }
    }
}
