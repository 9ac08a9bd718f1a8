//! The parts that all connections of the proxy to one database share, whatever the engine.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tracing::debug;

use super::{
    attempt::{Attempt, Deadline},
    error::Error,
    pace::Pace,
    plan::Plan,
    step::Step,
};
use crate::{
    aws::{self, Account, Principal},
    login::{self, Login, Proof},
    target::{Route, Target},
    tls::{self, Verified},
    tunnel::{Dialer, pool::Pool},
};

/// The values that one client may try after the kept one: AWSCURRENT, AWSPENDING.
const MORE_PASSWORDS: u8 = 2;

/// The parts that connections to one target share.
pub struct Upstream {
    target: Arc<Target>,
    account: Account,
    dialer: Dialer,
    tls: tls::Connector,
    pace: Arc<Pace>,
    /// STS did not tell our principal; it is not asked again.
    principal_unavailable: AtomicBool,
}

/// The record of a connection, for the log. Nothing secret.
#[derive(Debug)]
pub struct Record {
    /// The SSM session; `None` on the direct route.
    pub session: Option<Arc<str>>,
    /// The facts that TLS verified; `None` without TLS of ours.
    pub verified: Option<Verified>,
    /// The means of the login; `None` without a login.
    pub login: Option<login::Record>,
    /// The duration of each step.
    pub steps: Vec<(Step, Duration)>,
    /// The version that the server reports, if it does.
    pub server_version: Option<String>,
    /// Another client had the connection before.
    pub reused: bool,
}

impl Record {
    /// Of a connection that was logged in as `login` says.
    pub fn new(
        session: Option<Arc<str>>,
        verified: Verified,
        login: login::Record,
        attempt: Attempt,
        server_version: Option<String>,
    ) -> Self {
        let (verified, login) = (Some(verified), Some(login));
        Self { session, verified, login, steps: attempt.steps, server_version, reused: false }
    }

    /// Of a connection without TLS and login.
    pub fn without_login(session: Option<Arc<str>>, attempt: Attempt) -> Self {
        let steps = attempt.steps;
        Self { session, verified: None, login: None, steps, server_version: None, reused: false }
    }
}

/// The logins of one client with a password that rdsgate has: while the database refuses it, its source may have another value.
pub struct PasswordTries<'a> {
    target: &'a Target,
    left: u8,
    /// The last refusal of the database, which says more than the lack of another value.
    refusal: Option<Error>,
}

impl PasswordTries<'_> {
    /// The result of a login for the client; `None` if another login is to be tried.
    pub fn judge<T>(&mut self, result: Result<T, Error>) -> Option<Result<T, Error>> {
        match result {
            Err(error) if self.left > 0 && error.is_refused_password() && Login::of(self.target) == Login::Secret => {
                let cause = error.message(self.target.remote());
                debug!(target = %self.target.name, cause, "the database refused the password");
                self.left -= 1;
                self.refusal = Some(error);
                None
            }
            Err(error @ Error::Credentials(aws::Error::PasswordRefused { .. })) => {
                Some(Err(self.refusal.take().unwrap_or(error)))
            }
            result => Some(result),
        }
    }
}

impl Upstream {
    /// The parts that connections to `target` will share. Logins wait for their turns in `pace`.
    pub fn new(target: Arc<Target>, account: Account, dialer: Dialer, tls: tls::Connector, pace: Arc<Pace>) -> Self {
        Self { target, account, dialer, tls, pace, principal_unavailable: AtomicBool::new(false) }
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

    /// The queue of logins.
    pub fn pace(&self) -> &Arc<Pace> {
        &self.pace
    }

    /// The target.
    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// The steps of a connection.
    pub fn plan(&self) -> Plan<'_> {
        Plan { target: &self.target, account: &self.account, dialer: &self.dialer, pace: Some(&self.pace) }
    }

    /// The route's sessions, which other targets may share; `None` when it has none.
    pub fn pool(&self) -> Option<&Pool> {
        self.dialer.pool()
    }

    /// Whether a person can be asked to log in when a client needs credentials.
    pub fn may_ask(&self) -> bool {
        self.account.may_ask()
    }

    /// Whether every connection needs AWS credentials, for its login or for its route.
    pub fn needs_credentials(&self) -> bool {
        Login::of(&self.target).needs_credentials(&self.target) || matches!(self.target.route, Route::Ssm(_))
    }

    /// Asks for credentials before the first client needs them. No person is asked for anything.
    ///
    /// # Errors
    /// The error that the first client would meet.
    pub async fn check_credentials(&self) -> Result<(), aws::Error> {
        if self.needs_credentials() {
            self.account.credentials().await?;
        }
        Ok(())
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

    /// The only database user that clients can be, where the login says so.
    ///
    /// # Errors
    /// [`Error::Credentials`], [`Error::Timeout`].
    pub async fn only_user(&self, deadline: Deadline) -> Result<Option<String>, Error> {
        if Login::of(&self.target) != Login::Secret || self.target.user.is_some() {
            return Ok(self.target.user.clone().filter(|_| Login::of(&self.target) == Login::Secret));
        }
        let prepared = self.plan().prepare(&mut Attempt::new(deadline)).await?;
        Ok(prepared.user().map(str::to_owned))
    }

    /// Tells the source of the password how a login with it has ended.
    ///
    /// # Errors
    /// Those of `result`.
    pub fn note_login<T>(&self, proof: &Proof, result: Result<T, Error>) -> Result<T, Error> {
        if let Proof::Secret(password) = proof {
            match &result {
                Ok(_) => password.accepted(),
                Err(error) if error.is_refused_password() => password.refused(),
                Err(_) => {}
            }
        }
        result
    }

    /// The logins that a client has with a password.
    pub fn password_tries(&self) -> PasswordTries<'_> {
        PasswordTries { target: &self.target, left: MORE_PASSWORDS, refusal: None }
    }

    /// Tells the route and the account what an error of connecting says about them.
    ///
    /// # Errors
    /// Those of `result`.
    pub fn note_failure<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        result.inspect_err(|error| self.note(error))
    }

    /// As [`note_failure`](Self::note_failure), for an error alone.
    pub fn note(&self, error: &Error) {
        if error.suggests_failover() {
            self.dialer.suspect_failover();
        }
        if error.is_refused_login() && Login::of(&self.target) == Login::Iam {
            self.account.login_was_refused();
        }
    }

    /// Our IAM principal in the short form that databases see, once it is known.
    pub fn principal(&self) -> Option<&str> {
        self.account.known_principal().map(Principal::short)
    }

    /// Does `work`, and asks AWS for our principal meanwhile: never longer than `work` takes, and only until it is known. Where connections
    /// need no credentials, AWS is not asked.
    pub async fn with_principal_lookup<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        if self.needs_credentials()
            && self.account.known_principal().is_none()
            && !self.principal_unavailable.load(Ordering::Relaxed)
        {
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
