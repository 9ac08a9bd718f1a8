//! The streams of one session against a scripted agent.

use std::task::Waker;

use super::*;
use crate::{
    samples,
    vectors::{self, unhex},
};

impl Mux {
    /// Bytes written and not yet sent.
    pub(crate) fn unsent(&self) -> usize {
        self.streams.values().map(Stream::unsent).sum()
    }
}

fn number(places: usize) -> SequenceNumber {
    SequenceNumber::FIRST.plus(places)
}

fn psh(id: StreamId, data: &[u8]) -> Bytes {
    samples::frame(Command::Psh, id, data)
}

fn fin(id: StreamId) -> Bytes {
    samples::frame(Command::Fin, id, b"")
}

fn read(mux: &mut Mux, id: StreamId) -> Poll<Result<BytesMut, StreamError>> {
    mux.poll_read(id, &mut Context::from_waker(Waker::noop()), 1 << 20)
}

fn write(mux: &mut Mux, id: StreamId, data: &[u8]) -> Poll<Result<usize, StreamError>> {
    mux.poll_write(id, &mut Context::from_waker(Waker::noop()), data)
}

fn pieces(mut payload: Bytes) -> Vec<Piece> {
    let mut reader = FrameReader::default();
    std::iter::from_fn(|| reader.next(&mut payload).unwrap()).collect()
}

#[test]
fn recorded_cases_give_the_same_streams_as_the_reference_receiver() {
    let vectors = vectors::smux();
    let mut run = 0;
    for case in vectors["receive_cases"].as_array().unwrap() {
        let Some(chunks) = case["input_chunks_hex"].as_array() else { continue };
        let now = Instant::now();
        let mut mux = Mux::new(Options::default());
        // The cases were recorded on the accepting side; here the same streams exist because we opened them.
        while mux.next_id <= StreamId(9) {
            mux.open(now);
        }
        let alive = chunks.iter().all(|chunk| mux.on_input(unhex(chunk), now).is_ok());
        if case["name"].as_str().unwrap().ends_with("_desync") {
            assert!(!alive, "{}: the reference loses its place, here it is an error", case["name"]);
            continue;
        }
        assert_eq!(alive, case["expected"]["session_alive"].as_bool().unwrap(), "{}", case["name"]);
        for stream in case["expected"]["streams"].as_array().unwrap() {
            let id = StreamId(stream["stream_id"].as_u64().unwrap().try_into().unwrap());
            let mut data = BytesMut::new();
            let eof = loop {
                match read(&mut mux, id) {
                    Poll::Ready(Ok(more)) if more.is_empty() => break true,
                    Poll::Ready(Ok(more)) => data.extend_from_slice(&more),
                    Poll::Ready(Err(error)) => panic!("{}: {error}", case["name"]),
                    Poll::Pending => break false,
                }
            };
            // The reference hands on whole frames; here bytes are handed on as they arrive.
            if case["name"] != "truncated_payload" {
                assert_eq!(data, unhex(&stream["data_hex"]), "{}", case["name"]);
            }
            assert_eq!(eof, stream["eof"].as_bool().unwrap(), "{}", case["name"]);
        }
        run += 1;
    }
    assert!(run >= 8, "{run} cases");
}

#[test]
fn syn_and_first_bytes_share_a_message_and_streams_take_turns() {
    let now = Instant::now();
    let mut mux = Mux::new(Options::default());
    let (a, b) = (mux.open(now).unwrap(), mux.open(now).unwrap());
    assert_eq!((a, b), (StreamId(3), StreamId(5)));
    assert!(matches!(write(&mut mux, a, &[1; 5000]), Poll::Ready(Ok(5000))));
    assert!(matches!(write(&mut mux, b, b"small"), Poll::Ready(Ok(5))));
    let first = pieces(mux.poll_output(1024, now).unwrap());
    assert_eq!(first[0], Piece::Control(Command::Syn, a));
    assert!(matches!(&first[1], Piece::Data(id, data) if *id == a && data.len() == 1024 - 16));
    let second = pieces(mux.poll_output(1024, now).unwrap());
    assert_eq!(second[..2], [Piece::Control(Command::Syn, b), Piece::Data(b, Bytes::from_static(b"small"))]);
    assert!(matches!(&second[2], Piece::Data(id, _) if *id == a), "the rest of the room goes to the next stream");
}

