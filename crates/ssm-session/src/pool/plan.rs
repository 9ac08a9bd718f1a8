//! The pool's decisions: where a new connection goes, which sessions to open, to drain and to end. Sans-IO.
//!
//! A new connection goes to an idle session: one without a big transfer, without a client that does not read, and without a stream
//! that was opened just now, whose use is not known yet. If there is none, the connection waits for another session to open, up
//! to `max_sessions`; beyond that the best of the busy ones serves it ([`Suitability`]).

use std::time::{Duration, Instant};

use super::{Isolation, Pooling};
use crate::load::{Availability, Load};

/// Time for which a session being restored is worth waiting for, before another is opened. After the hourly close of the websocket
/// it is back within a second.
pub(super) const RESTORE_TIMEOUT: Duration = Duration::from_secs(1);
/// Time for which the last connection of a burst waits to see whether a transfer is over: the workers of a parallel job connect as
/// soon as its leader has read the list of tasks. A little more than two slots of the meter.
pub(super) const TRANSFER_TIMEOUT: Duration = Duration::from_millis(600);
/// Time for which a connection waits for a session being opened before it takes a busy one.
pub(super) const OPEN_TIMEOUT: Duration = Duration::from_secs(4);
/// Time without attempts to open a spare session after a session could not be opened. A connection without another session does
/// not wait for it.
pub(super) const SPARE_RETRY: Duration = Duration::from_secs(30);
/// The first and the longest delay between attempts to open a session that fail one after the other; it doubles each time. Short
/// enough that a connection which waits for the next attempt gets its result in time.
const OPEN_RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(4));
/// A suspected failover drains sessions of at least this age: the agent resolved the destination's name when the session began.
/// Younger sessions know the present address.
pub(super) const SUSPICION_AGE: Duration = Duration::from_secs(1);
/// The shortest and the longest time between suspicions of a failover that count. It doubles while they follow each other sooner
/// than the longest: a destination that is down must not cost a session each time.
const SUSPICION_WAIT: (Duration, Duration) = (Duration::from_secs(10), Duration::from_mins(10));

/// A session as the plan sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    pub(super) load: Load,
    pub(super) opened: Instant,
    /// The session takes no new connections and ends with its last one.
    pub(super) draining: bool,
}

impl View {
    fn serves(&self) -> bool {
        !self.draining && self.load.condition.availability == Availability::Ready
    }

    /// Whether the session counts towards `max_sessions`. One that may never serve again does not, so that it is replaced.
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
    /// A client does not read, so the session may stop for all.
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

/// The work of a session. Compared field by field, in this order: active streams count most, because a stream that was opened just
/// now, such as a worker of a parallel job, will be as active as the others, while its leader waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Work {
    /// The number of streams on which bytes moved just now.
    active: usize,
    /// A transfer is under way.
    transferring: bool,
    /// A stream is being opened, whose use is not known yet.
    opening: bool,
    /// A big transfer is under way, or has just paused.
    bulk: bool,
    /// The number of all streams.
    streams: usize,
}

/// A connection that has no stream yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    /// The time that it has waited.
    pub(super) waited: Duration,
    /// A session is being opened for it.
    pub(super) pending: bool,
    /// A session that was opened for it failed.
    pub(super) failed: bool,
    /// No session may be opened at present, see [`Failures`].
    pub(super) barred: bool,
}

/// The place of a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The session with this index.
    Session(usize),
    /// The session being opened with this index.
    Join(usize),
    /// A session that has to be opened.
    Open,
    /// Not decided yet: ask again after a change.
    Wait,
    /// None, because no session could be opened.
    Failed,
    /// None: there are as many sessions as allowed, and none takes a new connection.
    NoRoom,
}

/// Decides the place of a connection. `openings` are the sessions being opened, each with the number of connections that wait for
/// it.
pub(super) fn place(sessions: &[View], openings: &[usize], pooling: &Pooling, waiting: Waiting) -> Place {
    let room = sessions.iter().filter(|view| view.counts()).count() + openings.len() < pooling.max_sessions;
    let serving = || sessions.iter().enumerate().filter(|(_, view)| view.serves());
    if pooling.isolation == Isolation::Connection {
        // A session that has just opened belongs to the connection that waits for it.
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
        // The first connections share one session. Later ones that come together get one each while there is room.
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

/// The maintenance of the sessions, independent of new connections.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Upkeep {
    /// The sessions that take no new connections from now on.
    pub(super) drain: Vec<usize>,
    /// The sessions to end.
    pub(super) end: Vec<usize>,
    /// Whether to open another session.
    pub(super) open: bool,
    /// When to ask again at the latest.
    pub(super) next: Option<Instant>,
}

/// Decides the maintenance that is due. `opening` is the number of sessions being opened, `retry_at` the time from which a spare one
/// may be opened.
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
            // The agent of an unresponsive session may answer again; if it does not, the session ends itself. Until then others
            // serve.
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

    // The destination is in use, not the session: a session that is kept warm may itself be idle for a long time.
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
    // Opened ahead of need: the next connection should wait neither behind a transfer nor for a session to open.
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

/// When StartSession may be called again after failures. Clients that reconnect at once must not call it each time; they all get
/// the result of one attempt.
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

    /// Until when no session is opened; `None` if one may be.
    pub(super) fn barred_until(&self, now: Instant) -> Option<Instant> {
        let (first, longest) = OPEN_RETRY;
        let delay = first.saturating_mul(1 << self.in_a_row.saturating_sub(1).min(8)).min(longest);
        self.last.map(|last| last + delay).filter(|until| now < *until)
    }
}

/// The suspicions of a failover, of which only some count, see [`SUSPICION_WAIT`].
#[derive(Debug, Default)]
pub(super) struct Suspicion {
    counted: Option<Instant>,
    raised: Option<Instant>,
    wait: Duration,
}

impl Suspicion {
    /// A connection failed in a way that a failover would explain. Returns whether to drain sessions older than
    /// [`SUSPICION_AGE`].
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
