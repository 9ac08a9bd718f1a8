//! The life of one SSM session: StartSession, websocket, handshake, streams, TerminateSession.
//!
//! The calls are the caller's [`ControlPlane`], the protocol is [`crate::conversation`]'s, the socket the driver's.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use futures_util::SinkExt;
use http::{HeaderName, HeaderValue};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    connect::Connect,
    control::{ControlError, ControlPlane, Failure, Grant, RawPlus, Start, StartSession},
    conversation::{Conversation, EndReason, Options},
    driver::{self, Machine, WebSocket},
    features::CLIENT_VERSION,
    handshake::{Agent, HandshakeError},
    load::{Condition, Load},
    payload::OpenDataChannelInput,
    request::{Destination, Request},
    stream::{Phase, SessionStream, Shared},
    tally::Tally,
    websocket::{self, MessageService},
};

/// One try of opening the websocket, TCP, TLS and upgrade together. The token is short-lived.
const WEBSOCKET_TIMEOUT: Duration = Duration::from_secs(15);
/// For TerminateSession at the end.
const TERMINATE_TIMEOUT: Duration = Duration::from_secs(5);

/// Which session to open, and by what means.
#[derive(Clone)]
pub struct Spec {
    /// The calls to Systems Manager.
    pub control: Arc<dyn ControlPlane>,
    /// The way to the message service.
    pub connect: Arc<dyn Connect>,
    /// The message service itself.
    pub service: MessageService,
    /// The managed node whose agent dials: `i-…`, `mi-…` or `ecs:CLUSTER_TASK_RUNTIME`.
    pub node: Arc<str>,
    /// What the agent dials.
    pub destination: Destination,
    /// Document, parameters and reason.
    pub request: Request,
    /// Limits and delays.
    pub options: Options,
    /// How long to try to resume a session whose connection was lost.
    pub resume_for: Duration,
}

