//! What the user asked for, from four places, as one checked [`Config`].
//!
//! ```text
//!   flags ─▶ RDSGATE_* ─▶ .rdsgate.toml ─▶ config.toml ─▶ defaults        the first that has a key wins, and may say it
//!     └─────────┴──────────────┴───────────────┴── layers (text with its origin) ─▶ drafts (parsed) ─▶ Config
//!                                                                  what is missing ──┘  filled in by others, or an error
//! ```
//!
//! - `key`: the keys; `layers`: where a value came from, and which value wins;
//! - `file`: TOML to layers, with line and column kept for the errors;
//! - `trust`: who may set a key; `search`: where a project's file may lie; `record`: which ones the user trusts; `consent`:
//!   what such a file asks for;
//! - `env`: the environment to a layer, and the folders that files are looked for in;
//! - `value`: one text to one value; `draft`: the values of one database, and those to a [`Target`];
//! - `ports`: the local port of a target that has none of its own, the same every time;
//! - `explain`: every value with where it came from;
//! - `error`: what can be wrong, where it is and what to do.
//!
//! Files and environment are read here and nowhere else. Nothing here opens a socket, asks AWS or knows what the
//! values are used for; after [`load`] nothing is checked again.

mod consent;
pub mod draft;
pub mod env;
pub mod error;
pub mod explain;
pub mod file;
pub mod key;
pub mod layers;
pub mod ports;
mod record;
mod search;
pub mod trust;
pub mod value;

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

pub use consent::{Consent, project, revoke, trusted};
pub use draft::Draft;
pub use env::Environment;
pub use error::{Error, Warning};
pub use explain::explain;
pub use file::Asked;
pub use key::{Key, Kind, Scope};
pub use record::Standing;
pub use search::Reason;

use crate::{
    listen,
    target::{Engine, Identity, ListenAddress, MfaCode, Reference, Region, Target},
};
use file::{File, Files, Project};
use layers::{Layer, Origin, Settings, Whose};

/// Everything that a running proxy needs to know.
///
/// # Defaults
/// `connect_timeout` 30 s, `resume_for` 2 min, `max_sigterm_delay` 30 s, no `admin`, `open_browser` false.
#[derive(Debug, Clone)]
pub struct Config {
    /// The databases to serve, at least one; names are unique and no two listen on the same address.
    pub targets: Vec<Target>,
    /// The longest time from accepting a client to its login at the database. Long enough for a new SSM session, short
    /// enough that a client's own timeout does not hide our explanation.
    pub connect_timeout: Duration,
    /// How long a broken SSM session is resumed before its connections are given up.
    pub resume_for: Duration,
    /// How long busy connections may go on after SIGTERM or the first Ctrl-C.
    pub max_sigterm_delay: Duration,
    /// Where health, metrics and status can be asked for; `None`: nowhere.
    pub admin: Option<listen::Address>,
    /// A code for the first MFA device that wants one.
    pub mfa_code: Option<MfaCode>,
    /// Whether the page of an SSO login is opened in a browser, besides its address being printed.
    pub open_browser: bool,
}

/// What the command line asks for.
#[derive(Debug, Default)]
pub struct Request {
    /// Names of targets in the files, or identifiers, ARNs or host names of databases that are in none. Empty: every
    /// target in the files.
    pub targets: Vec<String>,
    /// The flags given, by key.
    pub flags: Vec<(Key, String)>,
    /// `--config`: the one file to read.
    pub file: Option<PathBuf>,
}

/// A [`Config`] and what is worth saying about how it came to be.
#[derive(Debug)]
pub struct Loaded {
    /// The result.
    pub config: Config,
    /// The files that were read, the project's first.
    pub files: Vec<PathBuf>,
    /// What is odd but no error.
    pub warnings: Vec<Warning>,
}

