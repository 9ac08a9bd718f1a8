//! Addresses to listen on, and addresses that listeners are bound to.

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

use crate::target::{ListenAddress, Target};

/// The most connections that may wait to be accepted, which the system cuts to its own maximum (`net.core.somaxconn`). Further
/// connections are dropped, and their clients retry after a second or fail.
pub(super) const BACKLOG: u32 = u32::MAX;
/// A program that listens on this machine answers at once.
pub(super) const PROBE_TIMEOUT: Duration = Duration::from_millis(300);

/// A local address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// TCP on loopback.
    Tcp(ListenAddress),
    /// A unix socket at this path.
    Unix(PathBuf),
}

impl Address {
    /// The local address for clients of a target.
    pub fn of(target: &Target) -> Self {
        Self::Tcp(target.listen.clone())
    }
}

/// The address that a listener is bound to, with the port that the system chose for port 0.
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