#[test]
fn streams_are_active_while_bytes_move_and_until_their_handle_is_dropped() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let mut mux = Mux::new(Options::default());
    let (left, stays) = (mux.open(start).unwrap(), mux.open(start).unwrap());
    for id in [left, stays] {
        let _ = write(&mut mux, id, b"question");
        let _ = mux.poll_output(1024, start);
        mux.on_input(psh(id, b"answer"), at(10)).unwrap();
    }
    assert_eq!((mux.active_count(at(20)), mux.is_dialling(at(20))), (2, true));
    mux.abandon(left);
    assert_eq!((mux.active_count(at(20)), mux.is_dialling(at(20))), (1, true));
    assert_eq!((mux.active_count(at(509)), mux.is_dialling(at(509))), (1, false));
    assert_eq!(mux.active_count(at(510)), 0, "at rest");
    mux.on_input(psh(stays, b"more"), at(600)).unwrap();
    assert_eq!(mux.active_count(at(700)), 1);
    mux.abandon(stays);
    assert!(!mux.is_dialling(at(20)), "a dropped stream begins nothing");
    assert_eq!(mux.stream_count(), 2, "the agent has not sent its FIN");
}

#[test]
fn fin_never_overtakes_queued_bytes() {
    let now = Instant::now();
    let mut mux = Mux::new(Options::default());
    let id = mux.open(now).unwrap();
    let _ = write(&mut mux, id, &[7; 3000]);
    mux.abandon(id);
    let mut data = 0;
    let mut last = None;
    while let Some(payload) = mux.poll_output(1024, now) {
        assert!(payload.len() <= 1024);
        for piece in pieces(payload) {
            if let Piece::Data(_, bytes) = &piece {
                data += bytes.len();
            }
            last = Some(piece);
        }
    }
    assert_eq!((data, last), (3000, Some(Piece::Control(Command::Fin, id))));
    assert_eq!(mux.stream_count(), 1, "the agent may still be dialling for it");
    mux.on_input(fin(id), now).unwrap();
    assert_eq!(mux.stream_count(), 0);
}

#[test]
fn fin_of_a_half_close_waits_for_that_of_the_agent_or_for_the_drop_of_the_handle() {
    for agent_first in [true, false] {
        let now = Instant::now();
        let mut mux = Mux::new(Options::default());
        let id = mux.open(now).unwrap();
        let _ = write(&mut mux, id, b"question");
        mux.shutdown(id);
        assert!(!pieces(mux.poll_output(1024, now).unwrap()).contains(&Piece::Control(Command::Fin, id)));
        let late = now + Duration::from_hours(1);
        mux.on_input(psh(id, b"answer"), late).unwrap();
        assert_eq!((mux.next_timeout(), mux.poll_output(1024, late)), (None, None), "the reply may take its time");
        assert!(matches!(read(&mut mux, id), Poll::Ready(Ok(data)) if &data[..] == b"answer"));
        if agent_first {
            mux.on_input(fin(id), late).unwrap();
        } else {
            mux.abandon(id);
        }
        assert_eq!(pieces(mux.poll_output(1024, late).unwrap()), [Piece::Control(Command::Fin, id)]);
    }
}

#[test]
fn flag_3_refuses_the_next_silent_stream_that_ends_and_no_other() {
    let now = Instant::now();
    let mut mux = Mux::new(Options::default());
    let ids: Vec<_> = (0..3).map(|_| mux.open(now).unwrap()).collect();
    mux.on_input(psh(ids[0], b"hello"), now).unwrap();
    mux.on_dial_failed();
    mux.on_input(fin(ids[0]), now).unwrap();
    mux.on_input(fin(ids[1]), now).unwrap();
    mux.on_input(fin(ids[2]), now).unwrap();
    assert!(matches!(read(&mut mux, ids[0]), Poll::Ready(Ok(data)) if &data[..] == b"hello"));
    assert!(matches!(read(&mut mux, ids[0]), Poll::Ready(Ok(data)) if data.is_empty()));
    assert_eq!(read(&mut mux, ids[1]), Poll::Ready(Err(StreamError::Refused)));
    assert!(matches!(read(&mut mux, ids[2]), Poll::Ready(Ok(data)) if data.is_empty()));
}

