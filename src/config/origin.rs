//! A value as it was written, and where.

use std::{fmt, path::PathBuf};

use super::options::Key;

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The file, relative to the working directory where it lies below it.
    pub path: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.path.display(), self.line, self.column)
    }
}

/// The origin of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The flag of its key.
    Flag,
    /// A TARGET on the command line.
    Argument,
    /// An environment variable.
    Variable(String),
    /// A configuration file.
    File(Location),
}

impl Origin {
    /// The origin in words for the user, for a value of `key`.
    pub fn describe(&self, key: Key) -> String {
        match self {
            Self::Flag => key.flag(),
            Self::Argument => "TARGET".into(),
            Self::Variable(name) => name.clone(),
            Self::File(at) => at.to_string(),
        }
    }
}

/// A value as it was written, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The text.
    pub value: String,
    /// The origin of the value.
    pub origin: Origin,
}

/// A value of a project's file that is the owner's to decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The key.
    pub key: Key,
    /// The value, and where it stands.
    pub setting: Setting,
}

/// The keys of requests with their lines: `profile (line 2), ca_file (line 9)`.
pub(super) struct Keys<'a>(pub(super) &'a [Asked]);

impl fmt::Display for Keys<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Asked { key, setting }) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{}", key.name())?;
            if let Origin::File(at) = &setting.origin {
                write!(f, " (line {})", at.line)?;
            }
        }
        Ok(())
    }
}

/// The source that describes a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// A project's file describes it.
    Project,
    /// The user's own file does.
    Own,
    /// The command line names an endpoint, ARN or identifier.
    CommandLine,
}
