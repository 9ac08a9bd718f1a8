//! Serving one PostgreSQL client: startup, login upstream, relay, the truth at the end.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    io::{AsyncWriteExt, Interest},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::{
    access,
    error::{Error, Login},
    registry::Registry,
    upstream::{Established, Facts, Upstream},
};
use crate::{
    postgres::{
        self, Accepted, Activity, CancelRequest, ErrorReport, Startup, Watch,
        error::sqlstate::{ADMIN_SHUTDOWN, CANNOT_CONNECT_NOW, CONNECTION_FAILURE},
    },
    stream::relay::{End, Reason, Side, Tap, relay},
    target::Target,
};

/// For the client's startup packets: it has nothing to wait for.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(10);
/// For an error to be written to a client that may have stopped reading.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// What all connections of a target share.
pub struct Service {
    /// The way to the database.
    pub upstream: Upstream,
    /// The cancel keys that were handed out.
    pub registry: Registry,
    /// From accept to ReadyForQuery.
    pub connect_timeout: Duration,
    /// Idle connections end now, busy ones when they become idle.
    pub drain: CancellationToken,
    /// All connections end now.
    pub abort: CancellationToken,
}

/// Serves one client from accept to end; writes the connection's log line.
pub async fn serve(service: &Service, mut client: TcpStream, peer: SocketAddr, local: SocketAddr) {
    let started = Instant::now();
    let deadline = started + service.connect_timeout;
    let target = Arc::clone(service.upstream.target());
    let accepted = match accept(&mut client, peer, local, deadline).await {
        Ok(accepted) => accepted,
        Err(error) => return refuse(&mut client, &error, service, "").await,
    };
    match accepted {
        Accepted::Gone { asked_for_tls: true } => info!(
            target = %target.name, %peer,
            "the client left when it heard that this listener has no TLS of its own; use sslmode=disable or prefer"
        ),
        Accepted::Gone { asked_for_tls: false } => debug!(target = %target.name, %peer, "port probe"),
        Accepted::Cancel(request) => cancel(service, &request).await,
        Accepted::Startup(startup) => connect(service, client, startup, peer, deadline).await,
    }
}

