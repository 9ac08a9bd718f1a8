//! The sessions to one destination through one node: opened when needed, shared, watched, replaced, ended.
//!
//! ```text
//!   dial ──▶ plan::place ──▶ a session's stream          upkeep (one task) ──▶ plan::upkeep
//!              │  ▲                                        opens spare ones, drains and ends others
//!              ▼  │ a session opened, resumed, got full, … │
//!             opening ────────────── changed ──────────────┘
//! ```
//!
//! The module `plan` decides, sans-IO; here its decisions are carried out. A connection never moves to another session: a session
//! that is drained lives until its last connection ends.

mod error;
mod plan;
mod pooling;
mod stats;

use std::{
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, watch},
    time::{sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

use self::plan::{
    Failures, OPEN_TIMEOUT, Place, RESTORE_TIMEOUT, SPARE_RETRY, SUSPICION_AGE, Suspicion, TRANSFER_TIMEOUT, View,
    Waiting,
};
pub use self::{
    error::Error,
    pooling::{Isolation, Pooling},
    stats::{Counts, SessionStats, Stats},
};
use crate::{
    clock,
    conversation::EndReason,
    load::Availability,
    session::{self, Session, Spec},
    stream::SessionStream,
    tally::Tally,
};

/// Limit for the time that [`Pool::close`] waits for sessions to end.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(8);

/// A session being opened, and the result. Each connection that waits for it holds a [`Receiver`].
type Opening = Arc<watch::Sender<Option<Opened>>>;
type Receiver = watch::Receiver<Option<Opened>>;
type Opened = Result<Session, Arc<session::Error>>;

/// Sessions to one destination. Cheap to clone.
#[derive(Clone)]
pub struct Pool(Arc<Inner>);

struct Inner {
    spec: Spec,
    pooling: Pooling,
    tasks: TaskTracker,
    /// Cancelled when the pool is closed: sessions being opened are given up.
    closing: CancellationToken,
    /// Notified when a fact has changed that the plan depends on.
    changed: Arc<Notify>,
    /// AWS has granted a session that is being opened, or throttles: it is worth waiting for. Cleared when no session is being
    /// opened.
    hope: AtomicBool,
    /// No further connections are expected: see [`Pool::set_retired`].
    retired: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sessions: Vec<Member>,
    openings: Vec<Opening>,
    /// No spare session is opened before this time.
    retry_at: Option<Instant>,
    failures: Failures,
    suspicion: Suspicion,
    counts: Counts,
    /// Counts of the sessions that have ended.
    past: Tally,
    life: Life,
}

/// The life of a pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Life {
    /// No session has been opened.
    #[default]
    Unused,
    /// The upkeep task looks after the sessions.
    Maintained,
    /// No session is opened any more.
    Closed,
}

struct Member {
    session: Session,
    opened: Instant,
    draining: bool,
    /// The connections for which it was opened, and which have not taken it yet, hold a receiver.
    opening: Opening,
}

/// A connection that waits for its stream.
struct Ticket {
    since: Instant,
    /// The session that is being opened for the connection.
    opening: Option<Receiver>,
    /// Why that session could not be opened.
    failed: Option<Arc<session::Error>>,
}

impl Ticket {
    fn waited(&self) -> Duration {
        clock::now().saturating_duration_since(self.since)
    }
}

impl Pool {
    /// A pool without sessions.
    pub fn new(spec: Spec, pooling: Pooling) -> Self {
        Self(Arc::new(Inner {
            spec,
            pooling,
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            changed: Arc::new(Notify::new()),
            hope: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            state: Mutex::default(),
        }))
    }

