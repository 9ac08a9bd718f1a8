//! The steps that are PostgreSQL's own.

use database_wire::postgres::{self, LoggedIn, Login, Mode, Startup};
use tokio::time::timeout;

use crate::{
    connect::{Attempt, Error, Hope, Step, Stream},
    limits::PIPELINED_TIMEOUT,
    login::Proof,
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

/// [`Step::Login`]. A server that does not take startup and password together within a time limit is
/// [`postgres::Error::NotPipelined`], which [`Mode::Sequential`] on another connection may not be.
///
/// # Errors
/// [`Error::Login`], [`Error::Stream`], [`Error::Timeout`].
pub async fn log_in(
    attempt: &mut Attempt,
    stream: &mut Stream,
    startup: &Startup,
    proof: &Proof,
    mode: Mode,
) -> Result<LoggedIn, Error> {
    let exchange = async {
        let Proof::Token(token) = proof else { return Err(postgres::Error::Malformed("auth")) };
        let mut login = Login::begin(stream, startup, token.secret(), mode).await?;
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
    let login = async { exchange.await.map_err(Error::from_login) };
    attempt.run(Step::Login, Hope::Real, login).await
}
