//! The server at the far end of an established connection, for cancel requests.

use std::fmt;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    attempt::{Attempt, Deadline, Hope},
    error::Error,
    postgres::request_tls,
    step::Step,
};
use crate::{
    postgres::{self, CancelRequest},
    tls, tunnel,
};

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

    /// Forwards a CancelRequest, and waits until the server has read it, which closes the connection then. Neither starts a
    /// session nor waits for room in one.
    ///
    /// # Errors
    /// [`Error`], by step.
    pub async fn cancel(&self, request: &CancelRequest, deadline: Deadline) -> Result<(), Error> {
        let mut attempt = Attempt::new(deadline);
        let dial = async { self.peer.dial().await.map_err(Error::Route) };
        let mut stream = attempt.run(Step::Route, Hope::None, dial).await?;
        // The reply may come behind all that the session carries for clients that do not read.
        attempt.run(Step::Answer, Hope::Real, request_tls(&mut stream)).await?;
        let handshake = async { self.tls.connect(stream).await.map_err(Error::from_tls) };
        let (mut stream, _) = attempt.run(Step::Tls, Hope::Real, handshake).await?;
        let exchange = async {
            let io = |cause| Error::from_login(postgres::Error::Io(cause));
            stream.write_all(&request.encode()).await.map_err(io)?;
            stream.flush().await.map_err(io)?;
            // The server has read the request once it closes, with or without a TLS alert.
            let _ = stream.read(&mut [0]).await;
            Ok(())
        };
        attempt.run(Step::Login, Hope::Real, exchange).await
    }
}
