//! The network behind the managed nodes: the destination of each host name and port.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{net::TcpStream, sync::watch};

/// The time that Linux tries to connect to an address that does not answer.
const DIAL_TIMEOUT: Duration = Duration::from_secs(127);

/// Addresses that agents refuse to forward to (amazon-ssm-agent `port.go`, validateParameters).
const FORBIDDEN: [&str; 9] = [
    "169.254.169.254",
    "169.254.169.253",
    "169.254.169.123",
    "169.254.169.250",
    "169.254.169.251",
    "fd00:ec2::254",
    "fd00:ec2::253",
    "fd00:ec2::123",
    "fd00:ec2::240",
];

/// The destination of a host name and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// To this address. Nothing listening there is a refused dial.
    Address(SocketAddr),
    /// Into a black hole: packets are dropped, a dial hangs until the system gives up after two minutes.
    BlackHole,
    /// Nowhere: the name does not resolve. The session ends right after its handshake.
    Unresolvable,
    /// To an address that agents do not forward to: the session ends right after its handshake.
    Forbidden,
    /// Nowhere: the session ends right after its handshake with these words, as those of an account whose preferences cannot
    /// be kept do.
    Refused(&'static str),
}

/// The names, changeable at any time; sessions keep what they resolved.
pub(super) struct Network {
    names: Mutex<HashMap<(String, u16), Destination>>,
    /// While true, dials wait.
    hold: watch::Sender<bool>,
}

impl Network {
    pub(super) fn new(names: impl IntoIterator<Item = ((String, u16), Destination)>) -> Self {
        Self { names: Mutex::new(names.into_iter().collect()), hold: watch::Sender::new(false) }
    }

    pub(super) fn set(&self, host: &str, port: u16, destination: Destination) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.insert((host.to_ascii_lowercase(), port), destination);
    }

    pub(super) fn resolve(&self, host: &str, port: u16) -> Destination {
        if FORBIDDEN.contains(&host) {
            return Destination::Forbidden;
        }
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let found = names.get(&(host.to_ascii_lowercase(), port)).cloned();
        // A known name with another port resolves, but nothing listens there; so does the node itself.
        let known = host == "localhost" || names.keys().any(|(name, _)| name.eq_ignore_ascii_case(host));
        found.unwrap_or(if known { Destination::Address(closed_port()) } else { Destination::Unresolvable })
    }

    pub(super) fn hold_dials(&self, hold: bool) {
        self.hold.send_replace(hold);
    }

    /// Connects, as slowly as the network is.
    pub(super) async fn dial(&self, destination: &Destination) -> io::Result<TcpStream> {
        // The sender lives as long as we do.
        let _ = self.hold.subscribe().wait_for(|hold| !hold).await;
        match destination {
            Destination::Address(address) => {
                let socket = TcpStream::connect(address).await?;
                socket.set_nodelay(true)?;
                Ok(socket)
            }
            Destination::BlackHole => {
                tokio::time::sleep(DIAL_TIMEOUT).await;
                Err(io::ErrorKind::TimedOut.into())
            }
            Destination::Unresolvable | Destination::Forbidden | Destination::Refused(_) => {
                Err(io::ErrorKind::AddrNotAvailable.into())
            }
        }
    }
}

/// Port 1 (tcpmux) of loopback, which nothing of ours ever listens on.
fn closed_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1))
}
