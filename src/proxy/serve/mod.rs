//! The life of one connection, from accept to its log line. What the engines have in common is here; what their clients
//! say and hear is in a file for each.

mod mysql;
mod postgres;

pub use self::mysql::keep;

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    sync::Semaphore,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::{
    error::{self, Error},
    names::Configured,
    registry::Registry,
    stage::Stage,
    upstream::{Facts, Upstream},
};
use crate::{
    connect::Deadline,
    engine::{Failure, Follow, Names, Replaced, Request},
    limits::{CLIENT_STARTUP_TIMEOUT as STARTUP_TIMEOUT, FACTS_TIMEOUT},
    listen::{
        self, Accepted, Peer,
        access::{self, User},
    },
    stream::relay::{self, End, Reason, Side},
    target::{Engine, Target},
    telemetry::metrics::{Connections, LabelValues, Metrics},
};

/// For an error to be written to a client that may have stopped reading.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// Clients of other users that are heard out at a time, for each target: each has a file of ours for as long.
const STRANGERS: usize = 16;

/// Room for clients of other users. Clones share it.
#[derive(Debug, Clone)]
pub struct Strangers(Arc<Semaphore>);

impl Default for Strangers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(STRANGERS)))
    }
}

/// What all connections of a target share.
pub struct Service {
    /// The way to the database.
    pub upstream: Upstream,
    /// The cancel keys that were handed out.
    pub registry: Registry,
    /// Their counts.
    pub connections: Connections,
    /// The clients of other users that are being refused.
    pub strangers: Strangers,
    /// From accept to login.
    pub connect_timeout: Duration,
    /// Idle connections end now, busy ones when they become idle.
    pub drain: CancellationToken,
    /// All connections end now.
    pub abort: CancellationToken,
}

impl Service {
    /// The same target's service by another way to its database. Counts, cancel keys and the end are shared.
    #[must_use]
    pub fn by(&self, upstream: Upstream) -> Self {
        Self {
            upstream,
            registry: self.registry.clone(),
            connections: self.connections.clone(),
            strangers: self.strangers.clone(),
            connect_timeout: self.connect_timeout,
            drain: self.drain.clone(),
            abort: self.abort.clone(),
        }
    }
}

/// The service that a target's new connections get. It is replaced when the target's name leads to another database;
/// connections keep the one that they began with.
pub struct CurrentService(RwLock<Arc<Service>>);

impl CurrentService {
    /// The first one.
    pub fn new(service: Service) -> Self {
        Self(RwLock::new(Arc::new(service)))
    }

    /// The one that a connection gets now.
    pub fn get(&self) -> Arc<Service> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another one in its place.
    pub fn replace(&self, service: Arc<Service>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = service;
    }
}

/// How a connection that was logged in can end: which side ended it, and why.
const ENDS: [(&str, &str); 6] = [
    ("client", "closed"),
    ("client", "broken"),
    ("upstream", "closed"),
    ("upstream", "broken"),
    ("proxy", "stopped"),
    ("proxy", "cut"),
];

/// The counts of a target's connections, with the words used here.
pub fn counts(metrics: &Metrics, target: &Target) -> Connections {
    metrics.for_target(&target.name, &LabelValues { stages: &Stage::ALL.map(Stage::label), ends: &ENDS })
}

/// One of [`ENDS`].
fn how(reason: &Reason) -> (&'static str, &'static str) {
    match reason {
        Reason::Closed(Side::Client) => ("client", "closed"),
        Reason::Broke(Side::Client, _) => ("client", "broken"),
        Reason::Closed(Side::Upstream) => ("upstream", "closed"),
        Reason::Broke(Side::Upstream, _) => ("upstream", "broken"),
        Reason::Stopped => ("proxy", "stopped"),
        Reason::Cut => ("proxy", "cut"),
    }
}

/// One accepted client.
struct Client {
    stream: listen::Stream,
    arrival: Arrival,
}

/// When and whence a client came.
#[derive(Clone, Copy)]
struct Arrival {
    peer: Peer,
    accepted: Instant,
    /// For the whole of connecting.
    deadline: Instant,
    /// The limits of that.
    limits: Deadline,
}

