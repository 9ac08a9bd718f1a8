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
    error::{Error, Notice, ServerError, sqlstate},
    error_response::MAX_ERROR_LENGTH,
    message::{self, Authentication, tag},
    startup::Startup,
};
use crate::secret::Secret;

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
    OneByOne,
}

/// A finished login.
pub struct LoggedIn {
    /// What to send to the client: everything as received, up to ReadyForQuery and whatever was read beyond it, less
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
/// another connection with [`Mode::OneByOne`] may do better, and whatever breaks the protocol or the connection.
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

const HEADER: usize = 5;
const AUTHENTICATION: &str = "AuthenticationCleartextPassword or AuthenticationOk";

impl Message {
    pub(super) fn body(&self) -> &[u8] {
        self.raw.get(HEADER..).unwrap_or_default()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Conversation<'_, S> {
    /// Sends; a server that has hung up is not found out here but by the read that follows, because what it said before
    /// is worth more than that it has gone.
    async fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
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
            (Authentication::Ok, Mode::OneByOne) => Ok(true),
            (Authentication::CleartextPassword, Mode::Pipelined) => Ok(false),
            (Authentication::CleartextPassword, Mode::OneByOne) => {
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
            (Authentication::CleartextPassword, Mode::OneByOne) => {
                Err(Error::Malformed("second AuthenticationCleartextPassword"))
            }
            (Authentication::Other(method), _) => Err(Error::Authentication(method)),
        }
    }

