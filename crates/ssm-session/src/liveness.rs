//! Whether the far side of a websocket is still there: when to ping it, and when to give up. Sans-IO.
//!
//! A link can die without a word: the machine slept, the network is another one, a middlebox has forgotten it. What is
//! written then vanishes and nothing is read. Pings go out at an even pace. A reason to suspect the link starts a probe: a
//! ping goes out at once, and its answer has to come soon.

use std::{
    fmt, mem,
    time::{Duration, Instant, SystemTime},
};

/// A ping this often keeps middleboxes from cutting an idle connection: the shortest limit seen is 60 s.
const PING_EVERY: Duration = Duration::from_secs(25);
/// Nothing received for this long, though two pings asked for it: the link is dead.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(62);
/// A message is not acknowledged and nothing at all was received for this long: a probe starts.
const UNANSWERED_TIMEOUT: Duration = Duration::from_secs(15);
/// For the answer to the ping of a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Between checks of the machine's clocks and network.
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// A wall clock this far ahead of the timers, which stand still in sleep on most systems, or a timer this late.
const CLOCK_JUMP: Duration = Duration::from_secs(10);

/// Why a link may be dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProbeReason {
    /// The machine, or this process alone, stood still.
    ClockJump,
    /// Packets would leave through another interface, or through none.
    NetworkChanged,
    /// A message is not acknowledged.
    Unanswered,
}

impl fmt::Display for ProbeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClockJump => "the machine slept",
            Self::NetworkChanged => "the network changed",
            Self::Unanswered => "a message was not acknowledged",
        })
    }
}

/// What is known about one websocket's far side.
#[derive(Debug)]
pub(crate) struct Liveness {
    ping_at: Instant,
    heard_at: Instant,
    check_at: Instant,
    /// What timers and wall clock said last.
    clocks: (Instant, SystemTime),
    /// Set by [`Liveness::start_probe`], cleared by the answer.
    probe: Option<ProbeReason>,
    /// The websocket takes nothing.
    blocked: bool,
}

impl Liveness {
    /// A websocket has just opened. The first ping goes out at once: its answer shows that the link is good.
    pub(crate) fn new(now: Instant, wall_clock: SystemTime) -> Self {
        Self {
            ping_at: now,
            heard_at: now,
            check_at: now + CHECK_EVERY,
            clocks: (now, wall_clock),
            probe: None,
            blocked: false,
        }
    }

    /// Compares the clocks, at each occasion; whether this machine stood still since the last time.
    pub(crate) fn stood_still(&mut self, now: Instant, wall_clock: SystemTime) -> bool {
        let (timers, wall) = mem::replace(&mut self.clocks, (now, wall_clock));
        let by_timers = now.saturating_duration_since(timers);
        // A wall clock that is set back shows nothing.
        let by_wall = wall_clock.duration_since(wall).unwrap_or_default();
        by_wall.saturating_sub(by_timers) >= CLOCK_JUMP || now >= self.check_at + CLOCK_JUMP
    }

    /// Whether it is time to look at the network again.
    pub(crate) fn network_check_due(&mut self, now: Instant) -> bool {
        let due = now >= self.check_at;
        if due {
            self.check_at = now + CHECK_EVERY;
        }
        due
    }

    /// Pings at once. The answer has to come within [`PROBE_TIMEOUT`].
    pub(crate) fn start_probe(&mut self, reason: ProbeReason, now: Instant) {
        self.probe = Some(reason);
        (self.ping_at, self.heard_at) = (now, now);
    }

    /// Whether a message that waits for its acknowledgement `since` then starts a probe.
    pub(crate) fn is_unanswered(&self, since: Option<Instant>, now: Instant) -> bool {
        self.unanswered_at(since).is_some_and(|at| now >= at)
    }

    fn unanswered_at(&self, since: Option<Instant>) -> Option<Instant> {
        let since = since.filter(|_| self.probe.is_none())?;
        Some(since.max(self.heard_at) + UNANSWERED_TIMEOUT)
    }

    /// Something was received. Only the answer to a ping ends a probe: all else may have been on its way before.
    pub(crate) fn heard(&mut self, is_pong: bool, now: Instant) {
        self.heard_at = now;
        if is_pong {
            self.probe = None;
        }
    }

    /// We do not read the websocket, so silence says nothing about the link, unless the link takes nothing either.
    pub(crate) fn reading_paused(&mut self, now: Instant) {
        if !self.blocked {
            self.heard_at = now;
        }
    }

    /// Whether the websocket takes nothing more, so that something waits to be sent.
    pub(crate) fn blocked(&mut self, blocked: bool) {
        self.blocked = blocked;
    }

