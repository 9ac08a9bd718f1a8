//! The server's half of SCRAM-SHA-256 (RFC 5802, RFC 7677), for clients whose password is known here.
//!
//! ```text
//!        ◀─ AuthenticationSASL: SCRAM-SHA-256-PLUS inside TLS, SCRAM-SHA-256
//!   SASLInitialResponse: n,,n=,r=NONCE ─▶
//!        ◀─ AuthenticationSASLContinue: r=NONCE and ours,s=SALT,i=4096
//!   SASLResponse: c=biws,r=…,p=PROOF ─▶
//!        ◀─ AuthenticationSASLFinal: v=SIGNATURE           AuthenticationOk and ErrorResponse are the caller's
//! ```
//!
//! The user name in the client's first message is ignored, as in PostgreSQL; clients leave it empty. With `-PLUS` the proof is bound to
//! our certificate (`tls-server-end-point`, RFC 5929), so that no proxy between can pass it on. The client's first words say whether it
//! binds (`p=…`), could but takes us for a server that cannot (`y`), or cannot (`n`). A `y` to our offer of `-PLUS` means that something
//! between has taken it out of the offer, and ends the login (RFC 5802, section 6).

use std::num::NonZeroU32;

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest, hmac, pbkdf2, rand};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use safe_display::Secret;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

use super::{
    authentication::Answer,
    codec::{Reader, put_message},
    error::Error,
    message::tag,
    method::Method,
};

const PLAIN: &[u8] = b"SCRAM-SHA-256";
const PLUS: &[u8] = b"SCRAM-SHA-256-PLUS";
/// The flag of a client that binds its proof to our certificate.
const BINDS: &str = "p=tls-server-end-point";
/// As PostgreSQL's default (`SCRAM_SHA_256_DEFAULT_ITERATIONS` in `src/include/common/scram-common.h`, `REL_18_0`).
const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).expect("4096 is not 0");
/// As `SCRAM_DEFAULT_SALT_LEN`, there.
const SALT_LENGTH: usize = 16;
/// As `SCRAM_RAW_NONCE_LEN`, there.
pub(super) const NONCE_LENGTH: usize = 18;
/// SHA-256.
pub(super) const KEY_LENGTH: usize = 32;

/// The knowledge that it takes to judge a client's proof. The password cannot be had from it but by guessing.
pub struct Verifier {
    salt: [u8; SALT_LENGTH],
    stored_key: Zeroizing<[u8; KEY_LENGTH]>,
    server_key: Zeroizing<[u8; KEY_LENGTH]>,
}

impl Verifier {
    /// Of a password of printable ASCII, for which SASLprep (RFC 4013) changes nothing. Takes some milliseconds; `None` where
    /// the system has no random numbers.
    pub fn new(password: &Secret<String>) -> Option<Self> {
        let mut salt = [0; SALT_LENGTH];
        rand::fill(&mut salt).ok()?;
        Some(Self::with_salt(password, salt))
    }

    pub(super) fn with_salt(password: &Secret<String>, salt: [u8; SALT_LENGTH]) -> Self {
        let mut salted = Zeroizing::new([0; KEY_LENGTH]);
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ITERATIONS, &salt, password.expose().as_bytes(), &mut *salted);
        let client_key = keyed(&*salted, b"Client Key");
        Self { salt, stored_key: hash(&*client_key), server_key: keyed(&*salted, b"Server Key") }
    }
}

/// Lets a client that has sent its StartupMessage prove that it knows the password; whether it does. `end_point` is the hash of our
/// certificate for `tls-server-end-point`; `None` for a client in clear. From the client not a byte is read beyond its answers. The
/// caller sets the deadline. Not cancel safe.
///
/// # Errors
/// [`Error::Scram`] and [`Error::AnswerLength`] where the client does not keep to the protocol or is bound to another certificate, and
/// a connection that breaks.
pub async fn prove<S: AsyncRead + AsyncWrite + Unpin>(
    client: &mut S,
    verifier: &Verifier,
    end_point: Option<&[u8]>,
) -> Result<bool, Error> {
    let mut random = [0; NONCE_LENGTH];
    rand::fill(&mut random).map_err(|_| Error::Scram("there are no random numbers"))?;
    prove_with_nonce(client, verifier, end_point, &BASE64.encode(random)).await
}

