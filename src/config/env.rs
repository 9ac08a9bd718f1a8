//! The process environment as a layer, and the places where files are looked for.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use etcetera::BaseStrategy as _;

use super::{
    error::{Error, nearest},
    layer::Layer,
    options::Key,
    origin::Origin,
    search::{self, Found},
    warning::Warning,
};
use crate::{platform::files, tls::local::Authority};

/// The file in the user's configuration folder.
const USER_FILE: &str = "rdsgate/config.toml";
/// Names the one file to read.
const CONFIG: &str = "RDSGATE_CONFIG";
/// The variable with the user's home folder.
const HOME: &str = if cfg!(windows) { "USERPROFILE" } else { "HOME" };
/// The variables with the user's name; the first that is set counts.
const USER: &[&str] = if cfg!(windows) { &["USERNAME"] } else { &["USER", "LOGNAME"] };
/// Variables with our prefix that other parts read.
const ELSEWHERE: [&str; 4] = [CONFIG, "RDSGATE_DNS", "RDSGATE_LOG", "RDSGATE_LOG_FORMAT"];

/// The places of the configuration files.
pub(super) struct Places {
    /// The project's file, a path without symbolic links.
    pub(super) project: Option<PathBuf>,
    /// The user's own file, or the named one.
    pub(super) own: Option<PathBuf>,
}

/// The environment of the process. A value, so that tests need not change their own process.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
    directory: PathBuf,
    config_home: Option<PathBuf>,
    state_home: Option<PathBuf>,
}

impl Environment {
    /// The environment of this process: its variables, working directory, `$XDG_CONFIG_HOME` (`~/.config`) and
    /// `$XDG_STATE_HOME` (`~/.local/state`); on Windows `%APPDATA%` and, for state, `%LOCALAPPDATA%`.
    ///
    /// # Errors
    /// [`Error::WorkingDirectory`] when it was deleted or may not be read.
    pub fn of_process() -> Result<Self, Error> {
        let directory = std::env::current_dir().map_err(|source| Error::WorkingDirectory { source })?;
        let strategy = etcetera::choose_base_strategy().ok();
        let config_home = strategy.as_ref().map(etcetera::BaseStrategy::config_dir);
        // Windows has no folder for state.
        let state_home = strategy
            .as_ref()
            .and_then(|strategy| if cfg!(windows) { Some(strategy.cache_dir()) } else { strategy.state_dir() });
        Ok(Self::new(std::env::vars_os(), directory, config_home).remembering(state_home))
    }

    /// Sets the folder for state, such as trusted files and local ports.
    #[must_use]
    pub fn remembering(self, state_home: Option<PathBuf>) -> Self {
        Self { state_home, ..self }
    }

    /// The folder of the user's own configuration.
    pub fn own_folder(&self) -> Option<PathBuf> {
        self.config_home.as_ref()?.join(USER_FILE).parent().map(Path::to_owned)
    }

    /// The folder for state, such as trust and ports.
    pub(super) fn state_home(&self) -> Option<&Path> {
        self.state_home.as_deref()
    }

    /// The folder of the local certificate authority; `None` without a folder for state.
    pub fn authority_folder(&self) -> Option<PathBuf> {
        self.state_home().map(Authority::folder)
    }

