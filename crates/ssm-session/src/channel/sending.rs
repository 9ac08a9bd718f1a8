//! The sending half: what goes out, what an acknowledgement says about its message and about those before it, and what
//! goes out again.

use std::time::Instant;

use bytes::Bytes;

use super::{Channel, Outgoing};
use crate::{
    message::{AgentMessage, MessageType},
    payload::PayloadType,
};

impl Channel {
    /// Whether a new stream data message would be sent at once. Ask before making one: what waits above can still be
    /// joined with what follows, what waits here cannot.
    pub fn has_room(&self) -> bool {
        self.connected
            && self.paused_since.is_none()
            && self.lost.is_empty()
            && self.next_unsent == self.end()
            && self.in_flight < self.window.size()
    }

    /// Takes one stream data payload, which must not be empty, for transmission in order. Gives its sequence number.
    pub fn send(&mut self, payload_type: PayloadType, payload: Bytes, now: Instant) -> i64 {
        debug_assert!(!payload.is_empty(), "agents refuse empty payloads");
        if self.outgoing.is_empty() {
            self.last_progress = now;
        }
        let (length, sequence) = (payload.len(), self.end());
        let frame = self.stream_data(sequence, payload_type, payload, now);
        self.outgoing.push_back(Some(Outgoing {
            frame,
            payload: length,
            is_output: payload_type == PayloadType::Output,
            first_sent: None,
            last_sent: None,
            transmissions: 0,
            in_flight: false,
            on_this_connection: None,
            suspected: None,
        }));
        sequence
    }

    fn stream_data(&mut self, sequence_number: i64, payload_type: PayloadType, payload: Bytes, now: Instant) -> Bytes {
        AgentMessage {
            message_type: MessageType::InputStreamData,
            created_date: self.created_date(now),
            sequence_number,
            flags: 0,
            message_id: self.message_id(),
            payload_type: Some(payload_type.number()),
            payload,
        }
        .encode()
    }

    /// Whether the agent's port is known to take data.
    pub fn is_port_ready(&self) -> bool {
        self.port_ready
    }

    /// Whether a message that was sent has been acknowledged.
    pub fn is_acknowledged(&self, sequence: i64) -> bool {
        sequence < self.end() && self.entry(sequence).is_none()
    }

    /// Whether a message after this one has been acknowledged, though this one has not.
    pub fn is_overtaken(&self, sequence: i64) -> bool {
        let later = self.index(sequence).map(|index| self.outgoing.iter().skip(index + 1));
        self.entry(sequence).is_some() && later.is_some_and(|mut later| later.any(Option::is_none))
    }

    /// Puts another Output payload in the place of one that is not acknowledged, and sends it again. The agent may get
    /// either: they must mean the same to it.
    pub fn replace(&mut self, sequence: i64, payload: Bytes, now: Instant) {
        self.mark_lost(sequence);
        let length = payload.len();
        let frame = self.stream_data(sequence, PayloadType::Output, payload, now);
        if let Some(entry) = self.entry_mut(sequence) {
            (entry.frame, entry.payload) = (frame, length);
        }
    }

    pub(super) fn on_acknowledge(&mut self, sequence: i64, now: Instant) {
        let Some(acked) = self.index(sequence).and_then(|i| self.outgoing.get_mut(i)?.take()) else { return };
        self.lost.remove(&sequence);
        self.last_progress = now;
        self.timeouts_in_a_row = 0;
        self.port_ready |= acked.is_output && sequence == self.base;
        let in_flight = self.in_flight;
        if acked.in_flight {
            self.in_flight -= acked.payload;
        }
        if let Some(sent) = acked.last_sent {
            let elapsed = now.saturating_duration_since(sent);
            if acked.transmissions == 1 {
                self.round_trip.measure(elapsed, now);
            }
            // An answer faster than the path allows is for an earlier copy and says nothing about this one.
            if acked.transmissions == 1 || self.round_trip.could_be(elapsed) {
                self.newest_acked_send = self.newest_acked_send.max(Some(sent));
            }
        }
        self.window.acknowledged(acked.payload, in_flight, &self.round_trip, now);
        self.drop_acknowledged_head();
        if let Some(first_sent) = acked.first_sent {
            self.infer_from(first_sent);
        }
        self.detect_losses(now);
    }

    pub(super) fn drop_acknowledged_head(&mut self) {
        while let Some(None) = self.outgoing.front() {
            self.outgoing.pop_front();
            self.base += 1;
        }
        self.next_unsent = self.next_unsent.max(self.base);
    }

    /// What was sent well before a message that has been acknowledged is lost (RFC 8985's idea).
    fn detect_losses(&mut self, now: Instant) {
        let reordering = self.round_trip.reordering();
        while let Some((sent, sequence)) = self.oldest_transmission() {
            if self.newest_acked_send.is_none_or(|newest| sent + reordering >= newest) {
                break;
            }
            self.mark_lost(sequence);
            self.window.lost(&self.round_trip, now);
        }
    }

    pub(super) fn head_in_flight_since(&self) -> Option<Instant> {
        self.entry(self.base).filter(|head| head.in_flight)?.last_sent
    }

    /// The transmission that has waited longest for its acknowledgement. Forgets the stale entries before it.
    fn oldest_transmission(&mut self) -> Option<(Instant, i64)> {
        while let Some(&(sent, sequence)) = self.sent_order.front() {
            if self.entry(sequence).is_some_and(|entry| entry.in_flight && entry.last_sent == Some(sent)) {
                return Some((sent, sequence));
            }
            self.sent_order.pop_front();
        }
        None
    }

    pub(super) fn mark_lost(&mut self, sequence: i64) {
        let Some(entry) = self.entry_mut(sequence) else { return };
        if entry.in_flight {
            entry.in_flight = false;
            let payload = entry.payload;
            self.in_flight -= payload;
        }
        if sequence < self.next_unsent {
            self.lost.insert(sequence);
        }
    }

    pub(super) fn transmit(&mut self, sequence: i64, now: Instant) -> Option<Bytes> {
        let entry = self.entry_mut(sequence)?;
        entry.transmissions += 1;
        entry.in_flight = true;
        entry.last_sent = Some(now);
        entry.first_sent.get_or_insert(now);
        entry.count_copy(now);
        let (frame, payload, again) = (entry.frame.clone(), entry.payload, entry.transmissions > 1);
        self.in_flight += payload;
        if again {
            self.stats.retransmitted += 1;
        } else {
            self.newest_send = Some(now);
        }
        self.sent_order.push_back((now, sequence));
        self.next_unsent = self.next_unsent.max(sequence + 1);
        Some(frame)
    }
}
