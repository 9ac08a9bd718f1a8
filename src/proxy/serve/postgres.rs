//! Serving one PostgreSQL client: startup, login upstream, relay, the truth at the end.

use tokio::{io::AsyncWriteExt, time::timeout};
use tracing::{debug, info};

use super::{Client, FAREWELL_TIMEOUT, Service, farewell, in_time};
use crate::{
    postgres::{
        self, Accepted, Activity, CancelRequest, ErrorReport, Startup, Watch,
        error::sqlstate::{ADMIN_SHUTDOWN, CONNECTION_FAILURE},
    },
    proxy::{
        access,
        error::{Error, Login},
        upstream::Established,
    },
    stream::relay::{End, Reason, Side, Tap, relay},
    target::Target,
};

/// Serves one client from its first packet to its end.
pub(super) async fn serve(service: &Service, mut client: Client) {
    let target = &service.upstream.target().name;
    match accept(&mut client).await {
        Ok(Accepted::Startup(startup)) => Box::pin(connect(service, client, startup)).await,
        Ok(Accepted::Cancel(request)) => cancel(service, &request).await,
        Ok(Accepted::Gone { asked_for_tls: true }) => info!(
            %target, peer = %client.arrival.peer,
            "the client left when it heard that this listener has no TLS of its own; use sslmode=disable or prefer"
        ),
        Ok(Accepted::Gone { asked_for_tls: false }) => debug!(%target, peer = %client.arrival.peer, "port probe"),
        Err(error) => refuse(client, error, service, "").await,
    }
}

async fn accept(client: &mut Client) -> Result<Accepted, Error> {
    let admitted = access::check_peer(client.arrival.peer, client.arrival.local);
    // A client that is not admitted is heard out all the same: it understands an error only after its startup.
    let accepted = in_time(client.arrival.deadline, postgres::accept(&mut client.stream)).await;
    match (admitted, accepted?.map_err(Error::Client)) {
        // Drivers send a CancelRequest and close at once. Whose it was can no longer be told, but its key tells enough.
        (Ok(()), accepted) | (Err(access::Error::Gone), accepted @ Ok(Accepted::Cancel(_))) => accepted,
        (Err(refused), _) => Err(refused.into()),
    }
}

async fn cancel(service: &Service, request: &CancelRequest) {
    let target = &service.upstream.target().name;
    if !service.registry.knows(request) {
        debug!(%target, "cancel request with a key that was not handed out");
        return;
    }
    match service.upstream.cancel(request).await {
        Ok(()) => debug!(%target, "cancel request forwarded"),
        Err(error) => info!(%target, cause = %error.message(), "cancel request could not be forwarded"),
    }
}

async fn connect(service: &Service, mut client: Client, startup: Startup) {
    let startup = match for_target(startup, service.upstream.target()) {
        Ok(startup) => startup,
        Err(error) => return refuse(client, Error::Client(error), service, "").await,
    };
    let (user, database) = (text(&startup, b"user"), text(&startup, b"database"));
    let established = tokio::select! {
        established = Box::pin(service.upstream.log_in(&startup, client.arrival.deadline)) => established,
        () = client.left() => Err(Error::ClientLeft),
        () = service.drain.cancelled() => Err(Error::ShuttingDown),
    };
    let Established { mut stream, logged_in, facts } = match established {
        Ok(established) => established,
        Err(error) => return refuse(client, error, service, &user).await,
    };
    client.arrival.log_logged_in(service, &user, logged_in.server_version.as_deref(), &facts);
    let registered = logged_in.cancel_key.map(|key| service.registry.register(key));

    let mut observer = Observer { watch: Watch::new(), service };
    observer.watch.on_upstream(&logged_in.greeting);
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
    if let Some(words) = last_words(&end.reason, &observer.watch) {
        farewell(&mut client.stream, &words).await;
    }
    // In order, so that the server's log shows no lost connection.
    let _ = timeout(FAREWELL_TIMEOUT, stream.shutdown()).await;
}

/// The client's startup with what the configuration decides.
fn for_target(mut startup: Startup, target: &Target) -> Result<Startup, postgres::Error> {
    if let Some(database) = &target.database {
        // libpq names the user's database when it was told none.
        let given = startup.get(b"database").unwrap_or_default();
        if given.is_empty() || Some(given) == startup.get(b"user") {
            startup.set(b"database", database.as_bytes())?;
        }
    }
    if let Some(user) = &target.user {
        startup.set(b"user", user.as_bytes())?;
    }
    Ok(startup)
}

fn text(startup: &Startup, name: &[u8]) -> String {
    String::from_utf8_lossy(startup.get(name).unwrap_or_default()).into_owned()
}

/// Tells the client why it is not connected, and the log.
async fn refuse(mut client: Client, error: Error, service: &Service, user: &str) {
    let error = error.or_connect_timeout(client.arrival.deadline, service.connect_timeout);
    client.arrival.log_refused(service, user, &error);
    let facts = service.upstream.facts(&error).await;
    let login = Login { user, facts: &facts };
    if let Some(response) = error.response(service.upstream.target(), &login) {
        farewell(&mut client.stream, &response).await;
    }
}

/// What the client hears of an end that is not its own.
fn last_words(reason: &Reason, watch: &Watch) -> Option<Vec<u8>> {
    let (sqlstate, message, hint) = match reason {
        Reason::Stopped | Reason::Cut => {
            (ADMIN_SHUTDOWN, "terminating connection: rdsgate is shutting down".into(), None)
        }
        Reason::Broke(Side::Upstream, cause) => (
            CONNECTION_FAILURE,
            format!("the connection to the database was lost: {cause}"),
            Some("Connect again. A transaction that was open is rolled back.".into()),
        ),
        Reason::Closed(_) | Reason::Broke(Side::Client, _) => return None,
    };
    // In the middle of a message an error would be read as its rest.
    watch.at_boundary().then(|| ErrorReport { sqlstate, message, detail: None, hint }.encode())
}

/// The tap of a PostgreSQL connection.
struct Observer<'a> {
    watch: Watch,
    service: &'a Service,
}

impl Tap for Observer<'_> {
    fn on_client(&mut self, bytes: &[u8]) {
        self.service.connections.sent(bytes.len());
        self.watch.on_client(bytes);
    }

    fn on_upstream(&mut self, bytes: &[u8]) {
        self.service.connections.received(bytes.len());
        self.watch.on_upstream(bytes);
        if self.watch.take_refused_to_write() {
            self.service.upstream.on_refused_to_write();
        }
    }

    fn may_stop(&self) -> bool {
        self.watch.state() == Activity::Idle && self.watch.at_boundary()
    }
}
