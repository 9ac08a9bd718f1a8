//! A flag that a task can wait for.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Notify;

/// Says that a client's next command is for us: raised before it, lowered when it has been taken over.
#[derive(Clone, Default)]
pub struct Signal(Arc<State>);

#[derive(Default)]
struct State {
    raised: AtomicBool,
    changed: Notify,
}

impl Signal {
    /// Whether it is raised.
    pub fn is_raised(&self) -> bool {
        self.0.raised.load(Ordering::Relaxed)
    }

    /// Waits until it is raised. For one task. Cancel safe.
    pub async fn raised(&self) {
        while !self.is_raised() {
            self.0.changed.notified().await;
        }
    }

    /// Raises or lowers it.
    pub(super) fn set(&self, raised: bool) {
        if self.0.raised.swap(raised, Ordering::Relaxed) != raised && raised {
            self.0.changed.notify_one();
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signal({})", self.is_raised())
    }
}