/// Serves one client, which was accepted at `accepted`, to its end; writes the connection's log line.
pub async fn serve(service: &Service, Accepted { stream, peer }: Accepted, accepted: Instant) {
    let _open = service.connections.accepted();
    let limits = Deadline::of_client(accepted, service.connect_timeout);
    let arrival = Arrival { peer, accepted, deadline: accepted + service.connect_timeout, limits };
    let client = Client { stream, arrival };
    // The engines say why to those who are not admitted; this is about how many are told at a time.
    let _room = match access::check(peer) {
        Err(refused) if refused.is_stranger() => match service.strangers.0.try_acquire() {
            Ok(room) => Some(room),
            Err(_) => return arrival.log_refused(service, "", &refused.into()),
        },
        _ => None,
    };
    let serving = async {
        match service.upstream.target().engine {
            Engine::Postgres => postgres::serve(service, client).await,
            Engine::Mysql => mysql::serve(service, client).await,
        }
    };
    // Each part hears of the end by itself; this is for one that does not.
    let cut = async {
        service.abort.cancelled().await;
        sleep(FAREWELL_TIMEOUT).await;
    };
    tokio::select! {
        () = serving => {}
        () = cut => {}
    }
}

/// Lets the client say its first word, for not too long, and not when the proxy ends.
async fn in_time<T>(service: &Service, deadline: Instant, reading: impl Future<Output = T>) -> Result<T, Error> {
    let limit = deadline.min(Instant::now() + STARTUP_TIMEOUT);
    tokio::select! {
        biased;
        read = timeout_at(limit, reading) => {
            read.map_err(|_| Error::StartupTimeout(STARTUP_TIMEOUT))
        }
        () = service.drain.cancelled() => Err(Error::ShuttingDown),
    }
}

impl Client {
    /// Resolves when the client has closed or said `goodbye`. One that sends something else early is there, and its bytes
    /// stay where they are.
    async fn left<const N: usize>(&mut self, goodbye: &[u8; N]) {
        let gone = async {
            let mut first = [0; N];
            match self.stream.peek(&mut first).await {
                Ok(0) | Err(_) => Some(()),
                Ok(_) => (first == *goodbye).then_some(()),
            }
        };
        if gone.await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// Puts the configured user and database where the client named none; the names that it had sent, where they were replaced.
fn apply_configured_names<'a>(
    request: &mut impl Request,
    service: &'a Service,
    arrival: Arrival,
    owner: User,
) -> Result<Replaced<'a>, Error> {
    let sent = request.names();
    let configured = Configured::for_client(service.upstream.target(), sent, owner)?;
    let replaced = configured.replaced(sent);
    arrival.log_replaced(service, sent, replaced);
    if let Some(user) = configured.user {
        request.set_user(user).map_err(Error::Client)?;
    }
    if let Some(database) = configured.database {
        request.set_database(database).map_err(Error::Client)?;
    }
    Ok(replaced)
}

/// Writes to the log and to the client why it is not connected. `reply` puts the failure in the words of the engine.
async fn refuse(
    mut client: Client,
    error: Error,
    service: &Service,
    user: &str,
    reply: impl FnOnce(Failure<'_>) -> Option<Vec<u8>>,
) {
    let error = error.or_connect_timeout(client.arrival.deadline, service.connect_timeout);
    client.arrival.log_refused(service, user, &error);
    // What AWS knows that explains it, if it says so before the client gives up.
    let limit = client.arrival.limits.left_to_explain(FACTS_TIMEOUT);
    let facts = timeout(limit, service.upstream.facts(&error)).await.unwrap_or_default();
    let login = error::Login { user, facts: &facts };
    if let Some(message) = error.failure(service.upstream.target(), &login).and_then(reply) {
        farewell(&mut client.stream, &message).await;
    }
}

/// Says a last word to a client and closes.
async fn farewell(client: &mut (impl AsyncWrite + Unpin), words: &[u8]) {
    let said = async {
        client.write_all(words).await?;
        client.shutdown().await
    };
    let _ = timeout(FAREWELL_TIMEOUT, said).await;
}

/// Follows a connection for the relay, and counts its bytes.
struct Observer<'a, T> {
    tap: T,
    service: &'a Service,
    arrival: Arrival,
}

