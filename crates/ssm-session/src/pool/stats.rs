//! The state of a pool, for people and metrics.

use std::{sync::Arc, time::Duration};

use crate::{session::Status, tally::Tally};

/// Counts since a pool was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sessions opened.
    pub opened: u64,
    /// Sessions that could not be opened.
    pub failed: u64,
    /// Connections that got a stream.
    pub streams: u64,
}

/// The state of a pool at one moment, for people and metrics.
#[derive(Debug, Clone)]
pub struct Stats {
    /// The open sessions, including those that take no new connections.
    pub sessions: Vec<SessionStats>,
    /// The number of sessions being opened.
    pub opening: usize,
    /// Counts since the pool was made.
    pub counts: Counts,
    /// Counts of all its sessions, including those that have ended.
    pub tally: Tally,
}

/// The state of one session of a pool.
#[derive(Debug, Clone)]
pub struct SessionStats {
    /// The session's id at AWS.
    pub id: Arc<str>,
    /// Time since the session opened.
    pub age: Duration,
    /// The session takes no new connections and ends with its last one.
    pub draining: bool,
    /// The state of the session itself.
    pub status: Status,
}
