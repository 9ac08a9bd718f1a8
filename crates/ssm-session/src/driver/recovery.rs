//! The attempts to get a session's connection back: when to ask again, and when to give up.

use std::{
    error::Error,
    mem,
    time::{Duration, Instant},
};

use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{Lost, Machine, WebSocket, now};
use crate::{
    backoff::Backoff,
    conversation::EndReason,
    session::{Link, ResumeError},
    smux::mux::StreamError,
    stream::Shared,
};

/// Between attempts to resume, full jitter: the first of them, and the most. There is no delay before the very first one.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// The attempts to get a session's connection back. A connection that is lost again before it has shown that it is good
/// does not begin them anew: the delays go on growing.
pub(super) struct Recovery {
    deadline: Instant,
    backoff: Backoff,
    random: fastrand::Rng,
    is_first: bool,
}

impl Recovery {
    pub(super) fn new() -> Self {
        Self { deadline: now(), backoff: Self::backoff(), random: fastrand::Rng::new(), is_first: true }
    }

    fn backoff() -> Backoff {
        Backoff::new(RETRY.0, RETRY.1)
    }

    /// A connection is lost, and to be had again before `deadline`, or still before the earlier one.
    pub(super) fn lost(&mut self, lost: &Lost, deadline: Instant) {
        if lost.proven {
            (self.backoff, self.is_first) = (Self::backoff(), true);
        }
        if lost.heard || self.is_first {
            self.deadline = deadline;
        }
    }

    /// Asks for the session again until it is there, or known to be gone, or the time is over.
    pub(super) async fn reconnect(
        &mut self,
        shared: &Shared,
        link: &mut Link,
        cancel: &CancellationToken,
    ) -> Result<(WebSocket, Machine), EndReason> {
        let mut last = None;
        loop {
            if !mem::take(&mut self.is_first) {
                let delay = self.backoff.next_delay(&mut self.random);
                tokio::select! {
                    () = cancel.cancelled() => return Err(EndReason::Terminated),
                    () = tokio::time::sleep(delay.min(self.deadline.saturating_duration_since(now()))) => {}
                }
            }
            if now() >= self.deadline {
                let why = last.unwrap_or_else(|| "each new connection is lost immediately".into());
                return Err(EndReason::NotResumed(why));
            }
            let attempt = tokio::select! {
                () = cancel.cancelled() => return Err(EndReason::Terminated),
                attempt = timeout_at(self.deadline.into(), link.resume()) => attempt,
            };
            let error = match attempt {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(ResumeError::Gone(error))) => return Err(EndReason::NotResumed(with_causes(&error))),
                Ok(Err(error)) => with_causes(&error),
                Err(_) => last.unwrap_or_else(|| "AWS did not answer in time".into()),
            };
            debug!(session = %link.session_id(), cause = error, "resuming failed, trying again");
            // It may take minutes; another session may serve those who have said nothing yet.
            shared.lock().mux().fail_unacknowledged(&StreamError::LinkLost);
            last = Some(error);
        }
    }
}

/// An error with its causes in one line. Texts of the far side may be among them, so what controls a display is escaped.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Some libraries' errors say their cause themselves.
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_shows_nothing_good_does_not_begin_the_attempts_anew() {
        let mut recovery = Recovery::new();
        let lost = |heard, proven| Lost { reason: "cut".into(), heard, proven };
        let first = now() + Duration::from_mins(2);
        recovery.lost(&lost(true, true), first);
        assert!(mem::take(&mut recovery.is_first), "no delay before the first attempt");
        let later = first + Duration::from_mins(1);
        recovery.lost(&lost(false, false), later);
        assert_eq!((recovery.is_first, recovery.deadline), (false, first), "nothing came over it");
        recovery.lost(&lost(true, false), later);
        assert_eq!((recovery.is_first, recovery.deadline), (false, later), "a sign of life, and another outage");
        recovery.lost(&lost(true, true), later);
        assert!(recovery.is_first);
    }
}
