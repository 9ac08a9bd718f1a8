//! Sockets that a supervisor has bound and passes to us: sd_listen_fds(3), systemd.socket(5). They are bound before rdsgate runs and
//! while it restarts, and a port below 1024 takes no privilege of ours.
//!
//! A passed socket serves the target whose configured address it has. So the rules for addresses hold for it too, and one that no
//! target is configured for is refused instead of leaving its clients in the backlog.

use std::{io, net::TcpListener};
#[cfg(unix)]
use std::{
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
};

#[cfg(unix)]
use listenfd::ListenFd;
use tokio::net;

use super::{Kind, Listener};
use crate::target::{Address, Local};

/// The process that the sockets are for.
const PID: &str = "LISTEN_PID";
/// The number of sockets, which are the descriptors from 3 on.
const COUNT: &str = "LISTEN_FDS";
/// A name for each, joined by colons.
pub const NAMES: &str = "LISTEN_FDNAMES";
/// The first descriptor.
const FIRST: usize = 3;
/// More than any configuration has addresses, and far below any limit of open files.
const MAX_COUNT: usize = 256;

/// The sockets that were passed to this process, for as long as it runs.
#[derive(Debug, Default)]
pub struct Passed(Vec<Socket>);

/// A passed socket.
#[derive(Debug)]
pub struct Socket {
    /// `FileDescriptorName=` of its unit.
    name: String,
    /// Its address.
    pub local: Local,
    kind: Bound,
}

#[derive(Debug)]
enum Bound {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

/// The reason why passed sockets are not served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The number is not one.
    #[error("{COUNT} is {0:?}: expected a number of sockets, {MAX_COUNT} at most")]
    Count(String),
    /// A descriptor is something else.
    #[error(
        "descriptor {descriptor} was passed ({COUNT}) and is not a TCP or unix stream socket that listens at an address"
    )]
    NotListening {
        /// The descriptor.
        descriptor: usize,
        /// The system's reason, if there is one.
        #[source]
        cause: Option<io::Error>,
    },
    /// No target has the address.
    #[error("the socket {0} was passed ({COUNT}), and no target listens at that address")]
    Unknown(Local),
    /// It is named after one target and has the address of another.
    #[error("the socket {local} was passed for {name} ({NAMES}), and it is {target} that listens at that address")]
    OtherTarget {
        /// Its address.
        local: Local,
        /// Its name.
        name: String,
        /// The target that has the address.
        target: String,
    },
}

impl Error {
    /// The remedy.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Count(_) => "start rdsgate by the .socket unit, or without the variable",
            Self::NotListening { .. } => "use ListenStream= and Accept=no in the .socket unit",
            Self::Unknown(Local::Tcp(_)) => {
                "make listen of the target and ListenStream= of the .socket unit the same: localhost is 127.0.0.1 and [::1], each with \
                 a ListenStream= of its own"
            }
            Self::Unknown(Local::Unix(_)) => "write the path of ListenStream= into listen of the target",
            Self::OtherTarget { .. } => "correct FileDescriptorName= or ListenStream= of the .socket unit",
        }
    }
}

impl Passed {
    /// Takes the sockets that were passed to this process, and removes the variables from its environment. Call it before there is
    /// a second thread.
    ///
    /// # Errors
    /// [`Error::Count`], [`Error::NotListening`].
    #[cfg(unix)]
    pub fn take() -> Result<Self, Error> {
        let variable = |name: &str| std::env::var(name).ok();
        // Those of another process are not ours, nor are any without a process.
        if variable(PID).is_none_or(|pid| pid.parse() != Ok(std::process::id())) {
            return Ok(Self::default());
        }
        let count = variable(COUNT).unwrap_or_default();
        if count.parse().ok().is_none_or(|count: usize| count > MAX_COUNT) {
            return Err(Error::Count(count));
        }
        let names = variable(NAMES).unwrap_or_default();
        let mut names = names.split(':').map(str::to_owned);
        // They are closed on exec from then on.
        let mut descriptors = ListenFd::from_env();
        let sockets = (0..descriptors.len()).map(|index| {
            let not_listening = |cause| Error::NotListening { descriptor: FIRST + index, cause };
            let kind = match descriptors.take_tcp_listener(index) {
                Ok(socket) => socket.map(Bound::Tcp),
                Err(_) => {
                    descriptors.take_unix_listener(index).map_err(|cause| not_listening(Some(cause)))?.map(Bound::Unix)
                }
            };
            let kind = kind.ok_or_else(|| not_listening(None))?;
            let local = kind.local().map_err(|cause| not_listening(Some(cause)))?.ok_or_else(|| not_listening(None))?;
            Ok(Socket { name: names.next().unwrap_or_default(), local, kind })
        });
        sockets.collect::<Result<_, _>>().map(Self)
    }

