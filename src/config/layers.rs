//! Where a value came from, and which value wins.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use super::{
    error::Error,
    file::File,
    key::Key,
    value::{self, ValueError},
};

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

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The flag of its key.
    Flag,
    /// A TARGET on the command line.
    Argument,
    /// This environment variable.
    Variable(String),
    /// A configuration file.
    File(Location),
}

impl Origin {
    /// How it is named to the user, for a value of `key`.
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
    /// Where it came from.
    pub origin: Origin,
}

impl Setting {
    /// The value, parsed.
    ///
    /// # Errors
    /// [`Error::BadValue`] with the place that it came from.
    pub fn parse<T>(&self, key: Key, parse: impl FnOnce(&str) -> Result<T, ValueError>) -> Result<T, Error> {
        parse(&self.value).map_err(|source| Error::BadValue { key, origin: self.origin.clone(), source })
    }
}

/// The values of one source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layer(BTreeMap<Key, Setting>);

impl Layer {
    /// The value of a key, if this source has one.
    pub fn get(&self, key: Key) -> Option<&Setting> {
        self.0.get(&key)
    }

    /// Sets a key.
    pub fn set(&mut self, key: Key, value: String, origin: Origin) {
        self.0.insert(key, Setting { value, origin });
    }

    /// Moves the port of `host = "name:port"` to the key `port` of the same layer.
    ///
    /// # Errors
    /// [`Error::TwoPorts`] when the layer has another port as well.
    pub fn split_port(&mut self) -> Result<(), Error> {
        let Some(host) = self.0.get_mut(&Key::Host) else { return Ok(()) };
        // An ARN has colons of its own.
        let host_and_port = host.value.rsplit_once(':').filter(|_| !host.value.starts_with("arn:"));
        let Some((name, port)) = host_and_port else { return Ok(()) };
        let (name, port, origin) = (name.to_owned(), port.to_owned(), host.origin.clone());
        host.value = name;
        match self.0.get(&Key::Port) {
            Some(other) if other.value != port => {
                Err(Error::TwoPorts { origin, in_host: port, in_port: other.value.clone() })
            }
            Some(_) => Ok(()),
            None => {
                self.set(Key::Port, port, origin);
                Ok(())
            }
        }
    }
}

impl FromIterator<(Key, String, Origin)> for Layer {
    fn from_iter<I: IntoIterator<Item = (Key, String, Origin)>>(settings: I) -> Self {
        Self(settings.into_iter().map(|(key, value, origin)| (key, Setting { value, origin })).collect())
    }
}

/// The layers that apply to one target (or, with none, to the process), the strongest first.
///
/// A target's own tables come before any `[defaults]`, and in each the project's file before the user's.
#[derive(Debug)]
pub struct Settings<'a> {
    own: Vec<&'a Layer>,
    defaults: Vec<&'a Layer>,
}

impl<'a> Settings<'a> {
    /// Joins the layers outside of files with those of the files.
    pub fn new(outside: &[&'a Layer], files: &'a [File], target: Option<&str>) -> Self {
        let tables = files.iter().filter_map(|file| file.target(target?));
        Self {
            own: outside.iter().copied().chain(tables).collect(),
            defaults: files.iter().map(|file| &file.defaults).collect(),
        }
    }

    /// The value that wins.
    pub fn get(&self, key: Key) -> Option<&'a Setting> {
        self.own(key).or_else(|| self.default(key))
    }

    /// The value said for this target: by a flag, a variable or its own table.
    pub fn own(&self, key: Key) -> Option<&'a Setting> {
        self.own.iter().find_map(|layer| layer.get(key))
    }

    /// The value of `[defaults]`.
    pub fn default(&self, key: Key) -> Option<&'a Setting> {
        self.defaults.iter().find_map(|layer| layer.get(key))
    }

    /// The value that wins, parsed.
    ///
    /// # Errors
    /// [`Error::BadValue`] with the place that it came from.
    pub fn parse<T>(&self, key: Key, parse: impl FnOnce(&str) -> Result<T, ValueError>) -> Result<Option<T>, Error> {
        self.get(key).map(|setting| setting.parse(key, parse)).transpose()
    }

    /// The value that wins, as text.
    ///
    /// # Errors
    /// [`Error::BadValue`] if it is empty or holds a NUL.
    pub fn text(&self, key: Key) -> Result<Option<String>, Error> {
        self.parse(key, value::text)
    }
}
