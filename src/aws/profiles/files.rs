//! The two AWS files: their paths, their content, and the detection of changes.

use std::{
    fs::{File, Metadata},
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use zeroize::Zeroizing;

use super::{
    environment::Environment,
    ini::{self, Section},
};
use crate::{aws::error::file::Unusable, platform::files};

/// The largest file that is read.
const LIMIT: u64 = 1 << 20;

/// The paths of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::aws) struct Paths {
    pub(in crate::aws) config: Arc<Path>,
    pub(in crate::aws) credentials: Arc<Path>,
}

impl Paths {
    /// The paths from the environment, or those in the home directory.
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

/// The sections of a file. A missing file, or one that is not a regular file, has none, as in botocore.
///
/// # Errors
/// [`Unusable`], also for a file without read permission, which botocore ignores.
pub(super) fn read(path: &Path) -> Result<Vec<Section>, Unusable> {
    let failed = |cause| Unusable::Io(Arc::new(cause));
    // Checked before the file is opened, because opening a FIFO would wait for a writer.
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

/// The metadata of the files when they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::aws) struct Stamp(Vec<(PathBuf, Option<Look>)>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Look {
    modified: Option<SystemTime>,
    length: u64,
    number: u64,
}

impl Stamp {
    pub(in crate::aws) fn of(paths: &Paths) -> Self {
        let look = |path: &Path| (path.to_owned(), std::fs::metadata(path).ok().map(|metadata| Look::of(&metadata)));
        Self(vec![look(&paths.config), look(&paths.credentials)])
    }
}

impl Look {
    fn of(metadata: &Metadata) -> Self {
        Self { modified: metadata.modified().ok(), length: metadata.len(), number: files::number(metadata) }
    }
}
