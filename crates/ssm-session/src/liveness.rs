//! Whether the far side of a websocket is still there: when to ping it, and when to give up. Sans-IO.
//!
//! A link can die without an error: the machine slept, it moved to another network, or a middlebox dropped the connection. Then
//! written bytes vanish and nothing can be read. Pings go out at an even pace. A reason to suspect the link starts a probe: a
//! ping goes out at once, and its pong has to come soon.

use std::{
    fmt, mem,
    time::{Duration, Instant, SystemTime},
};

/// Time between pings. They keep middleboxes from cutting an idle connection; the shortest limit seen is 60 s.
const PING_EVERY: Duration = Duration::from_secs(25);
/// The link is dead when nothing was received for this long, although two pings asked for pongs.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(62);
/// A probe starts when a message is unacknowledged and nothing at all was received for this long.
const UNANSWERED_TIMEOUT: Duration = Duration::from_secs(15);
/// Limit for the pong to a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between checks of the machine's clocks and network.
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// The machine slept if the wall clock is this far ahead of the timers, which stand still in sleep on most systems, or if a timer
/// is this late.
const CLOCK_JUMP: Duration = Duration::from_secs(10);

/// Why a link is suspected to be dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProbeReason {
    /// The machine slept, or this process was stopped.
    ClockJump,
    /// Packets would leave from another address, or cannot leave.
    NetworkChanged,
    /// A message was not acknowledged.
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

/// The signs of life on one websocket.
#[derive(Debug)]
pub(crate) struct Liveness {
    /// When the next ping is due.
    ping_at: Instant,
    /// When a frame was received last, or since when one could have been.
    heard_at: Instant,
    /// When the next check of clocks and network is due.
    check_at: Instant,
    /// Timers and wall clock at the last comparison.
    clocks: (Instant, SystemTime),
    /// Set by [`Liveness::start_probe`], cleared by the pong.
    probe: Option<ProbeReason>,
    /// The websocket takes no frames, and some wait. Set and cleared by [`Liveness::blocked`].
    blocked: bool,
}

impl Liveness {
    /// A websocket that has just opened. The first ping goes out at once: its pong shows that the link works.
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

    /// Compares the clocks. Returns whether the machine slept, or the process was stopped, since the last comparison.
    pub(crate) fn stood_still(&mut self, now: Instant, wall_clock: SystemTime) -> bool {
        let (timers, wall) = mem::replace(&mut self.clocks, (now, wall_clock));
        let by_timers = now.saturating_duration_since(timers);
        // A wall clock that is set back counts as no time.
        let by_wall = wall_clock.duration_since(wall).unwrap_or_default();
        by_wall.saturating_sub(by_timers) >= CLOCK_JUMP || now >= self.check_at + CLOCK_JUMP
    }

    /// Whether a check of the network is due; then it counts as made.
    pub(crate) fn network_check_due(&mut self, now: Instant) -> bool {
        let due = now >= self.check_at;
        if due {
            self.check_at = now + CHECK_EVERY;
        }
        due
    }

    /// Makes a ping due at once. Its pong has to come within [`PROBE_TIMEOUT`].
    pub(crate) fn start_probe(&mut self, reason: ProbeReason, now: Instant) {
        self.probe = Some(reason);
        (self.ping_at, self.heard_at) = (now, now);
    }

    /// Whether a message that has waited for its acknowledgement `since` then is a reason for a probe.
    pub(crate) fn is_unanswered(&self, since: Option<Instant>, now: Instant) -> bool {
        self.unanswered_at(since).is_some_and(|at| now >= at)
    }

    fn unanswered_at(&self, since: Option<Instant>) -> Option<Instant> {
        let since = since.filter(|_| self.probe.is_none())?;
        Some(since.max(self.heard_at) + UNANSWERED_TIMEOUT)
    }

    /// A frame was received. Only a pong ends a probe: other frames may have been on their way before.
    pub(crate) fn heard(&mut self, is_pong: bool, now: Instant) {
        self.heard_at = now;
        if is_pong {
            self.probe = None;
        }
    }

    /// The websocket is not read, so silence says nothing about the link, unless the link takes no frames either.
    pub(crate) fn reading_paused(&mut self, now: Instant) {
        if !self.blocked {
            self.heard_at = now;
        }
    }

    /// Notes whether the websocket takes no more frames while some wait.
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

    /// Why the link is dead; `None` while it is not.
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

    /// When the next of these times is reached, with a message that has waited `since` then.
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
    fn silent_link_gets_two_more_pings_and_is_dead_after_62_seconds() {
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
    fn sleep_shows_in_the_wall_clock_or_in_a_late_timer_and_not_in_a_clock_set_back() {
        let (mut liveness, start, wall) = started();
        let mut at = |timers: u32, wall_clock: Duration| {
            let now = start + SECOND * timers;
            let slept = liveness.stood_still(now, wall + wall_clock);
            liveness.network_check_due(now);
            slept
        };
        assert!(!at(5, SECOND * 5));
        assert!(!at(10, SECOND * 19), "a clock that is set ahead by four seconds");
        assert!(at(15, SECOND * 3624), "an hour passed while the timers stood still");
        assert!(!at(20, SECOND * 3629), "once");
        assert!(!at(25, SECOND * 5), "set back");
        assert!(at(40, SECOND * 20), "the timer of the 30th second came 10 s late");
    }

    #[test]
    fn probe_sends_a_ping_at_once_and_only_its_pong_ends_it() {
        let (mut liveness, start, _) = started();
        let now = start + SECOND * 3;
        liveness.start_probe(ProbeReason::ClockJump, now);
        assert!(liveness.may_ping(now));
        liveness.heard(false, now + SECOND);
        assert_eq!(liveness.dead(now + SECOND * 5), None, "a received frame puts it off");
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
        assert!(!liveness.is_unanswered(since, start + SECOND * 30), "the agent may be blocked, the service is not");
        assert!(!liveness.is_unanswered(None, start + SECOND * 60));
        liveness.start_probe(ProbeReason::Unanswered, start + SECOND * 31);
        assert!(!liveness.is_unanswered(since, start + SECOND * 60), "a probe is under way already");
    }

    #[test]
    fn silence_does_not_count_while_reading_is_paused_unless_nothing_can_be_sent() {
        let (mut liveness, start, _) = started();
        liveness.reading_paused(start + SECOND * 61);
        assert_eq!(liveness.dead(start + SECOND * 100), None);
        liveness.blocked(true);
        liveness.reading_paused(start + SECOND * 100);
        assert_eq!(liveness.dead(start + SECOND * 123).as_deref(), Some("nothing could be sent for 62 s"));
    }
}