    /// An environment from its parts.
    pub fn new<K: Into<OsString>, V: Into<OsString>>(
        variables: impl IntoIterator<Item = (K, V)>,
        directory: PathBuf,
        config_home: Option<PathBuf>,
    ) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { variables, directory, config_home, state_home: None }
    }

    /// The folder for sockets and other files of running processes.
    pub(super) fn runtime(&self) -> PathBuf {
        files::runtime_folder(self.variables.get(OsStr::new("XDG_RUNTIME_DIR")).map(Path::new))
    }

    /// A variable's value; one that is empty counts as not set, as in `RDSGATE_PORT= rdsgate up`.
    ///
    /// # Errors
    /// [`Error::NotUnicode`].
    pub fn variable(&self, name: &str) -> Result<Option<&str>, Error> {
        match self.variables.get(OsStr::new(name)) {
            None => Ok(None),
            Some(value) if value.is_empty() => Ok(None),
            Some(value) => value.to_str().map(Some).ok_or_else(|| Error::NotUnicode { variable: name.into() }),
        }
    }

    fn home(&self) -> Option<&Path> {
        self.variables.get(OsStr::new(HOME)).filter(|home| !home.is_empty()).map(Path::new)
    }

    /// A path with the user's home in the place of a leading `~/`. Shells do that for words of a command line only: not behind
    /// `=`, in variables or in files.
    pub(super) fn expand_home(&self, path: &Path) -> PathBuf {
        match (path.strip_prefix("~"), self.home()) {
            (Ok(rest), Some(home)) if !rest.as_os_str().is_empty() => home.join(rest),
            _ => path.to_owned(),
        }
    }

    /// The local user's name.
    ///
    /// # Errors
    /// [`Error::NotUnicode`].
    pub(super) fn user(&self) -> Result<Option<&str>, Error> {
        for name in USER {
            if let Some(user) = self.variable(name)? {
                return Ok(Some(user));
            }
        }
        Ok(None)
    }

    /// The values of `RDSGATE_*`. An unknown variable with our prefix is a warning.
    ///
    /// # Errors
    /// [`Error::NotUnicode`].
    pub(super) fn layer(&self, warnings: &mut Vec<Warning>) -> Result<Layer, Error> {
        let mut layer = Layer::default();
        let keys = Key::flags();
        for (key, name) in keys.clone().map(|key| (key, key.variable())) {
            if let Some(value) = self.variable(&name)? {
                layer.set(key, value.to_owned(), Origin::Variable(name));
            }
        }
        let known: Vec<String> = keys.map(Key::variable).chain(ELSEWHERE.map(String::from)).collect();
        for name in self.variables.keys().filter_map(|name| name.to_str()) {
            if name.starts_with("RDSGATE_") && !known.iter().any(|known| known == name) {
                let suggestion = nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
                warnings.push(Warning::UnknownVariable { name: name.into(), suggestion });
            }
        }
        Ok(layer)
    }

    /// The places of the files to read: the named one, or those of the project and the user if they exist. A
    /// project's file that is not safe to read becomes a warning.
    pub(super) fn places(&self, named: Option<&Path>, warnings: &mut Vec<Warning>) -> Places {
        if let Some(path) =
            named.or(self.variables.get(OsStr::new(CONFIG)).filter(|path| !path.is_empty()).map(Path::new))
        {
            return Places { project: None, own: Some(self.directory.join(self.expand_home(path))) };
        }
        let is_there = |path: &PathBuf| std::fs::metadata(path).is_ok_and(|meta| !meta.is_dir());
        let own = self.config_home.as_ref().map(|home| home.join(USER_FILE)).filter(is_there);
        Places { project: self.project_file(warnings), own }
    }

    /// The project's file, a real path. One that is not safe to read becomes a warning.
    pub(super) fn project_file(&self, warnings: &mut Vec<Warning>) -> Option<PathBuf> {
        match search::project_file(&self.directory, self.home(), files::own_user()) {
            Found::Nothing => None,
            Found::File(path) => Some(path),
            Found::Unsafe { path, reason } => {
                warnings.push(Warning::UnsafeFile { path: self.shown(&path), reason });
                None
            }
        }
    }

    /// Where the user's own file is, or would be; `None` without a home.
    pub fn own_file(&self) -> Option<PathBuf> {
        self.config_home.as_ref().map(|home| home.join(USER_FILE))
    }

    /// A path as the user wrote it, from the root.
    pub(super) fn absolute(&self, path: &Path) -> PathBuf {
        self.directory.join(path)
    }

    /// The path as the user would write it: relative where it lies below the working directory.
    pub(super) fn shown(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.directory).unwrap_or(path).to_owned()
    }
}