/// What was asked for, read and parsed; some of it may be missing yet.
pub struct Plan {
    /// The databases, in the order of what was asked for.
    pub drafts: Vec<Draft>,
    /// What is odd but no error.
    pub warnings: Vec<Warning>,
    /// What a project's file asks for that is missing from this, since the user has not trusted the file.
    pub consent: Option<Consent>,
    /// All but the targets.
    config: Config,
    /// The targets in the files.
    known: Vec<(String, Whose)>,
    /// What each of `drafts` was made of.
    chosen: Vec<Chosen>,
    sources: Sources,
    state_home: Option<PathBuf>,
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan").field("drafts", &self.drafts).finish_non_exhaustive()
    }
}

/// Reads the files and the environment, and joins them with the request; nothing may be missing.
///
/// # Errors
/// [`Error`] says what is wrong, with file, line and column where there is one; [`Error::NotTrusted`] that a project's file
/// takes the user's consent.
pub fn load(request: &Request, environment: &Environment) -> Result<Loaded, Error> {
    let plan = read(request, environment, &mut Vec::new())?;
    match &plan.consent {
        Some(consent) => Err(consent.refused()),
        None => plan.finish(),
    }
}

/// Reads the files and the environment, and joins them with the request.
///
/// # Errors
/// As for [`load`], but for what is missing. `warnings` are then those that were found before: they may explain the error.
pub fn read(request: &Request, environment: &Environment, warnings: &mut Vec<Warning>) -> Result<Plan, Error> {
    let mut sources = Sources::read(request, environment)?;
    warnings.append(&mut sources.warnings);
    let known = sources.files.targets();
    let chosen = sources.choose(request, &known)?;
    warnings.extend(sources.same_names(&chosen, environment));
    let mut drafts = Vec::new();
    for one in &chosen {
        let settings = sources.settings(one);
        // What does not count yet must be sound all the same.
        Draft::parse(&one.name, &settings.if_trusted(), environment)?;
        drafts.push(Draft::parse(&one.name, &settings, environment)?);
    }
    warnings.extend(drafts.iter().filter_map(Draft::warning));
    let settings = sources.process(&chosen);
    of_process(&settings.if_trusted(), environment)?;
    let config = of_process(&settings, environment)?;
    let of_targets = chosen.iter().map(|chosen| sources.settings(chosen));
    let of_all: Vec<Settings<'_>> = of_targets.chain([settings]).collect();
    let consent = sources.consent(&of_all, &Key::ALL, environment);
    let state_home = environment.state_home().map(Path::to_owned);
    Ok(Plan { drafts, warnings: std::mem::take(warnings), consent, config, known, chosen, sources, state_home })
}

/// All but the targets.
fn of_process(settings: &Settings<'_>, environment: &Environment) -> Result<Config, Error> {
    let time = |key, range, default| {
        Ok::<_, Error>(settings.parse(key, |text| value::duration(text, range))?.unwrap_or(default))
    };
    Ok(Config {
        targets: Vec::new(),
        connect_timeout: time(Key::ConnectTimeout, value::CONNECT_TIMEOUT, Duration::from_secs(30))?,
        resume_for: time(Key::ResumeFor, value::RESUME_FOR, Duration::from_mins(2))?,
        max_sigterm_delay: time(Key::MaxSigtermDelay, value::MAX_SIGTERM_DELAY, Duration::from_secs(30))?,
        admin: settings.parse(Key::Admin, value::admin)?.map(|address| match address {
            listen::Address::Unix(path) => listen::Address::Unix(environment.expand_home(&path)),
            tcp @ listen::Address::Tcp(_) => tcp,
        }),
        mfa_code: settings.parse(Key::MfaCode, |text| Ok(text.parse()?))?,
        open_browser: settings.parse(Key::OpenBrowser, value::boolean)?.unwrap_or(false),
    })
}

/// Who calls AWS and where, for a command that is about no particular database.
#[derive(Debug)]
pub struct Place {
    /// Who.
    pub identity: Identity,
    /// The region, if one is set.
    pub region: Option<Region>,
    /// See [`Config::mfa_code`].
    pub mfa_code: Option<MfaCode>,
    /// See [`Config::open_browser`].
    pub open_browser: bool,
    /// What is odd but no error.
    pub warnings: Vec<Warning>,
    /// See [`Plan::consent`].
    pub consent: Option<Consent>,
}

