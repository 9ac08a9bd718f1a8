//! The running `rdsgate up` of this user and their addresses: one small file for each, for `stop`, `wait` and the
//! verbs that print an address.
//!
//! The folder is `$XDG_RUNTIME_DIR/rdsgate`, or one in the temporary folder that only its owner may enter. A record names
//! its process by id and start time, so that no later process is taken for it; one whose process has gone is removed.
//! Nothing secret is in it, and nothing depends on it: a proxy that cannot write its record serves all the same.
//!
//! Beside the records are the sockets of all processes that serve targets, `run`, `psql` and `mysql` included, for `status`.
//!
//! Two projects may use one name for two databases, so a target is known by its endpoint, its user and the file that describes
//! it, not by its name alone.

use std::{
    collections::HashMap,
    fs,
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    admin::model::Status,
    app::{Process, Served},
    config::{Environment, Plan, Request},
    platform::{self, files, process::started, signals::Signal},
    target::{Address, ListenAddress, Local, Reference, Target},
};

/// The extension of a status socket, whose name is the id of its process.
const SOCKET: &str = "sock";
/// The extension of its lock.
const LOCK: &str = "sock.lock";
/// For each step of a request to another process on this machine.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);
/// The largest reply that is read.
const MAX_REPLY: u64 = 16 << 20;

/// A running `rdsgate up`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) pid: u32,
    /// When the process started, in whatever words the system has for it.
    started: String,
    pub(super) targets: Vec<Serving>,
    /// It is on its way to its end: it takes no clients any more.
    #[serde(default)]
    pub(super) stopping: bool,
}

/// A target that it serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Serving {
    pub(super) name: String,
    pub(super) engine: String,
    /// `host:port` of the database.
    pub(super) endpoint: String,
    pub(super) addresses: Vec<SocketAddr>,
    /// The paths of the unix sockets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sockets: Vec<PathBuf>,
    /// Not in the records of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<Origin>,
}

/// The settings that tell targets of one name and endpoint apart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Origin {
    /// The database user that is configured.
    user: Option<String>,
    /// The file that describes the target.
    file: Option<PathBuf>,
}

impl Serving {
    fn host(&self) -> &str {
        self.endpoint.rsplit_once(':').map_or(&self.endpoint, |(host, _)| host)
    }

    /// `orders (orders.example:5432 as app_user, of /a/.rdsgate.toml)`.
    pub(super) fn describe(&self) -> String {
        let Origin { user, file } = self.origin.clone().unwrap_or_default();
        let user = user.map(|user| format!(" as {user}")).unwrap_or_default();
        let file = file.map(|file| format!(", of {}", file.display())).unwrap_or_default();
        format!("{} ({}{user}{file})", self.name, self.endpoint)
    }
}

/// The files that describe targets, by the name of the target.
#[derive(Debug, Clone, Default)]
pub(super) struct Files(HashMap<String, PathBuf>);

impl Files {
    /// Those of a plan.
    pub(super) fn of(plan: &Plan) -> Self {
        let names = plan.drafts.iter().map(|draft| draft.name.to_string());
        Self(names.filter_map(|name| plan.file_of(&name).map(|file| (name, file))).collect())
    }

    fn get(&self, target: &Target) -> Option<&PathBuf> {
        self.0.get(&*target.name)
    }
}

/// This process's own record; the file goes with it.
#[derive(Debug)]
pub(super) struct Own {
    path: PathBuf,
    record: Record,
}

impl Own {
    /// Describes other targets from now on.
    ///
    /// # Errors
    /// The record cannot be written.
    pub(super) fn update(&mut self, served: &[Served], files: &Files) -> io::Result<()> {
        self.record.targets = serving(served, files);
        self.write()
    }

    /// Says that no clients are taken any more.
    pub(super) fn stopping(&mut self) {
        self.record.stopping = true;
        // Otherwise others hear of it only by its end.
        let _ = self.write();
    }

