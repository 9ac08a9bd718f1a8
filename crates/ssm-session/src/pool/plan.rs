//! The pool's decisions: where a new connection goes, which sessions to open, to drain and to end. Sans-IO.
//!
//! A new connection goes to an idle session: one that carries no big transfer, no client that does not read, and no stream that
//! has only just come, since what that one will carry is not known yet. When there is none, it waits for another session, up to
//! `max_sessions`; beyond that the best of the busy ones serves ([`Suitability`]).

use std::time::{Duration, Instant};

use super::{Isolation, Pooling};
use crate::load::{Availability, Load};

/// A session being restored is worth waiting for so long before another is opened: after the hourly close of the websocket
/// it is back within the second.
pub(super) const RESTORE_TIMEOUT: Duration = Duration::from_secs(1);
/// The last of a burst waits so long to see whether a transfer is over: the workers of a parallel dump come as soon as its
/// leader has read the catalogue. Two slots of the meter and a little.
pub(super) const TRANSFER_TIMEOUT: Duration = Duration::from_millis(600);
/// A connection waits so long for a session of its own before it takes a busy one.
pub(super) const OPEN_TIMEOUT: Duration = Duration::from_secs(4);
/// After a session could not be opened, no spare one is tried for so long. A connection that has no other tries at once.
pub(super) const SPARE_RETRY: Duration = Duration::from_secs(30);
/// Between attempts to open a session that fail one after the other: doubled each time, the first of them and the longest.
/// Short enough that a connection which waits for the next attempt has its outcome in time.
const OPEN_RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(4));
/// Suspecting a failover makes sessions of this age or more step back: the agent resolved the database's name when the
/// session began. Younger ones know the present address.
pub(super) const SUSPICION_AGE: Duration = Duration::from_secs(1);
/// After a suspicion the next one must wait: twice as long each time while they follow each other sooner than the longest
/// wait. A database that is down, or a client that writes where it may not, must not cost a session each time.
const SUSPICION_WAIT: (Duration, Duration) = (Duration::from_secs(10), Duration::from_mins(10));

/// A session as the plan sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    pub(super) load: Load,
    pub(super) opened: Instant,
    /// It takes no new connections and ends with its last.
    pub(super) draining: bool,
}

impl View {
    fn serves(&self) -> bool {
        !self.draining && self.load.condition.availability == Availability::Ready
    }

    /// Counts towards `max_sessions`: those that may never serve again need a successor.
    fn counts(&self) -> bool {
        let availability = self.load.condition.availability;
        !self.draining && !matches!(availability, Availability::Stuck | Availability::Unresponsive | Availability::Over)
    }

    /// Whether a new connection would wait behind others.
    fn delays_connections(&self) -> bool {
        let condition = self.load.condition;
        let serves_nobody = matches!(condition.availability, Availability::Full | Availability::Unresponsive);
        condition.bulk || condition.stalled || serves_nobody
    }

    fn suitability(&self) -> Suitability {
        let Load { condition, active, dialling, quiet, streams, .. } = self.load;
        let work = Work { active, transferring: !quiet, opening: dialling, bulk: condition.bulk, streams };
        match work {
            work if condition.stalled => Suitability::Blocked(work),
            Work { transferring: false, opening: false, bulk: false, .. } => Suitability::Idle(work),
            work => Suitability::Busy(work),
        }
    }
}

/// How well a session that takes streams serves one more connection, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Suitability {
    /// No transfer is going on, and no stream is being opened.
    Idle(Work),
    /// The connection would share the session with others at work.
    Busy(Work),
    /// A client does not read; the session may stop for all.
    Blocked(Work),
}

impl Suitability {
    fn is_idle(self) -> bool {
        matches!(self, Self::Idle(_))
    }

    /// A transfer is going on, and no stream is being opened.
    fn is_transferring(self) -> bool {
        matches!(self, Self::Busy(Work { transferring: true, opening: false, .. }))
    }

    fn is_opening(self) -> bool {
        let (Self::Idle(work) | Self::Busy(work) | Self::Blocked(work)) = self;
        work.opening
    }
}

