//! The values of all four sources, before any of them is parsed, and the choice of targets.

use std::{net::IpAddr, path::PathBuf};

use super::{
    consent::Consent,
    env::{Environment, Places},
    error::{Error, nearest},
    file::{File, Files, Project},
    layer::Layer,
    options::Key,
    origin::{Asked, Origin, Whose},
    settings::Settings,
    value,
    warning::Warning,
};

/// The targets, flags and file of a command line.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Names of targets in the files, or identifiers, ARNs or host names of databases that are in none. Empty: every
    /// target in the files.
    pub targets: Vec<String>,
    /// The flags given, by key.
    pub flags: Vec<(Key, String)>,
    /// `--config`: the one file to read.
    pub file: Option<PathBuf>,
}

/// The values of all four sources, before any of them is parsed.
pub(super) struct Sources {
    pub(super) files: Files,
    pub(super) flags: Layer,
    pub(super) variables: Layer,
    pub(super) warnings: Vec<Warning>,
}

/// A target to serve, with its flags.
pub(super) struct Chosen {
    pub(super) name: String,
    flags: Layer,
    pub(super) whose: Whose,
}

impl Sources {
    pub(super) fn read(request: &Request, environment: &Environment) -> Result<Self, Error> {
        let mut warnings = Vec::new();
        let Places { project, own } = environment.places(request.file.as_deref(), &mut warnings);
        let project = project.map(|path| Project::read(path, environment, &mut warnings)).transpose()?.flatten();
        let own = own.map(|path| File::read(path, environment, &mut warnings)).transpose()?;
        let files = Files { project, own };
        let flags = request.flags.iter().map(|(key, value)| (*key, value.clone(), Origin::Flag)).collect();
        let variables = environment.layer(&mut warnings)?;
        Ok(Self { files, flags, variables, warnings })
    }

    pub(super) fn choose(&self, request: &Request, known: &[(String, Whose)]) -> Result<Vec<Chosen>, Error> {
        let mut chosen = Vec::new();
        for (name, reference) in choose(&request.targets, &names(known), &self.files)? {
            let mut flags = self.flags.clone();
            let in_files = known.iter().find(|(known, _)| *known == name).map(|(_, whose)| *whose);
            let whose = match reference {
                Some(reference) => {
                    flags.set(Key::Host, reference, Origin::Argument);
                    flags.split_port()?;
                    Whose::CommandLine
                }
                None => in_files.unwrap_or(Whose::CommandLine),
            };
            chosen.push(Chosen { name, flags, whose });
        }
        Ok(chosen)
    }

    pub(super) fn settings<'a>(&'a self, chosen: &'a Chosen) -> Settings<'a> {
        Settings::of_target(&[&chosen.flags, &self.variables], &self.files, chosen.whose, &chosen.name)
    }

    /// The settings of the process that serves these targets.
    pub(super) fn process(&self, chosen: &[Chosen]) -> Settings<'_> {
        self.of_process(chosen.iter().all(|chosen| chosen.whose == Whose::Project))
    }

    pub(super) fn of_process(&self, with_project: bool) -> Settings<'_> {
        Settings::of_process(&[&self.flags, &self.variables], &self.files, with_project)
    }

    /// The requests of the project's file for these keys that are missing from these settings.
    pub(super) fn consent(
        &self,
        settings: &[Settings<'_>],
        keys: &(impl IntoIterator<Item = Key> + Clone),
        environment: &Environment,
    ) -> Option<Consent> {
        let mut withheld: Vec<Asked> = Vec::new();
        for settings in settings {
            for key in keys.clone() {
                let asked = settings.withheld(key).map(|setting| Asked { key, setting: setting.clone() });
                withheld.extend(asked.filter(|asked| !withheld.contains(asked)));
            }
        }
        let project = self.files.project.as_ref().filter(|_| !withheld.is_empty())?;
        Some(Consent::of(project, withheld, environment))
    }

    /// The targets to serve that both files have.
    pub(super) fn same_names(&self, chosen: &[Chosen], environment: &Environment) -> Vec<Warning> {
        let Files { project: Some(project), own: Some(own) } = &self.files else { return Vec::new() };
        let both = chosen.iter().filter(|one| one.whose == Whose::Own && project.file.target(&one.name).is_some());
        let warning = |one: &Chosen| Warning::SameName {
            name: one.name.clone(),
            project: project.shown.clone(),
            own: environment.shown(&own.path),
        };
        both.map(warning).collect()
    }
}

pub(super) fn names(known: &[(String, Whose)]) -> Vec<String> {
    known.iter().map(|(name, _)| name.clone()).collect()
}

pub(super) fn unknown(name: &str, known: &[String]) -> Error {
    Error::UnknownTarget {
        name: name.to_owned(),
        suggestion: nearest(name, known.iter().map(String::as_str)).map(str::to_owned),
        known: known.to_vec(),
    }
}

/// The names of the targets to serve, each with its database when that came from the command line.
fn choose(wanted: &[String], known: &[String], files: &Files) -> Result<Vec<(String, Option<String>)>, Error> {
    if wanted.is_empty() {
        if known.is_empty() {
            return Err(Error::NoTargets { files: files.iter().map(|file| file.path.clone()).collect() });
        }
        return Ok(known.iter().map(|name| (name.clone(), None)).collect());
    }
    let is_known = |name: &str| known.iter().any(|known| known == name);
    let mut chosen: Vec<(String, Option<String>)> = Vec::new();
    for word in wanted {
        let next = if is_known(word) {
            (word.clone(), None)
        } else if word.contains('.')
            || word.starts_with("arn:")
            || word.starts_with('[')
            || value::is_identifier(host_of(word))
        {
            let taken = |name: &str| is_known(name) || chosen.iter().any(|(taken, _)| taken == name);
            (name_of(word, taken), Some(word.clone()))
        } else {
            return Err(unknown(word, known));
        };
        let twice =
            |(name, host): &(String, Option<String>)| if next.1.is_some() { *host == next.1 } else { *name == next.0 };
        if !chosen.iter().any(twice) {
            chosen.push(next);
        }
    }
    Ok(chosen)
}

/// The host of HOST or HOST:PORT; for a task of ECS the word before its first colon.
fn host_of(word: &str) -> &str {
    match word.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => word.split(':').next().unwrap_or(word),
    }
}

/// The first label of an endpoint or the last part of an ARN, or as much more of it as it takes to be unlike the other
/// names.
fn name_of(reference: &str, taken: impl Fn(&str) -> bool) -> String {
    if reference.starts_with("arn:") {
        let name = reference.rsplit(':').next().unwrap_or(reference);
        return [name].into_iter().find(|name| !taken(name)).unwrap_or(reference).to_owned();
    }
    let endpoint = reference.to_ascii_lowercase();
    let host = host_of(&endpoint);
    // The first part of an address is not a name.
    let label = if host.parse::<IpAddr>().is_ok() { host } else { host.split('.').next().unwrap_or(host) };
    [label, host].into_iter().find(|name| !taken(name)).unwrap_or(&endpoint).to_owned()
}
