//! A configuration file: TOML to layers, with the line and column of every value.
//!
//! The tree is walked by hand rather than by `Deserialize`, so that each value keeps its place for errors that are
//! found later, and an unknown key can be answered with the nearest known one.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
};

use toml::{
    Spanned,
    de::{DeArray, DeTable, DeValue},
};

use super::{
    env::Environment,
    error::{Error, nearest},
    layer::Layer,
    options::{Key, Kind, List, Scope, Trust},
    origin::{Asked, Location, Origin, Whose},
    record::{Fingerprint, Record, Standing},
    search, value,
    warning::Warning,
};
use crate::{
    platform::files,
    regular_file::{self, RegularFile, sha256},
};

/// The files that were read.
#[derive(Debug, Default)]
pub struct Files {
    /// The project's file.
    pub project: Option<Project>,
    /// The user's own file, or the named one.
    pub own: Option<File>,
}

impl Files {
    /// Both, the project's first.
    pub fn iter(&self) -> impl Iterator<Item = &File> {
        self.project.iter().map(|project| &project.file).chain(&self.own)
    }

    /// The targets of both, each once, in the order of the files. Where both have one of the same name it is the user's own.
    pub fn targets(&self) -> Vec<(String, Whose)> {
        let own = |name: &str| self.own.as_ref().is_some_and(|file| file.target(name).is_some());
        let mut targets: Vec<(String, Whose)> = Vec::new();
        for name in self.iter().flat_map(File::target_names) {
            if !targets.iter().any(|(known, _)| known == name) {
                targets.push((name.to_owned(), if own(name) { Whose::Own } else { Whose::Project }));
            }
        }
        targets
    }
}

/// A project's file, and whether the user trusts it as it is.
#[derive(Debug)]
pub struct Project {
    /// The parsed content.
    pub file: File,
    /// The path for messages.
    pub shown: PathBuf,
    /// The path and hash of the very bytes that were parsed.
    pub fingerprint: Fingerprint,
    /// Whether the user trusts it.
    pub standing: Standing,
}

impl Project {
    /// Reads a project's file that was found at `path`, a real one. `None` when it is not safe to read, which becomes a
    /// warning.
    ///
    /// # Errors
    /// As for [`File::read`].
    pub fn read(path: PathBuf, environment: &Environment, warnings: &mut Vec<Warning>) -> Result<Option<Self>, Error> {
        let shown = environment.shown(&path);
        let (text, RegularFile { bytes, metadata }) = read_text(&path, &shown)?;
        if let Err(reason) = search::check(&path, &metadata, files::own_user()) {
            warnings.push(Warning::UnsafeFile { path: shown, reason });
            return Ok(None);
        }
        let file = File::parse(path.clone(), shown.clone(), &text, Whose::Project)?;
        let named = file.layers().filter_map(|layer| layer.get(Key::CaFile));
        let named = named.map(|setting| (environment.expand_home(Path::new(&setting.value)), None)).collect();
        let mut fingerprint = Fingerprint { path, sha256: sha256(&bytes), named };
        let record = environment.state_home().map(Record::read).unwrap_or_default();
        // A file that was never trusted does not make us read others.
        if record.knows(&fingerprint.path) {
            fingerprint.read_named();
        }
        let standing = record.standing(&fingerprint);
        Ok(Some(Self { file, shown, fingerprint, standing }))
    }

    /// Whether the user trusts it as it is.
    pub fn is_trusted(&self) -> bool {
        self.standing == Standing::Trusted
    }

