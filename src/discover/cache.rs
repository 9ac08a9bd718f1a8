//! Lookup results, cached in memory for this process and in files for later ones.
//!
//! Each lookup has one file, named by the digest of its key, in `$XDG_CACHE_HOME/rdsgate` (`~/.cache`), readable by its owner
//! only. It holds facts from RDS and Systems Manager, and no secrets. A file that is malformed, dated in the future, too big or
//! writable by others is ignored. A failure to write is not an error.

use std::{
    collections::HashMap,
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::digest::{SHA256, digest};
use etcetera::BaseStrategy as _;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tracing::debug;

use crate::platform::files;

/// The folder's name, below the user's cache folder.
const FOLDER: &str = "rdsgate";
/// The format of the files; files with another version are ignored.
const VERSION: u32 = 1;
/// The largest file that is read or written, enough for some thousand nodes.
const LIMIT: u64 = 1 << 20;
/// Variables that, besides the options, select the account. They are part of every key.
const IDENTITY: [&str; 10] = [
    "AWS_DEFAULT_PROFILE",
    "AWS_PROFILE",
    "AWS_ACCESS_KEY_ID",
    "AWS_ROLE_ARN",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_RDS",
    "AWS_ENDPOINT_URL_SSM",
    "AWS_ENDPOINT_URL_EC2",
];

/// The cache of lookup results. See the module's description.
#[derive(Debug, Default)]
pub(super) struct Cache {
    folder: Option<PathBuf>,
    identity: String,
    /// By file name: the time of the lookup, and the result as JSON.
    memory: Mutex<HashMap<String, (u64, String)>>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    version: u32,
    /// Seconds since the Unix epoch.
    found: u64,
    value: serde_json::Value,
}

impl Cache {
    pub(super) fn of_user() -> Self {
        let folder = etcetera::choose_base_strategy().ok().map(|strategy| strategy.cache_dir().join(FOLDER));
        let identity = IDENTITY.map(|name| std::env::var(name).unwrap_or_default()).join("\0");
        Self { folder, identity, memory: Mutex::default() }
    }

    #[cfg(test)]
    pub(super) fn in_folder(folder: &Path) -> Self {
        Self { folder: Some(folder.to_owned()), ..Self::default() }
    }

    /// The cached result for a key, if it is younger than `max_age`.
    pub(super) fn get<T: DeserializeOwned>(&self, key: &str, max_age: Duration) -> Option<T> {
        let name = self.name(key);
        let fresh = |found: u64| now().checked_sub(found).is_some_and(|age| age < max_age.as_secs());
        let known = self.memory.lock().unwrap_or_else(PoisonError::into_inner).get(&name).cloned();
        if let Some((found, value)) = known {
            return fresh(found).then(|| serde_json::from_str(&value).ok()).flatten();
        }
        let text = read(&self.folder.as_ref()?.join(&name))?;
        let Entry { version, found, value } = serde_json::from_str(&text).ok()?;
        (version == VERSION && fresh(found)).then(|| serde_json::from_value(value).ok()).flatten()
    }

    /// Caches a result.
    pub(super) fn put<T: Serialize>(&self, key: &str, value: &T) {
        let Ok(value) = serde_json::to_value(value) else { return };
        let (name, found) = (self.name(key), now());
        let text = value.to_string();
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), (found, text));
        let Some(folder) = &self.folder else { return };
        let entry = serde_json::json!(Entry { version: VERSION, found, value }).to_string();
        if entry.len() as u64 > LIMIT {
            return;
        }
        if let Err(cause) = write(folder, &name, &entry) {
            debug!(%cause, folder = %folder.display(), "cannot write the lookup cache");
        }
    }

    fn name(&self, key: &str) -> String {
        let digest = digest(&SHA256, format!("{}\0{key}", self.identity).as_bytes());
        let hex: String = digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        format!("found-{hex}.json")
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn read(path: &Path) -> Option<String> {
    let file = fs::File::open(path).ok()?;
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() || !files::only_we_write(path, &metadata) {
        return None;
    }
    let mut text = String::new();
    file.take(LIMIT).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Writes atomically: to a temporary file, which then replaces the old one.
fn write(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    files::make_private_folder(folder)?;
    let temporary = folder.join(format!("{name}.{}", uuid::Uuid::new_v4()));
    let mut options = fs::OpenOptions::new();
    let opened = files::private(options.write(true).create_new(true)).open(&temporary);
    let written = opened.and_then(|mut file| file.write_all(text.as_bytes()));
    let kept = written.and_then(|()| fs::rename(&temporary, folder.join(name)));
    if kept.is_err() {
        // It may never have been made.
        let _ = fs::remove_file(&temporary);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_hours(1);

    fn only_file(folder: &Path) -> PathBuf {
        let files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        let [file] = files.as_slice() else { panic!("one file: {files:?}") };
        file.clone()
    }

    #[test]
    fn cached_results_are_readable_by_later_processes_of_the_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("cache/rdsgate");
        let cache = Cache::in_folder(&folder);
        assert_eq!(cache.get::<String>("a", LIFE), None);
        cache.put("a", &"found");
        for cache in [&cache, &Cache::in_folder(&folder)] {
            assert_eq!(cache.get::<String>("a", LIFE).as_deref(), Some("found"));
            assert_eq!(cache.get::<String>("a", Duration::ZERO), None, "too old");
            assert_eq!(cache.get::<String>("b", LIFE), None);
        }
        let other = Cache { identity: "someone else".into(), ..Cache::in_folder(&folder) };
        assert_eq!(other.get::<String>("a", LIFE), None);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&only_file(&folder))), (0o700, 0o600));
    }

    #[test]
    fn a_file_that_is_not_right_counts_as_none() {
        use std::os::unix::fs::PermissionsExt as _;
        let root = tempfile::tempdir().unwrap();
        Cache::in_folder(root.path()).put("a", &"found");
        let file = only_file(root.path());
        let good = fs::read_to_string(&file).unwrap();
        let found = || Cache::in_folder(root.path()).get::<String>("a", LIFE);
        for end in 0..good.len() {
            fs::write(&file, &good[..end]).unwrap();
            assert_eq!(found(), None, "cut at {end}");
        }
        let with = |name: &str, value: serde_json::Value| {
            let mut entry: serde_json::Value = serde_json::from_str(&good).unwrap();
            entry[name] = value;
            entry.to_string()
        };
        let wrong = [with("found", 99_999_999_999_u64.into()), with("version", 0.into()), with("value", 7.into())];
        for broken in wrong.iter().map(String::as_str).chain(["\0\u{1}", "[]"]) {
            fs::write(&file, broken).unwrap();
            assert_eq!(found(), None, "{broken}");
        }
        fs::write(&file, &good).unwrap();
        assert_eq!(found().as_deref(), Some("found"));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o622)).unwrap();
        assert_eq!(found(), None, "others can write it");
    }

    #[test]
    fn without_a_folder_to_write_in_the_process_still_remembers() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        for cache in [Cache::default(), Cache::in_folder(&file.join("below"))] {
            cache.put("a", &"found");
            assert_eq!(cache.get::<String>("a", LIFE).as_deref(), Some("found"));
        }
    }
}