    /// Whether both are handles of the same pool.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Opens a stream to the destination, in a new session if necessary. The agent dials while the stream is already in use: a
    /// failed dial is an error of the first read. Cancel safe: a session that is being opened goes on for other connections. The
    /// caller sets the deadline.
    ///
    /// # Errors
    /// [`Error`]: no session could be opened, none is free, or the pool is being closed.
    pub async fn dial(&self) -> Result<SessionStream, Error> {
        let mut ticket = Ticket { since: clock::now(), opening: None, failed: None };
        loop {
            let mut changed = pin!(self.0.changed.notified());
            changed.as_mut().enable();
            if let Some(done) = self.step(&mut ticket) {
                return done;
            }
            let waited = ticket.waited();
            let next_step =
                [TRANSFER_TIMEOUT, RESTORE_TIMEOUT, OPEN_TIMEOUT].into_iter().find(|timeout| waited < *timeout);
            let barred_until = self.state().failures.barred_until(clock::now());
            let next = next_step.map(|timeout| ticket.since + timeout).into_iter().chain(barred_until).min();
            tokio::select! {
                () = changed => {}
                () = sleep_until(next.unwrap_or(ticket.since).into()), if next.is_some() => {}
            }
        }
    }

    /// Whether a connection that waits for its stream has reason to go on: AWS has replied, by granting a session that is being
    /// opened, or by throttling.
    pub fn gives_hope(&self) -> bool {
        self.0.hope.load(Ordering::Relaxed)
    }

    /// Opens [`Pooling::warm_sessions`] sessions and waits for them.
    ///
    /// # Errors
    /// [`Error`], as the first connection would get it.
    pub async fn warm(&self) -> Result<(), Error> {
        self.open_at_least(self.0.pooling.warm_sessions).await
    }

    /// Opens sessions until there are as many, at most [`Pooling::max_sessions`], and waits for them.
    ///
    /// # Errors
    /// [`Error`], as the first connection would get it.
    pub async fn open_at_least(&self, sessions: usize) -> Result<(), Error> {
        let openings: Vec<Opening> = {
            let mut state = self.state();
            let wanted = sessions.min(self.0.pooling.max_sessions);
            for _ in state.sessions.len() + state.openings.len()..wanted {
                self.open(&mut state);
            }
            state.openings.clone()
        };
        // No receivers, since these sessions are not opened for a connection.
        loop {
            let mut changed = pin!(self.0.changed.notified());
            changed.as_mut().enable();
            let opened: Option<Vec<Opened>> = openings.iter().map(|opening| opening.borrow().clone()).collect();
            if let Some(opened) = opened {
                return opened.into_iter().try_for_each(|opened| Ok(opened.map(drop)?));
            }
            changed.await;
        }
    }

    /// A connection failed in a way that a failover of the destination would explain. The agent looks up the destination's name
    /// once per session, so new connections go to a new session.
    pub fn suspect_failover(&self) {
        let now = clock::now();
        let mut state = self.state();
        if !state.suspicion.raise(now) {
            return;
        }
        let members = state.sessions.iter_mut().filter(|member| now >= member.opened + SUSPICION_AGE);
        for member in members.filter(|member| !member.draining) {
            info!(session = %member.session.id(), "SSM session takes no new connections: the destination may have moved");
            member.draining = true;
        }
        drop(state);
        self.0.changed.notify_waiters();
    }

    /// Says whether further connections are expected. A retired pool keeps no session warm: its sessions end soon after their last
    /// connection. It serves connections that come all the same.
    pub fn set_retired(&self, retired: bool) {
        if self.0.retired.swap(retired, Ordering::Relaxed) != retired {
            self.0.changed.notify_waiters();
        }
    }

    /// The state of the pool, for people and metrics.
    pub fn stats(&self) -> Stats {
        let now = clock::now();
        let state = self.state();
        let mut tally = state.past;
        let sessions = state.sessions.iter().map(|member| {
            let status = member.session.status();
            tally += status.tally;
            SessionStats {
                id: Arc::clone(member.session.id()),
                age: now.saturating_duration_since(member.opened),
                draining: member.draining,
                status,
            }
        });
        Stats { sessions: sessions.collect(), opening: state.openings.len(), counts: state.counts, tally }
    }