#[test]
fn hanging_dial_makes_the_session_stuck_until_the_agent_ends_it() {
    let now = Instant::now();
    let mut mux = Mux::new(without_question());
    let id = dialled(&mut mux, 1, now);
    let deadline = mux.next_timeout().unwrap();
    assert_eq!(deadline, now + Duration::from_secs(10));
    mux.on_timeout(deadline);
    assert!(mux.is_stuck());
    assert_eq!(read(&mut mux, id), Poll::Ready(Err(StreamError::DialTimeout(Duration::from_secs(10)))));
    mux.on_input(fin(id), now).unwrap();
    assert!(!mux.is_stuck());
}

/// A dial timeout of 10 s without question streams.
fn without_question() -> Options {
    let (dial_timeout, dial_question) = (Duration::from_secs(10), Duration::from_hours(1));
    Options { dial_timeout, dial_question, ..Options::default() }
}

/// Opens a stream whose SYN goes out under a number and is acknowledged.
fn dialled(mux: &mut Mux, sequence: usize, now: Instant) -> StreamId {
    let id = mux.open(now).unwrap();
    mux.poll_output(1024, now).unwrap();
    mux.on_sent(number(sequence));
    mux.on_acknowledged(|acknowledged| acknowledged == number(sequence), now);
    id
}

#[test]
fn dial_timeout_begins_when_the_agent_has_acknowledged_the_syn() {
    const SECOND: Duration = Duration::from_secs(1);
    let now = Instant::now();
    let mut mux = Mux::new(without_question());
    let id = mux.open(now).unwrap();
    assert_eq!(mux.next_timeout(), None, "the SYN waits behind a full window");
    mux.poll_output(1024, now + SECOND * 20).unwrap();
    mux.on_sent(number(7));
    mux.on_acknowledged(|acknowledged| acknowledged == number(6), now + SECOND * 21);
    assert_eq!(mux.next_timeout(), Some(now + SECOND * 30));
    mux.on_acknowledged(|acknowledged| acknowledged == number(7), now + SECOND * 22);
    assert_eq!(mux.next_timeout(), Some(now + SECOND * 32));
    mux.on_timeout(now + SECOND * 31);
    assert!(read(&mut mux, id).is_pending() && !mux.is_stuck());
}

#[test]
fn stream_is_announced_by_an_acknowledgement_and_its_waiter_learns_of_a_failure() {
    let now = Instant::now();
    let announced = |mux: &mut Mux, id| mux.poll_announced(id, &mut Context::from_waker(Waker::noop()));
    let mut mux = Mux::new(without_question());
    let id = mux.open(now).unwrap();
    mux.poll_output(1024, now).unwrap();
    mux.on_sent(number(1));
    assert!(announced(&mut mux, id).is_pending(), "sent");
    mux.on_acknowledged(|_| true, now);
    assert_eq!(announced(&mut mux, id), Poll::Ready(Ok(())));
    let refused = dialled(&mut mux, 2, now);
    mux.on_dial_failed();
    mux.on_input(fin(refused), now).unwrap();
    assert_eq!(announced(&mut mux, refused), Poll::Ready(Err(StreamError::Refused)));
    let lost = mux.open(now).unwrap();
    mux.fail_unacknowledged(&StreamError::LinkLost);
    assert_eq!(announced(&mut mux, lost), Poll::Ready(Err(StreamError::LinkLost)));
}

#[test]
fn unacknowledged_syn_is_the_fault_of_the_agent_and_does_not_make_the_session_stuck() {
    let now = Instant::now();
    let mut mux = Mux::new(without_question());
    let (sent, queued) = (mux.open(now).unwrap(), mux.open(now).unwrap());
    mux.poll_output(9, now).unwrap();
    mux.on_sent(number(1));
    let taken = dialled(&mut mux, 2, now);
    mux.on_timeout(now + Duration::from_secs(9));
    mux.fail_unacknowledged(&StreamError::AgentSilent);
    assert_eq!(read(&mut mux, sent), Poll::Ready(Err(StreamError::AgentSilent)));
    assert!(read(&mut mux, queued).is_pending(), "its SYN went out with the next message");
    assert!(read(&mut mux, taken).is_pending() && !mux.is_stuck());
}