/// [`prove`] with our half of the nonce.
pub(super) async fn prove_with_nonce<S: AsyncRead + AsyncWrite + Unpin>(
    client: &mut S,
    verifier: &Verifier,
    end_point: Option<&[u8]>,
    nonce: &str,
) -> Result<bool, Error> {
    let mechanisms: &[&[u8]] = if end_point.is_some() { &[PLUS, PLAIN] } else { &[PLAIN] };
    let offer: Vec<u8> = mechanisms.iter().flat_map(|name| [name, &b"\0"[..]].concat()).chain([0]).collect();
    send(client, Method::SASL, &offer).await?;
    let initial = answer(client).await?;
    let (mechanism, first) = initial_response(&initial)?;
    if !mechanisms.contains(&mechanism) {
        return Err(Error::Scram("the client chose a mechanism that was not offered"));
    }
    let binding = Binding { offered: end_point, is_chosen: mechanism == PLUS };
    let exchange = Exchange::begin(verifier, binding, first, nonce)?;
    send(client, Method::SASL_CONTINUE, exchange.server_first.as_bytes()).await?;
    let response = answer(client).await?;
    let Some(signature) = exchange.finish(verifier, body(&response))? else { return Ok(false) };
    send(client, Method::SASL_FINAL, signature.as_bytes()).await?;
    Ok(true)
}

async fn send<S: AsyncWrite + Unpin>(client: &mut S, method: Method, data: &[u8]) -> Result<(), Error> {
    let mut out = Vec::with_capacity(9 + data.len());
    put_message::<std::convert::Infallible>(&mut out, Some(tag::AUTHENTICATION), |out| {
        out.extend_from_slice(&method.0.to_be_bytes());
        out.extend_from_slice(data);
        Ok(())
    })
    .unwrap_or_else(|never| match never {});
    let write = async {
        client.write_all(&out).await?;
        client.flush().await
    };
    write.await.map_err(|error| Error::broke(error, WAITING_FOR))
}

const WAITING_FOR: &str = "the client's proof of the local password";

/// A client's message, which must be one of SASL.
async fn answer<S: AsyncRead + Unpin>(client: &mut S) -> Result<Zeroizing<Vec<u8>>, Error> {
    let message = Answer::default().read(client).await?;
    if message.first() == Some(&b'p') { Ok(message) } else { Err(Error::Scram("the client sent another message")) }
}

/// The body of a whole message.
fn body(message: &[u8]) -> &[u8] {
    message.get(5..).unwrap_or_default()
}

/// The mechanism that the client chose in its SASLInitialResponse, and its first message.
fn initial_response(message: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    let mut reader = Reader::new(body(message));
    let (Some(mechanism), Some(length)) = (reader.cstr(), reader.u32()) else {
        return Err(Error::Scram("the client's first message is malformed"));
    };
    let first = reader.rest();
    if usize::try_from(length) == Ok(first.len()) {
        Ok((mechanism, first))
    } else {
        Err(Error::Scram("the client's first message is malformed"))
    }
}

/// Our offer of channel binding, and the client's choice.
#[derive(Clone, Copy)]
struct Binding<'a> {
    /// The hash of our certificate.
    offered: Option<&'a [u8]>,
    /// Whether the client chose `-PLUS`.
    is_chosen: bool,
}

impl Binding<'_> {
    /// What the client's proof must repeat in base64: its `flag`, and the hash of our certificate if it binds.
    fn expected(self, flag: &str) -> Result<String, Error> {
        let Self { offered, is_chosen } = self;
        let hash = match (flag, is_chosen, offered) {
            ("n", false, _) | ("y", false, None) => &[][..],
            (BINDS, true, Some(hash)) => hash,
            ("y", false, Some(_)) => {
                return Err(Error::Scram(
                    "the client was not offered channel binding, which we did offer: the connection is not secure",
                ));
            }
            ("n" | "y", true, _) => return Err(Error::Scram("the client chose channel binding, and does not bind")),
            (flag, true, _) if flag.starts_with("p=") => {
                return Err(Error::Scram("the client binds to something else than tls-server-end-point"));
            }
            (flag, false, _) if flag.starts_with("p=") => {
                return Err(Error::Scram("the client requires channel binding, which was not offered or not chosen"));
            }
            _ => return Err(Error::Scram("the client's first message is malformed")),
        };
        Ok(BASE64.encode([flag.as_bytes(), b",,", hash].concat()))
    }
}

