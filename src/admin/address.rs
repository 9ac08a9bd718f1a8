//! Where the endpoints are: a port on loopback, or a unix socket that only our own user can reach.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

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
    /// There is something else.
    #[error("{} is there already, and is no socket", .0.display())]
    NoSocket(PathBuf),
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
            Self::Tcp(listener::Error::Taken { .. }) | Self::Taken(_) | Self::NoSocket(_) => {
                Some("stop that program, or choose another address with --admin (port 0 takes a free one)".into())
            }
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

/// Removes the socket's file when dropped, if it is still the one that was made.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if inode(&self.path).is_ok_and(|inode| inode == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
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
    make_room(path).await?;
    let listener = listen_on(path).map_err(failed)?;
    let file = SocketFile { path: path.to_owned(), inode: inode(path).map_err(failed)? };
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

/// Removes what a process left behind that could not do so itself.
async fn make_room(path: &Path) -> Result<(), Error> {
    let Ok(meta) = fs::symlink_metadata(path) else { return Ok(()) };
    if !meta.file_type().is_socket() {
        return Err(Error::NoSocket(path.to_owned()));
    }
    match timeout(PROBE_TIMEOUT, UnixStream::connect(path)).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|cause| Error::Unix { path: path.to_owned(), cause })
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

    #[tokio::test]
    async fn only_a_socket_that_nobody_listens_on_is_replaced() {
        let directory = directory(0o755);
        let path = directory.path().join("admin.sock");
        // As a process leaves it that was killed.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let (_listener, file) = bind_unix(&path).await.unwrap();
        // And one that somebody else has put there since is not ours to remove.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "a file").unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "a file");
        assert!(matches!(bind_unix(&path).await, Err(Error::NoSocket(_))));
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