impl<T: Follow> relay::Tap for Observer<'_, T> {
    fn on_client(&mut self, bytes: &[u8]) {
        self.service.connections.sent(bytes.len());
        self.tap.on_client(bytes);
    }

    fn on_upstream(&mut self, bytes: &[u8]) {
        self.service.connections.received(bytes.len());
        self.tap.on_upstream(bytes);
        if self.tap.take_refused_to_write() {
            self.service.upstream.on_refused_to_write();
        }
    }

    fn may_stop(&self) -> bool {
        self.tap.may_stop()
    }

    fn is_busy(&self) -> bool {
        self.tap.is_busy()
    }

    fn client_is_gone(&self) -> bool {
        self.arrival.client_is_gone()
    }

    fn is_over(&self) -> bool {
        self.tap.is_over()
    }
}

impl Arrival {
    /// Whether the client has closed its socket altogether, or ended.
    fn client_is_gone(&self) -> bool {
        matches!(access::check(self.peer), Err(access::Error::Gone))
    }

    fn log_refused(&self, service: &Service, user: &str, error: &Error) {
        let (name, stage, cause) = (&service.upstream.target().name, error.stage().as_str(), error.message());
        if error.is_clients_departure() {
            debug!(target = %name, peer = %self.peer, user, cause, "no connection");
        } else {
            service.connections.refused(error.stage().label());
            info!(target = %name, peer = %self.peer, user, stage, cause, "connection refused");
        }
    }

    /// Names that the client sent and that gave way to configured ones.
    fn log_replaced(&self, service: &Service, sent: Names<'_>, replaced: Replaced<'_>) {
        let Replaced { user, database } = replaced;
        if user.is_some() || database.is_some() {
            let text = String::from_utf8_lossy;
            info!(
                target = %service.upstream.target().name,
                peer = %self.peer,
                sent_user = %text(sent.user),
                user = user.unwrap_or("as sent"),
                sent_database = %text(sent.database),
                database = database.unwrap_or("as sent"),
                "the client named no user or database of its own: using the configured one"
            );
        }
    }

    fn log_logged_in(&self, service: &Service, user: &str, server_version: Option<&str>, facts: &Facts) {
        let Facts { session, verified, token_length, token_expires, steps, .. } = facts;
        let took = steps.iter().map(|(step, took)| (step.label(), *took));
        service.connections.logged_in(self.accepted.elapsed(), took);
        let lifetime = token_expires.duration_since(SystemTime::now()).unwrap_or_default();
        let stages: Vec<String> =
            steps.iter().map(|(step, took)| format!("{}={:.1}", step.as_str(), took.as_secs_f64() * 1e3)).collect();
        debug!(
            target = %service.upstream.target().name,
            user,
            session = session.as_deref().unwrap_or("-"),
            route = if session.is_some() { "ssm" } else { "direct" },
            host = %verified.host,
            issuer = verified.issuer,
            certificate_until = verified.not_after,
            tls = verified.protocol,
            token_length,
            token_lifetime_s = lifetime.as_secs(),
            server_version = server_version.unwrap_or("-"),
            stages_ms = stages.join(", "),
            total_ms = millis(self.accepted),
            "logged in"
        );
    }

    fn log_end(&self, service: &Service, user: &str, database: &str, facts: &Facts, end: &End) {
        let (side, reason) = how(&end.reason);
        service.connections.ended(side, reason);
        let reason = match &end.reason {
            Reason::Closed(_) => reason.into(),
            Reason::Broke(_, cause) => cause.to_string(),
            Reason::Stopped => "shutting down".into(),
            Reason::Cut => "cut while shutting down".into(),
        };
        info!(
            target = %service.upstream.target().name,
            peer = %self.peer,
            user,
            database,
            session = facts.session.as_deref().unwrap_or("-"),
            side,
            reason,
            sent = end.to_upstream,
            received = end.to_client,
            duration_ms = millis(self.accepted),
            "connection ended"
        );
    }
}

/// A number in the JSON log too, where 128 bits would be a string.
fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn every_end_is_counted_from_zero() {
        let broke = |side| Reason::Broke(side, io::ErrorKind::ConnectionReset.into());
        let reasons = [
            Reason::Closed(Side::Client),
            broke(Side::Client),
            Reason::Closed(Side::Upstream),
            broke(Side::Upstream),
            Reason::Stopped,
            Reason::Cut,
        ];
        assert_eq!(reasons.each_ref().map(how), ENDS);
    }
}