/// Reads the files and the environment for what is set for all targets.
///
/// # Errors
/// As for [`load`].
pub fn place(request: &Request, environment: &Environment) -> Result<Place, Error> {
    const KEYS: [Key; 7] = [
        Key::Profile,
        Key::RoleArn,
        Key::ExternalId,
        Key::SessionName,
        Key::MfaSerial,
        Key::MfaCommand,
        Key::OpenBrowser,
    ];
    let sources = Sources::read(request, environment)?;
    let settings = sources.of_process(true);
    Ok(Place {
        consent: sources.consent(std::slice::from_ref(&settings), &KEYS, environment),
        identity: draft::identity(&settings, environment)?,
        region: draft::default_region(&settings, environment)?,
        mfa_code: settings.parse(Key::MfaCode, |text| Ok(text.parse()?))?,
        open_browser: settings.parse(Key::OpenBrowser, value::boolean)?.unwrap_or(false),
        warnings: sources.warnings,
    })
}

impl Plan {
    /// The targets, complete.
    ///
    /// # Errors
    /// What is missing all the same, or contradicts.
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

    /// The targets as far as they are known without looking anything up: `None` for one that takes that.
    ///
    /// # Errors
    /// What contradicts.
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

    /// What is about the process; its targets are the plan's.
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
        let Sources { flags, variables, .. } = &self.sources;
        let everywhere = flags.get(Key::Listen).or(variables.get(Key::Listen)).is_some();
        refuse_shared_addresses(&targets.iter().flatten().map(|target| &**target).collect::<Vec<_>>(), everywhere)
    }

    /// Gives each target that was not told its local port the engine's, or one of its own when another target has that.
    fn choose_ports(&self, targets: &mut [Option<&mut Target>]) {
        // A port on an address that is not localhost's is in nobody's way.
        let claim = |listen: &ListenAddress| {
            let localhost = value::both_loopbacks();
            listen.addresses.iter().any(|address| localhost.contains(address)).then_some(listen.port)
        };
        let said = |settings: &Settings<'_>| claim(&value::listen(&settings.get(Key::Listen)?.value).ok()?);
        let Sources { flags, variables, files, .. } = &self.sources;
        let of_file = |(name, whose): &(String, Whose)| {
            (name.clone(), Settings::of_target(&[flags, variables], files, *whose, name))
        };
        let in_files: Vec<(String, Settings<'_>)> = self.known.iter().map(of_file).collect();
        let mut taken: Vec<u16> = in_files.iter().filter_map(|(_, settings)| said(settings)).collect();
        let unsaid = || in_files.iter().filter(|(_, settings)| settings.get(Key::Listen).is_none());
        let said_engine = |settings: &Settings<'_>| draft::said_engine(settings).ok().flatten();
        let first_of = |engine: Engine| {
            let mut of_engine = unsaid().filter(|(_, own)| said_engine(own).unwrap_or(Engine::Postgres) == engine);
            of_engine.next().map(|(name, _)| name.as_str())
        };
        // One whose engine had to be looked up counts as PostgreSQL for the others, who cannot know it.
        let first_unknown = || unsaid().find(|(_, own)| said_engine(own).is_none()).map(|(name, _)| name.as_str());
        let is_first =
            |name: &str, engine: Engine| first_of(engine).or_else(first_unknown).is_some_and(|first| first == name);
        for (chosen, target) in self.chosen.iter().zip(targets) {
            let Some(target) = target else { continue };
            if self.sources.settings(chosen).get(Key::Listen).is_some() {
                taken.extend(claim(&target.listen));
                continue;
            }
            let usual = target.engine.default_port();
            let first = chosen.whose == Whose::CommandLine || is_first(&chosen.name, target.engine);
            if !first || taken.contains(&usual) {
                target.listen.port = ports::own(target, self.state_home.as_deref(), &taken);
            }
            taken.push(target.listen.port);
        }
    }
}

/// What the four places say, before any of it is parsed.
struct Sources {
    files: Files,
    flags: Layer,
    variables: Layer,
    warnings: Vec<Warning>,
}

