//! The client's half of a login: its response to the greeting, and whatever its authentication plugin needs to hear to
//! believe that it is logged in. Any user, any password and no password are taken.
//!
//! ```text
//!   ─▶ HandshakeResponse41 ─┬─ answers for the plugin that was offered ────────────────────▶ Login
//!                           ├─ mysql_clear_password, or no plugins at all ─────────────────▶ Login
//!                           └─ for another: ◀─ AuthSwitchRequest ─▶ its answer ────────────▶ Login
//!                                                         Login, when upstream has said OK:
//!                              ◀─ AuthMoreData (fast_auth_success)   caching_sha2_password with a password
//!                              ◀─ OK of the server
//! ```
//!
//! A client whose own first choice is another plugin than the one offered sends nothing for it and waits to be asked
//! (`run_plugin_auth` of libmysqlclient and libmariadb): an OK at once would be an error to it.

use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use super::{
    codec::{self, Departure, Packet},
    error::{Error, ReplyPosition},
    greeting::{Greeting, Scramble},
    message::{self, OkPacket},
    plugin::Plugin,
    response::{Answer, Authentication, HandshakeResponse, is_password, is_ssl_request},
};
use crate::encryption::Encryption;

pub(super) const WAITING_FOR: &str = "the client's response to the greeting";

/// The wish of a client.
#[derive(Debug)]
pub enum Accepted {
    /// TLS, which the client begins now. It is accepted again inside.
    Tls,
    /// To log in.
    Login(Login),
    /// The client closed the connection after the greeting. A port probe, or a client that insists on TLS
    /// (`--ssl-mode=REQUIRED`; MariaDB's since 11.4 without `--skip-ssl`), or one that lacks a feature
    /// that it was configured with.
    Gone {
        /// It said goodbye with COM_QUIT, which a client that misses TLS does not.
        quit: bool,
    },
}

impl Accepted {
    pub(super) fn gone(departure: Departure) -> Self {
        Self::Gone { quit: departure == Departure::Quit }
    }
}

/// A client that waits for OK or ERR.
#[derive(Debug)]
pub struct Login {
    /// Its wish.
    pub response: HandshakeResponse,
    /// The sequence number of the next packet to it.
    pub(super) sequence: u8,
    /// It wants to hear that its password is known before it hears OK.
    pub(super) fast_auth: bool,
    /// Its answer to the scramble, where that goes to the server.
    pub(super) answer: Option<Answer>,
}

impl Login {
    /// Where an error for this client goes in its conversation.
    pub fn position(&self) -> ReplyPosition {
        ReplyPosition::answer(self.sequence)
    }
}

/// Reads the client's response to a greeting sent with [`greet`](super::greet), and answers its plugin as far as that
/// can be done before the server has spoken.
///
/// Not cancel safe: a packet read in part is lost. Waits for the client as long as it takes: the deadline is the
/// caller's.
///
/// # Errors
/// The reply to the client is [`Error::report`], at the position [`Error::position`].
pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    client: &mut S,
    greeting: &Greeting,
    scramble: &Scramble,
    encryption: Encryption,
) -> Result<Accepted, Error> {
    let packet = match response_packet(client, encryption).await? {
        Ok(packet) => packet,
        Err(accepted) => return Ok(accepted),
    };
    let (response, authentication) = HandshakeResponse::parse(&packet.payload, greeting.offered())?;
    let switch_to = authentication.plugin.as_ref().and_then(|named| switch(named, &greeting.offered_plugin()));
    let login = answer(client, response, authentication, switch_to, packet.next(), scramble).await?;
    Ok(login.map_or_else(Accepted::gone, Accepted::Login))
}

/// Reads the client's response to a greeting that had the scramble of the server, with its answer for the server. As
/// [`accept`](fn@accept) otherwise.
///
/// # Errors
/// As for [`accept`](fn@accept).
pub async fn accept_answer<S: AsyncRead + Unpin>(
    client: &mut S,
    greeting: &Greeting,
    encryption: Encryption,
) -> Result<Accepted, Error> {
    let packet = match response_packet(client, encryption).await? {
        Ok(packet) => packet,
        Err(accepted) => return Ok(accepted),
    };
    let sequence = packet.next();
    let payload = Zeroizing::new(packet.payload);
    let (response, answer) = HandshakeResponse::parse_with_answer(&payload, greeting.offered())?;
    Ok(Accepted::Login(Login { response, sequence, fast_auth: false, answer: Some(answer) }))
}

