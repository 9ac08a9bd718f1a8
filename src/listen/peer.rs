//! The client of a connection.

use std::{fmt, net::SocketAddr};

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
        /// The effective user id of the process that connected (SO_PEERCRED); `None` if the kernel does not report it.
        uid: Option<u32>,
    },
}

impl Peer {
    /// Whether the listener has an address that only this machine reaches.
    pub fn is_at_local_address(self) -> bool {
        match self {
            Self::Tcp { local, .. } => local.ip().to_canonical().is_loopback(),
            Self::Unix { .. } => true,
        }
    }
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
