//! Errors of opening the websocket.

use http::StatusCode;
use tokio_tungstenite::tungstenite;

use super::UrlError;
use crate::connect::ConnectError;

/// Errors of opening the websocket.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL breaks a rule; nothing was dialled.
    #[error("the session's stream URL is not acceptable: {0}")]
    Url(UrlError),
    /// The caller's [`crate::connect::Connect`] made no connection.
    #[error(transparent)]
    Connect(ConnectError),
    /// The server answered the upgrade with something else.
    #[error("{host} refused the data channel: HTTP {status}")]
    Refused {
        /// The name.
        host: String,
        /// The HTTP status.
        status: StatusCode,
    },
    /// The upgrade failed.
    #[error("the websocket upgrade at {host} failed")]
    Upgrade {
        /// The name.
        host: String,
        /// The reason.
        #[source]
        cause: Box<tungstenite::Error>,
    },
}

impl Error {
    /// Whether the service says that the caller may not.
    pub fn denies(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == StatusCode::FORBIDDEN || *status == StatusCode::UNAUTHORIZED)
    }

    /// Whether the service answered 403, as it does to a signature that it does not take.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == StatusCode::FORBIDDEN)
    }
}
