//! How long an acknowledgement takes and how many bytes may wait for one: round-trip estimate and congestion window.
//!
//! The protocol has no window of its own and the reference clients pace themselves with sleeps; we bound the bytes in
//! flight instead. The window doubles each round trip while acknowledgements come, grows by a sixteenth after the first
//! sign of trouble, halves on a loss or a pause, and shrinks in proportion when the round trip rises above its base: the
//! service queues what it or the agent cannot take, and what is queued there delays every stream of the session. The
//! timeout is RFC 6298's with the reference clients' constants.

use std::time::{Duration, Instant};

/// Lower bound of the retransmission timeout. Below it, slow links see needless duplicates.
const MIN_RTO: Duration = Duration::from_millis(200);
/// Upper bound of the retransmission timeout before backoff.
const MAX_RTO: Duration = Duration::from_secs(1);
/// Upper bound with backoff.
pub(super) const MAX_BACKED_OFF_RTO: Duration = Duration::from_secs(2);
/// First estimate (plugin `src/config/config.go`, DefaultRoundTripTime).
const INITIAL_ROUND_TRIP: Duration = Duration::from_millis(100);
/// Clock granularity in the timeout's formula (plugin `src/config/config.go`).
const GRANULARITY: Duration = Duration::from_millis(10);
/// The base is the best round trip of so long and of as long before: a path may become slower for good.
const BASE_FOR: Duration = Duration::from_secs(30);
/// How much longer than one and a half times its base a round trip may be before messages count as queued. Below it is the
/// noise of busy machines.
const QUEUEING: Duration = Duration::from_millis(80);

/// The smoothed time between sending a message and its acknowledgement.
#[derive(Debug, Clone)]
pub(super) struct RoundTrip {
    smoothed: Duration,
    variation: Duration,
    /// The best ever.
    best: Option<Duration>,
    base: Option<Base>,
}

/// The best measurement since `since`, and of the period before.
#[derive(Debug, Clone, Copy)]
struct Base {
    since: Instant,
    current: Duration,
    previous: Duration,
}

impl RoundTrip {
    pub(super) fn new() -> Self {
        Self { smoothed: INITIAL_ROUND_TRIP, variation: Duration::ZERO, best: None, base: None }
    }

    /// Takes one measurement. Retransmitted messages must not be measured: which copy was answered is unknown (Karn).
    pub(super) fn measure(&mut self, sample: Duration, now: Instant) {
        if let Some(base) = &mut self.base {
            self.variation = (self.variation * 3 + self.smoothed.abs_diff(sample)) / 4;
            self.smoothed = (self.smoothed * 7 + sample) / 8;
            if now.saturating_duration_since(base.since) > BASE_FOR {
                *base = Base { since: now, current: sample, previous: base.current };
            }
            base.current = base.current.min(sample);
        } else {
            self.smoothed = sample;
            self.variation = sample / 2;
            self.base = Some(Base { since: now, current: sample, previous: sample });
        }
        self.best = Some(self.best.map_or(sample, |best| best.min(sample)));
    }

    /// A new connection: the path may be another one, and only what is measured from now on says how long it is.
    pub(super) fn restart(&mut self) {
        *self = Self { best: self.best, ..Self::new() };
    }

    /// Whether an acknowledgement after `elapsed` can answer the last copy sent, not only an earlier one.
    pub(super) fn could_be(&self, elapsed: Duration) -> bool {
        self.best.is_some_and(|best| elapsed >= best)
    }

    /// When to send again what was not acknowledged.
    pub(super) fn timeout(&self) -> Duration {
        (self.smoothed + GRANULARITY.max(self.variation * 4)).clamp(MIN_RTO, MAX_RTO)
    }

    /// How much later than its successors an acknowledgement may come before its message counts as lost.
    pub(super) fn reordering(&self) -> Duration {
        (self.smoothed / 4).clamp(Duration::from_millis(10), Duration::from_millis(100))
    }

    /// The longest round trip that does not mean that messages queue somewhere.
    fn allowed(&self) -> Option<Duration> {
        let base = self.base?;
        Some(base.current.min(base.previous) * 3 / 2 + QUEUEING)
    }

    fn smoothed(&self) -> Duration {
        self.smoothed
    }
}

/// Bytes that may be unacknowledged.
#[derive(Debug)]
pub(super) struct Window {
    size: usize,
    threshold: usize,
    max: usize,
    /// No second cut before this: one loss event cuts once.
    reduced_at: Option<Instant>,
}

impl Window {
    /// The start: some sixty messages, so that a first big write is not held up and a first loss is cheap.
    const INITIAL: usize = 64 * 1024;
    /// The least: some messages, so that there is always something whose acknowledgement can be seen.
    const MIN: usize = 16 * 1024;
    /// The least that a rising round trip alone leaves: on a busy machine it rises for no fault of the path.
    const MIN_WITHOUT_LOSS: usize = 32 * 1024;

