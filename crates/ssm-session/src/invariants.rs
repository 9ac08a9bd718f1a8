//! Properties that hold for any bytes from a websocket. Each function is the body of a fuzz target (`fuzz/`) and of a property
//! test below. It panics if a property is violated.

use std::{
    task::{Context, Poll, Waker},
    time::{Duration, Instant, UNIX_EPOCH},
};

use bytes::{Buf, Bytes};
use uuid::Uuid;

use crate::{
    channel,
    conversation::{Conversation, EndReason, Options},
    handshake,
    load::Availability,
    message::{AgentMessage, MessageType},
    payload::{
        ChannelClosed, Flag, HandshakeComplete, HandshakeRequest, OpenDataChannelInput, PayloadType, acknowledge,
        acknowledged_sequence_number,
    },
    samples,
    smux::{
        frame::{Command, FrameReader, StreamId},
        mux,
    },
};

/// A message that is accepted is exactly one: without its last byte, or with another one, it is refused. Encoded again it
/// decodes to itself.
pub fn decodes_messages(bytes: &[u8]) {
    let frame = Bytes::copy_from_slice(bytes);
    let Ok(message) = AgentMessage::decode(&frame) else { return };
    assert!(frame.ends_with(&message.payload));
    let (_, shorter) = bytes.split_last().expect("a message has a header");
    assert!(AgentMessage::decode(&Bytes::copy_from_slice(shorter)).is_err());
    let longer = [bytes, &[0]].concat();
    assert!(AgentMessage::decode(&longer.into()).is_err());
    if message.message_type != MessageType::Unknown && message.created_date != 0 {
        let payload_type = Some(message.payload_type.unwrap_or_default());
        let message = AgentMessage { payload_type, ..message };
        assert_eq!(AgentMessage::decode(&message.encode()), Ok(message));
    }
}

/// Payloads are read or refused, and an accepted one encodes to what it was read from. Every handshake request gets a response.
pub fn reads_payloads(bytes: &[u8]) {
    if let Some(flag) = Flag::decode(bytes) {
        assert_eq!(flag.encode(), bytes);
    }
    if let Ok(sequence) = acknowledged_sequence_number(bytes) {
        let message = acknowledge(MessageType::OutputStreamData, Uuid::nil(), sequence, Uuid::nil(), 1);
        assert_eq!(acknowledged_sequence_number(&message.payload).ok(), Some(sequence));
    }
    let closed = ChannelClosed::decode(bytes);
    assert!(closed.output.len() + closed.session_id.len() <= bytes.len().max(1) * 3);
    let (response, outcome) = handshake::respond(bytes);
    assert!(serde_json::to_vec(&response).is_ok());
    assert!(outcome.is_err() || serde_json::from_slice::<HandshakeRequest>(bytes).is_ok());
    let _ = serde_json::from_slice::<HandshakeComplete>(bytes);
    let _ = serde_json::from_slice::<OpenDataChannelInput<'_>>(bytes);
    // Any division of the bytes among messages gives the same frames.
    let read = |pieces: &[&[u8]]| {
        let mut reader = FrameReader::default();
        let mut found = Vec::new();
        for piece in pieces {
            let mut input = Bytes::copy_from_slice(piece);
            loop {
                match reader.next(&mut input) {
                    Ok(Some(piece)) => found.push(format!("{piece:?}")),
                    Ok(None) => break,
                    Err(error) => return (found, Some(error)),
                }
            }
            assert!(input.is_empty(), "an incomplete frame is kept");
        }
        (found, None)
    };
    let (whole, bytewise) = (read(&[bytes]), read(&bytes.chunks(1).collect::<Vec<_>>()));
    assert_eq!(whole.1, bytewise.1);
}

/// A session's memory is bounded while the caller keeps its contract, an ended session stays ended, and every message that it sends
/// is well-formed. `script` contains the messages of the far side, the acts of clients, and the passing of time.
pub fn converses(script: &[u8]) {
    Script::new(script).run();
}