    /// The options in it that not everyone may set, in the order of the file.
    pub fn requests(&self) -> Vec<Asked> {
        let is_rds = |layer: &Layer| {
            let reference = layer.get(Key::Host).and_then(|host| value::reference(&host.value).ok());
            reference.is_some_and(|reference| reference.is_rds())
        };
        let mut requests = Vec::new();
        for layer in self.file.layers() {
            for (key, setting) in layer.iter() {
                let asks = match key.trust() {
                    Trust::Owner(_) => !key.switched_off_by(&setting.value),
                    // In `[defaults]` it is for all of them.
                    Trust::OwnerUnlessRds(_) => {
                        let own = std::ptr::eq(layer, &raw const self.file.defaults);
                        let mut concerned = self.file.targets.iter().map(|(_, table)| table);
                        let others = own && concerned.any(|table| table.get(key).is_none() && !is_rds(table));
                        setting.value != "ssm" && (others || !own && !is_rds(layer))
                    }
                    Trust::Project | Trust::Stricter | Trust::Never => false,
                };
                if asks {
                    requests.push(Asked { key, setting: setting.clone() });
                }
            }
        }
        requests.sort_by_key(|request| match &request.setting.origin {
            Origin::File(at) => (at.line, at.column),
            Origin::Flag | Origin::Argument | Origin::Variable(_) => (0, 0),
        });
        requests
    }
}

/// Reads a configuration file as text.
fn read_text(path: &Path, shown: &Path) -> Result<(String, RegularFile), Error> {
    let failed = |source| Error::Read { path: shown.to_owned(), source };
    let file = regular_file::read(path).map_err(failed)?;
    let text = String::from_utf8(file.bytes.clone());
    let text = text.map_err(|_| failed(io::Error::new(io::ErrorKind::InvalidData, "it is not valid UTF-8")))?;
    Ok((text, file))
}

/// The content of one file.
#[derive(Debug)]
pub struct File {
    /// Its path.
    pub path: PathBuf,
    /// `[defaults]`: for every target that does not say otherwise.
    pub defaults: Layer,
    /// `[targets.NAME]`, in the order of the file.
    targets: Vec<(String, Layer)>,
}

impl File {
    /// Reads and parses the user's own file, or the one that was named.
    ///
    /// # Errors
    /// [`Error::Read`], and the faults of the content.
    pub fn read(path: PathBuf, environment: &Environment, warnings: &mut Vec<Warning>) -> Result<Self, Error> {
        let shown = environment.shown(&path);
        // The usual name for "no file".
        if path == Path::new("/dev/null") || cfg!(windows) && path == Path::new("NUL") {
            return Self::parse(path, shown, "", Whose::Own);
        }
        let (text, RegularFile { metadata, .. }) = read_text(&path, &shown)?;
        if files::everyone_writes(&path, &metadata) {
            warnings.push(Warning::WritableByOthers { path: shown.clone() });
        }
        Self::parse(path, shown, &text, Whose::Own)
    }

    /// Parses a file's text. `shown` is the path for messages.
    ///
    /// # Errors
    /// [`Error::Syntax`], [`Error::UnknownKey`], [`Error::Misplaced`], [`Error::WrongType`], [`Error::TargetName`],
    /// [`Error::TwoPorts`]; of a project's file also [`Error::ForeignCommand`], [`Error::NamedLikeHost`].
    pub fn parse(path: PathBuf, shown: PathBuf, text: &str, whose: Whose) -> Result<Self, Error> {
        let source = Source { folder: path.parent().unwrap_or(Path::new("")).to_owned(), shown, text, whose };
        let tree = DeTable::parse(text).map_err(|error| Error::Syntax {
            at: source.at(error.span().unwrap_or_default()),
            message: error.message().replace('\n', ", "),
        })?;
        let mut file = Self { path, defaults: Layer::default(), targets: Vec::new() };
        for (name, value) in in_order(tree.get_ref()) {
            match name.get_ref().as_ref() {
                "defaults" => file.defaults = source.layer(source.table(name, value)?, "[defaults]", Scope::Process)?,
                "targets" => {
                    for (name, value) in in_order(source.table(name, value)?) {
                        let title = format!("[targets.{}]", source.target_name(name)?);
                        let mut layer = source.layer(source.table(name, value)?, &title, Scope::Target)?;
                        layer.split_port()?;
                        file.targets.push((name.get_ref().to_string(), layer));
                    }
                }
                _ => return Err(source.unknown_at_top(name, value)),
            }
        }
        Ok(file)
    }

