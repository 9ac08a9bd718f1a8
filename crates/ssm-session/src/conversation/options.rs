//! Limits and delays of a session.

use std::{sync::Arc, time::Duration};

use crate::{channel, smux::mux, trial::USUAL_PAYLOAD};

/// Limits and delays of a session.
#[derive(Debug, Clone)]
pub struct Options {
    /// Limits and delays of the reliable channel.
    pub channel: channel::Options,
    /// Limits and delays of the streams.
    pub mux: mux::Options,
    /// Most bytes of payload in one data message. Default 1,024, as both official sides send (plugin [`config.go`],
    /// StreamDataPayloadSize). A larger size is used once a trial has shown that the service passes it.
    ///
    /// [`config.go`]: https://github.com/aws/session-manager-plugin/blob/61cf1288c7c66b4cbff922b7ed8a6604b3a3c2ea/src/config/config.go#L27
    pub payload_size: usize,
    /// Whether a session with streams is kept from the idle timeout of the account. Default false.
    pub keep_alive: bool,
    /// How a user of the program turns `keep_alive` on, to end the logged warning about the idle timeout with: a clause such as
    /// "--keep-alive prevents that". Default `None`.
    pub keep_alive_advice: Option<Arc<str>>,
    /// The idle timeout of the account, if it is known: a warning is logged before it ends the session. Default `None`.
    pub idle_timeout: Option<Duration>,
    /// The agent counts as unresponsive when it has not acknowledged a message for this long and nothing else was heard of it.
    /// Then new connections get another session. Default 5 s: below the deadlines of clients, above the time in which a lost
    /// large message is replaced.
    pub unresponsive_after: Duration,
    /// Limit for the time from the first frame to HandshakeComplete. Default 25 s: the agent itself gives up after 15 s (agent
    /// [`datachannel.go`], handshakeTimeout).
    ///
    /// [`datachannel.go`]: https://github.com/aws/amazon-ssm-agent/blob/1c217c89b42de51d4f4063363d8ec1f2eef56055/agent/session/datachannel/datachannel.go#L51
    pub handshake_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            channel: channel::Options::default(),
            mux: mux::Options::default(),
            payload_size: USUAL_PAYLOAD,
            keep_alive: false,
            keep_alive_advice: None,
            idle_timeout: None,
            unresponsive_after: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(25),
        }
    }
}
