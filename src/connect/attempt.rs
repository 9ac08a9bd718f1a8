//! One attempt at connecting: the time that each step has, by the rules of [`limits`](crate::limits), and the record of the
//! steps that were taken.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::{error::Error, pace::Pace, step::Step};
use crate::limits::{EXPLAIN_WITHIN, STEP_MINIMUM};

/// Until when a client is to be connected.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    /// Until then a step may take without any sign of success.
    explain: Instant,
    /// Until then it may take with one.
    last: Instant,
}

impl Deadline {
    /// For a client that was accepted at `accepted` and has `connect_timeout` in all.
    pub fn of_client(accepted: Instant, connect_timeout: Duration) -> Self {
        let last = accepted + connect_timeout;
        Self { explain: last.min(accepted + EXPLAIN_WITHIN), last }
    }

    /// Where no client waits, which could give up earlier.
    pub fn unattended(last: Instant) -> Self {
        Self { explain: last, last }
    }

    /// An earlier end, which leaves `time` before this one, and half of what is left at most.
    pub fn with_time_for(&self, time: Duration) -> Instant {
        let left = self.last.saturating_duration_since(Instant::now());
        self.last - time.min(left / 2)
    }

    /// How long an explanation may still take.
    pub fn left_to_explain(&self, at_most: Duration) -> Duration {
        let now = Instant::now();
        let end = if now < self.explain { self.explain } else { self.last };
        at_most.min(end.saturating_duration_since(now))
    }
}

/// Whether a step that takes long may still succeed, and so may use all the time that is left.
pub enum Hope<'a> {
    /// No.
    None,
    /// When this says so.
    If(&'a (dyn Fn() -> bool + Send + Sync)),
    /// Yes, always.
    Real,
}

/// The route that an attempt has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TakenRoute {
    /// The SSM session with this id.
    Session(Arc<str>),
    /// A TCP connection from this machine, as configured.
    Direct,
    /// A TCP connection from this machine, which `--via auto` tried first.
    DirectOfAuto,
}

/// One attempt at connecting.
#[derive(Debug)]
pub struct Attempt {
    deadline: Deadline,
    /// The steps that have succeeded, with their durations. A step that was retried is there twice.
    pub steps: Vec<(Step, Duration)>,
    /// The last step that has failed, with its duration.
    pub failed: Option<(Step, Duration)>,
    /// The route of the connection, or of the last one when several were tried; `None` before there is one.
    pub route: Option<TakenRoute>,
}

impl Attempt {
    /// Begins an attempt.
    pub fn new(deadline: Deadline) -> Self {
        Self { deadline, steps: Vec::with_capacity(6), failed: None, route: None }
    }

    /// The time that is left, for another attempt.
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// The time that the step has taken, retries and failures included.
    pub fn time_of(&self, step: Step) -> Duration {
        self.steps.iter().chain(&self.failed).filter(|(taken, _)| *taken == step).map(|(_, took)| *took).sum()
    }

    /// The time that all steps have taken that succeeded.
    fn time_taken(&self) -> Duration {
        self.steps.iter().map(|(_, took)| *took).sum()
    }

    /// Waits for a turn to log in, for as long as the client does. The time is not that of a step.
    ///
    /// # Errors
    /// [`Error::Pace`], [`Error::Timeout`].
    pub async fn wait_for_turn(&mut self, pace: &Pace) -> Result<(), Error> {
        let started = Instant::now();
        let Deadline { explain, last } = self.deadline;
        let turn = timeout_at(last, pace.turn(last)).await;
        let after = started.elapsed();
        self.deadline.explain = last.min(explain + after);
        turn.map_err(|_| Error::Timeout { step: Step::Login, after, before: self.time_taken() })?.map_err(Error::Pace)
    }

    /// Takes a step within its limit.
    ///
    /// # Errors
    /// The error of `work`, or [`Error::Timeout`].
    pub async fn run<T>(
        &mut self,
        step: Step,
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
            // A client waits for that; the steps behind it have their own time all the same.
            self.deadline.explain = last.min(explain + took);
        }
        let done = done.unwrap_or(Err(Error::Timeout { step, after: took, before: self.time_taken() }));
        if done.is_ok() {
            self.steps.push((step, took));
        } else {
            self.failed = Some((step, took));
        }
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

    fn attempt() -> Attempt {
        Attempt::new(Deadline::of_client(Instant::now(), CONNECT_TIMEOUT))
    }

