//! The steps that are the same for every engine: credentials, route and answer, and the proof for the login.

use std::time::SystemTime;

use futures_util::future::BoxFuture;
use tokio_rustls::client::TlsStream;
use tracing::debug;

use super::{
    attempt::{Attempt, Hope, TakenRoute},
    error::Error,
    pace::Pace,
    step::Step,
};
use crate::{
    aws::{self, Account},
    login::{Login, Prepared, Proof},
    target::{Route, Target},
    tunnel::{self, Dialer, pool::Pool},
};

/// An encrypted stream to the database.
pub type Stream = TlsStream<tunnel::Stream>;

/// The settings that a connection to a target is made with.
#[derive(Clone, Copy)]
pub struct Plan<'a> {
    /// The database.
    pub target: &'a Target,
    /// The AWS credentials.
    pub account: &'a Account,
    /// The route.
    pub dialer: &'a Dialer,
    /// The queue of logins; `None` for a login that waits for none.
    pub pace: Option<&'a Pace>,
}

impl Plan<'_> {
    /// [`Step::Credentials`]: comes first, so that expired credentials cost no session. An SSM session takes them also where the
    /// login does not.
    ///
    /// # Errors
    /// [`Error::Credentials`], [`Error::Timeout`].
    pub async fn prepare(self, attempt: &mut Attempt) -> Result<Prepared, Error> {
        let login = Login::of(self.target);
        let is_for_session = !login.needs_credentials(self.target) && matches!(self.target.route, Route::Ssm(_));
        let prepare = async {
            if is_for_session {
                self.account.credentials_for_client().await.map_err(Error::Credentials)?;
            }
            login.prepare(self.target, self.account).await.map_err(Error::Credentials)
        };
        attempt.run(Step::Credentials, Hope::If(&|| self.may_wait()), prepare).await
    }

    /// Credentials for a session, where the login has asked for none.
    async fn credentials(self, attempt: &mut Attempt) -> Result<(), Error> {
        let fetch = async { self.account.credentials_for_client().await.map_err(Error::Credentials) };
        attempt.run(Step::Credentials, Hope::If(&|| self.may_wait()), fetch).await.map(drop)
    }

    /// Whether credentials may wait for a person or for another program.
    fn may_wait(self) -> bool {
        self.account.may_ask() || self.account.runs_process()
    }

    /// [`Step::Route`] without a dial: afterwards the first connection need not wait for a session.
    ///
    /// # Errors
    /// [`Error::Credentials`], [`Error::Route`], [`Error::Timeout`].
    pub async fn open_route(self, attempt: &mut Attempt) -> Result<(), Error> {
        self.prepare(attempt).await?;
        let open = async { self.dialer.open().await.map_err(Error::Route) };
        let gives_hope = || self.dialer.pool().is_some_and(Pool::gives_hope);
        attempt.run(Step::Route, Hope::If(&gives_hope), open).await
    }

    /// [`Step::Route`] and [`Step::Answer`]: dials, and exchanges the first bytes with the database. They carry nothing yet, so
    /// when the session turns out to be of no use they are exchanged again through another one. A login that is to follow waits for its
    /// turn first.
    ///
    /// # Errors
    /// [`Error`], by step.
    pub async fn answer<T>(
        self,
        attempt: &mut Attempt,
        exchange: impl for<'a> Fn(&'a mut tunnel::Stream) -> BoxFuture<'a, Result<T, Error>> + Sync,
    ) -> Result<(tunnel::Stream, T), Error> {
        // Before the dial: a server ends a connection whose login does not come.
        if let Some(pace) = self.pace.filter(|_| Login::of(self.target) == Login::Iam) {
            attempt.wait_for_turn(pace).await?;
        }
        if let Dialer::Auto(auto) = self.dialer {
            let direct = auto.direct(&exchange, Error::is_from_database);
            let answered = attempt.run(Step::Route, Hope::None, direct).await;
            match answered {
                Ok(None) if Login::of(self.target).needs_credentials(self.target) => {}
                Ok(None) => self.credentials(attempt).await?,
                Ok(Some(answered)) => {
                    attempt.route = Some(TakenRoute::DirectOfAuto);
                    return Ok(answered);
                }
                Err(error) => {
                    attempt.route = error.is_from_database().then_some(TakenRoute::DirectOfAuto);
                    return Err(error);
                }
            }
        }
        let started = std::time::Instant::now();
        let mut stream = self.dial(attempt).await?;
        let answered = answer(attempt, &mut stream, &exchange).await;
        let is_old = stream.is_in_session_from_before(started);
        let answered = match answered {
            Err(Error::Stream(cause)) if cause.calls_for_another_session(is_old) => {
                debug!(target = %self.target.name, %cause, "connecting again through another SSM session");
                stream = self.dial(attempt).await?;
                answer(attempt, &mut stream, &exchange).await
            }
            answered => answered,
        };
        match answered {
            Ok(answered) => Ok((stream, answered)),
            Err(error) => Err(blame(&stream, error)),
        }
    }

    async fn dial(self, attempt: &mut Attempt) -> Result<tunnel::Stream, Error> {
        attempt.route = None;
        let dial = async { self.dialer.dial().await.map_err(Error::Route) };
        let gives_hope = || self.dialer.pool().is_some_and(Pool::gives_hope);
        let stream = attempt.run(Step::Route, Hope::If(&gives_hope), dial).await?;
        attempt.route = Some(stream.session_id().map_or(TakenRoute::Direct, TakenRoute::Session));
        Ok(stream)
    }

    /// A prepared login for use now: the same, or another one if the database has refused it since it was prepared.
    ///
    /// # Errors
    /// [`Error::Credentials`], [`Error::Timeout`].
    pub async fn fresh(self, attempt: &mut Attempt, prepared: Prepared) -> Result<Prepared, Error> {
        if !prepared.is_stale() {
            return Ok(prepared);
        }
        let prepared = self.prepare(attempt).await?;
        if prepared.is_stale() {
            let secret = self.target.password.to_string();
            return Err(Error::Credentials(aws::Error::PasswordRefused { secret }));
        }
        Ok(prepared)
    }

    /// The proof that we are `user`. Made late, so that a token is fresh.
    ///
    /// # Errors
    /// [`Error::Credentials`].
    pub fn proof(self, user: &str, login: &Prepared) -> Result<Proof, Error> {
        login.proof(self.target, user, SystemTime::now()).map_err(Error::Credentials)
    }
}

/// [`Step::Answer`]: as long as it takes once the database is known to have accepted the connection.
async fn answer<T>(
    attempt: &mut Attempt,
    stream: &mut tunnel::Stream,
    exchange: impl for<'a> Fn(&'a mut tunnel::Stream) -> BoxFuture<'a, Result<T, Error>>,
) -> Result<T, Error> {
    let acceptance = stream.acceptance();
    let is_accepted = || acceptance.is_accepted();
    attempt.run(Step::Answer, Hope::If(&is_accepted), exchange(stream)).await
}

/// Names the culprit of an answer that took too long: steps before it may have left it less time than a dial has, so that the
/// dial did not fail by itself.
fn blame(stream: &tunnel::Stream, error: Error) -> Error {
    match error {
        Error::Timeout { step: Step::Answer, after, .. } => {
            stream.acceptance().overdue(after).map_or(error, Error::Stream)
        }
        error => error,
    }
}
