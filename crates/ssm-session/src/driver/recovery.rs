//! The attempts to get a session's connection back: when to ask again, and when to give up.

use std::{
    error::Error,
    mem,
    time::{Duration, Instant},
};

use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::lost::{Lost, Proof};
use crate::{
    backoff::Backoff,
    clock,
    conversation::EndReason,
    link::{Link, ResumeError},
    machine::Machine,
    smux::mux::StreamError,
    stream::Shared,
    websocket::WebSocket,
};

/// The delay before the second attempt to resume, drawn at random below this limit, which doubles with each attempt. The first
/// attempt is made at once.
const RETRY_DELAY: Duration = Duration::from_millis(200);
/// The largest limit of the delay between attempts to resume.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);

/// The attempts to get a session's connection back. After a connection that is lost again before it has shown that it works,
/// they go on with growing delays.
pub(super) struct Recovery {
    deadline: Instant,
    backoff: Backoff,
    random: fastrand::Rng,
    /// The next attempt is the first after a connection that worked: it is made without delay.
    is_first: bool,
}

impl Recovery {
    pub(super) fn new() -> Self {
        Self { deadline: clock::now(), backoff: Self::backoff(), random: fastrand::Rng::new(), is_first: true }
    }

    fn backoff() -> Backoff {
        Backoff::new(RETRY_DELAY, MAX_RETRY_DELAY)
    }

    /// A connection is lost. It has to be restored before `deadline`; a connection over which nothing was received does not put
    /// off the earlier deadline.
    pub(super) fn lost(&mut self, lost: &Lost, deadline: Instant) {
        if lost.proof == Proof::Works {
            (self.backoff, self.is_first) = (Self::backoff(), true);
        }
        if lost.proof >= Proof::Heard || self.is_first {
            self.deadline = deadline;
        }
    }

    /// Tries to resume the session until it is resumed, known to be over, or the deadline has passed.
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
                    () = tokio::time::sleep(delay.min(self.deadline.saturating_duration_since(clock::now()))) => {}
                }
            }
            if clock::now() >= self.deadline {
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
                Err(_) => last.unwrap_or_else(|| "AWS did not reply in time".into()),
            };
            debug!(session = %link.session_id(), cause = error, "resuming failed, trying again");
            // It may take minutes. Another session may serve the connections that have not been dialled.
            shared.lock().mux().fail_unacknowledged(&StreamError::LinkLost);
            last = Some(error);
        }
    }
}

/// An error with its causes in one line. They may hold texts of the far side, so control characters are escaped.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // The errors of some libraries include their cause.
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
    async fn delays_go_on_growing_after_a_connection_that_did_not_work() {
        let mut recovery = Recovery::new();
        let lost = |proof| Lost { reason: "cut".into(), proof };
        let first = clock::now() + Duration::from_mins(2);
        recovery.lost(&lost(Proof::Works), first);
        assert!(mem::take(&mut recovery.is_first), "no delay before the first attempt");
        let later = first + Duration::from_mins(1);
        recovery.lost(&lost(Proof::None), later);
        assert_eq!((recovery.is_first, recovery.deadline), (false, first), "nothing was received");
        recovery.lost(&lost(Proof::Heard), later);
        assert_eq!(
            (recovery.is_first, recovery.deadline),
            (false, later),
            "the service was heard, so this is another outage"
        );
        recovery.lost(&lost(Proof::Works), later);
        assert!(recovery.is_first);
    }
}
