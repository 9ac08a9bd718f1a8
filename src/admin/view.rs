//! The state that the endpoints report.

use std::{
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Instant, SystemTime},
};

use tokio::sync::{mpsc, oneshot};

use super::phase::Phase;
use crate::{listen::Local, proxy::serve::CurrentService};

/// A target that is served.
pub struct Served {
    /// The state that its connections share.
    pub service: Arc<CurrentService>,
    /// The addresses that are bound.
    pub listeners: Vec<Local>,
}

impl Served {
    /// Whether a reload has removed it, and its last connection has ended.
    pub(super) fn is_over(&self) -> bool {
        self.listeners.is_empty() && self.service.get().open.is_empty()
    }
}

/// How far a reload has been carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The new configuration is served.
    Done,
    /// It is served but for some of its targets.
    InPart,
    /// The old configuration is served.
    Refused,
}

/// The result of a reload.
#[derive(Debug, Clone)]
pub struct Reload {
    /// The time of the result.
    pub at: SystemTime,
    /// How far the new configuration is served.
    pub outcome: Outcome,
    /// The changes, and the reasons why there are not all of them.
    pub message: String,
    /// The remedy.
    pub hint: Option<String>,
}

/// A wish for a reload, which is answered with the result.
pub type ReloadRequest = oneshot::Sender<Reload>;

/// The phase of the process and the targets that it serves. The owner keeps it up to date.
pub struct View {
    command: &'static str,
    started: Instant,
    served: RwLock<Option<Arc<[Served]>>>,
    draining: AtomicBool,
    reloads: OnceLock<mpsc::Sender<ReloadRequest>>,
    last_reload: Mutex<Option<Reload>>,
}

impl View {
    /// Starts without targets. `command` is the subcommand that the process runs, such as `up`.
    pub fn new(command: &'static str) -> Self {
        Self {
            command,
            started: Instant::now(),
            served: RwLock::default(),
            draining: AtomicBool::new(false),
            reloads: OnceLock::new(),
            last_reload: Mutex::default(),
        }
    }

    /// Sets the served targets, once every listener is bound, and after each reload. One without listeners is shown while it
    /// has connections.
    pub fn ready(&self, served: Vec<Served>) {
        *self.served.write().unwrap_or_else(PoisonError::into_inner) = Some(served.into());
    }

    /// Sets where a reload can be asked for. Only the first call has an effect; without one, the process does not reload.
    pub fn reloads_by(&self, requests: mpsc::Sender<ReloadRequest>) {
        let _ = self.reloads.set(requests);
    }

    /// Shows the result of a reload.
    pub fn reloaded(&self, result: Reload) {
        *self.last_reload.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
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
        let is_ready = self.served.read().unwrap_or_else(PoisonError::into_inner).is_some();
        match (self.draining.load(Ordering::Relaxed), is_ready) {
            (true, _) => Phase::Draining,
            (false, true) => Phase::Running,
            (false, false) => Phase::Starting,
        }
    }

    pub(super) fn served(&self) -> Arc<[Served]> {
        self.served.read().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default()
    }

    pub(super) fn reloads(&self) -> Option<&mpsc::Sender<ReloadRequest>> {
        self.reloads.get()
    }

    pub(super) fn last_reload(&self) -> Option<Reload> {
        self.last_reload.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("phase", &self.phase()).finish_non_exhaustive()
    }
}