/// The messages so far.
struct Exchange {
    /// The value of `c=` in the client's proof.
    channel_binding: String,
    /// Whether that binds.
    is_bound: bool,
    client_first_bare: String,
    server_first: String,
    /// Both halves.
    nonce: String,
}

impl Exchange {
    fn begin(verifier: &Verifier, binding: Binding<'_>, client_first: &[u8], nonce: &str) -> Result<Self, Error> {
        const MALFORMED: Error = Error::Scram("the client's first message is malformed");
        let text = std::str::from_utf8(client_first).map_err(|_| MALFORMED)?;
        let (flag, rest) = text.split_once(',').ok_or(MALFORMED)?;
        let (identity, bare) = rest.split_once(',').ok_or(MALFORMED)?;
        let channel_binding = binding.expected(flag)?;
        if !identity.is_empty() {
            return Err(Error::Scram("the client asks for an authorization identity"));
        }
        let mut attributes = bare.split(',');
        let user = attributes.next().and_then(|user| user.strip_prefix("n="));
        let clients = attributes.next().and_then(|nonce| nonce.strip_prefix("r="));
        let (Some(_), Some(clients)) = (user, clients) else { return Err(MALFORMED) };
        if clients.is_empty() || !clients.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(MALFORMED);
        }
        let nonce = format!("{clients}{nonce}");
        let server_first = format!("r={nonce},s={},i={ITERATIONS}", BASE64.encode(verifier.salt));
        let (is_bound, client_first_bare) = (binding.is_chosen, bare.to_owned());
        Ok(Self { channel_binding, is_bound, client_first_bare, server_first, nonce })
    }

    /// Our signature for a client with the right proof.
    fn finish(&self, verifier: &Verifier, client_final: &[u8]) -> Result<Option<String>, Error> {
        const MALFORMED: Error = Error::Scram("the client's proof is malformed");
        let text = std::str::from_utf8(client_final).map_err(|_| MALFORMED)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(MALFORMED)?;
        let mut attributes = without_proof.split(',');
        let binding = attributes.next().and_then(|binding| binding.strip_prefix("c=")).ok_or(MALFORMED)?;
        let nonce = attributes.next().and_then(|nonce| nonce.strip_prefix("r=")).ok_or(MALFORMED)?;
        if verify_slices_are_equal(binding.as_bytes(), self.channel_binding.as_bytes()).is_err() {
            return Err(Error::Scram(if self.is_bound {
                "the client's TLS is not with this listener: something between them has a certificate of its own"
            } else {
                "the client's statements about channel binding differ"
            }));
        }
        if nonce != self.nonce {
            return Err(Error::Scram("the client's proof is for another nonce"));
        }
        let proof = Zeroizing::new(BASE64.decode(proof).map_err(|_| MALFORMED)?);
        let proof: &[u8; KEY_LENGTH] = proof.as_slice().try_into().map_err(|_| MALFORMED)?;
        let messages = format!("{},{},{without_proof}", self.client_first_bare, self.server_first);
        let mut client_key = keyed(&*verifier.stored_key, messages.as_bytes());
        client_key.iter_mut().zip(proof).for_each(|(signature, proof)| *signature ^= proof);
        if verify_slices_are_equal(&*hash(&*client_key), &*verifier.stored_key).is_err() {
            return Ok(None);
        }
        let signature = keyed(&*verifier.server_key, messages.as_bytes());
        Ok(Some(format!("v={}", BASE64.encode(*signature))))
    }
}

pub(super) fn keyed(key: &[u8], message: &[u8]) -> Zeroizing<[u8; KEY_LENGTH]> {
    array(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref())
}

pub(super) fn hash(message: &[u8]) -> Zeroizing<[u8; KEY_LENGTH]> {
    array(digest::digest(&digest::SHA256, message).as_ref())
}

fn array(bytes: &[u8]) -> Zeroizing<[u8; KEY_LENGTH]> {
    let mut array = Zeroizing::new([0; KEY_LENGTH]);
    array.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    array
}

