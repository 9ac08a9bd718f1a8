//! The far side of a conversation, scripted by a test.

use std::{
    collections::BTreeMap,
    task::{Context, Poll, Waker},
};

use bytes::BytesMut;

use super::*;

/// The far side: acknowledges the messages that it receives, and sends what the test wants.
pub(super) struct Far {
    pub(super) now: Instant,
    pub(super) conversation: Conversation,
    pub(super) next: i64,
    /// The payloads that have arrived, with their types.
    pub(super) heard: Vec<(u32, Bytes)>,
    /// The numbers that the client has acknowledged.
    pub(super) acknowledged: Vec<i64>,
    pub(super) acknowledges: bool,
    /// Larger payloads are dropped on the way.
    pub(super) largest: usize,
    /// The first payload that arrived under each number.
    pub(super) numbered: BTreeMap<i64, Bytes>,
    /// The share of messages and acknowledgements that get lost, and the generator that decides which.
    pub(super) loss: f64,
    pub(super) random: fastrand::Rng,
}

impl Far {
    pub(super) fn new(options: Options) -> Self {
        let now = Instant::now();
        let mut conversation = Conversation::new(options, fastrand::Rng::with_seed(1), now, SystemTime::now());
        conversation.connected(now);
        Self {
            now,
            conversation,
            next: 0,
            heard: Vec::new(),
            acknowledged: Vec::new(),
            acknowledges: true,
            largest: usize::MAX,
            numbered: BTreeMap::new(),
            loss: 0.0,
            random: fastrand::Rng::with_seed(1),
        }
    }

    pub(super) fn open(version: &str) -> Self {
        Self::open_with(version, Options::default())
    }

    pub(super) fn open_with(version: &str, options: Options) -> Self {
        let mut far = Self::new(options);
        far.say(PayloadType::HandshakeRequest, samples::handshake_request(version).as_bytes());
        far.say(PayloadType::HandshakeComplete, b"{}");
        assert!(far.takes_streams());
        far.advance(DEAF_TIME);
        far.listen();
        far.heard.clear();
        far.numbered.clear();
        far
    }

    pub(super) fn condition(&mut self) -> Condition {
        self.conversation.condition(self.now)
    }

    pub(super) fn takes_streams(&self) -> bool {
        self.conversation.availability() == Availability::Ready
    }

    pub(super) fn message(message_type: MessageType, sequence_number: i64, payload_type: u32, payload: &[u8]) -> Bytes {
        samples::message(message_type, sequence_number, Some(payload_type), Bytes::copy_from_slice(payload)).encode()
    }

    pub(super) fn say(&mut self, payload_type: PayloadType, payload: &[u8]) {
        let frame = Self::message(MessageType::OutputStreamData, self.next, payload_type.number(), payload);
        self.next += 1;
        self.conversation.on_frame(&frame, self.now).unwrap();
        self.listen();
    }

    pub(super) fn say_smux(&mut self, command: Command, id: StreamId, data: &[u8]) {
        self.say(PayloadType::Output, &samples::frame(command, id, data));
    }

    pub(super) fn listen(&mut self) {
        while let Some(frame) = self.conversation.poll_transmit(self.now) {
            let message = AgentMessage::decode(&frame).unwrap();
            if message.message_type == MessageType::Acknowledge {
                self.acknowledged.push(payload::acknowledged_sequence_number(&message.payload).unwrap());
                continue;
            }
            if message.payload.len() > self.largest || self.random.f64() < self.loss {
                continue;
            }
            self.heard.push((message.payload_type.unwrap(), message.payload.clone()));
            if message.payload_type == Some(PayloadType::Output.number()) {
                self.numbered.entry(message.sequence_number).or_insert(message.payload.clone());
            }
            if self.acknowledges && self.random.f64() >= self.loss {
                let ack = payload::acknowledge(
                    MessageType::InputStreamData,
                    message.message_id,
                    message.sequence_number,
                    Uuid::from_u128(8),
                    1,
                );
                self.conversation.on_frame(&ack.encode(), self.now).unwrap();
            }
        }
    }

    pub(super) fn advance(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.conversation.next_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.conversation.on_timeout(self.now);
            self.listen();
        }
        self.now = until;
    }

    pub(super) fn write(&mut self, id: StreamId, data: &[u8]) {
        let written = self.conversation.mux().poll_write(id, &mut Context::from_waker(Waker::noop()), data);
        assert_eq!(written, Poll::Ready(Ok(data.len())));
        self.listen();
    }

    /// The bytes of a stream that the agent has, after checking that no message between them is missing.
    pub(super) fn uploaded(&self, id: StreamId) -> BytesMut {
        let first = *self.numbered.keys().next().unwrap();
        assert!(self.numbered.keys().copied().eq((first..).take(self.numbered.len())), "a gap in the sequence");
        let (mut reader, mut uploaded) = (FrameReader::default(), BytesMut::new());
        for payload in self.numbered.values() {
            let mut payload = payload.clone();
            while let Some(piece) = reader.next(&mut payload).unwrap() {
                if let Piece::Data(stream, data) = piece {
                    assert_eq!(stream, id);
                    uploaded.extend_from_slice(&data);
                }
            }
        }
        uploaded
    }

    /// The sizes of data messages, in the order in which they arrived.
    pub(super) fn sizes(&self) -> Vec<usize> {
        let output = PayloadType::Output.number();
        self.heard.iter().filter(|(kind, _)| *kind == output).map(|(_, payload)| payload.len()).collect()
    }

    pub(super) fn nops(&self) -> usize {
        self.heard.iter().filter(|(_, payload)| *payload == NOP).count()
    }

    pub(super) fn read(&mut self, id: StreamId) -> Poll<Result<BytesMut, StreamError>> {
        self.conversation.mux().poll_read(id, &mut Context::from_waker(Waker::noop()), 1 << 20)
    }
}

/// Options for tests that count messages: no question streams.
pub(super) fn without_dial_questions() -> Options {
    let mux = mux::Options { dial_question: Duration::from_hours(1), ..mux::Options::default() };
    Options { mux, ..Options::default() }
}

pub(super) fn noise(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(5);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}
