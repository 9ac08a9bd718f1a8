//! What the user asked for, from four places, as one checked [`Config`].
//!
//! ```text
//!   flags ─▶ RDSGATE_* ─▶ .rdsgate.toml ─▶ config.toml ─▶ defaults        the first that has a key wins
//!     └─────────┴──────────────┴───────────────┴── layers (text with its origin) ─▶ target (parsed) ─▶ Config
//! ```
//!
//! - `layers`: the keys, where a value came from, and which value wins;
//! - `file`: TOML to layers, with line and column kept for the errors;
//! - `env`: the environment to a layer, and the folders that files are looked for in;
//! - `value`: one text to one value; `target`: the values of one database to a [`Target`];
//! - `error`: what can be wrong, where it is and what to do.
//!
//! Files and environment are read here and nowhere else. Nothing here opens a socket, asks AWS or knows what the
//! values are used for; after [`load`] nothing is checked again.

pub mod env;
pub mod error;
pub mod file;
pub mod layers;
pub mod target;
pub mod value;

use std::{path::PathBuf, time::Duration};

pub use env::Environment;
pub use error::{Error, Warning};
pub use layers::Key;

use crate::{
    admin,
    target::{MfaCode, Target},
};
use file::File;
use layers::{Layer, Origin, Settings};

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
    pub admin: Option<admin::Address>,
    /// A code for the first MFA device that wants one.
    pub mfa_code: Option<MfaCode>,
    /// Whether the page of an SSO login is opened in a browser, besides its address being printed.
    pub open_browser: bool,
}

/// What the command line asks for.
#[derive(Debug, Default)]
pub struct Request {
    /// Names of targets in the files, or host names of databases that are in none. Empty: every target in the files.
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

/// Reads the files and the environment, and joins them with the request.
///
/// # Errors
/// [`Error`] says what is wrong, with file, line and column where there is one.
pub fn load(request: &Request, environment: &Environment) -> Result<Loaded, Error> {
    let mut warnings = Vec::new();
    let files = environment
        .files(request.file.as_deref())
        .into_iter()
        .map(|path| File::read(path, environment, &mut warnings))
        .collect::<Result<Vec<_>, _>>()?;
    let flags: Layer = request.flags.iter().map(|(key, value)| (*key, value.clone(), Origin::Flag)).collect();
    let variables = environment.layer(&mut warnings)?;

    let mut chosen = Vec::new();
    for (name, host) in choose(&request.targets, &files)? {
        let mut flags = flags.clone();
        if let Some(host) = host {
            flags.set(Key::Host, host, Origin::Argument);
            flags.split_port()?;
        }
        let settings = Settings::new(&[&flags, &variables], &files, Some(&name));
        chosen.push(target::parse(&name, &settings, environment)?);
    }
    let everywhere = flags.get(Key::Listen).or(variables.get(Key::Listen)).is_some();
    refuse_shared_addresses(&chosen, everywhere)?;

    let settings = Settings::new(&[&flags, &variables], &files, None);
    let config = Config {
        targets: chosen,
        connect_timeout: settings
            .parse(Key::ConnectTimeout, |text| value::duration(text, value::CONNECT_TIMEOUT))?
            .unwrap_or(Duration::from_secs(30)),
        resume_for: settings
            .parse(Key::ResumeFor, |text| value::duration(text, value::RESUME_FOR))?
            .unwrap_or(Duration::from_mins(2)),
        max_sigterm_delay: settings
            .parse(Key::MaxSigtermDelay, |text| value::duration(text, value::MAX_SIGTERM_DELAY))?
            .unwrap_or(Duration::from_secs(30)),
        admin: settings.parse(Key::Admin, value::admin)?,
        mfa_code: settings.parse(Key::MfaCode, |text| Ok(text.parse()?))?,
        open_browser: settings.parse(Key::OpenBrowser, value::flag)?.unwrap_or(false),
    };
    Ok(Loaded { config, files: files.into_iter().map(|file| file.path).collect(), warnings })
}

/// The names of the targets to serve, each with its host when that came from the command line.
fn choose(wanted: &[String], files: &[File]) -> Result<Vec<(String, Option<String>)>, Error> {
    let mut known: Vec<&str> = Vec::new();
    for name in files.iter().flat_map(File::target_names) {
        if !known.contains(&name) {
            known.push(name);
        }
    }
    if wanted.is_empty() {
        if known.is_empty() {
            return Err(Error::NoTargets { files: files.iter().map(|file| file.path.clone()).collect() });
        }
        return Ok(known.into_iter().map(|name| (name.to_owned(), None)).collect());
    }
    let mut chosen: Vec<(String, Option<String>)> = Vec::new();
    for word in wanted {
        let next = if known.contains(&word.as_str()) {
            (word.clone(), None)
        } else if word.contains('.') {
            (
                name_of(word, |name| known.contains(&name) || chosen.iter().any(|(taken, _)| taken == name)),
                Some(word.clone()),
            )
        } else {
            return Err(Error::UnknownTarget {
                name: word.clone(),
                suggestion: error::nearest(word, known.iter().copied()).map(str::to_owned),
                known: known.into_iter().map(str::to_owned).collect(),
            });
        };
        let twice =
            |(name, host): &(String, Option<String>)| if next.1.is_some() { *host == next.1 } else { *name == next.0 };
        if !chosen.iter().any(twice) {
            chosen.push(next);
        }
    }
    Ok(chosen)
}

/// The first label of an endpoint, or as much more of it as it takes to be unlike the other names.
fn name_of(endpoint: &str, taken: impl Fn(&str) -> bool) -> String {
    let endpoint = endpoint.to_ascii_lowercase();
    let host = endpoint.split(':').next().unwrap_or(&endpoint);
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
