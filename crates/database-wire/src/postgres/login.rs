//! The upstream's half of a connection's start: TLS asked for, the client's StartupMessage sent, the token given as
//! password, everything up to ReadyForQuery collected for the client.
//!
//! ```text
//!   SSLRequest ─▶          one byte ◀─ S           then TLS, by the caller
//!   StartupMessage, PasswordMessage ─▶             (Sequential: the password when asked)
//!        ◀─ NegotiateProtocolVersion?  AuthenticationCleartextPassword   ◀ all the client is spared
//!        ◀─ AuthenticationOk  ParameterStatus…  BackendKeyData  ReadyForQuery
//! ```
//!
//! A server reads startup and password from its buffer in order, so both can go out together and a round trip is saved
//! ([`Mode::Pipelined`]); a server or proxy that minds is seen by its answer.

use std::fmt;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

use super::{
    cancel::CancelKey,
    error::{Error, Notice, ServerError, sqlstate},
    error_response::MAX_ERROR_LENGTH,
    message::{self, Authentication, tag},
    startup::Startup,
};
use safe_display::Secret;

/// The longest message of a login, by its length field; the same as libpq allows (`fe-protocol3.c`).
pub const MAX_MESSAGE: usize = MAX_ERROR_LENGTH;
/// The longest greeting in bytes. A server sends half a kilobyte; a login trigger may add notices.
const MAX_GREETING: usize = 256 * 1024;

/// When the password is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// With the StartupMessage: one round trip less.
    Pipelined,
    /// When the server asks for it.
    Sequential,
}

/// A finished login.
#[derive(Clone)]
pub struct LoggedIn {
    /// The bytes for the client: everything as received, up to ReadyForQuery and whatever was read beyond it, less
    /// the request for the password.
    pub greeting: Bytes,
    /// Where its ReadyForQuery begins.
    ready: usize,
    /// The key that cancels this connection's queries; none when the server sends none.
    pub cancel_key: Option<CancelKey>,
    /// The setting `server_version`.
    pub server_version: Option<String>,
}

/// Without the greeting: the cancel key is in it.
impl fmt::Debug for LoggedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { greeting, cancel_key, server_version, ready: _ } = self;
        write!(f, "LoggedIn to {server_version:?} with {cancel_key:?}, greeting of {} bytes", greeting.len())
    }
}

impl LoggedIn {
    /// Puts a notice of ours into the greeting, before its ReadyForQuery.
    pub fn add_notice(&mut self, notice: &Notice) {
        let (before, ready) = self.greeting.split_at_checked(self.ready).unwrap_or((&self.greeting, &[]));
        let greeting = [before, &notice.encode(), ready].concat();
        self.greeting = greeting.into();
    }
}

/// Asks for TLS and reads exactly one byte, so that nothing sent in the clear can survive into the encrypted stream
/// (CVE-2021-23222). The caller sets the deadline. Not cancel safe.
///
/// # Errors
/// [`Error::NoTls`] and [`Error::RefusedBeforeTls`] from the server, or a connection that breaks.
pub async fn request_tls<S: AsyncRead + AsyncWrite + Unpin>(upstream: &mut S) -> Result<(), Error> {
    const WAITING_FOR: &str = "the answer to SSLRequest";
    let broke = |error| Error::broke(error, WAITING_FOR);
    upstream.write_all(&message::ssl_request()).await.map_err(broke)?;
    upstream.flush().await.map_err(broke)?;
    let mut answer = [0];
    upstream.read_exact(&mut answer).await.map_err(broke)?;
    match answer {
        [b'S'] => Ok(()),
        [b'N'] => Err(Error::NoTls),
        [tag::ERROR_RESPONSE] => {
            let mut length = [0; 4];
            upstream.read_exact(&mut length).await.map_err(broke)?;
            let mut body = vec![0; body_length(tag::ERROR_RESPONSE, length)?];
            upstream.read_exact(&mut body).await.map_err(broke)?;
            Err(Error::RefusedBeforeTls(server_error(&body)?))
        }
        [tag] => Err(Error::Unexpected { tag, waiting_for: WAITING_FOR }),
    }
}

/// Logs in over an encrypted stream. The caller sets the deadline. Not cancel safe.
///
/// # Errors
/// [`Error::Refused`] by the server, [`Error::Authentication`] when it wants no token, [`Error::NotPipelined`] when
/// another connection with [`Mode::Sequential`] may do better, and whatever breaks the protocol or the connection.
pub async fn login<S: AsyncRead + AsyncWrite + Unpin>(
    upstream: &mut S,
    startup: &Startup,
    token: &Secret<String>,
    mode: Mode,
) -> Result<LoggedIn, Error> {
    let mut login = Login::begin(upstream, startup, token, mode).await?;
    login.authenticate().await?;
    login.greeting().await
}

