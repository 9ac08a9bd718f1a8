//! Why a stream gives no more bytes.

use std::{io, time::Duration};

/// Why a stream gives no more bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The agent could not connect to the destination (Flag 3, ConnectToPortError).
    #[error(
        "the SSM agent could not connect to the destination (refused, unreachable, or its name does not resolve there)"
    )]
    Refused,
    /// The destination has not accepted the connection within [`Options::dial_timeout`](super::Options::dial_timeout).
    #[error("the SSM agent did not reach the destination within {} s", .0.as_secs())]
    DialTimeout(Duration),
    /// The agent did not acknowledge the request to dial. Nothing has been sent to the destination.
    #[error("the SSM agent does not answer")]
    AgentSilent,
    /// The session lost its connection before the agent acknowledged the request to dial.
    #[error("the SSM session has lost its connection to AWS")]
    LinkLost,
    /// The session ended while the stream was open. The text is its [`EndReason`](crate::conversation::EndReason).
    #[error("the SSM session ended: {0}")]
    SessionEnded(String),
    /// A write after the end of the stream.
    #[error("the stream is closed")]
    Closed,
}

impl StreamError {
    /// The error as asynchronous readers and writers return it. [`StreamError::from_io`] takes it out again.
    pub fn into_io(self) -> io::Error {
        let kind = match self {
            Self::Refused => io::ErrorKind::ConnectionRefused,
            Self::DialTimeout(_) | Self::AgentSilent | Self::LinkLost => io::ErrorKind::TimedOut,
            Self::SessionEnded(_) => io::ErrorKind::NetworkDown,
            Self::Closed => io::ErrorKind::BrokenPipe,
        };
        io::Error::new(kind, self)
    }

    /// Whether another session may serve the connection: the destination was not dialled, or the session `is_old` and may have
    /// ended unnoticed. A session that ends as soon as it has opened would do so again.
    pub fn calls_for_another_session(&self, is_old: bool) -> bool {
        match self {
            Self::AgentSilent | Self::LinkLost => true,
            Self::SessionEnded(_) => is_old,
            Self::Refused | Self::DialTimeout(_) | Self::Closed => false,
        }
    }

    /// The stream error in an I/O error; `None` if the I/O error has another origin.
    pub fn from_io(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}
