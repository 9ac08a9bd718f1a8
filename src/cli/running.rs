//! Which `rdsgate up` of this user are running, and where they listen: one small file for each, for `stop`, `wait` and the
//! verbs that print an address.
//!
//! The folder is `$XDG_RUNTIME_DIR/rdsgate`, or one in the temporary folder that only its owner may enter. A record names
//! its process by id and start time, so that no later process is taken for it; one whose process has gone is removed.
//! Nothing secret is in it, and nothing depends on it: a proxy that cannot write its record serves all the same.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::{app::Served, target::Target};

/// A running `rdsgate up`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) pid: u32,
    /// When the process started, in whatever words the system has for it.
    started: String,
    pub(super) targets: Vec<Serving>,
}

/// A target that it serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Serving {
    pub(super) name: String,
    pub(super) engine: String,
    /// `host:port` of the database.
    pub(super) endpoint: String,
    pub(super) addresses: Vec<SocketAddr>,
}

/// This process's own record; the file goes with it.
#[derive(Debug)]
pub(super) struct Own(PathBuf);

impl Drop for Own {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Writes the record of this process.
///
/// # Errors
/// The folder cannot be made, or is somebody else's.
pub(super) fn announce(served: &[Served]) -> io::Result<Own> {
    let targets = served.iter().map(|served| Serving {
        name: served.target.name.to_string(),
        engine: served.target.engine.to_string(),
        endpoint: served.target.endpoint.to_string(),
        addresses: served.addresses.clone(),
    });
    announce_in(&folder(), targets.collect())
}

fn announce_in(folder: &Path, targets: Vec<Serving>) -> io::Result<Own> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    must_be_ours(folder)?;
    let pid = std::process::id();
    let started = started(pid).ok_or_else(|| io::Error::other("the start time of this process is not known"))?;
    let text = serde_json::to_string(&Record { pid, started, targets }).map_err(io::Error::other)?;
    let (path, new) = (folder.join(format!("{pid}.json")), folder.join(format!("{pid}.json.new")));
    // Whatever lies there is of a process that has gone: its id is ours now.
    let _ = fs::remove_file(&new);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    fs::rename(&new, &path)?;
    Ok(Own(path))
}

/// The processes that run now, the oldest record first.
pub(super) fn all() -> Vec<Record> {
    all_in(&folder())
}

fn all_in(folder: &Path) -> Vec<Record> {
    if must_be_ours(folder).is_err() {
        return Vec::new();
    }
    let mut found: Vec<(std::time::SystemTime, Record)> = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let read = fs::read_to_string(&path).ok().and_then(|text| serde_json::from_str::<Record>(&text).ok());
        match read {
            Some(record) if record.is_alive() => {
                let written = entry.metadata().and_then(|meta| meta.modified()).unwrap_or(std::time::UNIX_EPOCH);
                found.push((written, record));
            }
            _ => drop(fs::remove_file(&path)),
        }
    }
    found.sort_by_key(|(written, record)| (*written, record.pid));
    found.into_iter().map(|(_, record)| record).collect()
}

/// Where the running processes listen, this one left out.
pub(super) fn addresses_of_others() -> Vec<(u32, SocketAddr)> {
    let own = std::process::id();
    let others = all().into_iter().filter(|record| record.pid != own);
    others
        .flat_map(|Record { pid, targets, .. }| {
            targets
                .into_iter()
                .flat_map(move |serving| serving.addresses.into_iter().map(move |address| (pid, address)))
        })
        .collect()
}

/// Where a running proxy serves exactly this target.
pub(super) fn address_of(target: &Target) -> Option<SocketAddr> {
    let endpoint = target.endpoint.to_string();
    let serves = |serving: &Serving| *serving.name == *target.name && serving.endpoint == endpoint;
    all().into_iter().flat_map(|record| record.targets).find(serves)?.addresses.first().copied()
}

