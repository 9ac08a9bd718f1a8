//! The sessions to one endpoint through one bastion: opened when needed, shared, replaced when stuck or gone.
//!
//! Concurrent first connections share one StartSession. A session whose connection is being restored makes new
//! connections wait; one in which a dial hangs gets no new streams and is terminated when its last connection ends.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::ssm::{
    session::{self, Session, Spec},
    stream::{Phase, SessionStream},
};

/// How long [`Pool::close`] waits for sessions to end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(8);

type Opening = watch::Receiver<Option<Result<Session, Arc<session::Error>>>>;

/// Sessions to one endpoint. Cheap to clone.
#[derive(Clone)]
pub struct Pool(Arc<Inner>);

struct Inner {
    spec: Spec,
    tasks: TaskTracker,
    /// Whoever opens a session gives it up.
    closing: CancellationToken,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    current: Option<Opening>,
    /// Replaced but still carrying connections.
    retired: Vec<Session>,
    closed: bool,
}

/// Why the pool gave no stream.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No session could be opened.
    #[error(transparent)]
    Session(#[from] Arc<session::Error>),
    /// We are shutting down.
    #[error("rdsgate is shutting down")]
    Closed,
}

impl Pool {
    /// A pool without sessions; the first connection opens one.
    pub fn new(spec: Spec) -> Self {
        Self(Arc::new(Inner {
            spec,
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            state: Mutex::default(),
        }))
    }

    /// A stream to the endpoint. The agent dials it when it carries its first bytes. Cancel safe: an opening session goes
    /// on for the others. The deadline is the caller's.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn dial(&self) -> Result<SessionStream, Error> {
        loop {
            let mut opening = self.current()?;
            let is_new = opening.borrow().is_none();
            let opened = opening.wait_for(Option::is_some).await.ok().and_then(|opened| opened.clone());
            let session = match opened {
                Some(Ok(session)) => session,
                Some(Err(cause)) => {
                    self.replace(&opening);
                    return Err(cause.into());
                }
                None => {
                    self.replace(&opening);
                    continue;
                }
            };
            // A session whose connection is being restored is worth waiting for: that is mostly faster than a new one.
            if session.settled().await == Phase::Open
                && let Some(stream) = session.open_stream()
            {
                return Ok(stream);
            }
            self.replace(&opening);
            // One that ended as soon as it was open would do so again: agents check the destination only then.
            if is_new && let Some(reason) = session.ended() {
                return Err(Arc::new(session::Error::Ended { bastion: self.0.spec.bastion.clone(), reason }).into());
            }
        }
    }

    /// Ends all sessions and waits until AWS knows, bounded.
    pub async fn close(&self) {
        let sessions: Vec<Session> = {
            let mut state = self.state();
            state.closed = true;
            let current = state.current.take();
            let retired = std::mem::take(&mut state.retired);
            let opened = current.and_then(|opening| opening.borrow().clone()).and_then(Result::ok);
            retired.into_iter().chain(opened).collect()
        };
        self.0.closing.cancel();
        for session in sessions {
            session.terminate();
        }
        self.0.tasks.close();
        if tokio::time::timeout(CLOSE_TIMEOUT, self.0.tasks.wait()).await.is_err() {
            tracing::warn!(open = self.0.tasks.len(), "SSM sessions did not end in time");
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> Result<Opening, Error> {
        let mut state = self.state();
        if state.closed {
            return Err(Error::Closed);
        }
        if let Some(current) = &state.current {
            return Ok(current.clone());
        }
        let (done, opening) = watch::channel(None);
        state.current = Some(opening.clone());
        let pool = self.clone();
        self.0.tasks.spawn(async move {
            let opened = Session::open(&pool.0.spec, &pool.0.tasks, &pool.0.closing).await.map_err(Arc::new);
            done.send_replace(Some(opened.clone()));
            // After it can be seen: either we see that the pool is closed, or who closes it sees the session.
            if let Ok(session) = &opened
                && pool.state().closed
            {
                session.terminate();
            }
        });
        Ok(opening)
    }

    /// `opening` gives no streams: the next one opens another. What it still carries lives on.
    fn replace(&self, opening: &Opening) {
        let mut state = self.state();
        state.retired.retain(|session| !matches!(session.phase(), Phase::Ended(_)));
        if state.current.as_ref().is_some_and(|current| current.same_channel(opening)) {
            state.current = None;
            if let Some(Ok(session)) = &*opening.borrow()
                && !matches!(session.phase(), Phase::Ended(_))
            {
                state.retired.push(session.clone());
            }
        }
    }
}
