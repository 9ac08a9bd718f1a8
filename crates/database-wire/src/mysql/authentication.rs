//! The authentication of a client whose proof is its own: the client answers the server's own scramble, and what either says
//! reaches the other.
//!
//! ```text
//!   HandshakeResponse41 or COM_CHANGE_USER: plugin and answer of the client ─▶
//!        ◀─ AuthSwitchRequest, AuthMoreData, …    ─▶ client
//!   client ─▶ its answer                          ─▶     any number of rounds
//!        ◀─ OK
//! ```
//!
//! Two plugins encrypt the password for want of TLS, which the client does not have and the server does: `sha256_password`, and
//! `caching_sha2_password` where the server does not know the password yet. A client that asks for the key gets one of ours,
//! and the password goes on inside TLS, where the server expects it in the clear.

use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use super::{
    accept::Login,
    agreement::{Compression, Terms},
    change_user,
    codec::{self, Departure, HEADER},
    error::{Error, ServerError},
    goodbye,
    greeting::Greeting,
    key::Key,
    login::{HANDSHAKE_RESPONSE, LoggedIn, VERDICT},
    message::{self, FAST_AUTH_SUCCESS, OkPacket},
    plugin::Plugin,
    response::{Answer, HandshakeResponse},
};

const WAITING_FOR_CLIENT: &str = "the client's password";
/// Questions of a server to one client: a plugin asks once or twice, and an account of MariaDB may have several.
const ROUNDS: u8 = 32;
/// A client of `caching_sha2_password` asks for the key.
const REQUEST_OF_CACHING_SHA2: [u8; 1] = [2];
/// A client of `sha256_password` asks for the key.
const REQUEST_OF_SHA256: [u8; 1] = [1];

/// Why an authentication was broken off.
#[derive(Debug)]
pub enum Broken {
    /// By the client. The server has refused the login, and so does not count it as a broken handshake.
    Client(Error),
    /// By the server.
    Server(Error),
}

