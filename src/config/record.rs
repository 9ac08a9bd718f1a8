//! The projects' files that the user trusts as they are: `$XDG_STATE_HOME/rdsgate/trust.json`, readable by its owner alone.
//!
//! A record names a file by its real path and holds the SHA-256 of its bytes and of the files that it names. One changed byte
//! and the file is asked about again. A record that cannot be read, or that others could have written, trusts nothing.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    platform::files,
    regular_file::{self, Sha256, sha256},
};

/// The record, below the folder for state.
const TRUST_FILE: &str = "rdsgate/trust.json";
/// The longest record, in bytes: thousands of files.
const MAX_LENGTH: u64 = 4 << 20;

/// The facts by which a trusted file is recognized.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// Its real path.
    pub path: PathBuf,
    /// The hash of its bytes.
    pub sha256: Sha256,
    /// Of the bytes of each file that it names; `None` for one that was not read.
    pub named: BTreeMap<PathBuf, Option<Sha256>>,
}

impl Fingerprint {
    /// Reads the files that it names.
    pub fn read_named(&mut self) {
        for (path, hash) in &mut self.named {
            *hash = regular_file::read(path).ok().map(|file| sha256(&file.bytes));
        }
    }
}

/// Whether a file is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The file was never trusted.
    Unknown,
    /// The file was trusted, but it or a file that it names has changed since.
    Changed,
    /// The user trusts the file as it is now.
    Trusted,
}

/// The files in a record.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    files: BTreeMap<PathBuf, Entry>,
}

/// The record of one trusted file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// The hash of the file, in hexadecimal digits.
    sha256: String,
    /// The files that it names, with theirs.
    #[serde(default)]
    named: BTreeMap<PathBuf, String>,
}

impl Record {
    /// Reads the record below `state`, the user's folder for state.
    pub(super) fn read(state: &Path) -> Self {
        let path = state.join(TRUST_FILE);
        let Ok(file) = File::open(&path) else { return Self::default() };
        match file.lock_shared().and_then(|()| Self::parse(&path, &file)) {
            Ok(record) => record,
            Err(error) => {
                tracing::warn!(%error, "the record of trusted files cannot be used; no project's file is trusted");
                Self::default()
            }
        }
    }

    fn parse(path: &Path, file: &File) -> io::Result<Self> {
        let meta = file.metadata()?;
        if !meta.is_file() || !files::only_we_write(path, &meta) {
            return Err(io::Error::other("it is not a file that only you can write"));
        }
        let mut text = String::new();
        file.take(MAX_LENGTH).read_to_string(&mut text)?;
        if text.is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_str(&text).map_err(io::Error::other)
    }

    /// Whether a file of this path is in the record.
    pub(super) fn knows(&self, path: &Path) -> bool {
        self.files.contains_key(path)
    }

    /// Whether a file is trusted as it is now.
    pub(super) fn standing(&self, now: &Fingerprint) -> Standing {
        match self.files.get(&now.path) {
            None => Standing::Unknown,
            Some(entry) if entry.holds(now) => Standing::Trusted,
            Some(_) => Standing::Changed,
        }
    }

    /// The paths in it.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.keys().map(PathBuf::as_path)
    }

    /// Adds a file as it is now, in the place of an earlier one at its path.
    ///
    /// # Errors
    /// The record cannot be written, or a file that is named could not be read.
    pub(super) fn add(state: &Path, now: &Fingerprint) -> io::Result<()> {
        let entry = Entry::of(now)?;
        change(state, |record| drop(record.files.insert(now.path.clone(), entry)))
    }

    /// Takes a file out; whether it was there.
    ///
    /// # Errors
    /// The record cannot be written.
    pub(super) fn remove(state: &Path, path: &Path) -> io::Result<bool> {
        let mut was_there = false;
        change(state, |record| was_there = record.files.remove(path).is_some())?;
        Ok(was_there)
    }
}

impl Entry {
    fn of(now: &Fingerprint) -> io::Result<Self> {
        let named = |(path, hash): (&PathBuf, &Option<Sha256>)| match hash {
            Some(hash) => Ok((path.clone(), hex(hash))),
            None => Err(io::Error::other(format!("`{}`, which it names, cannot be read", path.display()))),
        };
        Ok(Self { sha256: hex(&now.sha256), named: now.named.iter().map(named).collect::<io::Result<_>>()? })
    }

