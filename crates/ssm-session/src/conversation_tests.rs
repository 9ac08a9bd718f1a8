//! A whole conversation against a scripted agent, in simulated time.

use std::{
    collections::BTreeMap,
    task::{Context, Poll, Waker},
};

use bytes::BytesMut;
use uuid::Uuid;

use super::*;
use crate::{
    fault_table::Held,
    message::{AgentMessage, MessageType},
    payload,
    smux::frame::{Command, FrameReader, Header, Piece, StreamId},
};

impl Conversation {
    pub(in super::super) fn held(&self) -> Held {
        let (unacknowledged, stored) = self.channel.held();
        Held { unacknowledged, stored, unread: self.mux.unread(), unsent: self.mux.unsent() }
    }
}

#[path = "conversation_tests/silence.rs"]
mod silence;

const REQUEST: &str = r#"{"AgentVersion":"VERSION","RequestedClientActions":[{"ActionType":"SessionType","ActionParameters":
    {"SessionType":"Port","Properties":{"host":"db.example","portNumber":"5432","type":"LocalPortForwarding"}}}]}"#;

/// The far side: acknowledges what it hears and says what the test wants.
struct Far {
    now: Instant,
    conversation: Conversation,
    next: i64,
    heard: Vec<(u32, Bytes)>,
    acknowledged: Vec<i64>,
    acknowledges: bool,
    /// Larger payloads are swallowed on the way.
    largest: usize,
    /// The first payload that arrived under each number.
    numbered: BTreeMap<i64, Bytes>,
    /// The share of messages and acknowledgements that get lost, and what decides which.
    loss: f64,
    random: fastrand::Rng,
}

