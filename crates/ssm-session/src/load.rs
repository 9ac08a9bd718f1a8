//! The load of a session: the facts by which the pool chooses among sessions. Sans-IO.

use std::time::{Duration, Instant};

/// Duration of one slot of the meter's memory.
const SLOT: Duration = Duration::from_millis(250);
/// The number of slots, one second in all.
const SLOTS: usize = 4;
/// A session that moved more bytes than this in the last second is in bulk use. An agent sends up to 0.75 MB/s: it sleeps 1 ms
/// after each message of 1 KiB (agent [`port_mux.go`], transferDataToMgs).
///
/// [`port_mux.go`]: https://github.com/aws/amazon-ssm-agent/blob/1c217c89b42de51d4f4063363d8ec1f2eef56055/agent/session/plugins/port/port_mux.go#L226-L254
const BULK_ABOVE: u64 = 256 * 1024;
/// A session in bulk use stays so until it moves fewer bytes than this in a second, so that a transfer with pauses does not make
/// it flap.
const BULK_UNTIL: u64 = 64 * 1024;
/// A session counts as stalled when clients have left this many received bytes unread: more than an agent sends in a second.
pub(super) const STALLED_FROM: usize = 1024 * 1024;

/// Whether a session serves new streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// The session serves new streams.
    Ready,
    /// The connection is being made or restored.
    Restoring,
    /// Clients have left so much unread that the session reads nothing more.
    Full,
    /// A dial hangs, and the agent dials one stream at a time.
    Stuck,
    /// The agent does not answer, although the service does.
    Unresponsive,
    /// The session is over, or ending.
    Over,
}

/// The facts about a session that change rarely. The pool is notified of each change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// Whether the session serves new streams.
    pub availability: Availability,
    /// A big transfer is under way, behind which every other stream waits.
    pub bulk: bool,
    /// Clients have left more than 1 MiB unread.
    pub stalled: bool,
    /// The session has no stream.
    pub idle: bool,
}

/// The load of a session at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// The facts that change rarely.
    pub condition: Condition,
    /// Open streams, including those whose last frames are under way.
    pub streams: usize,
    /// Streams on which bytes moved in the last half second.
    pub active: usize,
    /// A stream is being dialled or was opened just now, so its use is not known yet.
    pub dialling: bool,
    /// Few bytes moved in the last quarter of a second: no transfer has just begun, and one that made the session `bulk` is over.
    pub quiet: bool,
    /// Since when the session has had no stream; `None` while it has one.
    pub idle_since: Option<Instant>,
}

/// Measures the bytes that moved in the last second.
#[derive(Debug)]
pub(super) struct Meter {
    slots: [u64; SLOTS],
    /// When the newest slot, the first, began.
    slot_began: Instant,
    bulk: bool,
}

impl Meter {
    pub(super) fn new(now: Instant) -> Self {
        Self { slots: [0; SLOTS], slot_began: now, bulk: false }
    }

    /// Bytes moved, either way.
    pub(super) fn moved(&mut self, bytes: usize, now: Instant) {
        self.advance(now);
        let [newest, ..] = &mut self.slots;
        *newest = newest.saturating_add(bytes as u64);
        self.judge();
    }

    /// Whether the session is in bulk use.
    pub(super) fn is_bulk(&mut self, now: Instant) -> bool {
        self.advance(now);
        self.judge();
        self.bulk
    }

    /// Whether few bytes moved in this slot and the one before.
    pub(super) fn is_quiet(&mut self, now: Instant) -> bool {
        self.advance(now);
        self.slots.iter().take(2).sum::<u64>() < BULK_UNTIL
    }

    fn judge(&mut self) {
        let recent: u64 = self.slots.iter().sum();
        self.bulk = recent > if self.bulk { BULK_UNTIL } else { BULK_ABOVE };
    }

    fn advance(&mut self, now: Instant) {
        let mut steps = 0;
        while now >= self.slot_began + SLOT && steps < SLOTS {
            self.slots.rotate_right(1);
            let [newest, ..] = &mut self.slots;
            *newest = 0;
            self.slot_began += SLOT;
            steps += 1;
        }
        if steps == SLOTS {
            self.slot_began = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bulk_begins_and_ends_with_hysteresis() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut meter = Meter::new(start);
        assert!(!meter.is_bulk(start));
        // 200 kB/s are a busy application and not bulk.
        for ms in (0..3000).step_by(10) {
            meter.moved(2000, at(ms));
            assert!(!meter.is_bulk(at(ms)), "{ms}");
        }
        // 0.7 MB/s are bulk.
        for ms in (3000..6000).step_by(10) {
            meter.moved(7000, at(ms));
            assert!(ms < 3500 || meter.is_bulk(at(ms)), "{ms}");
        }
        // A pause of half a second does not end it, one of two seconds does.
        assert!(meter.is_bulk(at(6500)));
        assert!(!meter.is_bulk(at(8000)));
        // A rate that would not have begun it keeps it going.
        meter.moved(300_000, at(9000));
        for ms in (9000..12_000).step_by(10) {
            meter.moved(1000, at(ms));
            assert!(meter.is_bulk(at(ms)), "{ms}");
        }
    }

    #[test]
    fn start_and_end_of_a_transfer_show_before_bulk_does() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut meter = Meter::new(start);
        assert!(meter.is_quiet(start));
        for ms in (0..1000).step_by(10) {
            meter.moved(5500, at(ms));
            assert_eq!((meter.is_bulk(at(ms)), meter.is_quiet(at(ms))), (ms > 460, ms < 110), "{ms}");
        }
        let states = [1000, 1249, 1500, 1749, 2000].map(|ms| (meter.is_bulk(at(ms)), meter.is_quiet(at(ms))));
        assert_eq!(states, [(true, false), (true, false), (true, true), (true, true), (false, true)]);
    }

    #[test]
    fn long_silence_takes_no_time_to_skip() {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        meter.moved(10_000_000, start);
        assert!(meter.is_bulk(start));
        assert!(!meter.is_bulk(start + Duration::from_hours(24 * 365)));
    }
}