    /// Windows has no such supervisor.
    ///
    /// # Errors
    /// None.
    #[cfg(windows)]
    pub fn take() -> Result<Self, Error> {
        Ok(Self::default())
    }

    /// Whether each socket has an address of one of these `targets`.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::OtherTarget`].
    pub fn check(&self, targets: &[(&str, &[Address])]) -> Result<(), Error> {
        for Socket { name, local, .. } in &self.0 {
            let serves =
                |(target, listen): &&(&str, &[Address])| self.at(listen, target).any(|one| one.local == *local);
            let Some((target, _)) = targets.iter().find(serves) else { return Err(Error::Unknown(local.clone())) };
            // systemd names a socket after its unit where the unit says nothing.
            if target != name && targets.iter().any(|(target, _)| target == name) {
                let (local, name, target) = (local.clone(), name.clone(), (*target).to_owned());
                return Err(Error::OtherTarget { local, name, target });
            }
        }
        Ok(())
    }

    /// The sockets at these addresses of a target.
    pub fn at<'a>(&'a self, listen: &'a [Address], target: &'a str) -> impl Iterator<Item = &'a Socket> {
        self.0.iter().filter(move |socket| listen.iter().any(|address| socket.is_at(address, target)))
    }
}

impl Socket {
    /// Whether it has the address of a target. Where the system would choose the port, the name of the socket decides.
    fn is_at(&self, address: &Address, target: &str) -> bool {
        match (&self.local, address) {
            (Local::Tcp(local), Address::Tcp(listen)) => {
                let is_port = local.port() == listen.port || listen.is_any_port() && self.name == target;
                is_port && listen.addresses.contains(&local.ip())
            }
            #[cfg(unix)]
            (Local::Unix(path), Address::Unix(configured)) => is_same_file(path, configured),
            _ => false,
        }
    }

    /// The socket, to be served. It stays open here, because nothing else could bind it again.
    ///
    /// # Errors
    /// The error of the system.
    pub fn listener(&self) -> io::Result<Listener> {
        Ok(Listener(match &self.kind {
            Bound::Tcp(socket) => {
                let socket = socket.try_clone()?;
                socket.set_nonblocking(true)?;
                Kind::Tcp(net::TcpListener::from_std(socket)?)
            }
            #[cfg(unix)]
            Bound::Unix(socket) => {
                let socket = socket.try_clone()?;
                socket.set_nonblocking(true)?;
                let Local::Unix(path) = &self.local else { return Err(io::ErrorKind::InvalidInput.into()) };
                Kind::PassedUnix(net::UnixListener::from_std(socket)?, path.clone())
            }
        }))
    }
}

#[cfg(unix)]
impl Bound {
    /// The address; `None` for a socket that has none or does not listen.
    fn local(&self) -> io::Result<Option<Local>> {
        Ok(match self {
            Self::Tcp(socket) => Some(Local::Tcp(socket.local_addr()?)).filter(|_| listens(socket)),
            Self::Unix(socket) => {
                let path = socket.local_addr()?.as_pathname().map(PathBuf::from);
                path.map(Local::Unix).filter(|_| listens(socket))
            }
        })
    }
}

