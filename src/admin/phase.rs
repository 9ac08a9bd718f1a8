//! The phases of the process.

use serde::{Deserialize, Serialize};

/// The phase of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Listeners are still being bound.
    Starting,
    /// Clients are served.
    Running,
    /// Shutting down: no new connections are accepted.
    Draining,
}
