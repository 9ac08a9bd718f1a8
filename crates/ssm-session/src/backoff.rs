//! Exponential backoff with full jitter. It computes delays; the caller waits.
//!
//! Full jitter, a uniform draw between zero and a limit, spreads the retries of many clients that lost the same service at the
//! same moment: see [Exponential Backoff And Jitter].
//!
//! [Exponential Backoff And Jitter]: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/

use std::time::Duration;

/// A sequence of growing, jittered delays.
///
/// # Defaults
/// The first limit is 200 ms. It doubles each time up to 10 s.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    attempt: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(Duration::from_millis(200), Duration::from_secs(10))
    }
}

impl Backoff {
    /// The first delay is drawn below `base`, each further one below twice the limit of the last, at most below `max`.
    pub fn new(base: Duration, max: Duration) -> Self {
        Self { base, max, attempt: 0 }
    }

    /// The next delay: uniform in `[0, min(max, base * 2^n))`.
    pub fn next_delay(&mut self, random: &mut fastrand::Rng) -> Duration {
        let cap = self.base.saturating_mul(1u32.checked_shl(self.attempt).unwrap_or(u32::MAX)).min(self.max);
        self.attempt = self.attempt.saturating_add(1);
        cap.mul_f64(random.f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_stay_below_a_doubling_cap_and_the_maximum() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let mut longest = Duration::ZERO;
        for n in 0..100_u32 {
            let cap = Duration::from_millis(100 * 2_u64.pow(n.min(10))).min(Duration::from_secs(1));
            let delay = backoff.next_delay(&mut random);
            assert!(delay < cap, "delay {n} is {delay:?}, cap {cap:?}");
            longest = longest.max(delay);
        }
        assert!(longest > Duration::from_millis(500), "jitter uses the whole range: {longest:?}");
    }
}
