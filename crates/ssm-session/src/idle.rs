//! The time without input, which the account's idle timeout counts: NOPs that keep a session from it, and a warning before it
//! ends a session with open streams. Sans-IO.
//!
//! AWS documents the timeout ([idle session timeout]), but not what counts as activity beside input. It is not safe to rely on
//! the agent's output.
//!
//! [idle session timeout]: https://docs.aws.amazon.com/systems-manager/latest/userguide/session-preferences-timeout.html

use std::time::{Duration, Instant};

/// Time between NOPs for agents with smux keep-alive, which close a session after 30 s of silence (smux [`mux.go`],
/// KeepAliveInterval and KeepAliveTimeout).
///
/// [`mux.go`]: https://github.com/xtaci/smux/blob/09e2c01560df5aaaed50e48e77547858e2623498/mux.go#L47-L48
const FOR_OLD_AGENTS: Duration = Duration::from_secs(10);
/// Time between NOPs that keep a session with streams from the idle timeout. The shortest that an account can set is a minute.
const FOR_STREAMS: Duration = Duration::from_secs(30);
/// Time between the warning and the end of the idle timeout, at most half of it.
const WARNED_BEFORE: Duration = Duration::from_mins(2);

/// AWS is about to end a session with open streams as idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdleWarning {
    /// The account's idle timeout.
    pub timeout: Duration,
    /// Time until the end of the session.
    pub left: Duration,
    /// The number of streams that will end.
    pub streams: usize,
}

/// The warning for the present time without input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Warning {
    NotDue,
    Due(IdleWarning),
    Given,
}

/// The time that a session has been without input.
#[derive(Debug)]
pub(super) struct Idle {
    keep_alive: bool,
    timeout: Option<Duration>,
    last_input: Instant,
    warning: Warning,
}

impl Idle {
    pub(super) fn new(keep_alive: bool, timeout: Option<Duration>, now: Instant) -> Self {
        Self { keep_alive, timeout, last_input: now, warning: Warning::NotDue }
    }

    /// The account's timeout has become known.
    pub(super) fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = Some(timeout);
    }

    /// A message for the agent goes out.
    pub(super) fn on_input(&mut self, now: Instant) {
        self.last_input = now;
        if self.warning == Warning::Given {
            self.warning = Warning::NotDue;
        }
    }

    /// When the next NOP is due. An `old_agent` always needs them. Otherwise they are for open `streams`, and a message that is not
    /// acknowledged yet serves as well.
    pub(super) fn keep_alive_at(&self, old_agent: bool, streams: usize, acknowledged: bool) -> Option<Instant> {
        if old_agent {
            return Some(self.last_input + FOR_OLD_AGENTS);
        }
        (self.keep_alive && streams > 0 && acknowledged).then(|| self.last_input + FOR_STREAMS)
    }

    /// When [`Idle::check`] makes a warning.
    pub(super) fn warning_at(&self, streams: usize) -> Option<Instant> {
        let timeout = self.timeout.filter(|_| streams > 0 && self.warning == Warning::NotDue)?;
        Some(self.last_input + timeout.saturating_sub(WARNED_BEFORE).max(timeout / 2))
    }

    /// Makes the warning if it is due.
    pub(super) fn check(&mut self, streams: usize, now: Instant) {
        if let Some(timeout) = self.timeout
            && self.warning_at(streams).is_some_and(|at| now >= at)
        {
            let left = (self.last_input + timeout).saturating_duration_since(now);
            self.warning = Warning::Due(IdleWarning { timeout, left, streams });
        }
    }

    /// Takes the warning that is due.
    pub(super) fn take_warning(&mut self) -> Option<IdleWarning> {
        let Warning::Due(warning) = self.warning else { return None };
        self.warning = Warning::Given;
        Some(warning)
    }
}
