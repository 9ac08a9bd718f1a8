//! The connections to one target's database, ready for queries: what they share, what has been learnt about the server, and
//! what the proxy adds to the steps of [`connect`](crate::connect), the guard above all.

mod greeted;
mod mysql;
mod postgres;
mod retire;
mod spares;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use tracing::debug;

pub use self::greeted::Greeted;
use self::spares::Spares;
use super::{error, explain::Explainer, facts};
use crate::{
    aws::{Account, Principal},
    connect::{Attempt, Deadline, Error, Plan, Server, Step, Stream},
    login::Proof,
    target::{Engine, Target},
    tls::{self, Verified},
    tunnel::{self, Dialer, pool::Pool},
};

/// What connections to one target share.
pub struct Upstream {
    target: Arc<Target>,
    account: Account,
    dialer: Dialer,
    tls: tls::Connector,
    /// The server does not take startup and password together. Set by the first login that it dropped so, never cleared.
    sequential_login: AtomicBool,
    /// A MySQL server has accepted a token that was sent before it asked.
    early_token_taken: AtomicBool,
    /// A MySQL server has refused a login with such a token: from then on it gets the token when it asks.
    token_when_asked: AtomicBool,
    /// STS did not tell our principal; it is not asked again.
    principal_unavailable: AtomicBool,
    explainer: Explainer,
    spares: Spares,
    /// The log has said that the server does not offer the configured compression.
    compression_missing_logged: AtomicBool,
}

/// A connection that is logged in. `L` is the outcome of the engine's login, `S` the stream that it goes on with.
pub struct Established<L, S = Stream> {
    /// The stream, ready for the client's first command.
    pub stream: S,
    /// The server's part of the login, which the client is to be told.
    pub logged_in: L,
    /// The record of the connection, for the log.
    pub facts: Facts,
}

/// Which server a connection has reached, through which session.
struct Reached {
    session: Option<Arc<str>>,
    server: Option<Server>,
}

/// The record of a connection, for the log. Nothing secret.
#[derive(Debug)]
pub struct Facts {
    /// The SSM session; `None` on the direct route.
    pub session: Option<Arc<str>>,
    /// The server that was reached, for a cancel request.
    pub server: Option<Server>,
    /// What TLS verified.
    pub verified: Verified,
    /// Characters of the token.
    pub token_length: usize,
    /// When it stops being accepted.
    pub token_expires: SystemTime,
    /// The duration of each step.
    pub steps: Vec<(Step, Duration)>,
}

impl Facts {
    fn new(Reached { session, server }: Reached, verified: Verified, proof: &Proof, attempt: Attempt) -> Self {
        let (token_length, token_expires) = (proof.len(), proof.expires_at());
        Self { session, server, verified, token_length, token_expires, steps: attempt.steps }
    }
}

impl Upstream {
    /// What connections to `target` will share.
    pub fn new(target: Arc<Target>, account: Account, dialer: Dialer, tls: tls::Connector) -> Self {
        let explainer = Explainer::new(Arc::clone(&target), account.clone());
        Self {
            target,
            account,
            dialer,
            tls,
            sequential_login: AtomicBool::new(false),
            early_token_taken: AtomicBool::new(false),
            token_when_asked: AtomicBool::new(false),
            principal_unavailable: AtomicBool::new(false),
            explainer,
            spares: Spares::default(),
            compression_missing_logged: AtomicBool::new(false),
        }
    }

    /// The AWS account of the target.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// The route to the database.
    pub fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// How the database's certificate is verified.
    pub fn tls(&self) -> &tls::Connector {
        &self.tls
    }

    /// The target.
    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// Facts from AWS that explain an error, as far as it gives them in time.
    pub async fn facts(&self, error: &error::Error) -> facts::Facts {
        self.explainer.facts(error).await
    }

    /// Whether a person can be asked to log in when a client needs credentials.
    pub fn may_ask(&self) -> bool {
        self.account.may_ask()
    }

    /// Asks for credentials before the first client needs them. No person is asked for anything.
    ///
    /// # Errors
    /// The error that the first client would meet.
    pub async fn check_credentials(&self) -> Result<(), crate::aws::Error> {
        self.account.credentials().await.map(drop)
    }

    /// Opens the sessions that are to be open before the first client comes.
    ///
    /// # Errors
    /// The error that the first client would meet.
    pub async fn warm(&self) -> Result<(), Error> {
        self.dialer.warm().await.map_err(Error::Route)
    }

    /// A cluster writer has refused to write: its name may lead to another server by now.
    pub fn on_refused_to_write(&self) {
        // A session that the guard makes read only says nothing about the server.
        if self.target.endpoint.service().is_writer() && !self.target.guard.read_only {
            self.dialer.suspect_failover();
        }
    }

    fn note_failover<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        result.inspect_err(|error| {
            if error.suggests_failover() {
                self.dialer.suspect_failover();
            }
            if error.is_refused_login() {
                self.account.login_was_refused();
            }
        })
    }

    /// The route's sessions, which other targets may share; `None` when it has none.
    pub fn pool(&self) -> Option<&Pool> {
        self.dialer.pool()
    }

    /// Goes to the database as far as it is possible without a user, before `deadline`: with PostgreSQL that is TLS, with
    /// MySQL its greeting. Afterwards the route has what the first client needs; a greeted connection is for
    /// [`keep_spare`](Self::keep_spare).
    ///
    /// # Errors
    /// [`Error`], by step.
    pub async fn reach(&self, deadline: Deadline) -> Result<Option<Greeted>, Error> {
        match self.target.engine {
            Engine::Postgres => self.reach_postgres(deadline).await.map(|()| None),
            Engine::Mysql => self.greet_mysql(deadline).await.map(Some),
        }
    }

    fn plan(&self) -> Plan<'_> {
        Plan { target: &self.target, account: &self.account, dialer: &self.dialer }
    }

    /// Who we are for AWS, as databases are told.
    fn principal(&self) -> Option<&str> {
        self.account.known_principal().map(Principal::short)
    }

    fn reached(&self, stream: &tunnel::Stream) -> Reached {
        Reached { session: stream.session_id(), server: Server::of(stream, &self.tls) }
    }

    /// Does `work`, and asks AWS for our principal meanwhile: never longer than `work` takes, and only until it is known.
    async fn with_principal_lookup<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        if self.account.known_principal().is_none() && !self.principal_unavailable.load(Ordering::Relaxed) {
            tokio::select! {
                done = &mut work => return done,
                principal = self.account.principal() => if let Err(error) = principal {
                    debug!(target = %self.target.name, %error, "cannot determine the IAM principal; connections will not be labelled");
                    self.principal_unavailable.store(true, Ordering::Relaxed);
                },
            }
        }
        work.await
    }
}