    /// The next authentication message. What the client must hear of it and before it goes into the greeting.
    async fn next_authentication(&mut self) -> Result<Authentication, Error> {
        loop {
            let message = self.next(AUTHENTICATION).await?;
            match message.tag {
                tag::NEGOTIATE_PROTOCOL_VERSION => self.pass_on(&message)?,
                tag::AUTHENTICATION => {
                    let authentication = Authentication::parse(message.body())?;
                    if authentication == Authentication::Ok {
                        self.pass_on(&message)?;
                    }
                    return Ok(authentication);
                }
                tag::ERROR_RESPONSE => return Err(Error::Refused(server_error(message.body())?)),
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

    fn pass_on(&mut self, message: &Message) -> Result<(), Error> {
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
mod tests {
    use tokio::io::{DuplexStream, duplex};

    use super::*;
    use crate::postgres::{CancelRequest, ProtocolVersion, Watch, watch::Activity};

    // As PostgreSQL 15.18 sends them.
    const ASK: &[u8] = b"R\0\0\0\x08\0\0\0\x03";
    const OK: &[u8] = b"R\0\0\0\x08\0\0\0\0";
    const SETTINGS: &[u8] =
        b"S\0\0\0\x19client_encoding\0UTF8\0S\0\0\x002server_version\x0015.18 (Debian 15.18-0+deb12u1)\0\
        S\0\0\0#session_authorization\0app_user\0";
    const KEY: &[u8] = b"K\0\0\0\x0c\0\0d\x1a\xc3B\x1f\x0e";
    const READY: &[u8] = b"Z\0\0\0\x05I";
    const NEGOTIATE: &[u8] = b"v\0\0\0\x0c\0\x03\0\0\0\0\0\0";
    const SCRAM: &[u8] = b"R\0\0\0\x17\0\0\0\nSCRAM-SHA-256\0\0";
    const MD5: &[u8] = b"R\0\0\0\x0c\0\0\0\x05salt";
    const TOKEN: &str = "orders.example:5432/?Action=connect&DBUser=app_user&X-Amz-Signature=00";

    fn startup() -> Startup {
        let mut startup = Startup::new(ProtocolVersion { major: 3, minor: 0 });
        startup.set(b"user", b"app_user").unwrap();
        startup
    }

    fn password() -> Vec<u8> {
        message::password(&Secret::new(TOKEN.into())).unwrap().to_vec()
    }

    fn error_response(sqlstate: &str) -> Vec<u8> {
        message(b'E', format!("SFATAL\0C{sqlstate}\0Mno\0\0").as_bytes())
    }

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        [&[tag][..], &u32::try_from(body.len() + 4).unwrap().to_be_bytes(), body].concat()
    }

    /// The server's end of the wire: fails the test when something else comes than it expects.
    struct Server(DuplexStream);

    impl Server {
        async fn expect(&mut self, bytes: &[u8]) {
            let mut came = vec![0; bytes.len()];
            self.0.read_exact(&mut came).await.unwrap();
            assert_eq!(came, bytes);
        }

        async fn send(&mut self, messages: &[&[u8]]) {
            self.0.write_all(&messages.concat()).await.unwrap();
        }
    }

    /// Logs in to a server that plays `script`, over a wire that holds `capacity` bytes.
    async fn play(mode: Mode, capacity: usize, script: impl AsyncFnOnce(&mut Server)) -> Result<LoggedIn, Error> {
        let (mut ours, theirs) = duplex(capacity);
        let token = Secret::new(TOKEN.into());
        let startup = startup();
        let mut server = Server(theirs);
        let (result, ()) = tokio::join!(login(&mut ours, &startup, &token, mode), async {
            script(&mut server).await;
            drop(server);
        });
        result
    }

    /// Logs in to a server that has read startup and password, and then says `answer` and hangs up.
    async fn answered(mode: Mode, answer: &[&[u8]]) -> Result<LoggedIn, Error> {
        play(mode, 1 << 20, async |server| {
            server.expect(&startup().encode()).await;
            if mode == Mode::Pipelined {
                server.expect(&password()).await;
            }
            server.send(answer).await;
        })
        .await
    }

    #[tokio::test]
    async fn startup_and_password_go_out_together() {
        let logged_in = answered(Mode::Pipelined, &[ASK, OK, SETTINGS, KEY, READY]).await.unwrap();
        assert_eq!(logged_in.greeting, [OK, SETTINGS, KEY, READY].concat());
        assert_eq!(logged_in.server_version.as_deref(), Some("15.18 (Debian 15.18-0+deb12u1)"));
        let cancel = CancelRequest::new(logged_in.cancel_key.unwrap());
        assert_eq!(cancel.encode(), b"\0\0\0\x10\x04\xd2\x16\x2e\0\0d\x1a\xc3B\x1f\x0e");
        let mut watch = Watch::new();
        watch.on_upstream(&logged_in.greeting);
        assert_eq!(watch.state(), Activity::Idle);
    }

    #[tokio::test]
    async fn a_notice_of_ours_stands_before_ready_for_query() {
        let early = message(b'A', b"\0\0\0\x01channel\0\0");
        let mut logged_in = answered(Mode::Pipelined, &[ASK, OK, KEY, READY, &early]).await.unwrap();
        let notice = Notice { message: "as app".into(), detail: "sent x".into(), hint: "name it".into() };
        logged_in.add_notice(&notice);
        assert_eq!(logged_in.greeting, [OK, KEY, &notice.encode(), READY, &early].concat());
    }

    #[tokio::test]
    async fn one_by_one_sends_the_password_when_asked() {
        for capacity in [1, 64] {
            let logged_in = play(Mode::OneByOne, capacity, async |server| {
                server.expect(&startup().encode()).await;
                server.send(&[NEGOTIATE, ASK]).await;
                server.expect(&password()).await;
                server.send(&[OK, SETTINGS, KEY, READY]).await;
            })
            .await
            .unwrap();
            assert_eq!(logged_in.greeting, [NEGOTIATE, OK, SETTINGS, KEY, READY].concat());
        }
    }

    #[tokio::test]
    async fn answers_may_come_a_byte_at_a_time() {
        let logged_in = play(Mode::Pipelined, 1, async |server| {
            server.expect(&[startup().encode(), password()].concat()).await;
            server.send(&[ASK, OK, SETTINGS, KEY, READY]).await;
        })
        .await
        .unwrap();
        assert_eq!(logged_in.greeting, [OK, SETTINGS, KEY, READY].concat());
    }

    #[tokio::test]
    async fn what_else_a_server_says_is_passed_on_in_its_place() {
        let notice = message(b'N', b"SNOTICE\0C00000\0Mhello\0\0");
        let long_key = message(b'K', &[7; 4 + 256]);
        let late = b"S\0\0\0\x15is_super";
        let answer = [NEGOTIATE, ASK, OK, &notice, SETTINGS, &long_key, READY, late];
        let logged_in = answered(Mode::Pipelined, &answer).await.unwrap();
        assert_eq!(logged_in.greeting, [&[NEGOTIATE][..], &answer[2..]].concat().concat());
        assert!(logged_in.cancel_key.is_some());
    }

    #[tokio::test]
    async fn a_server_without_cancel_key_or_version_is_served() {
        let logged_in = answered(Mode::Pipelined, &[ASK, OK, READY]).await.unwrap();
        assert!(logged_in.cancel_key.is_none() && logged_in.server_version.is_none());
    }

    #[tokio::test]
    async fn a_server_that_minds_the_early_password_is_dialled_again() {
        let violation = error_response("08P01");
        for answer in [&[][..], &[ASK], &[ASK, ASK], &[OK, SETTINGS], &[&violation], &[ASK, &violation]] {
            let error = answered(Mode::Pipelined, answer).await.unwrap_err();
            assert!(matches!(error, Error::NotPipelined(_)), "{answer:?}: {error}");
        }
        // The same things said to a client that does one after the other are final, or well.
        assert!(answered(Mode::OneByOne, &[OK, SETTINGS, KEY, READY]).await.is_ok());
        assert!(matches!(answered(Mode::OneByOne, &[]).await.unwrap_err(), Error::Closed { .. }));
        assert!(matches!(answered(Mode::OneByOne, &[&violation]).await.unwrap_err(), Error::Refused(_)));
        assert!(matches!(answered(Mode::OneByOne, &[ASK, ASK]).await.unwrap_err(), Error::Malformed(_)));
    }

    #[tokio::test]
    async fn another_method_means_that_the_role_lacks_rds_iam() {
        for mode in [Mode::Pipelined, Mode::OneByOne] {
            for (request, name) in [(SCRAM, "SASL (SCRAM-SHA-256)"), (MD5, "MD5")] {
                let error = answered(mode, &[request]).await.unwrap_err();
                assert_eq!(
                    error.to_string(),
                    format!("the database asks for {name} authentication, not for an IAM token")
                );
            }
        }
    }

    #[tokio::test]
    async fn a_refusal_carries_the_servers_words_whenever_it_comes() {
        let refusal = error_response("3D000");
        for mode in [Mode::Pipelined, Mode::OneByOne] {
            for answer in [&[&refusal[..]][..], &[ASK, &refusal], &[ASK, OK, &refusal], &[ASK, OK, SETTINGS, &refusal]]
            {
                match answered(mode, answer).await.unwrap_err() {
                    Error::Refused(error) => assert_eq!(error.encode_with(None, None), refusal),
                    other => panic!("expected a refusal, got {other}"),
                }
            }
        }
    }

    #[tokio::test]
    async fn an_answer_cut_anywhere_is_an_error() {
        let answer = [ASK, OK, SETTINGS, KEY, READY].concat();
        for end in 0..answer.len() {
            let error = answered(Mode::Pipelined, &[&answer[..end]]).await.unwrap_err();
            let authenticated = end >= ASK.len() + OK.len();
            assert!(
                matches!(error, Error::Closed { .. }) == authenticated
                    && matches!(error, Error::NotPipelined(_)) != authenticated,
                "cut at {end}: {error}"
            );
        }
    }

    #[tokio::test]
    async fn messages_without_a_place_or_a_possible_length_are_refused() {
        let error = answered(Mode::Pipelined, &[ASK, SETTINGS]).await.unwrap_err();
        assert!(matches!(error, Error::Unexpected { tag: b'S', .. }), "{error}");
        let error = answered(Mode::Pipelined, &[ASK, OK, ASK]).await.unwrap_err();
        assert!(matches!(error, Error::Unexpected { tag: b'R', .. }), "{error}");
        for length in [0, 3, 30_001, u32::MAX] {
            let error = answered(Mode::Pipelined, &[ASK, OK, b"S", &length.to_be_bytes()]).await.unwrap_err();
            assert!(matches!(error, Error::MessageLength { tag: b'S', length: l } if l == length), "{error}");
        }
        for broken in [
            message(b'K', &[0; 7]),
            message(b'K', &[0; 261]),
            message(b'S', b"no value\0"),
            message(b'Z', b""),
            message(b'E', b""),
        ] {
            let error = answered(Mode::Pipelined, &[ASK, OK, &broken]).await.unwrap_err();
            assert!(matches!(error, Error::Malformed(_)), "{error}");
        }
    }

    #[tokio::test]
    async fn a_greeting_without_end_is_refused() {
        let notice = message(b'N', &vec![b'x'; 29_000]);
        let mut answer = vec![ASK, OK];
        answer.extend(std::iter::repeat_n(&notice[..], 10));
        let error = answered(Mode::Pipelined, &answer).await.unwrap_err();
        assert!(matches!(error, Error::GreetingLength(MAX_GREETING)), "{error}");
    }

    #[tokio::test]
    async fn a_login_shows_neither_token_nor_key() {
        let logged_in = answered(Mode::Pipelined, &[ASK, OK, SETTINGS, KEY, READY]).await.unwrap();
        assert_eq!(
            format!("{logged_in:?}"),
            "LoggedIn to Some(\"15.18 (Debian 15.18-0+deb12u1)\") with Some(CancelKey of process 25626), greeting of 141 bytes"
        );
    }

    /// Asks a server for TLS that answers `answer`; also what was left unread.
    async fn tls(answer: &[u8]) -> (Result<(), Error>, Vec<u8>) {
        let mut upstream = tokio::io::join(answer, Vec::new());
        let result = request_tls(&mut upstream).await;
        let (left, sent) = upstream.into_inner();
        assert_eq!(sent, b"\0\0\0\x08\x04\xd2\x16\x2f");
        (result, left.to_vec())
    }

    #[tokio::test]
    async fn one_byte_answers_the_request_for_tls() {
        let (result, left) = tls(b"Searly").await;
        assert!(result.is_ok());
        assert_eq!(left, b"early", "it is for TLS to choke on");
        assert!(matches!(tls(b"N").await.0, Err(Error::NoTls)));
        assert!(matches!(tls(b"").await.0, Err(Error::Closed { .. })));
        assert!(matches!(tls(b"H").await.0, Err(Error::Unexpected { tag: b'H', .. })));
    }

    #[tokio::test]
    async fn an_error_in_place_of_the_answer_is_read_within_bounds() {
        let refusal = error_response("57P03");
        match tls(&refusal).await.0.unwrap_err() {
            Error::RefusedBeforeTls(error) => assert_eq!(error.sqlstate(), "57P03"),
            other => panic!("expected a refusal, got {other}"),
        }
        for end in 1..refusal.len() {
            assert!(matches!(tls(&refusal[..end]).await.0, Err(Error::Closed { .. })), "cut at {end}");
        }
        // As servers without a process to spare did up to version 13: text only.
        assert!(matches!(tls(b"Ecould not fork\0").await.0, Err(Error::MessageLength { .. })));
    }
}
