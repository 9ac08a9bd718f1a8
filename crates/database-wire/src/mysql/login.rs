//! The upstream's half of a login: TLS asked for, the client's response sent with the token for a password, the
//! server's verdict read.
//!
//! ```text
//!   SSLRequest ─▶                                       then TLS, by the caller
//!   HandshakeResponse41: mysql_clear_password, token ─▶
//!        ◀─ OK                                          at once: a round trip less
//!        ◀─ AuthSwitchRequest: mysql_clear_password     a server that did not look at the plugin named
//!   token ─▶
//!        ◀─ OK
//! ```
//!
//! The token goes out over TLS only. It is in the response, which saves a round trip, where the server is known to read it
//! there ([`TokenTiming`]); everywhere else it goes out when the server asks for it, as AWS's documented clients do.

use std::fmt;

use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use super::{
    agreement::{Compression, Terms},
    capabilities::Capabilities,
    codec,
    error::{Error, ServerError},
    goodbye,
    greeting::Greeting,
    message::{self, OkPacket},
    plugin::Plugin,
};
use safe_display::Secret;

/// An SSLRequest follows the greeting, which is number 0.
const SSL_REQUEST: u8 = 1;
pub(super) const HANDSHAKE_RESPONSE: u8 = 2;
/// The longest authentication data behind a length of one byte.
const MAX_SHORT_DATA: usize = 255;

/// When the token is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenTiming {
    /// In the response to the greeting.
    Early,
    /// In the answer to the AuthSwitchRequest, where every server reads it.
    WhenAsked,
}

impl TokenTiming {
    /// [`Early`](Self::Early) for a server that is known to read long data in the response.
    pub fn for_server(greeting: &Greeting) -> Self {
        let has_room = greeting.capabilities.contains(Capabilities::PLUGIN_AUTH_LENENC);
        if has_room && greeting.reads_long_data() { Self::Early } else { Self::WhenAsked }
    }
}

/// A finished login.
#[derive(Clone)]
pub struct LoggedIn {
    /// The last message of the server.
    pub ok: OkPacket,
    /// The agreement with the server.
    pub capabilities: Capabilities,
}

impl fmt::Debug for LoggedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LoggedIn with {:?}, status {:#x}", self.capabilities, self.ok.status)
    }
}

/// Asks for TLS: the handshake may begin when this returns, the server answers with nothing else. The caller sets the deadline.
/// Not cancel safe.
///
/// # Errors
/// [`Error::NoTls`] when the server has none, or a connection that breaks.
pub async fn ssl_request<S: AsyncWrite + Unpin>(upstream: &mut S, terms: Terms<'_>) -> Result<(), Error> {
    let capabilities = terms.capabilities()?;
    codec::send(upstream, &terms.response.ssl_request(SSL_REQUEST, capabilities), "the TLS handshake").await
}

/// Logs in over an encrypted stream. What follows OK is compressed if the terms say so, OK itself is not. `timing` applies to a
/// server that can take a long token in the response at all. The caller sets the deadline. Not cancel safe.
///
/// # Errors
/// [`Error::Refused`] by the server, [`Error::Authentication`] when it wants no token, and whatever breaks the protocol
/// or the connection.
pub async fn login<S: AsyncRead + AsyncWrite + Unpin>(
    upstream: &mut S,
    terms: Terms<'_>,
    token: &Secret<String>,
    timing: TokenTiming,
) -> Result<LoggedIn, Error> {
    let capabilities = terms.capabilities()?;
    let Terms { greeting, response, .. } = terms;
    let fits = capabilities.contains(Capabilities::PLUGIN_AUTH_LENENC) || token.expose().len() < MAX_SHORT_DATA;
    let (plugin, data) = if fits && timing == TokenTiming::Early {
        if token.expose().contains('\0') {
            return Err(Error::Nul("token"));
        }
        let mut data = Zeroizing::new(Vec::with_capacity(token.expose().len() + 1));
        data.extend_from_slice(token.expose().as_bytes());
        data.push(0);
        (Plugin::Clear, data)
    } else {
        // Nothing, for another plugin than the account's: the server asks for that one. Most accounts that have none for
        // tokens have the server's default, and then its question tells us so.
        let other = match greeting.offered_plugin() {
            Plugin::Native => Plugin::CachingSha2,
            _ => Plugin::Native,
        };
        (other, Zeroizing::default())
    };
    let packet = response.encode(HANDSHAKE_RESPONSE, capabilities, &plugin, &data, Compression::ZSTD_LEVEL)?;
    codec::send(upstream, &packet, VERDICT).await?;
    let ok = verdict(upstream, HANDSHAKE_RESPONSE.wrapping_add(1), token).await;
    Ok(LoggedIn { ok: ok.map_err(|error| error.of_login(response))?, capabilities })
}

