//! The requested targets, and the rules between them.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::{
    checked::Config,
    consent::Consent,
    draft::{self, Draft},
    error::Error,
    file::Files,
    options::{Key, Typed as _, typed},
    origin::Whose,
    ports,
    settings::Settings,
    sockets,
    sources::{Chosen, Sources, names, unknown},
    value::{self, Listen},
    warning::Warning,
};
use crate::target::{Address, Engine, ListenAddress, Reference, Target};

/// A [`Config`] and what is worth saying about how it came to be.
#[derive(Debug)]
pub struct Loaded {
    /// The result.
    pub config: Config,
    /// The files that were read, the project's first.
    pub files: Vec<PathBuf>,
    /// Warnings about the configuration.
    pub warnings: Vec<Warning>,
}

/// The requested targets, read and parsed. Values may still be missing.
pub struct Plan {
    /// The databases, in the order of what was asked for.
    pub drafts: Vec<Draft>,
    /// Warnings about the configuration.
    pub warnings: Vec<Warning>,
    /// The requests of a project's file that are left out of this, because the user has not trusted the file.
    pub consent: Option<Consent>,
    /// The settings of the process, without targets.
    pub(super) config: Config,
    /// The targets in the files.
    pub(super) known: Vec<(String, Whose)>,
    /// The sources of each of `drafts`.
    pub(super) chosen: Vec<Chosen>,
    pub(super) sources: Sources,
    pub(super) state_home: Option<PathBuf>,
    /// The folder for sockets.
    pub(super) runtime: PathBuf,
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan").field("drafts", &self.drafts).finish_non_exhaustive()
    }
}

impl Plan {
    /// The targets, complete.
    ///
    /// # Errors
    /// A value is missing, or values contradict each other.
    pub fn finish(mut self) -> Result<Loaded, Error> {
        let mut targets = Vec::with_capacity(self.drafts.len());
        for draft in std::mem::take(&mut self.drafts) {
            if let Reference::Identifier(name) = &draft.reference {
                return Err(self.unknown(name));
            }
            targets.push(draft.finish()?);
        }
        self.join(&mut targets.iter_mut().map(Some).collect::<Vec<_>>())?;
        let files = self.files().map(Path::to_owned).collect();
        Ok(Loaded { config: Config { targets, ..self.config }, files, warnings: self.warnings })
    }

    /// The rules that need nothing to be looked up, for a complaint before anything is.
    ///
    /// # Errors
    /// The listeners of a target must not be served as they are configured.
    pub fn check_listeners(&self) -> Result<(), Error> {
        self.drafts.iter().try_for_each(|draft| draft.listeners().map(drop))
    }

    /// The targets as far as they are known without looking anything up: `None` for one that takes that.
    ///
    /// # Errors
    /// Values contradict each other.
    pub fn preview(&self) -> Result<Vec<Option<Target>>, Error> {
        let mut targets = Vec::with_capacity(self.drafts.len());
        for draft in &self.drafts {
            targets.push(match draft.clone().finish() {
                Ok(target) => Some(target),
                Err(error) if error.is_gap() => None,
                Err(error) => return Err(error),
            });
        }
        self.join(&mut targets.iter_mut().map(Option::as_mut).collect::<Vec<_>>())?;
        Ok(targets)
    }

    /// The settings of the process. It has no targets: those are in the plan.
    pub fn process(&self) -> &Config {
        &self.config
    }

