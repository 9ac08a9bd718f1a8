//! The time that a connection has: each step's limit, by the rules of [`crate::limits`], and how long each step took.

use std::{pin::pin, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::error::{Error, Stage};
use crate::limits::{EXPLAIN_WITHIN, STEP_MINIMUM};

/// Until when a client is to be connected.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    /// Without real hope it is told why it is not, at this moment.
    explain: Instant,
    /// With hope, at this one.
    last: Instant,
}

impl Deadline {
    /// For a client that was accepted at `accepted` and has `connect_timeout` in all.
    pub fn of_client(accepted: Instant, connect_timeout: Duration) -> Self {
        let last = accepted + connect_timeout;
        Self { explain: last.min(accepted + EXPLAIN_WITHIN), last }
    }

    /// Where no client waits that could give up.
    pub fn patient(last: Instant) -> Self {
        Self { explain: last, last }
    }

    /// How long an explanation may still take.
    pub(super) fn left_to_explain(&self, at_most: Duration) -> Duration {
        let now = Instant::now();
        let end = if now < self.explain { self.explain } else { self.last };
        at_most.min(end.saturating_duration_since(now))
    }
}

/// What may be hoped for in a step.
pub(super) enum Hope<'a> {
    /// Nothing.
    None,
    /// Something when this says so.
    If(&'a (dyn Fn() -> bool + Send + Sync)),
    /// The step itself is hope.
    Real,
}

/// Runs steps within a [`Deadline`], and remembers how long they took.
pub(super) struct Clock {
    pub(super) deadline: Deadline,
    pub(super) stages: Vec<(Stage, Duration)>,
}

impl Clock {
    pub(super) fn until(deadline: Deadline) -> Self {
        Self { deadline, stages: Vec::with_capacity(6) }
    }

    /// Does `work` within its limit.
    ///
    /// # Errors
    /// The work's, or [`Error::Timeout`].
    pub(super) async fn run<T>(
        &mut self,
        stage: Stage,
        hope: Hope<'_>,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let started = Instant::now();
        let Deadline { explain, last } = self.deadline;
        let mut work = pin!(work);
        let hopeless = match hope {
            Hope::Real => last,
            Hope::None | Hope::If(_) => last.min(explain.max(started + STEP_MINIMUM)),
        };
        let mut done = timeout_at(hopeless, &mut work).await;
        let hoped = match hope {
            Hope::Real => true,
            Hope::If(hope) => hope(),
            Hope::None => false,
        };
        if done.is_err() && hoped && hopeless < last {
            done = timeout_at(last, &mut work).await;
        }
        let took = started.elapsed();
        if hoped {
            // The client is patient for that; what comes after it has its time all the same.
            self.deadline.explain = last.min(explain + took);
        }
        let done = done.map_err(|_| Error::Timeout { stage, after: took })?;
        self.stages.push((stage, took));
        done
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        sync::atomic::{AtomicBool, Ordering},
    };

    use tokio::time::sleep;

    use super::*;

    const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

    fn clock() -> Clock {
        Clock::until(Deadline::of_client(Instant::now(), CONNECT_TIMEOUT))
    }

    /// How many seconds a step takes that ends after `takes` by itself, and whether it succeeds.
    async fn step(clock: &mut Clock, hope: Hope<'_>, takes: u64) -> (u64, bool) {
        let started = Instant::now();
        let work = async {
            sleep(Duration::from_secs(takes)).await;
            Ok(())
        };
        let done = clock.run(Stage::Database, hope, work).await;
        (started.elapsed().as_secs(), done.is_ok())
    }

    #[tokio::test(start_paused = true)]
    async fn without_hope_a_client_is_told_within_nine_seconds() {
        assert_eq!(step(&mut clock(), Hope::None, 8).await, (8, true));
        assert_eq!(step(&mut clock(), Hope::None, 10).await, (9, false));
        assert_eq!(step(&mut clock(), Hope::If(&|| false), 10).await, (9, false));
        let mut two = clock();
        assert_eq!(step(&mut two, Hope::None, 5).await, (5, true));
        assert_eq!(step(&mut two, Hope::None, 20).await, (4, false), "together");
        let mut late = clock();
        assert_eq!(step(&mut late, Hope::None, 8).await, (8, true));
        assert_eq!(step(&mut late, Hope::None, 20).await, (3, false), "the least that a step has");
    }

    #[tokio::test(start_paused = true)]
    async fn with_hope_a_step_may_use_the_whole_deadline() {
        assert_eq!(step(&mut clock(), Hope::Real, 29).await, (29, true));
        assert_eq!(step(&mut clock(), Hope::Real, 31).await, (30, false));
        assert_eq!(step(&mut clock(), Hope::If(&|| true), 25).await, (25, true));
        assert_eq!(step(&mut clock(), Hope::If(&|| true), 99).await, (30, false));
        // A process of 12 s, a database that wakes up for 15 s.
        let mut clock = clock();
        assert_eq!(step(&mut clock, Hope::If(&|| true), 12).await, (12, true));
        assert_eq!(step(&mut clock, Hope::None, 8).await, (8, true), "the process's time is not the route's");
        assert_eq!(step(&mut clock, Hope::If(&|| true), 9).await, (9, true));
        assert_eq!(step(&mut clock, Hope::Real, 5).await, (1, false), "30 s in all");
    }

    #[tokio::test(start_paused = true)]
    async fn hope_that_comes_in_time_counts() {
        let accepted = AtomicBool::new(false);
        let accepts = async {
            sleep(Duration::from_secs(7)).await;
            accepted.store(true, Ordering::Relaxed);
            pending::<()>().await;
        };
        let mut clock = clock();
        let hope = || accepted.load(Ordering::Relaxed);
        tokio::select! {
            () = accepts => unreachable!(),
            done = step(&mut clock, Hope::If(&hope), 20) => assert_eq!(done, (20, true)),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_connect_timeout_and_a_patient_caller_are_as_they_were_set() {
        let mut short = Clock::until(Deadline::of_client(Instant::now(), Duration::from_secs(2)));
        assert_eq!(step(&mut short, Hope::None, 5).await, (2, false));
        let mut patient = Clock::until(Deadline::patient(Instant::now() + CONNECT_TIMEOUT));
        assert_eq!(step(&mut patient, Hope::None, 25).await, (25, true));
    }
}
