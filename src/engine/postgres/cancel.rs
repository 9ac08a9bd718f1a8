//! Forwards a client's cancel request.

use database_wire::postgres::{self, CancelRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::connect::{request_tls, secure};
use crate::connect::{Attempt, Deadline, Error, Hope, Server, Step};

/// Forwards a CancelRequest, and waits until the server has read it, which closes the connection then.
///
/// # Errors
/// [`Error`], by step.
pub(super) async fn cancel(server: &Server, request: &CancelRequest, deadline: Deadline) -> Result<(), Error> {
    let mut attempt = Attempt::new(deadline);
    let mut stream = server.dial(&mut attempt).await?;
    // The reply may come behind all that the session carries for clients that do not read.
    attempt.run(Step::Answer, Hope::Real, request_tls(&mut stream)).await?;
    let (mut stream, _) = secure(&mut attempt, server.tls(), stream).await?;
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
