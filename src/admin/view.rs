//! The state that the endpoints report.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use super::phase::Phase;
use crate::{listen::Local, proxy::serve::CurrentService};

/// A target that is served.
pub struct Served {
    /// The state that its connections share.
    pub service: Arc<CurrentService>,
    /// The addresses that are bound.
    pub listeners: Vec<Local>,
}

/// The phase of the process and the targets that it serves. The owner keeps it up to date.
pub struct View {
    command: &'static str,
    started: Instant,
    served: OnceLock<Vec<Served>>,
    draining: AtomicBool,
}

impl View {
    /// Starts without targets. `command` is the subcommand that the process runs, such as `up`.
    pub fn new(command: &'static str) -> Self {
        Self { command, started: Instant::now(), served: OnceLock::new(), draining: AtomicBool::new(false) }
    }

    /// Sets the served targets, once every listener is bound.
    pub fn ready(&self, served: Vec<Served>) {
        // A process becomes ready once.
        let _ = self.served.set(served);
    }

    /// Marks the process as draining: it accepts no new connections.
    pub fn draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(super) fn command(&self) -> &'static str {
        self.command
    }

    pub(super) fn started(&self) -> Instant {
        self.started
    }

    pub(super) fn phase(&self) -> Phase {
        match (self.draining.load(Ordering::Relaxed), self.served.get()) {
            (true, _) => Phase::Draining,
            (false, Some(_)) => Phase::Running,
            (false, None) => Phase::Starting,
        }
    }

    pub(super) fn served(&self) -> &[Served] {
        self.served.get().map_or(&[], Vec::as_slice)
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("phase", &self.phase()).finish_non_exhaustive()
    }
}
