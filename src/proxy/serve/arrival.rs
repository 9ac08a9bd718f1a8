//! A client from its acceptance on, and the log lines about it.

use std::{
    future::pending,
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{io::AsyncWriteExt as _, time::Instant};
use tracing::{debug, info, warn};

use super::service::{Service, how};
use crate::{
    connect::{self, Deadline, Record},
    engine::{Names, Replaced},
    listen::{self, Peer, access},
    login,
    proxy::{
        error::Error,
        open::{Connection, Login},
    },
    stream::relay::{End, Reason, Side},
    tls::local::Leaf,
    tunnel::StreamError,
};

/// One accepted client.
pub(super) struct Client {
    pub(super) stream: listen::Stream,
    pub(super) arrival: Arrival,
    /// The certificate of its TLS; `None` for a client in clear.
    pub(super) certificate: Option<Arc<Leaf>>,
    /// Its place in the list of open connections.
    pub(super) connection: Arc<Connection>,
}

/// When and from where a client connected.
#[derive(Clone, Copy)]
pub(super) struct Arrival {
    pub(super) peer: Peer,
    accepted: Instant,
    /// The end of the time for connecting, all steps together.
    pub(super) deadline: Instant,
    /// The limits of the single steps.
    pub(super) limits: Deadline,
}

impl Client {
    /// Shows the login in the list of open connections.
    pub(super) fn show_login(&self, user: &str, database: &str, record: &Record) {
        let session = record.session.clone();
        self.connection.logged_in(Login { user: user.into(), database: database.into(), session });
    }

    /// Does the TLS handshake that the client has asked for, or has begun with the bytes that were `read`. `answer` is sent before.
    /// The caller sets the deadline.
    pub(super) async fn start_tls(&mut self, service: &Service, answer: &[u8], read: &[u8]) -> Result<(), Error> {
        let broke = |cause: io::Error| Error::LocalTls(cause.into());
        let Some(server) = &service.local_tls else { return Err(broke(io::ErrorKind::Unsupported.into())) };
        let leaf = server.leaf(SystemTime::now());
        self.stream.write_all(answer).await.map_err(broke)?;
        self.stream.unread(read);
        self.stream.start_tls(leaf.config()).await.map_err(broke)?;
        self.certificate = Some(leaf);
        Ok(())
    }

    /// Resolves when the client has closed or said `goodbye`. A client that sends something else early has not left, and its bytes
    /// stay unread.
    pub(super) async fn left(&mut self, goodbye: &[u8]) {
        let mut first = vec![0; goodbye.len().max(1)];
        let is_gone = match self.stream.peek(&mut first).await {
            // A client without a goodbye may have half-closed and wait for a reply.
            Ok(0) => !goodbye.is_empty() || self.arrival.client_is_gone(),
            Err(_) => true,
            Ok(n) => !goodbye.is_empty() && first.get(..n) == Some(goodbye),
        };
        if !is_gone {
            pending::<()>().await;
        }
    }
}

impl Arrival {
    /// Of a client that was accepted at `accepted`, and has `connect_timeout` to be connected.
    pub(super) fn new(peer: Peer, accepted: Instant, connect_timeout: Duration) -> Self {
        let limits = Deadline::of_client(accepted, connect_timeout);
        Self { peer, accepted, deadline: accepted + connect_timeout, limits }
    }

    /// Whether the client has closed its socket altogether, or ended.
    pub(super) fn client_is_gone(&self) -> bool {
        matches!(access::check(self.peer, &[]), Err(access::Error::Gone))
    }

    pub(super) fn log_refused(&self, service: &Service, user: &str, error: &Error) {
        let target = service.upstream.target();
        let (name, stage, cause) = (&target.name, error.stage().name(target.remote()), error.message(target));
        if error.is_clients_departure() {
            debug!(target = %name, peer = %self.peer, user, cause, "no connection");
        } else {
            service.connections.refused(error.stage().label());
            if target.engine.is_database() {
                info!(target = %name, peer = %self.peer, user, stage, cause, "connection refused");
            } else {
                // The client learns nothing.
                let hint = error.hint(target);
                warn!(target = %name, peer = %self.peer, stage, cause, hint, "connection refused");
            }
        }
    }

    /// Logs the names that the client sent and that configured ones replace.
    pub(super) fn log_replaced(&self, service: &Service, sent: Names<'_>, replaced: Replaced<'_>) {
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

    pub(super) fn log_logged_in(&self, service: &Service, user: &str, record: &Record) {
        let Record { session, verified, login, steps, server_version, reused } = record;
        let took = steps.iter().map(|(step, took)| (step.label(), *took));
        service.connections.logged_in(self.accepted.elapsed(), took);
        service.last_failure.logged_in();
        if *reused {
            service.connections.reused();
        }
        let (auth, token) = match login {
            Some(login::Record::Token { length, expires }) => {
                (None, Some((*length, expires.duration_since(SystemTime::now()).unwrap_or_default())))
            }
            Some(login::Record::Password) => (Some("password"), None),
            Some(login::Record::Secret) => (Some("secret"), None),
            None => (None, None),
        };
        let remote = service.upstream.target().remote();
        let stages: Vec<String> =
            steps.iter().map(|(step, took)| format!("{}={:.1}", step.name(remote), took.as_secs_f64() * 1e3)).collect();
        debug!(
            target = %service.upstream.target().name,
            user,
            session = session.as_deref().unwrap_or("-"),
            route = if session.is_some() { "ssm" } else { "direct" },
            host = %service.upstream.target().endpoint.host,
            issuer = verified.as_ref().map(|verified| &*verified.issuer),
            certificate_until = verified.as_ref().map(|verified| &*verified.not_after),
            tls = verified.as_ref().map(|verified| verified.protocol),
            auth,
            token_length = token.map(|(length, _)| length),
            token_lifetime_s = token.map(|(_, lifetime)| lifetime.as_secs()),
            server_version = server_version.as_deref().unwrap_or("-"),
            stages_ms = stages.join(", "),
            total_ms = millis(self.accepted),
            reused,
            "logged in"
        );
    }

    /// Logs the end of a connection. Where the client has no protocol for an error, the log has the remedy.
    pub(super) fn log_end(&self, service: &Service, user: &str, database: &str, record: &Record, end: &End) {
        let target = service.upstream.target();
        let (side, reason) = how(&end.reason);
        service.connections.ended(side, reason);
        let reason = match &end.reason {
            Reason::Closed(_) => reason.into(),
            Reason::Broke(_, cause) => match StreamError::from_io(cause) {
                Some(error) => error.message(target.remote()),
                None => cause.to_string(),
            },
            Reason::Stopped => "shutting down".into(),
            Reason::Cut => "cut while shutting down".into(),
        };
        let has_words = target.engine.is_database();
        let lost = match &end.reason {
            Reason::Broke(Side::Upstream, cause) if !has_words => Some(StreamError::from_io(cause).cloned()),
            _ => None,
        };
        let error = lost.clone().flatten().map(|cause| Error::from(connect::Error::Stream(cause)));
        if let Some(error) = error.as_ref().filter(|_| end.to_client == 0) {
            service.found_failure(error);
        }
        let hint = error.and_then(|error| error.hint(target));
        macro_rules! line {
            ($level:ident) => {
                $level!(
                    target = %target.name,
                    peer = %self.peer,
                    user = has_words.then_some(user),
                    database = has_words.then_some(database),
                    session = record.session.as_deref().unwrap_or("-"),
                    side,
                    reason,
                    sent = end.to_upstream,
                    received = end.to_client,
                    duration_ms = millis(self.accepted),
                    hint,
                    "connection ended"
                )
            };
        }
        if lost.is_some() { line!(warn) } else { line!(info) }
    }
}

/// A number in the JSON log too, where 128 bits would be a string.
fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