    /// How many seconds a step takes that ends after `takes` by itself, and whether it succeeds.
    async fn step(attempt: &mut Attempt, hope: Hope<'_>, takes: u64) -> (u64, bool) {
        let started = Instant::now();
        let work = async {
            sleep(Duration::from_secs(takes)).await;
            Ok(())
        };
        let done = attempt.run(Step::Answer, hope, work).await;
        (started.elapsed().as_secs(), done.is_ok())
    }

    #[tokio::test(start_paused = true)]
    async fn hopeless_step_fails_within_nine_seconds() {
        assert_eq!(step(&mut attempt(), Hope::None, 8).await, (8, true));
        assert_eq!(step(&mut attempt(), Hope::None, 10).await, (9, false));
        assert_eq!(step(&mut attempt(), Hope::If(&|| false), 10).await, (9, false));
        let mut two = attempt();
        assert_eq!(step(&mut two, Hope::None, 5).await, (5, true));
        assert_eq!(step(&mut two, Hope::None, 20).await, (4, false), "together");
        let mut late = attempt();
        assert_eq!(step(&mut late, Hope::None, 8).await, (8, true));
        assert_eq!(step(&mut late, Hope::None, 20).await, (3, false), "the least that a step has");
    }

    #[tokio::test(start_paused = true)]
    async fn hopeful_step_may_use_the_whole_deadline() {
        assert_eq!(step(&mut attempt(), Hope::Real, 29).await, (29, true));
        assert_eq!(step(&mut attempt(), Hope::Real, 31).await, (30, false));
        assert_eq!(step(&mut attempt(), Hope::If(&|| true), 25).await, (25, true));
        assert_eq!(step(&mut attempt(), Hope::If(&|| true), 99).await, (30, false));
        // A process of 12 s, a database that wakes up for 15 s.
        let mut attempt = attempt();
        assert_eq!(step(&mut attempt, Hope::If(&|| true), 12).await, (12, true));
        assert_eq!(step(&mut attempt, Hope::None, 8).await, (8, true), "the process's time is not the route's");
        assert_eq!(step(&mut attempt, Hope::If(&|| true), 9).await, (9, true));
        assert_eq!(step(&mut attempt, Hope::Real, 5).await, (1, false), "30 s in all");
    }

    #[tokio::test(start_paused = true)]
    async fn hope_that_appears_in_time_extends_the_step() {
        let accepted = AtomicBool::new(false);
        let accepts = async {
            sleep(Duration::from_secs(7)).await;
            accepted.store(true, Ordering::Relaxed);
            pending::<()>().await;
        };
        let mut attempt = attempt();
        let hope = || accepted.load(Ordering::Relaxed);
        tokio::select! {
            () = accepts => unreachable!(),
            done = step(&mut attempt, Hope::If(&hope), 20) => assert_eq!(done, (20, true)),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn short_connect_timeout_and_unattended_deadline_are_kept() {
        let mut short = Attempt::new(Deadline::of_client(Instant::now(), Duration::from_secs(2)));
        assert_eq!(step(&mut short, Hope::None, 5).await, (2, false));
        let mut patient = Attempt::new(Deadline::unattended(Instant::now() + CONNECT_TIMEOUT));
        assert_eq!(step(&mut patient, Hope::None, 25).await, (25, true));
    }

    #[tokio::test(start_paused = true)]
    async fn step_that_is_left_little_time_names_the_steps_before_it() {
        let said = async |mut attempt: Attempt, step| {
            let endless = attempt.run(step, Hope::None, pending::<Result<(), Error>>()).await;
            endless.expect_err("it is cut off").to_string()
        };
        assert_eq!(said(attempt(), Step::Answer).await, "database answer took longer than 9 s");
        let mut late = Attempt::new(Deadline::of_client(Instant::now(), Duration::from_millis(3400)));
        step(&mut late, Hope::None, 3).await;
        let expected = "database login took longer than 0.4 s, after 3 s for the steps before it";
        assert_eq!(said(late, Step::Login).await, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn attempt_keeps_the_time_of_each_step_and_of_the_failed_one() {
        let mut attempt = attempt();
        step(&mut attempt, Hope::None, 2).await;
        step(&mut attempt, Hope::None, 3).await;
        step(&mut attempt, Hope::None, 20).await;
        assert_eq!(attempt.steps, [2, 3].map(|seconds| (Step::Answer, Duration::from_secs(seconds))));
        assert_eq!(attempt.failed, Some((Step::Answer, Duration::from_secs(4))));
        assert_eq!((attempt.time_of(Step::Answer).as_secs(), attempt.time_of(Step::Tls)), (9, Duration::ZERO));
    }
}
