//! The steps that are MySQL's own.
//!
//! A MySQL server counts each connection that is broken off between its greeting and the login, until it refuses everybody
//! from the bastion's address ([`goodbye`](database_wire::mysql::goodbye)). So a connection that is not logged in on is declined,
//! wherever that is still possible.

use std::time::Duration;

use database_wire::mysql::{self, Capabilities, Greeting, LoggedIn, Terms, TokenTiming, goodbye::Progress};
use safe_display::Secret;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use crate::{
    connect::{Attempt, Error, Hope, Step, Stream},
    tls::{self, Verified},
    tunnel,
};

/// For ending a connection in order without a login.
const DECLINE_TIMEOUT: Duration = Duration::from_secs(5);

/// The first exchange with a server: its greeting.
///
/// # Errors
/// [`Error::Login`], [`Error::Stream`].
pub async fn read_greeting(stream: &mut tunnel::Stream) -> Result<Greeting, Error> {
    mysql::read_greeting(stream).await.map_err(Error::from_login)
}

/// [`Step::Tls`], which begins with the head of the client's response. A server without TLS is declined.
///
/// # Errors
/// [`Error::Login`], [`Error::Tls`], [`Error::Stream`], [`Error::Timeout`].
pub async fn secure(
    attempt: &mut Attempt,
    connector: &tls::Connector,
    mut stream: tunnel::Stream,
    terms: Terms<'_>,
) -> Result<(Stream, Verified), Error> {
    if !terms.greeting.capabilities.contains(Capabilities::SSL) {
        let _ = decline(&mut stream, terms.greeting, Progress::Greeted).await;
        return Err(Error::from_login(mysql::Error::NoTls));
    }
    let handshake = async {
        mysql::ssl_request(&mut stream, terms).await.map_err(Error::from_login)?;
        connector.connect(stream).await.map_err(Error::from_tls)
    };
    attempt.run(Step::Tls, Hope::Real, handshake).await
}

/// [`Step::Login`] by a token.
///
/// # Errors
/// [`Error::Login`], [`Error::Stream`], [`Error::Timeout`].
pub async fn log_in(
    attempt: &mut Attempt,
    stream: &mut Stream,
    terms: Terms<'_>,
    token: &Secret<String>,
    timing: TokenTiming,
) -> Result<LoggedIn, Error> {
    let login = mysql::login(stream, terms, token, timing);
    let login = async { login.await.map_err(Error::from_login) };
    attempt.run(Step::Login, Hope::Real, login).await
}

/// [`Step::Login`] with a password.
///
/// # Errors
/// [`Error::Login`], [`Error::Stream`], [`Error::Timeout`].
pub async fn log_in_with_password(
    attempt: &mut Attempt,
    stream: &mut Stream,
    terms: Terms<'_>,
    password: &Secret<String>,
) -> Result<LoggedIn, Error> {
    let login = mysql::login_with_password(stream, terms, password);
    let login = async { login.await.map_err(Error::from_login) };
    attempt.run(Step::Login, Hope::Real, login).await
}

/// Ends a connection without a login in a way that the server does not count as a broken handshake.
///
/// # Errors
/// When the connection breaks, or the server takes too long.
pub async fn decline(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    greeting: &Greeting,
    progress: Progress<'_>,
) -> Result<(), Error> {
    let declined = async {
        mysql::goodbye::decline(stream, greeting, progress).await.map_err(Error::from_login)?;
        let _ = stream.shutdown().await;
        Ok(())
    };
    let late = |_| Error::Timeout { step: Step::Login, after: DECLINE_TIMEOUT, before: Duration::ZERO };
    timeout(DECLINE_TIMEOUT, declined).await.map_err(late)?
}
