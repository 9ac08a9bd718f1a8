//! The life of one SSM session: StartSession, websocket, handshake, streams, TerminateSession.
//!
//! The calls are made by the caller's [`ControlPlane`](crate::control::ControlPlane), the protocol is in
//! [`crate::conversation`]; the driver, a task of the session's own, has the socket.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::debug;

use crate::{
    clock,
    control::{Start, StartSession},
    conversation::{Conversation, EndReason},
    driver,
    handshake::{Agent, HandshakeError},
    link::Link,
    load::{Condition, Load},
    stream::{Phase, SessionStream, Shared},
    tally::Tally,
};
pub use crate::{error::Error, spec::Spec};

/// The state of a session at one moment, for people and metrics.
#[derive(Debug, Clone, Copy)]
pub struct Status {
    /// Availability and use.
    pub condition: Condition,
    /// Open streams, including those whose last frames are under way.
    pub streams: usize,
    /// Bytes received that clients have not read.
    pub unread: usize,
    /// Counts since the session was opened.
    pub tally: Tally,
}

/// A running session. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Session {
    shared: Arc<Shared>,
    phase: watch::Receiver<Phase>,
    cancel: CancellationToken,
}

impl Session {
    /// Starts a session and waits until it takes streams. Its driver runs on `tasks` until the session is over, and notifies
    /// `changed` of each new [`Condition`]. `hope` is called when AWS has replied, by granting the session or by throttling.
    ///
    /// Not cancel safe: a future dropped between StartSession and the end would leave a session behind. Run it as a task of its
    /// own, and cancel `closing` to have the session given up in order.
    ///
    /// # Errors
    /// [`Error`]; a session that AWS had started is terminated. A session whose agent would dial another address than
    /// `spec.destination` is an error: no stream was opened, so nothing was sent.
    pub async fn open(
        spec: &Spec,
        tasks: &TaskTracker,
        closing: &CancellationToken,
        changed: &Arc<Notify>,
        hope: impl Fn() + Send + Sync,
    ) -> Result<Self, Error> {
        // A short random tag in the session's reason, so that an orphan can be found.
        let mark = format!("#{:08x}", fastrand::u32(..));
        let request = StartSession {
            node: spec.node.to_string(),
            document: spec.request.document.to_string(),
            parameters: spec.request.parameters_for(&spec.destination),
            reason: spec.request.marked_reason(&mark),
        };
        debug!(node = %spec.node, destination = %spec.destination, "starting an SSM session");
        let Start { outcome, may_have_orphans } = spec.control.start(&request, &hope).await;
        if may_have_orphans {
            let keep = outcome.as_ref().ok().map(|grant| grant.session_id.clone());
            let control = Arc::clone(&spec.control);
            tasks.spawn(async move { control.end_orphans(&mark, keep.as_deref()).await });
        }
        let grant = outcome.map_err(|cause| Error::Start { node: Arc::clone(&spec.node), cause: cause.into() })?;
        hope();
        let given_up = || Error::Ended { node: Arc::clone(&spec.node), reason: EndReason::Terminated };
        let link = Link::new(spec, grant);
        let connected = tokio::select! {
            connected = link.connect_with_retry() => connected,
            () = closing.cancelled() => Err(given_up()),
        };
        let connection = match connected {
            Ok(connection) => connection,
            Err(error) => {
                link.terminate().await;
                return Err(error);
            }
        };

        let conversation =
            Conversation::new(spec.options.clone(), fastrand::Rng::new(), clock::now(), SystemTime::now());
        let shared = Arc::new(Shared::new(Arc::clone(link.session_id()), conversation, Arc::clone(changed)));
        let session =
            Self { phase: shared.phase.subscribe(), cancel: CancellationToken::new(), shared: Arc::clone(&shared) };
        let driver = driver::run(Arc::clone(&shared), connection, link, session.cancel.clone());
        tasks.spawn(driver::supervise(shared, driver));
        // Bounded by the conversation's own handshake timeout.
        let settled = tokio::select! {
            phase = session.settled() => phase,
            () = closing.cancelled() => {
                session.terminate();
                return Err(given_up());
            }
        };
        match settled {
            Phase::Ended(reason) => Err(Error::Ended { node: Arc::clone(&spec.node), reason }),
            Phase::Open | Phase::Waiting => {
                if let Err(error) = session.check_destination(spec) {
                    session.terminate();
                    let reason = EndReason::Handshake(error);
                    return Err(Error::Ended { node: Arc::clone(&spec.node), reason });
                }
                session.learn_idle_timeout(spec, tasks, closing);
                Ok(session)
            }
        }
    }

