//! A login with a password of ours, over TLS, in the form that the account's plugin asks for.
//!
//! ```text
//!   HandshakeResponse41: the server's default plugin, its answer ─▶
//!        ◀─ AuthSwitchRequest: another plugin, its scramble         answer ─▶
//!        ◀─ AuthMoreData: 3 known, 4 not known (caching_sha2)       4: the password, inside TLS ─▶
//!        ◀─ OK
//! ```
//!
//! | plugin | answer |
//! |---|---|
//! | mysql_native_password | SHA1(password) XOR SHA1(scramble SHA1(SHA1(password))) |
//! | caching_sha2_password | SHA256(password) XOR SHA256(SHA256(SHA256(password)) scramble) |
//! | client_ed25519 (MariaDB) | signature of the scramble; SHA512(password) is the expanded key |
//! | sha256_password, mysql_clear_password | the password and a NUL |

use std::convert::Infallible;

use aws_lc_rs::digest;
use curve25519_dalek::{EdwardsPoint, Scalar, scalar::clamp_integer};
use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use super::{
    agreement::{Compression, Terms},
    change_user,
    codec::{self, HEADER},
    error::{Error, ServerError},
    goodbye,
    login::{HANDSHAKE_RESPONSE, LoggedIn, VERDICT},
    message::{self, FAST_AUTH_SUCCESS, OkPacket},
    plugin::Plugin,
    response::HandshakeResponse,
};
use safe_display::Secret;

/// caching_sha2_password's AuthMoreData for "send the password" (`perform_full_authentication`).
const FULL_AUTHENTICATION: [u8; 2] = [message::AUTH_MORE_DATA, 0x04];

/// Logs in over an encrypted stream to a server whose certificate was verified. What follows OK is compressed if the terms
/// say so. The caller sets the deadline. Not cancel safe.
///
/// # Errors
/// [`Error::Refused`] by the server, [`Error::PasswordPlugin`], and whatever breaks the protocol or the connection.
pub async fn login_with_password<S: AsyncRead + AsyncWrite + Unpin>(
    upstream: &mut S,
    terms: Terms<'_>,
    password: &Secret<String>,
) -> Result<LoggedIn, Error> {
    let capabilities = terms.capabilities()?;
    let Terms { greeting, response, .. } = terms;
    let plugin = greeting.offered_plugin();
    let data = answer(&plugin, password, greeting.scramble.bytes()).unwrap_or_default();
    let packet = response.encode(HANDSHAKE_RESPONSE, capabilities, &plugin, &data, Compression::ZSTD_LEVEL)?;
    codec::send(upstream, &packet, VERDICT).await?;
    let ok = verdict(upstream, HANDSHAKE_RESPONSE.wrapping_add(1), plugin, password).await;
    Ok(LoggedIn { ok: ok.map_err(|error| error.of_login(response))?, capabilities })
}

/// Logs in again with `response` on a connection that is logged in and has answered all commands. Names a plugin that hardly any
/// account has, so that the server asks, with a scramble that is valid now. The caller sets the deadline. Not cancel safe.
///
/// # Errors
/// As [`login_with_password`]. The connection is of no use any more.
pub async fn change_user_with_password<S: AsyncRead + AsyncWrite + Unpin>(
    upstream: &mut S,
    logged_in: &LoggedIn,
    response: &HandshakeResponse,
    password: &Secret<String>,
) -> Result<OkPacket, Error> {
    let packet = change_user::encode(response, logged_in.capabilities, &Plugin::Clear, b"")?;
    codec::send(upstream, &packet, VERDICT).await?;
    verdict(upstream, 1, Plugin::Clear, password).await.map_err(|error| error.of_login(response))
}