pub(super) const VERDICT: &str = "OK or AuthSwitchRequest";

/// Reads the server's answer to authentication data, its sequence number given, and answers an AuthSwitchRequest.
pub(super) async fn verdict<S: AsyncRead + AsyncWrite + Unpin>(
    upstream: &mut S,
    sequence: u8,
    token: &Secret<String>,
) -> Result<OkPacket, Error> {
    let mut sequence = sequence;
    let mut switched = false;
    loop {
        let packet = codec::read_packet(upstream, sequence, VERDICT).await?;
        match packet.payload.first() {
            Some(&message::OK) => return OkPacket::parse(packet.payload),
            Some(&message::ERR) => {
                return Err(Error::Refused(ServerError::parse(&packet.payload).ok_or(Error::Malformed("ERR"))?));
            }
            Some(&message::AUTH_SWITCH) => match message::auth_switch_request(&packet.payload)?.0 {
                Plugin::Clear if switched => return Err(Error::Malformed("second AuthSwitchRequest")),
                Plugin::Clear => {
                    switched = true;
                    let password = message::clear_password(packet.next(), token)?;
                    codec::send(upstream, &password, VERDICT).await?;
                    sequence = packet.next().wrapping_add(1);
                }
                other => {
                    // Closing here would count as a broken handshake of the bastion's.
                    let nothing = codec::packet(packet.next(), b"");
                    codec::send(upstream, &nothing, VERDICT).await?;
                    let _ = goodbye::refused(upstream, packet.next().wrapping_add(1)).await;
                    return Err(Error::Authentication(other));
                }
            },
            other => return Err(Error::Unexpected { first: other.copied(), waiting_for: VERDICT }),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;
    use crate::mysql::{
        HandshakeResponse,
        script::{MARIADB, MARIADB_CLIENT, MYSQL, OK, PYMYSQL, Peer, greeting, packet, response},
    };

    const ASK: &[u8] = b"\xfemysql_clear_password\0";
    const DENIED: &[u8] = b"\xff\x15\x04#28000Access denied for user 'app_user'@'10.0.0.7' (using password: YES)";

    fn token(length: usize) -> Secret<String> {
        Secret::new("t".repeat(length))
    }

    /// Logs in to a server that plays `script`.
    async fn play(
        greeting: &Greeting,
        response: &HandshakeResponse,
        token: &Secret<String>,
        script: impl AsyncFnOnce(&mut Peer),
    ) -> Result<LoggedIn, Error> {
        let (mut ours, theirs) = duplex(7);
        let mut server = Peer(theirs);
        let ours = async move {
            login(&mut ours, Terms { greeting, response, compression: None }, token, TokenTiming::Early).await
        };
        let (result, ()) = tokio::join!(ours, async {
            script(&mut server).await;
            drop(server);
        });
        result
    }

    /// Logs in as PyMySQL to MySQL, which reads the response and then plays `script`.
    async fn answered(script: impl AsyncFnOnce(&mut Peer)) -> Result<LoggedIn, Error> {
        let greeting = greeting(MYSQL);
        let response = response(PYMYSQL, &greeting);
        play(&greeting, &response, &token(400), async |server| {
            server.packet().await;
            script(server).await;
        })
        .await
    }

    #[tokio::test]
    async fn the_token_is_in_the_response_and_the_rest_is_the_clients() {
        for length in [0, 1, 249, 250, 300, 2000, 70_000] {
            let greeting = greeting(MARIADB);
            let response = response(MARIADB_CLIENT, &greeting);
            let token = token(length);
            let logged_in = play(&greeting, &response, &token, async |server| {
                let (sequence, payload) = server.packet().await;
                assert_eq!(sequence, 2);
                assert_eq!(payload[..4], 0x00bf_aa8c_u32.to_le_bytes(), "the client's capabilities and TLS");
                assert_eq!(payload[4..32], MARIADB_CLIENT[8..36], "packet size, charset, MariaDB's own");
                let mut encoded = Vec::new();
                codec::put_lenenc_int(&mut encoded, length + 1);
                let middle =
                    [b"app_user\0", &encoded[..], token.expose().as_bytes(), b"\0appdb\0mysql_clear_password\0"];
                let middle = middle.concat();
                assert_eq!(payload[32..32 + middle.len()], middle);
                assert_eq!(payload[32 + middle.len()..], MARIADB_CLIENT[MARIADB_CLIENT.len() - 0x80..], "attributes");
                server.send_packet(3, OK).await;
            })
            .await
            .unwrap();
            assert_eq!(logged_in.ok.encode(2), packet(2, OK));
            assert_eq!(logged_in.capabilities, Capabilities(0x1d_00bf_aa8c));
        }
    }

    #[tokio::test]
    async fn a_server_that_asks_for_the_token_gets_it() {
        answered(async |server| {
            server.send_packet(3, ASK).await;
            server.expect_packet(4, &[&[b't'; 400][..], b"\0"].concat()).await;
            server.send_packet(5, OK).await;
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn a_long_token_waits_for_the_switch_where_lengths_are_short() {
        let mut greeting = greeting(MYSQL);
        greeting.capabilities = greeting.capabilities.without(Capabilities::PLUGIN_AUTH_LENENC);
        let response = response(PYMYSQL, &greeting);
        for (length, in_response) in [(254, true), (255, false), (2000, false)] {
            let token = token(length);
            play(&greeting, &response, &token, async |server| {
                let (_, payload) = server.packet().await;
                let short = u8::try_from(length + 1).ok().filter(|_| in_response);
                assert_eq!(payload[41], short.unwrap_or(0));
                let plugin = if in_response { "mysql_clear_password" } else { "mysql_native_password" };
                assert!(payload.windows(plugin.len()).any(|window| window == plugin.as_bytes()));
                if !in_response {
                    server.send_packet(3, ASK).await;
                    server.expect_packet(4, &[token.expose().as_bytes(), b"\0"].concat()).await;
                }
                server.send_packet(if in_response { 3 } else { 5 }, OK).await;
            })
            .await
            .unwrap();
        }
    }

    #[tokio::test]
    async fn a_mariadb_that_is_not_known_to_read_it_gets_the_token_when_it_asks() {
        let known = greeting(MARIADB);
        let old = Greeting { version: "5.5.5-10.5.29-MariaDB-0+deb11u1".into(), ..known.clone() };
        let unable =
            Greeting { capabilities: known.capabilities.without(Capabilities::PLUGIN_AUTH_LENENC), ..known.clone() };
        for (server, timing) in [
            (&known, TokenTiming::Early),
            (&greeting(MYSQL), TokenTiming::Early),
            (&old, TokenTiming::WhenAsked),
            (&unable, TokenTiming::WhenAsked),
        ] {
            assert_eq!(TokenTiming::for_server(server), timing, "{:?}", server.version);
        }
        let (response, token) = (response(MARIADB_CLIENT, &old), token(400));
        let (mut ours, theirs) = duplex(7);
        let mut server = Peer(theirs);
        let terms = Terms { greeting: &old, response: &response, compression: None };
        let (result, ()) = tokio::join!(login(&mut ours, terms, &token, TokenTiming::WhenAsked), async {
            let (_, payload) = server.packet().await;
            let middle = b"app_user\0\0appdb\0caching_sha2_password\0";
            assert_eq!(payload[32..32 + middle.len()], *middle, "nothing of the token, and the database in its place");
            server.send_packet(3, ASK).await;
            server.expect_packet(4, &[token.expose().as_bytes(), b"\0"].concat()).await;
            server.send_packet(5, OK).await;
        });
        result.unwrap();
    }

    #[tokio::test]
    async fn an_ssl_request_has_the_same_head_as_the_response() {
        let greeting = greeting(MYSQL);
        for compression in [None, Some(Compression::Zlib), Some(Compression::Zstd)] {
            let response = response(PYMYSQL, &greeting);
            let mut request = Vec::new();
            let terms = Terms { greeting: &greeting, response: &response, compression };
            ssl_request(&mut request, terms).await.unwrap();
            assert_eq!(request[..4], *b"\x20\0\0\x01");
            let answer = packet(3, OK);
            let mut upstream = tokio::io::join(&answer[..], Vec::new());
            let logged_in = login(&mut upstream, terms, &token(300), TokenTiming::Early).await.unwrap();
            let sent = upstream.writer();
            assert_eq!(sent[4..36], request[4..]);
            let flags = Capabilities::COMPRESS | Capabilities::ZSTD;
            assert_eq!(
                logged_in.capabilities & flags,
                compression.map_or(Capabilities::default(), Compression::capability)
            );
            assert_eq!(sent.last() == Some(&Compression::ZSTD_LEVEL), compression == Some(Compression::Zstd));
        }
    }

    #[tokio::test]
    async fn a_server_without_tls_gets_no_token() {
        let mut greeting = greeting(MYSQL);
        let response = response(PYMYSQL, &greeting);
        greeting.capabilities = greeting.capabilities.without(Capabilities::SSL);
        let mut sent = Vec::new();
        let terms = Terms { greeting: &greeting, response: &response, compression: None };
        let error = ssl_request(&mut sent, terms).await.unwrap_err();
        assert!(matches!(error, Error::NoTls));
        let error = play(&greeting, &response, &token(9), async |server| server.expect_end().await).await.unwrap_err();
        assert!(matches!(error, Error::NoTls));
        assert_eq!(sent, b"");
    }

    #[tokio::test]
    async fn a_refusal_is_the_servers_own_before_and_after_the_switch() {
        let error = answered(async |server| server.send_packet(3, DENIED).await).await.unwrap_err();
        assert!(matches!(&error, Error::Refused(refused) if refused.code() == 1045 && refused.sqlstate() == "28000"));
        let error = answered(async |server| {
            server.send_packet(3, ASK).await;
            server.packet().await;
            server.send_packet(5, DENIED).await;
        });
        assert!(matches!(error.await.unwrap_err(), Error::Refused(_)));
    }

    #[tokio::test]
    async fn another_plugin_is_named() {
        for (request, name) in [
            (&b"\xfemysql_native_password\0abcdefghijklmnopqrst\0"[..], "mysql_native_password"),
            (b"\xfecaching_sha2_password\0abcdefghijklmnopqrst\0", "caching_sha2_password"),
            (b"\xfedialog\0\x04Password: ", "dialog"),
            (b"\xfeclient_ed25519\0abcdefghijklmnopqrstabcdefghijkl", "client_ed25519"),
            (b"\xfe", "mysql_old_password"),
        ] {
            let error = answered(async |server| server.send_packet(3, request).await).await.unwrap_err();
            let report = error.report().unwrap();
            assert_eq!(report.code, 1045);
            assert!(report.message.contains(name), "{}", report.message);
        }
    }

    #[tokio::test]
    async fn what_has_no_place_is_refused() {
        for (payload, first) in [(&b"\x01\x04"[..], Some(1)), (b"", None), (b"\x02mysql_clear_password\0", Some(2))] {
            let error = answered(async |server| server.send_packet(3, payload).await).await.unwrap_err();
            assert!(matches!(error, Error::Unexpected { first: f, .. } if f == first), "{error}");
        }
        let error = answered(async |server| {
            server.send_packet(3, ASK).await;
            server.packet().await;
            server.send_packet(5, ASK).await;
        });
        assert!(matches!(error.await.unwrap_err(), Error::Malformed(_)));
        for (bytes, sequence) in [(packet(4, OK), 4), (packet(0, OK), 0)] {
            let error = answered(async |server| server.send(&bytes).await).await.unwrap_err();
            assert!(matches!(error, Error::Sequence { expected: 3, sequence: s, .. } if s == sequence), "{error}");
        }
    }

    #[tokio::test]
    async fn an_answer_cut_anywhere_is_an_error() {
        for answer in [packet(3, OK), packet(3, ASK), packet(3, DENIED)] {
            for end in 0..answer.len() {
                let error = answered(async |server| server.send(&answer[..end]).await).await.unwrap_err();
                assert!(matches!(error, Error::Closed { .. }), "cut at {end}: {error}");
            }
        }
        for payload in [OK, ASK, b"\xff\x15\x04"] {
            for end in 1..payload.len() {
                let error = answered(async |server| server.send_packet(3, &payload[..end]).await).await.unwrap_err();
                assert!(
                    matches!(error, Error::Malformed(_)) || payload == ASK && end == 1,
                    "{payload:?} cut at {end}: {error}"
                );
            }
        }
    }

    #[tokio::test]
    async fn nothing_shows_the_token() {
        let greeting = greeting(MYSQL);
        let response = response(PYMYSQL, &greeting);
        let logged_in = answered(async |server| server.send_packet(3, OK).await).await.unwrap();
        assert_eq!(format!("{logged_in:?}"), "LoggedIn with 0x3aaa0d, status 0x2");
        let error = play(&greeting, &response, &Secret::new("hush\0hush".into()), async |_| {}).await.unwrap_err();
        assert_eq!(error.to_string(), "the token holds a NUL byte");
    }
}