const MAX_UNREAD: usize = 16 << 10;
/// The version of the far side's agent.
const AGENT_VERSION: &str = "3.3.4515.0";

struct Script {
    bytes: Bytes,
    /// The number of bytes of the whole script.
    length: usize,
    conversation: Conversation,
    now: Instant,
    /// The far side's next sequence number.
    next: i64,
    /// Messages of the client that wait for an acknowledgement.
    sent: Vec<AgentMessage>,
    streams: Vec<StreamId>,
    ended: Option<EndReason>,
}

impl Script {
    fn new(script: &[u8]) -> Self {
        let now = Instant::now();
        let options = Options {
            channel: channel::Options::default(),
            mux: mux::Options { max_unread: MAX_UNREAD, max_unsent: 4 << 10, ..mux::Options::default() },
            ..Options::default()
        };
        let mut conversation = Conversation::new(options, fastrand::Rng::with_seed(1), now, UNIX_EPOCH);
        conversation.connected(now);
        Self {
            bytes: Bytes::copy_from_slice(script),
            length: script.len(),
            conversation,
            now,
            next: 0,
            sent: Vec::new(),
            streams: Vec::new(),
            ended: None,
        }
    }

    fn run(mut self) {
        while self.bytes.has_remaining() {
            let act = self.byte();
            self.act(act);
            self.listen();
            self.check();
        }
    }

    fn byte(&mut self) -> u8 {
        self.bytes.try_get_u8().unwrap_or_default()
    }

    fn some_bytes(&mut self) -> Bytes {
        let length = usize::from(self.byte()).min(self.bytes.len());
        self.bytes.split_to(length)
    }

    fn act(&mut self, act: u8) {
        let mut cx = Context::from_waker(Waker::noop());
        match act % 20 {
            0 => {
                let frame = self.some_bytes();
                self.hear(&frame);
            }
            1 => {
                let (payload_type, offset) = (u32::from(self.byte()), i64::from(self.byte()));
                let payload = self.some_bytes();
                self.say_at(self.next.saturating_add(offset - 4), payload_type, payload);
            }
            2 => self.say(PayloadType::HandshakeRequest, samples::handshake_request(AGENT_VERSION).into()),
            3 => self.say(PayloadType::HandshakeComplete, Bytes::from_static(b"{}")),
            4..=7 => {
                let (command, stream) = (self.byte(), self.byte());
                let data = self.some_bytes();
                let command = match command % 4 {
                    0 => Command::Syn,
                    1 => Command::Fin,
                    2 => Command::Psh,
                    _ => Command::Nop,
                };
                self.say(PayloadType::Output, samples::frame(command, StreamId(stream.into()), &data));
            }
            8 | 9 => {
                let at = usize::from(self.byte());
                if !self.sent.is_empty() {
                    let message = self.sent.swap_remove(at % self.sent.len());
                    let (id, sequence) = (message.message_id, message.sequence_number);
                    let reply = acknowledge(message.message_type, id, sequence, Uuid::from_u128(7), 1);
                    self.hear(&reply.encode());
                }
            }
            10 | 11 => {
                let ticks = u64::from(self.byte());
                self.now += Duration::from_millis(ticks * 40);
                self.conversation.on_timeout(self.now);
            }
            12 => self.streams.extend(self.conversation.open_stream(self.now)),
            13 => self.streams.extend(self.conversation.open_urgent_stream(self.now)),
            14 => {
                let data = self.some_bytes();
                if let Some(id) = self.stream() {
                    let _ = self.conversation.mux().poll_write(id, &mut cx, &data);
                }
            }
            15 => {
                let max = usize::from(self.byte()) + 1;
                if let Some(id) = self.stream()
                    && let Poll::Ready(Ok(data)) = self.conversation.mux().poll_read(id, &mut cx, max)
                {
                    assert!(data.len() <= max);
                }
            }
            16 => {
                if let Some(id) = self.stream() {
                    self.conversation.mux().shutdown(id);
                }
            }
            17 => {
                if let Some(id) = self.stream() {
                    self.conversation.mux().abandon(id);
                    self.streams.retain(|open| *open != id);
                }
            }
            18 => {
                self.conversation.disconnected();
                self.conversation.connected(self.now);
            }
            _ => match self.byte() % 4 {
                0 => self.conversation.terminate(self.now),
                1 => self.service_says(MessageType::ChannelClosed),
                2 => self.service_says(MessageType::PausePublication),
                _ => self.service_says(MessageType::StartPublication),
            },
        }
    }

