//! What a session asks of Systems Manager's API, and what the caller gives for it: [`ControlPlane`].
//!
//! Source: Systems Manager API reference: StartSession, ResumeSession, TerminateSession.

use std::{error, fmt, future, pin::Pin, time::Duration};

use http::{HeaderName, HeaderValue, Uri};
use zeroize::Zeroizing;

/// A future that a trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What to ask of StartSession.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartSession {
    /// The managed node, `Target`: `i-…`, `mi-…` or `ecs:CLUSTER_TASK_RUNTIME`.
    pub node: String,
    /// The session document, `DocumentName`.
    pub document: String,
    /// The document's parameters by name. The API takes each as a list of one.
    pub parameters: Vec<(String, String)>,
    /// Shown in the session history, 1 to 256 characters. It ends with a tag of its own for each session.
    pub reason: String,
}

/// Leave to open a data channel, once and soon.
pub struct Grant {
    /// The session, `SessionId`.
    pub session_id: String,
    /// Where the data channel is, `StreamUrl`. After ResumeSession it may be empty: then the old one still holds.
    pub stream_url: Zeroizing<String>,
    /// What opens the data channel, `TokenValue`.
    pub token: Zeroizing<String>,
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant").field("session_id", &self.session_id).finish_non_exhaustive()
    }
}

/// The outcome of [`ControlPlane::start`].
#[derive(Debug)]
pub struct Start {
    /// The session.
    pub outcome: Result<Grant, ControlError>,
    /// An answer was lost on the way: sessions may have been started whose ids are unknown. Then
    /// [`ControlPlane::end_orphans`] is called.
    pub may_have_orphans: bool,
}

impl From<Result<Grant, ControlError>> for Start {
    fn from(outcome: Result<Grant, ControlError>) -> Self {
        Self { outcome, may_have_orphans: false }
    }
}

/// How a raw `+` in a query counts in its signature. The bytes that are sent stay the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RawPlus {
    /// As a space, `%20`. The reference client signs `url.Query()` encoded again, which reads `+` as a space
    /// (session-manager-plugin from 1.2.764.0: aws-sdk-go-v2 `aws/signer/v4`, buildCanonicalRequest over `req.URL.Query()`).
    Space,
    /// As itself, `%2B`.
    Plus,
}

impl RawPlus {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Space => Self::Plus,
            Self::Plus => Self::Space,
        }
    }
}

/// What a failed call means to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Systems Manager has no connection to the node's agent (`TargetNotConnected`).
    NotConnected,
    /// The session is over (`DoesNotExistException`, or an answer without a token), or the caller may not resume it: trying again
    /// is of no use.
    Gone,
    /// Anything else, which may pass.
    Other,
}

/// Why a call failed: the caller's own error, with what it means to a session.
#[derive(Debug)]
pub struct ControlError {
    failure: Failure,
    cause: Box<dyn error::Error + Send + Sync>,
}

impl ControlError {
    /// An error of the caller's.
    pub fn new(failure: Failure, cause: impl Into<Box<dyn error::Error + Send + Sync>>) -> Self {
        Self { failure, cause: cause.into() }
    }

    /// What it means to the session.
    pub fn failure(&self) -> Failure {
        self.failure
    }

    /// The caller's own error, when it is an `E`.
    pub fn downcast_ref<E: error::Error + 'static>(&self) -> Option<&E> {
        self.cause.downcast_ref()
    }
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

impl error::Error for ControlError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.cause.source()
    }
}

/// The API calls of a session and the signature of its data channel, made with whatever AWS library the caller has.
///
/// Each call has deadlines and retries of its own, as the caller's library gives them; the session bounds only what it says below.
/// Texts of its errors may be logged: they must hold no secret.
pub trait ControlPlane: Send + Sync + 'static {
    /// StartSession. `granted_or_throttled` may be called while the call waits, when AWS throttles it: somebody who waits for
    /// the session then has reason to go on.
    fn start<'a>(&'a self, request: &'a StartSession, hope: &'a (dyn Fn() + Send + Sync)) -> BoxFuture<'a, Start>;

    /// ResumeSession: a new token for the data channel of a session. An answer without a token is [`Failure::Gone`].
    fn resume<'a>(&'a self, session_id: &'a str) -> BoxFuture<'a, Result<Grant, ControlError>>;

    /// TerminateSession. A session that is gone already is no error. Given up after 5 s.
    fn terminate<'a>(&'a self, session_id: &'a str) -> BoxFuture<'a, Result<(), ControlError>>;

    /// The headers that sign the upgrade request of the data channel with Signature Version 4: GET of `uri` with an empty body
    /// and `host` as the only other signed header, service `ssmmessages`, now. None for a URL that is presigned already.
    fn sign<'a>(
        &'a self,
        uri: &'a Uri,
        plus: RawPlus,
    ) -> BoxFuture<'a, Result<Vec<(HeaderName, HeaderValue)>, ControlError>>;

    /// How a raw `+` in the URL is signed at first.
    fn raw_plus(&self) -> RawPlus {
        RawPlus::Space
    }

    /// The service took a signature with this after it had refused one with the other.
    fn remember_raw_plus(&self, plus: RawPlus) {
        let _ = plus;
    }

    /// Ends the caller's sessions whose reason holds `tag`, but for the one with the id `keep`.
    fn end_orphans<'a>(&'a self, tag: &'a str, keep: Option<&'a str>) -> BoxFuture<'a, ()> {
        let _ = (tag, keep);
        Box::pin(future::ready(()))
    }

    /// How long a session of the account may be without input, if the caller can tell: for a warning before the service ends one.
    fn idle_timeout(&self) -> BoxFuture<'_, Option<Duration>> {
        Box::pin(future::ready(None))
    }
}
