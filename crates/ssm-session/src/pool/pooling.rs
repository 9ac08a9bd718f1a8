//! The sharing of sessions among connections.

use std::{str::FromStr, time::Duration};

use crate::request::ParseError;

/// [`Pooling::idle_close`] of a retired pool: long enough for a connection that is being made.
const RETIRED_IDLE_CLOSE: Duration = Duration::from_secs(5);

/// The isolation of connections from each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Connections share sessions, spread over up to [`Pooling::max_sessions`].
    Shared,
    /// Each connection has a session of its own.
    Connection,
}

/// Limits for the number and the life of a pool's sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pooling {
    /// Most sessions that take new connections at one time. An agent sends about 0.75 MB/s in each session.
    pub max_sessions: usize,
    /// The number of sessions that are opened at the start and kept while the destination is in use. 0: none before the first
    /// connection.
    pub warm_sessions: usize,
    /// Time after the last connection at which the sessions end.
    pub idle_close: Duration,
    /// Whether connections share sessions.
    pub isolation: Isolation,
    /// The age at which a session takes no more new connections, for destinations whose name moves from one address to another: the
    /// agent looks it up once per session. `None`: no limit.
    pub rotate_after: Option<Duration>,
}

impl Pooling {
    /// The defaults: at most 4 shared sessions, or 16 for one connection each. One session is kept while the destination is in use
    /// and for 5 minutes after. Sessions have no maximum age.
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

    /// The same for a destination to which no further connections are expected.
    pub(super) fn retired(&self) -> Self {
        Self { warm_sessions: 0, idle_close: self.idle_close.min(RETIRED_IDLE_CLOSE), ..self.clone() }
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
