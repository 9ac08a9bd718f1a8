//! The parts that all connections of a target share, and the words for their ends.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use database_wire::Encryption;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use super::gate::Gate;
use crate::{
    connect::Upstream,
    engine::{Failure, Kind, Order, client_first::NoAnswer},
    listen::{Peer, access},
    local_password::LocalPassword,
    proxy::{
        error::{Error, Login},
        explain::Explainer,
        facts::Facts,
        last_failure::LastFailure,
        open::OpenConnections,
        registry::Registry,
        stage::Stage,
    },
    stream::relay::{Reason, Side},
    target::{LocalTlsMode, Target},
    telemetry::metrics::{Connections, LabelValues, Metrics},
    tls,
};

/// Clients of other users that are heard out at a time, for each target: each has a file of ours for as long.
const STRANGERS: usize = 16;

/// Room for clients of other users. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Strangers(Arc<Semaphore>);

impl Default for Strangers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(STRANGERS)))
    }
}

impl Strangers {
    /// Room for one more; `None` when there is none.
    pub(super) fn admit(&self) -> Option<SemaphorePermit<'_>> {
        self.0.try_acquire().ok()
    }
}

/// One of the clients that a target has at a time, until this is dropped.
pub(super) struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The parts that all connections of a target share.
pub struct Service {
    /// The way to the database.
    pub upstream: Upstream,
    /// Their counts.
    pub connections: Connections,
    /// The open ones.
    pub open: OpenConnections,
    /// The last failure to connect to the database.
    pub last_failure: LastFailure,
    /// From accept to login.
    pub connect_timeout: Duration,
    /// The engine, and what has been learnt about the server.
    pub(super) engine: Order,
    /// TLS with clients, where it is offered.
    pub(super) local_tls: Option<Arc<tls::local::Server>>,
    explainer: Explainer,
    /// The cancel keys that were handed out.
    pub(super) registry: Registry,
    /// Judges clients by the password of the listener, if it has one.
    pub(super) gate: Option<Arc<Gate>>,
    /// The clients of other users that are being refused.
    pub(super) strangers: Strangers,
    /// The number of clients that have a [`Place`].
    places: Arc<AtomicUsize>,
    /// Idle connections end now, busy ones when they become idle.
    pub(super) drain: CancellationToken,
    /// All connections end now.
    pub(super) abort: CancellationToken,
}

impl Service {
    /// Of connections that end with `drain` when they are idle, and with `abort` at once.
    pub fn new(
        upstream: Upstream,
        connections: Connections,
        connect_timeout: Duration,
        drain: CancellationToken,
        abort: CancellationToken,
    ) -> Self {
        let engine = upstream.target().engine.order();
        let explainer = Explainer::new(Arc::clone(upstream.target()), upstream.account().clone());
        let (registry, strangers, open) = (Registry::default(), Strangers::default(), OpenConnections::default());
        let last_failure = LastFailure::default();
        Self {
            upstream,
            connections,
            open,
            last_failure,
            connect_timeout,
            engine,
            local_tls: None,
            explainer,
            registry,
            gate: None,
            strangers,
            places: Arc::default(),
            drain,
            abort,
        }
    }

    /// Serves clients with TLS, if there is a server for it.
    #[must_use]
    pub fn with_local_tls(self, local_tls: Option<Arc<tls::local::Server>>) -> Self {
        Self { local_tls, ..self }
    }

    /// Admits only clients that know the password, if there is one.
    #[must_use]
    pub fn with_password(self, password: Option<LocalPassword>) -> Self {
        Self { gate: password.map(|password| Arc::new(Gate::new(password))), ..self }
    }

    /// Admits a client by the kernel's facts about it.
    pub(super) fn admit(&self, peer: Peer) -> Result<access::User, access::Error> {
        let allowed = &self.upstream.target().allow_users;
        match self.gate {
            Some(_) => access::check_before_password(peer, allowed),
            None => access::check(peer, allowed),
        }
    }

    /// Whether a client is offered TLS.
    pub(super) fn encryption(&self, peer: Peer) -> Encryption {
        encryption(peer, self.upstream.target().local_tls.mode)
    }

    /// The same target's service by another way to its database. Counts, cancel keys and the end are shared.
    #[must_use]
    pub fn by(&self, upstream: Upstream) -> Self {
        let (drain, abort) = (self.drain.clone(), self.abort.clone());
        let other = Self::new(upstream, self.connections.clone(), self.connect_timeout, drain, abort);
        let (registry, strangers, open) = (self.registry.clone(), self.strangers.clone(), self.open.clone());
        let (last_failure, local_tls, gate) = (self.last_failure.clone(), self.local_tls.clone(), self.gate.clone());
        let places = Arc::clone(&self.places);
        Self { open, last_failure, local_tls, registry, gate, strangers, places, ..other }
    }

