//! The server at the far end of an established connection, for cancel requests.

use std::fmt;

use super::{
    attempt::{Attempt, Hope},
    error::Error,
    step::Step,
};
use crate::{tls, tunnel};

/// The very server that a connection has reached, and how its certificate is verified: its cancel requests go there, even when
/// the target's name leads to another server by now.
#[derive(Clone)]
pub struct Server {
    peer: tunnel::Peer,
    tls: tls::Connector,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.peer.fmt(f)
    }
}

impl Server {
    /// The server behind `stream`; `None` when the connection is broken already.
    pub fn of(stream: &tunnel::Stream, tls: &tls::Connector) -> Option<Self> {
        stream.peer().map(|peer| Self { peer, tls: tls.clone() })
    }

    /// How its certificate is verified.
    pub fn tls(&self) -> &tls::Connector {
        &self.tls
    }

    /// [`Step::Route`]: another connection to the server. Neither starts a session nor waits for room in one.
    ///
    /// # Errors
    /// [`Error::Route`], [`Error::Timeout`].
    pub async fn dial(&self, attempt: &mut Attempt) -> Result<tunnel::Stream, Error> {
        let dial = async { self.peer.dial().await.map_err(Error::Route) };
        attempt.run(Step::Route, Hope::None, dial).await
    }
}
