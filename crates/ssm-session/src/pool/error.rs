//! Why a pool gave no stream.

use std::sync::Arc;

use crate::session;

/// Why the pool gave no stream.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No session could be opened.
    #[error(transparent)]
    Session(#[from] Arc<session::Error>),
    /// The pool has as many sessions as it may, and none of them serves the connection.
    #[error(
        "no SSM session is free: all {max_sessions} are reserved for other connections, or blocked by clients that do not read"
    )]
    NoRoom {
        /// The limit, [`Pooling::max_sessions`](super::Pooling::max_sessions).
        max_sessions: usize,
    },
    /// The pool is being closed.
    #[error("the SSM sessions are being closed")]
    Closed,
}
