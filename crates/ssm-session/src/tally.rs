//! What has happened to a session, counted; adds up over sessions. Sans-IO.

use std::{
    ops::AddAssign,
    time::{Duration, Instant},
};

use super::channel::Stats;

/// Counts since a session was opened. They only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// The channel's.
    pub channel: Stats,
    /// Times that its connection was lost and resumed.
    pub resumes: u64,
    /// Times that clients which do not read held it up.
    pub stalls: u64,
    /// How long they did, in all and so far.
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

/// What has just changed about a session that clients can hold up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stall {
    /// It is held up from now on.
    Begun,
    /// It goes on, after so long.
    Over(Duration),
}

/// A client that reads slowly frees a little room, which is filled at once: that is one stall and not a thousand. One that
/// begins so soon after the last is its continuation.
const SAME_STALL: Duration = Duration::from_secs(1);

/// Keeps the count of stalls.
#[derive(Debug, Default)]
pub(super) struct Stalls {
    since: Option<Instant>,
    /// The stall under way, or the last one, is the continuation of another.
    continued: bool,
    ended: Option<Instant>,
    over: Duration,
    count: u64,
}

impl Stalls {
    /// Takes note of whether the session is held up at `now`. Of continuations nothing is said.
    pub(super) fn note(&mut self, held_up: bool, now: Instant) -> Option<Stall> {
        match (held_up, self.since) {
            (true, None) => {
                self.since = Some(now);
                self.continued = self.ended.is_some_and(|ended| now < ended + SAME_STALL);
                self.count += u64::from(!self.continued);
                (!self.continued).then_some(Stall::Begun)
            }
            (false, Some(since)) => {
                let lasted = now.saturating_duration_since(since);
                (self.since, self.ended) = (None, Some(now));
                self.over += lasted;
                (!self.continued).then_some(Stall::Over(lasted))
            }
            (true, Some(_)) | (false, None) => None,
        }
    }

    /// How many there were, and how long they took, the one under way included.
    pub(super) fn so_far(&self, now: Instant) -> (u64, Duration) {
        let under_way = self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        (self.count, self.over + under_way)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_counts_once_and_for_as_long_as_it_lasts() {
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
    fn a_client_that_reads_slowly_is_one_stall() {
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
