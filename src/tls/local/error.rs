//! Failures to make or read the local authority, with their remedies.

use std::{io, path::PathBuf};

/// TLS for clients cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no folder for state, because there is no home.
    #[error("there is no folder for rdsgate's local certificate authority")]
    NoFolder,
    /// Others may enter the folder of the authority.
    #[error("the folder {} is not yours alone", .0.display())]
    OpenFolder(PathBuf),
    /// Others may have read the key.
    #[error("the key of the local certificate authority in {} can be read by others", .0.display())]
    Exposed(PathBuf),
    /// The file has no key and certificate that belong together.
    #[error("the key of the local certificate authority in {} is damaged: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The damage.
        why: &'static str,
    },
    /// The certificate of the authority has expired.
    #[error("the local certificate authority in {} has expired", .0.display())]
    Expired(PathBuf),
    /// The authority was made without this name.
    #[error("the local certificate authority in {} may not prove the name {name}", path.display())]
    Name {
        /// The name.
        name: String,
        /// The certificate of the authority.
        path: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("cannot use {}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        #[source]
        cause: io::Error,
    },
    /// A certificate cannot be made.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library refuses it.
    #[error("cannot serve TLS with the local certificate")]
    Tls(#[from] rustls::Error),
}

impl Error {
    /// The remedy, beginning with a verb.
    pub fn hint(&self) -> String {
        match self {
            Self::NoFolder => "set HOME or XDG_STATE_HOME".into(),
            Self::OpenFolder(path) => format!("make it yours alone: chmod 700 {}", path.display()),
            Self::Exposed(_) | Self::Damaged { .. } | Self::Expired(_) | Self::Name { .. } => {
                "make a new one with `rdsgate cert --renew`, and give its certificate to your clients".into()
            }
            Self::File { .. } => "check the permissions of the folder and the space on its disk".into(),
            Self::Certificate(_) | Self::Tls(_) => "report this as a bug of rdsgate".into(),
        }
    }
}
