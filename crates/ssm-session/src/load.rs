//! What a session carries: the facts by which the pool chooses among sessions. Sans-IO.

use std::time::{Duration, Instant};

/// One slot of the meter's memory.
const SLOT: Duration = Duration::from_millis(250);
/// Slots remembered, one second in all.
const SLOTS: usize = 4;
/// A session that moved more than this in the last second is in bulk use: a third of the 0.75 MB/s that an agent sends.
const BULK_ABOVE: u64 = 256 * 1024;
/// One in bulk use stays so until it moves less than this, so that a transfer with pauses does not make it flap.
const BULK_UNTIL: u64 = 64 * 1024;
/// Bytes received that clients have not read, from which a session counts as held up: more than a second's worth.
pub(super) const STALLED_FROM: usize = 1024 * 1024;

/// Whether a session serves new streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// It does.
    Ready,
    /// Its connection is being made or restored.
    Restoring,
    /// So much is unread that it reads nothing more.
    Full,
    /// A dial hangs, and the agent dials one at a time.
    Stuck,
    /// The agent does not answer, though the service does.
    Unresponsive,
    /// It is over, or ending.
    Over,
}

/// What changes rarely, so that a change is worth telling the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// Whether it serves new streams.
    pub availability: Availability,
    /// It carries a big transfer, so that everything else on it waits.
    pub bulk: bool,
    /// Clients on it do not read what has come for them.
    pub stalled: bool,
    /// It carries no stream.
    pub idle: bool,
}

/// What a session carries at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Its condition.
    pub condition: Condition,
    /// Streams, those included that are still saying goodbye.
    pub streams: usize,
    /// Those on which something has moved in the last half second.
    pub active: usize,
    /// A stream is being dialled or has only just been opened: what it will carry is not known yet.
    pub dialling: bool,
    /// Little has moved in the last quarter of a second: no transfer has just begun, and one that made it `bulk` is over.
    pub quiet: bool,
    /// When it last carried a stream; `None` while it does.
    pub idle_since: Option<Instant>,
}

/// Measures bytes over the last second.
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

    /// So many bytes have moved, either way.
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

    /// Whether little has moved in the slot before this one and since.
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
    fn bulk_begins_late_and_ends_late() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut meter = Meter::new(start);
        assert!(!meter.is_bulk(start));
        // 200 kB a second are a busy application, no bulk.
        for ms in (0..3000).step_by(10) {
            meter.moved(2000, at(ms));
            assert!(!meter.is_bulk(at(ms)), "{ms}");
        }
        // 0.7 MB a second are.
        for ms in (3000..6000).step_by(10) {
            meter.moved(7000, at(ms));
            assert!(ms < 3500 || meter.is_bulk(at(ms)), "{ms}");
        }
        // Half a second's pause does not end it, two do.
        assert!(meter.is_bulk(at(6500)));
        assert!(!meter.is_bulk(at(8000)));
        // What would not have begun it keeps it going.
        meter.moved(300_000, at(9000));
        for ms in (9000..12_000).step_by(10) {
            meter.moved(1000, at(ms));
            assert!(meter.is_bulk(at(ms)), "{ms}");
        }
    }

    #[test]
    fn a_transfer_shows_before_it_is_bulk_and_so_does_its_end() {
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
    fn a_long_silence_costs_no_time() {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        meter.moved(10_000_000, start);
        assert!(meter.is_bulk(start));
        assert!(!meter.is_bulk(start + Duration::from_hours(24 * 365)));
    }
}
