//! Bytes by time: how many in each of the last intervals, in both directions. Time is passed in.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// The bytes of the last intervals, the current one included.
#[derive(Debug, Clone)]
pub struct Window {
    width: Duration,
    origin: Instant,
    /// The number of the current interval since `origin`.
    current: u64,
    /// Oldest first. Always of the same length.
    sums: VecDeque<u64>,
}

impl Window {
    /// A window of `intervals` of `width`.
    pub fn new(intervals: usize, width: Duration, now: Instant) -> Self {
        Self { width, origin: now, current: 0, sums: vec![0; intervals].into() }
    }

    /// Adds bytes to the current interval.
    pub fn add(&mut self, bytes: u64, now: Instant) {
        self.advance(now);
        if let Some(sum) = self.sums.back_mut() {
            *sum = sum.saturating_add(bytes);
        }
    }

    /// The bytes of each interval, oldest first. The last one is not over yet.
    pub fn sums(&mut self, now: Instant) -> Vec<u64> {
        self.advance(now);
        self.sums.iter().copied().collect()
    }

    /// Bytes per second in the intervals that are over.
    pub fn rate(&mut self, now: Instant) -> u64 {
        self.advance(now);
        let over = self.sums.len().saturating_sub(1);
        let bytes: u64 = self.sums.iter().take(over).sum();
        let seconds = self.width.as_secs().saturating_mul(over as u64);
        bytes.checked_div(seconds).unwrap_or_default()
    }

    fn advance(&mut self, now: Instant) {
        let width = self.width.as_nanos().max(1);
        let elapsed = now.saturating_duration_since(self.origin).as_nanos() / width;
        let current = u64::try_from(elapsed).unwrap_or(u64::MAX);
        let passed = current.saturating_sub(self.current);
        for _ in 0..passed.min(self.sums.len() as u64) {
            self.sums.pop_front();
            self.sums.push_back(0);
        }
        self.current = self.current.max(current);
    }
}

/// A [`Window`] for each direction.
#[derive(Debug, Clone)]
pub struct Traffic {
    /// From the client to the database.
    pub sent: Window,
    /// From the database to the client.
    pub received: Window,
}

impl Traffic {
    /// See [`Window::new`].
    pub fn new(intervals: usize, width: Duration, now: Instant) -> Self {
        let window = Window::new(intervals, width, now);
        Self { sent: window.clone(), received: window }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn bytes_are_in_the_interval_in_which_they_came() {
        let start = Instant::now();
        let mut window = Window::new(4, SECOND, start);
        window.add(1, start);
        window.add(2, start + SECOND / 2);
        window.add(4, start + SECOND);
        assert_eq!(window.sums(start + SECOND), [0, 0, 3, 4]);
        assert_eq!(window.sums(start + SECOND * 3), [3, 4, 0, 0]);
        assert_eq!(window.rate(start + SECOND * 3), 2);
        assert_eq!(window.sums(start + SECOND * 1000), [0, 0, 0, 0]);
        window.add(8, start);
        assert_eq!(window.sums(start), [0, 0, 0, 8], "a clock that goes back changes nothing");
    }
}
