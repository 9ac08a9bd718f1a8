//! Why connecting got no further, by step.
//!
//! Messages and hints name hosts and principals of the user's own, never a token or key.

use std::time::Duration;

use database_wire as wire;

use super::{pace::Overrun, step::Step};
use crate::{
    aws, causes,
    target::Remote,
    tls,
    tunnel::{self, StreamError, control::aws_error, pool, ssm::session},
};

/// The reason why a connection to the database cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No usable credentials or no token.
    #[error("{}", no_credentials(Remote::Database, .0))]
    Credentials(#[source] aws::Error),
    /// No route.
    #[error("{}", no_route(Remote::Database))]
    Route(#[source] tunnel::Error),
    /// The route is open, but the connection through it failed.
    #[error("{}", unreachable(Remote::Database))]
    Stream(#[source] StreamError),
    /// The first answer is not that of a database server with TLS.
    #[error(transparent)]
    Answer(wire::Error),
    /// TLS failed.
    #[error("cannot set up TLS with the database server")]
    Tls(#[source] tls::Error),
    /// The server refused the login, or broke the protocol.
    #[error(transparent)]
    Login(wire::Error),
    /// Too many clients log in at once.
    #[error(transparent)]
    Pace(#[from] Overrun),
    /// A step took too long.
    #[error("{}", too_long(Remote::Database, *step, &time_given(*after, *before)))]
    Timeout {
        /// The step.
        step: Step,
        /// How long it took.
        after: Duration,
        /// How long the steps before it took, which had the same time to share.
        before: Duration,
    },
}

/// The time that a step had, in seconds. If the steps before it took more, their time as well.
fn time_given(after: Duration, before: Duration) -> String {
    let seconds = |time: Duration| match time.as_secs() {
        0 => format!("{:.1} s", time.as_secs_f32()),
        seconds => format!("{seconds} s"),
    };
    if before <= after {
        return seconds(after);
    }
    format!("{}, after {} for the steps before it", seconds(after), seconds(before))
}

fn no_credentials(remote: Remote, cause: &aws::Error) -> String {
    match remote {
        Remote::Database if cause.concerns_password() => "no password for the database login".into(),
        Remote::Database => "no AWS credentials for the database login".into(),
        Remote::Server => "no AWS credentials for the SSM session".into(),
    }
}

fn no_route(remote: Remote) -> String {
    format!("cannot open the route to the {remote}")
}

fn unreachable(remote: Remote) -> String {
    format!("cannot reach the {remote}")
}

fn too_long(remote: Remote, step: Step, time_given: &str) -> String {
    format!("{} took longer than {time_given}", step.name(remote))
}

impl Error {
    /// The step that failed.
    pub fn step(&self) -> Step {
        match self {
            Self::Credentials(_) => Step::Credentials,
            Self::Route(_) => Step::Route,
            Self::Stream(_) | Self::Answer(_) => Step::Answer,
            Self::Login(error) if error.is_refusal_before_tls() => Step::Answer,
            Self::Tls(_) => Step::Tls,
            Self::Login(_) | Self::Pace(_) => Step::Login,
            Self::Timeout { step, .. } => *step,
        }
    }

    /// Classifies an error of the server's first answer, preferring the tunnel error beneath it.
    pub fn from_answer(error: impl Into<wire::Error>) -> Self {
        let error = error.into();
        stream_error(&error).map_or_else(|| Self::Answer(error), Self::Stream)
    }

    /// Classifies an error of a login, preferring the tunnel error beneath it.
    pub fn from_login(error: impl Into<wire::Error>) -> Self {
        let error = error.into();
        stream_error(&error).map_or_else(|| Self::Login(error), Self::Stream)
    }

    /// Classifies a TLS error, preferring the tunnel error beneath it.
    pub fn from_tls(error: tls::Error) -> Self {
        let stream = match &error {
            tls::Error::Io(cause) => StreamError::from_io(cause),
            _ => None,
        };
        match stream {
            // TLS reports a write after the server's end so.
            Some(StreamError::Closed) => Self::Tls(tls::Error::Closed),
            Some(stream) => Self::Stream(stream.clone()),
            None => Self::Tls(error),
        }
    }

    /// Whether it shows that the database itself answered, before TLS.
    pub fn is_from_database(&self) -> bool {
        matches!(self, Self::Answer(error) | Self::Login(error) if error.is_from_database())
    }

    /// Whether a connection to the database that worked has been lost.
    pub fn is_lost_connection(&self) -> bool {
        match self {
            Self::Stream(_) | Self::Timeout { .. } => true,
            Self::Login(error) => error.is_closed() || error.io().is_some(),
            Self::Credentials(_) | Self::Route(_) | Self::Answer(_) | Self::Tls(_) | Self::Pace(_) => false,
        }
    }

    /// Whether the database may have moved to another address: what was dialled refuses, goes away or shuts down.
    pub fn suggests_failover(&self) -> bool {
        match self {
            Self::Stream(StreamError::Refused) | Self::Tls(tls::Error::Closed | tls::Error::Io(_)) => true,
            Self::Answer(error) | Self::Login(error) => error.suggests_failover(),
            Self::Stream(_)
            | Self::Tls(_)
            | Self::Credentials(_)
            | Self::Route(_)
            | Self::Pace(_)
            | Self::Timeout { .. } => false,
        }
    }

    /// Whether the server itself refused the login.
    pub fn is_refused_login(&self) -> bool {
        matches!(self, Self::Login(error) if error.is_refusal())
    }

    /// Whether the server refused the password of the login.
    pub fn is_refused_password(&self) -> bool {
        matches!(self, Self::Login(error) if error.is_refused_password())
    }

    /// Whether Systems Manager has no connection to the bastion's agent.
    pub fn bastion_is_not_connected(&self) -> bool {
        match self {
            Self::Route(tunnel::Error::Pool(pool::Error::Session(error))) => {
                let session::Error::Start { cause, .. } = &**error else { return false };
                matches!(aws_error(cause), Some(aws::Error::TargetNotConnected { .. }))
            }
            _ => false,
        }
    }

    /// The error with its causes, one line, about this remote end.
    pub fn message(&self, remote: Remote) -> String {
        match self {
            Self::Credentials(cause) => causes::after(no_credentials(remote, cause), Some(cause)),
            Self::Route(cause) => causes::after(no_route(remote), Some(cause)),
            Self::Stream(cause) => causes::after(format!("{}: {}", unreachable(remote), cause.message(remote)), None),
            Self::Timeout { step, after, before } => too_long(remote, *step, &time_given(*after, *before)),
            Self::Answer(_) | Self::Tls(_) | Self::Login(_) | Self::Pace(_) => causes::one_line(self),
        }
    }
}

fn stream_error(error: &wire::Error) -> Option<StreamError> {
    error.io().and_then(StreamError::from_io).cloned()
}
