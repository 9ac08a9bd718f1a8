//! One word for a shell, a file or a URL, whatever characters it has. Pure.

use std::{borrow::Cow, fmt::Write as _};

use safe_display::printable;

/// One word for a POSIX shell, to be read by people: control characters are written in `$'…'` of bash and zsh, so that none
/// reaches the terminal.
pub fn shell(word: &str) -> Cow<'_, str> {
    if is_plain(word) {
        return word.into();
    }
    if word.contains(printable::controls) {
        let mut text = String::from("$'");
        for c in word.chars() {
            match c {
                '\'' | '\\' => text.extend(['\\', c]),
                c if printable::controls(c) => {
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
pub fn posix(word: &str) -> Cow<'_, str> {
    if is_plain(word) { word.into() } else { format!("'{}'", word.replace('\'', r"'\''")).into() }
}

/// One word for fish, whose single quotes know two escapes (fish manual, "Quotes").
pub fn fish(word: &str) -> Cow<'_, str> {
    if is_plain(word) {
        return word.into();
    }
    format!("'{}'", word.replace('\\', r"\\").replace('\'', r"\'")).into()
}

/// One word for PowerShell, whose single quotes know one escape: a quote is doubled. It takes typographic single quotes for the same
/// (about_Quoting_Rules; `IsSingleQuote` of its tokenizer).
pub fn powershell(word: &str) -> String {
    let mut text = String::from("'");
    for c in word.chars() {
        text.push(c);
        if matches!(c, '\'' | '\u{2018}'..='\u{201b}') {
            text.push(c);
        }
    }
    text.push('\'');
    text
}

/// A value for `set "NAME=…"` of cmd; `None` if it has a character that cmd expands between quotes too, or a quote.
pub fn cmd(value: &str) -> Option<&str> {
    (!value.contains(['"', '%', '!'])).then_some(value)
}

/// A value of a `.env` file that all readers read alike: a POSIX shell that sources it, python-dotenv and similar programs.
/// `None` if there is no such form. Values without special characters get no quotes, for readers that know none (docker).
pub fn dotenv(value: &str) -> Option<Cow<'_, str>> {
    // A shell does not expand globs in assignments, so a URL may contain a query.
    let plain = |c: char| is_plain_char(c) || "?=%[]".contains(c);
    if value.chars().all(plain) && value.starts_with(is_plain_char) {
        return Some(value.into());
    }
    // python-dotenv decodes \\ and \' and expands ${NAME} in single quotes too.
    let literal = !value.contains("${") && !value.contains(r"\\") && !value.ends_with('\\');
    if literal && !value.contains('\'') {
        return Some(format!("'{value}'").into());
    }
    (!value.contains(['"', '$', '`', '\\'])).then(|| format!("\"{value}\"").into())
}

/// A value of a libpq connection string (PostgreSQL, "Keyword/Value Connection Strings").
pub fn keyword_value(value: &str) -> Cow<'_, str> {
    if is_plain(value) {
        return value.into();
    }
    format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'")).into()
}

/// RFC 3986: everything but the unreserved characters, in UTF-8.
pub fn percent(text: &str) -> String {
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
pub fn xml(text: &str) -> String {
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

fn is_plain(word: &str) -> bool {
    !word.is_empty() && word.chars().all(is_plain_char)
}

/// The characters that need no quotes: they have no special meaning in sh, bash, zsh and fish at any place of a word
/// (unlike `%self` in fish, `=ls` and `~` in zsh).
fn is_plain_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_-./@+,:".contains(c)
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
        for (value, written) in [
            (
                "postgresql://u@[::1]:5432/d%20e?sslmode=disable",
                Some("postgresql://u@[::1]:5432/d%20e?sslmode=disable"),
            ),
            ("", Some("''")),
            ("a&b", Some("'a&b'")),
            ("$HOME `id` \"x\"", Some("'$HOME `id` \"x\"'")),
            ("it's me", Some("\"it's me\"")),
            (r"a\b", Some(r"'a\b'")),
            ("=ls", Some("'=ls'")),
            ("~", Some("'~'")),
            (r"a\\b", None),
            (r"a\", None),
            ("${HOME}", None),
            ("it's $HOME", None),
        ] {
            assert_eq!(dotenv(value).as_deref(), written, "{value}");
        }
        assert_eq!(fish("%self"), "'%self'");
        assert_eq!(keyword_value(r"it's \"), r"'it\'s \\'");
        assert_eq!(percent("a b/ë+~"), "a%20b%2F%C3%AB%2B~");
        assert_eq!(xml("<a b=\"c\">&"), "&lt;a b=&quot;c&quot;&gt;&amp;");
    }
}