    fn write(&self) -> io::Result<()> {
        let text = serde_json::to_string(&self.record).map_err(io::Error::other)?;
        let new = self.path.with_extension("json.new");
        // Whatever lies there is of a process that has gone: its id is ours now.
        let _ = fs::remove_file(&new);
        let mut options = fs::OpenOptions::new();
        let mut file = files::private(options.write(true).create_new(true)).open(&new)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&new, &self.path)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Writes the record of this process.
///
/// # Errors
/// The folder cannot be made, or is somebody else's.
pub(super) fn announce(served: &[Served], files: &Files) -> io::Result<Own> {
    announce_in(&folder(), serving(served, files))
}

fn serving(served: &[Served], files: &Files) -> Vec<Serving> {
    let serving = |served: &Served| Serving {
        name: served.target.name.to_string(),
        engine: served.target.engine.to_string(),
        endpoint: served.target.endpoint.to_string(),
        addresses: served.bound.iter().filter_map(Local::tcp).collect(),
        sockets: served.bound.iter().filter_map(Local::unix).map(Path::to_owned).collect(),
        origin: Some(Origin { user: served.target.user.clone(), file: files.get(&served.target).cloned() }),
    };
    served.iter().map(serving).collect()
}

/// The facts that others learn about this process, which runs a subcommand. Removes the sockets of processes that were killed.
pub(super) fn process(command: &'static str) -> Process {
    let folder = folder();
    let socket = make(&folder).ok().map(|()| folder.join(format!("{}.{SOCKET}", std::process::id())));
    sweep(&folder);
    Process { command, socket, shows_waits: false }
}

/// A running process of this user, as it describes itself.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) pid: u32,
    pub(super) status: Result<Status, AskError>,
}

/// A process does not say what it does.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// The socket, or the reply.
    #[error("it does not answer: {0}")]
    Io(#[from] io::Error),
    /// Another version of rdsgate, perhaps.
    #[error("its reply is malformed: {0}")]
    Reply(#[from] serde_json::Error),
    /// It has a record, but no socket.
    #[error("it has no status socket: an older version, or XDG_RUNTIME_DIR has a path that is too long for one")]
    NoSocket,
}

/// Asks every running process of this user for its status, the lowest process id first. `up` processes that have no socket are in
/// the list as well.
pub(super) fn ask_all() -> Vec<Asked> {
    let folder = folder();
    if must_be_ours(&folder).is_err() {
        return Vec::new();
    }
    let mut sockets = sockets_in(&folder);
    sockets.retain(|(pid, _)| started(*pid).is_some());
    // Side by side, because one that is stopped answers after a timeout only.
    let mut asked: Vec<Asked> = std::thread::scope(|scope| {
        let asking: Vec<_> = sockets.iter().map(|(pid, path)| (*pid, scope.spawn(move || ask(path)))).collect();
        let done = asking.into_iter().filter_map(|(pid, asking)| Some(Asked { pid, status: asking.join().ok()? }));
        // A socket that refuses is of a process that has just ended.
        let gone = |status: &Result<Status, AskError>| matches!(status, Err(AskError::Io(error)) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound));
        done.filter(|asked| !gone(&asked.status)).collect()
    });
    for record in all_in(&folder)
        .into_iter()
        .filter(|record| asked.iter().all(|known| known.pid != record.pid))
        .collect::<Vec<_>>()
    {
        asked.push(Asked { pid: record.pid, status: Err(AskError::NoSocket) });
    }
    asked.sort_by_key(|asked| asked.pid);
    asked
}

