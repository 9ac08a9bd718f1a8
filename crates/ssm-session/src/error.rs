//! The reasons why a session cannot be opened.

use std::{sync::Arc, time::Duration};

use tokio_tungstenite::tungstenite;

use crate::{
    control::{ControlError, Failure},
    conversation::EndReason,
    websocket,
};

/// Limit for one attempt to open the data channel: TCP, TLS and upgrade together, and again for its first frame. The token is
/// short-lived.
pub(crate) const WEBSOCKET_TIMEOUT: Duration = Duration::from_secs(15);

/// The reason why a session cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// StartSession failed.
    #[error("cannot start an SSM session on {node}")]
    Start {
        /// The node of the session.
        node: Arc<str>,
        /// The error of the call.
        #[source]
        cause: Arc<ControlError>,
    },
    /// The data channel did not open.
    #[error("cannot open the data channel of the SSM session")]
    WebSocket(#[source] Arc<websocket::Error>),
    /// The data channel did not open within 15 s.
    #[error("the data channel of the SSM session did not open within {} s", WEBSOCKET_TIMEOUT.as_secs())]
    WebSocketTimeout,
    /// The upgrade request of the data channel could not be signed.
    #[error("cannot sign the request for the data channel")]
    Sign(#[source] Arc<ControlError>),
    /// The first frame, which carries the token, could not be sent.
    #[error("the data channel broke at its first frame")]
    FirstFrame(#[source] Arc<tungstenite::Error>),
    /// The session ended during its handshake.
    #[error("the SSM session on {node} ended before it could be used")]
    Ended {
        /// The node of the session.
        node: Arc<str>,
        /// Why it ended.
        #[source]
        reason: EndReason,
    },
}

impl Error {
    /// Whether Systems Manager has no connection to the agent.
    pub fn says_agent_is_gone(&self) -> bool {
        matches!(self, Self::Start { cause, .. } if cause.failure() == Failure::NotConnected)
    }
}
