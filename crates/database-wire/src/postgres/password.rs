//! A login with a password of ours, in the form that the server asks for.
//!
//! ```text
//!   StartupMessage ─▶
//!        ◀─ AuthenticationCleartextPassword                    password ─▶
//!        ◀─ AuthenticationMD5Password: salt                    hash of password, user and salt ─▶
//!        ◀─ AuthenticationSASL: SCRAM-SHA-256[-PLUS]           first message ─▶
//!        ◀─ AuthenticationSASLContinue: salt, iterations       proof ─▶
//!        ◀─ AuthenticationSASLFinal: the server's proof
//!        ◀─ AuthenticationOk …
//! ```
//!
//! The caller has verified the server's certificate. With SCRAM the server proves as well that it knows the password, and
//! `-PLUS` ties the proof to its certificate ("tls-server-end-point", RFC 5929), so that no proxy between can pass it on.

use bytes::BytesMut;
use postgres_protocol::authentication::{
    md5_hash,
    sasl::{SCRAM_SHA_256, SCRAM_SHA_256_PLUS},
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    codec::{Reader, put_message},
    error::Error,
    login::{Conversation, LoggedIn},
    message,
    method::Method,
    scram_client::{Binding, Exchange},
    startup::Startup,
};
use crate::c_string::put_cstr;
use safe_display::Secret;

/// An authentication request.
enum Request<'a> {
    Ok,
    Cleartext,
    Md5([u8; 4]),
    Sasl(Mechanisms),
    SaslContinue(&'a [u8]),
    SaslFinal(&'a [u8]),
    Other(Method),
}

/// The mechanisms that a server offers and we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mechanisms {
    plain: bool,
    plus: bool,
}

/// Logs in over an encrypted stream. `end_point` is the hash of the server's certificate for `tls-server-end-point`; `None` where
/// that is not defined. The caller sets the deadline. Not cancel safe.
///
/// # Errors
/// [`Error::Refused`] by the server, [`Error::PasswordMethod`], [`Error::Scram`], and whatever breaks the protocol or the
/// connection.
pub async fn login_with_password<S: AsyncRead + AsyncWrite + Unpin>(
    upstream: &mut S,
    startup: &Startup,
    password: &Secret<String>,
    end_point: Option<&[u8]>,
) -> Result<LoggedIn, Error> {
    let mut conversation = Conversation { upstream, received: BytesMut::new(), greeting: BytesMut::new() };
    conversation.send(&startup.encode()).await?;
    let request = conversation.next_request().await?;
    match Request::parse(request.body())? {
        Request::Ok => return conversation.read_greeting().await,
        Request::Cleartext => conversation.send(&message::password(password)?).await?,
        Request::Md5(salt) => {
            let user = startup.get(b"user").unwrap_or_default();
            let hash = Secret::new(md5_hash(user, password.expose().as_bytes(), salt));
            conversation.send(&message::password(&hash)?).await?;
        }
        Request::Sasl(offered) => scram(&mut conversation, offered, password, end_point).await?,
        Request::Other(method) => return Err(Error::PasswordMethod(method)),
        Request::SaslContinue(_) | Request::SaslFinal(_) => return Err(Error::Malformed("authentication request")),
    }
    let verdict = conversation.next_request().await?;
    match Request::parse(verdict.body())? {
        Request::Ok => conversation.read_greeting().await,
        _ => Err(Error::Malformed("second authentication request")),
    }
}

