//! The faults of an AWS file. None of them contains text of the file, because any line may hold a secret.

use std::{fmt, io, sync::Arc};

/// The reason why an AWS file cannot be used.
#[derive(Debug, Clone)]
pub struct FileProblem(pub(in crate::aws) Unusable);

/// A file cannot be used.
#[derive(Debug, Clone)]
pub(in crate::aws) enum Unusable {
    Malformed(Malformed),
    TooLong,
    Io(Arc<io::Error>),
}

/// A file is malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::aws) struct Malformed {
    /// The line, from 1.
    pub(in crate::aws) line: usize,
    pub(in crate::aws) problem: Problem,
}

/// The problem of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::aws) enum Problem {
    NotUtf8,
    ByteOrderMark,
    NoSection,
    NoBracket,
    NotAKey,
    NoName,
    /// The line of the first one.
    SectionTwice(usize),
    /// The line of the first one.
    KeyTwice(usize),
    NestedNotAKey,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUtf8 => f.write_str("a byte is not valid UTF-8"),
            Self::ByteOrderMark => f.write_str("the file begins with a byte order mark"),
            Self::NoSection => f.write_str("text before the first section"),
            Self::NoBracket => f.write_str("a section title without its closing bracket"),
            Self::NotAKey => f.write_str("neither a section title nor `key = value`"),
            Self::NoName => f.write_str("a value without a key before it"),
            Self::SectionTwice(first) => write!(f, "the section is already in line {first}"),
            Self::KeyTwice(first) => write!(f, "the key is already in line {first} of this section"),
            Self::NestedNotAKey => f.write_str("an indented block must consist of `key = value` lines"),
        }
    }
}

impl Problem {
    /// The change that the file needs.
    pub(in crate::aws) fn mend(self) -> &'static str {
        match self {
            Self::NotUtf8 => "save the file as UTF-8",
            Self::ByteOrderMark => "save the file as UTF-8 without a byte order mark",
            Self::NoSection => "put a title such as [default] before it",
            Self::NoBracket => "close the title with ]",
            Self::NotAKey => "write `key = value`, or # before a comment",
            Self::NoName => "write the key before =",
            Self::SectionTwice(_) => "put the keys of both into one section",
            Self::KeyTwice(_) => "remove one of the two",
            Self::NestedNotAKey => "write the value on the line of its key, or `key = value` in each indented line",
        }
    }
}
