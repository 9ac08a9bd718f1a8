//! A stream between its SYN and the first sign of its destination.
//!
//! The agent dials when it processes a SYN, one stream after the other, and says nothing when a dial succeeds. It
//! acknowledges the message that carries the SYN, as every message: from then on a silence is the destination's, before
//! that it is the agent's.
//!
//! ```text
//!   Queued ── the window has room ──▶ Sent ── acknowledged ──▶ Taken ── first byte, FIN ──▶ over
//!                                      └─ not in time: the agent is silent └─ not in time: the dial hangs
//! ```

use std::time::{Duration, Instant};

use super::{Mux, RECENTLY, Stream, StreamError};
use crate::sequence::SequenceNumber;

/// How far a stream's SYN has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Syn {
    /// It waits for room in the window.
    Queued,
    /// It went out then.
    Sent(Instant),
    /// The agent acknowledged it then.
    Taken(Instant),
}

impl Stream {
    pub(super) fn is_dialling(&self) -> bool {
        !self.heard && !self.accepted && !self.question && !self.remote_closed && self.error.is_none()
    }

    /// Since when the dial has been waited for; `None` for a stream that waits for nothing, or still for its turn. An urgent
    /// one has no limit of its own: its reply comes behind all that is under way for others.
    pub(super) fn dial_started(&self) -> Option<Instant> {
        match self.syn {
            Syn::Sent(at) | Syn::Taken(at) if self.is_dialling() && !self.urgent => Some(at),
            _ => None,
        }
    }

    /// Fails a stream that has not been dialled within `limit`. Says whether the agent is at fault for new ones: it dials
    /// this one still.
    pub(super) fn give_up_dial(&mut self, limit: Duration) -> bool {
        let hangs = matches!(self.syn, Syn::Taken(_));
        self.error = Some(if hangs { StreamError::DialTimeout(limit) } else { StreamError::AgentSilent });
        self.wake();
        hangs
    }
}

impl Mux {
    /// Whether a stream is being dialled, or was opened only just now and is still open.
    pub fn is_dialling(&self, now: Instant) -> bool {
        let just_opened = |stream: &Stream| stream.is_open() && now < stream.opened + RECENTLY;
        self.streams.values().any(|stream| stream.is_dialling() || just_opened(stream))
    }

    /// The payload that [`Mux::poll_output`] made last goes out in the message of this number.
    pub fn on_sent(&mut self, sequence: SequenceNumber) {
        self.unacknowledged.extend(self.syns.drain(..).map(|id| (sequence, id)));
    }

    /// Starts the time of the dials whose SYN has been `acknowledged`.
    pub fn on_acknowledged(&mut self, acknowledged: impl Fn(SequenceNumber) -> bool, now: Instant) {
        for (_, id) in self.unacknowledged.extract_if(.., |(sequence, _)| acknowledged(*sequence)) {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.syn = Syn::Taken(now);
            }
        }
    }

    /// Fails the streams that the agent may not have heard of: another session may serve them.
    pub fn fail_unacknowledged(&mut self, error: &StreamError) {
        for stream in self.streams.values_mut() {
            if stream.is_dialling() && !matches!(stream.syn, Syn::Taken(_)) {
                stream.error = Some(error.clone());
                stream.wake();
            }
        }
    }

    /// Flag 3 came: the next FIN of a stream that was never heard from is a failed dial.
    pub fn on_dial_failed(&mut self) {
        self.failed_dials += 1;
    }

    /// Nothing could be heard until now, so no dial could have been answered: their time starts again.
    pub fn restart_dials(&mut self, now: Instant) {
        for stream in self.streams.values_mut().filter(|stream| stream.is_dialling()) {
            if let Syn::Sent(at) | Syn::Taken(at) = &mut stream.syn {
                *at = now;
            }
        }
    }
}
