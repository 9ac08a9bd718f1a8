//! The stages of serving a client until it is logged in.

use crate::{connect::Step, target::Remote};

/// The stage of a connection; in the DETAIL of every error and in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Admitting the client and reading its startup.
    Client,
    /// A step of connecting to the database.
    Connect(Step),
}

/// The name of [`Stage::Client`].
pub(super) const CLIENT_STARTUP: &str = "client startup";

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Self; 6] = [
        Self::Client,
        Self::Connect(Step::Credentials),
        Self::Connect(Step::Route),
        Self::Connect(Step::Answer),
        Self::Connect(Step::Tls),
        Self::Connect(Step::Login),
    ];

    /// The name for people, on the way to this remote end.
    pub fn name(self, remote: Remote) -> &'static str {
        match self {
            Self::Client => CLIENT_STARTUP,
            Self::Connect(step) => step.name(remote),
        }
    }

    /// The label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Connect(step) => step.label(),
        }
    }
}