    fn holds(&self, now: &Fingerprint) -> bool {
        Self::of(now).is_ok_and(|now| now == *self)
    }
}

/// Changes the record. Processes that do so at once wait for each other.
fn change(state: &Path, change: impl FnOnce(&mut Record)) -> io::Result<()> {
    let path = state.join(TRUST_FILE);
    if let Some(folder) = path.parent() {
        files::make_private_folder(folder)?;
    }
    let mut options = fs::OpenOptions::new();
    let mut file = files::private(options.read(true).write(true).create(true).truncate(false)).open(&path)?;
    file.lock()?;
    // What is not ours, or not a record, is replaced by one.
    let mut record = Record::parse(&path, &file).unwrap_or_default();
    change(&mut record);
    let text = serde_json::to_string_pretty(&record).map_err(io::Error::other)?;
    files::make_private(&file)?;
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(text.as_bytes())
}

/// A hash in hexadecimal digits, as sha256sum(1) prints it.
fn hex(hash: &Sha256) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;

    fn fingerprint(path: &str, content: &[u8], named: &[(&str, Option<&[u8]>)]) -> Fingerprint {
        let named = named.iter().map(|(path, content)| (PathBuf::from(path), content.map(sha256))).collect();
        Fingerprint { path: path.into(), sha256: sha256(content), named }
    }

    #[test]
    fn trust_covers_path_and_content() {
        let state = tempfile::tempdir().unwrap();
        let state = state.path();
        let file = fingerprint("/p/.rdsgate.toml", b"profile = 'dev'", &[("/p/ca.pem", Some(&b"ca"[..]))]);
        assert_eq!(Record::read(state).standing(&file), Standing::Unknown);
        Record::add(state, &file).unwrap();
        let record = Record::read(state);
        assert_eq!(record.standing(&file), Standing::Trusted);
        assert_eq!(record.paths().collect::<Vec<_>>(), [Path::new("/p/.rdsgate.toml")]);
        for (path, content, named, standing) in [
            ("/p/.rdsgate.toml", &b"profile = 'live'"[..], &[("/p/ca.pem", Some(&b"ca"[..]))][..], Standing::Changed),
            ("/p/.rdsgate.toml", b"profile = 'dev'", &[("/p/ca.pem", Some(&b"another"[..]))], Standing::Changed),
            ("/p/.rdsgate.toml", b"profile = 'dev'", &[("/p/ca.pem", None)], Standing::Changed),
            ("/p/.rdsgate.toml", b"profile = 'dev'", &[], Standing::Changed),
            ("/q/.rdsgate.toml", b"profile = 'dev'", &[("/p/ca.pem", Some(&b"ca"[..]))], Standing::Unknown),
        ] {
            assert_eq!(record.standing(&fingerprint(path, content, named)), standing, "{path} {named:?}");
        }
        assert!(Record::remove(state, &file.path).unwrap());
        assert!(!Record::remove(state, &file.path).unwrap());
        assert_eq!(Record::read(state).standing(&file), Standing::Unknown);
        let error = Record::add(state, &fingerprint("/p", b"", &[("/p/ca.pem", None)])).unwrap_err();
        assert_eq!(error.to_string(), "`/p/ca.pem`, which it names, cannot be read");
    }

    #[test]
    fn record_writable_by_others_trusts_no_file() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join(TRUST_FILE);
        let file = fingerprint("/p/.rdsgate.toml", b"", &[]);
        Record::add(state.path(), &file).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "{\n  \"files\": {\n    \"/p/.rdsgate.toml\": {\n      \"sha256\": \
             \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\",\n      \"named\": {}\n    }\n  }\n}"
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(Record::read(state.path()), Record::default());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "{").unwrap();
        assert_eq!(Record::read(state.path()), Record::default());
        Record::add(state.path(), &file).unwrap();
        assert_eq!(Record::read(state.path()).standing(&file), Standing::Trusted);
    }
}
