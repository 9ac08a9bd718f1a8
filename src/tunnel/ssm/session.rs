//! The life of one SSM session: StartSession, websocket, handshake, streams, TerminateSession.
//!
//! The only file of the tunnel that asks AWS for anything. The protocol is [`super::conversation`]'s, the socket the
//! driver's.

use std::{
    path::Path,
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

use super::{
    conversation::{Conversation, EndReason, Options},
    driver::{self, Machine, WebSocket},
    features::CLIENT_VERSION,
    handshake::{Agent, HandshakeError},
    load::{Condition, Load},
    payload::OpenDataChannelInput,
    stream::{Phase, SessionStream, Shared},
    tally::Tally,
    websocket,
};
use crate::{
    aws::{self, Account, SessionGrant, Start, StartSession, sign},
    secret::Secret,
    target::{Endpoint, InstanceId, SessionSettings},
};

/// One try of opening the websocket, TCP, TLS and upgrade together. The token is short-lived.
const WEBSOCKET_TIMEOUT: Duration = Duration::from_secs(15);
/// For TerminateSession at the end.
const TERMINATE_TIMEOUT: Duration = Duration::from_secs(5);

/// Which session to open.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Who asks.
    pub account: Account,
    /// Who dials.
    pub bastion: InstanceId,
    /// What is dialled.
    pub endpoint: Endpoint,
    /// Document, parameters, reason and endpoint.
    pub settings: SessionSettings,
    /// Limits and delays.
    pub options: Options,
    /// How long to go on asking for a session while AWS throttles. Default 22 s.
    pub start_for: Duration,
    /// How long to try to resume a session whose connection was lost. Default 2 minutes.
    pub resume_for: Duration,
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// AWS did not start it.
    #[error("cannot start an SSM session on {bastion}")]
    Start {
        /// On which node.
        bastion: InstanceId,
        /// Why.
        #[source]
        cause: Arc<aws::Error>,
    },
    /// The data channel did not open.
    #[error("cannot open the data channel of the SSM session")]
    WebSocket(#[source] Arc<websocket::Error>),
    /// It did not open in time.
    #[error("the data channel of the SSM session did not open within {} s", WEBSOCKET_TIMEOUT.as_secs())]
    WebSocketTimeout,
    /// The request could not be signed.
    #[error("cannot sign the request for the data channel")]
    Sign(#[source] Arc<aws::Error>),
    /// The first frame could not be sent.
    #[error("the data channel broke at its first frame")]
    FirstFrame(#[source] Arc<tungstenite::Error>),
    /// It ended before it was usable.
    #[error("the SSM session on {bastion} ended before it could be used")]
    Ended {
        /// On which node.
        bastion: InstanceId,
        /// Why.
        #[source]
        reason: EndReason,
    },
}

impl Error {
    /// Whether Systems Manager says that it has no connection to the agent.
    pub fn says_agent_is_gone(&self) -> bool {
        matches!(self, Self::Start { cause, .. } if matches!(**cause, aws::Error::TargetNotConnected { .. }))
    }
}

/// Why a session was not resumed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResumeError {
    /// There is nothing to resume, or it is not ours to resume.
    #[error(transparent)]
    Gone(aws::Error),
    /// AWS does not grant it now.
    #[error(transparent)]
    Refused(aws::Error),
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
        hope: impl Fn(),
    ) -> Result<Self, Error> {
        // So short that it is no eyesore in the session history, and unlike all others of this caller.
        let mark = format!("#{:08x}", fastrand::u32(..));
        let asked = spec.settings.request();
        let request = StartSession {
            target: spec.bastion.clone(),
            document: spec.settings.document.to_string(),
            parameters: asked.parameters_for(&spec.endpoint.destination()),
            reason: asked.marked_reason(&mark),
        };
        debug!(bastion = %spec.bastion, endpoint = %spec.endpoint, "starting an SSM session");
        let Start { outcome, may_have_orphans } = spec.account.start_session(&request, spec.start_for, &hope).await;
        if may_have_orphans {
            let keep = outcome.as_ref().ok().map(|grant| grant.session_id.clone());
            let account = spec.account.clone();
            tasks.spawn(async move { account.end_orphans(&mark, keep.as_deref()).await });
        }
        let grant = outcome.map_err(|cause| Error::Start { bastion: spec.bastion.clone(), cause: cause.into() })?;
        hope();
        let given_up = || Error::Ended { bastion: spec.bastion.clone(), reason: EndReason::Terminated };
        let link = Link::new(spec, grant);
        let connected = tokio::select! {
            connected = link.connect_patiently() => connected,
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
            Phase::Ended(reason) => Err(Error::Ended { bastion: spec.bastion.clone(), reason }),
            Phase::Open | Phase::Waiting => {
                if let Err(error) = session.check_destination(spec) {
                    session.terminate();
                    let reason = EndReason::Handshake(error);
                    return Err(Error::Ended { bastion: spec.bastion.clone(), reason });
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
        let (account, shared, closing) = (spec.account.clone(), Arc::downgrade(&self.shared), closing.clone());
        tasks.spawn(async move {
            let answer = tokio::select! {
                answer = account.session_idle_timeout() => answer,
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
        agent.check_destination(&spec.endpoint.destination(), &spec.settings.request())?;
        debug!(session = %self.id(), agent = %agent.version, "SSM session open");
        Ok(())
    }
}

/// What it takes to open the data channel, the first time and again.
pub(super) struct Link {
    account: Account,
    session_id: Arc<str>,
    stream_url: Secret<String>,
    token: Secret<String>,
    client_id: Uuid,
    endpoint: Option<Endpoint>,
    may_go_unsigned: bool,
    resume_for: Duration,
}

/// One try of opening the websocket.
async fn open(
    address: &websocket::Address,
    headers: Vec<(HeaderName, HeaderValue)>,
    ca_bundle: Option<&Path>,
) -> Result<(WebSocket, websocket::Path), Error> {
    let opening = timeout(WEBSOCKET_TIMEOUT, websocket::open(address, headers, ca_bundle)).await;
    opening.map_err(|_| Error::WebSocketTimeout)?.map_err(|cause| Error::WebSocket(cause.into()))
}

/// What the service says to a signature that it does not take.
fn is_forbidden<T>(opened: &Result<T, Error>) -> bool {
    matches!(opened, Err(Error::WebSocket(cause)) if cause.is_forbidden())
}

impl Link {
    fn new(spec: &Spec, grant: SessionGrant) -> Self {
        Self {
            account: spec.account.clone(),
            session_id: grant.session_id.into(),
            stream_url: grant.stream_url,
            token: grant.token,
            client_id: Uuid::new_v4(),
            endpoint: spec.settings.ssmmessages_endpoint.clone(),
            may_go_unsigned: spec.settings.unsigned_stream,
            resume_for: spec.resume_for,
        }
    }

    pub(super) fn session_id(&self) -> &Arc<str> {
        &self.session_id
    }

    pub(super) fn resume_for(&self) -> Duration {
        self.resume_for
    }

    /// Asks for a new token and opens the data channel with it. Not cancel safe, but it can be tried again.
    pub(super) async fn resume(&mut self) -> Result<(WebSocket, Machine), ResumeError> {
        let grant = self.account.resume_session(&self.session_id).await.map_err(|cause| match cause {
            aws::Error::SessionGone { .. } | aws::Error::AccessDenied { .. } => ResumeError::Gone(cause),
            cause => ResumeError::Refused(cause),
        })?;
        // The URL carries a routing parameter that expires, so the new one counts.
        if !grant.stream_url.expose().is_empty() {
            self.stream_url = grant.stream_url;
        }
        self.token = grant.token;
        self.connect().await.map_err(ResumeError::Failed)
    }

    /// Opens the data channel of a new session. The token is still good when the connection was not: a second try costs
    /// little, a new session more.
    async fn connect_patiently(&self) -> Result<(WebSocket, Machine), Error> {
        let first = match self.connect().await {
            Ok(connection) => return Ok(connection),
            Err(first) => first,
        };
        debug!(cause = %first, "the data channel did not open, trying again");
        self.connect().await.map_err(|_| first)
    }

    /// Opens the websocket, signed afresh, and sends the first frame.
    async fn connect(&self) -> Result<(WebSocket, Machine), Error> {
        let sign = |cause: aws::Error| Error::Sign(Arc::new(cause));
        let credentials = self.account.credentials().await.map_err(sign)?;
        let rules = websocket::Rules {
            session_id: &self.session_id,
            region: self.account.region(),
            allow_plain_loopback: self.account.ssm_endpoint_is_loopback(),
            endpoint: self.endpoint.as_ref(),
        };
        let refused = |error| Error::WebSocket(Arc::new(websocket::Error::Url(error)));
        let address = websocket::check_url(self.stream_url.expose(), &rules).map_err(refused)?;
        let signed =
            |plus| sign::websocket_headers(address.uri(), self.account.region(), &credentials, SystemTime::now(), plus);
        let (plus, bundle) = (self.account.raw_plus(), self.account.ca_bundle());
        let mut opened = open(&address, signed(plus).map_err(sign)?, bundle).await;
        if is_forbidden(&opened) && address.uri().query().is_some_and(|query| query.contains('+')) {
            debug!("the data channel was refused; trying the other way to sign a plus sign");
            let other = open(&address, signed(plus.other()).map_err(sign)?, bundle).await;
            if other.is_ok() {
                self.account.remember_raw_plus(plus.other());
                opened = other;
            }
        }
        if is_forbidden(&opened) && self.may_go_unsigned {
            debug!("the data channel was refused; trying without a signature, as the configuration allows");
            opened = open(&address, Vec::new(), bundle).await.or(opened);
        }
        let (mut websocket, path) = opened?;
        let request_id = Uuid::new_v4().to_string();
        let client_id = self.client_id.to_string();
        let first = serde_json::to_string(&OpenDataChannelInput {
            message_schema_version: "1.0".into(),
            request_id: request_id.into(),
            token_value: self.token.expose().into(),
            client_id: client_id.into(),
            client_version: CLIENT_VERSION.into(),
        })
        .expect("strings always serialize");
        let sent = timeout(WEBSOCKET_TIMEOUT, websocket.send(Message::text(first))).await;
        sent.map_err(|_| Error::WebSocketTimeout)?.map_err(|cause| Error::FirstFrame(cause.into()))?;
        Ok((websocket, Machine::with(path)))
    }

    /// TerminateSession, within its own deadline. The flag in the channel may have done it already; it does no harm.
    pub(super) async fn terminate(&self) {
        let cause = match timeout(TERMINATE_TIMEOUT, self.account.terminate_session(&self.session_id)).await {
            Ok(Ok(())) => return,
            Ok(Err(cause)) => cause.to_string(),
            Err(_) => "no answer".into(),
        };
        warn!(session = %self.session_id, cause, "TerminateSession failed; the session ends by its idle timeout");
    }
}
