//! Why a connection through an SSM session gives no more bytes, in the words of a program for databases. The crate
//! `ssm-session` knows destinations and nodes; here they are databases and bastions.

use std::{io, time::Duration};

use ssm_session::smux::mux;

use crate::target::Remote;

/// Why a connection through an SSM session gives no more bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The agent could not connect to the database.
    #[error("{}", refused(Remote::Database))]
    Refused,
    /// The database did not accept the connection within this time.
    #[error("{}", dial_timeout(Remote::Database, *.0))]
    DialTimeout(Duration),
    /// The agent did not acknowledge the request to dial. The database has received nothing.
    #[error("the SSM agent on the bastion does not answer")]
    AgentSilent,
    /// The session lost its connection before the agent acknowledged the request to dial.
    #[error("the SSM session has lost its connection to AWS")]
    LinkLost,
    /// The session ended under the connection, for this reason.
    #[error("the SSM session ended: {0}")]
    SessionEnded(String),
    /// A write after the end of the connection.
    #[error("the stream is closed")]
    Closed,
}

fn refused(remote: Remote) -> String {
    format!("the bastion could not connect to the {remote} (refused, unreachable, or its name does not resolve there)")
}

fn dial_timeout(remote: Remote, after: Duration) -> String {
    format!("the bastion did not reach the {remote} within {} s", after.as_secs())
}

impl From<mux::StreamError> for StreamError {
    fn from(error: mux::StreamError) -> Self {
        match error {
            mux::StreamError::Refused => Self::Refused,
            mux::StreamError::DialTimeout(after) => Self::DialTimeout(after),
            mux::StreamError::AgentSilent => Self::AgentSilent,
            mux::StreamError::LinkLost => Self::LinkLost,
            mux::StreamError::SessionEnded(reason) => Self::SessionEnded(reason),
            mux::StreamError::Closed => Self::Closed,
        }
    }
}

impl StreamError {
    /// The error as a sentence about this remote end.
    pub fn message(&self, remote: Remote) -> String {
        match self {
            Self::Refused => refused(remote),
            Self::DialTimeout(after) => dial_timeout(remote, *after),
            Self::AgentSilent | Self::LinkLost | Self::SessionEnded(_) | Self::Closed => self.to_string(),
        }
    }

    /// An error of reading or writing a session's stream, with its sentence in these words.
    pub(super) fn reword(error: io::Error) -> io::Error {
        match mux::StreamError::from_io(&error) {
            Some(cause) => io::Error::new(error.kind(), Self::from(cause.clone())),
            None => error,
        }
    }

    /// The stream error in an I/O error; `None` if the I/O error has another origin.
    pub fn from_io(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// Whether another session may serve the connection: the database was not dialled, or the session `is_old` and may have
    /// ended unnoticed. A session that ends as soon as it has opened would do so again.
    pub fn calls_for_another_session(&self, is_old: bool) -> bool {
        match self {
            Self::AgentSilent | Self::LinkLost => true,
            Self::SessionEnded(_) => is_old,
            Self::Refused | Self::DialTimeout(_) | Self::Closed => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_stream_errors_name_the_bastion_and_the_database() {
        let error = StreamError::reword(mux::StreamError::DialTimeout(Duration::from_secs(8)).into_io());
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(error.to_string(), "the bastion did not reach the database within 8 s");
        assert_eq!(StreamError::from_io(&error), Some(&StreamError::DialTimeout(Duration::from_secs(8))));
        let other = StreamError::reword(io::ErrorKind::ConnectionReset.into());
        assert_eq!((other.kind(), StreamError::from_io(&other)), (io::ErrorKind::ConnectionReset, None));
    }
}
