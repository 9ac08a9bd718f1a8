//! Silent agents: dead ones, blocked ones, and those whose destinations send nothing.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A session on which a client has sent a request and received the first bytes of the reply.
fn in_use() -> (Far, StreamId) {
    let mut far = Far::open("3.3.987.0");
    let id = far.conversation.open_stream(far.now).unwrap();
    far.write(id, b"select");
    far.say_smux(Command::Psh, id, b"row");
    assert!(matches!(far.read(id), Poll::Ready(Ok(data)) if &data[..] == b"row"));
    (far, id)
}

fn availability(far: &Far) -> Availability {
    far.conversation.availability()
}

#[test]
fn download_from_a_dead_agent_ends_within_a_minute_with_the_reason() {
    let (mut far, id) = in_use();
    far.acknowledges = false;
    far.advance(SECOND * 14);
    assert_eq!(far.nops(), 0);
    far.advance(SECOND * 5);
    assert!(far.nops() > 0 && availability(&far) == Availability::Ready, "probed after 15 s");
    far.advance(SECOND);
    assert_eq!(availability(&far), Availability::Unresponsive);
    assert_eq!(far.conversation.open_stream(far.now), None);
    far.advance(SECOND * 39);
    assert!(far.read(id).is_pending());
    far.advance(SECOND);
    let reason = EndReason::AgentSilent(SECOND * 60);
    assert_eq!(far.read(id), Poll::Ready(Err(StreamError::SessionEnded(reason.to_string()))));
    assert_eq!(far.conversation.ended(), Some(&reason));
    assert_eq!(reason.to_string(), "the SSM agent has not answered for 60 s, though AWS has");
}

#[test]
fn upload_to_a_dead_agent_ends_within_a_minute() {
    let (mut far, id) = in_use();
    far.acknowledges = false;
    far.write(id, &noise(200_000));
    far.advance(SECOND * 59);
    assert_eq!((far.conversation.ended(), availability(&far)), (None, Availability::Unresponsive));
    far.advance(SECOND);
    assert_eq!(far.conversation.ended(), Some(&EndReason::AgentSilent(SECOND * 60)));
}

#[test]
fn new_connection_to_a_dead_agent_fails_after_five_seconds_and_the_session_after_thirty() {
    let (mut far, _) = in_use();
    far.advance(SECOND * 3600);
    far.acknowledges = false;
    let new = far.conversation.open_stream(far.now).unwrap();
    far.write(new, b"SSLRequest");
    far.advance(Duration::from_millis(4999));
    assert!(far.read(new).is_pending());
    far.advance(Duration::from_millis(1));
    assert_eq!(far.read(new), Poll::Ready(Err(StreamError::AgentSilent)));
    assert_eq!(availability(&far), Availability::Unresponsive);
    far.advance(SECOND * 24);
    assert_eq!(far.conversation.ended(), None);
    far.advance(SECOND);
    assert!(matches!(far.conversation.ended(), Some(EndReason::AgentSilent(_))));
}

#[test]
fn agent_that_still_looks_up_the_destination_has_the_eight_seconds_of_a_dial() {
    let mut far = Far::open("3.3.987.0");
    far.acknowledges = false;
    let id = far.conversation.open_stream(far.now).unwrap();
    far.write(id, b"SSLRequest");
    far.advance(SECOND * 7);
    assert_eq!(availability(&far), Availability::Ready);
    assert!(far.read(id).is_pending());
    far.advance(SECOND);
    assert_eq!(far.read(id), Poll::Ready(Err(StreamError::AgentSilent)));
}

#[test]
fn slow_reply_leads_to_a_probe_every_minute() {
    let (mut far, id) = in_use();
    far.write(id, b"slow request");
    far.heard.clear();
    for _ in 0..3600 {
        far.advance(SECOND);
        assert_eq!(availability(&far), Availability::Ready);
    }
    assert_eq!(far.nops(), 60);
    far.say_smux(Command::Psh, id, b"slept");
    assert!(matches!(far.read(id), Poll::Ready(Ok(data)) if &data[..] == b"slept"));
}

#[test]
fn connections_at_rest_lead_to_one_probe_so_that_they_stay_idle() {
    let (mut far, _) = in_use();
    far.advance(SECOND * 3600);
    assert_eq!(far.nops(), 1);
}

#[test]
fn agent_that_comes_back_within_a_minute_is_responsive_again() {
    let (mut far, id) = in_use();
    far.acknowledges = false;
    far.write(id, b"update");
    far.advance(SECOND * 55);
    assert_eq!(availability(&far), Availability::Unresponsive);
    far.acknowledges = true;
    far.advance(SECOND * 3);
    assert_eq!(availability(&far), Availability::Ready);
    far.advance(SECOND * 3600);
    assert_eq!(far.conversation.ended(), None);
}

#[test]
fn agent_that_the_service_reports_as_away_has_two_minutes() {
    let (mut far, id) = in_use();
    far.acknowledges = false;
    far.write(id, b"update");
    let pause = Far::message(MessageType::PausePublication, 0, 0, b"{}");
    far.conversation.on_frame(&pause, far.now).unwrap();
    far.advance(SECOND * 119);
    assert_eq!((far.conversation.ended(), availability(&far)), (None, Availability::Unresponsive));
    far.advance(SECOND);
    assert_eq!(far.conversation.ended(), Some(&EndReason::AgentSilent(SECOND * 120)));
}

#[test]
fn agent_blocked_by_a_destination_during_a_bulk_upload_is_kept() {
    let (mut far, id) = in_use();
    for piece in noise(6 << 20).chunks(100_000) {
        far.write(id, piece);
    }
    far.acknowledges = false;
    far.write(id, &noise(100_000));
    far.advance(SECOND * 290);
    assert_eq!((far.conversation.ended(), availability(&far)), (None, Availability::Unresponsive));
    far.acknowledges = true;
    far.advance(SECOND * 5);
    assert_eq!(availability(&far), Availability::Ready);
}

#[test]
fn silence_while_reading_is_paused_or_disconnected_does_not_count() {
    let (mut far, id) = in_use();
    far.acknowledges = false;
    far.write(id, b"update");
    for _ in 0..60 {
        far.now += SECOND * 10;
        far.conversation.reading_paused(far.now);
        far.conversation.on_timeout(far.now);
        assert_eq!((far.conversation.ended(), availability(&far)), (None, Availability::Ready));
    }
    far.conversation.disconnected();
    far.now += SECOND * 90;
    far.conversation.connected(far.now);
    far.conversation.on_timeout(far.now);
    assert_eq!((far.conversation.ended(), availability(&far)), (None, Availability::Ready));
}