    /// The files that were read, the project's first.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.sources.files.iter().map(|file| file.path.as_path())
    }

    /// The file that describes a target, absolute; `None` for one that is in no file.
    pub fn file_of(&self, name: &str) -> Option<PathBuf> {
        let Files { project, own } = &self.sources.files;
        let file = match self.chosen.iter().find(|chosen| chosen.name == name)?.whose {
            Whose::Project => project.as_ref().map(|project| &project.file),
            Whose::Own => own.as_ref(),
            Whose::CommandLine => None,
        }?;
        Some(file.path.canonicalize().unwrap_or_else(|_| file.path.clone()))
    }

    /// Puts a draft in the place of the one with its name.
    pub fn replace(&mut self, completed: Draft) {
        if let Some(draft) = self.drafts.iter_mut().find(|draft| draft.name == completed.name) {
            *draft = completed;
        }
    }

    /// Leaves out those of the drafts that are not to be kept.
    pub fn retain(&mut self, keep: impl Fn(&Draft) -> bool) {
        let Self { drafts, chosen, .. } = self;
        let mut kept = drafts.iter().map(&keep).collect::<Vec<_>>().into_iter();
        chosen.retain(|_| kept.next().unwrap_or_default());
        drafts.retain(keep);
    }

    /// The error for a word that names neither a target nor, as others found out, a database.
    pub fn unknown(&self, name: &str) -> Error {
        unknown(name, &names(&self.known))
    }

    /// The rules between targets: each has a local port of its own.
    fn join(&self, targets: &mut [Option<&mut Target>]) -> Result<(), Error> {
        self.choose_ports(targets);
        self.choose_sockets(targets);
        let Sources { flags, variables, .. } = &self.sources;
        let everywhere = flags.get(Key::Listen).or(variables.get(Key::Listen)).is_some();
        refuse_shared_addresses(&targets.iter().flatten().map(|target| &**target).collect::<Vec<_>>(), everywhere)
    }

    /// Gives each target without `listen` the port of its engine, or one of its own when another target has that.
    fn choose_ports(&self, targets: &mut [Option<&mut Target>]) {
        // A port on another address than localhost's does not conflict.
        let claim = |listen: &ListenAddress| {
            value::both_loopbacks().into_iter().any(|address| listen.is_at(address)).then_some(listen.port)
        };
        let configured_ports = |settings: &Settings<'_>| {
            configured_listen(settings).iter().filter_map(Listen::tcp).filter_map(claim).collect::<Vec<_>>()
        };
        let in_files = self.in_files();
        let mut taken: Vec<u16> = in_files.iter().flat_map(|(_, settings)| configured_ports(settings)).collect();
        let without_listen = || in_files.iter().filter(|(_, settings)| settings.get(Key::Listen).is_none());
        let first_of = |engine: Engine| {
            let mut of_engine =
                without_listen().filter(|(_, own)| configured_engine(own).unwrap_or(Engine::DEFAULT) == engine);
            of_engine.next().map(|(name, _)| name.as_str())
        };
        // One whose engine had to be looked up counts as PostgreSQL for the others, who cannot know it.
        let first_unknown =
            || without_listen().find(|(_, own)| configured_engine(own).is_none()).map(|(name, _)| name.as_str());
        let is_first =
            |name: &str, engine: Engine| first_of(engine).or_else(first_unknown).is_some_and(|first| first == name);
        for (chosen, target) in self.chosen.iter().zip(targets) {
            let Some(target) = target else { continue };
            if self.sources.settings(chosen).get(Key::Listen).is_some() {
                taken.extend(target.listen.iter().filter_map(Address::tcp).filter_map(claim));
                continue;
            }
            let (usual, is_free) = match target.engine.default_port() {
                Some(usual) => (usual, chosen.whose == Whose::CommandLine || is_first(&chosen.name, target.engine)),
                None => (target.endpoint.port, ports::may_be_shared(target.endpoint.port, chosen.whose)),
            };
            let port = if !is_free || taken.contains(&usual) {
                ports::own(target, self.state_home.as_deref(), &taken)
            } else {
                usual
            };
            target.listen = vec![Address::Tcp(ListenAddress::localhost(port))];
            taken.push(port);
        }
    }

    /// Gives the usual socket of an engine to the first target that asks for it, and to each other one a socket of its own.
    fn choose_sockets(&self, targets: &mut [Option<&mut Target>]) {
        let in_files = self.in_files();
        let asks = |settings: &Settings<'_>, engine| {
            let configured = configured_engine(settings).unwrap_or(Engine::DEFAULT);
            configured == engine && configured_listen(settings).contains(&Listen::UsualSocket)
        };
        let mut taken: Vec<PathBuf> = Vec::new();
        for (chosen, target) in self.chosen.iter().zip(targets) {
            let Some(target) = target else { continue };
            let engine = target.engine;
            let first = in_files.iter().find(|(_, settings)| asks(settings, engine)).map(|(name, _)| name);
            let is_first = chosen.whose == Whose::CommandLine || first.is_none_or(|first| *first == chosen.name);
            let usual = sockets::usual(engine, &self.runtime);
            for address in &mut target.listen {
                match address {
                    Address::Unix(path) if *path == usual && (!is_first || taken.contains(path)) => {
                        *path = sockets::own(engine, &self.runtime, &target.name);
                    }
                    Address::Unix(path) => taken.push(path.clone()),
                    Address::Tcp(_) => {}
                }
            }
        }
    }

    /// The targets of the files, with their settings.
    fn in_files(&self) -> Vec<(String, Settings<'_>)> {
        let Sources { flags, variables, files, .. } = &self.sources;
        let of_file = |(name, whose): &(String, Whose)| {
            (name.clone(), Settings::of_target(&[flags, variables], files, *whose, name))
        };
        self.known.iter().map(of_file).collect()
    }
}

fn configured_engine(settings: &Settings<'_>) -> Option<Engine> {
    draft::configured_engine(settings).ok().flatten()
}

fn configured_listen(settings: &Settings<'_>) -> Vec<Listen> {
    let listen = settings.get(Key::Listen).and_then(|listen| typed::Listen::parse(&listen.value).ok());
    listen.unwrap_or_default()
}

fn refuse_shared_addresses(targets: &[&Target], everywhere: bool) -> Result<(), Error> {
    for (index, second) in targets.iter().enumerate() {
        for first in targets.iter().take(index) {
            let mut both = first.listen.iter().flat_map(|one| second.listen.iter().map(move |other| (one, other)));
            if let Some(path) = both.clone().find_map(|(one, other)| one.unix().filter(|_| one == other)) {
                return Err(Error::SharedSocket {
                    first: first.name.to_string(),
                    second: second.name.to_string(),
                    path: path.to_owned(),
                });
            }
            if let Some(port) = both.find_map(|(one, other)| shared_port(one.tcp()?, other.tcp()?)) {
                return Err(Error::SharedAddress {
                    first: first.name.to_string(),
                    second: second.name.to_string(),
                    port,
                    everywhere,
                });
            }
        }
    }
    Ok(())
}

/// The port that both bind on one address.
fn shared_port(first: &ListenAddress, second: &ListenAddress) -> Option<u16> {
    let reach = |one: &ListenAddress, other: &ListenAddress| other.addresses.iter().any(|address| one.is_at(*address));
    let overlap = reach(first, second) || reach(second, first);
    (overlap && first.port == second.port && first.port != 0).then_some(first.port)
}