    /// Ends all sessions and waits until AWS has confirmed it, at most [`CLOSE_TIMEOUT`]. No further session is opened.
    pub async fn close(&self) {
        let sessions = {
            let mut state = self.state();
            state.life = Life::Closed;
            state.remove(|_| true)
        };
        self.0.closing.cancel();
        self.0.changed.notify_waiters();
        for member in sessions {
            member.session.terminate();
        }
        self.0.tasks.close();
        if timeout(CLOSE_TIMEOUT, self.0.tasks.wait()).await.is_err() {
            warn!(open = self.0.tasks.len(), "SSM sessions did not end in time");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries to get a stream; `None` if the attempt has to be repeated after a change.
    fn step(&self, ticket: &mut Ticket) -> Option<Result<SessionStream, Error>> {
        let mut state = self.state();
        if state.life == Life::Closed {
            return Some(Err(Error::Closed));
        }
        if let Some(done) = self.redeem(&mut state, ticket) {
            return Some(done);
        }
        loop {
            let waiting = Waiting {
                waited: ticket.waited(),
                pending: ticket.opening.is_some(),
                failed: ticket.failed.is_some(),
                barred: state.failures.barred_until(clock::now()).is_some(),
            };
            let waiters: Vec<usize> = state.openings.iter().map(|opening| opening.receiver_count()).collect();
            match plan::place(&state.views(), &waiters, &self.0.pooling, waiting) {
                Place::Session(index) => {
                    // `None` if its condition has just changed: decide again.
                    if let Some(stream) = state.sessions.get(index).and_then(|member| member.session.open_stream()) {
                        state.counts.streams += 1;
                        return Some(Ok(stream));
                    }
                }
                Place::Join(index) => {
                    ticket.opening = Some(state.openings.get(index)?.subscribe());
                    return None;
                }
                Place::Open => {
                    ticket.opening = Some(self.open(&mut state).subscribe());
                    return None;
                }
                Place::Wait => return None,
                Place::Failed => return ticket.failed.take().map(|cause| Err(cause.into())),
                Place::NoRoom => return Some(Err(Error::NoRoom { max_sessions: self.0.pooling.max_sessions })),
            }
        }
    }

    /// Takes a stream of the session that was opened for this connection, if it has opened by now.
    fn redeem(&self, state: &mut State, ticket: &mut Ticket) -> Option<Result<SessionStream, Error>> {
        let outcome = ticket.opening.as_ref()?.borrow().clone()?;
        ticket.opening = None;
        let session = match outcome {
            Ok(session) => session,
            Err(cause) => {
                ticket.failed = Some(cause);
                return None;
            }
        };
        // A session that ended as soon as it was open would do so again: agents check the destination only then.
        if let Some(reason) = session.ended() {
            let cause = session::Error::Ended { node: Arc::clone(&self.0.spec.node), reason };
            return Some(Err(Arc::new(cause).into()));
        }
        if self.0.pooling.isolation == Isolation::Connection {
            return None;
        }
        let stream = session.open_stream()?;
        state.counts.streams += 1;
        Some(Ok(stream))
    }

    /// Starts to open a session.
    fn open(&self, state: &mut State) -> Opening {
        let opening = Opening::new(watch::Sender::new(None));
        state.openings.push(Arc::clone(&opening));
        if state.life == Life::Unused {
            state.life = Life::Maintained;
            self.0.tasks.spawn(maintain(self.clone()));
        }
        let (pool, own) = (self.clone(), Arc::clone(&opening));
        self.0.tasks.spawn(async move {
            let Inner { spec, tasks, closing, changed, hope, .. } = &*pool.0;
            let gives_hope = || hope.store(true, Ordering::Relaxed);
            let opened = Session::open(spec, tasks, closing, changed, gives_hope).await.map_err(Arc::new);
            let mut state = pool.state();
            state.openings.retain(|opening| !Arc::ptr_eq(opening, &own));
            if state.openings.is_empty() {
                hope.store(false, Ordering::Relaxed);
            }
            match &opened {
                Ok(session) if state.life == Life::Closed => session.terminate(),
                Ok(session) => {
                    state.counts.opened += 1;
                    state.retry_at = None;
                    state.failures.succeeded();
                    let (session, opening) = (session.clone(), Arc::clone(&own));
                    state.sessions.push(Member { session, opened: clock::now(), draining: false, opening });
                }
                Err(error) => {
                    let now = clock::now();
                    state.counts.failed += 1;
                    state.retry_at = Some(now + SPARE_RETRY);
                    state.failures.failed(now);
                    if error.says_agent_is_gone() {
                        state.end_unresponsive(now);
                    }
                }
            }
            // Under the lock: the connections that wait for this session are to have it first.
            own.send_replace(Some(opened));
            drop(state);
            changed.notify_waiters();
        });
        opening
    }

    /// Does what is due. Returns the time of the next call at the latest.
    fn upkeep(&self) -> Option<Instant> {
        let now = clock::now();
        let mut state = self.state();
        state.remove(|session| session.condition(now).availability == Availability::Over);
        let retired = self.0.retired.load(Ordering::Relaxed).then(|| self.0.pooling.retired());
        let pooling = retired.as_ref().unwrap_or(&self.0.pooling);
        let mut plan = plan::upkeep(&state.views(), state.openings.len(), pooling, state.retry_at, now);
        for index in plan.drain.drain(..) {
            if let Some(member) = state.sessions.get_mut(index) {
                debug!(session = %member.session.id(), "SSM session takes no new connections");
                member.draining = true;
                // Another session may have to replace it, or it may have no connection to wait for.
                plan.next = Some(now);
            }
        }
        plan.end.sort_unstable();
        for index in plan.end.into_iter().rev() {
            let Member { session, .. } = state.sessions.remove(index);
            state.past += session.status().tally;
            session.terminate();
        }
        if plan.open && state.life != Life::Closed {
            debug!(node = %self.0.spec.node, "opening a spare SSM session");
            self.open(&mut state);
        }
        plan.next
    }
}

impl State {
    fn views(&self) -> Vec<View> {
        let now = clock::now();
        let view = |member: &Member| {
            let mut load = member.session.load(now);
            // The connections that are about to take it count as opened there.
            let awaited = member.opening.receiver_count();
            load.active += awaited;
            load.dialling |= awaited > 0;
            View { load, opened: member.opened, draining: member.draining }
        };
        self.sessions.iter().map(view).collect()
    }

    /// Ends the sessions whose agent does not answer, because Systems Manager has no connection to it either.
    fn end_unresponsive(&mut self, now: Instant) {
        let unresponsive = |session: &Session| session.condition(now).availability == Availability::Unresponsive;
        for member in self.sessions.iter().filter(|member| unresponsive(&member.session)) {
            member.session.end(EndReason::AgentGone);
        }
    }

    /// Takes out the sessions that are `gone`. Their counts are kept.
    fn remove(&mut self, gone: impl Fn(&Session) -> bool) -> Vec<Member> {
        let removed: Vec<Member> = self.sessions.extract_if(.., |member| gone(&member.session)).collect();
        for member in &removed {
            self.past += member.session.status().tally;
        }
        removed
    }
}

/// Maintains the sessions until the pool is closed.
async fn maintain(pool: Pool) {
    loop {
        let mut changed = pin!(pool.0.changed.notified());
        changed.as_mut().enable();
        let next = pool.upkeep();
        tokio::select! {
            () = pool.0.closing.cancelled() => return,
            () = changed => {}
            () = async { sleep_until(next.unwrap_or_else(clock::now).into()).await }, if next.is_some() => {}
        }
    }
}
