//! What a supervisor, a scraper or a curious user may ask of the running process, over HTTP on this machine.
//!
//! ```text
//!   GET /healthz   200 ok; 503 while it drains
//!   GET /readyz    200 ok once every listener is bound; else 503
//!   GET /metrics   OpenMetrics: telemetry's counts, and those of the sessions as they are at that moment
//!   GET /status    JSON, see model
//! ```
//!
//! Nothing here changes anything, and nothing secret is told; but names of hosts are, so callers are held to the same rule
//! as database clients ([`listen::access`](crate::listen::access)): our own user, and root.

pub mod model;
pub mod server;
mod sessions;

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

pub use self::server::Server;
use crate::{listen::Local, proxy::serve::CurrentService};
use model::Phase;

/// A target that is served.
pub struct Served {
    /// What its connections share.
    pub service: Arc<CurrentService>,
    /// The addresses that are bound.
    pub listeners: Vec<Local>,
}

/// How far the process is and what it serves; its owner keeps it true.
#[derive(Default)]
pub struct View {
    served: OnceLock<Vec<Served>>,
    draining: AtomicBool,
}

impl View {
    /// Every listener is bound.
    pub fn ready(&self, served: Vec<Served>) {
        // A process gets ready once.
        let _ = self.served.set(served);
    }

    /// No new connections are taken.
    pub fn draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    fn phase(&self) -> Phase {
        match (self.draining.load(Ordering::Relaxed), self.served.get()) {
            (true, _) => Phase::Draining,
            (false, Some(_)) => Phase::Running,
            (false, None) => Phase::Starting,
        }
    }

    fn served(&self) -> &[Served] {
        self.served.get().map_or(&[], Vec::as_slice)
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("phase", &self.phase()).finish_non_exhaustive()
    }
}