/// The packet of the client's response, unless the client leaves or asks for TLS instead. Inside TLS it follows the SSLRequest.
pub(super) async fn response_packet<S: AsyncRead + Unpin>(
    client: &mut S,
    encryption: Encryption,
) -> Result<Result<Packet, Accepted>, Error> {
    let number = if encryption == Encryption::Inside { 2 } else { 1 };
    let packet = match codec::read_packet_or_end(client, number, WAITING_FOR).await? {
        Ok(packet) => packet,
        Err(departure) => return Ok(Err(Accepted::gone(departure))),
    };
    match (encryption, is_ssl_request(&packet.payload)) {
        (Encryption::Offered | Encryption::Required, true) => Ok(Err(Accepted::Tls)),
        (Encryption::Required, false) => Err(Error::InsecureTransport),
        (Encryption::Off | Encryption::Inside, _) | (Encryption::Offered, false) => Ok(Ok(packet)),
    }
}

impl Login {
    /// A client that waits for the server's verdict on its COM_CHANGE_USER.
    pub(super) fn answered(response: HandshakeResponse, sequence: u8, answer: Answer) -> Self {
        Self { response, sequence, fast_auth: false, answer: Some(answer) }
    }
}

/// Asks a client to authenticate with another plugin, if it must, and reads its answer, unless it leaves instead.
pub(super) async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    client: &mut S,
    response: HandshakeResponse,
    mut authentication: Authentication,
    switch_to: Option<Plugin>,
    mut sequence: u8,
    scramble: &Scramble,
) -> Result<Result<Login, Departure>, Error> {
    if let Some(plugin) = switch_to {
        let request = auth_switch_request(&plugin, scramble);
        codec::send(client, &codec::packet(sequence, &request), WAITING_FOR).await?;
        let packet = match codec::read_packet_or_end(client, sequence.wrapping_add(1), WAITING_FOR).await? {
            Ok(packet) => packet,
            Err(departure) => return Ok(Err(departure)),
        };
        sequence = packet.next();
        authentication = Authentication { plugin: Some(plugin), password: is_password(&packet.payload) };
    }
    let fast_auth = authentication == Authentication { plugin: Some(Plugin::CachingSha2), password: true };
    Ok(Ok(Login { response, sequence, fast_auth, answer: None }))
}

/// Tells the client that it is logged in, in the server's words. The caller sets the deadline. Not cancel safe.
///
/// # Errors
/// When the connection breaks.
pub async fn finish<S: AsyncWrite + Unpin>(client: &mut S, login: &Login, ok: &OkPacket) -> Result<(), Error> {
    let mut sequence = login.sequence;
    let mut out = Vec::new();
    if login.fast_auth {
        out = codec::packet(sequence, &message::FAST_AUTH_SUCCESS);
        sequence = sequence.wrapping_add(1);
    }
    out.extend_from_slice(&ok.encode(sequence));
    codec::send(client, &out, "the client's first command").await
}

/// The plugin to ask a client for that has `named` one, if it must be asked.
pub(super) fn switch(named: &Plugin, offered: &Plugin) -> Option<Plugin> {
    match named {
        named if named == offered => None,
        // Sends the password without having been asked for it.
        Plugin::Clear => None,
        Plugin::Native | Plugin::CachingSha2 => Some(named.clone()),
        // What it would ask is not known here: the one offered may do.
        Plugin::Other(_) => Some(offered.clone()),
    }
}