/// A target to serve, and what the command line says of it.
struct Chosen {
    name: String,
    flags: Layer,
    whose: Whose,
}

impl Sources {
    fn read(request: &Request, environment: &Environment) -> Result<Self, Error> {
        let mut warnings = Vec::new();
        let env::Places { project, own } = environment.places(request.file.as_deref(), &mut warnings);
        let project = project.map(|path| Project::read(path, environment, &mut warnings)).transpose()?.flatten();
        let own = own.map(|path| File::read(path, environment, &mut warnings)).transpose()?;
        let files = Files { project, own };
        let flags = request.flags.iter().map(|(key, value)| (*key, value.clone(), Origin::Flag)).collect();
        let variables = environment.layer(&mut warnings)?;
        Ok(Self { files, flags, variables, warnings })
    }

    fn choose(&self, request: &Request, known: &[(String, Whose)]) -> Result<Vec<Chosen>, Error> {
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

    fn settings<'a>(&'a self, chosen: &'a Chosen) -> Settings<'a> {
        Settings::of_target(&[&chosen.flags, &self.variables], &self.files, chosen.whose, &chosen.name)
    }

    /// What is about the process that serves these targets.
    fn process(&self, chosen: &[Chosen]) -> Settings<'_> {
        self.of_process(chosen.iter().all(|chosen| chosen.whose == Whose::Project))
    }

    fn of_process(&self, with_project: bool) -> Settings<'_> {
        Settings::of_process(&[&self.flags, &self.variables], &self.files, with_project)
    }

    /// What the project's file asks for of these keys that is missing from these settings.
    fn consent(
        &self,
        settings: &[Settings<'_>],
        keys: &(impl IntoIterator<Item = Key> + Clone),
        environment: &Environment,
    ) -> Option<Consent> {
        let mut withheld: Vec<Asked> = Vec::new();
        for settings in settings {
            for key in keys.clone() {
                let said = settings.withheld(key).map(|setting| Asked { key, setting: setting.clone() });
                withheld.extend(said.filter(|said| !withheld.contains(said)));
            }
        }
        let project = self.files.project.as_ref().filter(|_| !withheld.is_empty())?;
        Some(Consent::of(project, withheld, environment))
    }

    /// The targets to serve that both files have.
    fn same_names(&self, chosen: &[Chosen], environment: &Environment) -> Vec<Warning> {
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

fn names(known: &[(String, Whose)]) -> Vec<String> {
    known.iter().map(|(name, _)| name.clone()).collect()
}

fn unknown(name: &str, known: &[String]) -> Error {
    Error::UnknownTarget {
        name: name.to_owned(),
        suggestion: error::nearest(name, known.iter().map(String::as_str)).map(str::to_owned),
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
        } else if word.contains('.') || word.starts_with("arn:") || value::is_identifier(without_port(word)) {
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

fn without_port(word: &str) -> &str {
    word.split(':').next().unwrap_or(word)
}

/// The first label of an endpoint or the last part of an ARN, or as much more of it as it takes to be unlike the other
/// names.
fn name_of(reference: &str, taken: impl Fn(&str) -> bool) -> String {
    if reference.starts_with("arn:") {
        let name = reference.rsplit(':').next().unwrap_or(reference);
        return [name].into_iter().find(|name| !taken(name)).unwrap_or(reference).to_owned();
    }
    let endpoint = reference.to_ascii_lowercase();
    let host = without_port(&endpoint);
    let label = host.split('.').next().unwrap_or(host);
    [label, host].into_iter().find(|name| !taken(name)).unwrap_or(&endpoint).to_owned()
}

fn refuse_shared_addresses(targets: &[&Target], everywhere: bool) -> Result<(), Error> {
    for (index, second) in targets.iter().enumerate() {
        for first in targets.iter().take(index) {
            let overlap = first.listen.addresses.iter().any(|address| second.listen.addresses.contains(address));
            if overlap && first.listen.port == second.listen.port && first.listen.port != 0 {
                return Err(Error::SharedAddress {
                    first: first.name.to_string(),
                    second: second.name.to_string(),
                    port: first.listen.port,
                    everywhere,
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
