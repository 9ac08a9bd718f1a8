//! Failures to listen on an address, with their hints.

use std::{io, net::SocketAddr, path::PathBuf};

use super::port_owner::PortOwner;
use crate::target::Local;

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another program has the port.
    #[error("port {} is taken: {owner} listens on {address}", address.port())]
    PortTaken {
        /// The address of its listener.
        address: SocketAddr,
        /// The program that listens there, as far as it is known.
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
    /// The next step, beginning with a verb. `option` is the option that sets the address.
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