/// What a session does. Compared field by field, in this order: the streams at work count most, because a stream that has only
/// just come, such as a worker of a parallel dump, will be as much at work as the others; its leader, which waits, is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Work {
    /// Streams in use just now.
    active: usize,
    /// Data move.
    transferring: bool,
    /// A stream is being opened; what it will carry is not known yet.
    opening: bool,
    /// A big transfer is going on, or has just paused.
    bulk: bool,
    /// All streams.
    streams: usize,
}

/// A connection that has no stream yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    /// For how long.
    pub(super) waited: Duration,
    /// A session is being opened for it.
    pub(super) pending: bool,
    /// One could not be.
    pub(super) failed: bool,
    /// None may be opened just now, see [`Failures`].
    pub(super) barred: bool,
}

/// Where a new connection goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// To this session.
    Session(usize),
    /// To this one of those being opened.
    Join(usize),
    /// To one that is to be opened.
    Open,
    /// Nowhere yet: ask again when something has changed.
    Wait,
    /// Nowhere, because none could be opened.
    Failed,
    /// Nowhere: as many sessions as there may be serve nobody new.
    NoRoom,
}

/// Where a connection goes now. `openings` are the sessions being opened, each with how many connections wait for it.
pub(super) fn place(sessions: &[View], openings: &[usize], pooling: &Pooling, waiting: Waiting) -> Place {
    let room = sessions.iter().filter(|view| view.counts()).count() + openings.len() < pooling.max_sessions;
    let serving = || sessions.iter().enumerate().filter(|(_, view)| view.serves());
    if pooling.isolation == Isolation::Connection {
        // One that has only just opened belongs to the connection that waits for it.
        let free = serving().find(|(_, view)| view.load.streams == 0 && !view.load.dialling);
        return match (free, openings.iter().position(|&waiters| waiters == 0)) {
            (Some((index, _)), _) => Place::Session(index),
            (None, _) if waiting.pending => Place::Wait,
            (None, Some(opening)) => Place::Join(opening),
            (None, None) if waiting.failed => Place::Failed,
            (None, None) if room && !waiting.barred => Place::Open,
            // Connections may leave before theirs has opened.
            (None, None) if room || !openings.is_empty() => Place::Wait,
            (None, None) => Place::NoRoom,
        };
    }
    let best = serving().min_by_key(|(_, view)| view.suitability());
    if let Some((index, _)) = best.filter(|(_, view)| view.suitability().is_idle()) {
        return Place::Session(index);
    }
    let restoring =
        sessions.iter().any(|view| !view.draining && view.load.condition.availability == Availability::Restoring);
    if !waiting.pending && !waiting.failed {
        if best.is_none() && restoring && waiting.waited < RESTORE_TIMEOUT {
            return Place::Wait;
        }
        // The first connections share one session; later ones that come at once get one each while there is room.
        let joinable = openings.iter().position(|&waiters| waiters == 0 || best.is_none());
        match joinable {
            Some(opening) => return Place::Join(opening),
            None if room && !waiting.barred => return Place::Open,
            None => {}
        }
    }
    match best {
        Some(_) if waiting.pending && waiting.waited < OPEN_TIMEOUT => Place::Wait,
        Some((_, view))
            if view.suitability().is_opening()
                && waiting.waited < TRANSFER_TIMEOUT
                && serving().any(|(_, view)| view.suitability().is_transferring()) =>
        {
            Place::Wait
        }
        Some((index, _)) => Place::Session(index),
        None if waiting.pending || restoring => Place::Wait,
        None if waiting.failed => Place::Failed,
        None if room => Place::Wait,
        None => Place::NoRoom,
    }
}

/// What is to be done with the sessions when no connection asks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Upkeep {
    /// These take no new connections from now on.
    pub(super) drain: Vec<usize>,
    /// These end.
    pub(super) end: Vec<usize>,
    /// Open another one.
    pub(super) open: bool,
    /// Ask again then at the latest.
    pub(super) next: Option<Instant>,
}