async fn accept(
    client: &mut TcpStream,
    peer: SocketAddr,
    local: SocketAddr,
    deadline: Instant,
) -> Result<Accepted, Error> {
    let admitted = access::check_peer(peer, local);
    let limit = Instant::now() + STARTUP_TIMEOUT;
    // A client that is not admitted is heard out all the same: it understands an error only after its startup.
    let accepted = timeout_at(limit.min(deadline), postgres::accept(client)).await;
    admitted?;
    accepted
        .map_err(|_| Error::Timeout { stage: super::error::Stage::Client, after: STARTUP_TIMEOUT })?
        .map_err(Error::Client)
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

async fn connect(service: &Service, mut client: TcpStream, startup: Startup, peer: SocketAddr, deadline: Instant) {
    let started = Instant::now();
    let startup = match for_target(startup, service.upstream.target()) {
        Ok(startup) => startup,
        Err(error) => return refuse(&mut client, &Error::Client(error), service, "").await,
    };
    let user = text(&startup, b"user");
    let established = tokio::select! {
        // In a box: what connecting needs is many times what a connection holds afterwards.
        established = Box::pin(service.upstream.log_in(&startup, deadline)) => established,
        () = left(&client) => Err(Error::ClientLeft),
        () = service.drain.cancelled() => Err(Error::ShuttingDown),
    };
    let established = match established {
        Ok(established) => established,
        Err(error) => return refuse(&mut client, &error, service, &user).await,
    };
    log_established(service, &established, &user, started);
    let database = text(&startup, b"database");
    let Established { mut stream, logged_in, facts } = established;
    let _registered = logged_in.cancel_key.map(|key| service.registry.register(key));

    let mut watch = Observer(Watch::new());
    watch.0.on_upstream(&logged_in.greeting);
    let greeted = tokio::select! {
        greeted = client.write_all(&logged_in.greeting) => greeted,
        () = service.abort.cancelled() => return,
    };
    let end = match greeted {
        Ok(()) => tokio::select! {
            end = relay(&mut client, &mut stream, &mut watch, service.drain.cancelled()) => end,
            () = service.abort.cancelled() => End { reason: Reason::Stopped, to_upstream: 0, to_client: 0 },
        },
        Err(error) => End { reason: Reason::Broke(Side::Client, error), to_upstream: 0, to_client: 0 },
    };
    let (side, reason) = describe(&end.reason);
    info!(
        target = %service.upstream.target().name,
        %peer,
        user,
        database,
        session = facts.session.as_deref().unwrap_or("-"),
        side,
        reason,
        sent = end.to_upstream,
        received = end.to_client,
        duration_ms = millis(started),
        "connection ended"
    );
    say_farewell(&mut client, &end.reason, &watch.0).await;
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

/// Resolves when the client has closed. One that sends something early is there, and its bytes stay where they are.
async fn left(client: &TcpStream) {
    let gone = async {
        client.ready(Interest::READABLE).await.ok()?;
        matches!(client.peek(&mut [0]).await, Ok(0) | Err(_)).then_some(())
    };
    if gone.await.is_none() {
        std::future::pending::<()>().await;
    }
}

fn log_established(service: &Service, established: &Established, user: &str, started: Instant) {
    let Facts { session, verified, token_length, token_expires, stages } = &established.facts;
    let lifetime = token_expires.duration_since(SystemTime::now()).unwrap_or_default();
    let stages: Vec<String> =
        stages.iter().map(|(stage, took)| format!("{}={:.1}", stage.as_str(), took.as_secs_f64() * 1e3)).collect();
    debug!(
        target = %service.upstream.target().name,
        user,
        session = session.as_deref().unwrap_or("-"),
        route = %service.upstream.target().route,
        host = %verified.host,
        issuer = verified.issuer,
        certificate_until = verified.not_after,
        tls = verified.protocol,
        token_length,
        token_lifetime_s = lifetime.as_secs(),
        server_version = established.logged_in.server_version.as_deref().unwrap_or("-"),
        stages_ms = stages.join(", "),
        total_ms = millis(started),
        "logged in"
    );
}

/// A number in the JSON log too, where 128 bits would be a string.
fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Tells the client why it is not connected, and the log.
async fn refuse(client: &mut TcpStream, error: &Error, service: &Service, user: &str) {
    let target = service.upstream.target();
    match error {
        Error::ClientLeft | Error::Access(access::Error::Gone) => {
            debug!(target = %target.name, cause = %error.message(), "no connection");
        }
        _ => {
            info!(target = %target.name, user, stage = error.stage().as_str(), cause = %error.message(), "connection refused");
        }
    }
    let principal = match error {
        Error::Login(_) => service.upstream.principal().await,
        _ => None,
    };
    let login = Login { user, principal: principal.as_ref() };
    if let Some(response) = error.response(target, &login) {
        farewell(client, &response).await;
    }
}

async fn say_farewell(client: &mut TcpStream, reason: &Reason, watch: &Watch) {
    // In the middle of a message an error would be read as its rest.
    if !watch.at_boundary() {
        return;
    }
    let (sqlstate, message, hint) = match reason {
        Reason::Stopped => (ADMIN_SHUTDOWN, "terminating connection: rdsgate is shutting down".into(), None),
        Reason::Broke(Side::Upstream, cause) => (
            CONNECTION_FAILURE,
            format!("the connection to the database was lost: {cause}"),
            Some("Connect again. A transaction that was open is rolled back.".into()),
        ),
        Reason::Closed(_) | Reason::Broke(Side::Client, _) => return,
    };
    farewell(client, &ErrorReport { sqlstate, message, detail: None, hint }.encode()).await;
}

async fn farewell(client: &mut TcpStream, response: &[u8]) {
    let said = async {
        client.write_all(response).await?;
        client.shutdown().await
    };
    let _ = timeout(FAREWELL_TIMEOUT, said).await;
}

fn describe(reason: &Reason) -> (&'static str, String) {
    match reason {
        Reason::Closed(Side::Client) => ("client", "closed".into()),
        Reason::Closed(Side::Upstream) => ("upstream", "closed".into()),
        Reason::Broke(Side::Client, cause) => ("client", cause.to_string()),
        Reason::Broke(Side::Upstream, cause) => ("upstream", cause.to_string()),
        Reason::Stopped => ("proxy", "shutting down".into()),
    }
}

/// The tap of a PostgreSQL connection.
struct Observer(Watch);

impl Tap for Observer {
    fn on_client(&mut self, bytes: &[u8]) {
        self.0.on_client(bytes);
    }

    fn on_upstream(&mut self, bytes: &[u8]) {
        self.0.on_upstream(bytes);
    }

    fn may_stop(&self) -> bool {
        self.0.state() == Activity::Idle && self.0.at_boundary()
    }
}

/// What a client hears that comes while the proxy is stopping.
pub fn shutting_down() -> Vec<u8> {
    let message = "rdsgate is shutting down".into();
    ErrorReport { sqlstate: CANNOT_CONNECT_NOW, message, detail: None, hint: None }.encode()
}
