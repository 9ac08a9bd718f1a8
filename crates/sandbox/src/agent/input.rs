//! Input of the client: acknowledgements, the HandshakeResponse, flags and smux bytes, each processed once and in order.

use std::time::Instant as StdInstant;

use bytes::Bytes;
use ssm_session::{
    features::Version,
    message::{AgentMessage, DecodeError, MessageType},
    payload::{Flag, HandshakeComplete, HandshakeResponse, PayloadType, acknowledge, acknowledged_sequence_number},
};
use tokio::time::Instant;

use super::{Agent, Phase};
use crate::{
    clock::epoch_millis,
    reliability::Arrival,
    session::{Counters, Ended},
};

impl Agent {
    pub(super) fn on_frame(&mut self, frame: &Bytes) -> Result<(), Ended> {
        let message = match AgentMessage::decode(frame) {
            Ok(message) => message,
            Err(error) => {
                self.link.violation(match error {
                    DecodeError::Digest => "a payload that is not what was digested".into(),
                    error => format!("no AgentMessage: {error}"),
                });
                return Ok(());
            }
        };
        match message.message_type {
            MessageType::Acknowledge => {
                self.active = true;
                if message.flags != 3 {
                    self.link.violation("an acknowledgement without SYN and FIN");
                }
                match acknowledged_sequence_number(&message.payload) {
                    Ok(number) => self.sender.on_acknowledge(number, StdInstant::now()),
                    Err(_) => self.link.violation("an acknowledgement that cannot be read"),
                }
                Ok(())
            }
            MessageType::InputStreamData => {
                self.active = true;
                self.on_stream_data(message)
            }
            other => {
                self.link.violation(format!("a client's message of type {other:?}"));
                Ok(())
            }
        }
    }

    fn on_stream_data(&mut self, message: AgentMessage) -> Result<(), Ended> {
        Counters::add(&self.link.counters.received, 1);
        if message.flags != 0 {
            self.link.violation("data with SYN or FIN");
        }
        if message.payload.is_empty() {
            self.link.violation("a message without payload");
        }
        match self.receiver.classify(message.sequence_number) {
            Arrival::Next => {
                self.process_next(&message, true)?;
                while let Some(stored) = self.receiver.stored_next() {
                    self.process_next(&stored, false)?;
                }
            }
            Arrival::Ahead => {
                let ack = self.acknowledgement(&message);
                if self.receiver.store(message) {
                    self.out.push(ack);
                }
            }
            Arrival::Duplicate => {
                Counters::add(&self.link.counters.duplicates, 1);
                if !self.receiver.is_same(&message) {
                    self.link.violation(format!("another message under the number {}", message.sequence_number));
                }
                if self.features.acknowledges_duplicates() {
                    let ack = self.acknowledgement(&message);
                    self.out.push(ack);
                }
            }
        }
        Ok(())
    }

    /// Processes the expected message, then acknowledges it unless that was done when it came early.
    fn process_next(&mut self, message: &AgentMessage, acknowledges: bool) -> Result<(), Ended> {
        match self.process(message) {
            Processed::Done => {}
            // ErrHandlerNotReady: not acknowledged, and still expected.
            Processed::NotReady => return Ok(()),
            Processed::End(ended) => {
                let ack = self.acknowledgement(message);
                self.out.push(ack);
                return Err(ended);
            }
        }
        self.receiver.advance(message);
        if acknowledges {
            let ack = self.acknowledgement(message);
            // The acknowledgement of the HandshakeResponse and HandshakeComplete come in either order.
            let is_response = message.payload_type == Some(PayloadType::HandshakeResponse.number());
            let overtakes = is_response && self.random.bool();
            let place = if overtakes { self.out.len().saturating_sub(1) } else { self.out.len() };
            self.out.insert(place, ack);
        }
        Ok(())
    }

    fn acknowledgement(&mut self, message: &AgentMessage) -> Bytes {
        let AgentMessage { message_type, message_id, sequence_number, .. } = *message;
        acknowledge(message_type, message_id, sequence_number, self.sender.message_id(), epoch_millis()).encode()
    }

    fn process(&mut self, message: &AgentMessage) -> Processed {
        let payload_type = message.payload_type.map(PayloadType::from);
        match (self.phase, payload_type) {
            (Phase::ExpectResponse { .. }, Some(PayloadType::HandshakeResponse)) => self.on_response(&message.payload),
            (Phase::ExpectResponse { .. }, _) => {
                self.link.violation("data before HandshakeComplete");
                Processed::Done
            }
            (_, Some(PayloadType::HandshakeResponse)) => {
                self.link.violation("a second HandshakeResponse");
                self.phase = Phase::Wedged;
                Processed::Done
            }
            (Phase::Opening { deaf_until, .. }, _) if Instant::now() < deaf_until => Processed::Done,
            (Phase::Opening { .. } | Phase::Wedged, _) => Processed::NotReady,
            (Phase::Open, Some(PayloadType::Output)) => match self.smux.receive(message.payload.clone()) {
                Ok(()) => Processed::Done,
                Err(error) => {
                    self.link.violation(format!("no smux: {error}"));
                    Processed::End(Ended::Failed("Session ended: invalid protocol".into()))
                }
            },
            (Phase::Open, Some(PayloadType::Flag)) => match Flag::decode(&message.payload) {
                Some(Flag::TerminateSession) if self.features.terminate_flag() => Processed::End(Ended::ByFlag),
                _ => Processed::Done,
            },
            (Phase::Open, _) => Processed::Done,
        }
    }

    fn on_response(&mut self, payload: &[u8]) -> Processed {
        let Ok(response) = serde_json::from_slice::<HandshakeResponse>(payload) else {
            self.link.violation("a HandshakeResponse that cannot be read");
            return Processed::Done;
        };
        let done = response.processed_client_actions.iter().filter(|action| action.action_status == 1).count();
        if done != 1 || response.processed_client_actions.len() != 1 {
            return Processed::End(Ended::Failed("Handshake with client failed: SessionType was not accepted".into()));
        }
        let client = Version::parse(&response.client_version);
        if !self.features.mux() || client < Version::parse("1.1.70") {
            let text = "the sandbox's agent does not speak basic mode";
            return Processed::End(Ended::Failed(text.into()));
        }
        let now = Instant::now();
        // muxKeepAliveDisabledAfterThisClientVersion; older agents know nothing of it.
        if !self.features.keep_alive_off() || client <= Version::parse("1.2.331.0") {
            let options = &self.options;
            self.keep_alive = Some((now + options.keep_alive_interval, now + options.keep_alive_timeout));
        }
        let complete = HandshakeComplete {
            handshake_time_to_complete: i64::try_from(self.started.elapsed().as_nanos()).unwrap_or(i64::MAX),
            customer_message: self.options.customer_message.clone(),
        };
        // A destination that it does not like is found before the port is made.
        let opening = if self.refusal().is_some() { super::REFUSES_AFTER } else { self.options.port_ready_after };
        self.phase = Phase::Opening { deaf_until: now + self.options.handshake_lag, until: now + opening };
        let complete = serde_json::to_vec(&complete).expect("a struct of a number and a string is valid JSON");
        self.send(PayloadType::HandshakeComplete, complete.into());
        Processed::Done
    }
}

enum Processed {
    Done,
    NotReady,
    End(Ended),
}