    /// One of the open streams.
    fn stream(&mut self) -> Option<StreamId> {
        let at = usize::from(self.byte());
        self.streams.get(at % self.streams.len().max(1)).copied()
    }

    fn say(&mut self, payload_type: PayloadType, payload: Bytes) {
        self.say_at(self.next, payload_type.number(), payload);
        self.next += 1;
    }

    fn say_at(&mut self, sequence_number: i64, payload_type: u32, payload: Bytes) {
        let message_type = MessageType::OutputStreamData;
        self.tell(message_type, sequence_number, Some(payload_type), payload);
    }

    fn service_says(&mut self, message_type: MessageType) {
        let payload = self.some_bytes();
        self.tell(message_type, 0, None, payload);
    }

    fn tell(&mut self, message_type: MessageType, sequence_number: i64, payload_type: Option<u32>, payload: Bytes) {
        self.hear(&samples::message(message_type, sequence_number, payload_type, payload).encode());
    }

    /// Hands a frame on as the driver does: only while input is wanted.
    fn hear(&mut self, frame: &Bytes) {
        if self.conversation.wants_input() {
            let _ = self.conversation.on_frame(frame, self.now);
        }
    }

    fn listen(&mut self) {
        for _ in 0..100_000 {
            let Some(frame) = self.conversation.poll_transmit(self.now) else { return };
            let message = AgentMessage::decode(&frame).expect("sent messages are well-formed");
            let known = self.sent.iter().any(|sent| sent.sequence_number == message.sequence_number);
            if message.message_type == MessageType::InputStreamData && !known {
                self.sent.push(message);
            }
        }
        panic!("the session sends without end");
    }

    fn check(&mut self) {
        let unread = self.conversation.mux().unread();
        assert!(unread <= self.length, "{unread} bytes are kept of {}", self.length);
        let ended = self.conversation.ended().cloned();
        assert!(self.ended.is_none() || self.ended == ended, "an end is final");
        if ended.is_some() {
            assert_eq!(self.conversation.availability(), Availability::Over);
            assert_eq!(self.conversation.next_timeout(), None);
        }
        self.ended = ended;
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// The handshake, two streams, then anything.
    fn opened(then: &[u8]) -> Vec<u8> {
        [&[2, 3, 10, 255, 12, 12][..], then].concat()
    }

    proptest! {
        #[test]
        fn messages_are_decoded_or_refused(
            noise in vec(any::<u8>(), 0..200),
            payload in vec(any::<u8>(), 1..64),
            sequence_number in any::<i64>(),
            at in any::<prop::sample::Index>(),
            with in any::<u8>(),
        ) {
            decodes_messages(&noise);
            let message = samples::message(MessageType::OutputStreamData, sequence_number, Some(1), payload.into());
            let mut frame = message.encode().to_vec();
            decodes_messages(&frame);
            let at = at.index(frame.len());
            frame[at] = with;
            decodes_messages(&frame);
        }

        #[test]
        fn payloads_are_read_or_refused(noise in vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>()) {
            reads_payloads(&noise);
            let mut request = samples::handshake_request(AGENT_VERSION).into_bytes();
            let at = at.index(request.len());
            request[at] = noise.first().copied().unwrap_or_default();
            reads_payloads(&request);
        }

        #[test]
        fn conversations_survive_any_script(script in vec(any::<u8>(), 0..400)) {
            converses(&script);
            converses(&opened(&script));
        }
    }
}
