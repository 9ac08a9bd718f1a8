//! The upstream's half of a connection's start: TLS asked for, the client's StartupMessage sent, the token given as
//! password, everything up to ReadyForQuery collected for the client.
//!
//! ```text
//!   SSLRequest ─▶          one byte ◀─ S           then TLS, by the caller
//!   StartupMessage, PasswordMessage ─▶             (OneByOne: the password when asked)
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
    error::{Error, ServerError, sqlstate},
    error_response::MAX_ERROR_LENGTH,
    message::{self, Authentication, tag},
    startup::Startup,
};
use crate::secret::Secret;

/// The longest message of a login, by its length field; the same as libpq allows (`fe-protocol3.c`).
pub const MAX_MESSAGE: usize = MAX_ERROR_LENGTH;
/// The longest greeting in bytes. A server sends half a kilobyte; a login trigger may add notices.
pub const MAX_GREETING: usize = 256 * 1024;

/// When the password is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// With the StartupMessage: one round trip less.
    Pipelined,
    /// When the server asks for it.
    OneByOne,
}

/// A finished login.
pub struct LoggedIn {
    /// What to send to the client: everything as received, up to ReadyForQuery and whatever was read beyond it, less
    /// the request for the password.
    pub greeting: Bytes,
    /// The key that cancels this connection's queries; none when the server sends none.
    pub cancel_key: Option<CancelKey>,
    /// The setting `server_version`.
    pub server_version: Option<String>,
}

/// Without the greeting: the cancel key is in it.
impl fmt::Debug for LoggedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { greeting, cancel_key, server_version } = self;
        write!(f, "LoggedIn to {server_version:?} with {cancel_key:?}, greeting of {} bytes", greeting.len())
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
/// another connection with [`Mode::OneByOne`] may do better, and whatever breaks the protocol or the connection.
pub async fn login<S: AsyncRead + AsyncWrite + Unpin>(
    upstream: &mut S,
    startup: &Startup,
    token: &Secret<String>,
    mode: Mode,
) -> Result<LoggedIn, Error> {
    let password = message::password(token)?;
    let mut conversation = Conversation { upstream, received: BytesMut::new(), greeting: BytesMut::new() };
    match (conversation.authenticate(startup, &password, mode).await, mode) {
        // A server that minds may well show it by hanging up.
        (Err(Error::Closed { .. }), Mode::Pipelined) => return Err(Error::NotPipelined("it closed the connection")),
        (result, _) => result?,
    }
    conversation.read_greeting().await
}

struct Conversation<'a, S> {
    upstream: &'a mut S,
    received: BytesMut,
    greeting: BytesMut,
}

/// One message: its tag, and all of it as received.
struct Message {
    tag: u8,
    raw: Bytes,
}

const HEADER: usize = 5;
const AUTHENTICATION: &str = "AuthenticationCleartextPassword or AuthenticationOk";

impl Message {
    fn body(&self) -> &[u8] {
        self.raw.get(HEADER..).unwrap_or_default()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Conversation<'_, S> {
    async fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let broke = |error| Error::broke(error, AUTHENTICATION);
        self.upstream.write_all(bytes).await.map_err(broke)?;
        self.upstream.flush().await.map_err(broke)
    }

    async fn authenticate(&mut self, startup: &Startup, password: &[u8], mode: Mode) -> Result<(), Error> {
        // One write, for the two to travel in one TLS record.
        let startup = startup.encode();
        let mut first = Zeroizing::new(Vec::with_capacity(startup.len() + password.len()));
        first.extend_from_slice(&startup);
        if mode == Mode::Pipelined {
            first.extend_from_slice(password);
        }
        self.send(&first).await?;
        let mut asked = false;
        loop {
            let message = self.next(AUTHENTICATION).await?;
            match message.tag {
                tag::NEGOTIATE_PROTOCOL_VERSION => self.pass_on(&message)?,
                tag::AUTHENTICATION => match (Authentication::parse(message.body())?, mode) {
                    (Authentication::Ok, Mode::Pipelined) if !asked => {
                        return Err(Error::NotPipelined("it asked for no password"));
                    }
                    (Authentication::Ok, _) => return self.pass_on(&message),
                    (Authentication::CleartextPassword, Mode::Pipelined) if asked => {
                        return Err(Error::NotPipelined("it asked for the password again"));
                    }
                    (Authentication::CleartextPassword, Mode::OneByOne) if asked => {
                        return Err(Error::Malformed("second AuthenticationCleartextPassword"));
                    }
                    (Authentication::CleartextPassword, Mode::OneByOne) => {
                        asked = true;
                        self.send(password).await?;
                    }
                    (Authentication::CleartextPassword, Mode::Pipelined) => asked = true,
                    (Authentication::Other(method), _) => return Err(Error::Authentication(method)),
                },
                tag::ERROR_RESPONSE => {
                    let error = server_error(message.body())?;
                    return Err(match mode {
                        Mode::Pipelined if error.sqlstate() == sqlstate::PROTOCOL_VIOLATION => {
                            Error::NotPipelined("it called that a protocol violation")
                        }
                        Mode::Pipelined | Mode::OneByOne => Error::Refused(error),
                    });
                }
                tag => return Err(Error::Unexpected { tag, waiting_for: AUTHENTICATION }),
            }
        }
    }

    async fn read_greeting(mut self) -> Result<LoggedIn, Error> {
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
                    self.pass_on(&message)?;
                    self.greeting.extend_from_slice(&self.received);
                    return Ok(LoggedIn { greeting: self.greeting.freeze(), cancel_key, server_version });
                }
                tag::ERROR_RESPONSE => return Err(Error::Refused(server_error(message.body())?)),
                tag => return Err(Error::Unexpected { tag, waiting_for: WAITING_FOR }),
            }
            self.pass_on(&message)?;
        }
    }

    fn pass_on(&mut self, message: &Message) -> Result<(), Error> {
        if self.greeting.len() + message.raw.len() > MAX_GREETING {
            return Err(Error::GreetingLength(MAX_GREETING));
        }
        self.greeting.extend_from_slice(&message.raw);
        Ok(())
    }

    async fn next(&mut self, waiting_for: &'static str) -> Result<Message, Error> {
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

fn server_error(body: &[u8]) -> Result<ServerError, Error> {
    ServerError::parse(body).ok_or(Error::Malformed("ErrorResponse"))
}
