//! The receiving direction: stream data in order and once each, and an acknowledgement for every copy.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    time::{Duration, Instant},
};

use bytes::Bytes;
use uuid::Uuid;

use super::stamps::Stamps;
use crate::{
    message::{AgentMessage, MessageType},
    payload::{self, PayloadType},
    sequence::SequenceNumber,
};

/// Received messages whose acknowledgements are repeated after a reconnect, at the most: the acknowledgements may have been
/// lost with the websocket, and the agent resends one message per 100 ms (agent [`config.go`], ResendSleepInterval).
///
/// [`config.go`]: https://github.com/aws/amazon-ssm-agent/blob/1c217c89b42de51d4f4063363d8ec1f2eef56055/agent/session/config/config.go#L44
const MAX_REPEATED_ACKS: usize = 2048;
/// Only messages received this shortly before the last one have their acknowledgement repeated.
const REPEATED_ACKS_SPAN: Duration = Duration::from_secs(2);
/// Acknowledgements waiting for a websocket that takes nothing, from which on it is not read any more. They take 2.4 MB.
const MAX_WAITING_ACKS: usize = 8192;

/// How much may be stored out of order.
#[derive(Debug, Clone, Copy)]
pub(super) struct StoreLimits {
    /// Messages.
    pub(super) messages: usize,
    /// Bytes of payload.
    pub(super) bytes: usize,
}

/// Unusual arrivals, counted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Arrivals {
    /// Messages received again.
    pub(super) duplicates: u64,
    /// Messages received before their predecessors.
    pub(super) out_of_order: u64,
    /// Messages left unacknowledged because the store was full.
    pub(super) dropped_full: u64,
}

/// The receiving direction of a channel.
///
/// Invariant (asserted in debug builds): every stored message comes after the expected one.
#[derive(Debug)]
pub(super) struct Receiver {
    limits: StoreLimits,
    arrivals: Arrivals,
    /// The number of the next message to deliver.
    expected: SequenceNumber,
    /// Messages whose predecessors are missing.
    stored: BTreeMap<SequenceNumber, (PayloadType, Bytes)>,
    stored_bytes: usize,
    delivered: VecDeque<(PayloadType, Bytes)>,
    /// Encoded acknowledgements that wait for the websocket.
    acks: VecDeque<Bytes>,
    /// The last messages received, in the order of their arrival.
    recent: VecDeque<(Instant, SequenceNumber, Uuid)>,
}

impl Receiver {
    pub(super) fn new(limits: StoreLimits) -> Self {
        Self {
            limits,
            arrivals: Arrivals::default(),
            expected: SequenceNumber::FIRST,
            stored: BTreeMap::new(),
            stored_bytes: 0,
            delivered: VecDeque::new(),
            acks: VecDeque::new(),
            recent: VecDeque::new(),
        }
    }

    /// Unusual arrivals since the start.
    pub(super) fn arrivals(&self) -> Arrivals {
        self.arrivals
    }

    /// Takes a stream data message, and acknowledges it unless the store is full.
    pub(super) fn on_stream_data(&mut self, message: &AgentMessage, stamps: &mut Stamps, now: Instant) {
        let sequence = SequenceNumber::from_wire(message.sequence_number);
        let payload_type = PayloadType::from(message.payload_type.unwrap_or_default());
        if sequence < self.expected || self.stored.contains_key(&sequence) {
            self.arrivals.duplicates += 1;
        } else if sequence == self.expected {
            self.remember(sequence, message.message_id, now);
            self.deliver(payload_type, message.payload.clone());
            while let Some((payload_type, payload)) = self.stored.remove(&self.expected) {
                self.stored_bytes -= payload.len();
                self.deliver(payload_type, payload);
            }
        } else if self.has_room_for(message.payload.len()) {
            self.arrivals.out_of_order += 1;
            self.stored_bytes += message.payload.len();
            self.remember(sequence, message.message_id, now);
            self.stored.insert(sequence, (payload_type, message.payload.clone()));
        } else {
            self.arrivals.dropped_full += 1;
            return;
        }
        // Duplicates too: the agent resends only its oldest message until the acknowledgement arrives.
        self.acknowledge(sequence, message.message_id, stamps, now);
        debug_assert!(self.stored.keys().next().is_none_or(|first| *first > self.expected));
    }

    /// The next payload in order.
    pub(super) fn poll_delivered(&mut self) -> Option<(PayloadType, Bytes)> {
        self.delivered.pop_front()
    }

    /// The next acknowledgement, encoded.
    pub(super) fn poll_ack(&mut self) -> Option<Bytes> {
        self.acks.pop_front()
    }

    /// Whether the number of waiting acknowledgements is so large that reading more messages would only add to them.
    pub(super) fn is_clogged(&self) -> bool {
        self.acks.len() >= MAX_WAITING_ACKS
    }

    /// The websocket is gone, and the agent will resend what is not acknowledged.
    pub(super) fn on_disconnected(&mut self) {
        self.acks.clear();
    }

    /// A new websocket is open: acknowledges again what was received last over the old one.
    pub(super) fn on_connected(&mut self, stamps: &mut Stamps, now: Instant) {
        let Some(&(last, ..)) = self.recent.back() else { return };
        let recent = mem::take(&mut self.recent);
        for &(at, sequence, id) in &recent {
            if at + REPEATED_ACKS_SPAN >= last {
                self.acknowledge(sequence, id, stamps, now);
            }
        }
        self.recent = recent;
    }

    fn has_room_for(&self, bytes: usize) -> bool {
        self.stored.len() < self.limits.messages && self.stored_bytes + bytes <= self.limits.bytes
    }

    fn deliver(&mut self, payload_type: PayloadType, payload: Bytes) {
        self.expected = self.expected.next();
        self.delivered.push_back((payload_type, payload));
    }

    fn remember(&mut self, sequence: SequenceNumber, id: Uuid, now: Instant) {
        if self.recent.len() == MAX_REPEATED_ACKS {
            self.recent.pop_front();
        }
        self.recent.push_back((now, sequence, id));
    }

    fn acknowledge(&mut self, sequence: SequenceNumber, id: Uuid, stamps: &mut Stamps, now: Instant) {
        let (message_id, created_date) = (stamps.message_id(), stamps.created_date(now));
        let ack = payload::acknowledge(MessageType::OutputStreamData, id, sequence.to_wire(), message_id, created_date);
        self.acks.push_back(ack.encode());
    }
}

#[cfg(test)]
impl Receiver {
    /// Messages and bytes stored out of order.
    pub(super) fn stored(&self) -> (usize, usize) {
        (self.stored.len(), self.stored_bytes)
    }

    /// Acknowledgements that wait for the websocket.
    pub(super) fn waiting_acks(&self) -> usize {
        self.acks.len()
    }
}
