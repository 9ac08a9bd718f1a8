//! The steps that are PostgreSQL's own.

use database_wire::postgres::{
    self, LoggedIn, Login, Mode, Startup,
    authentication::{self, Begun},
};
use safe_display::Secret;
use tokio::time::timeout;

use crate::{
    connect::{Attempt, Error, Hope, Step, Stream},
    limits::PIPELINED_TIMEOUT,
    tls::{self, Verified},
    tunnel,
};

/// The first exchange with a server: SSLRequest and its one byte.
///
/// # Errors
/// [`Error::Answer`], [`Error::Stream`].
pub async fn request_tls(stream: &mut tunnel::Stream) -> Result<(), Error> {
    postgres::request_tls(stream).await.map_err(Error::from_answer)
}

/// [`Step::Tls`].
///
/// # Errors
/// [`Error::Tls`], [`Error::Stream`], [`Error::Timeout`].
pub async fn secure(
    attempt: &mut Attempt,
    connector: &tls::Connector,
    stream: tunnel::Stream,
) -> Result<(Stream, Verified), Error> {
    let handshake = async { connector.connect(stream).await.map_err(Error::from_tls) };
    attempt.run(Step::Tls, Hope::Real, handshake).await
}

/// [`Step::Login`] with a password.
///
/// # Errors
/// [`Error::Login`], [`Error::Stream`], [`Error::Timeout`].
pub async fn log_in_with_password(
    attempt: &mut Attempt,
    stream: &mut Stream,
    startup: &Startup,
    password: &Secret<String>,
) -> Result<LoggedIn, Error> {
    let end_point = tls::server_end_point(stream);
    let login = postgres::login_with_password(stream, startup, password, end_point.as_deref());
    let login = async { login.await.map_err(Error::from_login) };
    attempt.run(Step::Login, Hope::Real, login).await
}

/// [`Step::Login`] by a token. A server that does not take startup and password together within a time limit is
/// [`postgres::Error::NotPipelined`], which [`Mode::Sequential`] on another connection may not be.
///
/// # Errors
/// [`Error::Login`], [`Error::Stream`], [`Error::Timeout`].
pub async fn log_in(
    attempt: &mut Attempt,
    stream: &mut Stream,
    startup: &Startup,
    token: &Secret<String>,
    mode: Mode,
) -> Result<LoggedIn, Error> {
    let exchange = async {
        let mut login = Login::begin(stream, startup, token, mode).await?;
        match mode {
            Mode::Pipelined => {
                let dropped =
                    |_| postgres::Error::NotPipelined("it asked for the password that had been sent, and waited");
                timeout(PIPELINED_TIMEOUT, login.authenticate()).await.map_err(dropped)??;
            }
            Mode::Sequential => login.authenticate().await?,
        }
        login.greeting().await
    };
    let login = async { exchange.await.map_err(|error| Error::from_login(error.of_login(startup))) };
    attempt.run(Step::Login, Hope::Real, login).await
}

/// [`Step::Login`] up to the server's request for a password, or for anything else that the client has.
///
/// # Errors
/// [`Error::Login`], [`Error::Stream`], [`Error::Timeout`].
pub async fn begin(attempt: &mut Attempt, stream: &mut Stream, startup: &Startup) -> Result<Begun, Error> {
    let begin = async { authentication::begin(stream, startup).await.map_err(Error::from_login) };
    attempt.run(Step::Login, Hope::Real, begin).await
}
