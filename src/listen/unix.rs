//! Unix sockets in folders that only our own user can write to.
//!
//! A socket's file outlives a process that was killed. Only a socket that rdsgate itself created is removed: `PATH.lock` beside
//! it (as PostgreSQL has one) is locked while its process runs, and records the socket by device, inode and time.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

pub(super) use tokio::net::UnixListener;
use tokio::{
    net::{UnixSocket, UnixStream},
    time::timeout,
};

use super::{
    error::{Error, MAX_PATH},
    limits::{BACKLOG, PROBE_TIMEOUT},
    peer::Peer,
    port_owner,
    stream::Stream,
};
use crate::{
    platform::files,
    target::{Local, SocketAccess},
};

/// Removes the file of a socket when dropped, if it is still the one that was created, and the record of it.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    made: Made,
    /// The lock on the path, held while the socket is served.
    lock: Lock,
}

impl SocketFile {
    /// The path of the socket.
    pub(super) fn local(&self) -> Local {
        Local::Unix(self.path.clone())
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if Made::at(&self.path).is_ok_and(|made| made == self.made) {
            let _ = fs::remove_file(&self.path);
        }
        let _ = fs::remove_file(&self.lock.path);
    }
}

/// The identity of a socket's file. Its modification time distinguishes it from a later file with the same inode; unlike the
/// change time, it survives a change of permissions.
#[derive(Debug, PartialEq, Eq)]
struct Made(String);

impl Made {
    fn at(path: &Path) -> io::Result<Self> {
        let meta = fs::symlink_metadata(path)?;
        Ok(Self(format!("{} {} {}.{:09}\n", meta.dev(), meta.ino(), meta.mtime(), meta.mtime_nsec())))
    }
}

/// The record of the socket at a path, held by one process at a time.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    /// Takes the lock of the socket at `path`; `None` when another process has it.
    fn take(path: &Path) -> io::Result<Option<Self>> {
        let mut name = OsString::from(path);
        name.push(".lock");
        let path = PathBuf::from(name);
        let file = files::open_private(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { path, file })),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// Whether the socket at `path` is the one on record.
    fn records(&self, path: &Path) -> io::Result<bool> {
        const MAX_RECORD: u64 = 200;
        let mut record = String::new();
        (&self.file).take(MAX_RECORD).read_to_string(&mut record)?;
        Ok(Made::at(path)? == Made(record))
    }

    fn record(&self, made: &Made) -> io::Result<()> {
        let mut file = &self.file;
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(made.0.as_bytes())
    }
}

/// The next connection. Cancel safe.
///
/// # Errors
/// The error of the system.
pub(super) async fn accept(listener: &UnixListener) -> io::Result<(Stream, Peer)> {
    let (stream, _) = listener.accept().await?;
    let uid = stream.peer_cred().ok().map(|credentials| credentials.uid());
    Ok((stream.into(), Peer::Unix { uid }))
}

