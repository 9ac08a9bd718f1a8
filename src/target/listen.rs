//! The local addresses that clients connect to.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

/// The access to a unix socket by its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketAccess {
    /// The permissions of the file. A user with write permission may connect.
    pub mode: u32,
    /// The group id of the file; `None` leaves our own.
    pub group: Option<u32>,
}

impl SocketAccess {
    /// Our own user and root.
    pub const PRIVATE: Self = Self { mode: 0o600, group: None };
}

/// A local address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// TCP, on loopback or at an address that others reach.
    Tcp(ListenAddress),
    /// A unix socket at this path.
    Unix(PathBuf),
}

impl Address {
    /// The TCP address; `None` for a unix socket.
    pub fn tcp(&self) -> Option<&ListenAddress> {
        match self {
            Self::Tcp(address) => Some(address),
            Self::Unix(_) => None,
        }
    }

    /// Whether other machines may reach it.
    pub fn is_open(&self) -> bool {
        self.tcp().is_some_and(|address| !address.is_loopback())
    }

    /// The path of a unix socket.
    pub fn unix(&self) -> Option<&Path> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix(path) => Some(path),
        }
    }

    /// Its name for people, with the port that is `bound`: `localhost:9090`, `unix:/run/user/1000/rdsgate.sock`.
    pub fn named(&self, bound: &[Local]) -> String {
        match self {
            Self::Tcp(listen) if listen.is_any_port() => {
                let of_listen = |local: &SocketAddr| listen.addresses.contains(&local.ip());
                let port = bound.iter().filter_map(Local::tcp).find(of_listen).map(|local| local.port());
                listen.with_port(port.unwrap_or_default()).to_string()
            }
            Self::Tcp(_) | Self::Unix(_) => self.to_string(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A TCP address for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddress {
    /// The host as configured: `localhost` or one address.
    pub host: String,
    /// The addresses to bind: for `localhost` 127.0.0.1 first, then `::1`.
    pub addresses: Vec<IpAddr>,
    /// The port; 0 lets the system choose (the same one on every address).
    pub port: u16,
}

impl ListenAddress {
    /// Whether only programs of this machine reach it.
    pub fn is_loopback(&self) -> bool {
        self.addresses.iter().all(|address| address.to_canonical().is_loopback())
    }

    /// Whether it is reached at an address: at one of its own, or at any address of a machine where it listens on all of them.
    /// `::` stands for IPv4 addresses too.
    pub fn is_at(&self, ip: IpAddr) -> bool {
        let reaches = |own: &IpAddr| *own == ip || own.is_unspecified() && (own.is_ipv6() || ip.is_ipv4());
        self.addresses.iter().any(reaches)
    }

    /// `localhost`, which is both loopback addresses.
    pub fn localhost(port: u16) -> Self {
        let addresses = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        Self { host: "localhost".into(), addresses, port }
    }

    /// Whether the system chooses the port, which is known once the address is bound.
    pub fn is_any_port(&self) -> bool {
        self.port == 0
    }

    /// The address with the port that it was bound to.
    #[must_use]
    pub fn with_port(&self, port: u16) -> Self {
        Self { port, ..self.clone() }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, .. } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
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

    /// The path of a unix socket.
    pub fn unix(&self) -> Option<&Path> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix(path) => Some(path),
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
