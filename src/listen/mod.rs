//! Local endpoints, where programs of this machine connect to us: TCP on loopback, or a unix socket. The proxy and the admin
//! server use the same types.
//!
//! ```text
//!   Address ─▶ bind ─▶ Listener::accept ─▶ Accepted { stream, peer } ─▶ access::check ─▶ User, or a refusal
//!                      └ local() ─▶ Local, for people and for /status
//! ```
//!
//! A listener decides nothing: it hands out what the kernel tells of the peer, and [`access`] decides with it.

pub mod access;
pub mod port_owner;
mod stream;
mod tcp;
mod unix;

use std::{fmt, io, net::SocketAddr, path::PathBuf, time::Duration};

use tokio::net::{TcpListener, UnixListener};
use tracing::warn;

pub use self::stream::Stream;
use self::{port_owner::PortOwner, unix::SocketFile};
use crate::target::{ListenAddress, Target};

/// The most connections that may wait to be accepted, which the system cuts to its own maximum (`net.core.somaxconn`). What
/// does not fit is dropped, and its client tries again after a second or fails.
const BACKLOG: u32 = u32::MAX;
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

impl Address {
    /// Where the clients of a target connect.
    pub fn of(target: &Target) -> Self {
        Self::Tcp(target.listen.clone())
    }
}

/// Where a listener is bound, with the port that the system chose if it was to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Local {
    /// An address of this machine.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
}

impl Local {
    /// The TCP address; `None` for a unix socket.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The client of an accepted connection, as the kernel identifies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A TCP connection, by the addresses of both its ends.
    Tcp {
        /// The client's end.
        remote: SocketAddr,
        /// Our end.
        local: SocketAddr,
    },
    /// A connection to a unix socket.
    Unix {
        /// The effective user id of the process that connected (SO_PEERCRED); `None` when the kernel did not tell it.
        uid: Option<u32>,
    },
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { remote, .. } => remote.fmt(f),
            Self::Unix { uid: Some(uid) } => write!(f, "unix:uid={uid}"),
            Self::Unix { uid: None } => f.write_str("unix"),
        }
    }
}

/// An accepted connection.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: Stream,
    /// Its client.
    pub peer: Peer,
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another program has the port.
    #[error("port {} is taken: {owner} listens on {address}", address.port())]
    PortTaken {
        /// Where it listens.
        address: SocketAddr,
        /// That program, as far as it can be known.
        owner: PortOwner,
    },
    /// Another program listens on the socket.
    #[error("{} is taken: a program answers there", .0.display())]
    PathTaken(PathBuf),
    /// Another user could replace the socket.
    #[error("the directory {} is writable by other users", .0.display())]
    Directory(PathBuf),
    /// The path is in use by something that rdsgate did not create, and so does not remove.
    #[error("{} exists already, and rdsgate did not create it", .0.display())]
    NotOurs(PathBuf),
    /// Any other failure of the system.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: Local,
        /// The system's reason.
        #[source]
        cause: io::Error,
    },
}

impl Error {
    /// What to do about it, where `option` sets the address.
    pub fn hint(&self, option: &str) -> Option<String> {
        match self {
            Self::PortTaken { .. } => {
                Some(format!("stop that program, or choose another port with {option} (0 takes a free one)"))
            }
            Self::PathTaken(_) => Some(format!("stop that program, or choose another path with {option}")),
            Self::NotOurs(_) => Some(format!("remove it if nothing needs it, or choose another path with {option}")),
            Self::Directory(_) => Some("use one with mode 0700 that belongs to you, such as $XDG_RUNTIME_DIR".into()),
            Self::Bind { .. } => None,
        }
    }
}

/// A bound socket that takes connections. A unix socket's file is removed when this is dropped.
#[derive(Debug)]
pub struct Listener(Kind);

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

impl Listener {
    /// The next connection. Cancel safe.
    ///
    /// # Errors
    /// The system's: mostly that the process or the machine is out of file descriptors.
    pub async fn accept(&self) -> io::Result<Accepted> {
        loop {
            match &self.0 {
                Kind::Tcp(listener) => {
                    let (stream, remote) = listener.accept().await?;
                    // It fails for a client that has gone already.
                    let Ok(local) = stream.local_addr() else { continue };
                    if let Err(cause) = stream.set_nodelay(true) {
                        warn!(%cause, "cannot set TCP_NODELAY on a client");
                    }
                    return Ok(Accepted { stream: stream.into(), peer: Peer::Tcp { remote, local } });
                }
                Kind::Unix(listener, _) => {
                    let (stream, _) = listener.accept().await?;
                    let uid = stream.peer_cred().ok().map(|credentials| credentials.uid());
                    return Ok(Accepted { stream: stream.into(), peer: Peer::Unix { uid } });
                }
            }
        }
    }

    /// Where it is bound.
    ///
    /// # Errors
    /// The system's.
    pub fn local(&self) -> io::Result<Local> {
        match &self.0 {
            Kind::Tcp(listener) => listener.local_addr().map(Local::Tcp),
            Kind::Unix(_, file) => Ok(Local::Unix(file.path().to_owned())),
        }
    }
}

/// Binds an address: several listeners for a name with several addresses. With port 0 the system chooses one port that is
/// free on all of them.
///
/// # Errors
/// [`Error`]; nothing stays bound.
pub async fn bind(address: &Address) -> Result<Vec<Listener>, Error> {
    match address {
        Address::Tcp(listen) => {
            let listeners = tcp::bind(listen).await?;
            Ok(listeners.into_iter().map(|listener| Listener(Kind::Tcp(listener))).collect())
        }
        Address::Unix(path) => {
            let (listener, file) = unix::bind(path).await?;
            Ok(vec![Listener(Kind::Unix(listener, file))])
        }
    }
}

/// The name under which people reach what was bound for `address`: `localhost:9090`, `unix:/run/user/1000/rdsgate.sock`.
pub fn name(address: &Address, bound: &[Listener]) -> String {
    match address {
        Address::Tcp(listen) => {
            let local = bound.first().and_then(|listener| listener.local().ok()?.tcp());
            listen.with_port(local.map_or(listen.port, |local| local.port())).to_string()
        }
        Address::Unix(path) => Local::Unix(path.clone()).to_string(),
    }
}