    /// The names of the targets, in the order of the file.
    pub fn target_names(&self) -> impl Iterator<Item = &str> {
        self.targets.iter().map(|(name, _)| name.as_str())
    }

    /// `[defaults]` and the tables of the targets.
    fn layers(&self) -> impl Iterator<Item = &Layer> {
        std::iter::once(&self.defaults).chain(self.targets.iter().map(|(_, layer)| layer))
    }

    /// One target's own table.
    pub fn target(&self, name: &str) -> Option<&Layer> {
        self.targets.iter().find(|(own, _)| own == name).map(|(_, layer)| layer)
    }
}

/// The text being parsed, for places in it.
struct Source<'a> {
    folder: PathBuf,
    shown: PathBuf,
    text: &'a str,
    whose: Whose,
}

type Name<'i> = Spanned<std::borrow::Cow<'i, str>>;

impl Source<'_> {
    fn at(&self, span: Range<usize>) -> Location {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        Location { path: self.shown.clone(), line: before.matches('\n').count() + 1, column }
    }

    fn table<'t, 'i>(&self, name: &Name<'_>, value: &'t Spanned<DeValue<'i>>) -> Result<&'t DeTable<'i>, Error> {
        value.get_ref().as_table().ok_or_else(|| Error::WrongType {
            at: self.at(value.span()),
            key: name.get_ref().to_string(),
            expected: "a table",
            found: value.get_ref().type_str(),
        })
    }

    /// The keys of `[defaults]` (`Scope::Process`) or of one target (`Scope::Target`).
    fn layer(&self, table: &DeTable<'_>, title: &str, kind: Scope) -> Result<Layer, Error> {
        let mut layer = Layer::default();
        for (name, value) in in_order(table) {
            let key = Key::of_name(name.get_ref()).ok_or_else(|| Error::UnknownKey {
                at: self.at(name.span()),
                key: name.get_ref().to_string(),
                table: Some(title.to_owned()),
                suggestion: suggest(name.get_ref(), kind),
            })?;
            if key.scope() != kind && key.scope() != Scope::Any {
                return Err(Error::Misplaced { at: self.at(name.span()), key, table: title.to_owned() });
            }
            // Cloning a repository must not be enough to run a command from it.
            if key.trust() == Trust::Never && self.whose == Whose::Project {
                return Err(Error::ForeignCommand { at: self.at(name.span()), key });
            }
            let mut text = self.scalar(key, value)?;
            // Paths are relative to the file that they stand in, unless they begin in the user's home.
            let prefix = match key.kind() {
                Kind::File => Some(""),
                Kind::Admin => Some("unix:"),
                _ => None,
            };
            if let Some((prefix, path)) = prefix.and_then(|prefix| Some((prefix, text.strip_prefix(prefix)?)))
                && !path.is_empty()
                && !path.starts_with("~/")
            {
                text = format!("{prefix}{}", self.folder.join(path).to_string_lossy());
            }
            layer.set(key, text, Origin::File(self.at(value.span())));
        }
        Ok(layer)
    }

    /// The text of a value that is of the key's kind.
    fn scalar(&self, key: Key, value: &Spanned<DeValue<'_>>) -> Result<String, Error> {
        let expected = match (key.kind(), value.get_ref()) {
            (Kind::Port | Kind::Listen | Kind::Admin | Kind::Count | Kind::Size, DeValue::Integer(number)) => {
                return Ok(number.to_string());
            }
            (Kind::Boolean, DeValue::Boolean(value)) => return Ok(value.to_string()),
            (Kind::Port, _) => "an integer, such as 5432",
            (Kind::Count, _) => "an integer, such as 4",
            (Kind::Size, _) => "an integer, such as 1024",
            (Kind::Boolean, _) => "true or false",
            (_, DeValue::String(text)) => return Ok(text.to_string()),
            (Kind::List(list), DeValue::Array(array)) => match joined(list, array) {
                Some(text) => return Ok(text),
                None => list.expected,
            },
            (Kind::List(list), _) => list.expected,
            (Kind::Duration, _) => "a string with a unit, such as \"30s\"",
            (Kind::Admin, _) => "a string or an integer, such as \"unix:/run/rdsgate.sock\" or 9090",
            (Kind::Listen, DeValue::Array(array)) if !array.is_empty() => match joined(ADDRESSES, array) {
                Some(text) => return Ok(text),
                None => ADDRESSES.expected,
            },
            (Kind::Listen, _) => "a string or an integer, such as \"localhost:5433\" or 5433",
            (Kind::Text | Kind::Word(_) | Kind::File, _) => "a string",
        };
        Err(Error::WrongType {
            at: self.at(value.span()),
            key: key.name().into(),
            expected,
            found: value.get_ref().type_str(),
        })
    }

    /// Names stand in log lines and on the command line: one plain word.
    fn target_name<'n>(&self, name: &'n Name<'_>) -> Result<&'n str, Error> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let text = name.get_ref().as_ref();
        if text.is_empty() || text.len() > 63 || text.starts_with('-') || !text.bytes().all(plain) {
            return Err(Error::TargetName { at: self.at(name.span()), name: text.into() });
        }
        // An endpoint that is typed in full must lead to that endpoint, whatever a project calls its targets.
        if self.whose == Whose::Project && text.matches('.').count() > 1 {
            return Err(Error::NamedLikeHost { at: self.at(name.span()), name: text.into() });
        }
        Ok(text)
    }

    fn unknown_at_top(&self, name: &Name<'_>, value: &Spanned<DeValue<'_>>) -> Error {
        let text = name.get_ref().as_ref();
        let at = self.at(name.span());
        let suggestion = match (Key::of_name(text), nearest(text, ["defaults", "targets"])) {
            (Some(key), _) => {
                return Error::Misplaced { at, key, table: "the top level".into() };
            }
            (None, Some(near)) => Some(format!("[{near}]")),
            (None, None) if value.get_ref().is_table() => Some(format!("[targets.{text}]")),
            (None, None) => None,
        };
        Error::UnknownKey { at, key: text.into(), table: None, suggestion }
    }
}

