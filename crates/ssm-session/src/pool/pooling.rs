//! How connections share SSM sessions.

use std::{str::FromStr, time::Duration};

use crate::request::ParseError;

/// Whether connections share sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// They do, spread over up to `max_sessions`.
    Shared,
    /// Each connection has a session of its own.
    Connection,
}

/// How many sessions, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pooling {
    /// Most sessions that take new connections at one time. An agent sends about 0.75 MB/s in each.
    pub max_sessions: usize,
    /// Sessions kept open while the destination is in use, and opened at the start. 0: none before the first connection.
    pub warm_sessions: usize,
    /// The destination is in use for this long after its last connection; then its sessions end.
    pub idle_close: Duration,
    /// Whether connections share sessions.
    pub isolation: Isolation,
    /// A session of this age takes no new connections: for destinations whose name moves from one address to
    /// another, since the agent looks it up once a session.
    pub rotate_after: Option<Duration>,
}

impl Pooling {
    /// The defaults: with shared sessions 4 of them, with one for each connection 16; one is kept open while the destination is
    /// in use and for 5 minutes after. None rotates.
    pub fn new(isolation: Isolation) -> Self {
        Self {
            max_sessions: match isolation {
                Isolation::Shared => 4,
                Isolation::Connection => 16,
            },
            warm_sessions: 1,
            idle_close: Duration::from_mins(5),
            isolation,
            rotate_after: None,
        }
    }
}

impl FromStr for Isolation {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        match s {
            "shared" => Ok(Self::Shared),
            "connection" => Ok(Self::Connection),
            other => Err(ParseError::Isolation(other.into())),
        }
    }
}
