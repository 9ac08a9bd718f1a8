//! The program that listens on a local port or a unix socket, from the kernel. Only for the text of an error; it may be unknown.

use std::{fmt, net::SocketAddr};

use crate::platform::{Listening, peers};

/// The program that listens on an address, as far as it can be known.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct PortOwner {
    /// Process id and name. Only root can see those of other users' processes.
    pub process: Option<(u32, String)>,
    /// The user id of the socket.
    pub user: Option<u32>,
}

impl PortOwner {
    /// Whether it is another process of this program.
    pub fn is_rdsgate(&self) -> bool {
        self.process.as_ref().is_some_and(|(_, name)| name == "rdsgate")
    }
}

impl fmt::Display for PortOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.process, self.user) {
            (Some((pid, name)), _) => write!(f, "{name} (process {pid})"),
            (None, Some(user)) => write!(f, "a program of user id {user}"),
            (None, None) => f.write_str("another program"),
        }
    }
}

/// The program that listens on `address`, or on its port on all addresses.
pub(super) fn of(address: SocketAddr) -> PortOwner {
    let Listening { process, user } = peers::listening_at(address);
    PortOwner { process, user }
}

/// The program that listens on a unix socket, by what the kernel says of the process that made it listen.
#[cfg(unix)]
pub(super) fn at_other_end(stream: &tokio::net::UnixStream) -> PortOwner {
    let Ok(credentials) = stream.peer_cred() else { return PortOwner::default() };
    let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok());
    PortOwner { process: pid.map(|pid| (pid, peers::name_of(pid))), user: Some(credentials.uid()) }
}
