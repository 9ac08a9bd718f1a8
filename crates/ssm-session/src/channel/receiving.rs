//! The receiving half: stream data in order, once each, and an acknowledgement for every copy.

use std::time::Instant;

use bytes::Bytes;
use uuid::Uuid;

use super::{Channel, Event, REACKNOWLEDGED};
use crate::{
    message::{AgentMessage, MessageType},
    payload::{self, PayloadType},
};

impl Channel {
    pub(super) fn on_stream_data(&mut self, message: &AgentMessage, now: Instant) {
        let sequence = message.sequence_number;
        let payload_type = PayloadType::from(message.payload_type.unwrap_or_default());
        if sequence < self.expected || self.stored.contains_key(&sequence) {
            self.stats.duplicates += 1;
        } else if sequence == self.expected {
            self.remember_received(message, now);
            self.deliver(payload_type, message.payload.clone());
            while let Some((payload_type, payload)) = self.stored.remove(&self.expected) {
                self.stored_bytes -= payload.len();
                self.deliver(payload_type, payload);
            }
        } else if self.stored.len() < self.options.max_stored_messages
            && self.stored_bytes + message.payload.len() <= self.options.max_stored_bytes
        {
            self.stats.out_of_order += 1;
            self.stored_bytes += message.payload.len();
            self.remember_received(message, now);
            self.stored.insert(sequence, (payload_type, message.payload.clone()));
        } else {
            self.stats.dropped_full += 1;
            return;
        }
        // Duplicates too: the agent resends nothing else until it has heard this.
        self.acknowledge(sequence, message.message_id, now);
    }

    fn deliver(&mut self, payload_type: PayloadType, payload: Bytes) {
        self.expected += 1;
        self.port_ready |= payload_type == PayloadType::Output;
        self.events.push_back(Event::Payload(payload_type, payload));
    }

    fn remember_received(&mut self, message: &AgentMessage, now: Instant) {
        if self.recently_received.len() == REACKNOWLEDGED.0 {
            self.recently_received.pop_front();
        }
        self.recently_received.push_back((now, message.sequence_number, message.message_id));
    }

    pub(super) fn acknowledge(&mut self, sequence: i64, id: Uuid, now: Instant) {
        let (message_id, created_date) = (self.message_id(), self.created_date(now));
        self.acks.push_back(
            payload::acknowledge(MessageType::OutputStreamData, id, sequence, message_id, created_date).encode(),
        );
    }
}
