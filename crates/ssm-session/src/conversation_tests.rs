//! A whole conversation with a scripted agent, in simulated time.

#[path = "conversation_tests/far.rs"]
mod far;
#[path = "conversation_tests/idle.rs"]
mod idle;
#[path = "conversation_tests/large_messages.rs"]
mod large_messages;
#[path = "conversation_tests/silence.rs"]
mod silence;

use std::task::Poll;

use uuid::Uuid;

use self::far::{Far, noise, without_dial_questions};
use super::*;
use crate::{
    fault_table::Held,
    message::{AgentMessage, MessageType},
    payload,
    readiness::DEAF_TIME,
    samples,
    smux::{
        frame::{Command, FrameReader, Piece, StreamId},
        mux,
    },
};

impl Conversation {
    pub(in super::super) fn held(&self) -> Held {
        let (unacknowledged, stored) = self.channel.held();
        Held { unacknowledged, stored, unread: self.mux.unread(), unsent: self.mux.unsent() }
    }
}

#[test]
fn handshake_gets_one_response_and_no_data_goes_out_before_its_end() {
    let mut far = Far::new(Options::default());
    let request = samples::handshake_request("3.3.987.0");
    far.say(PayloadType::HandshakeRequest, request.as_bytes());
    let again = Far::message(MessageType::OutputStreamData, 0, 5, request.as_bytes());
    far.conversation.on_frame(&again, far.now).unwrap();
    far.listen();
    assert_eq!(far.acknowledged, [0, 0], "the repeated request is acknowledged again");
    assert_eq!(far.heard.iter().filter(|(kind, _)| *kind == 6).count(), 1, "and gets no second response");
    assert_eq!(far.conversation.open_stream(far.now), None);
    far.say(PayloadType::HandshakeComplete, br#"{"HandshakeTimeToComplete":1,"CustomerMessage":"hello"}"#);
    assert_eq!(far.conversation.take_customer_message().as_deref(), Some("hello"));
    assert!(far.conversation.open_stream(far.now).is_some());
}

#[test]
fn data_wait_for_100_ms_if_the_agent_acknowledges_every_nop() {
    let mut far = Far::new(Options::default());
    far.say(PayloadType::HandshakeRequest, samples::handshake_request("3.3.987.0").as_bytes());
    far.say(PayloadType::HandshakeComplete, b"{}");
    let id = far.conversation.open_stream(far.now).unwrap();
    far.write(id, b"early");
    let due = far.now + DEAF_TIME;
    far.advance(Duration::from_millis(99));
    assert_eq!(far.nops(), far.sizes().len());
    assert!((2..20).contains(&far.nops()), "{} probes", far.nops());
    assert_eq!(far.conversation.next_timeout(), Some(due));
    far.advance(Duration::from_millis(1));
    assert_eq!(far.uploaded(id), "early");
}

#[test]
fn data_follow_at_once_when_the_agent_leaves_a_nop_behind() {
    let mut far = Far::new(Options::default());
    far.say(PayloadType::HandshakeRequest, samples::handshake_request("3.3.987.0").as_bytes());
    far.acknowledges = false;
    far.say(PayloadType::HandshakeComplete, b"{}");
    let id = far.conversation.open_stream(far.now).unwrap();
    far.write(id, b"early");
    far.advance(Duration::from_millis(1));
    assert_eq!((far.nops(), far.sizes().len()), (2, 2));
    let acknowledge = |sequence, far: &mut Far| {
        let ids = (Uuid::from_u128(1), Uuid::from_u128(2));
        let ack = payload::acknowledge(MessageType::InputStreamData, ids.0, sequence, ids.1, 1);
        far.conversation.on_frame(&ack.encode(), far.now).unwrap();
        far.listen();
    };
    acknowledge(2, &mut far);
    assert_eq!(far.uploaded(id), "early");
    far.heard.clear();
    far.advance(Duration::from_millis(5));
    assert_eq!(far.nops(), 1, "the agent passes the data on when it has taken this message");
}

#[test]
fn round_trip_is_a_part_of_the_wait_after_the_handshake() {
    for (takes, waits) in [(30, 70), (150, 0)] {
        let mut far = Far::new(Options::default());
        far.acknowledges = false;
        far.say(PayloadType::HandshakeRequest, samples::handshake_request("3.3.987.0").as_bytes());
        far.now += Duration::from_millis(takes);
        let (id, of_ack) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let ack = payload::acknowledge(MessageType::InputStreamData, id, 0, of_ack, 1);
        far.conversation.on_frame(&ack.encode(), far.now).unwrap();
        far.say(PayloadType::HandshakeComplete, b"{}");
        let id = far.conversation.open_stream(far.now).unwrap();
        far.write(id, b"early");
        far.advance(Duration::from_millis(waits));
        far.listen();
        assert_eq!(far.uploaded(id), "early", "{takes} ms");
    }
}

#[test]
fn handshake_complete_out_of_order_is_not_lost() {
    let mut far = Far::new(Options::default());
    let complete = Far::message(MessageType::OutputStreamData, 1, 7, b"{}");
    far.conversation.on_frame(&complete, far.now).unwrap();
    far.say(PayloadType::HandshakeRequest, samples::handshake_request("3.3.987.0").as_bytes());
    assert!(far.takes_streams());
    assert_eq!(far.acknowledged, [1, 0]);
}

#[test]
fn failed_handshake_ends_the_session_with_its_reason() {
    for (payload_type, said, reason) in [
        (
            PayloadType::HandshakeRequest,
            samples::handshake_request("3.0.196.0"),
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
fn refused_dial_fails_its_stream_and_the_session_goes_on() {
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
fn hanging_dial_fails_its_stream_after_eight_seconds_and_blocks_new_ones() {
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
fn streams_survive_a_reconnect_and_dial_timeouts_start_again() {
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
    assert_eq!(far.heard.len(), 1, "unacknowledged messages go out again");
    far.advance(Duration::from_secs(7));
    assert!(far.read(id).is_pending());
    far.say_smux(Command::Psh, id, b"answer");
    assert!(matches!(far.read(id), Poll::Ready(Ok(data)) if &data[..] == b"answer"));
}

#[test]
fn session_records_since_when_it_is_idle_and_sends_a_flag_at_its_end() {
    let mut far = Far::open("3.3.987.0");
    assert_eq!(far.conversation.load(far.now).idle_since.map(|opened| opened + DEAF_TIME), Some(far.now));
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
fn condition_shows_bulk_and_clients_that_do_not_read() {
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
fn terminating_waits_two_seconds_for_the_acknowledgement() {
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
fn channel_closed_in_reply_to_our_own_end_is_a_normal_end() {
    let mut far = Far::open("3.3.987.0");
    far.acknowledges = false;
    far.conversation.terminate(far.now);
    let closed = Far::message(MessageType::ChannelClosed, 0, 0, b"{}");
    far.conversation.on_frame(&closed, far.now).unwrap();
    assert_eq!(far.conversation.ended(), Some(&EndReason::Terminated));
}

#[test]
fn channel_closed_delivers_earlier_bytes_and_then_its_reason() {
    let mut far = Far::open("3.3.987.0");
    let id = far.conversation.open_stream(far.now).unwrap();
    far.say_smux(Command::Psh, id, b"last words");
    let closed = Far::message(MessageType::ChannelClosed, 0, 0, br#"{"Output":"Session idle for too long"}"#);
    far.conversation.on_frame(&closed, far.now).unwrap();
    assert!(matches!(far.read(id), Poll::Ready(Ok(data)) if &data[..] == b"last words"));
    assert_eq!(far.read(id), Poll::Ready(Err(StreamError::SessionEnded("Session idle for too long".into()))));
}

#[test]
fn bytes_that_are_not_smux_end_the_session() {
    let mut far = Far::open("3.3.987.0");
    far.say(PayloadType::Output, b"HTTP/1.1 400 Bad Request");
    assert!(matches!(far.conversation.ended(), Some(EndReason::Smux(_))));
}

#[test]
fn small_write_goes_out_at_most_one_message_after_the_window_opens() {
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
