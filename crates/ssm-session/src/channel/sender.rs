//! The sending direction: when a message goes out, what an acknowledgement says about its message and the ones before it,
//! and when a message goes out again.

use std::{
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    inference::NEXT_PROOF_AFTER,
    outbox::{Acknowledged, Outbox},
    stamps::Stamps,
};
use crate::{
    message::{AgentMessage, MessageType},
    payload::PayloadType,
    sequence::SequenceNumber,
    window::{MAX_BACKED_OFF_RTO, RoundTrip, Window},
};

/// The retransmission timeout of the first data messages, which an agent leaves unacknowledged while its port opens (see
/// `readiness`). That takes it some milliseconds, or as long as it looks up a name.
const FIRST_DATA_RTO: RangeInclusive<Duration> = Duration::from_millis(5)..=Duration::from_millis(30);
/// Transmissions after which that timeout doubles.
const FIRST_DATA_TRIES: u32 = 4;

/// The sending direction of a channel.
#[derive(Debug)]
pub(super) struct Sender {
    outbox: Outbox,
    round_trip: RoundTrip,
    window: Window,
    /// The time at which the newest acknowledged message was sent.
    newest_acked_send: Option<Instant>,
    /// When a message last went out for the first time.
    newest_send: Option<Instant>,
    timeouts_in_a_row: u32,
    /// When an acknowledgement last came, or since when one could have come.
    last_progress: Instant,
    give_up_after: Duration,
    /// The agent's port takes data: it has sent some, or has acknowledged a data message that was the oldest. (Later
    /// messages are acknowledged before that, as out of order.)
    port_ready: bool,
    /// The agent may acknowledge data that it throws away.
    discards_data: bool,
    /// The agent never acknowledges a duplicate, see `inference`.
    infers_delivery: bool,
    retransmitted: u64,
}

impl Sender {
    pub(super) fn new(max_window: usize, give_up_after: Duration, now: Instant) -> Self {
        Self {
            outbox: Outbox::new(),
            round_trip: RoundTrip::new(),
            window: Window::new(max_window),
            newest_acked_send: None,
            newest_send: None,
            timeouts_in_a_row: 0,
            last_progress: now,
            give_up_after,
            port_ready: false,
            discards_data: false,
            infers_delivery: false,
            retransmitted: 0,
        }
    }

    /// Messages sent again since the start.
    pub(super) fn retransmitted(&self) -> u64 {
        self.retransmitted
    }

    pub(super) fn is_drained(&self) -> bool {
        self.outbox.is_empty()
    }

    /// The shortest time that an acknowledgement has taken; zero before the first.
    pub(super) fn round_trip(&self) -> Duration {
        self.round_trip.best()
    }

    pub(super) fn is_port_ready(&self) -> bool {
        self.port_ready
    }

    pub(super) fn set_discards_data(&mut self, discards: bool) {
        self.discards_data = discards;
    }

    pub(super) fn is_acknowledged(&self, sequence: SequenceNumber) -> bool {
        self.outbox.is_acknowledged(sequence)
    }

    pub(super) fn is_overtaken(&self, sequence: SequenceNumber) -> bool {
        self.outbox.is_overtaken(sequence)
    }

