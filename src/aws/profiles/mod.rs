//! The AWS files and variables: the profiles, the sources of their credentials, the roles that they assume, and the settings of the
//! profile in use.
//!
//! botocore, the library of the AWS CLI, is the reference: a file either has the same meaning here or is refused with a reason. The
//! SDK has other rules for these files, so it receives values from this module and never reads a file.
//!
//! ```text
//!   files ─▶ ini ─▶ Profiles ─┐
//!                             ├─▶ chain: the source of credentials, and the roles
//!   environment ──────────────┘
//! ```
//!
//! Errors never contain a value from a file: a line that lost its line break contains the secret of the next one.

mod chain;
mod environment;
mod files;
pub(super) mod ini;
pub(super) mod words;

use std::{collections::BTreeMap, fmt, path::Path, sync::Arc};

use zeroize::Zeroizing;

use self::ini::{Entry, Section, Value};
pub(super) use self::{
    chain::{Chain, Role, Source, Sso},
    environment::Environment,
    files::{Paths, Stamp},
};
use super::error::{Error, FileProblem, StrayTitle, file::Unusable};
use crate::target::Region;

/// The profile that is used if none is named.
const DEFAULT: &str = "default";

type Keys = BTreeMap<String, Entry>;

/// A snapshot of files and variables.
#[derive(Debug)]
pub(super) struct Profiles {
    environment: Environment,
    paths: Paths,
    /// The profile that was named explicitly, which wins over keys in the environment.
    explicit: Option<String>,
    config: BTreeMap<String, Keys>,
    credentials: BTreeMap<String, Keys>,
    sso_sessions: BTreeMap<String, Keys>,
    services: BTreeMap<String, Keys>,
    /// Sections of the config file that are not profiles, with their lines.
    strays: Vec<(String, usize)>,
    /// A file that exists and cannot be read.
    unreadable: Option<(Arc<Path>, Unusable)>,
}

/// The place of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A variable.
    Variable(String),
    /// A key of a file.
    Key {
        /// The key's name.
        key: String,
        /// The file.
        path: Arc<Path>,
        /// The line, from 1.
        line: usize,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "`{name}` in the environment"),
            Self::Key { key, path, line } => write!(f, "`{key}` in {}, line {line}", path.display()),
        }
    }
}

impl Place {
    /// The error for an unusable value.
    pub(super) fn refuse(&self, problem: &'static str) -> Error {
        Error::Setting { place: self.to_string(), problem }
    }
}

/// A value with its place.
#[derive(Clone)]
pub(super) struct Setting {
    pub(super) text: Zeroizing<String>,
    pub(super) place: Place,
}

impl Setting {
    /// The value, which must not be empty.
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub(super) fn some(&self) -> Result<&str, Error> {
        if self.text.is_empty() { Err(self.place.refuse("the value is empty")) } else { Ok(&self.text) }
    }
}

impl Profiles {
    /// Reads the files. `explicit` is the profile that was named explicitly; with `None` the environment decides.
    ///
    /// # Errors
    /// [`Error::AwsFile`] for a file that botocore would refuse, [`Error::ProfileNotFound`].
    pub(super) fn read(environment: Environment, explicit: Option<&str>) -> Result<Self, Error> {
        let profiles = Self::read_files(environment, explicit)?;
        if let Some(name) = profiles.named() {
            profiles.must_have(&name)?;
        }
        Ok(profiles)
    }

    fn read_files(environment: Environment, explicit: Option<&str>) -> Result<Self, Error> {
        let paths = Paths::of(&environment);
        let mut profiles = Self {
            environment,
            explicit: explicit.map(str::to_owned),
            config: BTreeMap::new(),
            credentials: BTreeMap::new(),
            sso_sessions: BTreeMap::new(),
            services: BTreeMap::new(),
            strays: Vec::new(),
            unreadable: None,
            paths,
        };
        for section in profiles.sections(&Arc::clone(&profiles.paths.config))? {
            profiles.add_config(section);
        }
        for Section { name, keys, .. } in profiles.sections(&Arc::clone(&profiles.paths.credentials))? {
            profiles.credentials.insert(name, keys);
        }
        Ok(profiles)
    }

    fn sections(&mut self, path: &Arc<Path>) -> Result<Vec<Section>, Error> {
        match files::read(path) {
            Ok(sections) => Ok(sections),
            // botocore ignores a file without read permission. So does rdsgate, with a warning.
            Err(Unusable::Io(cause)) => {
                tracing::warn!(path = %path.display(), %cause, "cannot read this AWS file; going on without it");
                self.unreadable = Some((Arc::clone(path), Unusable::Io(cause)));
                Ok(Vec::new())
            }
            Err(problem) => Err(unusable(path, problem)),
        }
    }

