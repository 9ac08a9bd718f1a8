//! Failures to listen on an address, with their hints.

use std::{io, net::SocketAddr, path::PathBuf};

use super::port_owner::PortOwner;
pub(super) use crate::platform::files::LONGEST_SOCKET_PATH as MAX_PATH;
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
    #[error("{} is taken: a program answers there{}", path.display(), named(owner))]
    PathTaken {
        /// The path of the socket.
        path: PathBuf,
        /// The program that listens there, as far as it is known.
        owner: PortOwner,
    },
    /// The system has no room for the path.
    #[error("the path of a unix socket has at most {MAX_PATH} bytes: {} has {}", .0.display(), .0.as_os_str().len())]
    PathTooLong(PathBuf),
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
            Self::PathTaken { .. } => Some(format!("stop that program, or choose another path with {option}")),
            Self::NotOurs(_) => Some(format!("remove it if nothing needs it, or choose another path with {option}")),
            Self::PathTooLong(_) => {
                Some(format!("choose a shorter path with {option}, or set XDG_RUNTIME_DIR to a shorter one"))
            }
            Self::Directory(_) => Some("use one with mode 0700 that belongs to you, such as $XDG_RUNTIME_DIR".into()),
            Self::Bind { .. } => None,
        }
    }
}

/// A program behind the text of an error, if it is known.
fn named(owner: &PortOwner) -> String {
    if *owner == PortOwner::default() { String::new() } else { format!(": {owner}") }
}
