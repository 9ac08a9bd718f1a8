//! Refusals, which have a position in the conversation here.

use database_wire::mysql::ReplyPosition;

use crate::{
    engine::mysql::{connection_lost, reply},
    proxy::{
        error::{self, Error},
        serve::{arrival::Client, refusal, service::Service},
    },
};

/// Writes to the log and to the client why it is not connected.
pub(super) async fn refuse(client: Client, error: Error, service: &Service, user: &str, position: ReplyPosition) {
    refusal::refuse(client, error, service, user, |failure| reply(failure, position)).await;
}

/// The message for a client whose command could not be carried out here.
pub(super) async fn refusal_of_command(
    error: &Error,
    service: &Service,
    user: &str,
    position: ReplyPosition,
) -> Option<Vec<u8>> {
    if error.is_lost_connection() {
        return Some(connection_lost(&error.message(service.upstream.target()), position));
    }
    let facts = service.facts(error).await;
    let login = error::Login { user, facts: &facts };
    reply(error.failure(service.upstream.target(), &login)?, position)
}
