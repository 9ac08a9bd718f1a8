//! Holds the texts that people read to the mechanical part of CONTRIBUTING.md, "Voice".
//!
//! Some constructions make a reader stop. Neither documents nor sources may have them.

use std::fs;

use crate::support::documents::{files, root};

/// Constructions that send the reader back to the beginning of the sentence, and what to write.
const BANNED: [(&str, &str); 7] = [
    ("nobody", "name who does not: `no client`, `other users cannot`"),
    ("whoever", "name the person or the program"),
    ("anew", "again"),
    ("told", "gets an error, receives, is notified"),
    ("is no", "is not a"),
    ("so long", "for a time, until"),
    ("so many", "the number"),
];

/// The standing of a piece of source text.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// String literals of the program: messages, hints, log lines.
    Text,
    /// Comments of the program, help texts of the command line among them.
    Comment,
    /// Comments and function names of tests.
    Test,
}

/// Something to read, and where it stands.
struct Passage {
    kind: Kind,
    file: String,
    line: usize,
    text: String,
}

#[test]
fn documents_avoid_riddles() {
    let mut wrong = String::new();
    let mut seen = 0;
    for file in files("md") {
        seen += 1;
        let text = fs::read_to_string(root().join(&file)).expect("documents are UTF-8");
        let lines = text.lines().enumerate().filter(|(_, line)| !quoted(line));
        for (number, line) in lines {
            for (banned, better) in found(line) {
                wrong += &format!("{file}:{}: {banned:?}; better: {better}\n", number + 1);
            }
        }
    }
    assert!(seen > 10, "the documents are here");
    assert!(wrong.is_empty(), "see CONTRIBUTING.md, Voice\n{wrong}");
}

#[test]
fn sources_avoid_riddles() {
    let passages = passages();
    assert!(passages.len() > 10_000, "the sources are read: {}", passages.len());
    let mut wrong = String::new();
    for Passage { kind, file, line, text } in &passages {
        for (banned, better) in found(text) {
            wrong += &format!("{file}:{line}: {kind:?}: {banned:?}; better: {better}\n");
        }
    }
    assert!(wrong.is_empty(), "see CONTRIBUTING.md, Voice\n{wrong}");
}

#[test]
fn metric_help_is_a_noun_phrase() {
    let source = root().join("src/telemetry/metrics.rs");
    let source = fs::read_to_string(source).expect("the metrics are declared there");
    let status = fs::read_to_string(root().join("src/admin/sessions.rs")).expect("and there");
    let literals: Vec<String> = [source, status].iter().flat_map(|text| literals_of(text)).collect();
    let helps = literals.iter().filter(|text| text.contains(' ') && text.starts_with(char::is_uppercase));
    let helps: Vec<&String> = helps.collect();
    assert!(helps.len() > 10, "the help texts are found: {helps:?}");
    for help in helps {
        let first = help.split([' ', ',']).next().unwrap_or_default();
        let is_noun_phrase = !["The", "A", "How", "What", "When", "From", "Whether", "Times"].contains(&first);
        assert!(is_noun_phrase && !help.ends_with('.'), "not a noun phrase: {help:?}");
    }
}

/// The banned constructions in a text.
fn found(text: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let words = text.to_lowercase();
    // A test name is a sentence as well.
    let words = words.replace('_', " ");
    let count = move |banned: &str| {
        let places = words.match_indices(banned).filter(|(at, _)| {
            let (before, after) = (&words[..*at], &words[at + banned.len()..]);
            let alone = !before.ends_with(char::is_alphanumeric) && !after.starts_with(char::is_alphanumeric);
            let idiom = match banned {
                "is no" => before.ends_with("there ") || after.starts_with(" longer"),
                "told" => after.starts_with(" apart") || after.starts_with(" from"),
                _ => false,
            };
            alone && !idiom
        });
        places.count()
    };
    BANNED.into_iter().flat_map(move |entry| std::iter::repeat_n(entry, count(entry.0)))
}

/// Whether a line of a document quotes what is banned, as the list of rules does.
fn quoted(line: &str) -> bool {
    line.contains("\"is no\"")
}