/// A login in its steps, for a caller with a limit for each of them.
pub struct Login<'a, S> {
    conversation: Conversation<'a, S>,
    mode: Mode,
    /// The server has said AuthenticationOk.
    authenticated: bool,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Login<'a, S> {
    /// Sends the startup and, when the server asks for it or before, the password. A server that has asked has all that it
    /// needs, unless it has dropped a password that came too early: what it does then is [`authenticate`](Self::authenticate)'s.
    ///
    /// # Errors
    /// As for [`login`](fn@login).
    pub async fn begin(
        upstream: &'a mut S,
        startup: &Startup,
        token: &Secret<String>,
        mode: Mode,
    ) -> Result<Self, Error> {
        let password = message::password(token)?;
        let mut conversation = Conversation { upstream, received: BytesMut::new(), greeting: BytesMut::new() };
        let begun = conversation.begin(startup, &password, mode).await;
        let authenticated = begun.map_err(|error| mode.judge(error))?;
        Ok(Self { conversation, mode, authenticated })
    }

    /// Waits until the server has judged the password.
    ///
    /// # Errors
    /// As for [`login`](fn@login).
    pub async fn authenticate(&mut self) -> Result<(), Error> {
        if !self.authenticated {
            let judged = self.conversation.authenticate(self.mode).await;
            judged.map_err(|error| self.mode.judge(error))?;
            self.authenticated = true;
        }
        Ok(())
    }

    /// Reads what the server says to a client that is logged in, which [`authenticate`](Self::authenticate) comes before.
    ///
    /// # Errors
    /// As for [`login`](fn@login).
    pub async fn greeting(self) -> Result<LoggedIn, Error> {
        self.conversation.read_greeting().await
    }
}

impl Mode {
    /// A server that minds may well show it by hanging up, or call it a violation of the protocol.
    fn judge(self, error: Error) -> Error {
        match (self, error) {
            (Self::Pipelined, Error::Closed { .. }) => Error::NotPipelined("it closed the connection"),
            (Self::Pipelined, Error::Refused(error)) if error.sqlstate() == sqlstate::PROTOCOL_VIOLATION => {
                Error::NotPipelined("it called that a protocol violation")
            }
            (_, error) => error,
        }
    }
}

pub(super) struct Conversation<'a, S> {
    pub(super) upstream: &'a mut S,
    pub(super) received: BytesMut,
    pub(super) greeting: BytesMut,
}

/// One message: its tag, and all of it as received.
pub(super) struct Message {
    pub(super) tag: u8,
    raw: Bytes,
}

/// Tag and length of a message.
pub(super) const HEADER: usize = 5;
const AUTHENTICATION: &str = "AuthenticationCleartextPassword or AuthenticationOk";

