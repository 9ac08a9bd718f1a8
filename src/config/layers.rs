//! Where a value came from, and which value wins.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use super::{
    error::Error,
    file::{File, Files, Project},
    key::{Key, Kind},
    trust::Trust,
    value::{self, ValueError},
};
use crate::regular_file::Sha256;

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

    /// The keys that it has, with their values.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &Setting)> {
        self.0.iter().map(|(key, setting)| (*key, setting))
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

/// Whose word a target is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// A project's file describes it.
    Project,
    /// The user's own file does.
    Own,
    /// It was typed in full on the command line.
    CommandLine,
}

/// What one file says of one target, or of the process.
#[derive(Debug, Clone, Copy, Default)]
struct Tables<'a> {
    /// `[targets.NAME]`.
    target: Option<&'a Layer>,
    /// `[defaults]`.
    defaults: Option<&'a Layer>,
}

impl<'a> Tables<'a> {
    fn of(file: &'a File, target: Option<&str>) -> Self {
        Self { target: target.and_then(|name| file.target(name)), defaults: Some(&file.defaults) }
    }

    fn get(&self, key: Key) -> Option<&'a Setting> {
        [self.target, self.defaults].into_iter().flatten().find_map(|layer| layer.get(key))
    }
}

/// How much the project's file may say here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Everything, since the owner trusts it as it is.
    Trusted,
    /// What anyone may say.
    Untrusted,
    /// Stricter guards: the target is not the project's.
    Guards,
}

/// What applies to one target (or, without one, to the process), the strongest first: flags, variables, the project's
/// tables, the user's own.
///
/// A target is described by one file. The user's own `[defaults]` apply to a project's targets too, since they are the
/// owner's word; a project's `[defaults]` apply to its own targets alone. Of two targets with one name the user's own is
/// meant, and the project's adds its guards to it.
#[derive(Debug, Clone)]
pub struct Settings<'a> {
    outside: Vec<&'a Layer>,
    project: Tables<'a>,
    own: Tables<'a>,
    reach: Reach,
    file: Option<&'a Project>,
}

impl<'a> Settings<'a> {
    /// What applies to the target called `name`.
    pub fn of_target(outside: &[&'a Layer], files: &'a Files, whose: Whose, name: &str) -> Self {
        let project = files.project.as_ref();
        let of_own = |target| files.own.as_ref().map(|file| Tables::of(file, target)).unwrap_or_default();
        let (project_tables, own, reach) = match (whose, project) {
            (Whose::Project, Some(project)) => {
                let reach = if project.is_trusted() { Reach::Trusted } else { Reach::Untrusted };
                (Tables::of(&project.file, Some(name)), of_own(None), reach)
            }
            (Whose::Own, Some(project)) => {
                let tables = Tables { defaults: None, ..Tables::of(&project.file, Some(name)) };
                (tables, of_own(Some(name)), Reach::Guards)
            }
            (Whose::Own, None) => (Tables::default(), of_own(Some(name)), Reach::Guards),
            (Whose::CommandLine | Whose::Project, _) => (Tables::default(), of_own(None), Reach::Guards),
        };
        Self { outside: outside.to_vec(), project: project_tables, own, reach, file: project }
    }

    /// What applies to the process; the project's `[defaults]` too where it serves nothing but the project's targets.
    pub fn of_process(outside: &[&'a Layer], files: &'a Files, with_project: bool) -> Self {
        let of = |file| Tables::of(file, None);
        let project = files.project.as_ref().filter(|_| with_project);
        let reach = if project.is_some_and(Project::is_trusted) { Reach::Trusted } else { Reach::Untrusted };
        Self {
            outside: outside.to_vec(),
            project: project.map(|project| of(&project.file)).unwrap_or_default(),
            own: files.own.as_ref().map(of).unwrap_or_default(),
            reach,
            file: project,
        }
    }

    /// What would apply if the owner trusted the project's file.
    #[must_use]
    pub fn if_trusted(&self) -> Self {
        let reach = if self.reach == Reach::Untrusted { Reach::Trusted } else { self.reach };
        Self { reach, ..self.clone() }
    }

    /// The value that wins.
    pub fn get(&self, key: Key) -> Option<&'a Setting> {
        self.outside(key).or_else(|| {
            let project = self.project.get(key).filter(|setting| self.may_say(key, setting));
            let own = self.own.get(key);
            match key.trust() {
                Trust::Stricter => stricter(key, project, own),
                Trust::Project | Trust::Owner(_) | Trust::OwnerUnlessRds(_) | Trust::Never => project.or(own),
            }
        })
    }

    /// The value said for this target: by a flag, a variable or its own table.
    pub fn for_target(&self, key: Key) -> Option<&'a Setting> {
        let project = || self.project.target?.get(key).filter(|setting| self.may_say(key, setting));
        self.outside(key).or_else(project).or_else(|| self.own.target?.get(key))
    }

    /// What the project's file says and may not, since the owner has not trusted it. Nothing where a flag or a variable
    /// says something else anyway.
    pub fn withheld(&self, key: Key) -> Option<&'a Setting> {
        let said = self.project.get(key).filter(|setting| !self.may_say(key, setting))?;
        (self.reach == Reach::Untrusted && self.outside(key).is_none()).then_some(said)
    }

    /// The content that the file with this path must have, where it was read before the owner trusted it.
    pub fn sha256(&self, path: &Path) -> Option<Sha256> {
        self.file.filter(|_| self.reach == Reach::Trusted)?.fingerprint.named.get(path).copied().flatten()
    }

    fn outside(&self, key: Key) -> Option<&'a Setting> {
        self.outside.iter().find_map(|layer| layer.get(key))
    }

    /// Whether the project's file may say this here.
    fn may_say(&self, key: Key, setting: &Setting) -> bool {
        match (key.trust(), self.reach) {
            (Trust::Stricter, _) => true,
            (_, Reach::Guards) | (Trust::Never, _) => false,
            (_, Reach::Trusted) | (Trust::Project, Reach::Untrusted) => true,
            (Trust::Owner(_), Reach::Untrusted) => switches_off(key, setting),
            // The bastion is the way that a project may always choose.
            (Trust::OwnerUnlessRds(_), Reach::Untrusted) => {
                let host = self.project.target.and_then(|table| table.get(Key::Host));
                let reference = host.and_then(|host| value::reference(&host.value).ok());
                setting.value == "ssm" || reference.is_some_and(|reference| reference.is_rds())
            }
        }
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

/// Whether a value only switches off what the owner decides, which takes no trust.
pub fn switches_off(key: Key, setting: &Setting) -> bool {
    key.kind() == Kind::Boolean && setting.value == "false"
}

/// Of two values of a guard the one that guards better. A value that does not parse wins, so that it is complained of.
fn stricter<'a>(key: Key, project: Option<&'a Setting>, own: Option<&'a Setting>) -> Option<&'a Setting> {
    let (Some(project), Some(own)) = (project, own) else { return project.or(own) };
    let time = |setting: &Setting| value::duration(&setting.value, value::STATEMENT_TIMEOUT);
    let projects = match key {
        Key::StatementTimeout => match (time(project), time(own)) {
            (Ok(project), Ok(own)) => project < own,
            (project, _) => project.is_err(),
        },
        // The owner's words are not replaced.
        Key::Label => false,
        _ => own.value != "true",
    };
    Some(if projects { project } else { own })
}