/// The local addresses of a target, which may also be one integer.
const ADDRESSES: List = List {
    separator: ",",
    none: "",
    expected: "an array of addresses, such as [\"localhost:5433\", \"unix\"]",
    repeats: true,
    integers: true,
};

/// The entries of an array as the one text that a flag has for them; `None` when they are not strings, or integers where the list may have
/// some.
fn joined(list: List, array: &DeArray<'_>) -> Option<String> {
    if array.is_empty() {
        return Some(list.none.into());
    }
    let text = |entry: &Spanned<DeValue<'_>>| match entry.get_ref() {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if list.integers => Some(number.to_string()),
        _ => None,
    };
    let texts: Option<Vec<String>> = array.iter().map(text).collect();
    Some(texts?.join(list.separator))
}

/// TOML tables are kept sorted by name; messages and listeners follow the file.
fn in_order<'t, 'i>(table: &'t DeTable<'i>) -> Vec<(&'t Name<'i>, &'t Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
}

fn suggest(name: &str, kind: Scope) -> Option<String> {
    let fits = |key: &Key| key.scope() == Scope::Any || key.scope() == kind;
    let plain = name.to_ascii_lowercase().replace('-', "_");
    let fitting = || Key::ALL.into_iter().filter(fits);
    let alias = fitting().find(|key| key.entry().aliases.contains(&plain.as_str())).map(Key::name);
    alias.or_else(|| nearest(&plain, fitting().map(Key::name))).map(str::to_owned)
}
