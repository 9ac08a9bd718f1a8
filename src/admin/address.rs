//! Where the endpoints are: a port on loopback, or a unix socket that only our own user can reach.

//!
//! A socket's file outlives a process that was killed. Only a socket that rdsgate itself made is removed: beside it lies
//! `PATH.lock` (as PostgreSQL has one), locked while its process runs, which records the socket by device, inode and time.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{Mode, OFlags};

use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixSocket, UnixStream},
    time::timeout,
};
use tokio_util::either::Either;

use crate::{
    proxy::{access, listener},
    target::ListenAddress,
};

/// A program that listens on this machine answers at once.
const PROBE_TIMEOUT: Duration = Duration::from_millis(300);

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// TCP on loopback.
    Tcp(ListenAddress),
    /// A unix socket at this path.
    Unix(PathBuf),
}

/// Why that is not possible.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The port.
    #[error(transparent)]
    Tcp(#[from] listener::Error),
    /// Somebody else could put a socket of their own in its place.
    #[error("the directory {} is not ours alone to write in", .0.display())]
    Directory(PathBuf),
    /// There is something that rdsgate did not make, and so does not remove.
    #[error("{} is there already, and rdsgate did not make it", .0.display())]
    NotOurs(PathBuf),
    /// Another program listens there.
    #[error("{} is taken: a program answers there", .0.display())]
    Taken(PathBuf),
    /// Anything else.
    #[error("cannot listen on {}", path.display())]
    Unix {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Tcp(listener::Error::Taken { .. }) | Self::Taken(_) => {
                Some("stop that program, or choose another address with --admin (port 0 takes a free one)".into())
            }
            Self::NotOurs(_) => Some("remove it if nothing needs it, or choose another path with --admin".into()),
            Self::Directory(_) => Some("use one with mode 0700 that belongs to you, such as $XDG_RUNTIME_DIR".into()),
            Self::Tcp(_) | Self::Unix { .. } => None,
        }
    }
}

/// What is listened on.
pub(super) struct Bound {
    pub(super) listeners: Vec<Listener>,
    /// Where that is, with the port that the system chose if it was to.
    pub(super) name: String,
    pub(super) file: Option<SocketFile>,
}

pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A connection by either.
pub(super) type Stream = Either<TcpStream, UnixStream>;

impl Listener {
    /// The next connection, and whether whoever made it may ask. Cancel safe.
    pub(super) async fn accept(&self) -> io::Result<(Stream, Result<(), access::Error>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                let admitted = access::check_peer(peer, stream.local_addr()?).map(drop);
                Ok((Either::Left(stream), admitted))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let admitted = access::check_user(stream.peer_cred()?.uid());
                Ok((Either::Right(stream), admitted))
            }
        }
    }
}

/// Removes the socket's file when dropped, if it is still the one that was made, and the record of it.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    made: Made,
    /// Locked until then.
    lock: Lock,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if Made::at(&self.path).is_ok_and(|made| made == self.made) {
            let _ = fs::remove_file(&self.path);
        }
        let _ = fs::remove_file(&self.lock.path);
    }
}

/// Which socket was made. The time of its making tells it from a later one that was given the same inode; unlike the time of
/// its change it outlives a change of permissions.
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
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR)?);
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

/// Binds an address.
///
/// # Errors
/// [`Error`]; nothing stays bound.
pub(super) async fn bind(address: &Address) -> Result<Bound, Error> {
    match address {
        Address::Tcp(listen) => {
            let listeners = listener::bind(listen).await?;
            let bound = listeners.first().and_then(|listener| listener.local_addr().ok());
            let port = bound.map_or(listen.port, |bound| bound.port());
            let host = if listen.host.contains(':') { format!("[{}]", listen.host) } else { listen.host.clone() };
            let listeners = listeners.into_iter().map(Listener::Tcp).collect();
            Ok(Bound { listeners, name: format!("{host}:{port}"), file: None })
        }
        Address::Unix(path) => {
            let (listener, file) = bind_unix(path).await?;
            let name = format!("unix:{}", path.display());
            Ok(Bound { listeners: vec![Listener::Unix(listener)], name, file: Some(file) })
        }
    }
}