/// An AuthSwitchRequest's payload: plugin, scramble and a NUL.
pub(super) fn auth_switch_request(plugin: &Plugin, scramble: &Scramble) -> Vec<u8> {
    [&[message::AUTH_SWITCH][..], plugin.name(), &[0], scramble.bytes(), &[0]].concat()
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;

    use super::*;
    use crate::mysql::Capabilities;
    use crate::mysql::script::{MARIADB, MARIADB_CLIENT, MYSQL, OK, PYMYSQL, Peer, greeting, packet, play, scramble};

    const SWITCH_TO_NATIVE: &[u8] = b"\xfemysql_native_password\0abcdefghijklmnopqrst\0";
    const SWITCH_TO_SHA2: &[u8] = b"\xfecaching_sha2_password\0abcdefghijklmnopqrst\0";

    /// A response in the way of MySQL's clients, without a database.
    fn client(plugin: &str, data: &[u8]) -> Vec<u8> {
        let length = [u8::try_from(data.len()).unwrap()];
        let head = [&0x0028_8201_u32.to_le_bytes()[..], &[0, 0, 0, 1, 45], &[0; 23], b"root\0"].concat();
        packet(1, &[&head, &length[..], data, plugin.as_bytes(), b"\0"].concat())
    }

    /// Serves a client that plays `script`, up to the server's OK.
    async fn serve(server: &[u8], capacity: usize, script: impl AsyncFnOnce(&mut Peer)) -> Result<Accepted, Error> {
        let (greeting, scramble) = (greeting(server), scramble());
        let serve = async |ours: &mut DuplexStream| {
            let accepted = accept(ours, &greeting, &scramble, Encryption::Off).await?;
            if let Accepted::Login(login) = &accepted {
                finish(ours, login, &OkPacket::parse(OK.to_vec())?).await?;
            }
            Ok(accepted)
        };
        play(capacity, serve, script).await
    }

    async fn logged_in(server: &[u8], script: impl AsyncFnOnce(&mut Peer)) -> Login {
        match serve(server, 1, script).await.unwrap() {
            Accepted::Login(login) => login,
            Accepted::Gone { .. } | Accepted::Tls => panic!("gone"),
        }
    }

    #[tokio::test]
    async fn a_native_password_is_taken_at_once() {
        let login = logged_in(MARIADB, async |client| {
            client.send(MARIADB_CLIENT).await;
            client.expect_packet(2, OK).await;
            client.expect_end().await;
        });
        assert_eq!(login.await.response.user(), b"app_user");
    }

    #[tokio::test]
    async fn a_caching_sha2_password_is_known_before_it_is_ok() {
        logged_in(MYSQL, async |client| {
            client.send(PYMYSQL).await;
            client.expect_packet(2, &[1, 3]).await;
            client.expect_packet(3, OK).await;
            client.expect_end().await;
        })
        .await;
    }

    #[tokio::test]
    async fn no_password_is_as_good() {
        for (server, plugin) in [(MYSQL, "caching_sha2_password"), (MARIADB, "mysql_native_password")] {
            for nothing in [&b""[..], b"\0"] {
                logged_in(server, async |peer| {
                    peer.send(&client(plugin, nothing)).await;
                    peer.expect_packet(2, OK).await;
                    peer.expect_end().await;
                })
                .await;
            }
        }
    }

    #[tokio::test]
    async fn a_client_with_another_plugin_is_asked_for_that() {
        for (server, plugin, switch, data, fast_auth) in [
            (MYSQL, "mysql_native_password", SWITCH_TO_NATIVE, &[7; 20][..], false),
            (MYSQL, "mysql_native_password", SWITCH_TO_NATIVE, b"", false),
            (MARIADB, "caching_sha2_password", SWITCH_TO_SHA2, &[7; 32], true),
            (MARIADB, "caching_sha2_password", SWITCH_TO_SHA2, b"\0", false),
            (MARIADB, "dialog", SWITCH_TO_NATIVE, &[7; 20], false),
            (MYSQL, "sha256_password", SWITCH_TO_SHA2, &[7; 32], true),
            (MYSQL, "", SWITCH_TO_SHA2, &[7; 32], true),
        ] {
            logged_in(server, async |peer| {
                peer.send(&client(plugin, b"")).await;
                peer.expect_packet(2, switch).await;
                peer.send_packet(3, data).await;
                if fast_auth {
                    peer.expect_packet(4, &[1, 3]).await;
                }
                peer.expect_packet(4 + u8::from(fast_auth), OK).await;
                peer.expect_end().await;
            })
            .await;
        }
    }

    #[tokio::test]
    async fn a_clear_password_is_taken_and_forgotten() {
        let login = logged_in(MYSQL, async |peer| {
            peer.send(&client("mysql_clear_password", b"hush\0")).await;
            peer.expect_packet(2, OK).await;
            peer.expect_end().await;
        });
        assert!(!format!("{:?}", login.await).contains("hush"));
    }

    #[tokio::test]
    async fn a_client_without_plugins_is_served() {
        // MySQL 4.1 to 5.1: a length byte and 20 bytes, or a C string of 8.
        for (capabilities, data) in
            [(0x8201_u32, &b"\x14aaaaaaaaaaaaaaaaaaaa"[..]), (0x0201, b"aaaaaaaa\0"), (0x8201, b"\0")]
        {
            let head = [&capabilities.to_le_bytes()[..], &[0, 0, 0, 1, 8], &[0; 23], b"root\0", data].concat();
            logged_in(MYSQL, async |peer| {
                peer.send_packet(1, &head).await;
                peer.expect_packet(2, OK).await;
                peer.expect_end().await;
            })
            .await;
        }
    }

    #[tokio::test]
    async fn client_that_leaves_without_a_response_is_not_an_error() {
        assert!(matches!(serve(MYSQL, 1, async |_| {}).await.unwrap(), Accepted::Gone { quit: false }));
        let quit = serve(MYSQL, 1, async |peer| peer.send(&message::QUIT).await);
        assert!(matches!(quit.await.unwrap(), Accepted::Gone { quit: true }));
        let switched = serve(MYSQL, 100, async |peer| {
            peer.send(&client("mysql_native_password", b"")).await;
            peer.expect_packet(2, SWITCH_TO_NATIVE).await;
        });
        assert!(matches!(switched.await.unwrap(), Accepted::Gone { quit: false }));
    }

    #[tokio::test]
    async fn a_response_cut_anywhere_is_a_closed_connection() {
        for (server, response) in [(MYSQL, PYMYSQL), (MARIADB, MARIADB_CLIENT)] {
            for end in 1..response.len() {
                let error = serve(server, 1000, async |peer| peer.send(&response[..end]).await).await.unwrap_err();
                assert!(matches!(error, Error::Closed { .. }), "cut at {end}: {error}");
            }
        }
    }

    #[tokio::test]
    async fn a_client_that_insists_on_tls_hears_why_not() {
        let ssl_request = packet(1, &[&0x000f_aa8d_u32.to_le_bytes()[..], &[0; 28]].concat());
        let error = serve(MYSQL, 100, async |peer| peer.send(&ssl_request).await).await.unwrap_err();
        let told = error.report().unwrap().encode(error.position());
        assert_eq!(&told[3..13], b"\x02\xff\x13\x04#08S01");
        assert!(String::from_utf8_lossy(&told).contains("--ssl-mode=DISABLED"));
    }

    #[tokio::test]
    async fn response_inside_tls_follows_the_ssl_request() {
        let ssl_request = packet(1, &[&0x000f_aa8d_u32.to_le_bytes()[..], &[0; 28]].concat());
        let hear = async |encryption, sent: &[u8]| {
            let mut client = tokio::io::join(sent, Vec::new());
            let accepted = accept(&mut client, &greeting(MYSQL), &scramble(), encryption).await;
            (accepted, client.into_inner().0.len())
        };
        for encryption in [Encryption::Offered, Encryption::Required] {
            let (accepted, left) = hear(encryption, &[&ssl_request, &b"early"[..]].concat()).await;
            assert!(matches!(accepted.unwrap(), Accepted::Tls));
            assert_eq!(left, 5, "not a byte beyond the request is read");
        }
        let mut inside = PYMYSQL.to_vec();
        inside[3] = 2;
        let (accepted, _) = hear(Encryption::Inside, &inside).await;
        let Accepted::Login(login) = accepted.unwrap() else { panic!("gone") };
        assert_eq!((login.sequence, login.response.capabilities.contains(Capabilities::SSL)), (3, false));
        assert!(matches!(hear(Encryption::Inside, &packet(2, &ssl_request[4..])).await.0, Err(Error::ClientTls)));
        let refused = hear(Encryption::Required, PYMYSQL).await.0.unwrap_err();
        let report = refused.report().unwrap();
        assert_eq!((report.code, report.sqlstate), (3159, "HY000"));
    }

    #[tokio::test]
    async fn a_client_of_before_4_1_hears_an_error_it_can_read() {
        let error = serve(MYSQL, 100, async |peer| peer.send_packet(1, b"\x05\x24\0\0\0root\0N\\ZXQBLW").await).await;
        let error = error.unwrap_err();
        let told = error.report().unwrap().encode(error.position());
        assert!(told[3..].starts_with(b"\x02\xff\xe3\x04the client speaks"), "{}", told.escape_ascii());
    }

    #[tokio::test]
    async fn a_packet_out_of_turn_is_refused() {
        for sequence in [0, 2, 255] {
            let sent = packet(sequence, &PYMYSQL[4..]);
            let error = serve(MYSQL, 1000, async |peer| peer.send(&sent).await).await.unwrap_err();
            assert!(matches!(error, Error::Sequence { expected: 1, .. }), "{error}");
        }
    }
}