/// Reads the server's answer to authentication data, its sequence number given, and answers what it asks for.
async fn verdict<S: AsyncRead + AsyncWrite + Unpin>(
    upstream: &mut S,
    mut sequence: u8,
    mut plugin: Plugin,
    password: &Secret<String>,
) -> Result<OkPacket, Error> {
    let (mut switched, mut asked) = (false, false);
    loop {
        let packet = codec::read_packet(upstream, sequence, VERDICT).await?;
        let data = match packet.payload.first() {
            Some(&message::OK) => return OkPacket::parse(packet.payload),
            Some(&message::ERR) => {
                return Err(Error::Refused(ServerError::parse(&packet.payload).ok_or(Error::Malformed("ERR"))?));
            }
            Some(&message::AUTH_SWITCH) if switched => return Err(Error::Malformed("second AuthSwitchRequest")),
            Some(&message::AUTH_SWITCH) => {
                switched = true;
                let (asked_for, scramble) = message::auth_switch_request(&packet.payload)?;
                plugin = asked_for;
                answer(&plugin, password, scramble.strip_suffix(b"\0").unwrap_or(scramble))
            }
            Some(&message::AUTH_MORE_DATA) if plugin == Plugin::CachingSha2 && !asked => match &packet.payload[..] {
                payload if payload == FAST_AUTH_SUCCESS => {
                    sequence = packet.next();
                    continue;
                }
                payload if payload == FULL_AUTHENTICATION => {
                    asked = true;
                    Some(clear(password))
                }
                _ => return Err(Error::Malformed("AuthMoreData")),
            },
            other => return Err(Error::Unexpected { first: other.copied(), waiting_for: VERDICT }),
        };
        let Some(data) = data else {
            // Closing here would count as a broken handshake of the bastion's.
            codec::send(upstream, &codec::packet(packet.next(), b""), VERDICT).await?;
            let _ = goodbye::refused(upstream, packet.next().wrapping_add(1)).await;
            return Err(Error::PasswordPlugin(plugin));
        };
        let mut out = Zeroizing::new(Vec::with_capacity(HEADER + data.len()));
        codec::put_packet::<Infallible>(&mut out, packet.next(), |out| {
            out.extend_from_slice(&data);
            Ok(())
        })
        .unwrap_or_else(|never| match never {});
        codec::send(upstream, &out, VERDICT).await?;
        sequence = packet.next().wrapping_add(1);
    }
}

/// The answer to a plugin; `None` for one that is not known here.
pub(super) fn answer(plugin: &Plugin, password: &Secret<String>, scramble: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let secret = password.expose().as_bytes();
    match plugin.name() {
        b"mysql_native_password" => {
            let stage1 = hash(&digest::SHA1_FOR_LEGACY_USE_ONLY, &[secret]);
            let stage2 = hash(&digest::SHA1_FOR_LEGACY_USE_ONLY, &[&stage1]);
            Some(xor(&stage1, &hash(&digest::SHA1_FOR_LEGACY_USE_ONLY, &[scramble, &stage2])))
        }
        b"caching_sha2_password" => {
            let stage1 = hash(&digest::SHA256, &[secret]);
            let stage2 = hash(&digest::SHA256, &[&stage1]);
            Some(xor(&stage1, &hash(&digest::SHA256, &[&stage2, scramble])))
        }
        b"client_ed25519" => Some(sign(secret, scramble)),
        b"sha256_password" | b"mysql_clear_password" => Some(clear(password)),
        _ => None,
    }
}

/// The password and a NUL.
fn clear(password: &Secret<String>) -> Zeroizing<Vec<u8>> {
    // The exact size, for a growing vector would leave copies of the password behind.
    let mut out = Zeroizing::new(Vec::with_capacity(password.expose().len() + 1));
    out.extend_from_slice(password.expose().as_bytes());
    out.push(0);
    out
}

pub(super) fn hash(algorithm: &'static digest::Algorithm, parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let mut context = digest::Context::new(algorithm);
    for part in parts {
        context.update(part);
    }
    Zeroizing::new(context.finish().as_ref().to_vec())
}

pub(super) fn xor(a: &[u8], b: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(a.iter().zip(b).map(|(a, b)| a ^ b).collect())
}

