//! How long an acknowledgement takes and how many bytes may wait for one: round-trip estimate and congestion window.
//!
//! The protocol has no window of its own and the reference clients pace themselves with sleeps; we bound the bytes in
//! flight instead. The window doubles each round trip while acknowledgements come, grows slowly after the first loss,
//! halves on loss, and yields when the round trip rises far above its best (the service queues what the agent
//! cannot take). The estimate is RFC 6298's with the reference clients' constants.

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

/// The smoothed time between sending a message and its acknowledgement.
#[derive(Debug, Clone)]
pub(super) struct RoundTrip {
    smoothed: Duration,
    variation: Duration,
    best: Option<Duration>,
}

impl RoundTrip {
    pub(super) fn new() -> Self {
        Self { smoothed: INITIAL_ROUND_TRIP, variation: Duration::ZERO, best: None }
    }

    /// Takes one measurement. Retransmitted messages must not be measured: which copy was answered is unknown (Karn).
    pub(super) fn measure(&mut self, sample: Duration) {
        if self.best.is_none() {
            self.smoothed = sample;
            self.variation = sample / 2;
        } else {
            self.variation = (self.variation * 3 + self.smoothed.abs_diff(sample)) / 4;
            self.smoothed = (self.smoothed * 7 + sample) / 8;
        }
        self.best = Some(self.best.map_or(sample, |best| best.min(sample)));
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

    /// Whether messages queue somewhere: the round trip is far above the best one seen.
    fn is_rising(&self) -> bool {
        self.best.is_some_and(|best| self.smoothed > best * 2 + Duration::from_millis(100))
    }

    pub(super) fn smoothed(&self) -> Duration {
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

    pub(super) fn new(max: usize) -> Self {
        Self { size: Self::INITIAL.min(max), threshold: max, max, reduced_at: None }
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// `bytes` were acknowledged while `in_flight` (them included) nearly filled the window.
    pub(super) fn acknowledged(&mut self, bytes: usize, in_flight: usize, round_trip: &RoundTrip, now: Instant) {
        if round_trip.is_rising() {
            if self.may_reduce(now, round_trip) {
                self.threshold = self.size;
                self.size = (self.size - self.size / 8).max(Self::MIN);
            }
            return;
        }
        // A sender that has nothing to send learns nothing about the path.
        if in_flight * 2 < self.size {
            return;
        }
        let growth = if self.size < self.threshold { bytes } else { (bytes * 1024 / self.size.max(1)).max(1) };
        self.size = (self.size + growth).min(self.max);
    }

    /// A message was lost, or the service said pause.
    pub(super) fn lost(&mut self, round_trip: &RoundTrip, now: Instant) {
        if self.may_reduce(now, round_trip) {
            self.size = (self.size / 2).max(Self::MIN);
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
        for _ in 0..50 {
            round_trip.measure(Duration::from_millis(2));
        }
        assert_eq!(round_trip.timeout(), MIN_RTO);
        for _ in 0..50 {
            round_trip.measure(Duration::from_millis(400));
        }
        assert!(round_trip.timeout() > Duration::from_millis(400) && round_trip.timeout() <= MAX_RTO);
    }

    #[test]
    fn the_window_doubles_until_a_loss_and_never_leaves_its_bounds() {
        let start = Instant::now();
        let mut round_trip = RoundTrip::new();
        round_trip.measure(Duration::from_millis(40));
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
    fn a_rising_round_trip_shrinks_the_window() {
        let mut now = Instant::now();
        let mut round_trip = RoundTrip::new();
        round_trip.measure(Duration::from_millis(20));
        let mut window = Window::new(4 << 20);
        for _ in 0..60 {
            round_trip.measure(Duration::from_millis(900));
        }
        let before = window.size();
        for _ in 0..10 {
            now += Duration::from_secs(1);
            window.acknowledged(1024, window.size(), &round_trip, now);
        }
        assert!(window.size() < before);
    }
}