impl Record {
    /// Whether the process that wrote it still runs.
    pub(super) fn is_alive(&self) -> bool {
        started(self.pid).is_some_and(|started| started == self.started)
    }

    /// Asks it to end, as SIGTERM does.
    ///
    /// # Errors
    /// It has gone, or is not ours.
    pub(super) fn terminate(&self) -> io::Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let pid = pid.filter(|_| self.is_alive()).ok_or(io::ErrorKind::NotFound)?;
        Ok(kill_process(pid, Signal::TERM)?)
    }

    /// `process 123: orders, billing`.
    pub(super) fn describe(&self) -> String {
        let names: Vec<&str> = self.targets.iter().map(|serving| serving.name.as_str()).collect();
        format!("process {}: {}", self.pid, names.join(", "))
    }
}

fn folder() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|path| Path::new(path).is_absolute()) {
        Some(path) => PathBuf::from(path).join("rdsgate"),
        None => std::env::temp_dir().join(format!("rdsgate-{}", rustix::process::geteuid().as_raw())),
    }
}

/// In a folder that others can write to somebody may have made ours before us.
fn must_be_ours(folder: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(folder)?;
    let ours = meta.uid() == rustix::process::geteuid().as_raw();
    if meta.is_dir() && ours && meta.mode() & 0o777 == 0o700 {
        Ok(())
    } else {
        Err(io::Error::other(format!("{} is not a folder of this user alone", folder.display())))
    }
}

/// When a process started: on Linux the 22nd field of proc_pid_stat(5), elsewhere what ps says.
fn started(pid: u32) -> Option<String> {
    if cfg!(target_os = "linux") {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the program's name in parentheses, and may hold anything.
        let (_, rest) = stat.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        let zombie = fields.next()? == "Z";
        // The state was the third.
        let started = fields.nth(18)?;
        return (!zombie).then(|| started.to_owned());
    }
    let output = std::process::Command::new("ps").args(["-o", "lstart=", "-p", &pid.to_string()]).output().ok()?;
    let started = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !started.is_empty()).then_some(started)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn serving() -> Vec<Serving> {
        vec![Serving {
            name: "orders".into(),
            engine: "postgres".into(),
            endpoint: "orders.example:5432".into(),
            addresses: vec!["127.0.0.1:5432".parse().unwrap(), "[::1]:5432".parse().unwrap()],
        }]
    }

    #[test]
    fn a_record_is_there_as_long_as_its_process_has_it() {
        let folder = tempfile::tempdir().unwrap().path().join("a/rdsgate");
        let own = announce_in(&folder, serving()).unwrap();
        let found = all_in(&folder);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].pid, &found[0].targets), (std::process::id(), &serving()));
        assert_eq!(found[0].describe(), format!("process {}: orders", std::process::id()));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&own.0)), (0o700, 0o600));
        drop(own);
        assert_eq!(all_in(&folder), []);
    }

    #[test]
    fn a_record_of_a_process_that_has_gone_is_removed_and_nobody_is_signalled_for_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        // Our own id, but somebody who started at another time.
        let stale = Record { pid: std::process::id(), started: "1".into(), targets: serving() };
        assert_eq!(stale.terminate().unwrap_err().kind(), io::ErrorKind::NotFound);
        let path = folder.path().join("1.json");
        fs::write(&path, serde_json::to_string(&stale).unwrap()).unwrap();
        fs::write(folder.path().join("2.json"), "not JSON").unwrap();
        assert_eq!(all_in(folder.path()), []);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_others_may_enter_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let error = announce_in(folder.path(), serving()).unwrap_err();
        assert!(error.to_string().contains("is not a folder of this user alone"), "{error}");
        let link = folder.path().join("link");
        let ours = folder.path().join("ours");
        fs::DirBuilder::new().mode(0o700).create(&ours).unwrap();
        std::os::unix::fs::symlink(&ours, &link).unwrap();
        announce_in(&link, serving()).unwrap_err();
        assert_eq!(all_in(&link), []);
    }
}