/// Logs in over an encrypted stream with the proof of the client. What follows OK is compressed if the terms say so. The key is
/// asked for when the client needs it. The caller sets the deadline. Not cancel safe.
///
/// # Errors
/// [`Broken`], by side.
pub async fn login_of_client<S, C>(
    upstream: &mut S,
    client: &mut C,
    terms: Terms<'_>,
    (login, key): (&mut Login, impl AsyncFn() -> Option<&'static Key>),
) -> Result<LoggedIn, Broken>
where
    S: AsyncRead + AsyncWrite + Unpin,
    C: AsyncRead + AsyncWrite + Unpin,
{
    let capabilities = terms.capabilities().map_err(Broken::Server)?;
    let Terms { greeting, response, .. } = terms;
    let salt = greeting.scramble.bytes().to_vec();
    let mut relay = Relay::new(upstream, client, login, salt, key);
    let (plugin, data, departure) = relay.first().await;
    let packet = response.encode(HANDSHAKE_RESPONSE, capabilities, &plugin, &data, Compression::ZSTD_LEVEL);
    let ok = relay.judge(&packet.map_err(Broken::Server)?, HANDSHAKE_RESPONSE, departure).await;
    Ok(LoggedIn { ok: ok.map_err(|broken| broken.of_login(response))?, capabilities })
}

/// Logs in again with the proof of the client on a connection that is logged in and has answered all commands. The caller sets
/// the deadline. Not cancel safe.
///
/// # Errors
/// [`Broken`], by side. The connection is of no use any more.
pub async fn change_user_of_client<S, C>(
    upstream: &mut S,
    client: &mut C,
    greeting: &Greeting,
    response: &HandshakeResponse,
    logged_in: &LoggedIn,
    (login, key): (&mut Login, impl AsyncFn() -> Option<&'static Key>),
) -> Result<OkPacket, Broken>
where
    S: AsyncRead + AsyncWrite + Unpin,
    C: AsyncRead + AsyncWrite + Unpin,
{
    let salt = greeting.scramble.bytes().to_vec();
    let mut relay = Relay::new(upstream, client, login, salt, key);
    let (plugin, data, departure) = relay.first().await;
    let packet = change_user::encode(response, logged_in.capabilities, &plugin, &data).map(Zeroizing::new);
    let ok = relay.judge(&packet.map_err(Broken::Server)?, 0, departure).await;
    ok.map_err(|broken| broken.of_login(response))
}

impl Broken {
    fn of_login(self, response: &HandshakeResponse) -> Self {
        match self {
            Self::Server(error) => Self::Server(error.of_login(response)),
            client @ Self::Client(_) => client,
        }
    }
}

/// Client and server of one authentication.
struct Relay<'a, S, C, K> {
    upstream: &'a mut S,
    client: &'a mut C,
    login: &'a mut Login,
    key: K,
    /// The plugin that the client answers for.
    plugin: Plugin,
    /// The bytes that it mixes into its password.
    salt: Vec<u8>,
}

impl<'a, S, C, K> Relay<'a, S, C, K>
where
    S: AsyncRead + AsyncWrite + Unpin,
    C: AsyncRead + AsyncWrite + Unpin,
    K: AsyncFn() -> Option<&'static Key>,
{
    fn new(upstream: &'a mut S, client: &'a mut C, login: &'a mut Login, salt: Vec<u8>, key: K) -> Self {
        Self { upstream, client, login, key, plugin: Plugin::Native, salt }
    }

    /// The answer that came with the client's packet. A client that leaves meanwhile has none.
    async fn first(&mut self) -> (Plugin, Zeroizing<Vec<u8>>, Option<Error>) {
        let Some(Answer { plugin, data }) = self.login.answer.take() else {
            return (Plugin::Native, Zeroizing::default(), None);
        };
        self.plugin = plugin.clone();
        // What one byte means depends on the plugin: only of this one is it a request here.
        let is_request = self.plugin.name() == b"sha256_password";
        let opened = if is_request { self.opened(data).await } else { Ok(data) };
        match opened {
            Ok(data) => (plugin, data, None),
            Err(departure) => (plugin, Zeroizing::default(), Some(departure)),
        }
    }

    /// Sends the packet with this number, and passes on what server and client say until the server's verdict.
    async fn judge(&mut self, packet: &[u8], number: u8, departure: Option<Error>) -> Result<OkPacket, Broken> {
        codec::send(self.upstream, packet, VERDICT).await.map_err(Broken::Server)?;
        let mut expected = number.wrapping_add(1);
        if let Some(departure) = departure {
            return self.refused(expected, departure).await;
        }
        for _ in 0..ROUNDS {
            let packet = codec::read_packet(self.upstream, expected, VERDICT).await.map_err(Broken::Server)?;
            match packet.payload.first() {
                Some(&message::OK) => return OkPacket::parse(packet.payload).map_err(Broken::Server),
                Some(&message::ERR) => {
                    let refusal = ServerError::parse(&packet.payload).ok_or(Error::Malformed("ERR"));
                    return Err(Broken::Server(refusal.map_or_else(|error| error, Error::Refused)));
                }
                Some(&message::AUTH_SWITCH) => {
                    let (plugin, scramble) = message::auth_switch_request(&packet.payload).map_err(Broken::Server)?;
                    self.plugin = plugin;
                    self.salt = scramble.strip_suffix(b"\0").unwrap_or(scramble).to_vec();
                }
                _ => {}
            }
            let is_answered = packet.payload != FAST_AUTH_SUCCESS || self.plugin != Plugin::CachingSha2;
            let answer = match self.ask(&packet.payload, is_answered).await {
                Ok(Some(answer)) => answer,
                Ok(None) => {
                    expected = packet.next();
                    continue;
                }
                Err(departure) => {
                    let nothing = codec::packet(packet.next(), b"");
                    codec::send(self.upstream, &nothing, VERDICT).await.map_err(Broken::Server)?;
                    return self.refused(packet.next().wrapping_add(1), departure).await;
                }
            };
            let answer = whole(packet.next(), &answer);
            codec::send(self.upstream, &answer, VERDICT).await.map_err(Broken::Server)?;
            expected = packet.next().wrapping_add(1);
        }
        Err(Broken::Server(Error::Malformed("authentication")))
    }

    /// Lets the server refuse a login whose client has left.
    async fn refused(&mut self, next: u8, departure: Error) -> Result<OkPacket, Broken> {
        let _ = goodbye::refused(self.upstream, next).await;
        Err(Broken::Client(departure))
    }

    /// Passes a question on to the client, and reads the answer of one that is answered.
    async fn ask(&mut self, question: &[u8], is_answered: bool) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        let number = self.login.sequence;
        codec::send(self.client, &codec::packet(number, question), WAITING_FOR_CLIENT).await?;
        self.login.sequence = number.wrapping_add(1);
        if !is_answered {
            return Ok(None);
        }
        let answer = self.read().await?;
        self.opened(answer).await.map(Some)
    }

    async fn read(&mut self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let read = codec::read_packet_or_end(self.client, self.login.sequence, WAITING_FOR_CLIENT).await?;
        let gone = |_: Departure| Error::Closed { waiting_for: WAITING_FOR_CLIENT };
        let packet = read.map_err(gone)?;
        self.login.sequence = packet.next();
        Ok(Zeroizing::new(packet.payload))
    }

    /// The answer as the server expects it inside TLS: a client that asks for a key gets ours, and its password is decrypted.
    async fn opened(&mut self, answer: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, Error> {
        let asks_for_key = match &self.plugin {
            Plugin::CachingSha2 => **answer == REQUEST_OF_CACHING_SHA2,
            plugin => plugin.name() == b"sha256_password" && **answer == REQUEST_OF_SHA256,
        };
        if !asks_for_key {
            return Ok(answer);
        }
        let key = (self.key)().await.ok_or(Error::Response("there is no key to encrypt its password with"))?;
        let pem = [&[message::AUTH_MORE_DATA], key.pem()].concat();
        codec::send(self.client, &codec::packet(self.login.sequence, &pem), WAITING_FOR_CLIENT).await?;
        self.login.sequence = self.login.sequence.wrapping_add(1);
        let encrypted = self.read().await?;
        key.decrypt(&encrypted, &self.salt)
            .ok_or(Error::Response("its password is not encrypted with the key that it got"))
    }
}

/// A packet in memory that is zeroed when dropped.
fn whole(sequence: u8, payload: &[u8]) -> Zeroizing<Vec<u8>> {
    // The exact size, for a growing vector would leave copies behind.
    let mut out = Zeroizing::new(Vec::with_capacity(HEADER + payload.len()));
    codec::put_packet::<std::convert::Infallible>(&mut out, sequence, |out| {
        out.extend_from_slice(payload);
        Ok(())
    })
    .unwrap_or_else(|never| match never {});
    out
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OaepPublicEncryptingKey, PublicEncryptingKey};
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use tokio::io::duplex;

    use super::*;
    use crate::mysql::{
        accept::{Accepted, accept_answer, finish},
        script::{MARIADB, MARIADB_CLIENT, MYSQL, OK, PYMYSQL, Peer, greeting, packet},
    };

    const DENIED: &[u8] = b"\xff\x15\x04#28000no";

    fn made() -> Option<&'static Key> {
        static KEY: std::sync::OnceLock<Option<Key>> = std::sync::OnceLock::new();
        KEY.get_or_init(Key::generate).as_ref()
    }

    async fn log_in(
        upstream: &mut tokio::io::DuplexStream,
        client: &mut tokio::io::DuplexStream,
        greeted: &[u8],
    ) -> Result<(), Broken> {
        let greeting = greeting(greeted);
        let accepted =
            accept_answer(client, &greeting, crate::encryption::Encryption::Off).await.map_err(Broken::Client)?;
        let Accepted::Login(mut login) = accepted else { panic!("gone") };
        let response = login.response.clone();
        let key = async || made();
        let terms = Terms { greeting: &greeting, response: &response, compression: None };
        let logged_in = login_of_client(upstream, client, terms, (&mut login, key)).await?;
        finish(client, &login, &logged_in.ok).await.map_err(Broken::Client)
    }

    /// Plays a server and a client against each other through us.
    async fn play(
        greeted: &[u8],
        server: impl AsyncFnOnce(&mut Peer),
        client: impl AsyncFnOnce(&mut Peer),
    ) -> Result<(), Broken> {
        let ((mut upstream, theirs), (mut local, remote)) = (duplex(4096), duplex(4096));
        let (mut server_peer, mut client_peer) = (Peer(theirs), Peer(remote));
        let (result, (), ()) = tokio::join!(
            log_in(&mut upstream, &mut local, greeted),
            server(&mut server_peer),
            client(&mut client_peer),
        );
        result
    }

    /// The packet holds this answer of the client.
    async fn expect_answer(server: &mut Peer, answer: &[u8]) {
        let (sequence, payload) = server.packet().await;
        assert_eq!(sequence, 2);
        assert!(payload.windows(answer.len()).any(|window| window == answer));
    }

    #[tokio::test]
    async fn answer_of_the_client_reaches_the_server_and_ok_the_client() {
        for (greeted, response) in [(MARIADB, MARIADB_CLIENT), (MYSQL, PYMYSQL)] {
            let answer = &response[45..60];
            let server = async |server: &mut Peer| {
                expect_answer(server, answer).await;
                server.send_packet(3, OK).await;
            };
            let client = async |client: &mut Peer| {
                client.send(response).await;
                client.expect_packet(2, OK).await;
            };
            play(greeted, server, client).await.unwrap();
        }
    }

    #[tokio::test]
    async fn switches_and_more_data_pass_both_ways_with_numbers_of_either_side() {
        let switch = b"\xfeclient_ed25519\0abcdefghijklmnopqrstuvwxyzabcdef";
        let server = async |server: &mut Peer| {
            server.packet().await;
            server.send_packet(3, switch).await;
            server.expect_packet(4, &[7; 64]).await;
            server.send_packet(5, b"\x01more").await;
            server.expect_packet(6, b"answer").await;
            server.send_packet(7, OK).await;
        };
        let client = async |client: &mut Peer| {
            client.send(MARIADB_CLIENT).await;
            client.expect_packet(2, switch).await;
            client.send_packet(3, &[7; 64]).await;
            client.expect_packet(4, b"\x01more").await;
            client.send_packet(5, b"answer").await;
            client.expect_packet(6, OK).await;
        };
        play(MARIADB, server, client).await.unwrap();
    }

    #[tokio::test]
    async fn known_password_takes_no_answer() {
        let server = async |server: &mut Peer| {
            server.packet().await;
            server.send_packet(3, &FAST_AUTH_SUCCESS).await;
            server.send_packet(4, OK).await;
        };
        let client = async |client: &mut Peer| {
            client.send(PYMYSQL).await;
            client.expect_packet(2, &FAST_AUTH_SUCCESS).await;
            client.expect_packet(3, OK).await;
        };
        play(MYSQL, server, client).await.unwrap();
    }

    #[tokio::test]
    async fn unknown_password_is_decrypted_for_a_client_that_asks_for_the_key() {
        for in_the_clear in [false, true] {
            let server = async |server: &mut Peer| {
                server.packet().await;
                server.send_packet(3, b"\x01\x04").await;
                server.expect_packet(4, b"secret\0").await;
                server.send_packet(5, OK).await;
            };
            let client = async |client: &mut Peer| {
                client.send(PYMYSQL).await;
                client.expect_packet(2, b"\x01\x04").await;
                if in_the_clear {
                    client.send_packet(3, b"secret\0").await;
                    return client.expect_packet(4, OK).await;
                }
                client.send_packet(3, b"\x02").await;
                let (sequence, payload) = client.packet().await;
                assert_eq!((sequence, payload[0]), (4, message::AUTH_MORE_DATA));
                let pem = String::from_utf8(payload[1..].to_vec()).unwrap();
                let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
                let public = PublicEncryptingKey::from_der(&STANDARD.decode(body).unwrap()).unwrap();
                let public = OaepPublicEncryptingKey::new(public).unwrap();
                let salt = greeting(MYSQL).scramble;
                let mixed: Vec<u8> = b"secret\0".iter().zip(salt.bytes()).map(|(byte, salt)| byte ^ salt).collect();
                let mut encrypted = vec![0; public.ciphertext_size()];
                public.encrypt(&OAEP_SHA1_MGF1SHA1, &mixed, &mut encrypted, None).unwrap();
                client.send_packet(5, &encrypted).await;
                client.expect_packet(6, OK).await;
            };
            play(MYSQL, server, client).await.unwrap();
        }
    }

    #[tokio::test]
    async fn refusal_is_the_servers_own_and_a_client_that_leaves_is_refused_first() {
        let server = async |server: &mut Peer| {
            server.packet().await;
            server.send_packet(3, DENIED).await;
        };
        let result = play(MARIADB, server, async |client| client.send(MARIADB_CLIENT).await).await;
        assert!(
            matches!(&result, Err(Broken::Server(Error::Refused(refused))) if refused.code() == 1045),
            "{result:?}"
        );
        let server = async |server: &mut Peer| {
            server.packet().await;
            server.send_packet(3, b"\xfeclient_ed25519\0salt").await;
            server.expect_packet(4, b"").await;
            server.send_packet(5, DENIED).await;
        };
        let client = async |client: &mut Peer| {
            client.send(MARIADB_CLIENT).await;
            client.packet().await;
            tokio::io::AsyncWriteExt::shutdown(&mut client.0).await.unwrap();
        };
        let result = play(MARIADB, server, client).await;
        assert!(matches!(result, Err(Broken::Client(Error::Closed { .. }))), "{result:?}");
    }

    #[test]
    fn encrypted_passwords_cut_anywhere_are_refused() {
        let key = Key::generate().unwrap();
        for length in [0, 1, 255, 256, 257] {
            assert!(key.decrypt(&vec![7; length], b"abcdefghijklmnopqrst").is_none(), "{length}");
        }
        assert!(packet(0, key.pem()).len() > 400 && key.decrypt(b"", b"").is_none());
    }
}
