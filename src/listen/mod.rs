//! Local endpoints, where programs of this machine connect to us: TCP on loopback, or a unix socket. The proxy and the admin
//! server use the same types.
//!
//! ```text
//!   Address ─▶ bind ─▶ Listener::accept ─▶ Accepted { stream, peer } ─▶ access::check ─▶ User, or a refusal
//!                      └ local() ─▶ Local, for people and for /status
//! ```
//!
//! A listener decides nothing: it returns the kernel's facts about the peer, with which [`access`] decides.

pub mod access;
mod error;
mod limits;
// Windows has no supervisor that passes sockets.
#[cfg_attr(windows, expect(dead_code))]
pub mod passed;
pub mod passwd;
mod peer;
pub mod port_owner;
mod stream;
mod tcp;
#[cfg_attr(windows, path = "private_port.rs")]
mod unix;

use std::{io, net::SocketAddr};

use tokio::net::TcpListener;
use tracing::warn;

use self::unix::{SocketFile, UnixListener};
pub use self::{error::Error, peer::Peer, stream::Stream};

pub use crate::target::{Address, Local};
use crate::target::{SocketAccess, Target};

/// An accepted connection.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: Stream,
    /// Its client.
    pub peer: Peer,
}

/// A bound socket that takes connections. The file of a unix socket that we made is removed when this is dropped.
#[derive(Debug)]
pub struct Listener(Kind);

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
    /// A supervisor's, which has made the file and removes it.
    #[cfg(unix)]
    PassedUnix(UnixListener, std::path::PathBuf),
}

impl Listener {
    /// The next connection. Cancel safe.
    ///
    /// # Errors
    /// The error of the system, mostly a lack of file descriptors in the process or on the machine.
    pub async fn accept(&self) -> io::Result<Accepted> {
        loop {
            match &self.0 {
                Kind::Tcp(listener) => {
                    let (stream, remote) = listener.accept().await?;
                    // It fails for a client that has already left.
                    let Ok(local) = stream.local_addr() else { continue };
                    if let Err(cause) = stream.set_nodelay(true) {
                        warn!(%cause, "cannot set TCP_NODELAY on a client");
                    }
                    return Ok(Accepted { stream: stream.into(), peer: Peer::Tcp { remote, local } });
                }
                Kind::Unix(listener, _) => {
                    let (stream, peer) = unix::accept(listener).await?;
                    return Ok(Accepted { stream, peer });
                }
                #[cfg(unix)]
                Kind::PassedUnix(listener, _) => {
                    let (stream, peer) = unix::accept(listener).await?;
                    return Ok(Accepted { stream, peer });
                }
            }
        }
    }

    /// The address that it is bound to.
    ///
    /// # Errors
    /// The error of the system.
    pub fn local(&self) -> io::Result<Local> {
        match &self.0 {
            Kind::Tcp(listener) => listener.local_addr().map(Local::Tcp),
            Kind::Unix(_, file) => Ok(file.local()),
            #[cfg(unix)]
            Kind::PassedUnix(_, path) => Ok(Local::Unix(path.clone())),
        }
    }
}

/// Binds an address of a target beside those that are `bound` already, and makes the folder of a unix socket that is not there.
///
/// # Errors
/// [`Error`]; nothing new stays bound.
pub async fn bind_for(target: &Target, address: &Address, bound: &[SocketAddr]) -> Result<Vec<Listener>, Error> {
    if let Some(path) = address.unix() {
        unix::make_folder(path, target.socket)?;
    }
    bind_beside(address, target.socket, bound).await
}

/// Binds an address: several listeners for a name with several addresses. With port 0 the system chooses one port that is
/// free on all of them. Only our own user and root can connect to a unix socket.
///
/// # Errors
/// [`Error`]; nothing stays bound.
pub async fn bind(address: &Address) -> Result<Vec<Listener>, Error> {
    bind_beside(address, SocketAccess::PRIVATE, &[]).await
}

/// Binds an address beside those that are `bound` already, which are not another program's.
async fn bind_beside(address: &Address, access: SocketAccess, bound: &[SocketAddr]) -> Result<Vec<Listener>, Error> {
    match address {
        Address::Tcp(listen) => {
            let listeners = tcp::bind(listen, bound).await?;
            Ok(listeners.into_iter().map(|listener| Listener(Kind::Tcp(listener))).collect())
        }
        Address::Unix(path) => {
            let (listener, file) = unix::bind(path, access).await?;
            Ok(vec![Listener(Kind::Unix(listener, file))])
        }
    }
}
