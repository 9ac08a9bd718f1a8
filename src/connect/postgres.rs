//! The steps that are PostgreSQL's own.

use super::{
    attempt::{Attempt, Hope},
    error::Error,
    plan::Stream,
    step::Step,
};
use crate::{
    engine,
    login::Proof,
    postgres::{self, LoggedIn, Mode, Startup},
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

/// [`Step::Login`].
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
    let login = engine::postgres::connect::log_in(stream, startup, proof.cleartext(), mode);
    let login = async { login.await.map_err(Error::from_login) };
    attempt.run(Step::Login, Hope::Real, login).await
}
