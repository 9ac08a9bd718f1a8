//! Splits text into words like a POSIX shell: Python's `shlex.split`, with which botocore reads section titles and
//! `credential_process`.

/// Splits `text` at blanks, with quotes and backslashes. `None` if a quote is not closed or a backslash is last.
pub(in crate::aws) fn split(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some('"') | None, '\\') => {
                let next = rest.next()?;
                let word = word.get_or_insert_default();
                // Inside quotes only these two are escaped; elsewhere the backslash stays.
                if quote.is_some() && next != '"' && next != '\\' {
                    word.push('\\');
                }
                word.push(next);
            }
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ' | '\t' | '\r' | '\n') => words.extend(word.take()),
            (Some(_) | None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_shlex() {
        for (text, words) in [
            ("profile dev", Some(&["profile", "dev"][..])),
            ("profile\t \"a b\" ", Some(&["profile", "a b"])),
            ("a'b c'd \\\"e\\ f", Some(&["ab cd", "\"e f"])),
            (r#""a\"b\\c\d" ''"#, Some(&[r#"a"b\c\d"#, ""])),
            (r"'a\'", Some(&[r"a\"])),
            ("", Some(&[])),
            ("it's", None),
            ("a\\", None),
            ("\u{e4} # x", Some(&["\u{e4}", "#", "x"])),
        ] {
            let words = words.map(|words| words.iter().map(|&word| word.to_owned()).collect());
            assert_eq!(split(text), words, "{text:?}");
        }
    }
}