    /// The error about a file that cannot be read, if there is one: it may hold what is missing.
    pub(super) fn unreadable(&self) -> Option<Error> {
        self.unreadable.as_ref().map(|(path, problem)| unusable(path, problem.clone()))
    }

    /// botocore's `build_profile_map`: a title counts if it begins with `profile` and has one more word.
    fn add_config(&mut self, Section { name, line, keys }: Section) {
        let kind = match name.as_str() {
            DEFAULT => {
                self.config.insert(name, keys);
                return;
            }
            name if name.starts_with("profile") => &mut self.config,
            name if name.starts_with("sso-session") => &mut self.sso_sessions,
            name if name.starts_with("services") => &mut self.services,
            _ => {
                self.strays.push((name, line));
                return;
            }
        };
        match words::split(&name).as_deref() {
            Some([_, name]) => drop(kind.insert(name.clone(), keys)),
            _ => self.strays.push((name, line)),
        }
    }

    pub(super) fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The names of all profiles, sorted. Empty where a file is one that botocore would refuse.
    pub(super) fn names(environment: Environment) -> Vec<String> {
        Self::read_files(environment, None).map(|profiles| profiles.known()).unwrap_or_default()
    }

    fn known(&self) -> Vec<String> {
        // A name with one of these is the rest of a malformed line.
        let plain = |name: &&String| !name.contains([']', '=', ':']);
        let known = self.config.keys().chain(self.credentials.keys()).filter(plain);
        known.cloned().collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }

    /// The profile named by the caller, or by the environment. botocore reads `AWS_DEFAULT_PROFILE` first.
    fn named(&self) -> Option<String> {
        let of_environment =
            || ["AWS_DEFAULT_PROFILE", "AWS_PROFILE"].iter().find_map(|name| self.environment.get(name));
        self.explicit.clone().or_else(of_environment)
    }

    /// The profile whose settings apply. It need not exist if it is only the default.
    pub(super) fn in_use(&self) -> String {
        self.named().unwrap_or_else(|| DEFAULT.into())
    }

    /// [`Profiles::in_use`], if it exists.
    pub(super) fn existing(&self) -> Option<String> {
        Some(self.in_use()).filter(|name| self.exists(name))
    }

    fn exists(&self, profile: &str) -> bool {
        self.config.contains_key(profile) || self.credentials.contains_key(profile)
    }

    /// # Errors
    /// [`Error::ProfileNotFound`], with the existing names and a title that may be a misspelling.
    fn must_have(&self, profile: &str) -> Result<(), Error> {
        if self.exists(profile) {
            return Ok(());
        }
        if let Some(unreadable) = self.unreadable() {
            return Err(unreadable);
        }
        let known = self.known();
        let meant = |title: &str| {
            let title = title.trim();
            let word = title.get(.."profile".len()).is_some_and(|word| word.eq_ignore_ascii_case("profile"));
            let name = if word { title.get("profile".len()..).unwrap_or_default().trim_start() } else { title };
            name.trim_matches(['"', '\'']).trim() == profile
        };
        let stray = self.strays.iter().find(|(title, _)| meant(title)).map(|&(_, line)| StrayTitle {
            path: self.paths.config.to_path_buf(),
            line,
            expected: if profile.contains(char::is_whitespace) {
                format!("[profile \"{profile}\"]")
            } else {
                format!("[profile {profile}]")
            },
        });
        // Titles in the credentials file lack the word `profile`.
        let with_word = self
            .credentials
            .keys()
            .any(|title| title.strip_prefix("profile").is_some_and(|name| name.trim() == profile));
        let stray = stray.or_else(|| {
            with_word.then(|| StrayTitle {
                path: self.paths.credentials.to_path_buf(),
                line: self.line_in_credentials(profile),
                expected: format!("[{profile}]"),
            })
        });
        Err(Error::ProfileNotFound { profile: profile.into(), known, stray })
    }

    /// The line of the first key below `[profile NAME]` in the credentials file.
    fn line_in_credentials(&self, profile: &str) -> usize {
        let section = self.credentials.iter().find(|(title, _)| title.ends_with(profile)).map(|(_, keys)| keys);
        section.and_then(|keys| keys.values().map(|entry| entry.line).min()).unwrap_or(1).saturating_sub(1).max(1)
    }