/// Whether the socket accepts connections, as one of a unit with `Accept=yes` does not.
#[cfg(target_os = "linux")]
fn listens(socket: &impl std::os::fd::AsFd) -> bool {
    socket2::SockRef::from(socket).is_listener().unwrap_or(false)
}

#[cfg(all(unix, not(target_os = "linux")))]
fn listens(_socket: &impl std::os::fd::AsFd) -> bool {
    true
}

/// `/var/run` is a link to `/run`.
#[cfg(unix)]
fn is_same_file(one: &Path, other: &Path) -> bool {
    one == other || one.canonicalize().is_ok_and(|one| other.canonicalize().is_ok_and(|other| one == other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::ListenAddress;

    fn tcp(name: &str) -> (Socket, u16) {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = socket.local_addr().unwrap();
        (Socket { name: name.into(), local: Local::Tcp(local), kind: Bound::Tcp(socket) }, local.port())
    }

    fn localhost(port: u16) -> Vec<Address> {
        vec![Address::Tcp(ListenAddress::localhost(port))]
    }

    #[test]
    fn socket_belongs_to_the_target_that_has_its_address() {
        let (socket, port) = tcp("rdsgate.socket");
        let passed = Passed(vec![socket]);
        let (own, other) = (localhost(port), localhost(port ^ 1));
        passed.check(&[("other", &other[..]), ("orders", &own[..])]).unwrap();
        assert_eq!(passed.at(&own, "orders").count(), 1);
        assert_eq!(passed.at(&other, "other").count(), 0);
        assert!(matches!(passed.check(&[("other", &other[..])]), Err(Error::Unknown(_))));
        let everywhere =
            ListenAddress { addresses: vec!["0.0.0.0".parse().unwrap()], ..ListenAddress::localhost(port) };
        assert!(matches!(passed.check(&[("orders", &[Address::Tcp(everywhere)][..])]), Err(Error::Unknown(_))));
    }

    #[test]
    fn name_of_a_socket_chooses_between_targets_with_any_port_and_must_not_contradict() {
        let (socket, port) = tcp("orders");
        let passed = Passed(vec![socket]);
        let (any, own) = (localhost(0), localhost(port));
        passed.check(&[("billing", &any[..]), ("orders", &any[..])]).unwrap();
        assert_eq!((passed.at(&any, "orders").count(), passed.at(&any, "billing").count()), (1, 0));
        let error = passed.check(&[("billing", &own[..]), ("orders", &any[..])]).unwrap_err();
        assert!(matches!(error, Error::OtherTarget { .. }), "{error}");
        passed.check(&[("billing", &own[..])]).unwrap();
    }

    #[tokio::test]
    async fn passed_unix_socket_is_served_and_its_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gate.sock");
        let kind = Bound::Unix(UnixListener::bind(&path).unwrap());
        let local = kind.local().unwrap().unwrap();
        let socket = Socket { name: String::new(), local, kind };
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path(), &link).unwrap();
        for address in [path.clone(), link.join("gate.sock")] {
            assert!(socket.is_at(&Address::Unix(address), "orders"));
        }
        for _ in 0..2 {
            let listener = socket.listener().unwrap();
            assert_eq!(listener.local().unwrap(), Local::Unix(path.clone()));
            let client = net::UnixStream::connect(&path).await.unwrap();
            listener.accept().await.unwrap();
            drop((client, listener));
        }
        assert!(path.exists());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn socket_that_does_not_listen_has_no_address_here() {
        let (socket, port) = tcp("");
        assert!(socket.kind.local().unwrap().is_some());
        let client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let connected = Bound::Tcp(TcpListener::from(std::os::fd::OwnedFd::from(client)));
        assert_eq!(connected.local().unwrap(), None);
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let unnamed = Bound::Unix(UnixListener::from(std::os::fd::OwnedFd::from(one)));
        assert_eq!(unnamed.local().unwrap(), None);
    }
}
