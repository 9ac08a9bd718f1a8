//! Why there is no websocket.

use std::io;

use http::StatusCode;
use tokio_tungstenite::tungstenite;

use super::UrlError;
use crate::{outbound, tls, tunnel::direct::Attempts};

/// Why there is no websocket.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL breaks a rule; nothing was dialled.
    #[error("the session's stream URL is not acceptable: {0}")]
    Url(UrlError),
    /// `AWS_CA_BUNDLE` is of no use.
    #[error("TLS to the data channel cannot be set up")]
    Roots(#[source] Box<tls::Error>),
    /// The proxy that the environment names cannot be used.
    #[error(transparent)]
    Proxy(outbound::Error),
    /// The proxy does not open a tunnel.
    #[error("the proxy {proxy} refused a tunnel to {host}: {status}")]
    ProxyRefused {
        /// Scheme, host and port.
        proxy: String,
        /// Where to.
        host: String,
        /// The status line's code and words.
        status: String,
    },
    /// The proxy answered something else than HTTP, or broke off.
    #[error("the proxy {proxy} broke off")]
    ProxyBroken {
        /// Scheme, host and port.
        proxy: String,
        /// The reason.
        #[source]
        cause: io::Error,
    },
    /// The name has no address.
    #[error("no address was found for {host}")]
    Resolve {
        /// The name.
        host: String,
        /// The resolver's reason.
        #[source]
        cause: io::Error,
    },
    /// No TCP connection.
    #[error("cannot connect to {host}")]
    Connect {
        /// The name and port.
        host: String,
        /// What each address said.
        #[source]
        cause: Attempts,
    },
    /// TLS failed.
    #[error("TLS to {host} failed")]
    Tls {
        /// The name.
        host: String,
        /// The reason.
        #[source]
        cause: io::Error,
    },
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

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Url(_) => Some(
                "what StartSession answered does not look like AWS; check AWS_ENDPOINT_URL and AWS_ENDPOINT_URL_SSM",
            ),
            Self::Roots(_) => {
                Some("AWS_CA_BUNDLE, or ca_bundle of the AWS profile, must be a PEM file of root certificates")
            }
            Self::Proxy(error) => Some(error.hint()),
            Self::ProxyRefused { .. } | Self::ProxyBroken { .. } => {
                Some("check HTTPS_PROXY (user and password go into its URL) and NO_PROXY")
            }
            Self::Resolve { .. } | Self::Connect { .. } => Some(
                "check the network; behind a proxy set HTTPS_PROXY, in a VPC without internet add an endpoint for ssmmessages",
            ),
            Self::Tls { .. } => Some("behind TLS inspection name the inspector's root in AWS_CA_BUNDLE"),
            Self::Refused { .. } if self.denies() => Some(
                "the IAM policy must allow ssmmessages:OpenDataChannel on one's own sessions; the clock must be right",
            ),
            Self::Refused { .. } | Self::Upgrade { .. } => None,
        }
    }
}
