//! Failures to connect to the message service.

use std::io;

use ssm_session::websocket;

use crate::{outbound, tls, tunnel::direct::Attempts};

/// No connection to the message service could be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file of `AWS_CA_BUNDLE` cannot be used.
    #[error("TLS to the data channel cannot be set up")]
    Roots(#[source] Box<tls::Error>),
    /// The proxy that the environment names cannot be used.
    #[error(transparent)]
    Proxy(outbound::Error),
    /// The proxy refused a tunnel.
    #[error("the proxy {proxy} refused a tunnel to {host}: {status}")]
    ProxyRefused {
        /// Scheme, host and port.
        proxy: String,
        /// The host behind the proxy.
        host: String,
        /// The status line's code and words.
        status: String,
    },
    /// The proxy replied with something other than HTTP, or closed the connection.
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
    /// The TCP connection failed.
    #[error("cannot connect to {host}")]
    Connect {
        /// The name and port.
        host: String,
        /// The failure of each address.
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
}

impl Error {
    /// The next step for a person.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Roots(_) => "AWS_CA_BUNDLE, or ca_bundle of the AWS profile, must be a PEM file of root certificates",
            Self::Proxy(error) => error.hint(),
            Self::ProxyRefused { .. } | Self::ProxyBroken { .. } => {
                "check HTTPS_PROXY (user and password go into its URL) and NO_PROXY"
            }
            Self::Resolve { .. } | Self::Connect { .. } => {
                "check the network; behind a proxy set HTTPS_PROXY, in a VPC without internet add an endpoint for ssmmessages"
            }
            Self::Tls { .. } => "behind TLS inspection name the inspector's root in AWS_CA_BUNDLE",
        }
    }
}

/// The next step for a person whose data channel did not open.
pub fn hint(error: &websocket::Error) -> Option<&'static str> {
    match error {
        websocket::Error::Url(_) => {
            Some("what StartSession answered does not look like AWS; check AWS_ENDPOINT_URL and AWS_ENDPOINT_URL_SSM")
        }
        websocket::Error::Connect(cause) => cause.downcast_ref::<Error>().map(Error::hint),
        websocket::Error::Refused { .. } if error.denies() => Some(
            "allow ssmmessages:OpenDataChannel on your own sessions in the IAM policy, and check this machine's clock",
        ),
        websocket::Error::Refused { .. } | websocket::Error::Upgrade { .. } => None,
    }
}