    /// The session's id at AWS.
    pub fn id(&self) -> &Arc<str> {
        &self.shared.session_id
    }

    /// The facts whose change the pool is notified of.
    pub fn condition(&self, now: Instant) -> Condition {
        self.shared.lock().condition(now)
    }

    /// The facts by which the pool chooses among sessions.
    pub fn load(&self, now: Instant) -> Load {
        self.shared.lock().load(now)
    }

    /// The state of the session, for people and metrics.
    pub fn status(&self) -> Status {
        let mut conversation = self.shared.lock();
        let now = clock::now();
        let (condition, tally) = (conversation.condition(now), conversation.tally(now));
        let mux = conversation.mux();
        Status { condition, streams: mux.stream_count(), unread: mux.unread(), tally }
    }

    /// Why the session is over; `None` while it is not.
    pub fn ended(&self) -> Option<EndReason> {
        self.shared.lock().ended().cloned()
    }

    /// Waits while the connection is being made or restored. Cancel safe.
    async fn settled(&self) -> Phase {
        let mut phase = self.phase.clone();
        let settled = phase.wait_for(|phase| *phase != Phase::Waiting).await;
        settled.map_or(Phase::Ended(EndReason::Terminated), |phase| phase.clone())
    }

    /// The agent, while the session is open.
    pub fn agent(&self) -> Option<Agent> {
        self.shared.lock().agent().cloned()
    }

    /// Opens a stream; `None` when the session takes none: it is over, being resumed or full, or a dial hangs in it.
    pub fn open_stream(&self) -> Option<SessionStream> {
        SessionStream::open(&self.shared)
    }

    /// Ends the session at once for `reason`. The driver then closes the websocket and calls TerminateSession.
    pub fn end(&self, reason: EndReason) {
        self.shared.lock().end(reason);
        self.shared.driver.wake();
    }

    /// Asks for the end of the session: the driver tells the agent, waits up to 2 s, and calls TerminateSession.
    pub fn terminate(&self) {
        self.cancel.cancel();
        self.shared.lock().terminate(clock::now());
        self.shared.driver.wake();
    }

    /// Looks up the account's idle timeout for the warning, unless it is configured or cannot end the session. Nothing waits for
    /// the reply.
    fn learn_idle_timeout(&self, spec: &Spec, tasks: &TaskTracker, closing: &CancellationToken) {
        if spec.options.keep_alive || spec.options.idle_timeout.is_some() {
            return;
        }
        let (control, shared, closing) = (Arc::clone(&spec.control), Arc::downgrade(&self.shared), closing.clone());
        tasks.spawn(async move {
            let answer = tokio::select! {
                answer = control.idle_timeout() => answer,
                () = closing.cancelled() => None,
            };
            if let (Some(idle_timeout), Some(shared)) = (answer, shared.upgrade()) {
                debug!(idle_timeout_s = idle_timeout.as_secs(), "the account's idle timeout for sessions");
                shared.lock().set_idle_timeout(idle_timeout);
                shared.driver.wake();
            }
        });
    }

    /// Checks the address that the agent dials, before any stream is opened: see [`Agent::check_destination`].
    fn check_destination(&self, spec: &Spec) -> Result<(), HandshakeError> {
        // Without an agent the session has ended in the meantime and takes no streams.
        let Some(agent) = self.agent() else { return Ok(()) };
        agent.check_destination(&spec.destination, &spec.request)?;
        debug!(session = %self.id(), agent = %agent.version, "SSM session open");
        Ok(())
    }
}
