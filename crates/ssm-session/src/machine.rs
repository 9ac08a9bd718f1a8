//! The facts about the machine that tell whether a link can still be alive.

use std::time::SystemTime;

use crate::connect::Path;

/// The machine that a session runs on.
pub(crate) struct Machine {
    wall_clock: Box<dyn FnMut() -> SystemTime + Send>,
    network_changed: Box<dyn FnMut() -> bool + Send>,
}

impl Machine {
    /// The real machine, with the path that a connection takes out of it.
    pub(crate) fn with(mut path: Path) -> Self {
        Self { wall_clock: Box::new(SystemTime::now), network_changed: Box::new(move || path.has_changed()) }
    }

    /// The time of day, which goes on while the machine sleeps.
    pub(crate) fn wall_clock(&mut self) -> SystemTime {
        (self.wall_clock)()
    }

    /// Whether packets take another path out of the machine than when this was asked last.
    pub(crate) fn network_changed(&mut self) -> bool {
        (self.network_changed)()
    }
}

#[cfg(test)]
impl Machine {
    /// A machine with this clock, on a network that stays.
    pub(crate) fn with_clock(wall_clock: impl FnMut() -> SystemTime + Send + 'static) -> Self {
        Self { wall_clock: Box::new(wall_clock), network_changed: Box::new(|| false) }
    }

    /// A machine that does not sleep, on a network that changes as `network_changed` says.
    pub(crate) fn with_network(network_changed: impl FnMut() -> bool + Send + 'static) -> Self {
        Self { wall_clock: Box::new(|| SystemTime::UNIX_EPOCH), network_changed: Box::new(network_changed) }
    }
}
