//! A whole conversation against a scripted agent, in simulated time.

use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use uuid::Uuid;

use super::*;
use crate::tunnel::{
    smux::frame::{Command, Header, StreamId},
    ssm::{
        message::{AgentMessage, MessageType},
        payload,
    },
};

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
}

impl Far {
    fn new(options: Options) -> Self {
        let now = Instant::now();
        let mut conversation = Conversation::new(options, fastrand::Rng::with_seed(1), now, SystemTime::now());
        conversation.connected(now);
        Self { now, conversation, next: 0, heard: Vec::new(), acknowledged: Vec::new(), acknowledges: true }
    }

    fn open(version: &str) -> Self {
        let mut far = Self::new(Options::default());
        far.say(PayloadType::HandshakeRequest, REQUEST.replace("VERSION", version).as_bytes());
        far.say(PayloadType::HandshakeComplete, b"{}");
        assert!(far.takes_streams());
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
            self.heard.push((message.payload_type.unwrap(), message.payload.clone()));
            if self.acknowledges {
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
fn a_hanging_dial_fails_its_stream_after_ten_seconds_and_the_session_takes_no_more() {
    let mut far = Far::open("3.3.987.0");
    let id = far.conversation.open_stream(far.now).unwrap();
    far.write(id, b"SSLRequest");
    far.advance(Duration::from_secs(9));
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
    far.advance(Duration::from_secs(9));
    assert!(far.read(id).is_pending());
    far.say_smux(Command::Psh, id, b"answer");
    assert!(matches!(far.read(id), Poll::Ready(Ok(data)) if &data[..] == b"answer"));
}

#[test]
fn a_session_knows_since_when_it_is_idle_and_tells_the_agent_when_it_ends() {
    let mut far = Far::open("3.3.987.0");
    let opened = far.now;
    assert_eq!(far.conversation.load(far.now).idle_since, Some(opened));
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
fn old_agents_get_a_keep_alive_each_ten_seconds_and_new_ones_none() {
    for (version, expected) in [("3.1.1511.0", 6), ("3.1.1512.0", 0)] {
        let mut far = Far::open(version);
        far.conversation.open_stream(far.now).unwrap();
        far.listen();
        far.heard.clear();
        far.advance(Duration::from_secs(61));
        assert_eq!(far.heard.iter().filter(|(_, payload)| *payload == NOP).count(), expected, "{version}");
    }
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