/// As libpq does: with channel binding where the server offers it, and else with the statement that we would have been able to,
/// which a server that did offer it takes for an attack.
async fn scram<S: AsyncRead + AsyncWrite + Unpin>(
    conversation: &mut Conversation<'_, S>,
    offered: Mechanisms,
    password: &Secret<String>,
    end_point: Option<&[u8]>,
) -> Result<(), Error> {
    let (mechanism, binding) = match (offered, end_point) {
        (Mechanisms { plus: true, .. }, Some(hash)) => (SCRAM_SHA_256_PLUS, Binding::EndPoint(hash)),
        (Mechanisms { plain: true, .. }, Some(_)) => (SCRAM_SHA_256, Binding::NotOffered),
        (Mechanisms { plain: true, .. }, None) => (SCRAM_SHA_256, Binding::Unable),
        (Mechanisms { plain: false, .. }, _) => return Err(Error::PasswordMethod(Method(10))),
    };
    let (exchange, first) = Exchange::begin(binding)?;
    let mut initial = Vec::new();
    put_message(&mut initial, Some(b'p'), |out| {
        put_cstr(out, mechanism.as_bytes(), "SASL mechanism")?;
        let length = u32::try_from(first.len()).map_err(|_| Error::Malformed("SASL"))?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(first.as_bytes());
        Ok::<_, Error>(())
    })?;
    conversation.send(&initial).await?;
    let reply = conversation.next_request().await?;
    let Request::SaslContinue(data) = Request::parse(reply.body())? else {
        return Err(Error::Scram("the server did not go on with it"));
    };
    let (proved, proof) = exchange.prove(password, data)?;
    let mut response = Vec::with_capacity(proof.len() + 5);
    put_message(&mut response, Some(b'p'), |out| {
        out.extend_from_slice(proof.as_bytes());
        Ok::<_, Error>(())
    })?;
    conversation.send(&response).await?;
    let reply = conversation.next_request().await?;
    let Request::SaslFinal(data) = Request::parse(reply.body())? else {
        return Err(Error::Scram("the server did not prove that it knows the password"));
    };
    proved.finish(data)
}

impl<'a> Request<'a> {
    /// Reads the body of an authentication message.
    fn parse(body: &'a [u8]) -> Result<Self, Error> {
        const MALFORMED: Error = Error::Malformed("authentication request");
        let mut reader = Reader::new(body);
        let code = reader.u32().ok_or(MALFORMED)?;
        let rest = reader.rest();
        match code {
            0 | 3 if !rest.is_empty() => Err(MALFORMED),
            0 => Ok(Self::Ok),
            3 => Ok(Self::Cleartext),
            5 => rest.try_into().map(Self::Md5).map_err(|_| MALFORMED),
            10 => Mechanisms::parse(rest).map(Self::Sasl).ok_or(MALFORMED),
            11 => Ok(Self::SaslContinue(rest)),
            12 => Ok(Self::SaslFinal(rest)),
            other => Ok(Self::Other(Method(other))),
        }
    }
}