    /// Whether a ping is due; then it counts as sent.
    pub(crate) fn may_ping(&mut self, now: Instant) -> bool {
        let due = now >= self.ping_at;
        if due {
            self.ping_at = now + PING_EVERY;
        }
        due
    }

    /// Why the link counts as dead, once it does.
    pub(crate) fn dead(&self, now: Instant) -> Option<String> {
        (now >= self.dead_at()).then(|| match self.probe {
            Some(reason) => format!("no answer within {} s after {reason}", PROBE_TIMEOUT.as_secs()),
            None if self.blocked => format!("nothing could be sent for {} s", SILENCE_TIMEOUT.as_secs()),
            None => format!("nothing was received for {} s", SILENCE_TIMEOUT.as_secs()),
        })
    }

    fn dead_at(&self) -> Instant {
        self.heard_at + if self.probe.is_some() { PROBE_TIMEOUT } else { SILENCE_TIMEOUT }
    }

    /// When to look again, with a message waiting `since` then.
    pub(crate) fn next_timeout(&self, since: Option<Instant>) -> Instant {
        let times = [Some(self.ping_at), Some(self.check_at), self.unanswered_at(since)];
        times.into_iter().flatten().fold(self.dead_at(), Instant::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn started() -> (Liveness, Instant, SystemTime) {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let mut liveness = Liveness::new(now, wall);
        assert!(liveness.may_ping(now));
        (liveness, now, wall)
    }

    #[test]
    fn a_silent_link_is_asked_twice_more_and_believed_for_62_seconds() {
        let (mut liveness, start, _) = started();
        let mut pings = Vec::new();
        let mut now = start;
        while liveness.dead(now).is_none() {
            now = liveness.next_timeout(None);
            if liveness.may_ping(now) {
                pings.push((now - start).as_secs());
            }
            liveness.network_check_due(now);
        }
        assert_eq!((pings, (now - start).as_secs()), (vec![25, 50], 62));
    }

    #[test]
    fn sleep_shows_in_the_wall_clock_or_in_a_late_timer_and_a_clock_that_is_set_back_is_no_sleep() {
        let (mut liveness, start, wall) = started();
        let mut at = |timers: u32, wall_clock: Duration| {
            let now = start + SECOND * timers;
            let slept = liveness.stood_still(now, wall + wall_clock);
            liveness.network_check_due(now);
            slept
        };
        assert!(!at(5, SECOND * 5));
        assert!(!at(10, SECOND * 19), "four seconds more are a clock that is set");
        assert!(at(15, SECOND * 3624), "an hour passed while the timers stood still");
        assert!(!at(20, SECOND * 3629), "once");
        assert!(!at(25, SECOND * 5), "set back");
        assert!(at(40, SECOND * 20), "the timer of the 30th second came 10 s late");
    }

    #[test]
    fn probe_sends_a_ping_at_once_and_only_its_answer_ends_it() {
        let (mut liveness, start, _) = started();
        let now = start + SECOND * 3;
        liveness.start_probe(ProbeReason::ClockJump, now);
        assert!(liveness.may_ping(now));
        liveness.heard(false, now + SECOND);
        assert_eq!(liveness.dead(now + SECOND * 5), None, "what comes puts it off");
        let reason = liveness.dead(now + SECOND * 6).expect("and does not end it");
        assert_eq!(reason, "no answer within 5 s after the machine slept");
        liveness.heard(true, now + SECOND * 2);
        assert_eq!(liveness.dead(now + SECOND * 60), None);
    }

    #[test]
    fn unacknowledged_message_starts_a_probe_when_nothing_else_is_received() {
        let (mut liveness, start, _) = started();
        let since = Some(start + SECOND * 2);
        assert!(!liveness.is_unanswered(since, start + SECOND * 16));
        assert!(liveness.is_unanswered(since, start + SECOND * 17));
        liveness.heard(true, start + SECOND * 16);
        assert!(
            !liveness.is_unanswered(since, start + SECOND * 30),
            "an agent that is blocked has a service that is not"
        );
        assert!(!liveness.is_unanswered(None, start + SECOND * 60));
        liveness.start_probe(ProbeReason::Unanswered, start + SECOND * 31);
        assert!(!liveness.is_unanswered(since, start + SECOND * 60), "it is being asked already");
    }

    #[test]
    fn silence_that_we_chose_means_nothing_unless_nothing_can_be_sent_either() {
        let (mut liveness, start, _) = started();
        liveness.reading_paused(start + SECOND * 61);
        assert_eq!(liveness.dead(start + SECOND * 100), None);
        liveness.blocked(true);
        liveness.reading_paused(start + SECOND * 100);
        assert_eq!(liveness.dead(start + SECOND * 123).as_deref(), Some("nothing could be sent for 62 s"));
    }
}