    /// A key of a profile. The credentials file wins over the config file. An indented block is not text.
    fn entry(&self, profile: &str, key: &str) -> Option<(&Entry, &Arc<Path>)> {
        let of = |file: &'_ BTreeMap<String, Keys>| file.get(profile).and_then(|keys| keys.get(key)).is_some();
        if of(&self.credentials) {
            Some((self.credentials.get(profile)?.get(key)?, &self.paths.credentials))
        } else {
            Some((self.config.get(profile)?.get(key)?, &self.paths.config))
        }
    }

    fn has(&self, profile: &str, key: &str) -> bool {
        self.entry(profile, key).is_some()
    }

    /// A key's text, which may be empty.
    ///
    /// # Errors
    /// [`Error::Setting`] if it has an indented block instead of a value.
    fn get(&self, profile: &str, key: &str) -> Result<Option<Setting>, Error> {
        self.entry(profile, key).map(|(entry, path)| setting(key, entry, path)).transpose()
    }

    /// A setting: the variable, or the key of the profile in use.
    ///
    /// # Errors
    /// [`Error::Setting`].
    fn variable_or_key(&self, variable: &str, key: &str) -> Result<Option<Setting>, Error> {
        match self.environment.get(variable) {
            Some(text) => {
                let place = Place::Variable(variable.into());
                Ok(Some(Setting { text: Zeroizing::new(text), place }))
            }
            None => self.get(&self.in_use(), key),
        }
    }

    /// The region of the profile in use.
    ///
    /// # Errors
    /// [`Error::Setting`] if it is not a region.
    pub(super) fn region(&self) -> Result<Option<Region>, Error> {
        let Some(setting) = self.get(&self.in_use(), "region")? else { return Ok(None) };
        let region =
            setting.text.parse().map_err(|_| setting.place.refuse("not an AWS region such as eu-central-1"))?;
        Ok(Some(region))
    }

    /// A switch, which is on for `true` in any case, as in botocore.
    ///
    /// # Errors
    /// [`Error::Setting`] for any word but `true` and `false`. botocore takes such a word for `false`.
    pub(super) fn switch(&self, variable: &str, key: &str) -> Result<bool, Error> {
        let Some(setting) = self.variable_or_key(variable, key)? else { return Ok(false) };
        match setting.text.to_lowercase().as_str() {
            "true" => Ok(true),
            "false" | "" => Ok(false),
            _ => Err(setting.place.refuse("neither true nor false")),
        }
    }

    /// A text; `None` if it is empty.
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub(super) fn text(&self, variable: &str, key: &str) -> Result<Option<Setting>, Error> {
        Ok(self.variable_or_key(variable, key)?.filter(|setting| !setting.text.is_empty()))
    }

    /// The URL that the variables or the profile in use set for a service: `id` is its name in them, in lower case with
    /// underscores. The order is botocore's: the service's variable, the common one, the services section, the profile.
    ///
    /// # Errors
    /// [`Error::Setting`] if the profile names a services section that does not exist.
    pub(super) fn endpoint_url(&self, id: &str) -> Result<Option<Setting>, Error> {
        if self.switch("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "ignore_configured_endpoint_urls")? {
            return Ok(None);
        }
        for variable in [format!("AWS_ENDPOINT_URL_{}", id.to_uppercase()), "AWS_ENDPOINT_URL".into()] {
            if let Some(text) = self.environment.set(&variable) {
                return Ok(Some(Setting { text: Zeroizing::new(text), place: Place::Variable(variable) }));
            }
        }
        let profile = self.in_use();
        if let Some(name) = self.get(&profile, "services")? {
            let section = self.services.get(name.text.as_str()).filter(|section| !section.is_empty());
            let section = section.ok_or_else(|| name.place.refuse("there is no such services section"))?;
            if let Some(Entry { value: Value::Nested(block), line }) = section.get(id)
                && let Some(url) = block.get("endpoint_url").filter(|url| !url.is_empty())
            {
                let place =
                    Place::Key { key: format!("{id}.endpoint_url"), path: Arc::clone(&self.paths.config), line: *line };
                return Ok(Some(Setting { text: url.clone(), place }));
            }
        }
        Ok(self.get(&profile, "endpoint_url")?.filter(|url| !url.text.is_empty()))
    }
}

fn unusable(path: &Path, problem: Unusable) -> Error {
    Error::AwsFile { path: path.to_owned(), problem: FileProblem(problem) }
}

fn setting(key: &str, entry: &Entry, path: &Arc<Path>) -> Result<Setting, Error> {
    let place = Place::Key { key: key.into(), path: Arc::clone(path), line: entry.line };
    match &entry.value {
        Value::Text(text) => Ok(Setting { text: text.clone(), place }),
        Value::Nested(_) => Err(place.refuse("an indented block, expected a value on the same line")),
    }
}

#[cfg(test)]
mod tests;
