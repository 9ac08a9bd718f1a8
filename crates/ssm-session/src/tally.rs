//! Counts of what happened to a session. They add up over sessions. Sans-IO.

use std::{
    ops::AddAssign,
    time::{Duration, Instant},
};

use crate::channel::Stats;

/// Counts since a session was opened. They only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Anomalies of the data channel.
    pub channel: Stats,
    /// The number of times that the connection was lost and resumed.
    pub resumes: u64,
    /// The number of times that clients which do not read blocked the session.
    pub stalls: u64,
    /// The time for which they did, in all and so far.
    pub stalled: Duration,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, more: Self) {
        let Self { channel, resumes, stalls, stalled } = more;
        let Stats { retransmitted, duplicates, out_of_order, malformed, dropped_full } = channel;
        self.channel.retransmitted += retransmitted;
        self.channel.duplicates += duplicates;
        self.channel.out_of_order += out_of_order;
        self.channel.malformed += malformed;
        self.channel.dropped_full += dropped_full;
        self.resumes += resumes;
        self.stalls += stalls;
        self.stalled += stalled;
    }
}

/// A change of a session that clients can block by not reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stall {
    /// The session is blocked from now on.
    Begun,
    /// The session goes on after this time.
    Over(Duration),
}

/// A client that reads slowly frees a little room, which is filled at once: that is one stall and not a thousand. A stall that
/// begins this soon after the last one is its continuation.
const SAME_STALL: Duration = Duration::from_secs(1);

/// Whether a session is blocked by clients that do not read.
#[derive(Debug, Clone, Copy)]
enum Flow {
    /// It is not. The last stall ended at this time, if there was one.
    Free { ended: Option<Instant> },
    /// It is, since this time. A `continued` stall is the continuation of another.
    Stalled { since: Instant, continued: bool },
}

/// Keeps the count of stalls.
#[derive(Debug)]
pub(super) struct Stalls {
    flow: Flow,
    /// Duration of the stalls that are over.
    over: Duration,
    count: u64,
}

impl Default for Stalls {
    fn default() -> Self {
        Self { flow: Flow::Free { ended: None }, over: Duration::ZERO, count: 0 }
    }
}

impl Stalls {
    /// Notes whether the session is blocked at `now`. Returns the beginning and the end of each stall, but not of continuations.
    pub(super) fn note(&mut self, blocked: bool, now: Instant) -> Option<Stall> {
        match (blocked, self.flow) {
            (true, Flow::Free { ended }) => {
                let continued = ended.is_some_and(|ended| now < ended + SAME_STALL);
                self.flow = Flow::Stalled { since: now, continued };
                self.count += u64::from(!continued);
                (!continued).then_some(Stall::Begun)
            }
            (false, Flow::Stalled { since, continued }) => {
                let lasted = now.saturating_duration_since(since);
                self.flow = Flow::Free { ended: Some(now) };
                self.over += lasted;
                (!continued).then_some(Stall::Over(lasted))
            }
            (true, Flow::Stalled { .. }) | (false, Flow::Free { .. }) => None,
        }
    }

    /// The number of stalls and their duration in all, including the one under way.
    pub(super) fn so_far(&self, now: Instant) -> (u64, Duration) {
        let under_way = match self.flow {
            Flow::Free { .. } => Duration::ZERO,
            Flow::Stalled { since, .. } => now.saturating_duration_since(since),
        };
        (self.count, self.over + under_way)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stall_counts_once_with_its_duration() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut stalls = Stalls::default();
        assert_eq!(stalls.note(false, at(0)), None);
        assert_eq!(stalls.note(true, at(1)), Some(Stall::Begun));
        assert_eq!(stalls.note(true, at(2)), None);
        assert_eq!(stalls.so_far(at(3)), (1, Duration::from_secs(2)));
        assert_eq!(stalls.note(false, at(4)), Some(Stall::Over(Duration::from_secs(3))));
        assert_eq!(stalls.note(true, at(10)), Some(Stall::Begun));
        assert_eq!(stalls.so_far(at(15)), (2, Duration::from_secs(8)));
    }

    #[test]
    fn slow_reader_causes_one_stall() {
        let start = Instant::now();
        let mut stalls = Stalls::default();
        let mut said = Vec::new();
        for ms in 0..60_000 {
            said.extend(stalls.note(ms % 10 < 9, start + Duration::from_millis(ms)));
        }
        assert_eq!(said, [Stall::Begun, Stall::Over(Duration::from_millis(9))]);
        assert_eq!(stalls.so_far(start + Duration::from_mins(1)), (1, Duration::from_secs(54)));
        assert_eq!(stalls.note(true, start + Duration::from_secs(61)), Some(Stall::Begun));
    }

    #[test]
    fn tallies_add_up() {
        let channel = Stats { retransmitted: 1, duplicates: 2, out_of_order: 3, malformed: 4, dropped_full: 5 };
        let one = Tally { channel, resumes: 6, stalls: 7, stalled: Duration::from_secs(8) };
        let mut sum = Tally::default();
        sum += one;
        assert_eq!(sum, one);
        sum += one;
        let channel = Stats { retransmitted: 2, duplicates: 4, out_of_order: 6, malformed: 8, dropped_full: 10 };
        assert_eq!(sum, Tally { channel, resumes: 12, stalls: 14, stalled: Duration::from_secs(16) });
    }
}
