//! The authentication of a client whose password is known here.
//!
//! ```text
//!   HandshakeResponse41 or COM_CHANGE_USER: plugin and answer of the client ─▶
//!        ◀─ AuthSwitchRequest                where the client has not answered for a plugin of ours
//!   client ─▶ its answer
//! ```
//!
//! OK and ERR are the caller's. A server of `caching_sha2_password` asks for the password itself where it only has a salted hash of
//! it. Here the hash that its fast path compares is made in advance, so the password never travels.

use std::fmt;

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256},
};
use safe_display::Secret;
use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use super::{
    accept::{Accepted, Login, WAITING_FOR, auth_switch_request, response_packet},
    capabilities::Capabilities,
    change_user,
    codec::{self, Departure},
    error::Error,
    greeting::{Greeting, Scramble},
    password::{hash, xor},
    plugin::Plugin,
    response::{Answer, HandshakeResponse, is_password},
};
use crate::encryption::Encryption;

/// The knowledge that it takes to judge the answer of a client to a scramble. The password cannot be had from it but by guessing.
pub struct Verifier {
    /// `SHA1(SHA1(password))`.
    native: Zeroizing<Vec<u8>>,
    /// `SHA256(SHA256(password))`.
    caching_sha2: Zeroizing<Vec<u8>>,
}

/// The verdict on a client's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It knows the password.
    Right,
    /// It has another password.
    Wrong,
    /// It has no password.
    Missing,
}

impl Verifier {
    /// Of this password.
    pub fn new(password: &Secret<String>) -> Self {
        let twice = |algorithm| hash(algorithm, &[&hash(algorithm, &[password.expose().as_bytes()])]);
        Self { native: twice(&SHA1_FOR_LEGACY_USE_ONLY), caching_sha2: twice(&SHA256) }
    }

    /// Judges an answer, in a time that does not depend on it but by its length.
    fn judge(&self, answer: &Answer, scramble: &Scramble) -> Verdict {
        let (algorithm, stored, mask) = match &answer.plugin {
            Plugin::Native => {
                let mask = hash(&SHA1_FOR_LEGACY_USE_ONLY, &[scramble.bytes(), &self.native]);
                (&SHA1_FOR_LEGACY_USE_ONLY, &self.native, mask)
            }
            Plugin::CachingSha2 => {
                (&SHA256, &self.caching_sha2, hash(&SHA256, &[&self.caching_sha2, scramble.bytes()]))
            }
            Plugin::Clear | Plugin::Other(_) => return Verdict::Missing,
        };
        if !is_password(&answer.data) {
            return Verdict::Missing;
        }
        let is_right = verify_slices_are_equal(&hash(algorithm, &[&xor(&answer.data, &mask)]), stored).is_ok();
        if is_right && answer.data.len() == stored.len() { Verdict::Right } else { Verdict::Wrong }
    }
}

/// Without the hashes.
impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

/// Reads the client's response to a greeting sent with [`greet`](super::greet), and judges its password. The scramble must be
/// new and unpredictable. The caller sets the deadline. Not cancel safe.
///
/// # Errors
/// As for [`accept`](fn@super::accept).
pub async fn accept_known<S: AsyncRead + AsyncWrite + Unpin>(
    client: &mut S,
    greeting: &Greeting,
    scramble: &Scramble,
    encryption: Encryption,
    verifier: &Verifier,
) -> Result<(Accepted, Verdict), Error> {
    let packet = match response_packet(client, encryption).await? {
        Ok(packet) => packet,
        Err(accepted) => return Ok((accepted, Verdict::Missing)),
    };
    let sequence = packet.next();
    let payload = Zeroizing::new(packet.payload);
    let (response, answer) = HandshakeResponse::parse_with_answer(&payload, greeting.offered())?;
    let offered = greeting.offered_plugin();
    // A client that has answered for the plugin of the greeting has no other answer.
    let may_answer_again = answer.plugin != offered;
    let client_and_scramble = (client, scramble);
    match judge(client_and_scramble, response, answer, sequence, may_answer_again.then_some(offered), verifier).await? {
        Ok((login, verdict)) => Ok((Accepted::Login(login), verdict)),
        Err(departure) => Ok((Accepted::gone(departure), Verdict::Missing)),
    }
}

/// Reads a COM_CHANGE_USER as [`accept_change_user`](super::accept_change_user) does, and judges its password. `scramble` is that of
/// the greeting.
///
/// # Errors
/// As for [`accept_change_user`](super::accept_change_user).
pub async fn accept_change_user_known<S: AsyncRead + AsyncWrite + Unpin>(
    client: &mut S,
    current: &HandshakeResponse,
    greeting: &Greeting,
    scramble: &Scramble,
    verifier: &Verifier,
) -> Result<(Login, Verdict), Error> {
    let login = change_user::accept_change_user_answer(client, current).await?;
    let Login { response, sequence, answer, .. } = login;
    let answer = answer.ok_or(Error::ChangeUser("the authentication data has no end"))?;
    // No password, or a client that has forgotten the scramble: both answer when they are asked.
    let offered = Some(greeting.offered_plugin());
    let judged = judge((client, scramble), response, answer, sequence, offered, verifier).await?;
    judged.map_err(|_| Error::Closed { waiting_for: "the client's COM_CHANGE_USER" })
}

