//! The authentication of a client whose proof is its own: the requests of the server reach the client, its answers the server.
//!
//! ```text
//!   StartupMessage ─▶
//!        ◀─ AuthenticationMD5Password, AuthenticationSASL, …   ─▶ client     less the mechanisms that bind to TLS
//!   client ─▶ PasswordMessage, SASLInitialResponse, … ─▶                     any number of rounds
//!        ◀─ AuthenticationOk … ReadyForQuery                   ─▶ client, as the greeting
//! ```
//!
//! Nothing is understood but AuthenticationOk, so every method passes that client and server have in common. A client that binds
//! to TLS (`SCRAM-SHA-256-PLUS`) would bind to a channel that the server does not see; it is offered the mechanisms without.

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

use super::{
    codec::{Reader, put_message},
    error::Error,
    login::{Conversation, HEADER, LoggedIn, server_error},
    message::{Authentication, TERMINATE, tag},
    method::Method,
    startup::Startup,
};

/// The longest answer of a client, by its length field: 65535 bytes and the field (`PG_MAX_AUTH_TOKEN_LENGTH` in
/// `src/include/libpq/auth.h`, `REL_18_0`).
const MAX_ANSWER: usize = 65_535 + 4;
/// The end of the names of mechanisms that bind to TLS.
const CHANNEL_BINDING: &[u8] = b"-PLUS";
const WAITING_FOR_SERVER: &str = "an authentication request";
const WAITING_FOR_CLIENT: &str = "the client's password";

/// A login whose startup the server has read.
pub enum Begun {
    /// The server asks for something.
    Asked(Asked),
    /// The server lets the user in without.
    LoggedIn(LoggedIn),
}

/// A login that takes an answer of the client.
pub struct Asked {
    /// Read from the server, and not looked at.
    received: BytesMut,
    /// The request, for the client.
    to_client: BytesMut,
}

/// Why an authentication was broken off.
#[derive(Debug)]
pub enum Broken {
    /// By the client.
    Client(Error),
    /// By the server.
    Server(Error),
}

/// Sends the startup and reads the server's request. The caller sets the deadline. Not cancel safe.
///
/// # Errors
/// [`Error::Refused`] by the server, and whatever breaks the protocol or the connection.
pub async fn begin<S: AsyncRead + AsyncWrite + Unpin>(upstream: &mut S, startup: &Startup) -> Result<Begun, Error> {
    let mut conversation = Conversation { upstream, received: BytesMut::new(), greeting: BytesMut::new() };
    conversation.send(&startup.encode()).await?;
    loop {
        match hear(&mut conversation).await? {
            Heard::Ok => return conversation.read_greeting().await.map(Begun::LoggedIn),
            Heard::Request => {
                let Conversation { received, greeting: to_client, .. } = conversation;
                return Ok(Begun::Asked(Asked { received, to_client }));
            }
            Heard::Other => {}
        }
    }
}

impl Asked {
    /// Lets client and server talk until the server lets the client in. From the client not a byte is read beyond its answers.
    /// `clients_turn` is called with whether the client is waited for, whenever that changes. The caller sets the deadline. Not
    /// cancel safe.
    ///
    /// # Errors
    /// [`Broken`], by side.
    pub async fn relay<S, C>(
        self,
        upstream: &mut S,
        client: &mut C,
        clients_turn: impl Fn(bool),
    ) -> Result<LoggedIn, Broken>
    where
        S: AsyncRead + AsyncWrite + Unpin,
        C: AsyncRead + AsyncWrite + Unpin + ?Sized,
    {
        let Self { received, to_client: greeting } = self;
        let mut conversation = Conversation { upstream, received, greeting };
        let mut answer = Answer::default();
        // Only then it is read from, for what it sends ahead belongs to the relay.
        let mut is_clients_turn = true;
        loop {
            if !conversation.greeting.is_empty() {
                let said = conversation.greeting.split();
                let write = async {
                    client.write_all(&said).await?;
                    client.flush().await
                };
                write.await.map_err(|error| Broken::Client(Error::broke(error, WAITING_FOR_CLIENT)))?;
                clients_turn(is_clients_turn);
            }
            tokio::select! {
                heard = hear(&mut conversation) => match heard.map_err(Broken::Server)? {
                    Heard::Ok => return conversation.read_greeting().await.map_err(Broken::Server),
                    Heard::Request => is_clients_turn = true,
                    Heard::Other => {}
                },
                read = answer.read(client), if is_clients_turn => {
                    let message = read.map_err(Broken::Client)?;
                    conversation.send(&message).await.map_err(Broken::Server)?;
                    is_clients_turn = false;
                    clients_turn(false);
                }
            }
        }
    }
}

