//! The two files: where they are, their bytes, and whether they have changed since they were read.

use std::{
    fs::{File, Metadata},
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use zeroize::Zeroizing;

use super::{
    Environment,
    ini::{self, Malformed, Section},
};

/// The longest file that is read.
const LIMIT: u64 = 1 << 20;

/// Where the files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::aws) struct Paths {
    pub(in crate::aws) config: Arc<Path>,
    pub(in crate::aws) credentials: Arc<Path>,
}

/// Why a file is not used.
#[derive(Debug, Clone)]
pub(in crate::aws) enum Unusable {
    Malformed(Malformed),
    TooLong,
    Io(Arc<io::Error>),
}

impl Paths {
    /// Those that the environment names, or those in the home directory.
    pub(in crate::aws) fn of(environment: &Environment) -> Self {
        let path = |variable: &str, usual: &str| {
            environment.expand(&environment.get(variable).unwrap_or_else(|| String::from(usual)))
        };
        Self {
            config: path("AWS_CONFIG_FILE", "~/.aws/config").into(),
            credentials: path("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials").into(),
        }
    }
}

/// The sections of a file. One that does not exist, or is not a regular file, has none, as for botocore.
///
/// # Errors
/// [`Unusable`]; one that may not be read as well, which botocore passes over.
pub(super) fn read(path: &Path) -> Result<Vec<Section>, Unusable> {
    let failed = |cause| Unusable::Io(Arc::new(cause));
    // Asked before the file is opened: opening a FIFO would wait for a writer.
    if !std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file()) {
        return Ok(Vec::new());
    }
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(LIMIT + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LIMIT {
        return Err(Unusable::TooLong);
    }
    ini::parse(&bytes).map_err(Unusable::Malformed)
}

/// How the files looked when they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::aws) struct Stamp(Vec<(PathBuf, Option<Look>)>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Look {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

impl Stamp {
    pub(in crate::aws) fn of(paths: &Paths) -> Self {
        let look = |path: &Path| (path.to_owned(), std::fs::metadata(path).ok().map(|metadata| Look::of(&metadata)));
        Self(vec![look(&paths.config), look(&paths.credentials)])
    }
}

impl Look {
    fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Self { modified: metadata.modified().ok(), length: metadata.len(), inode }
    }
}