    /// A place for one more client that wants to log in.
    ///
    /// # Errors
    /// [`Error::TooManyClients`].
    pub(super) fn place(&self) -> Result<Place, Error> {
        let place = Place(Arc::clone(&self.places));
        let taken = self.places.fetch_add(1, Ordering::Relaxed);
        match self.upstream.target().max_connections {
            Some(most) if taken >= most => Err(Error::TooManyClients(most)),
            _ => Ok(place),
        }
    }

    /// The AWS credentials in use, as far as they can be shown. Makes no call.
    pub fn credentials(&self) -> Option<HeldCredentials> {
        let account = self.upstream.account();
        let held = account.held_credentials()?;
        let principal = account.known_principal().map(|principal| principal.arn.clone());
        Some(HeldCredentials { source: account.source(&held), expires: held.expiry(), principal })
    }

    /// Keeps a failure that was found without a client, as the first client would meet it.
    pub fn found_failure(&self, error: &Error) {
        self.keep_failure(error, &Login { user: "", facts: &Facts::default() });
    }

    /// Keeps the failure for reports, and returns it; `None` when the client has gone.
    pub(super) fn keep_failure<'a>(&'a self, error: &'a Error, login: &Login<'a>) -> Option<Failure<'a>> {
        let target = self.upstream.target();
        let failure = error.failure(target, login)?;
        // The reply of the engine has a hint of its own for a refused login.
        let refused = match failure.kind {
            Kind::Database(error) => (target.engine.facts().refusal_hint)(error, &failure.applicant()),
            _ => None,
        };
        self.last_failure.record(error.stage(), &failure, refused.as_deref(), Instant::now());
        Some(failure)
    }

    /// Why a login that waited for its client has come to nothing.
    pub(super) fn error_of(&self, no_answer: NoAnswer) -> Error {
        match no_answer {
            NoAnswer::Client(error) => Error::Client(error),
            NoAnswer::ClientTimeout(after) => Error::StartupTimeout(after),
            NoAnswer::Connect(error) => {
                self.upstream.note(&error);
                error.into()
            }
        }
    }

    /// Facts from AWS that explain an error, as far as it gives them in time.
    pub(super) async fn facts(&self, error: &Error) -> Facts {
        self.explainer.facts(error).await
    }
}

/// A client on a unix socket is not offered TLS, as by PostgreSQL and MySQL themselves; one that comes by a network must take it.
fn encryption(peer: Peer, mode: LocalTlsMode) -> Encryption {
    match (peer, mode) {
        (Peer::Unix { .. }, _) | (_, LocalTlsMode::Off) => Encryption::Off,
        (Peer::Tcp { local, .. }, LocalTlsMode::Offer) if local.ip().to_canonical().is_loopback() => {
            Encryption::Offered
        }
        (Peer::Tcp { .. }, LocalTlsMode::Offer | LocalTlsMode::Require) => Encryption::Required,
    }
}

/// The AWS credentials in use, without the keys.
#[derive(Debug, Clone)]
pub struct HeldCredentials {
    /// The place that they come from.
    pub source: String,
    /// The time of expiry; `None` for long-term keys.
    pub expires: Option<SystemTime>,
    /// The ARN of the principal, if STS has been asked.
    pub principal: Option<String>,
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

    /// Puts another one in its place, if it is still `known`.
    pub fn replace_if(&self, known: &Arc<Service>, service: &Arc<Service>) {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&current, known) {
            *current = Arc::clone(service);
        }
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
pub(super) fn how(reason: &Reason) -> (&'static str, &'static str) {
    match reason {
        Reason::Closed(Side::Client) => ("client", "closed"),
        Reason::Broke(Side::Client, _) => ("client", "broken"),
        Reason::Closed(Side::Upstream) => ("upstream", "closed"),
        Reason::Broke(Side::Upstream, _) => ("upstream", "broken"),
        Reason::Stopped => ("proxy", "stopped"),
        Reason::Cut => ("proxy", "cut"),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn offered_tls_is_required_of_other_machines() {
        let at = |local: &str| {
            let local = local.parse().unwrap();
            encryption(Peer::Tcp { remote: local, local }, LocalTlsMode::Offer)
        };
        for (local, expected) in [
            ("127.0.0.1:5432", Encryption::Offered),
            ("[::1]:5432", Encryption::Offered),
            ("[::ffff:127.0.0.1]:5432", Encryption::Offered),
            ("10.1.2.3:5432", Encryption::Required),
            ("[2001:db8::1]:5432", Encryption::Required),
        ] {
            assert_eq!(at(local), expected, "{local}");
        }
        assert_eq!(encryption(Peer::Unix { uid: Some(0) }, LocalTlsMode::Require), Encryption::Off);
    }

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
