//! A connection to a MySQL server that has no client yet.

use database_wire::mysql::Greeting;
use tokio::time::Instant;

use crate::{connect::Attempt, login::Prepared, tunnel};

/// A MySQL server that has sent its greeting and waits.
pub struct Greeted {
    pub(super) stream: tunnel::Stream,
    /// The greeting.
    pub greeting: Greeting,
    pub(super) login: Prepared,
    pub(super) attempt: Attempt,
    /// When the greeting came.
    pub(super) since: Instant,
}
