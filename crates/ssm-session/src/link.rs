//! The data channel of a session: opened with the first token, and again with each new one.

use std::{sync::Arc, time::Duration};

use futures_util::SinkExt;
use http::{HeaderName, HeaderValue};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tracing::{debug, warn};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    connect::{Connect, Path},
    control::{ControlError, ControlPlane, Failure, Grant, RawPlus},
    error::{Error, WEBSOCKET_TIMEOUT},
    features::CLIENT_VERSION,
    machine::Machine,
    payload::{MESSAGE_SCHEMA_VERSION, OpenDataChannelInput},
    spec::Spec,
    websocket::{self, Address, MessageService, WebSocket},
};

/// Limit for TerminateSession at the end of a session.
const TERMINATE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a session was not resumed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResumeError {
    /// The session is over, or the caller may not resume it.
    #[error(transparent)]
    Gone(ControlError),
    /// ResumeSession failed; the cause may pass.
    #[error(transparent)]
    Refused(ControlError),
    /// The data channel did not open.
    #[error(transparent)]
    Failed(Error),
}

/// The parts that open the data channel of one session: its id and its present URL and token.
pub(crate) struct Link {
    control: Arc<dyn ControlPlane>,
    connect: Arc<dyn Connect>,
    service: MessageService,
    session_id: Arc<str>,
    stream_url: Zeroizing<String>,
    token: Zeroizing<String>,
    /// The same for all opens of the session.
    client_id: Uuid,
    resume_for: Duration,
}

/// Whether the service refused the request, as it does with a signature that it does not accept.
fn is_forbidden<T>(opened: &Result<T, Error>) -> bool {
    matches!(opened, Err(Error::WebSocket(cause)) if cause.is_forbidden())
}

impl Link {
    /// The link of a session that was started as `spec` says.
    pub(crate) fn new(spec: &Spec, grant: Grant) -> Self {
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

    /// The session's id at AWS.
    pub(crate) fn session_id(&self) -> &Arc<str> {
        &self.session_id
    }

    /// How long to try to resume the session.
    pub(crate) fn resume_for(&self) -> Duration {
        self.resume_for
    }

    /// Asks for a new token and opens the data channel with it. Not cancel safe, but it can be called again.
    pub(crate) async fn resume(&mut self) -> Result<(WebSocket, Machine), ResumeError> {
        let grant = self.control.resume(&self.session_id).await.map_err(|cause| match cause.failure() {
            Failure::Gone => ResumeError::Gone(cause),
            Failure::NotConnected | Failure::Other => ResumeError::Refused(cause),
        })?;
        // The URL carries a routing parameter that expires, so the new URL replaces it.
        if !grant.stream_url.is_empty() {
            self.stream_url = grant.stream_url;
        }
        self.token = grant.token;
        self.connect().await.map_err(ResumeError::Failed)
    }

    /// Opens the data channel of a new session, with a second attempt: the token is still valid when the first connection
    /// fails, and a new session would cost more.
    pub(crate) async fn connect_with_retry(&self) -> Result<(WebSocket, Machine), Error> {
        let first = match self.connect().await {
            Ok(connection) => return Ok(connection),
            Err(first) => first,
        };
        debug!(cause = %first, "the data channel did not open, trying again");
        self.connect().await.map_err(|_| first)
    }

    /// Signs the request, opens the websocket and sends the first frame.
    ///
    /// Source of the first frame: plugin [`streaming.go`], FinalizeDataChannelHandshake.
    ///
    /// [`streaming.go`]: https://github.com/aws/session-manager-plugin/blob/61cf1288c7c66b4cbff922b7ed8a6604b3a3c2ea/src/datachannel/streaming.go#L201
    async fn connect(&self) -> Result<(WebSocket, Machine), Error> {
        let refused = |error| Error::WebSocket(Arc::new(websocket::Error::Url(error)));
        let address = websocket::check_url(&self.stream_url, &self.session_id, &self.service).map_err(refused)?;
        let plus = self.control.raw_plus();
        let mut opened = self.open(&address, self.sign(&address, plus).await?).await;
        if is_forbidden(&opened) && address.uri().query().is_some_and(|query| query.contains('+')) {
            debug!("the data channel was refused; signing the plus sign of the URL in the other form");
            let other = self.open(&address, self.sign(&address, plus.other()).await?).await;
            if other.is_ok() {
                self.control.remember_raw_plus(plus.other());
                opened = other;
            }
        }
        if is_forbidden(&opened) && self.service.allow_unsigned {
            debug!("the data channel was refused; trying without a signature, as `allow_unsigned` permits");
            opened = self.open(&address, Vec::new()).await.or(opened);
        }
        let (mut websocket, path) = opened?;
        let request_id = Uuid::new_v4().to_string();
        let client_id = self.client_id.to_string();
        let first = serde_json::to_string(&OpenDataChannelInput {
            message_schema_version: MESSAGE_SCHEMA_VERSION.into(),
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

    async fn sign(&self, address: &Address, plus: RawPlus) -> Result<Vec<(HeaderName, HeaderValue)>, Error> {
        self.control.sign(address.uri(), plus).await.map_err(|cause| Error::Sign(cause.into()))
    }

    /// One attempt to open the websocket.
    async fn open(
        &self,
        address: &Address,
        headers: Vec<(HeaderName, HeaderValue)>,
    ) -> Result<(WebSocket, Path), Error> {
        let opening = timeout(WEBSOCKET_TIMEOUT, websocket::open(&*self.connect, address, headers)).await;
        opening.map_err(|_| Error::WebSocketTimeout)?.map_err(|cause| Error::WebSocket(cause.into()))
    }

    /// Calls TerminateSession, for at most 5 s. The flag in the channel may have ended the session already; then the call has
    /// no effect.
    pub(crate) async fn terminate(&self) {
        let cause = match timeout(TERMINATE_TIMEOUT, self.control.terminate(&self.session_id)).await {
            Ok(Ok(())) => return,
            Ok(Err(cause)) => cause.to_string(),
            Err(_) => "no reply".into(),
        };
        warn!(session = %self.session_id, cause, "TerminateSession failed; the session ends by its idle timeout");
    }
}
