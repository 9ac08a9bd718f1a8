//! The sessions to one endpoint through one bastion: opened when needed, shared, watched, replaced, ended.
//!
//! ```text
//!   dial ──▶ plan::place ──▶ a session's stream          upkeep (one task) ──▶ plan::upkeep
//!              │  ▲                                        opens spare ones, drains and ends others
//!              ▼  │ a session opened, resumed, got full, … │
//!             opening ────────────── changed ──────────────┘
//! ```
//!
//! The module `plan` decides, sans-IO; here its decisions are carried out. A connection is never moved: what a session carries
//! when it is drained lives on in it.

mod plan;
mod pooling;

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
pub use self::pooling::{Isolation, Pooling};
use crate::{
    clock,
    conversation::EndReason,
    load::Availability,
    session::{self, Session, Spec, Status},
    stream::SessionStream,
    tally::Tally,
};

/// How long [`Pool::close`] waits for sessions to end.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(8);

/// A session being opened, and what that came to. Each connection that waits for it holds a [`Receiver`].
type Opening = Arc<watch::Sender<Option<Opened>>>;
type Receiver = watch::Receiver<Option<Opened>>;
type Opened = Result<Session, Arc<session::Error>>;

/// Sessions to one endpoint. Cheap to clone.
#[derive(Clone)]
pub struct Pool(Arc<Inner>);

struct Inner {
    spec: Spec,
    pooling: Pooling,
    tasks: TaskTracker,
    /// Whoever opens a session gives it up.
    closing: CancellationToken,
    /// Something that a plan looks at is not as it was.
    changed: Arc<Notify>,
    /// AWS has granted a session that is being opened, or throttles: it is worth waiting for.
    hope: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sessions: Vec<Member>,
    openings: Vec<Opening>,
    /// No spare session is opened before this.
    retry_at: Option<Instant>,
    failures: Failures,
    suspicion: Suspicion,
    counts: Counts,
    /// Of sessions that the pool has no more.
    past: Tally,
    maintained: bool,
    closed: bool,
}

struct Member {
    session: Session,
    opened: Instant,
    draining: bool,
    /// Whoever it was opened for and has not come yet holds a receiver.
    opening: Opening,
}

/// What a pool has done since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sessions opened.
    pub opened: u64,
    /// Sessions that could not be.
    pub failed: u64,
    /// Connections given a stream.
    pub streams: u64,
}

/// What a pool is doing, for people and metrics.
#[derive(Debug, Clone)]
pub struct Stats {
    /// Its sessions, those included that take no new connections.
    pub sessions: Vec<SessionStats>,
    /// Sessions being opened.
    pub opening: usize,
    /// Since the start.
    pub counts: Counts,
    /// What has happened to its sessions since the start, those included that have ended.
    pub tally: Tally,
}

/// One session of a pool.
#[derive(Debug, Clone)]
pub struct SessionStats {
    /// Its id at AWS.
    pub id: Arc<str>,
    /// Since it opened.
    pub age: Duration,
    /// It takes no new connections and ends with its last.
    pub draining: bool,
    /// The session itself.
    pub status: Status,
}

/// Why the pool gave no stream.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No session could be opened.
    #[error(transparent)]
    Session(#[from] Arc<session::Error>),
    /// All sessions that there may be are taken.
    #[error(
        "no SSM session is free: all {max_sessions} are reserved for other connections, or blocked by clients that do not read"
    )]
    NoRoom {
        /// The limit.
        max_sessions: usize,
    },
    /// We are shutting down.
    #[error("the SSM sessions are being closed")]
    Closed,
}

