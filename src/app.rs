//! Stand-in for the composition root until the real one is merged: the types that the command line needs.

use std::{net::SocketAddr, sync::Arc};

use crate::{config::Config, target::Target};

/// What the user is told while the proxy runs.
#[derive(Debug, Clone)]
pub enum Event {
    /// A target's listeners are bound.
    Listening {
        /// The target.
        target: Arc<Target>,
        /// The addresses, with the port that the system chose if it was to.
        addresses: Vec<SocketAddr>,
    },
    /// Every listener is bound.
    Ready {
        /// How many targets are served.
        targets: usize,
    },
}

/// What ended the proxy in good order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// SIGINT, Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

/// Which part failed: decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// This machine: an address that is taken, a file.
    Local,
    /// The configuration.
    Configuration,
    /// AWS credentials.
    Credentials,
    /// An AWS API, the tunnel.
    Aws,
    /// The database's TLS or login.
    Database,
}

/// Why the proxy could not start or go on.
#[derive(Debug, thiserror::Error)]
#[error("the proxy is not built in yet")]
pub struct Error;

impl Error {
    /// Which part failed.
    pub fn cause(&self) -> Cause {
        Cause::Local
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        None
    }
}

/// Runs the proxy until a signal ends it.
///
/// # Errors
/// What keeps it from starting.
#[expect(clippy::unused_async, reason = "a stand-in with the real signature")]
pub async fn run(_config: Config, _events: impl FnMut(Event) + Send) -> Result<Stopped, Error> {
    Err(Error)
}