/// A message of the server that the client has to hear.
#[derive(PartialEq, Eq)]
enum Heard {
    /// AuthenticationOk.
    Ok,
    /// Another authentication message, which the client answers.
    Request,
    /// A message without an answer: a notice, the version of the protocol, the end of SASL.
    Other,
}

/// Reads a message of the server, and keeps it for the client. Cancel safe.
async fn hear<S: AsyncRead + AsyncWrite + Unpin>(conversation: &mut Conversation<'_, S>) -> Result<Heard, Error> {
    let message = conversation.next(WAITING_FOR_SERVER).await?;
    match message.tag {
        tag::AUTHENTICATION => match Authentication::parse(message.body())? {
            Authentication::Other(Method::SASL) => {
                let request = without_channel_binding(message.body())?;
                conversation.greeting.extend_from_slice(&request);
                Ok(Heard::Request)
            }
            authentication => {
                conversation.pass_on(&message)?;
                Ok(match authentication {
                    Authentication::Ok => Heard::Ok,
                    Authentication::Other(Method::SASL_FINAL) => Heard::Other,
                    Authentication::CleartextPassword | Authentication::Other(_) => Heard::Request,
                })
            }
        },
        tag::NEGOTIATE_PROTOCOL_VERSION | tag::NOTICE_RESPONSE => {
            conversation.pass_on(&message)?;
            Ok(Heard::Other)
        }
        tag::ERROR_RESPONSE => Err(Error::Refused(server_error(message.body())?)),
        tag => Err(Error::Unexpected { tag, waiting_for: WAITING_FOR_SERVER }),
    }
}

/// AuthenticationSASL without the mechanisms that bind to TLS: 10, then their names as C strings, then an empty one.
fn without_channel_binding(body: &[u8]) -> Result<Vec<u8>, Error> {
    const MALFORMED: Error = Error::Malformed("AuthenticationSASL");
    let mut reader = Reader::new(body);
    let code = reader.u32().ok_or(MALFORMED)?;
    let mut request = Vec::with_capacity(HEADER + body.len());
    put_message(&mut request, Some(tag::AUTHENTICATION), |out| {
        out.extend_from_slice(&code.to_be_bytes());
        loop {
            let mechanism = reader.cstr().ok_or(MALFORMED)?;
            if !mechanism.ends_with(CHANNEL_BINDING) {
                out.extend_from_slice(mechanism);
                out.push(0);
            }
            if mechanism.is_empty() {
                return Ok::<(), Error>(());
            }
        }
    })?;
    Ok(request)
}

/// The message that the client is sending. It may be a password.
#[derive(Default)]
pub(super) struct Answer {
    header: [u8; HEADER],
    /// Header and body, once the header is complete. Its size is the message's from the beginning, for a growing vector would
    /// leave copies behind.
    message: Zeroizing<Vec<u8>>,
    read: usize,
}

impl Answer {
    /// Reads the rest of the message. Cancel safe.
    pub(super) async fn read<C: AsyncRead + Unpin + ?Sized>(
        &mut self,
        client: &mut C,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        loop {
            let buffer = match self.message.len() {
                0 => &mut self.header[..],
                _ => &mut self.message[..],
            };
            let Some(rest) = buffer.get_mut(self.read..).filter(|rest| !rest.is_empty()) else {
                if !self.message.is_empty() {
                    self.read = 0;
                    return Ok(std::mem::take(&mut self.message));
                }
                self.message = begin_message(self.header)?;
                continue;
            };
            let read = client.read(rest).await.map_err(|error| Error::broke(error, WAITING_FOR_CLIENT))?;
            if read == 0 {
                return Err(Error::Closed { waiting_for: WAITING_FOR_CLIENT });
            }
            self.read += read;
        }
    }
}

