//! Why the websocket did not open.

use http::StatusCode;
use tokio_tungstenite::tungstenite;

use crate::{connect::ConnectError, stream_url::UrlError};

/// Why the websocket did not open. No variant holds the URL or a header.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream URL breaks a rule. Nothing was dialled.
    #[error("the session's stream URL is not acceptable: {0}")]
    Url(UrlError),
    /// The caller's [`Connect`](crate::connect::Connect) returned an error.
    #[error(transparent)]
    Connect(ConnectError),
    /// The server replied to the upgrade with another status than 101.
    #[error("{host} refused the data channel: HTTP {status}")]
    Refused {
        /// The host that was asked.
        host: String,
        /// The HTTP status of the reply.
        status: StatusCode,
    },
    /// The upgrade failed without an HTTP reply.
    #[error("the websocket upgrade at {host} failed")]
    Upgrade {
        /// The host that was asked.
        host: String,
        /// The error of the websocket library.
        #[source]
        cause: Box<tungstenite::Error>,
    },
}

impl Error {
    /// Whether the service denied access: HTTP 401 or 403.
    pub fn denies(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == StatusCode::FORBIDDEN || *status == StatusCode::UNAUTHORIZED)
    }

    /// Whether the service replied with 403, as it does to a signature that it does not accept.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == StatusCode::FORBIDDEN)
    }
}