impl Spec {
    /// A session in `region` to `destination` through `node`, with AWS's own document and endpoints, resumed for 2 minutes.
    pub fn new(
        control: Arc<dyn ControlPlane>,
        connect: Arc<dyn Connect>,
        region: &str,
        node: &str,
        destination: Destination,
    ) -> Self {
        Self {
            control,
            connect,
            service: MessageService::of_region(region),
            node: node.into(),
            destination,
            request: Request::default(),
            options: Options::default(),
            resume_for: Duration::from_mins(2),
        }
    }
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// AWS did not start it.
    #[error("cannot start an SSM session on {node}")]
    Start {
        /// On which node.
        node: Arc<str>,
        /// Why.
        #[source]
        cause: Arc<ControlError>,
    },
    /// The data channel did not open.
    #[error("cannot open the data channel of the SSM session")]
    WebSocket(#[source] Arc<websocket::Error>),
    /// It did not open in time.
    #[error("the data channel of the SSM session did not open within {} s", WEBSOCKET_TIMEOUT.as_secs())]
    WebSocketTimeout,
    /// The request could not be signed.
    #[error("cannot sign the request for the data channel")]
    Sign(#[source] Arc<ControlError>),
    /// The first frame could not be sent.
    #[error("the data channel broke at its first frame")]
    FirstFrame(#[source] Arc<tungstenite::Error>),
    /// It ended before it was usable.
    #[error("the SSM session on {node} ended before it could be used")]
    Ended {
        /// On which node.
        node: Arc<str>,
        /// Why.
        #[source]
        reason: EndReason,
    },
}

impl Error {
    /// Whether Systems Manager says that it has no connection to the agent.
    pub fn says_agent_is_gone(&self) -> bool {
        matches!(self, Self::Start { cause, .. } if cause.failure() == Failure::NotConnected)
    }
}

/// Why a session was not resumed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResumeError {
    /// There is nothing to resume, or it is not ours to resume.
    #[error(transparent)]
    Gone(ControlError),
    /// AWS does not grant it now.
    #[error(transparent)]
    Refused(ControlError),
    /// The data channel did not open.
    #[error(transparent)]
    Failed(Error),
}

/// What a session is doing, for people and metrics.
#[derive(Debug, Clone, Copy)]
pub struct Status {
    /// Its condition.
    pub condition: Condition,
    /// Streams, those included that are still saying goodbye.
    pub streams: usize,
    /// Bytes received that clients have not read.
    pub unread: usize,
    /// What has happened so far.
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
    /// Starts a session and waits until it takes streams. Its driver runs on `tasks` until it is over, and tells `changed` of
    /// each new [`Condition`]. Calls `hope` when AWS has answered, by granting the session or by throttling. Not cancel safe: dropped between StartSession and the end it would leave a session behind, so
    /// run it as a task of its own, and cancel `closing` to have it given up in order.
    ///
    /// # Errors
    /// See [`Error`]; a session that AWS had started is terminated. One whose agent would dial another address than the
    /// target's is such an error: no stream was opened, and so nothing was sent.
    pub async fn open(
        spec: &Spec,
        tasks: &TaskTracker,
        closing: &CancellationToken,
        changed: &Arc<Notify>,
        hope: impl Fn() + Send + Sync,
    ) -> Result<Self, Error> {
        // So short that it is no eyesore in the session history, and unlike all others of this caller.
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
            Conversation::new(spec.options.clone(), fastrand::Rng::new(), driver::now(), SystemTime::now());
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

    /// Its id at AWS.
    pub fn id(&self) -> &Arc<str> {
        &self.shared.session_id
    }

    /// What the pool hears of when it changes.
    pub fn condition(&self, now: Instant) -> Condition {
        self.shared.lock().condition(now)
    }

    /// What it carries.
    pub fn load(&self, now: Instant) -> Load {
        self.shared.lock().load(now)
    }

    /// What it is doing.
    pub fn status(&self) -> Status {
        let mut conversation = self.shared.lock();
        let now = driver::now();
        let (condition, tally) = (conversation.condition(now), conversation.tally(now));
        let mux = conversation.mux();
        Status { condition, streams: mux.stream_count(), unread: mux.unread(), tally }
    }

    /// Why it is over, once it is.
    pub fn ended(&self) -> Option<EndReason> {
        self.shared.lock().ended().cloned()
    }

    /// Waits while its connection is being made or restored. Cancel safe.
    async fn settled(&self) -> Phase {
        let mut phase = self.phase.clone();
        let settled = phase.wait_for(|phase| *phase != Phase::Waiting).await;
        settled.map_or(Phase::Ended(EndReason::Terminated), |phase| phase.clone())
    }

    /// The agent, while the session is open.
    pub fn agent(&self) -> Option<Agent> {
        self.shared.lock().agent().cloned()
    }

    /// Opens a stream; `None` when the session takes none, because it is over, or a dial hangs in it.
    pub fn open_stream(&self) -> Option<SessionStream> {
        SessionStream::open(&self.shared)
    }

    /// Ends it for `reason`; the driver sees to the rest.
    pub fn end(&self, reason: EndReason) {
        self.shared.lock().end(reason);
        self.shared.driver.wake();
    }

    /// Asks for its end; the driver sees to it.
    pub fn terminate(&self) {
        self.cancel.cancel();
        self.shared.lock().terminate(driver::now());
        self.shared.driver.wake();
    }

    /// Asks for the account's idle timeout, where it is of use and nobody has said it. Nothing waits for the answer.
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

    /// Whether the agent dials the target, before any stream is opened: see [`Agent::check_destination`].
    fn check_destination(&self, spec: &Spec) -> Result<(), HandshakeError> {
        // Without an agent the session has ended in the meantime, and takes no streams.
        let Some(agent) = self.agent() else { return Ok(()) };
        agent.check_destination(&spec.destination, &spec.request)?;
        debug!(session = %self.id(), agent = %agent.version, "SSM session open");
        Ok(())
    }
}

/// What it takes to open the data channel, the first time and again.
pub(crate) struct Link {
    control: Arc<dyn ControlPlane>,
    connect: Arc<dyn Connect>,
    service: MessageService,
    session_id: Arc<str>,
    stream_url: Zeroizing<String>,
    token: Zeroizing<String>,
    client_id: Uuid,
    resume_for: Duration,
}

/// What the service says to a signature that it does not take.
fn is_forbidden<T>(opened: &Result<T, Error>) -> bool {
    matches!(opened, Err(Error::WebSocket(cause)) if cause.is_forbidden())
}

impl Link {
    fn new(spec: &Spec, grant: Grant) -> Self {
        Self {
            control: Arc::clone(&spec.control),
            connect: Arc::clone(&spec.connect),
            service: spec.service.clone(),
            session_id: grant.session_id.into(),
            stream_url: grant.stream_url,
            token: grant.token,
            client_id: Uuid::new_v4(),
            resume_for: spec.resume_for,
        }
    }

    pub(crate) fn session_id(&self) -> &Arc<str> {
        &self.session_id
    }

    pub(crate) fn resume_for(&self) -> Duration {
        self.resume_for
    }

    /// Asks for a new token and opens the data channel with it. Not cancel safe, but it can be tried again.
    pub(crate) async fn resume(&mut self) -> Result<(WebSocket, Machine), ResumeError> {
        let grant = self.control.resume(&self.session_id).await.map_err(|cause| match cause.failure() {
            Failure::Gone => ResumeError::Gone(cause),
            Failure::NotConnected | Failure::Other => ResumeError::Refused(cause),
        })?;
        // The URL carries a routing parameter that expires, so the new one counts.
        if !grant.stream_url.is_empty() {
            self.stream_url = grant.stream_url;
        }
        self.token = grant.token;
        self.connect().await.map_err(ResumeError::Failed)
    }

    /// Opens the data channel of a new session. The token is still good when the connection was not: a second try costs
    /// little, a new session more.
    async fn connect_with_retry(&self) -> Result<(WebSocket, Machine), Error> {
        let first = match self.connect().await {
            Ok(connection) => return Ok(connection),
            Err(first) => first,
        };
        debug!(cause = %first, "the data channel did not open, trying again");
        self.connect().await.map_err(|_| first)
    }

    /// Opens the websocket, signed afresh, and sends the first frame.
    async fn connect(&self) -> Result<(WebSocket, Machine), Error> {
        let refused = |error| Error::WebSocket(Arc::new(websocket::Error::Url(error)));
        let address = websocket::check_url(&self.stream_url, &self.session_id, &self.service).map_err(refused)?;
        let plus = self.control.raw_plus();
        let mut opened = self.open(&address, self.sign(&address, plus).await?).await;
        if is_forbidden(&opened) && address.uri().query().is_some_and(|query| query.contains('+')) {
            debug!("the data channel was refused; trying the other way to sign a plus sign");
            let other = self.open(&address, self.sign(&address, plus.other()).await?).await;
            if other.is_ok() {
                self.control.remember_raw_plus(plus.other());
                opened = other;
            }
        }
        if is_forbidden(&opened) && self.service.allow_unsigned {
            debug!("the data channel was refused; trying without a signature, as the configuration allows");
            opened = self.open(&address, Vec::new()).await.or(opened);
        }
        let (mut websocket, path) = opened?;
        let request_id = Uuid::new_v4().to_string();
        let client_id = self.client_id.to_string();
        let first = serde_json::to_string(&OpenDataChannelInput {
            message_schema_version: "1.0".into(),
            request_id: request_id.into(),
            token_value: self.token.as_str().into(),
            client_id: client_id.into(),
            client_version: CLIENT_VERSION.into(),
        })
        .expect("strings always serialize");
        let sent = timeout(WEBSOCKET_TIMEOUT, websocket.send(Message::text(first))).await;
        sent.map_err(|_| Error::WebSocketTimeout)?.map_err(|cause| Error::FirstFrame(cause.into()))?;
        Ok((websocket, Machine::with(path)))
    }

    async fn sign(&self, address: &websocket::Address, plus: RawPlus) -> Result<Vec<(HeaderName, HeaderValue)>, Error> {
        self.control.sign(address.uri(), plus).await.map_err(|cause| Error::Sign(cause.into()))
    }

    /// One try of opening the websocket.
    async fn open(
        &self,
        address: &websocket::Address,
        headers: Vec<(HeaderName, HeaderValue)>,
    ) -> Result<(WebSocket, websocket::Path), Error> {
        let opening = timeout(WEBSOCKET_TIMEOUT, websocket::open(&*self.connect, address, headers)).await;
        opening.map_err(|_| Error::WebSocketTimeout)?.map_err(|cause| Error::WebSocket(cause.into()))
    }

    /// TerminateSession, within its own deadline. The flag in the channel may have done it already; it does no harm.
    pub(crate) async fn terminate(&self) {
        let cause = match timeout(TERMINATE_TIMEOUT, self.control.terminate(&self.session_id)).await {
            Ok(Ok(())) => return,
            Ok(Err(cause)) => cause.to_string(),
            Err(_) => "no answer".into(),
        };
        warn!(session = %self.session_id, cause, "TerminateSession failed; the session ends by its idle timeout");
    }
}
