//! The options of a project's file that only the owner may set, and the user's consent to them.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    env::Environment,
    error::Error,
    file::Project,
    origin::Asked,
    record::{Fingerprint, Record, Standing},
    search,
    warning::Warning,
};
use crate::platform::files;

/// A project's file, the owner's options in it, and whether the user trusts it.
#[derive(Debug, Clone)]
pub struct Consent {
    /// The path for messages.
    pub shown: PathBuf,
    /// Whether the user trusts it.
    pub standing: Standing,
    /// The options in it that only the owner may set.
    pub requests: Vec<Asked>,
    /// The options that were left out of this run; empty if the file is trusted.
    pub withheld: Vec<Asked>,
    fingerprint: Fingerprint,
    state: Option<PathBuf>,
}

impl Consent {
    /// The consent that a project's file needs, as it was read.
    pub(super) fn of(project: &Project, withheld: Vec<Asked>, environment: &Environment) -> Self {
        Self {
            shown: project.shown.clone(),
            standing: project.standing,
            requests: project.requests(),
            withheld,
            fingerprint: project.fingerprint.clone(),
            state: environment.state_home().map(Path::to_owned),
        }
    }

    /// The path of the file without symbolic links.
    pub fn path(&self) -> &Path {
        &self.fingerprint.path
    }

    /// Records that the user trusts the file as it was read.
    ///
    /// # Errors
    /// [`Error::TrustRecord`].
    pub fn give(&self) -> Result<(), Error> {
        let failed = |source| Error::TrustRecord { path: self.shown.clone(), source };
        let state = self.state.as_deref().ok_or_else(|| failed(no_state()))?;
        let mut now = self.fingerprint.clone();
        now.read_named();
        Record::add(state, &now).map_err(failed)?;
        // On a file system without owners or permissions the question would be asked each time.
        match Record::read(state).standing(&now) {
            Standing::Trusted => Ok(()),
            Standing::Changed | Standing::Unknown => {
                Err(failed(io::Error::other("the record can be written by others, or was not kept")))
            }
        }
    }

    /// The error when consent is required and missing.
    pub fn refused(&self) -> Error {
        Error::NotTrusted {
            path: self.shown.clone(),
            changed: self.standing == Standing::Changed,
            requests: self.withheld.clone(),
        }
    }

    /// The warning of a command that continues without consent.
    pub fn warning(&self) -> Warning {
        Warning::NotTrusted { path: self.shown.clone(), requests: self.withheld.clone() }
    }
}

/// The project's file here, or the one that is named; `None` when there is none, or none that is safe to read.
///
/// # Errors
/// The fault of the file.
pub fn project(
    named: Option<&Path>,
    environment: &Environment,
    warnings: &mut Vec<Warning>,
) -> Result<Option<Consent>, Error> {
    let found = match named {
        None => environment.project_file(warnings),
        Some(path) => named_file(path, environment, warnings)?,
    };
    let Some(path) = found else { return Ok(None) };
    let project = Project::read(path, environment, warnings)?;
    Ok(project.map(|project| Consent::of(&project, Vec::new(), environment)))
}

fn named_file(path: &Path, environment: &Environment, warnings: &mut Vec<Warning>) -> Result<Option<PathBuf>, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let real = std::fs::canonicalize(environment.absolute(path)).map_err(failed)?;
    let folder = real.parent().unwrap_or(Path::new("/"));
    let meta = std::fs::metadata(folder).map_err(failed)?;
    if let Err(reason) = search::check(folder, &meta, files::own_user()) {
        warnings.push(Warning::UnsafeFile { path: path.to_owned(), reason });
        return Ok(None);
    }
    Ok(Some(real))
}

/// The files that the user trusts, by their real paths, with their present state; `None` for a file that cannot be read.
pub fn trusted(environment: &Environment) -> Vec<(PathBuf, Option<Standing>)> {
    let record = environment.state_home().map(Record::read).unwrap_or_default();
    let standing = |path: &Path| {
        let project = Project::read(path.to_owned(), environment, &mut Vec::new());
        Some(project.ok()??.standing)
    };
    record.paths().map(|path| (path.to_owned(), standing(path))).collect()
}

/// Forgets that the user trusts a file. Returns whether it was trusted.
///
/// # Errors
/// [`Error::TrustRecord`].
pub fn revoke(path: &Path, environment: &Environment) -> Result<bool, Error> {
    let failed = |source| Error::TrustRecord { path: path.to_owned(), source };
    let absolute = environment.absolute(path);
    // A deleted file is known by its former path.
    let real = std::fs::canonicalize(&absolute).unwrap_or(absolute);
    let state = environment.state_home().ok_or_else(|| failed(no_state()))?;
    Record::remove(state, &real).map_err(failed)
}

fn no_state() -> io::Error {
    io::Error::other("there is no folder for state: neither HOME nor XDG_STATE_HOME is set")
}
