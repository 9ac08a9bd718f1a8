//! The last message to a client: why it is not connected, or why its connection ends.

use std::time::Duration;

use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use super::{arrival::Client, service::Service};
use crate::{
    engine::Failure,
    limits::FACTS_TIMEOUT,
    proxy::error::{self, Error},
};

/// For an error to be written to a client that may have stopped reading.
pub(super) const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// Writes to the log and to the client why it is not connected. `reply` puts the failure in the words of the engine; a client
/// for which there are none is reset.
pub(super) async fn refuse(
    mut client: Client,
    error: Error,
    service: &Service,
    user: &str,
    reply: impl FnOnce(Failure<'_>) -> Option<Vec<u8>>,
) {
    let error = error.or_connect_timeout(client.arrival.deadline, service.connect_timeout);
    client.arrival.log_refused(service, user, &error);
    // Facts of AWS that explain the error, as far as they arrive before the client gives up.
    let limit = client.arrival.limits.left_to_explain(FACTS_TIMEOUT);
    let facts = timeout(limit, service.facts(&error)).await.unwrap_or_default();
    let login = error::Login { user, facts: &facts };
    match service.keep_failure(&error, &login).map(reply) {
        Some(Some(message)) => farewell(&mut client.stream, &message).await,
        // A close in order would read as an empty reply.
        Some(None) => client.stream.reset_on_close(),
        None => {}
    }
}

/// Writes a last message to a client and closes.
pub(super) async fn farewell(client: &mut (impl AsyncWrite + Unpin), words: &[u8]) {
    let said = async {
        client.write_all(words).await?;
        client.shutdown().await
    };
    let _ = timeout(FAREWELL_TIMEOUT, said).await;
}