#[test]
fn refusal_of_a_dial_that_timed_out_does_not_hit_the_next_stream() {
    let now = Instant::now();
    let mut mux = Mux::new(without_question());
    let late = dialled(&mut mux, 1, now);
    mux.on_timeout(now + Duration::from_secs(10));
    assert!(matches!(read(&mut mux, late), Poll::Ready(Err(StreamError::DialTimeout(_)))));
    mux.abandon(late);
    mux.on_dial_failed();
    mux.on_input(fin(late), now).unwrap();
    let next = dialled(&mut mux, 2, now);
    mux.on_input(fin(next), now).unwrap();
    assert!(
        matches!(read(&mut mux, next), Poll::Ready(Ok(end)) if end.is_empty()),
        "the server closed without sending a byte"
    );
}

#[test]
fn agent_may_be_blocked_when_four_megabytes_are_outstanding_without_a_reply() {
    let now = Instant::now();
    let mut mux = Mux::new(Options { max_unsent: 64 << 20, ..Options::default() });
    let id = dialled(&mut mux, 1, now);
    let upload = |mux: &mut Mux, bytes: usize| {
        assert_eq!(write(mux, id, &vec![7; bytes]), Poll::Ready(Ok(bytes)));
        while mux.poll_output(32 << 10, now).is_some() {}
    };
    upload(&mut mux, 4 << 20);
    assert!(mux.may_block_the_agent() && mux.is_awaiting());
    mux.on_input(psh(id, b"an answer"), now).unwrap();
    assert!(!mux.may_block_the_agent() && !mux.is_awaiting());
    upload(&mut mux, 64 << 20);
    for _ in 0..2 {
        assert!(mux.may_block_the_agent());
        mux.on_input(psh(id, b"an answer"), now).unwrap();
    }
    mux.on_input(psh(id, b"an answer"), now).unwrap();
    assert!(!mux.may_block_the_agent(), "a long upload counts as read soon after its end");
    upload(&mut mux, 64 << 20);
    mux.on_input(fin(id), now).unwrap();
    assert!(!mux.may_block_the_agent(), "the rest is thrown away with the connection");
}

#[test]
fn unread_bytes_are_bounded_and_reading_or_dropping_makes_room() {
    let now = Instant::now();
    let mut mux = Mux::new(Options { max_unread: 1000, ..Options::default() });
    let (a, b) = (mux.open(now).unwrap(), mux.open(now).unwrap());
    mux.on_input(psh(a, &[1; 600]), now).unwrap();
    assert!(!mux.is_full());
    mux.on_input(psh(b, &[2; 400]), now).unwrap();
    assert!(mux.is_full());
    assert!(matches!(read(&mut mux, b), Poll::Ready(Ok(data)) if data.len() == 400));
    assert!(!mux.is_full());
    mux.abandon(a);
    assert_eq!(mux.unread(), 0);
    mux.on_input(psh(a, &[1; 600]), now).unwrap();
    assert_eq!(mux.unread(), 0, "no bytes are kept for a dropped handle");
}

#[test]
fn end_of_the_session_reaches_every_stream_after_its_received_bytes() {
    let now = Instant::now();
    let mut mux = Mux::new(Options::default());
    let id = mux.open(now).unwrap();
    mux.on_input(psh(id, b"last words"), now).unwrap();
    let over = StreamError::SessionEnded("idle".into());
    mux.end(over.clone());
    assert!(matches!(read(&mut mux, id), Poll::Ready(Ok(data)) if &data[..] == b"last words"));
    assert_eq!(read(&mut mux, id), Poll::Ready(Err(over.clone())));
    assert_eq!(write(&mut mux, id, b"x"), Poll::Ready(Err(over)));
    assert_eq!(mux.open(now), None);
    mux.abandon(id);
    assert_eq!(mux.stream_count(), 0);
}

#[test]
fn ids_are_never_reused_and_run_out() {
    let now = Instant::now();
    let mut mux = Mux::new(Options::default());
    mux.next_id = StreamId(u32::MAX - 2);
    assert!(mux.open(now).is_some());
    assert_eq!(mux.open(now), None);
}

/// The streams in a payload, each with its command, or `None` for data.
fn commands(payload: Bytes) -> Vec<(StreamId, Option<Command>)> {
    pieces(payload)
        .into_iter()
        .map(|piece| match piece {
            Piece::Control(command, id) => (id, Some(command)),
            Piece::Data(id, _) => (id, None),
        })
        .collect()
}