/// What is to be done now. `opening` is how many are being opened, `retry_at` when a spare one may be tried.
pub(super) fn upkeep(
    sessions: &[View],
    opening: usize,
    pooling: &Pooling,
    retry_at: Option<Instant>,
    now: Instant,
) -> Upkeep {
    let mut upkeep = Upkeep::default();
    let mut due = Vec::new();
    let mut stays: Vec<(usize, Option<Instant>)> = Vec::new();
    let mut delayed = None;
    for (index, view) in sessions.iter().enumerate() {
        let rotate_at = pooling.rotate_after.map(|age| view.opened + age).filter(|_| !view.draining);
        let rotated = rotate_at.is_some_and(|at| now >= at);
        match view.load.condition.availability {
            Availability::Stuck if !view.draining => upkeep.drain.push(index),
            // An unresponsive one may answer again, and ends itself when it does not; until then others serve.
            Availability::Over | Availability::Unresponsive => continue,
            _ if rotated => upkeep.drain.push(index),
            _ if !view.draining => {
                due.extend(rotate_at);
                stays.push((index, view.load.idle_since));
                if view.load.condition.availability != Availability::Restoring {
                    delayed = Some(view.delays_connections() && delayed.unwrap_or(true));
                }
                continue;
            }
            _ => {}
        }
        if view.load.idle_since.is_some() {
            upkeep.end.push(index);
        }
    }

    // In use is the target, not the session: one that is kept warm may itself be idle for long.
    let in_use = sessions.iter().any(|view| !view.load.condition.idle) || opening > 0;
    let keep = if in_use { pooling.warm_sessions.max(1) } else { pooling.warm_sessions };
    stays.sort_by_key(|&(_, idle_since)| idle_since.is_none());
    let last_use = stays.iter().filter_map(|&(_, idle_since)| idle_since).max();
    let mut left = stays.len();
    for (index, idle_since) in stays {
        let Some(idle_since) = idle_since else { break };
        let since = if left > keep {
            idle_since
        } else if in_use {
            break;
        } else {
            last_use.unwrap_or(idle_since)
        };
        if now >= since + pooling.idle_close {
            upkeep.end.push(index);
            left -= 1;
        } else {
            due.push(since + pooling.idle_close);
        }
    }

    let room = sessions.iter().filter(|view| view.counts()).count() + opening < pooling.max_sessions;
    // Before it is asked for: who comes next must not wait behind a transfer, nor for a session to open.
    let wanted = delayed == Some(true) || left < pooling.warm_sessions;
    if wanted && in_use && opening == 0 && room && pooling.isolation == Isolation::Shared {
        match retry_at.filter(|&at| now < at) {
            Some(at) => due.push(at),
            None => upkeep.open = true,
        }
    }
    upkeep.next = due.into_iter().min();
    upkeep
}

/// When StartSession may be tried again after failures, by whomever: clients that connect again at once must not call it
/// each time. What one attempt comes to is told to all that wait for it.
#[derive(Debug, Default)]
pub(super) struct Failures {
    in_a_row: u32,
    last: Option<Instant>,
}

impl Failures {
    pub(super) fn failed(&mut self, now: Instant) {
        let (_, longest) = OPEN_RETRY;
        let recent = self.last.replace(now).is_some_and(|last| now < last + 2 * longest);
        self.in_a_row = if recent { self.in_a_row.saturating_add(1) } else { 1 };
    }

    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Until when no session is opened; `None` when one may be.
    pub(super) fn barred_until(&self, now: Instant) -> Option<Instant> {
        let (first, longest) = OPEN_RETRY;
        let delay = first.saturating_mul(1 << self.in_a_row.saturating_sub(1).min(8)).min(longest);
        self.last.map(|last| last + delay).filter(|until| now < *until)
    }
}

/// When the next suspicion of a failover counts, see [`SUSPICION_WAIT`].
#[derive(Debug, Default)]
pub(super) struct Suspicion {
    counted: Option<Instant>,
    raised: Option<Instant>,
    wait: Duration,
}

impl Suspicion {
    /// A connection met what a failover would explain. Says whether sessions older than [`SUSPICION_AGE`] are to step back.
    pub(super) fn raise(&mut self, now: Instant) -> bool {
        let (shortest, longest) = SUSPICION_WAIT;
        let calm = self.raised.replace(now).is_none_or(|last| now >= last + longest);
        if calm {
            self.wait = shortest;
        } else if self.counted.is_some_and(|last| now < last + self.wait) {
            return false;
        } else {
            self.wait = (self.wait * 2).min(longest);
        }
        self.counted = Some(now);
        true
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