/// Room for the message with this header, which it begins with.
fn begin_message(header: [u8; HEADER]) -> Result<Zeroizing<Vec<u8>>, Error> {
    if header == TERMINATE {
        return Err(Error::Closed { waiting_for: WAITING_FOR_CLIENT });
    }
    let [tag, field @ ..] = header;
    let length = u32::from_be_bytes(field);
    let Some(size @ 4..=MAX_ANSWER) = usize::try_from(length).ok() else {
        return Err(Error::AnswerLength { tag, length });
    };
    let mut message = Zeroizing::new(vec![0; 1 + size]);
    if let Some(start) = message.first_chunk_mut() {
        *start = header;
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};

    use super::*;
    use crate::postgres::ProtocolVersion;

    const OK: &[u8] = b"R\0\0\0\x08\0\0\0\0";
    const KEY: &[u8] = b"K\0\0\0\x0c\0\0d\x1a\xc3B\x1f\x0e";
    const READY: &[u8] = b"Z\0\0\0\x05I";
    const CLEARTEXT: &[u8] = b"R\0\0\0\x08\0\0\0\x03";
    const MD5: &[u8] = b"R\0\0\0\x0c\0\0\0\x05salt";
    // As PostgreSQL 15.18 sends it over TLS, and as it sends it without.
    const SASL_OVER_TLS: &[u8] = b"R\0\0\0\x2a\0\0\0\nSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
    const SASL: &[u8] = b"R\0\0\0\x17\0\0\0\nSCRAM-SHA-256\0\0";
    const CONTINUE: &[u8] = b"R\0\0\0\x0f\0\0\0\x0br=nonce";
    const FINAL: &[u8] = b"R\0\0\0\x0c\0\0\0\x0cv=it";
    const NEGOTIATE: &[u8] = b"v\0\0\0\x0c\0\x03\0\0\0\0\0\0";

    fn startup() -> Startup {
        let mut startup = Startup::new(ProtocolVersion { major: 3, minor: 0 });
        startup.set(b"user", b"app_user").unwrap();
        startup
    }

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        [&[tag][..], &u32::try_from(body.len() + 4).unwrap().to_be_bytes(), body].concat()
    }

    /// A request of the server, the request as the client hears it, and the client's answer.
    type Round = (&'static [u8], &'static [u8], &'static [u8]);

    struct Peer(DuplexStream);

    impl Peer {
        async fn send(&mut self, bytes: &[u8]) {
            self.0.write_all(bytes).await.unwrap();
        }

        async fn leave(&mut self) {
            self.0.shutdown().await.unwrap();
        }

        async fn expect(&mut self, bytes: &[u8]) {
            let mut came = vec![0; bytes.len()];
            self.0.read_exact(&mut came).await.unwrap();
            assert_eq!(came, bytes);
        }
    }

    async fn authenticate(
        upstream: &mut DuplexStream,
        client: &mut DuplexStream,
        turns: &std::cell::RefCell<Vec<bool>>,
    ) -> Result<LoggedIn, Broken> {
        match begin(upstream, &startup()).await.map_err(Broken::Server)? {
            Begun::Asked(asked) => asked.relay(upstream, client, |turn| turns.borrow_mut().push(turn)).await,
            Begun::LoggedIn(logged_in) => Ok(logged_in),
        }
    }

    /// Plays a server and a client against each other through us, over wires that hold `capacity` bytes. The bytes of the
    /// client that were not read are returned too.
    async fn play(
        capacity: usize,
        server: impl AsyncFnOnce(&mut Peer),
        client: impl AsyncFnOnce(&mut Peer),
    ) -> (Result<LoggedIn, Broken>, Vec<u8>) {
        let ((mut upstream, theirs), (mut local, remote)) = (duplex(capacity), duplex(capacity));
        let (mut server_peer, mut client_peer) = (Peer(theirs), Peer(remote));
        let turns = std::cell::RefCell::default();
        let (result, (), ()) = tokio::join!(
            authenticate(&mut upstream, &mut local, &turns),
            async {
                server_peer.expect(&startup().encode()).await;
                server(&mut server_peer).await;
            },
            client(&mut client_peer),
        );
        drop((server_peer, client_peer));
        let mut left = Vec::new();
        local.read_to_end(&mut left).await.unwrap();
        (result, left)
    }

    #[tokio::test]
    async fn every_method_passes_through_and_the_greeting_begins_with_ok() {
        let scram: [Round; 2] =
            [(SASL_OVER_TLS, SASL, b"SCRAM-SHA-256\0\0\0\0\x08n,,n=,r="), (CONTINUE, CONTINUE, b"c=biws")];
        let conversations: [&[Round]; 4] =
            [&[(CLEARTEXT, CLEARTEXT, b"se\0cret")], &[(MD5, MD5, b"md5ff\0")], &scram, &[]];
        for capacity in [1, 7, 10_000] {
            for rounds in conversations {
                let is_scram = rounds.len() == 2;
                let server = async |server: &mut Peer| {
                    for (request, _, answer) in rounds {
                        server.send(request).await;
                        server.expect(&message(b'p', answer)).await;
                    }
                    server.send(&[if is_scram { FINAL } else { b"" }, OK, KEY, READY].concat()).await;
                };
                let client = async |client: &mut Peer| {
                    for (_, request, answer) in rounds {
                        client.expect(request).await;
                        client.send(&message(b'p', answer)).await;
                    }
                    client.expect(if is_scram { FINAL } else { b"" }).await;
                };
                let (logged_in, left) = play(capacity, server, client).await;
                let logged_in = logged_in.unwrap();
                assert_eq!(logged_in.greeting, [OK, KEY, READY].concat());
                assert!(logged_in.cancel_key.is_some() && left.is_empty());
            }
        }
    }

    #[tokio::test]
    async fn version_of_the_server_reaches_the_client_before_the_request() {
        let server = async |server: &mut Peer| {
            server.send(NEGOTIATE).await;
            server.send(CLEARTEXT).await;
            server.expect(&message(b'p', b"secret\0")).await;
            server.send(&[OK, READY].concat()).await;
        };
        let client = async |client: &mut Peer| {
            client.expect(NEGOTIATE).await;
            client.expect(CLEARTEXT).await;
            client.send(&message(b'p', b"secret\0")).await;
        };
        assert_eq!(play(100, server, client).await.0.unwrap().greeting, [OK, READY].concat());
    }

    #[tokio::test]
    async fn bytes_behind_an_answer_are_left_for_the_relay() {
        let server = async |server: &mut Peer| {
            server.send(MD5).await;
            server.expect(&message(b'p', b"md5ff\0")).await;
            server.send(&[OK, READY].concat()).await;
        };
        let client = async |client: &mut Peer| {
            client.send(&[message(b'p', b"md5ff\0"), b"Q\0\0\0\x08se".to_vec()].concat()).await;
        };
        let (result, left) = play(10_000, server, client).await;
        assert!(result.is_ok());
        assert_eq!(left, b"Q\0\0\0\x08se");
    }

    #[tokio::test]
    async fn refusal_is_the_servers_own_and_silence_of_the_client_is_a_departure() {
        let refusal = message(b'E', b"SFATAL\0C28P01\0Mno\0\0");
        let server = async |server: &mut Peer| {
            server.send(CLEARTEXT).await;
            server.expect(&message(b'p', b"wrong\0")).await;
            server.send(&refusal).await;
        };
        let client = async |client: &mut Peer| client.send(&message(b'p', b"wrong\0")).await;
        let (result, _) = play(100, server, client).await;
        let Err(Broken::Server(Error::Refused(refused))) = result else { panic!("{result:?}") };
        assert_eq!((&*refused.sqlstate(), refused.encode_with(None, None, None)), ("28P01", refusal.clone()));
        for goodbye in [&b""[..], b"p\0\0\0\x0bsec", b"p\0\0", &TERMINATE] {
            let (result, _) = play(
                100,
                async |server| server.send(CLEARTEXT).await,
                async |client| {
                    client.expect(CLEARTEXT).await;
                    client.send(goodbye).await;
                    client.leave().await;
                },
            )
            .await;
            assert!(matches!(result, Err(Broken::Client(Error::Closed { .. }))), "{goodbye:?}: {result:?}");
        }
        let server = async |server: &mut Peer| {
            server.send(CLEARTEXT).await;
            server.leave().await;
        };
        let (result, _) = play(100, server, async |client| client.expect(CLEARTEXT).await).await;
        assert!(matches!(result, Err(Broken::Server(Error::Closed { .. }))), "{result:?}");
    }

    #[tokio::test]
    async fn answers_of_impossible_length_are_refused_before_their_bytes_are_read() {
        for (length, refused) in [(0, true), (3, true), (4, false), (65_539, false), (65_540, true), (u32::MAX, true)] {
            let header = [&b"p"[..], &length.to_be_bytes()].concat();
            let mut answer = Answer::default();
            let error = answer.read(&mut &header[..]).await;
            match error {
                Ok(message) => assert_eq!((length, message.len()), (4, 5)),
                Err(Error::AnswerLength { tag: b'p', .. }) => assert!(refused, "{length}"),
                Err(Error::Closed { .. }) => assert!(!refused, "{length}"),
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn mechanisms_that_bind_to_tls_are_left_out_and_a_list_cut_anywhere_is_an_error() {
        assert_eq!(without_channel_binding(&SASL_OVER_TLS[HEADER..]).unwrap(), SASL);
        assert_eq!(without_channel_binding(&SASL[HEADER..]).unwrap(), SASL);
        let only = message(b'R', b"\0\0\0\nSCRAM-SHA-256-PLUS\0\0");
        assert_eq!(without_channel_binding(&only[HEADER..]).unwrap(), message(b'R', b"\0\0\0\n\0"));
        for end in HEADER..SASL_OVER_TLS.len() {
            assert!(without_channel_binding(&SASL_OVER_TLS[HEADER..end]).is_err(), "cut at {end}");
        }
    }

    #[tokio::test]
    async fn request_cut_anywhere_is_a_closed_connection() {
        for request in [SASL_OVER_TLS, MD5, CLEARTEXT] {
            for end in 0..request.len() {
                let mut upstream = tokio::io::join(&request[..end], Vec::new());
                let begun = begin(&mut upstream, &startup()).await;
                assert!(matches!(begun, Err(Error::Closed { .. })), "cut at {end}");
            }
        }
    }
}