    pub(super) fn new(max: usize) -> Self {
        Self { size: Self::INITIAL.min(max), threshold: max, max, reduced_at: None }
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// `bytes` were acknowledged while `in_flight` (them included) nearly filled the window.
    pub(super) fn acknowledged(&mut self, bytes: usize, in_flight: usize, round_trip: &RoundTrip, now: Instant) {
        if let Some(allowed) = round_trip.allowed().filter(|allowed| round_trip.smoothed > *allowed) {
            if self.may_reduce(now, round_trip) {
                self.yield_to(allowed, round_trip.smoothed);
            }
            return;
        }
        // A sender that has nothing to send learns nothing about the path.
        if in_flight * 2 < self.size {
            return;
        }
        let growth = if self.size < self.threshold { bytes } else { (bytes / 16).max(1) };
        self.size = (self.size + growth).min(self.max);
    }

    /// What is in flight takes `takes` and should take `allowed`: the window shrinks by as much, at most by half.
    fn yield_to(&mut self, allowed: Duration, takes: Duration) {
        let (allowed, takes) = (allowed.as_micros(), takes.as_micros().max(1));
        let fitting = self.size as u128 * allowed / takes;
        let fitting = usize::try_from(fitting).unwrap_or(self.size);
        // Never up: a window that losses have made small stays so.
        self.size = fitting.max(self.size / 2).max(Self::MIN_WITHOUT_LOSS).min(self.size);
        self.threshold = self.size;
    }

    /// A message was lost, or the service said pause.
    pub(super) fn lost(&mut self, round_trip: &RoundTrip, now: Instant) {
        if self.may_reduce(now, round_trip) {
            self.size = (self.size / 2).max(Self::MIN.min(self.max));
            self.threshold = self.size;
        }
    }

    /// A new connection: the path may be another one.
    pub(super) fn restart(&mut self) {
        *self = Self::new(self.max);
    }

    fn may_reduce(&mut self, now: Instant, round_trip: &RoundTrip) -> bool {
        let may = self.reduced_at.is_none_or(|at| now.duration_since(at) > round_trip.smoothed());
        if may {
            self.reduced_at = Some(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_follows_the_round_trip_within_its_bounds() {
        let mut round_trip = RoundTrip::new();
        let now = Instant::now();
        for _ in 0..50 {
            round_trip.measure(Duration::from_millis(2), now);
        }
        assert_eq!(round_trip.timeout(), MIN_RTO);
        for _ in 0..50 {
            round_trip.measure(Duration::from_millis(400), now);
        }
        assert!(round_trip.timeout() > Duration::from_millis(400) && round_trip.timeout() <= MAX_RTO);
    }

    #[test]
    fn the_window_doubles_until_a_loss_and_never_leaves_its_bounds() {
        let start = Instant::now();
        let mut round_trip = RoundTrip::new();
        round_trip.measure(Duration::from_millis(40), start);
        let mut window = Window::new(4 << 20);
        let before = window.size();
        window.acknowledged(before, before, &round_trip, start);
        assert_eq!(window.size(), before * 2);
        window.acknowledged(1024, 0, &round_trip, start);
        assert_eq!(window.size(), before * 2, "an idle sender does not grow");
        for _ in 0..100 {
            window.acknowledged(window.size(), window.size(), &round_trip, start);
        }
        assert_eq!(window.size(), 4 << 20);
        window.lost(&round_trip, start);
        window.lost(&round_trip, start);
        assert_eq!(window.size(), 2 << 20, "one loss event cuts once");
        let mut now = start;
        for _ in 0..100 {
            now += Duration::from_secs(1);
            window.lost(&round_trip, now);
        }
        assert_eq!(window.size(), Window::MIN);
    }

    #[test]
    fn a_rising_round_trip_shrinks_the_window_in_proportion_and_not_for_ever() {
        let mut now = Instant::now();
        let mut round_trip = RoundTrip::new();
        round_trip.measure(Duration::from_millis(20), now);
        let mut window = Window::new(1 << 20);
        window.acknowledged(1 << 20, 1 << 20, &round_trip, now);
        assert_eq!(window.size(), 1 << 20);
        for _ in 0..60 {
            round_trip.measure(Duration::from_millis(165), now);
        }
        now += Duration::from_secs(1);
        window.acknowledged(1024, window.size(), &round_trip, now);
        assert!((690_000..720_000).contains(&window.size()), "110 ms are allowed: {}", window.size());
        for _ in 0..60 {
            round_trip.measure(Duration::from_secs(2), now);
        }
        for _ in 0..20 {
            now += Duration::from_secs(3);
            window.acknowledged(1024, window.size(), &round_trip, now);
        }
        assert_eq!(window.size(), Window::MIN_WITHOUT_LOSS);
        window.lost(&round_trip, now + Duration::from_secs(3));
        window.acknowledged(1024, window.size(), &round_trip, now + Duration::from_secs(6));
        assert_eq!(window.size(), Window::MIN, "a rising round trip does not undo a loss");
    }

    #[test]
    fn a_path_that_has_become_longer_for_good_is_no_queue() {
        let mut now = Instant::now();
        let mut round_trip = RoundTrip::new();
        round_trip.measure(Duration::from_millis(1), now);
        let is_rising = |round_trip: &RoundTrip| round_trip.allowed().is_some_and(|most| round_trip.smoothed > most);
        for second in 0..70 {
            now += Duration::from_secs(1);
            round_trip.measure(Duration::from_millis(300), now);
            assert!(!(20..=60).contains(&second) || is_rising(&round_trip), "{second}");
        }
        assert!(!is_rising(&round_trip));
        round_trip.measure(Duration::from_millis(1), now);
        round_trip.restart();
        round_trip.measure(Duration::from_millis(300), now);
        assert!(!is_rising(&round_trip), "nor is that of a new connection");
        assert!(!round_trip.could_be(Duration::from_micros(900)), "and no path is faster than the fastest yet");
    }
}