/// Judges an answer; where it is not right and the client may answer again, asks it once to answer for its own plugin, or for the
/// `offered` one if its own is not ours.
async fn judge<S: AsyncRead + AsyncWrite + Unpin>(
    (client, scramble): (&mut S, &Scramble),
    response: HandshakeResponse,
    mut answer: Answer,
    mut sequence: u8,
    offered: Option<Plugin>,
    verifier: &Verifier,
) -> Result<Result<(Login, Verdict), Departure>, Error> {
    let mut verdict = verifier.judge(&answer, scramble);
    let can_switch = response.capabilities.contains(Capabilities::PLUGIN_AUTH);
    if let Some(offered) = offered.filter(|_| can_switch && verdict != Verdict::Right) {
        let plugin = match answer.plugin {
            named @ (Plugin::Native | Plugin::CachingSha2) => named,
            Plugin::Clear | Plugin::Other(_) => offered,
        };
        let request = auth_switch_request(&plugin, scramble);
        codec::send(client, &codec::packet(sequence, &request), WAITING_FOR).await?;
        let packet = match codec::read_packet_or_end(client, sequence.wrapping_add(1), WAITING_FOR).await? {
            Ok(packet) => packet,
            Err(departure) => return Ok(Err(departure)),
        };
        sequence = packet.next();
        answer = Answer { plugin, data: Zeroizing::new(packet.payload) };
        verdict = verifier.judge(&answer, scramble);
    }
    let fast_auth = verdict == Verdict::Right && answer.plugin == Plugin::CachingSha2;
    Ok(Ok((Login { response, sequence, fast_auth, answer: None }, verdict)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{DuplexStream, duplex};

    use super::*;
    use crate::mysql::{
        finish,
        message::OkPacket,
        password,
        script::{MARIADB, MARIADB_CLIENT, MYSQL, OK, PYMYSQL, Peer, greeting, packet, play, scramble},
    };

    const PASSWORD: &str = "correct horse battery";

    fn verifier() -> Verifier {
        Verifier::new(&Secret::new(PASSWORD.into()))
    }

    /// The answer of our own client.
    fn answer_to(plugin: &Plugin, password: &str) -> Vec<u8> {
        password::answer(plugin, &Secret::new(password.into()), scramble().bytes()).unwrap().to_vec()
    }

    /// A response in the way of MySQL's clients, without a database.
    fn client(plugin: &str, data: &[u8]) -> Vec<u8> {
        let length = [u8::try_from(data.len()).unwrap()];
        let head = [&0x0028_8201_u32.to_le_bytes()[..], &[0, 0, 0, 1, 45], &[0; 23], b"root\0"].concat();
        packet(1, &[&head, &length[..], data, plugin.as_bytes(), b"\0"].concat())
    }

    /// Judges a client that plays `script`, and sends OK to one that is right.
    async fn judged(server: &[u8], script: impl AsyncFnOnce(&mut Peer)) -> Result<(Accepted, Verdict), Error> {
        let serve = async |ours: &mut DuplexStream| {
            let judged = accept_known(ours, &greeting(server), &scramble(), Encryption::Off, &verifier()).await?;
            if let (Accepted::Login(login), Verdict::Right) = &judged {
                finish(ours, login, &OkPacket::parse(OK.to_vec())?).await?;
            }
            Ok(judged)
        };
        play(7, serve, script).await
    }

    #[tokio::test]
    async fn right_password_is_accepted_for_the_offered_plugin() {
        let sha2 = client("caching_sha2_password", &answer_to(&Plugin::CachingSha2, PASSWORD));
        let (accepted, verdict) = judged(MYSQL, async |client: &mut Peer| {
            client.send(&sha2).await;
            client.expect_packet(2, b"\x01\x03").await;
            client.expect_packet(3, OK).await;
        })
        .await
        .unwrap();
        assert!(matches!(accepted, Accepted::Login(login) if login.response.user() == b"root"));
        assert_eq!(verdict, Verdict::Right);
        let native = client("mysql_native_password", &answer_to(&Plugin::Native, PASSWORD));
        let (_, verdict) = judged(MARIADB, async |client: &mut Peer| {
            client.send(&native).await;
            client.expect_packet(2, OK).await;
        })
        .await
        .unwrap();
        assert_eq!(verdict, Verdict::Right);
    }

    #[tokio::test]
    async fn wrong_password_and_none_are_told_apart() {
        for (data, expected) in [
            (answer_to(&Plugin::CachingSha2, "correct horse"), Verdict::Wrong),
            (vec![7; 31], Verdict::Wrong),
            ([answer_to(&Plugin::CachingSha2, PASSWORD), vec![0]].concat(), Verdict::Wrong),
            (vec![7; 250], Verdict::Wrong),
            (vec![1], Verdict::Wrong),
            (vec![0], Verdict::Missing),
            (vec![], Verdict::Missing),
        ] {
            let response = client("caching_sha2_password", &data);
            let (_, verdict) = judged(MYSQL, async |client: &mut Peer| {
                client.send(&response).await;
                client.expect_end().await;
            })
            .await
            .unwrap();
            assert_eq!(verdict, expected, "{data:?}");
        }
    }

    #[tokio::test]
    async fn client_of_another_plugin_is_asked_for_its_own() {
        for (server, plugin, name, asked) in [
            (MYSQL, Plugin::Native, "mysql_native_password", "mysql_native_password"),
            (MARIADB, Plugin::CachingSha2, "caching_sha2_password", "caching_sha2_password"),
            (MYSQL, Plugin::CachingSha2, "client_ed25519", "caching_sha2_password"),
            (MARIADB, Plugin::Native, "mysql_clear_password", "mysql_native_password"),
        ] {
            for (password, expected) in [(PASSWORD, Verdict::Right), ("another", Verdict::Wrong)] {
                let (response, answer) = (client(name, b""), answer_to(&plugin, password));
                let (_, verdict) = judged(server, async |client: &mut Peer| {
                    client.send(&response).await;
                    let request = [b"\xfe", asked.as_bytes(), b"\0abcdefghijklmnopqrst\0"].concat();
                    client.expect_packet(2, &request).await;
                    client.send_packet(3, &answer).await;
                    if expected == Verdict::Right {
                        if plugin == Plugin::CachingSha2 {
                            client.expect_packet(4, b"\x01\x03").await;
                            client.expect_packet(5, OK).await;
                        } else {
                            client.expect_packet(4, OK).await;
                        }
                    }
                })
                .await
                .unwrap();
                assert_eq!(verdict, expected, "{name}");
            }
        }
    }

    #[tokio::test]
    async fn answers_of_real_clients_to_another_scramble_are_wrong() {
        for (server, response) in [(MARIADB, MARIADB_CLIENT), (MYSQL, PYMYSQL)] {
            let (_, verdict) = judged(server, async |client: &mut Peer| client.send(response).await).await.unwrap();
            assert_eq!(verdict, Verdict::Wrong);
        }
    }

    #[tokio::test]
    async fn response_cut_anywhere_is_never_a_proof() {
        let whole = client("caching_sha2_password", &answer_to(&Plugin::CachingSha2, PASSWORD));
        for end in 0..whole.len() {
            let result = judged(MYSQL, async |client: &mut Peer| client.send(&whole[..end]).await).await;
            assert!(!matches!(result, Ok((_, Verdict::Right))), "cut at {end}");
        }
    }

    #[tokio::test]
    async fn change_of_user_is_judged_by_the_scramble_of_the_greeting() {
        let current = crate::mysql::script::response(MARIADB_CLIENT, &greeting(MARIADB));
        for (password, expected) in [(PASSWORD, Verdict::Right), ("another", Verdict::Wrong), ("", Verdict::Missing)] {
            let (mut ours, theirs) = duplex(100);
            let mut peer = Peer(theirs);
            let data = if password.is_empty() { vec![] } else { answer_to(&Plugin::Native, password) };
            let length = [u8::try_from(data.len()).unwrap()];
            let command = [b"\x11root\0", &length[..], &data, b"\0\x2d\0mysql_native_password\0\0"].concat();
            let (known, scramble, verifier) = (greeting(MARIADB), scramble(), verifier());
            let judging = accept_change_user_known(&mut ours, &current, &known, &scramble, &verifier);
            let (judged, ()) = tokio::join!(judging, async {
                peer.send_packet(0, &command).await;
                if expected != Verdict::Right {
                    peer.expect_packet(1, b"\xfemysql_native_password\0abcdefghijklmnopqrst\0").await;
                    peer.send_packet(2, &data).await;
                }
            });
            assert_eq!(judged.unwrap().1, expected, "{password}");
        }
    }

    proptest! {
        #[test]
        fn other_bytes_are_never_a_proof(data in any::<Vec<u8>>(), native in any::<bool>()) {
            let plugin = if native { Plugin::Native } else { Plugin::CachingSha2 };
            let answer = Answer { plugin, data: Zeroizing::new(data) };
            prop_assert_ne!(verifier().judge(&answer, &scramble()), Verdict::Right);
        }
    }
}