async fn bind_unix(path: &Path) -> Result<(UnixListener, SocketFile), Error> {
    let failed = |cause| Error::Unix { path: path.to_owned(), cause };
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let meta = fs::metadata(directory).map_err(failed)?;
    if meta.uid() != rustix::process::geteuid().as_raw() || meta.mode() & 0o022 != 0 {
        return Err(Error::Directory(directory.to_owned()));
    }
    let lock = Lock::take(path).map_err(failed)?.ok_or_else(|| Error::Taken(path.to_owned()))?;
    if let Err(error) = make_room(path, &lock).await {
        let _ = fs::remove_file(&lock.path);
        return Err(error);
    }
    let listener = listen_on(path).map_err(failed)?;
    let made = Made::at(path).map_err(failed)?;
    lock.record(&made).map_err(failed)?;
    let file = SocketFile { path: path.to_owned(), made, lock };
    // Whoever connects before this is refused by the check of the peer's user.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok((listener, file))
}

/// As `UnixListener::bind`, whose backlog is shorter.
fn listen_on(path: &Path) -> io::Result<UnixListener> {
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    socket.listen(listener::BACKLOG)
}

/// Removes what a process of ours left behind that could not do so itself.
async fn make_room(path: &Path, lock: &Lock) -> Result<(), Error> {
    let failed = |cause| Error::Unix { path: path.to_owned(), cause };
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
        _ => Err(Error::Taken(path.to_owned())),
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
    async fn a_socket_is_our_users_alone_and_goes_with_us() {
        let directory = directory(0o700);
        let path = directory.path().join("admin.sock");
        let (listener, file) = bind_unix(&path).await.unwrap();
        assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(matches!(bind_unix(&path).await, Err(Error::Taken(_))), "somebody answers");
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
    async fn only_a_socket_of_ours_that_nobody_listens_on_is_replaced() {
        let directory = directory(0o755);
        let path = directory.path().join("admin.sock");
        kill(bind_unix(&path).await.unwrap());
        assert!(path.exists());
        kill(bind_unix(&path).await.unwrap());
        // Another program's socket has taken its place since, and does not answer either.
        fs::remove_file(&path).unwrap();
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(matches!(bind_unix(&path).await, Err(Error::NotOurs(_))));
        assert!(path.exists());
        fs::remove_file(&path).unwrap();
        let (_listener, file) = bind_unix(&path).await.unwrap();
        // What another program puts there while we run is not ours to remove either.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "a file").unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "a file");
        assert!(matches!(bind_unix(&path).await, Err(Error::NotOurs(_))));
    }

    #[tokio::test]
    async fn socket_of_another_program_that_does_not_answer_stays() {
        let directory = directory(0o700);
        let path = directory.path().join("agent.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let error = bind_unix(&path).await.unwrap_err();
        assert!(matches!(error, Error::NotOurs(_)), "{error}");
        assert!(path.exists() && error.hint().is_some());
        // A link in the place of the record is not followed.
        fs::remove_file(&path).unwrap();
        let precious = directory.path().join("precious");
        fs::write(&precious, "text").unwrap();
        let record = directory.path().join("agent.sock.lock");
        let _ = fs::remove_file(&record);
        std::os::unix::fs::symlink(&precious, &record).unwrap();
        assert!(matches!(bind_unix(&path).await, Err(Error::Unix { .. })));
        assert_eq!(fs::read_to_string(&precious).unwrap(), "text");
    }

    #[tokio::test]
    async fn a_directory_that_others_write_in_is_refused() {
        for mode in [0o777, 0o1777, 0o770] {
            let directory = directory(mode);
            let refused = bind_unix(&directory.path().join("admin.sock")).await;
            assert!(matches!(refused, Err(Error::Directory(_))), "{mode:o}");
        }
        let missing = bind_unix(&directory(0o700).path().join("missing/admin.sock")).await;
        assert!(matches!(missing, Err(Error::Unix { .. })));
    }
}