/// Ed25519 (RFC 8032) with the hash of a password of any length in the place of that of a 32-byte seed
/// (MariaDB, `plugin/auth_ed25519/ref10/sign.c`).
fn sign(password: &[u8], message: &[u8]) -> Zeroizing<Vec<u8>> {
    let expanded = hash(&digest::SHA512, &[password]);
    let (lower, prefix) = expanded.split_at_checked(32).unwrap_or_default();
    let wide = |parts: &[&[u8]]| {
        let hashed: [u8; 64] = hash(&digest::SHA512, parts)[..].try_into().unwrap_or([0; 64]);
        Scalar::from_bytes_mod_order_wide(&hashed)
    };
    let key = Zeroizing::new(Scalar::from_bytes_mod_order(clamp_integer(lower.try_into().unwrap_or([0; 32]))));
    let public = EdwardsPoint::mul_base(&key).compress();
    let nonce = Zeroizing::new(wide(&[prefix, message]));
    let commitment = EdwardsPoint::mul_base(&nonce).compress();
    let challenge = wide(&[commitment.as_bytes(), public.as_bytes(), message]);
    let response = challenge * *key + *nonce;
    Zeroizing::new([*commitment.as_bytes(), response.to_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
    use tokio::io::duplex;

    use super::*;
    use crate::mysql::{
        Greeting,
        script::{MARIADB, MARIADB_CLIENT, MYSQL, OK, PYMYSQL, Peer, greeting, response, scramble},
    };

    // Made with Python's hashlib from "correct horse" and the scramble of the scripts.
    const NATIVE: &[u8] = b"\xf8\x18\xc1\x9f\xe6\x33\xb2\x96\x79\x48\x43\x54\x51\x47\x37\xc5\x39\x4f\x49\x54";
    const SHA2: &[u8] = b"\x9e\xab\xc4\x26\xd7\xdd\x6e\xcb\x62\x09\xbc\x00\x3c\xb1\x4a\xcd\x5e\xf6\x53\x8f\x68\xad\x98\x68\x13\x7d\xa9\x32\x5a\x5e\x69\x28";
    /// MariaDB's documentation, "Authentication Plugin - ed25519": the stored key of the password "secret".
    const SECRET_KEY: [u8; 32] = [
        0x64, 0x88, 0x14, 0x44, 0x45, 0x20, 0xe4, 0xf5, 0x60, 0x43, 0xa2, 0xec, 0x92, 0x15, 0xe6, 0x3b, 0xe7, 0x99,
        0x2d, 0x2d, 0x27, 0x0b, 0xc6, 0xde, 0xe8, 0x73, 0xe3, 0x61, 0x64, 0x78, 0x60, 0x96,
    ];

    fn password() -> Secret<String> {
        Secret::new("correct horse".to_owned())
    }

    /// Logs in to a server that greeted so and plays `script` after it has read the response.
    async fn play(
        server: &[u8],
        client: &[u8],
        script: impl AsyncFnOnce(&mut Peer, Vec<u8>),
    ) -> Result<LoggedIn, Error> {
        let greeting = Greeting { scramble: scramble(), ..greeting(server) };
        let response = response(client, &greeting);
        let (mut ours, theirs) = duplex(4096);
        let mut peer = Peer(theirs);
        let password = password();
        let ours = async move {
            let terms = Terms { greeting: &greeting, response: &response, compression: None };
            login_with_password(&mut ours, terms, &password).await
        };
        let (result, ()) = tokio::join!(ours, async {
            let (_, first) = peer.packet().await;
            script(&mut peer, first).await;
            drop(peer);
        });
        result
    }

    fn contains(packet: &[u8], part: &[u8]) -> bool {
        packet.windows(part.len()).any(|window| window == part)
    }

    #[tokio::test]
    async fn default_plugin_is_answered_in_the_response() {
        let logged_in = play(MARIADB, MARIADB_CLIENT, async |server, first| {
            assert!(contains(&first, &[b"app_user\0\x14", NATIVE, b"appdb\0mysql_native_password\0"].concat()));
            server.send_packet(3, OK).await;
        });
        logged_in.await.unwrap();
        let logged_in = play(MYSQL, PYMYSQL, async |server, first| {
            assert!(contains(&first, &[b"app_user\0\x20", SHA2, b"appdb\0caching_sha2_password\0"].concat()));
            server.send_packet(3, &FAST_AUTH_SUCCESS).await;
            server.send_packet(4, OK).await;
        });
        logged_in.await.unwrap();
    }

    #[tokio::test]
    async fn password_that_the_server_has_not_cached_goes_inside_tls() {
        let logged_in = play(MYSQL, PYMYSQL, async |server, _| {
            server.send_packet(3, &FULL_AUTHENTICATION).await;
            server.expect_packet(4, b"correct horse\0").await;
            server.send_packet(5, OK).await;
        });
        logged_in.await.unwrap();
    }

    #[tokio::test]
    async fn plugin_of_the_account_is_answered_when_it_asks() {
        for (plugin, answer) in [
            ("mysql_native_password", NATIVE),
            ("caching_sha2_password", SHA2),
            ("sha256_password", b"correct horse\0"),
            ("mysql_clear_password", b"correct horse\0"),
        ] {
            let logged_in = play(MARIADB, MARIADB_CLIENT, async |server, _| {
                let ask = [b"\xfe", plugin.as_bytes(), b"\0abcdefghijklmnopqrst\0"].concat();
                server.send_packet(3, &ask).await;
                server.expect_packet(4, answer).await;
                server.send_packet(5, OK).await;
            });
            logged_in.await.unwrap();
        }
    }

    #[test]
    fn ed25519_signature_is_that_of_the_key_that_mariadb_documents() {
        for message in [&[7; 32][..], b"", b"abcdefghijklmnopqrstabcdefghijkl"] {
            let signature = sign(b"secret", message);
            UnparsedPublicKey::new(&ED25519, SECRET_KEY).verify(message, &signature).unwrap();
        }
        assert!(UnparsedPublicKey::new(&ED25519, SECRET_KEY).verify(b"", &sign(b"other", b"")).is_err());
    }

    #[tokio::test]
    async fn unknown_plugin_is_named_and_the_connection_is_ended_in_order() {
        let error = play(MARIADB, MARIADB_CLIENT, async |server, _| {
            server.send_packet(3, b"\xfedialog\0\x04Password: ").await;
            server.expect_packet(4, b"").await;
            server.send_packet(5, b"\xff\x15\x04#28000no").await;
        });
        let error = error.await.unwrap_err();
        assert!(error.report().unwrap().message.contains("dialog"), "{error}");
    }

    #[tokio::test]
    async fn what_has_no_place_is_refused() {
        let twice = play(MARIADB, MARIADB_CLIENT, async |server, _| {
            server.send_packet(3, b"\xfemysql_clear_password\0").await;
            server.packet().await;
            server.send_packet(5, b"\xfemysql_clear_password\0").await;
        });
        assert!(matches!(twice.await.unwrap_err(), Error::Malformed(_)));
        for payload in [&[1, 4][..], &[1, 9], b"", b"\x02x"] {
            // AuthMoreData has no place where another plugin is asked.
            let error = play(MARIADB, MARIADB_CLIENT, async |server, _| server.send_packet(3, payload).await).await;
            assert!(matches!(error.unwrap_err(), Error::Unexpected { .. }));
        }
        let full_twice = play(MYSQL, PYMYSQL, async |server, _| {
            server.send_packet(3, &FULL_AUTHENTICATION).await;
            server.packet().await;
            server.send_packet(5, &FULL_AUTHENTICATION).await;
        });
        assert!(matches!(full_twice.await.unwrap_err(), Error::Unexpected { .. }));
    }

    #[tokio::test]
    async fn another_login_on_a_connection_is_answered_likewise() {
        let response = response(PYMYSQL, &greeting(MYSQL));
        let logged_in = LoggedIn { ok: OkPacket::parse(OK.to_vec()).unwrap(), capabilities: response.capabilities };
        let (mut ours, theirs) = duplex(4096);
        let (mut server, password) = (Peer(theirs), password());
        let changed = change_user_with_password(&mut ours, &logged_in, &response, &password);
        let (ok, ()) = tokio::join!(changed, async {
            let (sequence, payload) = server.packet().await;
            assert_eq!(sequence, 0);
            assert!(payload.starts_with(b"\x11app_user\0\0appdb\0"));
            server.send_packet(1, b"\xfecaching_sha2_password\0abcdefghijklmnopqrst\0").await;
            server.expect_packet(2, SHA2).await;
            server.send_packet(3, &FAST_AUTH_SUCCESS).await;
            server.send_packet(4, OK).await;
        });
        assert_eq!(ok.unwrap(), logged_in.ok);
    }
}