impl Mechanisms {
    /// Names, each a C string, up to an empty one.
    fn parse(list: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(list);
        let mut offered = Self { plain: false, plus: false };
        loop {
            match reader.cstr()? {
                b"" => return reader.is_empty().then_some(offered),
                name => {
                    offered.plain |= name == SCRAM_SHA_256.as_bytes();
                    offered.plus |= name == SCRAM_SHA_256_PLUS.as_bytes();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::postgres::ProtocolVersion;

    const OK: &[u8] = b"R\0\0\0\x08\0\0\0\0";
    const READY: &[u8] = b"Z\0\0\0\x05I";

    async fn message(server: &mut DuplexStream) -> Vec<u8> {
        let mut head = [0; 5];
        server.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let mut body = vec![0; usize::try_from(length).unwrap() - 4];
        server.read_exact(&mut body).await.unwrap();
        assert_eq!(head[0], b'p');
        body
    }

    fn request(code: u32, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_message::<()>(&mut out, Some(b'R'), |out| {
            out.extend_from_slice(&code.to_be_bytes());
            out.extend_from_slice(data);
            Ok(())
        })
        .unwrap();
        out
    }

    /// Logs in as `md5_user` with `password` to a server that plays `script` after it has read the startup.
    async fn play(end_point: Option<&[u8]>, script: impl AsyncFnOnce(&mut DuplexStream)) -> Result<LoggedIn, Error> {
        let (mut ours, mut server) = duplex(4096);
        let mut startup = Startup::new(ProtocolVersion { major: 3, minor: 0 });
        startup.set(b"user", b"md5_user").unwrap();
        let password = Secret::new("password".to_owned());
        let ours = async { login_with_password(&mut ours, &startup, &password, end_point).await };
        let (result, ()) = tokio::join!(ours, async {
            server.read_exact(&mut vec![0; startup.encode().len()]).await.unwrap();
            script(&mut server).await;
            drop(server);
        });
        result
    }

    #[tokio::test]
    async fn password_goes_in_the_form_that_the_server_asks_for() {
        for (asked, answer) in [
            (request(3, b""), &b"password\0"[..]),
            // The vector of `postgres-protocol`.
            (request(5, &[0x2a, 0x3d, 0x8f, 0xe0]), b"md562af4dd09bbb41884907a838a3233294\0"),
        ] {
            let script = async |server: &mut DuplexStream| {
                server.write_all(&asked).await.unwrap();
                assert_eq!(message(server).await, answer);
                server.write_all(&[OK, READY].concat()).await.unwrap();
            };
            let logged_in = play(None, script).await.unwrap();
            assert_eq!(logged_in.greeting, [OK, READY].concat());
        }
        let logged_in = play(None, async |server| server.write_all(&[OK, READY].concat()).await.unwrap()).await;
        assert!(logged_in.is_ok(), "a server that trusts everybody");
    }

    #[tokio::test]
    async fn channel_binding_is_used_where_both_sides_can() {
        let both = request(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0");
        let plain = request(10, b"SCRAM-SHA-256\0\0");
        for (offer, end_point, mechanism, header) in [
            (&both, Some(&b"hash"[..]), "SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,n=,r="),
            (&plain, Some(&b"hash"[..]), "SCRAM-SHA-256", "y,,n=,r="),
            (&both, None, "SCRAM-SHA-256", "n,,n=,r="),
        ] {
            let script = async |server: &mut DuplexStream| {
                server.write_all(offer).await.unwrap();
                let first = message(server).await;
                let text = String::from_utf8_lossy(&first).into_owned();
                assert!(text.starts_with(&format!("{mechanism}\0")), "{text:?}");
                assert!(text.contains(header), "{text:?}");
            };
            let error = play(end_point, script).await.unwrap_err();
            assert!(matches!(error, Error::Closed { .. }), "{error}");
        }
    }

    #[tokio::test]
    async fn server_that_proves_nothing_is_refused() {
        let offer = request(10, b"SCRAM-SHA-256\0\0");
        // AuthenticationOk in the place of each of the server's messages, and a wrong proof.
        for step in 0..3 {
            let script = async |server: &mut DuplexStream| {
                server.write_all(&offer).await.unwrap();
                let first = String::from_utf8(message(server).await[18..].to_vec()).unwrap();
                if step == 0 {
                    return server.write_all(&[OK, READY].concat()).await.unwrap();
                }
                let nonce = first.split("r=").nth(1).unwrap();
                let go_on = format!("r={nonce}server,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
                server.write_all(&request(11, go_on.as_bytes())).await.unwrap();
                message(server).await;
                if step == 2 {
                    let proof = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
                    server.write_all(&request(12, proof)).await.unwrap();
                }
                server.write_all(&[OK, READY].concat()).await.unwrap();
            };
            let error = play(None, script).await.unwrap_err();
            assert!(matches!(error, Error::Scram(_)), "{step}: {error}");
        }
    }

    /// More than 100,000 iterations take longer than a tenth of a second; the default of servers is 4,096.
    #[tokio::test]
    async fn server_that_asks_for_minutes_of_work_is_refused_at_once() {
        for iterations in ["100001", "2147483648", "4294967295", "99999999999"] {
            let script = async |server: &mut DuplexStream| {
                server.write_all(&request(10, b"SCRAM-SHA-256\0\0")).await.unwrap();
                let first = String::from_utf8(message(server).await[18..].to_vec()).unwrap();
                let nonce = first.split("r=").nth(1).unwrap();
                let go_on = format!("r={nonce}server,s=W22ZaJ0SNY7soEsUEjb6gQ==,i={iterations}");
                server.write_all(&request(11, go_on.as_bytes())).await.unwrap();
            };
            let error = play(None, script).await.unwrap_err();
            assert!(
                matches!(error, Error::Scram("the server's first message cannot be used")),
                "{iterations}: {error}"
            );
        }
    }

    #[tokio::test]
    async fn what_no_password_answers_is_named() {
        for (code, name) in [(2, "Kerberos V5"), (7, "GSSAPI"), (99, "authentication method 99")] {
            let error =
                play(None, async |server| server.write_all(&request(code, b"")).await.unwrap()).await.unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
        let other = request(10, b"OAUTHBEARER\0\0");
        let error = play(None, async |server| server.write_all(&other).await.unwrap()).await.unwrap_err();
        assert!(matches!(error, Error::PasswordMethod(_)), "{error}");
        for body in [request(5, b"abc"), request(10, b"SCRAM-SHA-256"), request(3, b"x"), request(11, b"r=")] {
            let error = play(None, async |server| server.write_all(&body).await.unwrap()).await.unwrap_err();
            assert!(matches!(error, Error::Malformed(_)), "{error}");
        }
    }
}
