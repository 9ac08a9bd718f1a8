//! One word for a shell, a file or a URL, whatever characters it has. Pure.

use std::{borrow::Cow, fmt::Write as _};

/// One word for a POSIX shell, to be read by people: control characters in bash's and zsh's `$'…'`, so that none reaches the
/// terminal.
pub(super) fn shell(word: &str) -> Cow<'_, str> {
    if is_plain(word) {
        return word.into();
    }
    if word.contains(char::is_control) {
        let mut text = String::from("$'");
        for c in word.chars() {
            match c {
                '\'' | '\\' => text.extend(['\\', c]),
                c if c.is_control() => {
                    for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                        let _ = write!(text, "\\{byte:03o}");
                    }
                }
                c => text.push(c),
            }
        }
        text.push('\'');
        return text.into();
    }
    posix(word)
}

/// One word for any POSIX shell, to be evaluated.
pub(super) fn posix(word: &str) -> Cow<'_, str> {
    if is_plain(word) { word.into() } else { format!("'{}'", word.replace('\'', r"'\''")).into() }
}

/// One word for fish, whose single quotes know two escapes (fish manual, "Quotes").
pub(super) fn fish(word: &str) -> Cow<'_, str> {
    if is_plain(word) {
        return word.into();
    }
    format!("'{}'", word.replace('\\', r"\\").replace('\'', r"\'")).into()
}

/// A value of a `.env` file. What needs no quotes has none, for readers that know none; else single quotes, in which
/// nothing is expanded; else double quotes with backslashes.
pub(super) fn dotenv(value: &str) -> Cow<'_, str> {
    if is_plain(value) || value.chars().all(|c| is_plain_char(c) || "?=&[]".contains(c)) && !value.is_empty() {
        value.into()
    } else if value.contains(['\'', '\\']) || value.contains(char::is_control) {
        let mut text = String::from('"');
        for c in value.chars() {
            match c {
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '"' | '\\' | '$' | '`' => text.extend(['\\', c]),
                c => text.push(c),
            }
        }
        text.push('"');
        text.into()
    } else {
        format!("'{value}'").into()
    }
}

/// A value of a libpq connection string (PostgreSQL, "Keyword/Value Connection Strings").
pub(super) fn keyword_value(value: &str) -> Cow<'_, str> {
    if is_plain(value) {
        return value.into();
    }
    format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'")).into()
}

/// RFC 3986: everything but the unreserved characters, in UTF-8.
pub(super) fn percent(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// The text of an XML element or attribute.
pub(super) fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Text with control characters made visible.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return text.into();
    }
    text.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.into() })
        .collect::<String>()
        .into()
}

fn is_plain(word: &str) -> bool {
    !word.is_empty() && word.chars().all(is_plain_char)
}

fn is_plain_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_-./@%+,:".contains(c)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const ODD: [&str; 9] =
        ["plain", "", "it's", "a b", "$HOME `id` \"x\"", r"back\slash\'", "#hash=1", "zoë", "line\nbreak\t!"];

    #[test]
    fn a_posix_shell_reads_the_word_back() {
        for word in ODD {
            let script = format!("printf %s {}", posix(word));
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word, "{script}");
        }
    }

    #[test]
    fn bash_reads_back_what_people_may_copy() {
        for word in ODD {
            let quoted = shell(word);
            assert!(!quoted.contains(char::is_control), "{quoted}");
            let output = Command::new("bash").args(["-c", &format!("printf %s {quoted}")]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word, "{quoted}");
        }
    }

    #[test]
    fn each_format_has_its_own_escapes() {
        let shown = |quote: fn(&str) -> Cow<'_, str>| ODD.map(|word| quote(word).into_owned());
        assert_eq!(
            shown(fish),
            [
                "plain",
                "''",
                r"'it\'s'",
                "'a b'",
                "'$HOME `id` \"x\"'",
                r"'back\\slash\\\''",
                "'#hash=1'",
                "'zoë'",
                "'line\nbreak\t!'"
            ]
        );
        assert_eq!(
            shown(dotenv),
            [
                "plain",
                "''",
                "\"it's\"",
                "'a b'",
                "'$HOME `id` \"x\"'",
                r#""back\\slash\\'""#,
                "'#hash=1'",
                "'zoë'",
                "\"line\\nbreak\t!\""
            ]
        );
        assert_eq!(
            dotenv("postgresql://u@[::1]:5432/d?sslmode=disable"),
            "postgresql://u@[::1]:5432/d?sslmode=disable"
        );
        assert_eq!(keyword_value(r"it's \"), r"'it\'s \\'");
        assert_eq!(percent("a b/ë+~"), "a%20b%2F%C3%AB%2B~");
        assert_eq!(xml("<a b=\"c\">&"), "&lt;a b=&quot;c&quot;&gt;&amp;");
    }
}