/// A connection that waits for its stream.
struct Ticket {
    since: Instant,
    /// The session that is being opened for it.
    opening: Option<Receiver>,
    /// Why that did not work.
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
            state: Mutex::default(),
        }))
    }

    /// Whether both are one.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// A stream to the endpoint. The agent dials it when it carries its first bytes. Cancel safe: an opening session goes
    /// on for the others. The deadline is the caller's.
    ///
    /// # Errors
    /// [`Error`]
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

    /// Whether a connection that waits for its stream has reason to go on: AWS has answered, by granting the session that it
    /// waits for, or by throttling.
    pub fn gives_hope(&self) -> bool {
        self.0.hope.load(Ordering::Relaxed)
    }

    /// Opens the sessions that are to be warm, and waits for them.
    ///
    /// # Errors
    /// [`Error`]: the first connection would meet the same.
    pub async fn warm(&self) -> Result<(), Error> {
        let openings: Vec<Opening> = {
            let mut state = self.state();
            let wanted = self.0.pooling.warm_sessions.min(self.0.pooling.max_sessions);
            for _ in state.sessions.len() + state.openings.len()..wanted {
                self.open(&mut state);
            }
            state.openings.clone()
        };
        // No receivers: these are nobody's own.
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

    /// A connection met what a failover would explain. The agent looks the database's name up once a session, so new
    /// connections go to a new session.
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

    /// What it is doing.
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

    /// Ends all sessions and waits until AWS knows, bounded.
    pub async fn close(&self) {
        let sessions = {
            let mut state = self.state();
            state.closed = true;
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

    /// Tries to get a stream; `None` when it is to be tried again after a change.
    fn step(&self, ticket: &mut Ticket) -> Option<Result<SessionStream, Error>> {
        let mut state = self.state();
        if state.closed {
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
                    // `None` when its condition has just changed: look again.
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

    /// Looks at the session that was opened for this connection, if it is there by now.
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
        // One that ended as soon as it was open would do so again: agents check the destination only then.
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

    /// Begins to open a session.
    fn open(&self, state: &mut State) -> Opening {
        let opening = Opening::new(watch::Sender::new(None));
        state.openings.push(Arc::clone(&opening));
        if !state.maintained {
            state.maintained = true;
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
                Ok(session) if state.closed => session.terminate(),
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
            // Before anybody else can look: who waits for this session is to have it first.
            own.send_replace(Some(opened));
            drop(state);
            changed.notify_waiters();
        });
        opening
    }

    /// Does what is due, and says when to ask again at the latest.
    fn upkeep(&self) -> Option<Instant> {
        let now = clock::now();
        let mut state = self.state();
        state.remove(|session| session.condition(now).availability == Availability::Over);
        let mut plan = plan::upkeep(&state.views(), state.openings.len(), &self.0.pooling, state.retry_at, now);
        for index in plan.drain.drain(..) {
            if let Some(member) = state.sessions.get_mut(index) {
                debug!(session = %member.session.id(), "SSM session takes no new connections");
                member.draining = true;
                // It may have a successor, or nothing may be left to wait for.
                plan.next = Some(now);
            }
        }
        plan.end.sort_unstable();
        for index in plan.end.into_iter().rev() {
            let Member { session, .. } = state.sessions.remove(index);
            state.past += session.status().tally;
            session.terminate();
        }
        if plan.open && !state.closed {
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
            // Connections that are about to begin there.
            let awaited = member.opening.receiver_count();
            load.active += awaited;
            load.dialling |= awaited > 0;
            View { load, opened: member.opened, draining: member.draining }
        };
        self.sessions.iter().map(view).collect()
    }

    /// Ends the sessions whose agent does not answer: Systems Manager has lost it as well.
    fn end_unresponsive(&mut self, now: Instant) {
        let unresponsive = |session: &Session| session.condition(now).availability == Availability::Unresponsive;
        for member in self.sessions.iter().filter(|member| unresponsive(&member.session)) {
            member.session.end(EndReason::AgentGone);
        }
    }

    /// Takes out what is `gone`; what happened to it stays counted.
    fn remove(&mut self, gone: impl Fn(&Session) -> bool) -> Vec<Member> {
        let removed: Vec<Member> = self.sessions.extract_if(.., |member| gone(&member.session)).collect();
        for member in &removed {
            self.past += member.session.status().tally;
        }
        removed
    }
}

/// Looks after the sessions until the pool is closed.
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