impl Message {
    pub(super) fn body(&self) -> &[u8] {
        self.raw.get(HEADER..).unwrap_or_default()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Conversation<'_, S> {
    /// Sends; a server that has hung up is not found out here but by the read that follows, because what it said before
    /// is worth more than that it has gone.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let sent = match self.upstream.write_all(bytes).await {
            Ok(()) => self.upstream.flush().await,
            failed => failed,
        };
        match sent.map_err(|error| Error::broke(error, AUTHENTICATION)) {
            Err(Error::Closed { .. }) => Ok(()),
            result => result,
        }
    }

    /// Sends the startup and the password; whether the server lets us in without having asked for it.
    async fn begin(&mut self, startup: &Startup, password: &[u8], mode: Mode) -> Result<bool, Error> {
        // One write, for the two to travel in one TLS record.
        let startup = startup.encode();
        let mut first = Zeroizing::new(Vec::with_capacity(startup.len() + password.len()));
        first.extend_from_slice(&startup);
        if mode == Mode::Pipelined {
            first.extend_from_slice(password);
        }
        self.send(&first).await?;
        match (self.next_authentication().await?, mode) {
            (Authentication::Ok, Mode::Pipelined) => Err(Error::NotPipelined("it asked for no password")),
            (Authentication::Ok, Mode::Sequential) => Ok(true),
            (Authentication::CleartextPassword, Mode::Pipelined) => Ok(false),
            (Authentication::CleartextPassword, Mode::Sequential) => {
                self.send(password).await?;
                Ok(false)
            }
            (Authentication::Other(method), _) => Err(Error::Authentication(method)),
        }
    }

    async fn authenticate(&mut self, mode: Mode) -> Result<(), Error> {
        match (self.next_authentication().await?, mode) {
            (Authentication::Ok, _) => Ok(()),
            (Authentication::CleartextPassword, Mode::Pipelined) => {
                Err(Error::NotPipelined("it asked for the password again"))
            }
            (Authentication::CleartextPassword, Mode::Sequential) => {
                Err(Error::Malformed("second AuthenticationCleartextPassword"))
            }
            (Authentication::Other(method), _) => Err(Error::Authentication(method)),
        }
    }

    /// The next authentication message. What the client must hear of it and before it goes into the greeting.
    async fn next_authentication(&mut self) -> Result<Authentication, Error> {
        let message = self.next_request().await?;
        Authentication::parse(message.body())
    }

    /// The next authentication message as received. AuthenticationOk is in the greeting then, and what came before it.
    pub(super) async fn next_request(&mut self) -> Result<Message, Error> {
        loop {
            let message = self.next(AUTHENTICATION).await?;
            match message.tag {
                tag::NEGOTIATE_PROTOCOL_VERSION => self.pass_on(&message)?,
                tag::AUTHENTICATION => {
                    if Authentication::parse(message.body())? == Authentication::Ok {
                        self.pass_on(&message)?;
                    }
                    return Ok(message);
                }
                tag::ERROR_RESPONSE => return Err(Error::Refused(server_error(message.body())?)),
                tag => return Err(Error::Unexpected { tag, waiting_for: AUTHENTICATION }),
            }
        }
    }

    pub(super) async fn read_greeting(mut self) -> Result<LoggedIn, Error> {
        const WAITING_FOR: &str = "ReadyForQuery";
        let mut cancel_key = None;
        let mut server_version = None;
        loop {
            let message = self.next(WAITING_FOR).await?;
            match message.tag {
                tag::PARAMETER_STATUS => {
                    let (name, value) = message::parameter_status(message.body())?;
                    if name == b"server_version" {
                        server_version = Some(String::from_utf8_lossy(value).into_owned());
                    }
                }
                tag::BACKEND_KEY_DATA => cancel_key = Some(message::backend_key_data(message.body())?),
                tag::NOTICE_RESPONSE => {}
                tag::READY_FOR_QUERY => {
                    if !matches!(message.body(), b"I" | b"T" | b"E") {
                        return Err(Error::Malformed("ReadyForQuery"));
                    }
                    let ready = self.greeting.len();
                    self.pass_on(&message)?;
                    self.greeting.extend_from_slice(&self.received);
                    return Ok(LoggedIn { greeting: self.greeting.freeze(), ready, cancel_key, server_version });
                }
                tag::ERROR_RESPONSE => return Err(Error::Refused(server_error(message.body())?)),
                tag => return Err(Error::Unexpected { tag, waiting_for: WAITING_FOR }),
            }
            self.pass_on(&message)?;
        }
    }

    pub(super) fn pass_on(&mut self, message: &Message) -> Result<(), Error> {
        if self.greeting.len() + message.raw.len() > MAX_GREETING {
            return Err(Error::GreetingLength(MAX_GREETING));
        }
        self.greeting.extend_from_slice(&message.raw);
        Ok(())
    }

    pub(super) async fn next(&mut self, waiting_for: &'static str) -> Result<Message, Error> {
        loop {
            if let Some(&[tag, ref length @ ..]) = self.received.first_chunk::<HEADER>() {
                let length = HEADER + body_length(tag, *length)?;
                if self.received.len() >= length {
                    return Ok(Message { tag, raw: self.received.split_to(length).freeze() });
                }
                self.received.reserve(length - self.received.len());
            }
            // Nothing in this conversation is large; what is read beyond it goes to the client with the greeting.
            self.received.reserve(1024);
            let read = self.upstream.read_buf(&mut self.received).await;
            if read.map_err(|error| Error::broke(error, waiting_for))? == 0 {
                return Err(Error::Closed { waiting_for });
            }
        }
    }
}

/// The length of a message's body, from its length field.
fn body_length(tag: u8, field: [u8; 4]) -> Result<usize, Error> {
    let length = u32::from_be_bytes(field);
    match usize::try_from(length) {
        Ok(value @ 4..=MAX_MESSAGE) => Ok(value - 4),
        _ => Err(Error::MessageLength { tag, length }),
    }
}

pub(super) fn server_error(body: &[u8]) -> Result<ServerError, Error> {
    ServerError::parse(body).ok_or(Error::Malformed("ErrorResponse"))
}

#[cfg(test)]
mod tests;
