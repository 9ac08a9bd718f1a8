//! What lost acknowledgements would have said, for agents that never repeat one: they are silent about a message that they
//! have already, so that it would be sent again for ever.

use std::time::{Duration, Instant};

use super::{Channel, Outgoing};

/// Retransmissions on one connection, and the time they must span, before an agent that never repeats an acknowledgement is
/// believed to have the message all the same.
const INFER_AFTER: (u32, Duration) = (5, Duration::from_secs(5));

impl Channel {
    /// The agent never acknowledges a duplicate (before 3.2.1041.0): infer what its lost acknowledgements would say.
    pub fn infer_delivery(&mut self) {
        self.infers_delivery = true;
    }

    /// The rule for agents that never repeat an acknowledgement: the head was resent often and for long, the port is
    /// known to take data, and something first sent after all that has been acknowledged.
    pub(super) fn infer_from(&mut self, acked_first_sent: Instant) {
        while self.infers_delivery
            && self.port_ready
            && self.entry(self.base).and_then(|head| head.suspected).is_some_and(|at| acked_first_sent > at)
        {
            if let Some(head) = self.outgoing.front_mut().and_then(Option::take)
                && head.in_flight
            {
                self.in_flight -= head.payload;
            }
            self.lost.remove(&self.base);
            self.drop_acknowledged_head();
        }
    }

    /// Every message in flight for longer than `timeout` goes out again. Acknowledgements are mostly lost together, and each
    /// message has to be resent often before it can be inferred: all of them at the same time, not one after the other.
    pub(super) fn mark_overdue(&mut self, timeout: Duration, now: Instant) {
        let overdue = |sequence: &i64| {
            let sent = self.entry(*sequence).filter(|entry| entry.in_flight).and_then(|entry| entry.last_sent);
            sent.is_some_and(|sent| now >= sent + timeout)
        };
        for sequence in (self.base..self.next_unsent).filter(overdue).collect::<Vec<_>>() {
            self.mark_lost(sequence);
        }
    }

    /// For an agent that never repeats an acknowledgement: a message is needed that was first sent after all
    /// retransmissions of the oldest, so that its acknowledgement can prove that one delivered.
    pub(super) fn wants_proof(&self, now: Instant) -> bool {
        let Some(suspected) = self.entry(self.base).and_then(|head| head.suspected) else { return false };
        // The acknowledgement of the proof may be lost as well: then another one, after a while.
        let has_none = self.newest_send.is_none_or(|sent| sent <= suspected || now >= sent + INFER_AFTER.1);
        self.infers_delivery && now > suspected && has_none
    }

    /// Whether a message must be made for that, because none is waiting.
    pub fn wants_probe(&self, now: Instant) -> bool {
        self.next_unsent == self.end() && self.wants_proof(now)
    }
}

impl Outgoing {
    /// It goes out on this connection once more.
    pub(super) fn count_copy(&mut self, now: Instant) {
        let (since, copies) = self.on_this_connection.get_or_insert((now, 0));
        *copies += 1;
        let (times, span) = INFER_AFTER;
        if self.suspected.is_none() && *copies > times && now.saturating_duration_since(*since) >= span {
            self.suspected = Some(now);
        }
    }
}
