//! What the user asked for, from four places, as one checked [`Config`].
//!
//! ```text
//!   flags ─▶ RDSGATE_* ─▶ .rdsgate.toml ─▶ config.toml ─▶ defaults        the first that has a key wins
//!     └─────────┴──────────────┴───────────────┴── layers (text with its origin) ─▶ drafts (parsed) ─▶ Config
//!                                                                  what is missing ──┘  filled in by others, or an error
//! ```
//!
//! - `layers`: the keys, where a value came from, and which value wins;
//! - `file`: TOML to layers, with line and column kept for the errors;
//! - `env`: the environment to a layer, and the folders that files are looked for in;
//! - `value`: one text to one value; `draft`: the values of one database, and those to a [`Target`];
//! - `error`: what can be wrong, where it is and what to do.
//!
//! Files and environment are read here and nowhere else. Nothing here opens a socket, asks AWS or knows what the
//! values are used for; after [`load`] nothing is checked again.

pub mod draft;
pub mod env;
pub mod error;
pub mod file;
pub mod layers;
pub mod value;

use std::{path::PathBuf, time::Duration};

pub use draft::Draft;
pub use env::Environment;
pub use error::{Error, Warning};
pub use layers::Key;

use crate::target::{Reference, Region, Target};
use file::File;
use layers::{Layer, Origin, Settings};

/// Everything that a running proxy needs to know.
///
/// # Defaults
/// `connect_timeout` 30 s, `resume_for` 2 min, `max_sigterm_delay` 30 s.
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
#[derive(Debug)]
pub struct Plan {
    /// The databases.
    pub drafts: Vec<Draft>,
    /// What is odd but no error.
    pub warnings: Vec<Warning>,
    files: Vec<PathBuf>,
    /// The targets in the files.
    known: Vec<String>,
    /// Whether a flag or variable sets the local address for all targets.
    everywhere: bool,
    connect_timeout: Duration,
    resume_for: Duration,
    max_sigterm_delay: Duration,
}

/// Reads the files and the environment, and joins them with the request; nothing may be missing.
///
/// # Errors
/// [`Error`] says what is wrong, with file, line and column where there is one.
pub fn load(request: &Request, environment: &Environment) -> Result<Loaded, Error> {
    read(request, environment)?.finish()
}

/// Reads the files and the environment, and joins them with the request.
///
/// # Errors
/// As for [`load`], but for what is missing.
pub fn read(request: &Request, environment: &Environment) -> Result<Plan, Error> {
    let Sources { flags, variables, files, warnings } = Sources::read(request, environment)?;
    let known = known(&files);
    let mut drafts = Vec::new();
    for (name, reference) in choose(&request.targets, &known, &files)? {
        let mut flags = flags.clone();
        if let Some(reference) = reference {
            flags.set(Key::Host, reference, Origin::Argument);
            flags.split_port()?;
        }
        let settings = Settings::new(&[&flags, &variables], &files, Some(&name));
        drafts.push(Draft::parse(&name, &settings, environment)?);
    }
    let settings = Settings::new(&[&flags, &variables], &files, None);
    let time = |key, range, default| {
        Ok::<_, Error>(settings.parse(key, |text| value::duration(text, range))?.unwrap_or(default))
    };
    Ok(Plan {
        drafts,
        connect_timeout: time(Key::ConnectTimeout, value::CONNECT_TIMEOUT, Duration::from_secs(30))?,
        resume_for: time(Key::ResumeFor, value::RESUME_FOR, Duration::from_mins(2))?,
        max_sigterm_delay: time(Key::MaxSigtermDelay, value::MAX_SIGTERM_DELAY, Duration::from_secs(30))?,
        everywhere: flags.get(Key::Listen).or(variables.get(Key::Listen)).is_some(),
        known,
        files: files.into_iter().map(|file| file.path).collect(),
        warnings,
    })
}

/// Which identity and where, for a command that is about no particular database.
#[derive(Debug)]
pub struct Identity {
    /// The profile in the AWS configuration files, if one is set.
    pub profile: Option<String>,
    /// The region, if one is set.
    pub region: Option<Region>,
    /// What is odd but no error.
    pub warnings: Vec<Warning>,
}

/// Reads the files and the environment for what is set for all targets.
///
/// # Errors
/// As for [`load`].
pub fn identity(request: &Request, environment: &Environment) -> Result<Identity, Error> {
    let Sources { flags, variables, files, warnings } = Sources::read(request, environment)?;
    let settings = Settings::new(&[&flags, &variables], &files, None);
    let region = draft::default_region(&settings, environment)?;
    Ok(Identity { profile: settings.text(Key::Profile)?, region, warnings })
}

impl Plan {
    /// The targets, complete.
    ///
    /// # Errors
    /// What is missing all the same, or contradicts.
    pub fn finish(self) -> Result<Loaded, Error> {
        let mut targets = Vec::with_capacity(self.drafts.len());
        for draft in self.drafts {
            if let Reference::Identifier(name) = &draft.reference {
                return Err(unknown(name, &self.known));
            }
            targets.push(draft.finish()?);
        }
        refuse_shared_addresses(&targets, self.everywhere)?;
        let config = Config {
            targets,
            connect_timeout: self.connect_timeout,
            resume_for: self.resume_for,
            max_sigterm_delay: self.max_sigterm_delay,
        };
        Ok(Loaded { config, files: self.files, warnings: self.warnings })
    }

    /// The error for a word that names neither a target nor, as others found out, a database.
    pub fn unknown(&self, name: &str) -> Error {
        unknown(name, &self.known)
    }
}

/// Everything that is read, not yet joined.
struct Sources {
    flags: Layer,
    variables: Layer,
    files: Vec<File>,
    warnings: Vec<Warning>,
}

impl Sources {
    fn read(request: &Request, environment: &Environment) -> Result<Self, Error> {
        let mut warnings = Vec::new();
        let files = environment
            .files(request.file.as_deref())
            .into_iter()
            .map(|path| File::read(path, environment, &mut warnings))
            .collect::<Result<Vec<_>, _>>()?;
        let flags = request.flags.iter().map(|(key, value)| (*key, value.clone(), Origin::Flag)).collect();
        let variables = environment.layer(&mut warnings)?;
        Ok(Self { flags, variables, files, warnings })
    }
}

/// The targets of all files, each once.
fn known(files: &[File]) -> Vec<String> {
    let mut known: Vec<String> = Vec::new();
    for name in files.iter().flat_map(File::target_names) {
        if !known.iter().any(|known| known == name) {
            known.push(name.to_owned());
        }
    }
    known
}

fn unknown(name: &str, known: &[String]) -> Error {
    Error::UnknownTarget {
        name: name.to_owned(),
        suggestion: error::nearest(name, known.iter().map(String::as_str)).map(str::to_owned),
        known: known.to_vec(),
    }
}

/// The names of the targets to serve, each with its database when that came from the command line.
fn choose(wanted: &[String], known: &[String], files: &[File]) -> Result<Vec<(String, Option<String>)>, Error> {
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

fn refuse_shared_addresses(targets: &[Target], everywhere: bool) -> Result<(), Error> {
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