#[test]
fn question_stream_distinguishes_a_silent_destination_from_one_that_does_not_accept() {
    for accepts in [true, false] {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut mux = Mux::new(Options::default());
        let id = mux.open(start).unwrap();
        assert!(write(&mut mux, id, b"SSLRequest").is_ready());
        mux.poll_output(1024, start).unwrap();
        mux.on_sent(number(1));
        mux.on_acknowledged(|_| true, start);
        assert_eq!(mux.next_timeout(), Some(at(4)));
        mux.on_timeout(at(4));
        let question = StreamId(id.0 + 2);
        let asked = commands(mux.poll_output(1024, at(4)).unwrap());
        assert_eq!(asked, [(question, Some(Command::Syn)), (question, Some(Command::Fin))]);
        assert!(!mux.is_accepted(id));
        if accepts {
            mux.on_input(fin(question), at(5)).unwrap();
            assert!(mux.is_accepted(id));
            assert_eq!((mux.next_timeout(), mux.stream_count()), (None, 1));
            mux.on_timeout(at(60));
            assert!(read(&mut mux, id).is_pending() && !mux.is_stuck(), "the reply may take its time");
            mux.on_input(psh(id, b"S"), at(60)).unwrap();
            assert!(matches!(read(&mut mux, id), Poll::Ready(Ok(data)) if data[..] == b"S"[..]));
        } else {
            assert_eq!(mux.next_timeout(), Some(at(8)));
            mux.on_timeout(at(8));
            let error = StreamError::DialTimeout(Duration::from_secs(8));
            assert_eq!(read(&mut mux, id), Poll::Ready(Err(error)));
            assert!(mux.is_stuck() && mux.poll_output(1024, at(8)).is_none());
            // The dial ends at last, but the question stream is still being dialled.
            mux.on_dial_failed();
            mux.on_input(fin(id), at(127)).unwrap();
            assert!(mux.is_stuck());
            mux.on_dial_failed();
            mux.on_input(fin(question), at(254)).unwrap();
            assert!(!mux.is_stuck());
        }
    }
}

#[test]
fn reply_on_a_later_stream_shows_that_earlier_ones_are_connected() {
    let start = Instant::now();
    let mut mux = Mux::new(Options::default());
    let (first, second, third) = (mux.open(start).unwrap(), mux.open(start).unwrap(), mux.open(start).unwrap());
    mux.poll_output(1024, start).unwrap();
    mux.on_sent(number(1));
    mux.on_acknowledged(|_| true, start);
    mux.on_input(psh(second, b"x"), start).unwrap();
    assert_eq!([first, second, third].map(|id| mux.is_accepted(id)), [true, true, false]);
    mux.on_timeout(start + Duration::from_secs(8));
    assert!(read(&mut mux, first).is_pending());
    assert!(matches!(read(&mut mux, third), Poll::Ready(Err(StreamError::DialTimeout(_)))));
}

#[test]
fn urgent_stream_has_no_dial_timeout() {
    let start = Instant::now();
    let mut mux = Mux::new(Options::default());
    let urgent = mux.open_urgent(start).unwrap();
    mux.poll_output(1024, start).unwrap();
    mux.on_sent(number(1));
    mux.on_timeout(start + Duration::from_secs(9));
    mux.on_acknowledged(|_| true, start + Duration::from_secs(10));
    mux.on_timeout(start + Duration::from_secs(20));
    assert!(read(&mut mux, urgent).is_pending() && !mux.is_stuck());
    mux.on_input(psh(urgent, b"S"), start + Duration::from_secs(20)).unwrap();
    assert!(matches!(read(&mut mux, urgent), Poll::Ready(Ok(data)) if data == "S"));
}

#[test]
fn urgent_stream_receives_bytes_while_others_are_not_read() {
    let now = Instant::now();
    let mut mux = Mux::new(Options { max_unread: 100, ..Options::default() });
    let bulk = mux.open(now).unwrap();
    mux.on_input(psh(bulk, &[0; 100]), now).unwrap();
    assert!(mux.is_full());
    let urgent = mux.open_urgent(now).unwrap();
    assert!(!mux.is_full());
    mux.on_input(psh(urgent, b"S"), now).unwrap();
    for _ in 0..=URGENT_ROOM / 32_000 {
        if !mux.is_full() {
            mux.on_input(psh(bulk, &vec![0; 32_000]), now).unwrap();
        }
    }
    assert!(mux.is_full() && mux.unread() < 101 + URGENT_ROOM + 32_000, "{}", mux.unread());
    mux.abandon(urgent);
    assert!(mux.is_full());
}