/// `GET /status` of one process.
fn ask(path: &Path) -> Result<Status, AskError> {
    let mut stream = platform::status::connect(path, ASK_TIMEOUT)?;
    stream.write_all(b"GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut reply = String::new();
    stream.take(MAX_REPLY).read_to_string(&mut reply)?;
    let (head, body) = reply.split_once("\r\n\r\n").ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
    if head.split(' ').nth(1) != Some("200") {
        return Err(io::Error::other(head.lines().next().unwrap_or_default().to_owned()).into());
    }
    Ok(serde_json::from_str(body)?)
}

/// Removes the sockets of processes that were killed, and their locks, which may have lost their socket already.
fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| {
            let (pid, extension) = name.split_once('.')?;
            pid.parse().ok().filter(|_| [SOCKET, LOCK].contains(&extension))
        });
        if pid.is_some_and(|pid| started(pid).is_none()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The status sockets in a folder, each with the id of its process.
fn sockets_in(folder: &Path) -> Vec<(u32, PathBuf)> {
    let paths = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let sockets = paths.filter(|path| path.extension().is_some_and(|extension| extension == SOCKET));
    let mut sockets: Vec<_> = sockets.filter_map(|path| Some((id_in(&path)?, path))).collect();
    sockets.sort();
    sockets
}

fn make(folder: &Path) -> io::Result<()> {
    files::make_private_folder(folder)?;
    must_be_ours(folder)
}

fn announce_in(folder: &Path, targets: Vec<Serving>) -> io::Result<Own> {
    make(folder)?;
    let pid = std::process::id();
    let started = started(pid).ok_or_else(|| io::Error::other("the start time of this process is not known"))?;
    let record = Record { pid, started, targets, stopping: false };
    let own = Own { path: folder.join(format!("{pid}.json")), record };
    own.write()?;
    Ok(own)
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
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let read = serde_json::from_str::<Record>(&text).ok();
        match read {
            // Another version's, perhaps; it is that version's as long as a process has the id.
            None if id_in(&path).is_some_and(|pid| started(pid).is_some()) => {}
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

fn id_in(path: &Path) -> Option<u32> {
    path.file_stem()?.to_str()?.parse().ok()
}

/// An address of a target at which a running proxy serves another one.
#[derive(Debug, thiserror::Error)]
#[error("{place} is served by process {pid} for {other}, not for {target}")]
pub(super) struct ServedForAnother {
    /// `port 5432`, or the path of a unix socket.
    place: String,
    target: String,
    pid: u32,
    other: String,
}

impl ServedForAnother {
    /// The remedy.
    pub(super) const HINT: &'static str =
        "stop that process, or give the target another port with --listen or the key listen";
}

/// Where a running proxy serves exactly this target, with addresses of the kind that is configured first in front; nowhere when
/// none does.
///
/// # Errors
/// An address of the target leads to another one.
pub(super) fn address_of(target: &Target, files: &Files) -> Result<Vec<Local>, ServedForAnother> {
    address_in(&all(), target, files.get(target))
}

fn address_in(running: &[Record], target: &Target, file: Option<&PathBuf>) -> Result<Vec<Local>, ServedForAnother> {
    let endpoint = target.endpoint.to_string();
    let is_it = |serving: &Serving| {
        // An endpoint on the command line is the same database whichever file describes it too.
        let of_file =
            |origin: &Origin| file.is_none() || (origin.file.as_ref() == file && *serving.name == *target.name);
        let same = serving.origin.as_ref().is_none_or(|origin| origin.user == target.user && of_file(origin));
        serving.endpoint == endpoint && same
    };
    let serving = running.iter().filter(|record| !record.stopping);
    let targets = serving.flat_map(|record| record.targets.iter().map(move |serving| (record, serving)));
    if let Some((_, serving)) = targets.clone().find(|(_, serving)| is_it(serving)) {
        let addresses = serving.addresses.iter().copied().map(Local::Tcp);
        let sockets = serving.sockets.iter().cloned().map(Local::Unix);
        return Ok(match target.listen.first() {
            Some(Address::Unix(_)) => sockets.chain(addresses).collect(),
            Some(Address::Tcp(_)) | None => addresses.chain(sockets).collect(),
        });
    }
    for address in &target.listen {
        let (place, is_at): (String, &dyn Fn(&Serving) -> bool) = match address {
            Address::Tcp(ListenAddress { port, .. }) => {
                (format!("port {port}"), &|serving| serving.addresses.iter().any(|address| address.port() == *port))
            }
            Address::Unix(path) => (path.display().to_string(), &|serving| serving.sockets.contains(path)),
        };
        if let Some((record, serving)) = targets.clone().find(|(_, serving)| is_at(serving)) {
            let (target, other) = (target.name.to_string(), serving.describe());
            return Err(ServedForAnother { place, target, pid: record.pid, other });
        }
    }
    Ok(Vec::new())
}

/// The target that a name on the command line of `wait` and `stop` means here.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) name: String,
    /// The database's host, where it is an endpoint.
    host: Option<String>,
    /// The file that describes it.
    pub(super) file: Option<PathBuf>,
}

impl Wanted {
    /// Looks the name up in the configuration, which may not have it: a process of another project may.
    pub(super) fn of(name: &str) -> Self {
        let request = Request { targets: vec![name.to_owned()], ..Request::default() };
        let plan = Environment::of_process()
            .and_then(|environment| crate::config::read(&request, &environment, &mut Vec::new()))
            .ok();
        let draft = plan.as_ref().and_then(|plan| plan.drafts.first());
        let host = draft.and_then(|draft| match &draft.reference {
            Reference::Host(host) if host.is_regional_endpoint() => Some(host.to_string()),
            _ => None,
        });
        let file = plan.as_ref().and_then(|plan| plan.file_of(name));
        Self { name: name.to_owned(), host, file }
    }

    /// Whether a running proxy serves it.
    pub(super) fn is(&self, serving: &Serving) -> bool {
        match (&self.file, &serving.origin) {
            (Some(file), Some(origin)) => serving.name == self.name && origin.file.as_ref() == Some(file),
            // A record of an older version.
            (Some(_), None) => serving.name == self.name && self.is_host(serving),
            // Not in the files here: an endpoint, or the name that another process shows.
            (None, _) if self.host.is_some() => self.is_host(serving),
            (None, _) => serving.name == self.name,
        }
    }

    /// Whether it is at the endpoint that is configured, as far as that is known.
    pub(super) fn is_host(&self, serving: &Serving) -> bool {
        self.host.as_deref().is_none_or(|host| host == serving.host())
    }
}

impl Record {
    /// Whether the process that wrote it still runs.
    pub(super) fn is_alive(&self) -> bool {
        started(self.pid).is_some_and(|started| started == self.started)
    }

    /// Asks it to end, as SIGTERM does.
    ///
    /// # Errors
    /// The process has ended, or belongs to another user.
    pub(super) fn terminate(&self) -> io::Result<()> {
        if self.is_alive() { Signal::Terminate.send(self.pid) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// `process 123: orders, billing`.
    pub(super) fn describe(&self) -> String {
        let names: Vec<&str> = self.targets.iter().map(|serving| serving.name.as_str()).collect();
        format!("process {}: {}", self.pid, names.join(", "))
    }
}

fn folder() -> PathBuf {
    files::runtime_folder(std::env::var_os("XDG_RUNTIME_DIR").as_deref().map(Path::new))
}

/// In a folder that others can write to somebody may have made ours before us.
fn must_be_ours(folder: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(folder)?;
    if meta.is_dir() && files::is_ours_alone(folder, &meta) {
        Ok(())
    } else {
        Err(io::Error::other(format!("{} is not a folder of this user alone", folder.display())))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};

    use super::*;

    #[test]
    fn leftovers_of_killed_processes_are_swept() {
        let folder = tempfile::tempdir().unwrap();
        let own = format!("{}.sock.lock", std::process::id());
        for name in ["4000000000.sock", "4000000001.sock.lock", &own, "x.sock", "4000000000.txt"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        sweep(folder.path());
        let left = fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap());
        let left: std::collections::BTreeSet<String> = left.collect();
        assert_eq!(left, [own, "x.sock".into(), "4000000000.txt".into()].into());
    }

    fn serving() -> Vec<Serving> {
        vec![Serving {
            name: "orders".into(),
            engine: "postgres".into(),
            endpoint: "orders.example:5432".into(),
            addresses: vec!["127.0.0.1:5432".parse().unwrap(), "[::1]:5432".parse().unwrap()],
            sockets: Vec::new(),
            origin: Some(Origin { user: Some("app".into()), file: Some("/a/.rdsgate.toml".into()) }),
        }]
    }

    #[test]
    fn record_lives_as_long_as_its_process_keeps_it() {
        let folder = tempfile::tempdir().unwrap().path().join("a/rdsgate");
        let mut own = announce_in(&folder, serving()).unwrap();
        let found = all_in(&folder);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].pid, &found[0].targets), (std::process::id(), &serving()));
        assert_eq!(found[0].describe(), format!("process {}: orders", std::process::id()));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&own.path)), (0o700, 0o600));
        own.stopping();
        assert!(all_in(&folder)[0].stopping);
        drop(own);
        assert_eq!(all_in(&folder), []);
    }

    #[test]
    fn record_of_an_ended_process_is_removed_without_a_signal() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        // Our own id, but somebody who started at another time.
        let stale = Record { pid: std::process::id(), started: "1".into(), targets: serving(), stopping: false };
        assert_eq!(stale.terminate().unwrap_err().kind(), io::ErrorKind::NotFound);
        let path = folder.path().join("1.json");
        fs::write(&path, serde_json::to_string(&stale).unwrap()).unwrap();
        fs::write(folder.path().join("nothing.json"), "not JSON").unwrap();
        assert_eq!(all_in(folder.path()), []);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn records_of_other_versions_are_read_or_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let pid = std::process::id();
        let started = started(pid).unwrap();
        let older = format!(
            r#"{{"pid":{pid},"started":"{started}","targets":[{{"name":"orders","engine":"postgres",
            "endpoint":"orders.example:5432","addresses":["127.0.0.1:5432"]}}]}}"#
        );
        let path = folder.path().join(format!("{pid}.json"));
        fs::write(&path, older).unwrap();
        assert_eq!(all_in(folder.path())[0].targets[0].origin, None);
        let newer = format!(
            r#"{{"pid":{pid},"started":"{started}","more":1,"targets":[{{"name":"orders","engine":"oracle","more":[],
            "endpoint":"orders.example:5432","addresses":[],"origin":{{"user":null,"file":null,"more":1}}}}]}}"#
        );
        fs::write(&path, newer).unwrap();
        assert_eq!(all_in(folder.path()).len(), 1, "what is not known is passed over");
        fs::write(&path, r#"{"format":2}"#).unwrap();
        assert_eq!(all_in(folder.path()), []);
        assert!(path.exists(), "its process lives");
    }

    #[test]
    fn target_is_recognized_by_endpoint_user_and_file() {
        let target = crate::local_connection::tests::target(crate::target::Engine::Postgres, Some("app"), None, "5432");
        let file = PathBuf::from("/a/.rdsgate.toml");
        let record = |change: &dyn Fn(&mut Serving)| {
            let mut targets = serving();
            targets[0].endpoint = target.endpoint.to_string();
            change(&mut targets[0]);
            vec![Record { pid: 7, started: "1".into(), targets, stopping: false }]
        };
        let origin = |user: &str, file: &str| Some(Origin { user: Some(user.into()), file: Some(file.into()) });
        let served = record(&|_| {});
        assert!(!address_in(&served, &target, Some(&file)).unwrap().is_empty());
        assert!(!address_in(&served, &target, None).unwrap().is_empty(), "its endpoint on the command line");
        assert!(
            !address_in(&record(&|serving| serving.origin = None), &target, Some(&file)).unwrap().is_empty(),
            "older"
        );
        for (what, other) in [
            ("endpoint", record(&|serving| serving.endpoint = "other.example:5432".into())),
            ("user", record(&|serving| serving.origin = origin("other", "/a/.rdsgate.toml"))),
            ("file", record(&|serving| serving.origin = origin("app", "/b/.rdsgate.toml"))),
            ("name", record(&|serving| serving.name = "other".into())),
        ] {
            let error = address_in(&other, &target, Some(&file)).unwrap_err().to_string();
            assert!(error.starts_with("port 5432 is served by process 7 for "), "{what}: {error}");
            let mut elsewhere = target.clone();
            elsewhere.listen = vec![Address::Tcp(ListenAddress::localhost(5433))];
            assert_eq!(address_in(&other, &elsewhere, Some(&file)).unwrap(), [], "{what}");
        }
    }

    #[test]
    fn name_in_a_file_means_the_target_of_that_file() {
        let wanted = |host: Option<&str>, file: Option<&str>| Wanted {
            name: "orders".into(),
            host: host.map(str::to_owned),
            file: file.map(PathBuf::from),
        };
        let serving = &serving()[0];
        assert!(wanted(None, Some("/a/.rdsgate.toml")).is(serving));
        assert!(!wanted(None, Some("/b/.rdsgate.toml")).is(serving));
        assert!(wanted(None, None).is(serving), "the name that it shows");
        assert!(wanted(Some("orders.example"), None).is(serving));
        assert!(!wanted(Some("other.example"), None).is(serving));
        assert!(!wanted(Some("other.example"), Some("/a/.rdsgate.toml")).is_host(serving));
    }

    #[test]
    fn folder_that_others_can_enter_is_ignored() {
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