    /// Since when the oldest message waits on this connection.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        self.outbox.oldest_waits_since()
    }

    /// Whether a new message would be sent at once.
    pub(super) fn has_room(&self) -> bool {
        !self.outbox.has_lost() && !self.outbox.has_unsent() && self.outbox.in_flight() < self.window.size()
    }

    /// Queues a stream data message. Returns its number.
    pub(super) fn send(
        &mut self,
        payload_type: PayloadType,
        payload: Bytes,
        stamps: &mut Stamps,
        now: Instant,
    ) -> SequenceNumber {
        debug_assert!(!payload.is_empty(), "agents refuse empty payloads");
        if self.outbox.is_empty() {
            self.last_progress = now;
        }
        let (length, sequence) = (payload.len(), self.outbox.end());
        let frame = stream_data(sequence, payload_type, payload, stamps, now);
        self.outbox.push(frame, length, payload_type == PayloadType::Output);
        sequence
    }

    /// Puts another Output payload in the place of one that is not acknowledged, and sends it again.
    pub(super) fn replace(&mut self, sequence: SequenceNumber, payload: Bytes, stamps: &mut Stamps, now: Instant) {
        let length = payload.len();
        let frame = stream_data(sequence, PayloadType::Output, payload, stamps, now);
        self.outbox.replace(sequence, frame, length);
    }

    /// The agent has sent data, so its port is open.
    pub(super) fn on_data(&mut self) {
        self.port_ready = true;
    }

    /// The agent never acknowledges a duplicate.
    pub(super) fn infer_delivery(&mut self) {
        self.infers_delivery = true;
    }

    /// The service asks for a pause.
    pub(super) fn on_pause(&mut self, now: Instant) {
        self.window.lost(&self.round_trip, now);
    }

    /// A pause has lasted long enough: the oldest message goes out again, to wake an agent that missed the end of it.
    pub(super) fn on_pause_probe(&mut self) {
        self.outbox.mark_oldest_lost();
    }

    /// A new websocket is open, perhaps over another path: every unacknowledged message goes out again, in order.
    pub(super) fn on_connected(&mut self, now: Instant) {
        self.timeouts_in_a_row = 0;
        self.last_progress = now;
        self.newest_acked_send = None;
        self.window.restart();
        self.round_trip.restart();
        self.outbox.restart();
    }

    /// The agent could not be heard before `now`, so its silence until then does not count.
    pub(super) fn restart_give_up(&mut self, now: Instant) {
        self.last_progress = now;
    }

    /// An acknowledgement came.
    pub(super) fn on_acknowledge(&mut self, sequence: SequenceNumber, now: Instant) {
        let Some(acked) = self.outbox.acknowledge(sequence) else { return };
        self.last_progress = now;
        self.timeouts_in_a_row = 0;
        self.port_ready |= acked.is_output && acked.was_oldest && !self.discards_data;
        self.measure(&acked, now);
        self.window.acknowledged(acked.payload, acked.in_flight, &self.round_trip, now);
        if let Some(first_sent) = acked.first_sent {
            self.infer_from(first_sent);
        }
        self.detect_losses(now);
    }

    /// The next frame: lost messages before new ones.
    pub(super) fn poll_transmit(&mut self, now: Instant) -> Option<Bytes> {
        let proves = self.outbox.has_unsent() && self.wants_proof(now);
        let sequence = self.outbox.next(proves)?;
        // The oldest message goes out whatever the window is: the timer is its own, and all others may wait for it. So does a
        // message that can prove it delivered.
        if !self.outbox.is_oldest(sequence) && !proves && self.outbox.in_flight() >= self.window.size() {
            return None;
        }
        let (frame, again) = self.outbox.transmit(sequence, now)?;
        if again {
            self.retransmitted += 1;
        } else {
            self.newest_send = Some(now);
        }
        Some(frame)
    }

    /// When [`Sender::on_timeout`] resends the oldest message.
    pub(super) fn resend_at(&self) -> Option<Instant> {
        self.outbox.oldest_in_flight_since().map(|sent| sent + self.timeout())
    }

    /// When the channel is given up for want of acknowledgements.
    pub(super) fn give_up_at(&self) -> Option<Instant> {
        (!self.outbox.is_empty()).then(|| self.last_progress + self.give_up_after)
    }

    /// Resends the oldest message if that is due.
    pub(super) fn on_timeout(&mut self, now: Instant) {
        if self.resend_at().is_none_or(|at| now < at) {
            return;
        }
        let timeout = self.timeout();
        // Only the oldest message: more would be waste when the agent is merely blocked, and when more are lost, the
        // acknowledgement of this one shows it (`detect_losses`).
        if self.port_ready {
            self.timeouts_in_a_row += 1;
            self.window.lost(&self.round_trip, now);
        }
        self.outbox.mark_oldest_lost();
        if self.infers_delivery {
            // Acknowledgements are mostly lost together, and each message has to be resent often before its delivery can be
            // inferred: all of them at the same time, not one after the other.
            self.outbox.mark_overdue(timeout, now);
        }
    }

    /// Whether a message has to be made whose acknowledgement can prove the oldest one delivered, because none is waiting.
    pub(super) fn wants_probe(&self, now: Instant) -> bool {
        !self.outbox.has_unsent() && self.wants_proof(now)
    }

    /// Whether a message is needed that was first sent after all copies of the oldest.
    fn wants_proof(&self, now: Instant) -> bool {
        let Some(suspected) = self.outbox.oldest_suspected() else { return false };
        let has_none = self.newest_send.is_none_or(|sent| sent <= suspected || now >= sent + NEXT_PROOF_AFTER);
        self.infers_delivery && now > suspected && has_none
    }

    /// The oldest message was resent often and for a long time, the port takes data, and a message that was first sent after
    /// all those copies has been acknowledged: the agent has the oldest one.
    fn infer_from(&mut self, acked_first_sent: Instant) {
        while self.infers_delivery
            && self.port_ready
            && self.outbox.oldest_suspected().is_some_and(|at| acked_first_sent > at)
        {
            self.outbox.acknowledge_oldest();
        }
    }

    fn measure(&mut self, acked: &Acknowledged, now: Instant) {
        let Some(sent) = acked.last_sent else { return };
        let elapsed = now.saturating_duration_since(sent);
        if acked.transmissions == 1 {
            self.round_trip.measure(elapsed, now);
        }
        // An acknowledgement faster than the path allows is for an earlier copy and says nothing about this one.
        if acked.transmissions == 1 || self.round_trip.could_be(elapsed) {
            self.newest_acked_send = self.newest_acked_send.max(Some(sent));
        }
    }

    /// A message sent well before one that has been acknowledged is lost (the idea of [RFC 8985]).
    ///
    /// [RFC 8985]: https://www.rfc-editor.org/rfc/rfc8985#section-3
    fn detect_losses(&mut self, now: Instant) {
        let reordering = self.round_trip.reordering();
        while let Some((sent, sequence)) = self.outbox.oldest_transmission() {
            if self.newest_acked_send.is_none_or(|newest| sent + reordering >= newest) {
                break;
            }
            self.outbox.mark_lost(sequence);
            if self.port_ready {
                self.window.lost(&self.round_trip, now);
            }
        }
    }

    fn timeout(&self) -> Duration {
        if !self.port_ready
            && let Some(tries) = self.outbox.oldest_output_transmissions()
        {
            let (least, most) = FIRST_DATA_RTO.into_inner();
            let doublings = tries.saturating_sub(1) / FIRST_DATA_TRIES;
            return (least.max(self.round_trip() / 4) * 2_u32.saturating_pow(doublings.min(4))).min(most);
        }
        let doubled = self.round_trip.timeout() * 2_u32.saturating_pow(self.timeouts_in_a_row.min(4));
        doubled.min(MAX_BACKED_OFF_RTO)
    }
}

#[cfg(test)]
impl Sender {
    /// Bytes of payload in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.outbox.in_flight()
    }

    /// Bytes of payload that wait for an acknowledgement, sent or not.
    pub(super) fn unacknowledged(&self) -> usize {
        self.outbox.unacknowledged()
    }
}

fn stream_data(
    sequence: SequenceNumber,
    payload_type: PayloadType,
    payload: Bytes,
    stamps: &mut Stamps,
    now: Instant,
) -> Bytes {
    AgentMessage {
        message_type: MessageType::InputStreamData,
        created_date: stamps.created_date(now),
        sequence_number: sequence.to_wire(),
        flags: 0,
        message_id: stamps.message_id(),
        payload_type: Some(payload_type.number()),
        payload,
    }
    .encode()
}
