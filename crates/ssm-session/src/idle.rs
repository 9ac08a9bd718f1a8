//! How long a session has been without input, which is what the account's idle timeout counts: NOPs that keep it going, and
//! a warning before it ends a session under its streams. Sans-IO.
//!
//! What else counts as activity AWS does not say; that the agent's output does is not to be relied on.

use std::time::{Duration, Instant};

/// Agents with smux keep-alive close a session that is silent for 30 s; the reference sends each 10.
const FOR_OLD_AGENTS: Duration = Duration::from_secs(10);
/// Often enough for the shortest idle timeout that an account can set, a minute.
const FOR_STREAMS: Duration = Duration::from_secs(30);
/// How long before its end the idle timeout is warned of, if that leaves it more than half.
const WARNING: Duration = Duration::from_mins(2);

/// A session that AWS may end before long, with its open streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdleWarning {
    /// The account's idle timeout.
    pub timeout: Duration,
    /// What is left of it.
    pub left: Duration,
    /// How many streams will end.
    pub streams: usize,
}

/// What is known of a session's idleness.
#[derive(Debug)]
pub(super) struct Idle {
    keep_alive: bool,
    timeout: Option<Duration>,
    last_input: Instant,
    warned: bool,
    warning: Option<IdleWarning>,
}

impl Idle {
    pub(super) fn new(keep_alive: bool, timeout: Option<Duration>, now: Instant) -> Self {
        Self { keep_alive, timeout, last_input: now, warned: false, warning: None }
    }

    /// The account's timeout has become known.
    pub(super) fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = Some(timeout);
    }

    /// Something for the agent goes out.
    pub(super) fn on_input(&mut self, now: Instant) {
        self.last_input = now;
        self.warned = false;
    }

    /// The next NOP. `old_agent` needs some whatever happens; else they are for `streams`, and a message that is not
    /// acknowledged yet does as well.
    pub(super) fn keep_alive_at(&self, old_agent: bool, streams: usize, acknowledged: bool) -> Option<Instant> {
        if old_agent {
            return Some(self.last_input + FOR_OLD_AGENTS);
        }
        (self.keep_alive && streams > 0 && acknowledged).then(|| self.last_input + FOR_STREAMS)
    }

    /// When [`Idle::check`] has something to say.
    pub(super) fn warning_at(&self, streams: usize) -> Option<Instant> {
        let timeout = self.timeout.filter(|_| streams > 0 && !self.warned)?;
        Some(self.last_input + timeout.saturating_sub(WARNING).max(timeout / 2))
    }

    /// Makes the warning that is due, once for each time without input.
    pub(super) fn check(&mut self, streams: usize, now: Instant) {
        if let Some(timeout) = self.timeout
            && self.warning_at(streams).is_some_and(|at| now >= at)
        {
            let left = (self.last_input + timeout).saturating_duration_since(now);
            self.warning = Some(IdleWarning { timeout, left, streams });
            self.warned = true;
        }
    }

    pub(super) fn take_warning(&mut self) -> Option<IdleWarning> {
        self.warning.take()
    }
}
