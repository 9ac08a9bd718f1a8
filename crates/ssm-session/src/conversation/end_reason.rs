//! Why a session is over.

use std::time::Duration;

use crate::{handshake::HandshakeError, smux::frame::FrameError};

/// Why a session is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndReason {
    /// The caller ended it.
    #[error("closed on request")]
    Terminated,
    /// The service or the agent ended it, for this reason in its own words.
    #[error("{}", if .0.is_empty() { "closed by AWS without a reason (idle or maximum duration reached, or ended by someone)" } else { .0.as_str() })]
    ChannelClosed(String),
    /// Its handshake failed.
    #[error(transparent)]
    Handshake(HandshakeError),
    /// The agent did not finish the handshake within this time.
    #[error("the SSM agent did not finish the handshake within {} s", .0.as_secs())]
    HandshakeTimeout(Duration),
    /// The agent's bytes are not smux.
    #[error("the agent broke the protocol: {0}")]
    Smux(#[from] FrameError),
    /// No acknowledgement came for minutes, perhaps because the destination does not read.
    #[error("the SSM agent has acknowledged nothing for minutes")]
    NotAcknowledging,
    /// The agent was probed and has not been heard for this time.
    #[error("the SSM agent has not answered for {} s, though AWS has", .0.as_secs())]
    AgentSilent(Duration),
    /// The agent does not answer, and Systems Manager has no connection to it.
    #[error("the SSM agent is not connected to AWS any more")]
    AgentGone,
    /// The session's task has panicked.
    #[error("internal error; please report this with the log")]
    Failed,
    /// The connection was lost and could not be resumed, for this reason.
    #[error("the connection to AWS was lost and could not be resumed: {0}")]
    NotResumed(String),
}
