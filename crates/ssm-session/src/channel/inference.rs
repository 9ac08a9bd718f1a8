//! Inferring what a lost acknowledgement would have said, for agents that never repeat one: they stay silent about a message
//! that they already have, so it would be sent again without end.

use std::time::{Duration, Instant};

/// Copies of a message on one connection after which an agent that never repeats an acknowledgement is suspected to have it.
const COPIES: u32 = 5;
/// The least time that these copies must span.
const SPAN: Duration = Duration::from_secs(5);
/// The acknowledgement of a later message proves the suspicion. It may get lost as well: after this time another one is sent.
pub(super) const NEXT_PROOF_AFTER: Duration = SPAN;

/// The copies of one message on the present connection.
#[derive(Debug, Default)]
pub(super) struct Copies {
    first: Option<Instant>,
    count: u32,
    suspected: Option<Instant>,
}

impl Copies {
    /// A copy goes out.
    pub(super) fn count(&mut self, now: Instant) {
        let first = *self.first.get_or_insert(now);
        self.count += 1;
        if self.suspected.is_none() && self.count > COPIES && now.saturating_duration_since(first) >= SPAN {
            self.suspected = Some(now);
        }
    }

    /// When the first copy went out.
    pub(super) fn first(&self) -> Option<Instant> {
        self.first
    }

    /// When there were enough copies to suspect that the agent has the message.
    pub(super) fn suspected(&self) -> Option<Instant> {
        self.suspected
    }
}