impl Far {
    fn new(options: Options) -> Self {
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

    fn open(version: &str) -> Self {
        Self::open_with(version, Options::default())
    }

    fn open_with(version: &str, options: Options) -> Self {
        let mut far = Self::new(options);
        far.say(PayloadType::HandshakeRequest, REQUEST.replace("VERSION", version).as_bytes());
        far.say(PayloadType::HandshakeComplete, b"{}");
        assert!(far.takes_streams());
        far.advance(HANDSHAKE_LAG);
        far
    }

    fn condition(&mut self) -> Condition {
        self.conversation.condition(self.now)
    }

    fn takes_streams(&self) -> bool {
        self.conversation.availability() == Availability::Ready
    }

    fn message(message_type: MessageType, sequence_number: i64, payload_type: u32, payload: &[u8]) -> Bytes {
        AgentMessage {
            message_type,
            created_date: 1,
            sequence_number,
            flags: 0,
            message_id: Uuid::from_u128(9),
            payload_type: Some(payload_type),
            payload: Bytes::copy_from_slice(payload),
        }
        .encode()
    }

    fn say(&mut self, payload_type: PayloadType, payload: &[u8]) {
        let frame = Self::message(MessageType::OutputStreamData, self.next, payload_type.number(), payload);
        self.next += 1;
        self.conversation.on_frame(&frame, self.now).unwrap();
        self.listen();
    }

    fn say_smux(&mut self, command: Command, id: StreamId, data: &[u8]) {
        let mut frame = BytesMut::new();
        Header { command, length: data.len().try_into().unwrap(), stream: id }.encode(&mut frame);
        frame.extend_from_slice(data);
        self.say(PayloadType::Output, &frame);
    }

    fn listen(&mut self) {
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

    fn advance(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.conversation.next_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.conversation.on_timeout(self.now);
            self.listen();
        }
        self.now = until;
    }

    fn write(&mut self, id: StreamId, data: &[u8]) {
        let written = self.conversation.mux().poll_write(id, &mut Context::from_waker(Waker::noop()), data);
        assert_eq!(written, Poll::Ready(Ok(data.len())));
        self.listen();
    }

    /// What the agent has of a stream, after checking that no message is missing between those it has.
    fn uploaded(&self, id: StreamId) -> BytesMut {
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
    fn sizes(&self) -> Vec<usize> {
        let output = PayloadType::Output.number();
        self.heard.iter().filter(|(kind, _)| *kind == output).map(|(_, payload)| payload.len()).collect()
    }

    fn nops(&self) -> usize {
        self.heard.iter().filter(|(_, payload)| *payload == NOP).count()
    }

    fn read(&mut self, id: StreamId) -> Poll<Result<BytesMut, StreamError>> {
        self.conversation.mux().poll_read(id, &mut Context::from_waker(Waker::noop()), 1 << 20)
    }
}

#[test]
fn the_handshake_is_answered_once_and_no_data_goes_out_before_its_end() {
    let mut far = Far::new(Options::default());
    let request = REQUEST.replace("VERSION", "3.3.987.0");
    far.say(PayloadType::HandshakeRequest, request.as_bytes());
    let again = Far::message(MessageType::OutputStreamData, 0, 5, request.as_bytes());
    far.conversation.on_frame(&again, far.now).unwrap();
    far.listen();
    assert_eq!(far.acknowledged, [0, 0], "the repeated request is acknowledged again");
    assert_eq!(far.heard.iter().filter(|(kind, _)| *kind == 6).count(), 1, "and not answered again");
    assert_eq!(far.conversation.open_stream(far.now), None);
    far.say(PayloadType::HandshakeComplete, br#"{"HandshakeTimeToComplete":1,"CustomerMessage":"hello"}"#);
    assert_eq!(far.conversation.take_customer_message().as_deref(), Some("hello"));
    assert!(far.conversation.open_stream(far.now).is_some());
}

#[test]
fn data_wait_until_the_agent_knows_that_its_handshake_is_complete() {
    let mut far = Far::new(Options::default());
    far.say(PayloadType::HandshakeRequest, REQUEST.replace("VERSION", "3.3.987.0").as_bytes());
    far.say(PayloadType::HandshakeComplete, b"{}");
    let id = far.conversation.open_stream(far.now).unwrap();
    far.write(id, b"early");
    assert_eq!(far.sizes(), [0; 0]);
    let due = far.now + HANDSHAKE_LAG;
    assert_eq!(far.conversation.next_timeout(), Some(due));
    far.now = due;
    far.conversation.on_timeout(due);
    far.listen();
    assert_eq!(far.uploaded(id), "early");
}

#[test]
fn handshake_complete_out_of_order_is_not_lost() {
    let mut far = Far::new(Options::default());
    let complete = Far::message(MessageType::OutputStreamData, 1, 7, b"{}");
    far.conversation.on_frame(&complete, far.now).unwrap();
    far.say(PayloadType::HandshakeRequest, REQUEST.replace("VERSION", "3.3.987.0").as_bytes());
    assert!(far.takes_streams());
    assert_eq!(far.acknowledged, [1, 0]);
}

#[test]
fn what_cannot_work_ends_the_session_with_its_reason() {
    for (payload_type, said, reason) in [
        (
            PayloadType::HandshakeRequest,
            REQUEST.replace("VERSION", "3.0.196.0"),
            EndReason::Handshake(HandshakeError::AgentTooOld("3.0.196.0".into())),
        ),
        (PayloadType::Output, "early".into(), EndReason::Handshake(HandshakeError::NoHandshake)),
    ] {
        let mut far = Far::new(Options::default());
        far.say(payload_type, said.as_bytes());
        assert_eq!(far.conversation.ended(), Some(&reason));
    }
    let mut far = Far::new(Options::default());
    far.advance(Duration::from_secs(25));
    assert_eq!(far.conversation.ended(), Some(&EndReason::HandshakeTimeout(Duration::from_secs(25))));
}

#[test]
fn a_refused_dial_reaches_its_stream_and_the_session_lives_on() {
    let mut far = Far::open("3.3.987.0");
    let (first, second) =
        (far.conversation.open_stream(far.now).unwrap(), far.conversation.open_stream(far.now).unwrap());
    far.write(first, b"SSLRequest");
    far.say(PayloadType::Flag, &Flag::ConnectToPortError.encode());
    far.say_smux(Command::Fin, first, b"");
    assert_eq!(far.read(first), Poll::Ready(Err(StreamError::Refused)));
    far.say_smux(Command::Psh, second, b"S");
    assert!(matches!(far.read(second), Poll::Ready(Ok(data)) if &data[..] == b"S"));
    assert!(far.takes_streams());
}

#[test]
fn a_hanging_dial_fails_its_stream_after_eight_seconds_and_the_session_takes_no_more() {
    let mut far = Far::open("3.3.987.0");
    let id = far.conversation.open_stream(far.now).unwrap();
    far.write(id, b"SSLRequest");
    far.advance(Duration::from_secs(7));
    assert!(far.read(id).is_pending() && far.takes_streams());
    far.advance(Duration::from_secs(1));
    assert!(matches!(far.read(id), Poll::Ready(Err(StreamError::DialTimeout(_)))));
    assert_eq!(far.conversation.open_stream(far.now), None);
    assert!(far.conversation.ended().is_none(), "streams that work go on");
}

#[test]
fn streams_outlive_a_cut_and_a_dial_gets_its_time_again() {
    let mut far = Far::open("3.3.987.0");
    let id = far.conversation.open_stream(far.now).unwrap();
    far.acknowledges = false;
    far.write(id, b"question");
    far.conversation.disconnected();
    assert_eq!(far.conversation.open_stream(far.now), None, "not while there is no connection");
    far.now += Duration::from_mins(1);
    far.acknowledges = true;
    far.heard.clear();
    far.conversation.connected(far.now);
    far.listen();
    assert_eq!(far.heard.len(), 1, "what was not acknowledged goes out again");
    far.advance(Duration::from_secs(7));
    assert!(far.read(id).is_pending());
    far.say_smux(Command::Psh, id, b"answer");
    assert!(matches!(far.read(id), Poll::Ready(Ok(data)) if &data[..] == b"answer"));
}

#[test]
fn a_session_knows_since_when_it_is_idle_and_tells_the_agent_when_it_ends() {
    let mut far = Far::open("3.3.987.0");
    assert_eq!(far.conversation.load(far.now).idle_since.map(|opened| opened + HANDSHAKE_LAG), Some(far.now));
    let id = far.conversation.open_stream(far.now).unwrap();
    far.write(id, b"x");
    assert!(far.conversation.load(far.now).dialling);
    far.say_smux(Command::Psh, id, b"y");
    far.advance(Duration::from_hours(1));
    let load = far.conversation.load(far.now);
    assert_eq!((load.streams, load.dialling, load.idle_since), (1, false, None));
    far.conversation.mux().abandon(id);
    far.listen();
    far.say_smux(Command::Fin, id, b"");
    let left = far.now;
    far.advance(Duration::from_secs(299));
    assert_eq!(far.conversation.load(far.now).idle_since, Some(left));
    far.conversation.terminate(far.now);
    far.listen();
    assert_eq!(far.conversation.ended(), Some(&EndReason::Terminated));
    let flags: Vec<_> = far.heard.iter().filter(|(kind, _)| *kind == 10).collect();
    assert_eq!(flags, [&(10, Flag::TerminateSession.encode())]);
}

#[test]
fn a_condition_tells_bulk_and_clients_that_do_not_read() {
    let mut far = Far::open("3.3.987.0");
    let id = far.conversation.open_stream(far.now).unwrap();
    far.write(id, b"select");
    assert_eq!((far.condition().bulk, far.condition().stalled), (false, false));
    for _ in 0..1024 {
        far.say_smux(Command::Psh, id, &[7; 1024]);
    }
    assert_eq!((far.condition().bulk, far.condition().stalled), (true, true));
    far.advance(Duration::from_secs(2));
    assert_eq!((far.condition().bulk, far.condition().stalled), (false, true));
    while far.read(id).is_ready() {}
    assert!(!far.condition().stalled);
}

#[test]
fn terminating_waits_for_the_acknowledgement_but_not_for_long() {
    let mut far = Far::open("3.3.987.0");
    far.acknowledges = false;
    far.conversation.terminate(far.now);
    far.conversation.terminate(far.now);
    far.listen();
    assert!(far.conversation.ended().is_none());
    far.advance(Duration::from_secs(2));
    assert_eq!(far.conversation.ended(), Some(&EndReason::Terminated));
}

#[test]
fn channel_closed_in_answer_to_our_own_end_is_no_other_end() {
    let mut far = Far::open("3.3.987.0");
    far.acknowledges = false;
    far.conversation.terminate(far.now);
    let closed = Far::message(MessageType::ChannelClosed, 0, 0, b"{}");
    far.conversation.on_frame(&closed, far.now).unwrap();
    assert_eq!(far.conversation.ended(), Some(&EndReason::Terminated));
}

#[test]
fn old_agents_get_a_keep_alive_each_ten_seconds_and_new_ones_one_question() {
    for (version, expected) in [("3.1.1511.0", 6), ("3.1.1512.0", 1)] {
        let mut far = Far::open_with(version, without_dial_questions());
        far.conversation.open_stream(far.now).unwrap();
        far.listen();
        far.heard.clear();
        far.advance(Duration::from_secs(61));
        assert_eq!(far.nops(), expected, "{version}");
    }
}

/// Where messages are counted: no dial is asked after.
fn without_dial_questions() -> Options {
    let mux = mux::Options { dial_question: Duration::from_hours(1), ..mux::Options::default() };
    Options { mux, ..Options::default() }
}

fn large(payload_size: usize) -> Options {
    Options { payload_size, ..without_dial_questions() }
}

fn noise(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(5);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

#[test]
fn messages_grow_once_a_large_one_that_nobody_would_miss_was_acknowledged() {
    let mut far = Far::open_with("3.3.987.0", large(4096));
    let id = far.conversation.open_stream(far.now).unwrap();
    far.write(id, b"a small question");
    assert!(far.sizes().iter().all(|size| *size < 100), "interactive use tries nothing: {:?}", far.sizes());
    far.heard.clear();
    let data = noise(100_000);
    far.write(id, &data);
    assert_eq!(far.uploaded(id), [b"a small question", &data[..]].concat());
    let sizes = far.sizes();
    assert_eq!(sizes[..3], [1024, 4096, 4096], "the usual one, the trial, and what it was for");
    assert!(far.heard[1].1.chunks(8).all(|frame| frame == NOP));
    assert!(sizes.len() < 30, "{sizes:?}");
}

#[test]
fn a_large_message_that_is_swallowed_costs_some_seconds_and_no_byte() {
    // The second fills the window alone, so that nothing can overtake it.
    for (size, millis) in [(4096, 2000), (65_536, 4000)] {
        let mut far = Far::open_with("3.3.987.0", large(size));
        far.largest = 1024;
        let id = far.conversation.open_stream(far.now).unwrap();
        let data = noise(100_000);
        far.write(id, &data);
        far.advance(Duration::from_millis(millis - 1));
        assert_eq!(far.nops(), 0, "{size}");
        far.advance(Duration::from_millis(1));
        assert_eq!(far.nops(), 1, "{size}: in its place");
        assert_eq!(far.uploaded(id), data);
        far.write(id, &data);
        assert_eq!(far.uploaded(id), data.repeat(2));
        assert!(far.sizes().iter().all(|size| *size <= 1024), "no other is tried");
    }
}

#[test]
fn a_trial_that_nothing_follows_has_four_seconds_and_slow_acknowledgements_have_them_too() {
    for passes in [false, true] {
        let mut far = Far::open_with("3.3.987.0", large(4096));
        let id = far.conversation.open_stream(far.now).unwrap();
        far.write(id, b"a small question");
        far.largest = 1024;
        far.write(id, &noise(1024 - 8));
        far.advance(Duration::from_millis(2500));
        if passes {
            far.largest = usize::MAX;
        }
        far.advance(Duration::from_millis(1499));
        assert_eq!((far.nops(), far.sizes().last()), if passes { (0, Some(&4096)) } else { (0, Some(&1024)) });
        far.advance(Duration::from_secs(1));
        assert_eq!((far.nops(), far.sizes().last()), if passes { (0, Some(&4096)) } else { (1, Some(&8)) });
    }
}

#[test]
fn a_websocket_that_closes_on_a_large_message_is_not_sent_it_again() {
    let mut far = Far::open_with("3.3.987.0", large(4096));
    far.largest = 1024;
    let id = far.conversation.open_stream(far.now).unwrap();
    let data = noise(100_000);
    far.write(id, &data);
    far.conversation.disconnected();
    far.now += Duration::from_millis(500);
    far.largest = usize::MAX;
    far.conversation.connected(far.now);
    far.listen();
    assert_eq!(far.uploaded(id), data);
    assert_eq!(far.nops(), 1);
    assert!(far.sizes().iter().all(|size| *size <= 1024), "{:?}", far.sizes());
}

#[test]
fn with_losses_and_any_limit_on_the_way_nothing_is_lost_doubled_or_moved() {
    for seed in 0..1000 {
        let mut far = Far::open_with("3.3.987.0", large(2048));
        far.random = fastrand::Rng::with_seed(seed);
        far.loss = far.random.f64() * 0.3;
        far.largest = if far.random.bool() { 1024 } else { usize::MAX };
        let id = far.conversation.open_stream(far.now).unwrap();
        let data = noise(20_000);
        far.write(id, &data);
        for _ in 0..300 {
            if far.conversation.channel.is_drained() && !far.conversation.mux.has_output() {
                break;
            }
            if far.random.u8(..50) == 0 {
                far.conversation.disconnected();
                far.conversation.connected(far.now);
                far.listen();
            }
            far.advance(Duration::from_millis(300));
        }
        assert_eq!(far.uploaded(id), data, "seed {seed}");
    }
}

#[test]
fn keep_alive_is_for_open_streams_and_only_when_nothing_else_was_sent() {
    let mut far = Far::open_with("3.3.987.0", Options { keep_alive: true, ..Options::default() });
    far.advance(Duration::from_mins(2));
    assert_eq!(far.nops(), 0, "no stream");
    let id = far.conversation.open_stream(far.now).unwrap();
    far.write(id, b"question");
    far.say_smux(Command::Psh, id, b"answer");
    far.advance(Duration::from_secs(29));
    assert_eq!(far.nops(), 1, "whether the agent is there");
    far.write(id, b"another");
    far.advance(Duration::from_secs(44));
    assert_eq!(far.nops(), 2, "the same after 15 s");
    far.advance(Duration::from_secs(1));
    assert_eq!(far.nops(), 3);
    far.advance(Duration::from_mins(10));
    assert_eq!(far.nops(), 23, "twice a minute, for the shortest timeout there is");
    far.acknowledges = false;
    far.write(id, b"to a server that does not read");
    far.advance(Duration::from_mins(4));
    assert_eq!(far.nops(), 23, "what waits for its acknowledgement does as well");
}

#[test]
fn the_end_of_the_idle_timeout_is_told_two_minutes_before_once_and_again_after_new_input() {
    let (minutes, question) = (Duration::from_mins, Duration::from_secs(15));
    let mut far = Far::open_with("3.3.987.0", Options { idle_timeout: Some(minutes(20)), ..Options::default() });
    let id = far.conversation.open_stream(far.now).unwrap();
    far.write(id, b"question");
    far.say_smux(Command::Psh, id, b"answer");
    far.advance(minutes(10));
    far.say_smux(Command::Psh, id, b"the agent's output does not count, the question after it does");
    far.advance(question + minutes(17) + Duration::from_millis(59_999));
    assert_eq!(far.conversation.take_idle_warning(), None);
    far.advance(Duration::from_millis(1));
    let warning = IdleWarning { timeout: minutes(20), left: minutes(2), streams: 1 };
    assert_eq!(far.conversation.take_idle_warning(), Some(warning));
    far.advance(minutes(1));
    assert_eq!(far.conversation.take_idle_warning(), None, "once");
    far.write(id, b"another");
    far.say_smux(Command::Psh, id, b"answer");
    far.advance(question + minutes(18));
    assert_eq!(far.conversation.take_idle_warning(), Some(warning));
    // A short timeout leaves half of it; resuming the session starts it again.
    far.conversation.disconnected();
    far.conversation.connected(far.now);
    far.conversation.set_idle_timeout(minutes(1));
    far.advance(Duration::from_secs(30));
    let warning = IdleWarning { timeout: minutes(1), left: Duration::from_secs(30), streams: 1 };
    assert_eq!(far.conversation.take_idle_warning(), Some(warning));
}

#[test]
fn a_session_without_streams_or_with_keep_alive_is_not_warned_of() {
    let idle_timeout = Some(Duration::from_mins(2));
    let mut far = Far::open_with("3.3.987.0", Options { idle_timeout, ..Options::default() });
    far.advance(Duration::from_mins(4));
    assert_eq!(far.conversation.take_idle_warning(), None);
    let mut far = Far::open_with("3.3.987.0", Options { idle_timeout, keep_alive: true, ..Options::default() });
    let id = far.conversation.open_stream(far.now).unwrap();
    far.write(id, b"question");
    far.say_smux(Command::Psh, id, b"answer");
    far.advance(Duration::from_hours(1));
    assert_eq!(far.conversation.take_idle_warning(), None);
    assert!(far.conversation.ended().is_none());
}

#[test]
fn channel_closed_delivers_what_came_before_and_then_its_words() {
    let mut far = Far::open("3.3.987.0");
    let id = far.conversation.open_stream(far.now).unwrap();
    far.say_smux(Command::Psh, id, b"last words");
    let closed = Far::message(MessageType::ChannelClosed, 0, 0, br#"{"Output":"Session idle for too long"}"#);
    far.conversation.on_frame(&closed, far.now).unwrap();
    assert!(matches!(far.read(id), Poll::Ready(Ok(data)) if &data[..] == b"last words"));
    assert_eq!(far.read(id), Poll::Ready(Err(StreamError::SessionEnded("Session idle for too long".into()))));
}

#[test]
fn bytes_that_are_no_smux_end_the_session() {
    let mut far = Far::open("3.3.987.0");
    far.say(PayloadType::Output, b"HTTP/1.1 400 Bad Request");
    assert!(matches!(far.conversation.ended(), Some(EndReason::Smux(_))));
}

#[test]
fn a_small_write_goes_out_at_most_one_message_after_its_turn_has_come() {
    let mut far = Far::open("3.3.987.0");
    let (bulk, other) =
        (far.conversation.open_stream(far.now).unwrap(), far.conversation.open_stream(far.now).unwrap());
    // The agent's port is known to be open.
    far.say_smux(Command::Psh, bulk, b"go on");
    far.acknowledges = false;
    far.write(bulk, &[7; 16_000]);
    while far.conversation.mux().unsent() == 0 {
        far.write(bulk, &[7; 16_000]);
    }
    let sent = far.heard.len();
    far.write(other, b"small");
    assert_eq!(far.heard.len(), sent, "the window is full");
    for sequence in 10..13 {
        let ids = (Uuid::from_u128(1), Uuid::from_u128(2));
        let ack = payload::acknowledge(MessageType::InputStreamData, ids.0, sequence, ids.1, 1);
        far.conversation.on_frame(&ack.encode(), far.now).unwrap();
        far.listen();
    }
    let place = far.heard[sent..].iter().position(|(_, payload)| payload.windows(5).any(|bytes| bytes == b"small"));
    assert!(place.is_some_and(|place| place <= 1), "{place:?}");
}
