//! The agent's half of the reliable channel: numbering, acknowledgement and retransmission as amazon-ssm-agent does
//! them, weaknesses included. No clock, no task.
//!
//! Source: `agent/session/datachannel/datachannel.go`, constants from `agent/session/config/config.go`.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;
use ssm_session::{
    message::{AgentMessage, MessageType},
    payload::PayloadType,
};
use uuid::Uuid;

use super::clock::epoch_millis;

/// OutgoingMessageBufferCapacity and IncomingMessageBufferCapacity.
const CAPACITY: usize = 100_000;
/// Clock granularity, the least that the retransmission timeout adds to the round trip.
const GRANULARITY: Duration = Duration::from_millis(10);
/// The longest retransmission timeout.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(1);

/// Messages to the client that wait for acknowledgement.
pub(super) struct Sender {
    random: fastrand::Rng,
    next: i64,
    /// The number of the first entry of `unacknowledged`.
    base: i64,
    /// `None` is acknowledged out of order.
    unacknowledged: VecDeque<Option<Unacknowledged>>,
    outstanding: usize,
    round_trip: Duration,
    variation: Duration,
    timeout: Duration,
}

struct Unacknowledged {
    frame: Bytes,
    sent_at: Instant,
}

impl Sender {
    pub(super) fn new(random: fastrand::Rng) -> Self {
        Self {
            random,
            next: 0,
            base: 0,
            unacknowledged: VecDeque::new(),
            outstanding: 0,
            round_trip: Duration::from_millis(100),
            variation: Duration::ZERO,
            timeout: Duration::from_millis(200),
        }
    }

    /// Messages that are not acknowledged.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding
    }

    pub(super) fn message_id(&mut self) -> Uuid {
        uuid::Builder::from_random_bytes(self.random.u128(..).to_be_bytes()).into_uuid()
    }

    /// Makes the next message. The caller sends it, or lets retransmission do so.
    pub(super) fn message(&mut self, payload_type: PayloadType, payload: Bytes, now: Instant) -> Bytes {
        let sequence_number = self.next;
        self.next += 1;
        let message = AgentMessage {
            message_type: MessageType::OutputStreamData,
            created_date: epoch_millis(),
            sequence_number,
            // SYN on the first message alone (SendStreamDataMessage).
            flags: u64::from(sequence_number == 0),
            message_id: self.message_id(),
            payload_type: Some(payload_type.number()),
            payload,
        };
        let frame = message.encode();
        // Beyond its capacity the agent sends, but does not remember (AddDataToOutgoingMessageBuffer).
        let remembered = self.unacknowledged.len() < CAPACITY;
        self.unacknowledged.push_back(remembered.then(|| Unacknowledged { frame: frame.clone(), sent_at: now }));
        self.outstanding += usize::from(remembered);
        frame
    }

    /// Takes the acknowledgement of one message; unknown numbers are ignored.
    pub(super) fn on_acknowledge(&mut self, sequence_number: i64, now: Instant) {
        let Ok(index) = usize::try_from(sequence_number.saturating_sub(self.base)) else { return };
        let Some(acknowledged) = self.unacknowledged.get_mut(index).and_then(Option::take) else { return };
        self.outstanding -= 1;
        self.sample(now.saturating_duration_since(acknowledged.sent_at));
        while let Some(None) = self.unacknowledged.front() {
            self.unacknowledged.pop_front();
            self.base += 1;
        }
    }

    /// calculateRetransmissionTimeout: samples retransmitted messages too.
    fn sample(&mut self, round_trip: Duration) {
        self.variation = self.variation * 3 / 4 + self.round_trip.abs_diff(round_trip) / 4;
        self.round_trip = self.round_trip * 7 / 8 + round_trip / 8;
        self.timeout = (self.round_trip + GRANULARITY.max(self.variation * 4)).min(LONGEST_TIMEOUT);
    }

    /// The messages that are due again among the oldest `limit`. Called every 100 ms; the real agent looks at one alone.
    pub(super) fn resend(&mut self, now: Instant, limit: usize) -> Vec<Bytes> {
        let timeout = self.timeout;
        let oldest = self.unacknowledged.iter_mut().flatten().take(limit);
        let due = oldest.filter(|message| now.saturating_duration_since(message.sent_at) > timeout);
        due.map(|message| {
            message.sent_at = now;
            message.frame.clone()
        })
        .collect()
    }
}