#[cfg(test)]
mod tests {
    use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, duplex, join};

    use super::*;

    /// RFC 7677, section 3.
    const CLIENT_FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const CLIENT_FINAL: &[u8] = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    /// The same exchange bound to [`END_POINT`], as Python's hashlib and hmac have it.
    const BOUND_FIRST: &[u8] = b"p=tls-server-end-point,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const BOUND_FINAL: &[u8] = b"c=cD10bHMtc2VydmVyLWVuZC1wb2ludCwsAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=,\
        r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=nY1Wus9a+gM2DrbQ1msXFgyhW6KM5ktOxWiU+/P/EGY=";
    const BOUND_SERVER_FINAL: &str = "v=RwppMGddhz/J0lFYaRReBjXcQeNUFP5Qc76Lo5Exrig=";
    const END_POINT: [u8; 32] = *b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\
        \x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f";
    const UNBOUND: Binding<'static> = Binding { offered: None, is_chosen: false };
    const BOUND: Binding<'static> = Binding { offered: Some(&END_POINT), is_chosen: true };

    fn verifier(password: &str) -> Verifier {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap().try_into().unwrap();
        Verifier::with_salt(&Secret::new(password.into()), salt)
    }

    fn message(body: &[u8]) -> Vec<u8> {
        [b"p", &u32::try_from(body.len() + 4).unwrap().to_be_bytes()[..], body].concat()
    }

    fn initial(first: &[u8]) -> Vec<u8> {
        initial_of("SCRAM-SHA-256", first)
    }

    fn initial_of(mechanism: &str, first: &[u8]) -> Vec<u8> {
        let length = u32::try_from(first.len()).unwrap().to_be_bytes();
        message(&[mechanism.as_bytes(), b"\0", &length[..], first].concat())
    }

    /// The verdict on a client in clear that sends these bytes, and what it was sent.
    async fn judged(sent: &[u8]) -> (Result<bool, Error>, Vec<u8>) {
        judged_inside(None, sent).await
    }

    /// The same inside TLS with a certificate of this hash.
    async fn judged_inside(end_point: Option<&[u8]>, sent: &[u8]) -> (Result<bool, Error>, Vec<u8>) {
        let mut client = join(sent, Vec::new());
        let verdict = prove_with_nonce(&mut client, &verifier("pencil"), end_point, NONCE).await;
        (verdict, client.into_inner().1)
    }

    #[tokio::test]
    async fn example_of_the_rfc_is_accepted() {
        let (verdict, sent) = judged(&[initial(CLIENT_FIRST), message(CLIENT_FINAL)].concat()).await;
        assert!(verdict.unwrap());
        let expected: [&[u8]; 6] = [
            b"R\0\0\0\x17\0\0\0\nSCRAM-SHA-256\0\0",
            b"R\0\0\0\x5e\0\0\0\x0b",
            SERVER_FIRST.as_bytes(),
            b"R\0\0\0\x36\0\0\0\x0c",
            SERVER_FINAL.as_bytes(),
            b"",
        ];
        assert_eq!(sent.escape_ascii().to_string(), expected.concat().escape_ascii().to_string());
    }

    #[tokio::test]
    async fn bound_proof_is_accepted_for_its_certificate_alone() {
        let sent = [initial_of("SCRAM-SHA-256-PLUS", BOUND_FIRST), message(BOUND_FINAL)].concat();
        let (verdict, answered) = judged_inside(Some(&END_POINT), &sent).await;
        assert!(verdict.unwrap());
        assert!(answered.starts_with(b"R\0\0\0\x2a\0\0\0\nSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0R"));
        assert!(answered.ends_with(BOUND_SERVER_FINAL.as_bytes()));
        for other in [&[0; 32][..], &END_POINT[..31], &[]] {
            let (verdict, answered) = judged_inside(Some(other), &sent).await;
            let why = "the client's TLS is not with this listener: something between them has a certificate of its own";
            assert!(matches!(&verdict, Err(Error::Scram(said)) if *said == why), "{verdict:?}");
            assert!(!answered.windows(2).any(|bytes| bytes == b"v="), "we prove nothing to it");
        }
    }

    /// RFC 5802, section 6, and `read_client_first_message` in `src/backend/libpq/auth-scram.c`.
    #[tokio::test]
    async fn client_that_was_not_offered_our_channel_binding_is_refused() {
        const DOWNGRADED: &str =
            "the client was not offered channel binding, which we did offer: the connection is not secure";
        const NOT_CHOSEN: &str = "the client requires channel binding, which was not offered or not chosen";
        let (plain, plus) = ("SCRAM-SHA-256", "SCRAM-SHA-256-PLUS");
        for (end_point, mechanism, flag, expected) in [
            (Some(&END_POINT[..]), plain, "y", Some(DOWNGRADED)),
            (Some(&END_POINT), plain, "p=tls-server-end-point", Some(NOT_CHOSEN)),
            (Some(&END_POINT), plus, "n", Some("the client chose channel binding, and does not bind")),
            (Some(&END_POINT), plus, "y", Some("the client chose channel binding, and does not bind")),
            (
                Some(&END_POINT),
                plus,
                "p=tls-unique",
                Some("the client binds to something else than tls-server-end-point"),
            ),
            (Some(&END_POINT), plus, "p=", Some("the client binds to something else than tls-server-end-point")),
            (Some(&END_POINT), plus, "P=tls-server-end-point", Some("the client's first message is malformed")),
            (None, plus, "p=tls-server-end-point", Some("the client chose a mechanism that was not offered")),
            (None, plain, "p=tls-server-end-point", Some(NOT_CHOSEN)),
            (Some(&END_POINT), plain, "n", None),
            (None, plain, "y", None),
            (None, plain, "n", None),
        ] {
            let (verdict, _) =
                judged_inside(end_point, &initial_of(mechanism, format!("{flag},,n=,r=x").as_bytes())).await;
            match (expected, &verdict) {
                (Some(why), Err(Error::Scram(said))) => assert_eq!(*said, why, "{mechanism} {flag}"),
                (None, Err(Error::Closed { .. })) => {}
                _ => panic!("{mechanism} {flag}: {verdict:?}"),
            }
        }
    }

    #[test]
    fn wrong_proof_gets_no_signature() {
        let exchange = Exchange::begin(&verifier("pencil"), UNBOUND, CLIENT_FIRST, NONCE).unwrap();
        assert_eq!(exchange.server_first, SERVER_FIRST);
        assert!(exchange.finish(&verifier("pencil "), CLIENT_FINAL).unwrap().is_none());
        let mut other = CLIENT_FINAL.to_vec();
        *other.iter_mut().rev().nth(4).unwrap() ^= 1;
        assert!(exchange.finish(&verifier("pencil"), &other).unwrap().is_none());
    }

    #[tokio::test]
    async fn another_implementation_is_judged_by_its_password() {
        for (password, right, bound) in [
            ("correct horse battery", true, false),
            ("correct horse", false, false),
            ("", false, false),
            ("correct horse battery", true, true),
            ("correct horse", false, true),
        ] {
            let verifier = Verifier::new(&Secret::new("correct horse battery".into())).unwrap();
            let (mut ours, mut theirs) = duplex(16);
            let (mechanism, binding) = if bound {
                ("SCRAM-SHA-256-PLUS", ChannelBinding::tls_server_end_point(END_POINT.to_vec()))
            } else {
                ("SCRAM-SHA-256", ChannelBinding::unsupported())
            };
            let client = async {
                let mut scram = ScramSha256::new(password.as_bytes(), binding);
                receive(&mut theirs).await;
                theirs.write_all(&initial_of(mechanism, scram.message())).await.unwrap();
                scram.update(&receive(&mut theirs).await[4..]).unwrap();
                theirs.write_all(&message(scram.message())).await.unwrap();
                if right {
                    scram.finish(&receive(&mut theirs).await[4..]).unwrap();
                }
            };
            let (verdict, ()) = tokio::join!(prove(&mut ours, &verifier, Some(&END_POINT)), client);
            assert_eq!(verdict.unwrap(), right, "{password} {bound}");
        }
    }

    async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
        assert_eq!(stream.read_u8().await.unwrap(), b'R');
        let mut body = vec![0; usize::try_from(stream.read_u32().await.unwrap()).unwrap() - 4];
        stream.read_exact(&mut body).await.unwrap();
        body
    }

    #[tokio::test]
    async fn messages_cut_anywhere_are_a_closed_connection() {
        let bound = [initial_of("SCRAM-SHA-256-PLUS", BOUND_FIRST), message(BOUND_FINAL)].concat();
        for whole in [[initial(CLIENT_FIRST), message(CLIENT_FINAL)].concat(), bound] {
            for end in 0..whole.len() {
                let (verdict, _) = judged_inside(Some(&END_POINT), &whole[..end]).await;
                assert!(matches!(verdict, Err(Error::Closed { .. })), "cut at {end}");
            }
        }
    }

    #[test]
    fn fields_cut_anywhere_are_never_a_proof() {
        let verifier = verifier("pencil");
        for (binding, first, last) in [(UNBOUND, CLIENT_FIRST, CLIENT_FINAL), (BOUND, BOUND_FIRST, BOUND_FINAL)] {
            let exchange = Exchange::begin(&verifier, binding, first, NONCE).unwrap();
            assert!(exchange.finish(&verifier, last).unwrap().is_some());
            for end in 0..last.len() {
                assert!(!matches!(exchange.finish(&verifier, &last[..end]), Ok(Some(_))), "cut at {end}");
            }
            // A shorter nonce is one too.
            for end in 0..first.len() - 19 {
                assert!(Exchange::begin(&verifier, binding, &first[..end], NONCE).is_err(), "cut at {end}");
            }
        }
    }

    #[tokio::test]
    async fn client_that_does_not_keep_to_the_protocol_gets_the_reason() {
        let plus = message(b"SCRAM-SHA-256-PLUS\0\0\0\0\x01n");
        let query = b"Q\0\0\0\x05\0".to_vec();
        for (sent, why) in [
            (plus, "the client chose a mechanism that was not offered"),
            (query, "the client sent another message"),
            (message(b"SCRAM-SHA-256\0\0\0\0\xffn,,n=,r=x"), "the client's first message is malformed"),
            (message(b"SCRAM-SHA-256\0\xff\xff\xff\xff"), "the client's first message is malformed"),
            (initial(b"n,a=root,n=,r=x"), "the client asks for an authorization identity"),
            (initial(b"n,,m=x,n=,r=x"), "the client's first message is malformed"),
            (initial(b"n,,n=,r="), "the client's first message is malformed"),
            (initial(b"x,,n=,r=x"), "the client's first message is malformed"),
            (initial(b"\xff,,n=,r=x"), "the client's first message is malformed"),
        ] {
            let (verdict, _) = judged(&sent).await;
            assert!(matches!(&verdict, Err(Error::Scram(said)) if *said == why), "{why}: {verdict:?}");
        }
        let exchange = Exchange::begin(&verifier("pencil"), UNBOUND, b"y,,n=,r=x", "abc").unwrap();
        for (last, why) in [
            (&b"c=biws,r=xabc,p=AA=="[..], "the client's statements about channel binding differ"),
            (b"c=eSws,r=xabd,p=AA==", "the client's proof is for another nonce"),
            (b"c=eSws,r=xabc,p=AA==", "the client's proof is malformed"),
            (b"c=eSws,r=xabc", "the client's proof is malformed"),
        ] {
            let verdict = exchange.finish(&verifier("pencil"), last);
            assert!(matches!(&verdict, Err(Error::Scram(said)) if *said == why), "{why}: {verdict:?}");
        }
        let (verdict, _) = judged(b"p\x7f\xff\xff\xff").await;
        assert!(matches!(verdict, Err(Error::AnswerLength { .. })));
    }

    proptest! {
        #[test]
        fn other_bytes_are_never_a_proof(first in any::<Vec<u8>>(), last in any::<Vec<u8>>()) {
            let verifier = verifier("pencil");
            let _ = initial_response(&first);
            for (binding, whole) in [(UNBOUND, CLIENT_FIRST), (BOUND, BOUND_FIRST)] {
                let _ = Exchange::begin(&verifier, binding, &first, NONCE);
                let exchange = Exchange::begin(&verifier, binding, whole, NONCE).unwrap();
                prop_assert!(!matches!(exchange.finish(&verifier, &last), Ok(Some(_))));
            }
        }
    }
}
