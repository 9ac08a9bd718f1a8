//! The calls of a session to Systems Manager, which the caller makes: [`ControlPlane`].
//!
//! Sources: Systems Manager API reference, [StartSession], [ResumeSession], [TerminateSession].
//!
//! [StartSession]: https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_StartSession.html
//! [ResumeSession]: https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_ResumeSession.html
//! [TerminateSession]: https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_TerminateSession.html

use std::{error, fmt, future, pin::Pin, time::Duration};

use http::{HeaderName, HeaderValue, Uri};
use zeroize::Zeroizing;

/// A future that a trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The parameters of StartSession.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartSession {
    /// The managed node, `Target`: `i-…`, `mi-…` or `ecs:CLUSTER_TASK_RUNTIME`.
    pub node: String,
    /// The session document, `DocumentName`.
    pub document: String,
    /// The document's parameters by name. The API takes each as a list of one.
    pub parameters: Vec<(String, String)>,
    /// The text in the session history, 1 to 256 characters. It ends with a tag that differs for each session.
    pub reason: String,
}

/// The permission to open a data channel, once and soon: the result of StartSession and ResumeSession.
pub struct Grant {
    /// The id of the session, `SessionId`.
    pub session_id: String,
    /// The URL of the data channel, `StreamUrl`. After ResumeSession it may be empty: then the old one stays valid.
    pub stream_url: Zeroizing<String>,
    /// The secret that opens the data channel, `TokenValue`.
    pub token: Zeroizing<String>,
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant").field("session_id", &self.session_id).finish_non_exhaustive()
    }
}

/// The result of [`ControlPlane::start`].
#[derive(Debug)]
pub struct Start {
    /// The session, or why there is none.
    pub outcome: Result<Grant, ControlError>,
    /// A reply was lost on the way, so sessions with unknown ids may have been started. Then [`ControlPlane::end_orphans`] is
    /// called.
    pub may_have_orphans: bool,
}

impl From<Result<Grant, ControlError>> for Start {
    fn from(outcome: Result<Grant, ControlError>) -> Self {
        Self { outcome, may_have_orphans: false }
    }
}

/// The form of a raw `+` of a query in the signature. The request itself is sent unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RawPlus {
    /// A space, `%20`. AWS's client signs the query after parsing and encoding it again, which reads `+` as a space
    /// (session-manager-plugin from 1.2.764.0, by aws-sdk-go-v2 [`v4.go`], Build).
    ///
    /// [`v4.go`]: https://github.com/aws/aws-sdk-go-v2/blob/v1.30.0/aws/signer/v4/v4.go
    Space,
    /// A plus sign, `%2B`.
    Plus,
}

impl RawPlus {
    /// The other form.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Space => Self::Plus,
            Self::Plus => Self::Space,
        }
    }
}

/// The consequence of a failed call for a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Systems Manager has no connection to the node's agent (`TargetNotConnected`).
    NotConnected,
    /// The session is over (`DoesNotExistException`, or a reply without a token), or the caller may not resume it: a retry is
    /// useless.
    Gone,
    /// Any other failure, which may pass.
    Other,
}

/// Why a call failed: the caller's own error, and its consequence for a session.
#[derive(Debug)]
pub struct ControlError {
    failure: Failure,
    cause: Box<dyn error::Error + Send + Sync>,
}

impl ControlError {
    /// Wraps an error of the caller.
    pub fn new(failure: Failure, cause: impl Into<Box<dyn error::Error + Send + Sync>>) -> Self {
        Self { failure, cause: cause.into() }
    }

    /// The consequence for the session.
    pub fn failure(&self) -> Failure {
        self.failure
    }

    /// The caller's own error, if it is an `E`.
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

/// The API calls of a session and the signature of its data channel, made with any AWS library.
///
/// Each call has the deadlines and retries of the caller's library; the session sets only the limits named below. The texts of its
/// errors are logged, so they must not hold a secret.
pub trait ControlPlane: Send + Sync + 'static {
    /// Calls StartSession. `hope` may be called while the call waits because AWS throttles it: then a connection that waits for the
    /// session has reason to go on waiting.
    fn start<'a>(&'a self, request: &'a StartSession, hope: &'a (dyn Fn() + Send + Sync)) -> BoxFuture<'a, Start>;

    /// Calls ResumeSession, which returns a new token for the data channel of a session. A reply without a token is
    /// [`Failure::Gone`].
    fn resume<'a>(&'a self, session_id: &'a str) -> BoxFuture<'a, Result<Grant, ControlError>>;

    /// Calls TerminateSession. A session that is over already is a success. The session waits at most 5 s for it.
    fn terminate<'a>(&'a self, session_id: &'a str) -> BoxFuture<'a, Result<(), ControlError>>;

    /// Makes the headers that sign the upgrade request of the data channel with Signature Version 4: a GET of `uri` with an empty
    /// body and `host` as the only signed header, for the service `ssmmessages`, at the present time. No headers for a URL that is
    /// presigned.
    fn sign<'a>(
        &'a self,
        uri: &'a Uri,
        plus: RawPlus,
    ) -> BoxFuture<'a, Result<Vec<(HeaderName, HeaderValue)>, ControlError>>;

    /// The form of a raw `+` of the URL in the first signature. Default [`RawPlus::Space`].
    fn raw_plus(&self) -> RawPlus {
        RawPlus::Space
    }

    /// The service accepted a signature with this form after it had refused one with the other.
    fn remember_raw_plus(&self, plus: RawPlus) {
        let _ = plus;
    }

    /// Ends the caller's sessions whose reason contains `tag`, except the one with the id `keep`. Does nothing by default.
    fn end_orphans<'a>(&'a self, tag: &'a str, keep: Option<&'a str>) -> BoxFuture<'a, ()> {
        let _ = (tag, keep);
        Box::pin(future::ready(()))
    }

    /// Looks up the account's idle timeout for sessions, for a warning before the service ends one. `None` (the default): not
    /// known.
    fn idle_timeout(&self) -> BoxFuture<'_, Option<Duration>> {
        Box::pin(future::ready(None))
    }
}