/// All that the sources say.
fn passages() -> Vec<Passage> {
    let mut passages = Vec::new();
    for file in files("rs") {
        let text = fs::read_to_string(root().join(&file)).expect("sources are UTF-8");
        let is_test =
            ["tests", "benches", "fuzz", "examples"].iter().any(|folder| file.split('/').any(|part| part == *folder))
                || file.ends_with("tests.rs")
                || file.contains("_tests/");
        let tests_begin = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
        let line_of = |at: usize| text[..at].matches('\n').count() + 1;
        for piece in pieces(&text) {
            let in_tests = is_test || piece.at() >= tests_begin;
            let kind = match (&piece, in_tests) {
                (Piece::Comment(..), false) => Kind::Comment,
                (Piece::Literal(..), false) => Kind::Text,
                (Piece::Comment(..) | Piece::Name(..), true) => Kind::Test,
                (Piece::Literal(..), true) | (Piece::Name(..), false) => continue,
            };
            passages.push(Passage {
                kind,
                file: file.clone(),
                line: line_of(piece.at()),
                text: piece.text().to_owned(),
            });
        }
    }
    passages
}

fn literals_of(source: &str) -> Vec<String> {
    let product = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let literals = pieces(product).into_iter().filter(|piece| matches!(piece, Piece::Literal(..)));
    literals.map(|piece| piece.text().to_owned()).collect()
}

/// A piece of source text that a person reads, with its place.
enum Piece<'a> {
    Comment(usize, &'a str),
    Literal(usize, &'a str),
    /// The name of a function.
    Name(usize, &'a str),
}

impl<'a> Piece<'a> {
    fn at(&self) -> usize {
        let (Self::Comment(at, _) | Self::Literal(at, _) | Self::Name(at, _)) = self;
        *at
    }

    fn text(&self) -> &'a str {
        let (Self::Comment(_, text) | Self::Literal(_, text) | Self::Name(_, text)) = self;
        text
    }
}

/// Cuts a source into its pieces. Knows as much of Rust as that takes.
fn pieces(source: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while let Some(rest) = source.get(at..).filter(|rest| !rest.is_empty()) {
        let boundary = !source[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let hashes = raw_string(rest).filter(|_| boundary);
        let length = if rest.starts_with("//") {
            let length = rest.find('\n').unwrap_or(rest.len());
            pieces.push(Piece::Comment(at, &rest[..length]));
            length
        } else if let Some(hashes) = hashes {
            let start = rest.find('"').map_or(rest.len(), |quote| quote + 1);
            let end = format!("\"{}", "#".repeat(hashes));
            let length = rest[start..].find(&end).unwrap_or(rest.len() - start);
            pieces.push(Piece::Literal(at, &rest[start..start + length]));
            start + length + end.len()
        } else if let Some(inside) = rest.strip_prefix('"') {
            let length = end_of_string(inside);
            pieces.push(Piece::Literal(at, &inside[..length]));
            length + 2
        } else if rest.starts_with('\'') {
            end_of_char(rest)
        } else if let Some(name) = rest.strip_prefix("fn ").filter(|_| boundary) {
            let length = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
            pieces.push(Piece::Name(at, &name[..length]));
            3 + length
        } else {
            rest.chars().next().map_or(1, char::len_utf8)
        };
        at += length;
    }
    pieces
}

/// How many hashes a raw string that begins here has.
fn raw_string(rest: &str) -> Option<usize> {
    let rest = rest.strip_prefix('b').unwrap_or(rest).strip_prefix('r')?;
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    rest[hashes..].starts_with('"').then_some(hashes)
}

fn end_of_string(inside: &str) -> usize {
    let mut escaped = false;
    for (at, c) in inside.char_indices() {
        match c {
            '"' if !escaped => return at,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    inside.len()
}

/// The length of a character literal, or of the quote of a lifetime.
fn end_of_char(rest: &str) -> usize {
    let mut inside = rest[1..].chars();
    match (inside.next(), inside.next()) {
        (Some('\\'), _) => rest[3..].find('\'').map_or(rest.len(), |at| at + 4),
        (Some(c), Some('\'')) => 2 + c.len_utf8(),
        _ => 1,
    }
}
