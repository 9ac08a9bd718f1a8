//! The files in which logins are kept: their names, the times in them, their atomic replacement, and the wait for another program's
//! login.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use aws_lc_rs::digest;
use aws_smithy_types::{DateTime, date_time::Format};

use crate::platform::files;

/// The polling interval for a file that another program will write.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// A file that another program may write, with its time of modification when the wait began.
pub(super) struct File {
    path: PathBuf,
    modified: Option<SystemTime>,
}

impl File {
    pub(super) fn new(path: PathBuf) -> Self {
        let modified = modified(&path);
        Self { path, modified }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Resolves once the file has been written again.
    pub(super) async fn changed(&self) {
        while modified(&self.path).is_none_or(|now| Some(now) == self.modified) {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|meta| meta.modified()).ok()
}

/// Replaces a file atomically. The new one is readable by its owner only.
pub(super) fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    files::make_private_folder(folder)?;
    let temporary = folder.join(format!("rdsgate-{}.tmp", uuid::Uuid::new_v4()));
    let mut options = std::fs::OpenOptions::new();
    let opened = files::private(options.write(true).create_new(true)).open(&temporary);
    let written = opened.and_then(|mut file| {
        file.write_all(text)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    });
    if written.is_err() {
        // The temporary file may not exist; in any case it must not stay.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

/// A digest in hexadecimal digits, as in the names of the AWS CLI's cache files.
pub(super) fn hash(algorithm: &'static digest::Algorithm, text: &str) -> String {
    digest::digest(algorithm, text.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A number of seconds in a reply. A negative one counts as zero.
pub(super) fn seconds(number: i32) -> Duration {
    Duration::from_secs(u64::try_from(number).unwrap_or_default())
}

/// A time in the format of the AWS CLI's cache files.
pub(super) fn utc(at: impl Into<DateTime>) -> String {
    // The AWS CLI writes no fraction.
    let at = DateTime::from_secs(at.into().secs());
    at.fmt(Format::DateTime).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn replaced_file_is_noticed_and_readable_by_its_owner_only() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("sso/cache/token.json");
        let file = File::new(path.clone());
        assert!(tokio::time::timeout(Duration::from_millis(20), file.changed()).await.is_err(), "not there yet");
        replace(&path, b"first").unwrap();
        file.changed().await;
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        }
    }

    #[test]
    fn failed_replacement_leaves_no_file_behind() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("token.json");
        std::fs::create_dir_all(folder.join("full")).unwrap();
        replace(&folder, b"text").unwrap_err();
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn times_and_names_are_those_of_the_aws_cli() {
        assert_eq!(utc(SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_225_600_900)), "2026-01-01T00:00:00Z");
        // The SDK's own examples: `sso/cache.rs` and `login/cache.rs` of aws-config.
        let sha1 = hash(&digest::SHA1_FOR_LEGACY_USE_ONLY, "https://d-92671207e4.awsapps.com/start");
        assert_eq!(sha1, "13f9d35043871d073ab260e020f0ffde092cb14b");
        let sha256 = hash(&digest::SHA256, "arn:aws:iam::0123456789012:user/Admin");
        assert_eq!(sha256, "36db1d138ff460920374e4c3d8e01f53f9f73537e89c88d639f68393df0e2726");
    }
}