/// The position of a message from the client in its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The next expected message.
    Next,
    /// A message after the next expected one.
    Ahead,
    /// A message that was received before.
    Duplicate,
}

/// Messages from the client, brought into order.
#[derive(Default)]
pub(super) struct Receiver {
    expected: i64,
    stored: BTreeMap<i64, AgentMessage>,
    /// Ids of messages taken in, to see that retransmissions repeat the same message. Ends with the one before
    /// `expected`.
    ids: VecDeque<Uuid>,
}

/// The number of remembered ids.
const IDS: usize = 16_384;

impl Receiver {
    pub(super) fn classify(&self, sequence_number: i64) -> Arrival {
        match sequence_number.cmp(&self.expected) {
            std::cmp::Ordering::Less => Arrival::Duplicate,
            std::cmp::Ordering::Equal => Arrival::Next,
            std::cmp::Ordering::Greater => Arrival::Ahead,
        }
    }

    /// Whether a duplicate equals the first message of its number, as far as that is remembered.
    pub(super) fn is_same(&self, duplicate: &AgentMessage) -> bool {
        let back = self.expected.saturating_sub(duplicate.sequence_number);
        let index = usize::try_from(back).ok().and_then(|back| self.ids.len().checked_sub(back));
        index.and_then(|index| self.ids.get(index)).is_none_or(|id| *id == duplicate.message_id)
    }

    /// The expected message has been processed.
    pub(super) fn advance(&mut self, message: &AgentMessage) {
        self.expected += 1;
        if self.ids.len() == IDS {
            self.ids.pop_front();
        }
        self.ids.push_back(message.message_id);
    }

    /// Keeps a later message; false when there is no room, and it is as if it had not come.
    pub(super) fn store(&mut self, message: AgentMessage) -> bool {
        let room = self.stored.len() < CAPACITY;
        if room {
            self.stored.insert(message.sequence_number, message);
        }
        room
    }

    /// The expected message, if it came earlier.
    pub(super) fn stored_next(&mut self) -> Option<AgentMessage> {
        if self.stored.is_empty() { None } else { self.stored.remove(&self.expected) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_oldest_message_is_resent_and_only_after_the_timeout() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut sender = Sender::new(fastrand::Rng::with_seed(1));
        let frames: Vec<Bytes> =
            (0..3).map(|_| sender.message(PayloadType::Output, Bytes::from_static(b"x"), start)).collect();
        assert_eq!(sender.resend(after(200), 1), Vec::<Bytes>::new());
        assert_eq!(sender.resend(after(201), 1), frames[..1]);
        assert_eq!(sender.resend(after(300), 1), Vec::<Bytes>::new());
        sender.on_acknowledge(1, after(300));
        assert_eq!(sender.resend(after(1400), 1), frames[..1]);
        sender.on_acknowledge(0, after(1400));
        assert_eq!(sender.resend(after(2900), 1), frames[2..]);
        sender.on_acknowledge(2, after(2900));
        sender.on_acknowledge(2, after(2900));
        sender.on_acknowledge(99, after(2900));
        sender.on_acknowledge(-1, after(2900));
        assert_eq!((sender.outstanding(), sender.resend(after(9000), 1)), (0, Vec::new()));
    }

    #[test]
    fn a_faster_agent_resends_all_that_is_due() {
        let start = Instant::now();
        let mut sender = Sender::new(fastrand::Rng::with_seed(1));
        let frames: Vec<Bytes> =
            (0..5).map(|_| sender.message(PayloadType::Output, Bytes::from_static(b"x"), start)).collect();
        sender.on_acknowledge(1, start);
        let expected = [0, 2, 3].map(|n: usize| frames[n].clone());
        assert_eq!(sender.resend(start + Duration::from_secs(2), 3), expected);
        assert_eq!(sender.resend(start + Duration::from_secs(2), 3), Vec::<Bytes>::new());
    }
}
