//! The queue of IAM logins at one database. RDS checks about 200 of them a second on each instance and refuses the rest, so a burst of
//! clients waits here instead, in the order of their arrival, and each only as long as its own deadline allows.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until},
};

/// The logins that may follow each other at once after a pause.
const BURST: u32 = 10;

/// The queue of one database. Targets with the same database share it.
#[derive(Debug)]
pub struct Pace {
    interval: Duration,
    /// The time of the next turn.
    next: Mutex<Instant>,
    waiting: AtomicUsize,
}

/// A place in the queue until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// More logins are waiting than there is time for.
#[derive(Debug, thiserror::Error)]
#[error("{ahead} logins wait for their turn at the database (--max-logins-per-second)")]
pub struct Overrun {
    /// The number of logins that would be made before.
    pub ahead: usize,
}

impl Pace {
    /// At most `per_second` logins, and a few more after a pause.
    pub fn new(per_second: usize) -> Self {
        let interval = Duration::from_secs(1) / u32::try_from(per_second).unwrap_or(u32::MAX).max(1);
        Self { interval, next: Mutex::new(earliest(interval)), waiting: AtomicUsize::new(0) }
    }

    /// Waits for a turn. One that is not waited for to its end leaves it to the next. Fails at once when the turn would come after
    /// `last`.
    ///
    /// # Errors
    /// [`Overrun`].
    pub async fn turn(&self, last: Instant) -> Result<(), Overrun> {
        let ahead = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        let expected = u32::try_from(ahead).ok().and_then(|ahead| self.interval.checked_mul(ahead));
        if expected.is_none_or(|wait| Instant::now() + wait > last) {
            return Err(Overrun { ahead });
        }
        let mut next = self.next.lock().await;
        sleep_until(*next).await;
        *next = (*next).max(earliest(self.interval)) + self.interval;
        Ok(())
    }
}

/// The time from which turns add up that are not taken.
fn earliest(interval: Duration) -> Instant {
    let now = Instant::now();
    now.checked_sub(interval * BURST).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn thousand_logins_take_their_turns_below_two_hundred_in_any_second() {
        let pace = Arc::new(Pace::new(180));
        let (start, last) = (Instant::now(), Instant::now() + Duration::from_secs(30));
        let all: Vec<_> = (0..1000)
            .map(|_| {
                let pace = Arc::clone(&pace);
                tokio::spawn(async move {
                    pace.turn(last).await.unwrap();
                    start.elapsed()
                })
            })
            .collect();
        let mut times = Vec::new();
        for turn in all {
            times.push(turn.await.unwrap());
        }
        times.sort();
        let second = Duration::from_secs(1);
        for (index, first) in times.iter().enumerate() {
            let within = times.iter().skip(index).take_while(|time| **time < *first + second).count();
            assert!(within <= 200, "{within} from {first:?}");
        }
        let took = times.last().unwrap();
        assert!(*took < Duration::from_secs(6), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn login_without_time_for_its_turn_fails_at_once_and_one_that_leaves_costs_none() {
        let pace = Arc::new(Pace::new(1));
        let last = Instant::now() + Duration::from_secs(3);
        for _ in 0..=BURST {
            pace.turn(last).await.unwrap();
        }
        let mut waiting: Vec<_> = (0..3)
            .map(|_| {
                let pace = Arc::clone(&pace);
                tokio::spawn(async move { pace.turn(Instant::now() + Duration::from_secs(30)).await.is_ok() })
            })
            .collect();
        tokio::task::yield_now().await;
        let started = Instant::now();
        assert_eq!(pace.turn(started + Duration::from_secs(2)).await.unwrap_err().ahead, 3);
        assert_eq!(started.elapsed(), Duration::ZERO);
        waiting.remove(0).abort();
        for turn in waiting {
            assert!(turn.await.unwrap());
        }
        assert!(started.elapsed() <= Duration::from_secs(2), "{:?}", started.elapsed());
    }
}
