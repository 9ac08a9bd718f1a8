//! Keep-alive, and the warning before the account's idle timeout.

use super::*;

#[test]
fn old_agents_get_a_keep_alive_every_ten_seconds_and_new_ones_one_probe() {
    for (version, expected) in [("3.1.1511.0", 6), ("3.1.1512.0", 1)] {
        let mut far = Far::open_with(version, without_dial_questions());
        far.conversation.open_stream(far.now).unwrap();
        far.listen();
        far.heard.clear();
        far.advance(Duration::from_secs(61));
        assert_eq!(far.nops(), expected, "{version}");
    }
}

#[test]
fn keep_alive_is_for_open_streams_without_other_input() {
    let mut far = Far::open_with("3.3.987.0", Options { keep_alive: true, ..Options::default() });
    far.advance(Duration::from_mins(2));
    assert_eq!(far.nops(), 0, "no stream");
    let id = far.conversation.open_stream(far.now).unwrap();
    far.write(id, b"question");
    far.say_smux(Command::Psh, id, b"answer");
    far.advance(Duration::from_secs(29));
    assert_eq!(far.nops(), 1, "a probe");
    far.write(id, b"another");
    far.advance(Duration::from_secs(44));
    assert_eq!(far.nops(), 2, "another probe after 15 s");
    far.advance(Duration::from_secs(1));
    assert_eq!(far.nops(), 3);
    far.advance(Duration::from_mins(10));
    assert_eq!(far.nops(), 23, "twice a minute, for the shortest possible timeout");
    far.acknowledges = false;
    far.write(id, b"to a server that does not read");
    far.advance(Duration::from_mins(4));
    assert_eq!(far.nops(), 23, "an unacknowledged message serves as well");
}

#[test]
fn idle_timeout_is_warned_of_two_minutes_before_once_and_again_after_new_input() {
    let (minutes, probe) = (Duration::from_mins, Duration::from_secs(15));
    let mut far = Far::open_with("3.3.987.0", Options { idle_timeout: Some(minutes(20)), ..Options::default() });
    let id = far.conversation.open_stream(far.now).unwrap();
    far.write(id, b"question");
    far.say_smux(Command::Psh, id, b"answer");
    far.advance(minutes(10));
    far.say_smux(Command::Psh, id, b"the agent's output does not count, the probe after it does");
    far.advance(probe + minutes(17) + Duration::from_millis(59_999));
    assert_eq!(far.conversation.take_idle_warning(), None);
    far.advance(Duration::from_millis(1));
    let warning = IdleWarning { timeout: minutes(20), left: minutes(2), streams: 1 };
    assert_eq!(far.conversation.take_idle_warning(), Some(warning));
    far.advance(minutes(1));
    assert_eq!(far.conversation.take_idle_warning(), None, "once");
    far.write(id, b"another");
    far.say_smux(Command::Psh, id, b"answer");
    far.advance(probe + minutes(18));
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
fn session_without_streams_or_with_keep_alive_gets_no_warning() {
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
