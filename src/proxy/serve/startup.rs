//! The client's first message: the time that it has for it, and the names in it.

use tokio::time::{Instant, timeout_at};

use super::{arrival::Arrival, service::Service};
use crate::{
    connect::Deadline,
    engine::Request,
    limits::CLIENT_STARTUP_TIMEOUT,
    listen::access::User,
    proxy::{error::Error, names::Configured},
};

/// Reads what a client sends before its login: for [`CLIENT_STARTUP_TIMEOUT`] at most, until `deadline`, and until the proxy shuts down.
pub(super) async fn in_time<T>(
    service: &Service,
    deadline: Instant,
    reading: impl Future<Output = T>,
) -> Result<T, Error> {
    let limit = deadline.min(Instant::now() + CLIENT_STARTUP_TIMEOUT);
    tokio::select! {
        biased;
        read = timeout_at(limit, reading) => {
            read.map_err(|_| Error::StartupTimeout(CLIENT_STARTUP_TIMEOUT))
        }
        () = service.drain.cancelled() => Err(Error::ShuttingDown),
    }
}

/// Puts the configured user and database where the client named none. `limits` are for a password whose user is the only one.
pub(super) async fn apply_configured_names(
    request: &mut (impl Request + Send + Sync + ?Sized),
    service: &Service,
    (arrival, limits): (Arrival, Deadline),
    owner: User,
) -> Result<(), Error> {
    let only_user = Box::pin(service.upstream.only_user(limits)).await?;
    let sent = request.names();
    let configured = Configured::for_client(service.upstream.target(), only_user.as_deref(), sent, owner)?;
    let replaced = configured.replaced(sent);
    arrival.log_replaced(service, sent, replaced);
    request.on_replaced(replaced);
    if let Some(user) = configured.user {
        request.set_user(user).map_err(Error::Client)?;
    }
    if let Some(database) = configured.database {
        request.set_database(database).map_err(Error::Client)?;
    }
    Ok(())
}

/// A name that a client has sent, for the log and for people.
pub(super) fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}
