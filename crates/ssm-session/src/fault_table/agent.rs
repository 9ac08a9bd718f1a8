//! The agent of a conversation in simulated time, as in ssm-agent's `datachannel.go` and `port_mux.go`: one acknowledgement for
//! each message, none before the port is ready, and only the oldest message sent again, at most one every 100 ms.

use std::{
    cmp::Ordering,
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use uuid::Uuid;

use crate::{
    features::AgentFeatures,
    message::{AgentMessage, MessageType},
    payload::{self, PayloadType},
    samples,
    smux::frame::{Command, FrameReader, HEADER, Header, Piece, StreamId},
};

#[derive(Debug)]
pub(super) struct Agent {
    pub(super) features: AgentFeatures,
    pub(super) version: &'static str,
    /// For how long the agent throws data away after HandshakeComplete, and then its port opens.
    pub(super) deaf: Duration,
    pub(super) opening: Duration,
    pub(super) hears_at: Option<Instant>,
    pub(super) expected: i64,
    pub(super) stored: BTreeMap<i64, AgentMessage>,
    pub(super) reader: FrameReader,
    /// The bytes that the destination of each stream has received, and whether their end.
    pub(super) received: BTreeMap<u32, (Vec<u8>, bool)>,
    /// The reply of each destination to its first bytes.
    pub(super) answers: BTreeMap<u32, Vec<u8>>,
    pub(super) pending: BytesMut,
    pub(super) payload: usize,
    pub(super) next_message: Instant,
    pub(super) outgoing: BTreeMap<i64, (Bytes, Instant)>,
    pub(super) next: i64,
    pub(super) next_tick: Instant,
    pub(super) dead: bool,
}

impl Agent {
    pub(super) fn message(message_type: MessageType, sequence_number: i64, kind: PayloadType, payload: Bytes) -> Bytes {
        samples::message(message_type, sequence_number, Some(kind.number()), payload).encode()
    }

    pub(super) fn send(&mut self, kind: PayloadType, payload: Bytes, now: Instant) -> Bytes {
        let frame = Self::message(MessageType::OutputStreamData, self.next, kind, payload);
        self.outgoing.insert(self.next, (frame.clone(), now));
        self.next += 1;
        frame
    }

    pub(super) fn request_handshake(&mut self, now: Instant) -> Bytes {
        let request = samples::handshake_request(self.version);
        self.send(PayloadType::HandshakeRequest, request.into(), now)
    }

    /// Sets the reply of a stream's destination to its first bytes.
    pub(super) fn will_answer(&mut self, id: StreamId, answer: Vec<u8>) {
        self.answers.insert(id.0, answer);
    }

    /// From now on the agent neither receives nor sends.
    pub(super) fn die(&mut self) {
        self.dead = true;
    }

    /// Takes a frame. Returns the frames that it sends in reply.
    pub(super) fn on_frame(&mut self, frame: &Bytes, now: Instant) -> Vec<Bytes> {
        if self.dead {
            return Vec::new();
        }
        let message = AgentMessage::decode(frame).expect("sent messages can be decoded");
        if message.message_type == MessageType::Acknowledge {
            let sequence =
                payload::acknowledged_sequence_number(&message.payload).expect("an acknowledgement has a number");
            self.outgoing.remove(&sequence);
            return Vec::new();
        }
        let (id, sequence) = (message.message_id, message.sequence_number);
        let mut said = Vec::new();
        match sequence.cmp(&self.expected) {
            Ordering::Less if !self.features.acknowledges_duplicates() => return said,
            Ordering::Less => {}
            Ordering::Greater => _ = self.stored.insert(sequence, message),
            Ordering::Equal if !self.process(&message, now, &mut said) => return said,
            Ordering::Equal => {
                while let Some(stored) = self.stored.remove(&self.expected) {
                    assert!(self.process(&stored, now, &mut said), "the real agent would be wedged here");
                }
            }
        }
        let (kind, own) = (MessageType::InputStreamData, Uuid::from_u128(7));
        said.push(payload::acknowledge(kind, id, sequence, own, 1).encode());
        said
    }

    fn process(&mut self, message: &AgentMessage, now: Instant, said: &mut Vec<Bytes>) -> bool {
        match message.payload_type.map(PayloadType::from) {
            Some(PayloadType::HandshakeResponse) => {
                assert_eq!(self.hears_at, None, "a second HandshakeResponse");
                self.hears_at = Some(now + self.deaf);
                said.push(self.send(PayloadType::HandshakeComplete, Bytes::from_static(b"{}"), now));
            }
            Some(PayloadType::Output) if self.hears_at.is_none_or(|at| now < at) => {}
            Some(PayloadType::Output) if self.hears_at.is_none_or(|at| now < at + self.opening) => return false,
            Some(PayloadType::Output) => self.on_smux(message.payload.clone()),
            other => panic!("{other:?}"),
        }
        self.expected += 1;
        true
    }

    fn on_smux(&mut self, mut input: Bytes) {
        while let Some(piece) = self.reader.next(&mut input).expect("the client sends smux") {
            match piece {
                Piece::Control(Command::Syn, id) => {
                    let known = self.received.insert(id.0, (Vec::new(), false));
                    assert_eq!(known, None, "{id:?} was opened twice");
                }
                Piece::Control(Command::Fin, id) => {
                    self.received.get_mut(&id.0).expect("opened").1 = true;
                    Header::control(Command::Fin, id).encode(&mut self.pending);
                }
                Piece::Control(..) => {}
                Piece::Data(id, data) => {
                    let (received, ended) = self.received.get_mut(&id.0).expect("opened");
                    assert!(!*ended, "data after the end of {id:?}");
                    received.extend_from_slice(&data);
                    if let Some(answer) = self.answers.remove(&id.0) {
                        for part in answer.chunks(self.payload.saturating_sub(HEADER)) {
                            let length = part.len().try_into().expect("a message's worth");
                            Header { command: Command::Psh, length, stream: id }.encode(&mut self.pending);
                            self.pending.extend_from_slice(part);
                        }
                    }
                }
            }
        }
    }
}
