//! The part that a failure belongs to. It decides the exit code of every command, `doctor` included.

use crate::{
    aws, connect,
    connect::Step,
    tls,
    tunnel::{self, control::aws_error, pool, ssm::session},
};

/// The part that failed, which decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// This machine: an address that is taken, a file.
    Local,
    /// The configuration.
    Configuration,
    /// AWS credentials.
    Credentials,
    /// An AWS API, the tunnel.
    Aws,
    /// The database's TLS or login.
    Database,
}

impl From<&aws::Error> for Cause {
    /// Credential failures count as credential errors even when an API reported them.
    fn from(error: &aws::Error) -> Self {
        match error {
            // The network to the issuer failed, or a proxy refused: other credentials would not help.
            aws::Error::CredentialsTransport { .. } => Self::Aws,
            aws::Error::Proxy(_) => Self::Configuration,
            aws::Error::HttpClient(_) => Self::Local,
            aws::Error::CaBundle { .. } | aws::Error::Signing { .. } => Self::Credentials,
            error if error.concerns_credentials() => Self::Credentials,
            _ => Self::Aws,
        }
    }
}

impl From<&connect::Error> for Cause {
    fn from(error: &connect::Error) -> Self {
        match error {
            connect::Error::Credentials(cause) => cause.into(),
            connect::Error::Route(tunnel::Error::Pool(pool::Error::Session(cause))) => match &**cause {
                session::Error::Start { cause, .. } | session::Error::Sign(cause) => {
                    aws_error(cause).map_or(Self::Aws, Self::from)
                }
                session::Error::WebSocket(_)
                | session::Error::WebSocketTimeout
                | session::Error::FirstFrame(_)
                | session::Error::Ended { .. } => Self::Aws,
            },
            connect::Error::Route(_) | connect::Error::Stream(_) => Self::Aws,
            connect::Error::Tls(tls::Error::CaFile { .. }) => Self::Configuration,
            connect::Error::Answer(_) | connect::Error::Tls(_) | connect::Error::Login(_) | connect::Error::Pace(_) => {
                Self::Database
            }
            connect::Error::Timeout { step, .. } => match step {
                Step::Credentials => Self::Credentials,
                Step::Route | Step::Answer => Self::Aws,
                Step::Tls | Step::Login => Self::Database,
            },
        }
    }
}
