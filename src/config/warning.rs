//! Warnings about a configuration, each with a hint.

use std::{fmt, path::PathBuf};

use super::{
    origin::{Asked, Keys},
    search::Reason,
};
use crate::target::Region;

/// A fact about a configuration that a user should know, and that does not prevent its use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// Everyone who can write the file can choose the database that the user's tools talk to.
    WritableByOthers {
        /// The file.
        path: PathBuf,
    },
    /// The host name says another region than the one that was set, which counts.
    OtherRegion {
        /// The target.
        target: String,
        /// The region in the host name.
        in_host: Region,
        /// The region that was set.
        configured: Region,
    },
    /// A project's file that is not read.
    UnsafeFile {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: Reason,
    },
    /// A project's file asks for what the owner decides; it is done without.
    NotTrusted {
        /// The file.
        path: PathBuf,
        /// The options in it that only the owner may set.
        requests: Vec<Asked>,
    },
    /// A target that both files have.
    SameName {
        /// Its name.
        name: String,
        /// The project's file.
        project: PathBuf,
        /// The user's own.
        own: PathBuf,
    },
    /// An unknown variable with our prefix.
    UnknownVariable {
        /// Its name.
        name: String,
        /// The closest known name.
        suggestion: Option<String>,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WritableByOthers { path } => {
                write!(f, "{} can be written by every user of this machine", path.display())
            }
            Self::OtherRegion { target, in_host, configured } => {
                write!(f, "target {target} is in {in_host} by its host name; using the configured region {configured}")
            }
            Self::UnsafeFile { path, reason } => write!(f, "{} is not read: {reason}", path.display()),
            Self::NotTrusted { path, requests } => {
                write!(f, "{} is not trusted yet, so these do not count: {}", path.display(), Keys(requests))
            }
            Self::SameName { name, project, own } => write!(
                f,
                "{name} is the one of {}; {} has another of that name, which only adds its guards",
                own.display(),
                project.display()
            ),
            Self::UnknownVariable { name, .. } => write!(f, "unknown variable {name}"),
        }
    }
}

impl Warning {
    /// The next step, beginning with a verb.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::WritableByOthers { path } => Some(format!("chmod o-w {}", path.display())),
            Self::OtherRegion { in_host, .. } => Some(format!(
                "remove the region if the database is in {in_host}: a token for another region is refused"
            )),
            Self::UnsafeFile { path, reason } => Some(reason.hint(path)),
            Self::NotTrusted { .. } => Some("look at it and accept it: rdsgate trust".into()),
            Self::SameName { .. } => Some("rename one of the two".into()),
            Self::UnknownVariable { suggestion, .. } => suggestion.as_ref().map(|near| format!("did you mean {near}?")),
        }
    }
}
