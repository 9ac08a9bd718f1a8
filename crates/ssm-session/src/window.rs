//! Round-trip estimate and congestion window: the time until an acknowledgement, and the bytes that may wait for one.
//!
//! The protocol has no window of its own, and the reference clients pace themselves with sleeps. This client bounds the bytes
//! in flight instead. The window doubles each round trip while acknowledgements come, grows by a sixteenth of that after the
//! first loss, halves on a loss or a pause, and shrinks in proportion when the round trip rises above its base: the service
//! queues messages that it or the agent cannot take yet, and queued messages delay every stream of the session.
//!
//! The timeout is that of [RFC 6298] with the constants of the reference clients (plugin [`config.go`]).
//!
//! [RFC 6298]: https://www.rfc-editor.org/rfc/rfc6298#section-2
//! [`config.go`]: https://github.com/aws/session-manager-plugin/blob/61cf1288c7c66b4cbff922b7ed8a6604b3a3c2ea/src/config/config.go#L22-L33

use std::time::{Duration, Instant};

/// Lower bound of the retransmission timeout (plugin [`config.go`], DefaultTransmissionTimeout). A shorter one causes needless
/// duplicates on slow links.
///
/// [`config.go`]: https://github.com/aws/session-manager-plugin/blob/61cf1288c7c66b4cbff922b7ed8a6604b3a3c2ea/src/config/config.go#L22
const MIN_RTO: Duration = Duration::from_millis(200);
/// Upper bound of the retransmission timeout before backoff (plugin [`config.go`], MaxTransmissionTimeout).
///
/// [`config.go`]: https://github.com/aws/session-manager-plugin/blob/61cf1288c7c66b4cbff922b7ed8a6604b3a3c2ea/src/config/config.go#L33
const MAX_RTO: Duration = Duration::from_secs(1);
/// Upper bound of the retransmission timeout with backoff.
pub(super) const MAX_BACKED_OFF_RTO: Duration = Duration::from_secs(2);
/// First estimate of the round trip (plugin [`config.go`], DefaultRoundTripTime).
///
/// [`config.go`]: https://github.com/aws/session-manager-plugin/blob/61cf1288c7c66b4cbff922b7ed8a6604b3a3c2ea/src/config/config.go#L23
const INITIAL_ROUND_TRIP: Duration = Duration::from_millis(100);
/// Clock granularity in the formula of the timeout (plugin [`config.go`], ClockGranularity).
///
/// [`config.go`]: https://github.com/aws/session-manager-plugin/blob/61cf1288c7c66b4cbff922b7ed8a6604b3a3c2ea/src/config/config.go#L32
const GRANULARITY: Duration = Duration::from_millis(10);
/// The base is the best round trip of this period and of the one before, since a path may become slower for good.
const BASE_FOR: Duration = Duration::from_secs(30);
/// Messages count as queued when the round trip exceeds one and a half times its base by more than this. Smaller differences
/// are the noise of busy machines.
const QUEUEING: Duration = Duration::from_millis(80);

/// The smoothed time between sending a message and its acknowledgement.
#[derive(Debug, Clone)]
pub(super) struct RoundTrip {
    smoothed: Duration,
    variation: Duration,
    /// The best measurement of all connections.
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

    /// Takes one measurement, with the weights 1/8 and 1/4 of RFC 6298. Retransmitted messages must not be measured, because it is
    /// unknown which copy was acknowledged (Karn's algorithm).
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

    /// The best measurement; zero before the first.
    pub(super) fn best(&self) -> Duration {
        self.best.unwrap_or_default()
    }

    /// A new connection may take another path, whose length only new measurements show.
    pub(super) fn restart(&mut self) {
        *self = Self { best: self.best, ..Self::new() };
    }

    /// Whether an acknowledgement after `elapsed` can be for the last copy sent, and not only for an earlier one.
    pub(super) fn could_be(&self, elapsed: Duration) -> bool {
        self.best.is_some_and(|best| elapsed >= best)
    }

    /// Time after which an unacknowledged message is sent again.
    pub(super) fn timeout(&self) -> Duration {
        (self.smoothed + GRANULARITY.max(self.variation * 4)).clamp(MIN_RTO, MAX_RTO)
    }

    /// Time by which an acknowledgement may come later than those of later messages, before its message counts as lost.
    pub(super) fn reordering(&self) -> Duration {
        (self.smoothed / 4).clamp(Duration::from_millis(10), Duration::from_millis(100))
    }

    /// The longest round trip that does not show a queue; `None` before the first measurement.
    fn allowed(&self) -> Option<Duration> {
        let base = self.base?;
        Some(base.current.min(base.previous) * 3 / 2 + QUEUEING)
    }

    fn smoothed(&self) -> Duration {
        self.smoothed
    }
}

/// The number of bytes that may be in flight.
#[derive(Debug)]
pub(super) struct Window {
    size: usize,
    threshold: usize,
    max: usize,
    /// When the window was reduced last. One event reduces it once, so the next reduction is a round trip later.
    reduced_at: Option<Instant>,
}

impl Window {
    /// Bytes at the start: some sixty messages, so that a first big write is not held up and a first loss is cheap.
    const INITIAL: usize = 64 * 1024;
    /// The fewest bytes: some messages, so that there are always acknowledgements to learn from.
    const MIN: usize = 16 * 1024;
    /// The fewest bytes that a rising round trip alone leaves. On a busy machine it rises for reasons other than the path.
    const MIN_WITHOUT_LOSS: usize = 32 * 1024;

    pub(super) fn new(max: usize) -> Self {
        Self { size: Self::INITIAL.min(max), threshold: max, max, reduced_at: None }
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// `bytes` were acknowledged while `in_flight` bytes, including them, were under way.
    pub(super) fn acknowledged(&mut self, bytes: usize, in_flight: usize, round_trip: &RoundTrip, now: Instant) {
        if let Some(allowed) = round_trip.allowed().filter(|allowed| round_trip.smoothed > *allowed) {
            if self.may_reduce(now, round_trip) {
                self.yield_to(allowed, round_trip.smoothed);
            }
            return;
        }
        // A sender that does not fill the window learns nothing about the path.
        if in_flight * 2 < self.size {
            return;
        }
        let growth = if self.size < self.threshold { bytes } else { (bytes / 16).max(1) };
        self.size = (self.size + growth).min(self.max);
    }

    /// Round trips take `takes` and should take `allowed`: the window shrinks in this proportion, at most by half.
    fn yield_to(&mut self, allowed: Duration, takes: Duration) {
        let (allowed, takes) = (allowed.as_micros(), takes.as_micros().max(1));
        let fitting = self.size as u128 * allowed / takes;
        let fitting = usize::try_from(fitting).unwrap_or(self.size);
        // A window that losses have made smaller than the minimum here does not grow.
        self.size = fitting.max(self.size / 2).max(Self::MIN_WITHOUT_LOSS).min(self.size);
        self.threshold = self.size;
    }

    /// A message was lost, or the service asked for a pause.
    pub(super) fn lost(&mut self, round_trip: &RoundTrip, now: Instant) {
        if self.may_reduce(now, round_trip) {
            self.size = (self.size / 2).max(Self::MIN.min(self.max));
            self.threshold = self.size;
        }
    }

    /// A new connection may take another path.
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
    fn timeout_follows_the_round_trip_within_its_bounds() {
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
    fn window_doubles_until_a_loss_and_stays_within_its_bounds() {
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
    fn rising_round_trip_shrinks_the_window_in_proportion_to_a_minimum() {
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
    fn path_that_became_longer_for_good_is_not_taken_for_a_queue() {
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
