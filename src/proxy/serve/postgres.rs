//! Serves one PostgreSQL client: its startup, the login to the database, the relay, and the message at the end.

use tokio::{io::AsyncWriteExt, time::timeout};
use tracing::{debug, info};

use super::{Client, FAREWELL_TIMEOUT, Observer, Service, apply_configured_names, farewell, in_time, refuse};
use crate::{
    connect::Deadline,
    engine::{
        Follow as _, Request as _,
        postgres::{Tap, notice, reply},
    },
    listen::access::{self, User},
    postgres::{self, Accepted, CancelRequest, Startup},
    proxy::{error::Error, upstream::Established},
    stream::relay::{End, Reason, Side, relay},
};

/// Serves one client from its first packet to its end.
pub(super) async fn serve(service: &Service, mut client: Client) {
    let target = &service.upstream.target().name;
    match accept(service, &mut client).await {
        Ok((Accepted::Startup(startup), owner)) => Box::pin(connect(service, client, startup, owner)).await,
        Ok((Accepted::Cancel(request), _)) => cancel(service, &request, client.arrival.limits).await,
        Ok((Accepted::Gone { asked_for_tls: true }, _)) => info!(
            %target, peer = %client.arrival.peer,
            "the client left because this listener does not offer TLS; use sslmode=disable or prefer"
        ),
        Ok((Accepted::Gone { asked_for_tls: false }, _)) => debug!(%target, peer = %client.arrival.peer, "port probe"),
        Err(error) => refuse(client, error, service, "", reply).await,
    }
}

/// What the client wants, and whose it is.
async fn accept(service: &Service, client: &mut Client) -> Result<(Accepted, User), Error> {
    let admitted = access::check(client.arrival.peer);
    // A client that is not admitted is heard out all the same: it understands an error only after its startup.
    let accepted = in_time(service, client.arrival.deadline, postgres::accept(&mut client.stream)).await;
    match (admitted, accepted?.map_err(Error::from_client)) {
        // Drivers send a CancelRequest and close at once. Whose it was can no longer be told, but its key tells enough.
        (Ok(owner), accepted) => Ok((accepted?, owner)),
        (Err(access::Error::Gone), Ok(cancel @ Accepted::Cancel(_))) => Ok((cancel, User::UNKNOWN)),
        (Err(refused), _) => Err(refused.into()),
    }
}

async fn cancel(service: &Service, request: &CancelRequest, limits: Deadline) {
    let target = &service.upstream.target().name;
    let Some(server) = service.registry.server_for(request) else {
        debug!(%target, "cancel request with a key that was not handed out");
        return;
    };
    match server.cancel(request, limits).await {
        Ok(()) => debug!(%target, "cancel request forwarded"),
        Err(error) => info!(%target, cause = %error.message(), "cancel request could not be forwarded"),
    }
}

async fn connect(service: &Service, mut client: Client, mut startup: Startup, owner: User) {
    let sent = startup.clone();
    let notice = match apply_configured_names(&mut startup, service, client.arrival, owner) {
        Ok(replaced) => notice(&startup, sent.names(), replaced),
        Err(error) => return refuse(client, error, service, &text(&sent, b"user"), reply).await,
    };
    let (user, database) = (text(&startup, b"user"), text(&startup, b"database"));
    let established = tokio::select! {
        established = Box::pin(service.upstream.log_in(&startup, client.arrival.limits)) => established.map_err(Error::from),
        () = client.left(&postgres::message::TERMINATE) => Err(Error::ClientLeft),
        () = service.drain.cancelled() => Err(Error::ShuttingDown),
    };
    let Established { mut stream, mut logged_in, facts } = match established {
        Ok(established) => established,
        Err(error) => return refuse(client, error, service, &user, reply).await,
    };
    client.arrival.log_logged_in(service, &user, logged_in.server_version.as_deref(), &facts);
    if let Some(notice) = notice {
        logged_in.add_notice(&notice);
    }
    let registered = logged_in.cancel_key.zip(facts.server.clone());
    let registered = registered.map(|(key, server)| service.registry.register(key, server));

    let tap = Tap::new(&logged_in.greeting);
    let mut observer = Observer { tap, service, arrival: client.arrival };
    let greeted = tokio::select! {
        greeted = client.stream.write_all(&logged_in.greeting) => greeted,
        () = service.abort.cancelled() => return,
    };
    let end = match greeted {
        Ok(()) => {
            let (stop, cut) = (service.drain.cancelled(), service.abort.cancelled());
            relay(&mut client.stream, &mut stream, &mut observer, stop, cut).await
        }
        Err(error) => End { reason: Reason::Broke(Side::Client, error), to_upstream: 0, to_client: 0 },
    };
    // Before anybody hears of the end: the server may give the key to the next connection.
    drop(registered);
    client.arrival.log_end(service, &user, &database, &facts, &end);
    if let Some(words) = observer.tap.last_words(&end.reason) {
        farewell(&mut client.stream, &words).await;
    }
    // In order, so that the server's log shows no lost connection.
    let _ = timeout(FAREWELL_TIMEOUT, stream.shutdown()).await;
}

fn text(startup: &Startup, name: &[u8]) -> String {
    String::from_utf8_lossy(startup.get(name).unwrap_or_default()).into_owned()
}
