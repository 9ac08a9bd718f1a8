//! The limits of listeners.

use std::time::Duration;

/// The most connections that may wait to be accepted, which the system cuts to its own maximum (`net.core.somaxconn`). Further
/// connections are dropped, and their clients retry after a second or fail.
pub(super) const BACKLOG: u32 = u32::MAX;
/// A program that listens on this machine answers at once.
pub(super) const PROBE_TIMEOUT: Duration = Duration::from_millis(300);
