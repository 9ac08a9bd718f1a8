//! The syntax of the AWS files, as botocore reads it: Python's `configparser.RawConfigParser` with its defaults, then one level
//! of nesting (botocore, `configloader.py`; CPython, `Lib/configparser.py`).
//!
//! A file that botocore refuses is refused here too, with the line and what to change. Errors contain no text of the file, because
//! any line may hold a secret.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use zeroize::Zeroizing;

use crate::aws::error::file::{Malformed, Problem};

/// The section whose keys apply to every other section.
const DEFAULTS: &str = "DEFAULT";

/// A section of the file.
#[derive(Debug)]
pub(super) struct Section {
    /// The unchanged text between the brackets.
    pub(super) name: String,
    /// The line of its title, from 1.
    pub(super) line: usize,
    /// By name, in lower case.
    pub(super) keys: BTreeMap<String, Entry>,
}

/// A key's value.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) value: Value,
    /// The line of the key, from 1.
    pub(super) line: usize,
}

/// The value of a key.
#[derive(Clone)]
pub(super) enum Value {
    /// Text, with the lines of a continued value joined by newlines.
    Text(Zeroizing<String>),
    /// An indented block of nested keys.
    Nested(BTreeMap<String, Zeroizing<String>>),
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("line", &self.line).finish_non_exhaustive()
    }
}

/// Reads a file.
///
/// # Errors
/// [`Malformed`], for a file that botocore refuses.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Section>, Malformed> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        Malformed { line: 1 + newlines(before), problem: Problem::NotUtf8 }
    })?;
    let mut reader = Reader::default();
    for (line, number) in lines(text).zip(1..) {
        reader.line(line, number)?;
    }
    reader.finish()
}

/// Whether a file can be read.
///
/// # Errors
/// As for [`parse`].
#[cfg(any(test, feature = "testing"))]
pub(in crate::aws) fn read(bytes: &[u8]) -> Result<(), Malformed> {
    parse(bytes).map(drop)
}

/// Python's universal newlines.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.find(['\n', '\r']) else {
            rest = None;
            return Some(text);
        };
        let (line, tail) = text.split_at(end);
        rest = tail.strip_prefix("\r\n").or_else(|| tail.get(1..));
        Some(line)
    })
}

fn newlines(bytes: &[u8]) -> usize {
    let with_next = bytes.iter().zip(bytes.iter().skip(1).chain([&0]));
    with_next.filter(|&(&byte, &next)| byte == b'\n' || byte == b'\r' && next != b'\n').count()
}

/// The characters that Python's `str.strip` removes.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// The key that is being read. Its value may continue in the next line.
struct Open {
    section: usize,
    key: String,
    line: usize,
    value: Vec<Zeroizing<String>>,
}

#[derive(Default)]
struct Reader {
    sections: Vec<Section>,
    by_name: HashMap<String, usize>,
    current: Option<usize>,
    open: Option<Open>,
    /// The indentation of the last title or key. Deeper lines continue a value.
    level: usize,
}

impl Reader {
    fn line(&mut self, line: &str, number: usize) -> Result<(), Malformed> {
        let wrong = |problem| Err(Malformed { line: number, problem });
        let text = line.trim_matches(is_space);
        if text.starts_with(['#', ';']) {
            return Ok(());
        }
        if text.is_empty() {
            if let Some(open) = &mut self.open {
                open.value.push(Zeroizing::default());
            }
            return Ok(());
        }
        let indentation = line.chars().take_while(|&c| is_space(c)).count();
        if let Some(open) = self.open.as_mut().filter(|_| indentation > self.level) {
            open.value.push(Zeroizing::new(text.to_owned()));
            return Ok(());
        }
        self.level = indentation;
        if let Some(name) = title(text) {
            return self.begin(name, number);
        }
        let Some(section) = self.current else {
            return wrong(match text.chars().next() {
                Some('\u{feff}') => Problem::ByteOrderMark,
                Some('[') => Problem::NoBracket,
                _ => Problem::NoSection,
            });
        };
        let Some((key, value)) = text.split_once(['=', ':']) else {
            return wrong(if text.starts_with('[') { Problem::NoBracket } else { Problem::NotAKey });
        };
        let key = key.trim_end_matches(is_space).to_lowercase();
        if key.is_empty() {
            return wrong(Problem::NoName);
        }
        self.close()?;
        if let Some(first) = self.sections.get(section).and_then(|section| section.keys.get(&key)) {
            return wrong(Problem::KeyTwice(first.line));
        }
        let value = vec![Zeroizing::new(value.trim_matches(is_space).to_owned())];
        self.open = Some(Open { section, key, line: number, value });
        Ok(())
    }

    fn begin(&mut self, name: &str, line: usize) -> Result<(), Malformed> {
        self.close()?;
        let index = match self.by_name.get(name) {
            Some(&first) if name == DEFAULTS => first,
            Some(&first) => {
                let first = self.sections.get(first).map_or(0, |section| section.line);
                return Err(Malformed { line, problem: Problem::SectionTwice(first) });
            }
            None => {
                self.by_name.insert(name.to_owned(), self.sections.len());
                self.sections.push(Section { name: name.to_owned(), line, keys: BTreeMap::new() });
                self.sections.len() - 1
            }
        };
        self.current = Some(index);
        Ok(())
    }