/// Binds a unix socket, and replaces one that rdsgate has left behind there.
///
/// # Errors
/// [`Error`]; nothing stays bound.
pub(super) async fn bind(path: &Path, access: SocketAccess) -> Result<(UnixListener, SocketFile), Error> {
    if path.as_os_str().len() > MAX_PATH {
        return Err(Error::PathTooLong(path.to_owned()));
    }
    let failed = |cause| Error::Bind { address: Local::Unix(path.to_owned()), cause };
    let directory = folder_of(path);
    let meta = fs::metadata(directory).map_err(failed)?;
    // One with the sticky bit too: another user could be the first to take the name.
    if !files::only_we_write(directory, &meta) {
        return Err(Error::Directory(directory.to_owned()));
    }
    let Some(lock) = Lock::take(path).map_err(failed)? else { return Err(taken(path).await) };
    if let Err(error) = make_room(path, &lock).await {
        let _ = fs::remove_file(&lock.path);
        return Err(error);
    }
    let socket = UnixSocket::new_stream().map_err(failed)?;
    socket.bind(path).map_err(failed)?;
    let made = Made::at(path).map_err(failed)?;
    lock.record(&made).map_err(failed)?;
    let file = SocketFile { path: path.to_owned(), made, lock };
    // A client cannot connect before `listen`, whose backlog is longer than that of `UnixListener::bind`.
    permit(path, access.mode, access.group).map_err(failed)?;
    Ok((socket.listen(BACKLOG).map_err(failed)?, file))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn permit(path: &Path, mode: u32, group: Option<u32>) -> io::Result<()> {
    if group.is_some() {
        std::os::unix::fs::chown(path, None, group)?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Makes the folder of a socket if it is missing. Its owner alone may write to it; all users may enter it if the socket is for others
/// too.
///
/// # Errors
/// [`Error::Bind`].
pub(super) fn make_folder(path: &Path, access: SocketAccess) -> Result<(), Error> {
    let failed = |cause| Error::Bind { address: Local::Unix(path.to_owned()), cause };
    let folder = folder_of(path);
    if folder.exists() {
        return Ok(());
    }
    // The other users of a socket must get to it.
    let mode = if access.mode & 0o066 == 0 { 0o700 } else { 0o755 };
    DirBuilder::new().recursive(true).mode(mode).create(folder).map_err(failed)?;
    permit(folder, mode, None).map_err(failed)
}

/// The error for a socket that another process serves.
async fn taken(path: &Path) -> Error {
    let stream = timeout(PROBE_TIMEOUT, UnixStream::connect(path)).await;
    let owner = stream.ok().and_then(Result::ok).map(|stream| port_owner::at_other_end(&stream));
    Error::PathTaken { path: path.to_owned(), owner: owner.unwrap_or_default() }
}

/// Removes the socket of an rdsgate process that was killed.
async fn make_room(path: &Path, lock: &Lock) -> Result<(), Error> {
    let failed = |cause| Error::Bind { address: Local::Unix(path.to_owned()), cause };
    let Ok(meta) = fs::symlink_metadata(path) else { return Ok(()) };
    if !meta.file_type().is_socket() {
        return Err(Error::NotOurs(path.to_owned()));
    }
    match timeout(PROBE_TIMEOUT, UnixStream::connect(path)).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            if !lock.records(path).map_err(failed)? {
                return Err(Error::NotOurs(path.to_owned()));
            }
            fs::remove_file(path).map_err(failed)
        }
        _ => Err(taken(path).await),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(mode: u32) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
        directory
    }

    #[tokio::test]
    async fn socket_is_private_to_our_user_and_removed_at_the_end() {
        let directory = directory(0o700);
        let path = directory.path().join("admin.sock");
        let (listener, file) = bind(&path, SocketAccess::PRIVATE).await.unwrap();
        assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(
            matches!(bind(&path, SocketAccess::PRIVATE).await, Err(Error::PathTaken { owner, .. }) if owner.process.is_some()),
            "a program answers"
        );
        drop((listener, file));
        assert!(!path.exists());
    }

    /// Leaves the files as a process does that is killed.
    fn kill((listener, file): (UnixListener, SocketFile)) {
        drop(listener);
        file.lock.file.unlock().unwrap();
        std::mem::forget(file);
    }

    #[tokio::test]
    async fn only_a_stale_socket_of_rdsgate_is_replaced() {
        let directory = directory(0o755);
        let path = directory.path().join("admin.sock");
        kill(bind(&path, SocketAccess::PRIVATE).await.unwrap());
        assert!(path.exists());
        kill(bind(&path, SocketAccess::PRIVATE).await.unwrap());
        // Another program's socket has taken its place since, and does not answer either.
        fs::remove_file(&path).unwrap();
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(matches!(bind(&path, SocketAccess::PRIVATE).await, Err(Error::NotOurs(_))));
        assert!(path.exists());
        fs::remove_file(&path).unwrap();
        let (_listener, file) = bind(&path, SocketAccess::PRIVATE).await.unwrap();
        // What another program puts there while we run is not ours to remove either.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "a file").unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "a file");
        assert!(matches!(bind(&path, SocketAccess::PRIVATE).await, Err(Error::NotOurs(_))));
    }

    #[tokio::test]
    async fn stale_socket_of_another_program_stays() {
        let directory = directory(0o700);
        let path = directory.path().join("agent.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let error = bind(&path, SocketAccess::PRIVATE).await.unwrap_err();
        assert!(matches!(error, Error::NotOurs(_)), "{error}");
        assert!(path.exists() && error.hint("--admin").is_some());
        // A link in the place of the record is not followed.
        fs::remove_file(&path).unwrap();
        let precious = directory.path().join("precious");
        fs::write(&precious, "text").unwrap();
        let record = directory.path().join("agent.sock.lock");
        let _ = fs::remove_file(&record);
        std::os::unix::fs::symlink(&precious, &record).unwrap();
        assert!(matches!(bind(&path, SocketAccess::PRIVATE).await, Err(Error::Bind { .. })));
        assert_eq!(fs::read_to_string(&precious).unwrap(), "text");
    }

    #[tokio::test]
    async fn directory_writable_by_other_users_is_refused() {
        for mode in [0o777, 0o1777, 0o770] {
            let directory = directory(mode);
            let refused = bind(&directory.path().join("admin.sock"), SocketAccess::PRIVATE).await;
            assert!(matches!(refused, Err(Error::Directory(_))), "{mode:o}");
        }
        let missing = bind(&directory(0o700).path().join("missing/admin.sock"), SocketAccess::PRIVATE).await;
        assert!(matches!(missing, Err(Error::Bind { .. })));
    }

    #[tokio::test]
    async fn folder_that_is_made_can_be_entered_by_those_who_may_open_the_socket() {
        let directory = directory(0o700);
        for (mode, expected) in [(0o600, 0o700), (0o660, 0o755), (0o666, 0o755)] {
            let path = directory.path().join(format!("{mode:o}/of mine/gate.sock"));
            let access = SocketAccess { mode, group: None };
            make_folder(&path, access).unwrap();
            let (_listener, _file) = bind(&path, access).await.unwrap();
            let folder = path.parent().unwrap();
            assert_eq!(fs::metadata(folder).unwrap().mode() & 0o777, expected);
            assert_eq!(fs::metadata(folder.parent().unwrap()).unwrap().mode() & 0o777 & !expected, 0);
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, mode);
        }
    }

    #[tokio::test]
    async fn path_that_is_too_long_is_refused_with_its_length() {
        let directory = directory(0o700);
        let path = directory.path().join("x".repeat(MAX_PATH));
        let error = bind(&path, SocketAccess::PRIVATE).await.unwrap_err();
        let length = path.as_os_str().len();
        let expected =
            format!("the path of a unix socket has at most {MAX_PATH} bytes: {} has {length}", path.display());
        assert_eq!(error.to_string(), expected);
        assert!(fs::read_dir(directory.path()).unwrap().next().is_none(), "nothing is left behind");
        let longest = MAX_PATH - directory.path().as_os_str().len() - 1;
        bind(&directory.path().join("x".repeat(longest)), SocketAccess::PRIVATE).await.unwrap();
    }
}