    /// Ends the value of the last key.
    fn close(&mut self) -> Result<(), Malformed> {
        let Some(Open { section, key, line, value }) = self.open.take() else { return Ok(()) };
        let parts: Vec<&str> = value.iter().map(|part| part.as_str()).collect();
        let mut text = Zeroizing::new(parts.join("\n"));
        let length = text.trim_end_matches(is_space).len();
        text.truncate(length);
        let value = match text.strip_prefix('\n') {
            Some(block) => Value::Nested(nested(block).ok_or(Malformed { line, problem: Problem::NestedNotAKey })?),
            None => Value::Text(text),
        };
        if let Some(section) = self.sections.get_mut(section) {
            section.keys.insert(key, Entry { value, line });
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<Section>, Malformed> {
        self.close()?;
        if let Some(&defaults) = self.by_name.get(DEFAULTS) {
            let defaults = self.sections.remove(defaults).keys;
            for section in &mut self.sections {
                for (key, entry) in &defaults {
                    section.keys.entry(key.clone()).or_insert_with(|| entry.clone());
                }
            }
        }
        Ok(self.sections)
    }
}

/// The name in a section's title, up to the last bracket of the line.
fn title(text: &str) -> Option<&str> {
    let (name, _) = text.strip_prefix('[')?.rsplit_once(']')?;
    Some(name).filter(|name| !name.is_empty())
}

/// Parses an indented block; `None` if a line is not `key = value`.
fn nested(block: &str) -> Option<BTreeMap<String, Zeroizing<String>>> {
    // Python's `str.splitlines`.
    let breaks = ['\n', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}'];
    let lines = block.split(breaks).map(|line| line.trim_matches(is_space)).filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let (key, value) = line.split_once('=')?;
            let value = Zeroizing::new(value.trim_matches(is_space).to_owned());
            Some((key.trim_matches(is_space).to_owned(), value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Section, key and value of each entry.
    fn read(text: &str) -> Vec<(String, String, String)> {
        let mut all = Vec::new();
        for section in parse(text.as_bytes()).unwrap() {
            for (key, entry) in section.keys {
                match entry.value {
                    Value::Text(text) => all.push((section.name.clone(), key, text.to_string())),
                    Value::Nested(block) => all.extend(
                        block
                            .into_iter()
                            .map(|(name, value)| (section.name.clone(), format!("{key}.{name}"), value.to_string())),
                    ),
                }
            }
        }
        all
    }

    fn refused(text: &[u8]) -> (usize, Problem) {
        let Malformed { line, problem } = parse(text).unwrap_err();
        (line, problem)
    }

    #[test]
    fn entries_are_those_that_configparser_finds() {
        for (text, expected) in [
            ("[a]\nk = v", &[("a", "k", "v")][..]),
            ("[a] # more\nK: v = w", &[("a", "k", "v = w")]),
            ("[a]\n  k = v # kept\n  l = w", &[("a", "k", "v # kept"), ("a", "l", "w")]),
            ("[a]\r\nk=v\rl=w\r\n", &[("a", "k", "v"), ("a", "l", "w")]),
            ("[a]\nk = v\n  more\n", &[("a", "k", "v\nmore")]),
            (
                "[a]\nk =\n  x = 1\n\n  # no\n  y = 2 = 3\nl = w",
                &[("a", "k.x", "1"), ("a", "k.y", "2 = 3"), ("a", "l", "w")],
            ),
            ("[a]\nk =\nl = w\n", &[("a", "k", ""), ("a", "l", "w")]),
            ("# c\n; d\n\n[\u{e4} b]\nk=\u{a0}v", &[("\u{e4} b", "k", "v")]),
            ("[DEFAULT]\nk=v\n[a]\nl=w\n[b]\nk=x", &[("a", "k", "v"), ("a", "l", "w"), ("b", "k", "x")]),
            ("[a]]\nk=v", &[("a]", "k", "v")]),
            ("", &[]),
        ] {
            let expected: Vec<_> =
                expected.iter().map(|&(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned())).collect();
            assert_eq!(read(text), expected, "{text:?}");
        }
    }

    #[test]
    fn malformed_files_are_refused_with_line_and_reason() {
        for (text, line, problem) in [
            (&b"[a]\nk=v\n[b\n"[..], 3, Problem::NoBracket),
            (b"k=v\n[a]", 1, Problem::NoSection),
            (b"\xef\xbb\xbf[a]\nk=v", 1, Problem::ByteOrderMark),
            (b"[a]\nk=v\nhush", 3, Problem::NotAKey),
            (b"[a]\n=v", 2, Problem::NoName),
            (b"[a]\nk=v\n\n[a]", 4, Problem::SectionTwice(1)),
            (b"[a]\nk=v\nK:w", 3, Problem::KeyTwice(2)),
            (b"[a]\nk=\n x\n", 2, Problem::NestedNotAKey),
            (b"[a]\r\nk=v\rl=\xff", 3, Problem::NotUtf8),
        ] {
            assert_eq!(refused(text), (line, problem), "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn no_text_of_the_file_is_in_an_error_or_in_debug() {
        for text in ["[a]\nhush", "[a]\nk=\n hush", "[hush\n", "hush", "[a]\nhush=1\nhush=2", "[hush]\n[hush]"] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(!format!("{error:?} {} {}", error.problem, error.problem.mend()).contains("hush"), "{text:?}");
        }
        assert!(!format!("{:?}", parse(b"[a]\nk = hush").unwrap()).contains("hush"));
    }
}
