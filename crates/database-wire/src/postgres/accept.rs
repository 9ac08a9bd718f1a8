//! The client's half of a connection's start: what it asks for before it is a session.
//!
//! ```text
//!   ─▶ SSLRequest ── N ─▶ ┐
//!   ─▶ GSSENCRequest─ N ─▶ ┴─ again ─▶ StartupMessage ─▶ Accepted::Startup
//!                                  └─▶ CancelRequest  ─▶ Accepted::Cancel
//!   where TLS is offered:
//!   ─▶ SSLRequest, or a TLS ClientHello at once ─▶ Accepted::Tls, and all of it again inside
//! ```
//!
//! The rules are those of `ProcessStartupPacket` and `ProcessSSLStartup`. TLS itself is the caller's.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{
    cancel::{CANCEL_REQUEST_CODE, CancelRequest},
    error::Error,
    message::{GSSENC_REQUEST_CODE, SSL_REQUEST_CODE},
    startup::Startup,
    version::ProtocolVersion,
};
use crate::encryption::Encryption;

/// The longest startup packet in bytes, its length field included. PostgreSQL's own limit
/// (`MAX_STARTUP_PACKET_LENGTH` in `src/include/libpq/pqcomm.h`, `REL_18_0`).
const MAX_STARTUP_PACKET: usize = 10_000;
/// The shortest: length and code.
const MIN_STARTUP_PACKET: usize = 8;
/// How a Terminate message begins, which clients send that give up before they have begun (node-postgres, `end()` right
/// after `connect()`). No startup packet begins so: it would be 1.4 GB long.
const TERMINATE: [u8; 4] = *b"X\0\0\0";
/// The first byte of a TLS ClientHello (handshake record). No startup packet begins so: it would be 369 MB long.
const TLS_HANDSHAKE: u8 = 0x16;

/// The protocol that a client must choose inside TLS (ALPN) if it begins with TLS; any other is refused.
pub const ALPN: &[u8] = b"postgresql";
/// The answer to an SSLRequest before TLS.
const TLS_FOLLOWS: &[u8] = b"S";

/// The wish of a client.
#[derive(Debug)]
pub enum Accepted {
    /// TLS. The client is accepted again inside.
    Tls {
        /// The answer that the client waits for before its handshake; empty for one that has begun with the handshake, and must
        /// choose [`ALPN`].
        answer: &'static [u8],
        /// The first bytes of the handshake, which were read.
        read: Vec<u8>,
    },
    /// To log in.
    Startup(Startup),
    /// To cancel a query of another connection. Nothing is ever answered to it.
    Cancel(CancelRequest),
    /// Nothing: it went away between packets or sent Terminate. A port probe, or, when it had asked for TLS and heard that
    /// there is none, a client that insists on it (`sslmode=require`). As PostgreSQL does, nothing is said to it.
    Gone {
        /// Whether it had asked for TLS.
        asked_for_tls: bool,
    },
}

/// Reads up to and including the client's StartupMessage or CancelRequest, and not a byte further.
///
/// Not cancel safe: a packet read in part is lost. Waits for the client as long as it takes: the deadline is the
/// caller's.
///
/// # Errors
/// The reply to the client is [`Error::report`]. There is none for [`Error::DirectTls`], which no ErrorResponse would
/// reach, for a broken CancelRequest, and for an impossible length, which PostgreSQL only writes to its log. A connection that breaks ([`Error::Closed`], [`Error::Io`]) is to be closed in silence, too.
pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    client: &mut S,
    encryption: Encryption,
) -> Result<Accepted, Error> {
    let offers_tls = matches!(encryption, Encryption::Offered | Encryption::Required);
    // Neither may be asked for inside TLS.
    let mut asked_for_tls = encryption == Encryption::Inside;
    let mut asked_for_gss = encryption == Encryption::Inside;
    loop {
        let packet = match read_packet(client).await? {
            Read::Packet(packet) => packet,
            Read::Handshake(read) if offers_tls && !asked_for_gss => return Ok(Accepted::Tls { answer: b"", read }),
            Read::Handshake(_) => return Err(Error::DirectTls),
            Read::Gone => return Ok(Accepted::Gone { asked_for_tls }),
        };
        let (asked, request) = match packet.code {
            SSL_REQUEST_CODE => (&mut asked_for_tls, "SSLRequest"),
            GSSENC_REQUEST_CODE => (&mut asked_for_gss, "GSSENCRequest"),
            // Drivers cancel without TLS what they began with it (libpq before 17).
            CANCEL_REQUEST_CODE => return CancelRequest::parse(&packet.body).map(Accepted::Cancel),
            _ if encryption == Encryption::Required => return Err(Error::TlsRequired),
            version => {
                return Startup::parse(ProtocolVersion::from(version), &packet.body).map(Accepted::Startup);
            }
        };
        if *asked {
            return Err(Error::RepeatedRequest(request));
        }
        if !packet.body.is_empty() {
            return Err(Error::StartupLayout("an encryption request has no body"));
        }
        *asked = true;
        if packet.code == SSL_REQUEST_CODE && offers_tls {
            return Ok(Accepted::Tls { answer: TLS_FOLLOWS, read: Vec::new() });
        }
        client.write_all(b"N").await.map_err(broke)?;
        client.flush().await.map_err(broke)?;
    }
}

struct Packet {
    code: u32,
    body: Vec<u8>,
}

/// The next bytes of a client.
enum Read {
    Packet(Packet),
    /// The first bytes of a TLS handshake.
    Handshake(Vec<u8>),
    /// The client left before its first byte.
    Gone,
}

async fn read_packet<S: AsyncRead + Unpin>(client: &mut S) -> Result<Read, Error> {
    let mut length = [0; 4];
    let n = match client.read(&mut length).await {
        Ok(0) => return Ok(Read::Gone),
        Ok(n) => n,
        // A probe that closes with SO_LINGER 0 is as quiet as one that closes.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(Read::Gone),
        Err(error) => return Err(broke(error)),
    };
    if length.first() == Some(&TLS_HANDSHAKE) {
        return Ok(Read::Handshake(length.get(..n).unwrap_or_default().to_vec()));
    }
    if let Some(missing) = length.get_mut(n..) {
        client.read_exact(missing).await.map_err(broke)?;
    }
    if length == TERMINATE {
        return Ok(Read::Gone);
    }
    let length = u32::from_be_bytes(length);
    let body_length = match usize::try_from(length) {
        Ok(length @ MIN_STARTUP_PACKET..=MAX_STARTUP_PACKET) => length - MIN_STARTUP_PACKET,
        _ => return Err(Error::StartupLength(length)),
    };
    let mut code = [0; 4];
    client.read_exact(&mut code).await.map_err(broke)?;
    let mut body = vec![0; body_length];
    client.read_exact(&mut body).await.map_err(broke)?;
    Ok(Read::Packet(Packet { code: u32::from_be_bytes(code), body }))
}

fn broke(error: io::Error) -> Error {
    Error::broke(error, "the rest of the startup packet")
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, duplex, join};

    use super::*;

    /// The first bytes of psql 15, and its StartupMessage.
    const SSL_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";
    const GSSENC_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x30";
    const PSQL: &[u8] = b"\0\0\0\x40\0\x03\0\0user\0app_user\0database\0orders_db\0application_name\0psql\0\0";

    /// The outcome, what the client was answered, and what was left unread.
    async fn outcome(sent: &[u8]) -> (Result<Accepted, Error>, Vec<u8>, Vec<u8>) {
        outcome_with(Encryption::Off, sent).await
    }

    async fn outcome_with(encryption: Encryption, sent: &[u8]) -> (Result<Accepted, Error>, Vec<u8>, Vec<u8>) {
        let mut client = join(sent, Vec::new());
        let result = accept(&mut client, encryption).await;
        let (left, answered) = client.into_inner();
        (result, answered, left.to_vec())
    }

    async fn error(sent: &[u8]) -> Error {
        outcome(sent).await.0.unwrap_err()
    }

    fn packet(code: u32, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 8).unwrap();
        [&length.to_be_bytes()[..], &code.to_be_bytes(), body].concat()
    }

    fn startup(result: Result<Accepted, Error>) -> Startup {
        match result.unwrap() {
            Accepted::Startup(startup) => startup,
            other => panic!("expected a startup, got {other:?}"),
        }
    }

    #[tokio::test]
    async fn psql_starts_without_encryption_after_a_refusal() {
        for asks in [vec![], vec![SSL_REQUEST], vec![GSSENC_REQUEST], vec![GSSENC_REQUEST, SSL_REQUEST]] {
            let (result, answered, left) = outcome(&[&asks.concat(), PSQL, b"early"].concat()).await;
            let startup = startup(result);
            assert_eq!(answered, vec![b'N'; asks.len()]);
            assert_eq!(left, b"early", "not a byte beyond the startup packet is read");
            assert_eq!(startup.version, ProtocolVersion { major: 3, minor: 0 });
            assert_eq!(startup.get(b"user"), Some(&b"app_user"[..]));
            assert_eq!(startup.get(b"database"), Some(&b"orders_db"[..]));
            assert_eq!(startup.get(b"Database"), None);
            assert_eq!(startup.encode(), PSQL);
        }
    }

    #[tokio::test]
    async fn a_byte_at_a_time_is_as_good_as_all_at_once() {
        let (mut ours, mut theirs) = duplex(1);
        let client = async {
            theirs.write_all(SSL_REQUEST).await.unwrap();
            assert_eq!(theirs.read_u8().await.unwrap(), b'N');
            theirs.write_all(PSQL).await.unwrap();
        };
        let (result, ()) = tokio::join!(accept(&mut ours, Encryption::Off), client);
        assert_eq!(startup(result).encode(), PSQL);
    }

    #[tokio::test]
    async fn client_that_leaves_between_packets_is_not_an_error() {
        assert!(matches!(outcome(b"").await.0.unwrap(), Accepted::Gone { asked_for_tls: false }));
        assert!(matches!(outcome(SSL_REQUEST).await.0.unwrap(), Accepted::Gone { asked_for_tls: true }));
        assert!(matches!(outcome(GSSENC_REQUEST).await.0.unwrap(), Accepted::Gone { asked_for_tls: false }));
    }

    #[tokio::test]
    async fn a_client_that_says_goodbye_before_it_begins_gets_no_answer() {
        for (sent, answer, asked_for_tls) in [
            (&b"X\0\0\0\x04"[..], &b""[..], false),
            (&[b"X\0\0\0\x04", PSQL].concat(), b"", false),
            (&[SSL_REQUEST, b"X\0\0\0\x04"].concat(), b"N", true),
        ] {
            let (result, answered, _) = outcome(sent).await;
            assert!(matches!(result.unwrap(), Accepted::Gone { asked_for_tls: tls } if tls == asked_for_tls));
            assert_eq!(answered, answer);
        }
    }

    #[tokio::test]
    async fn a_packet_cut_anywhere_is_a_closed_connection() {
        for packet in [SSL_REQUEST, PSQL, &packet(CANCEL_REQUEST_CODE, &[1; 8])] {
            for end in 1..packet.len() {
                assert!(matches!(error(&packet[..end]).await, Error::Closed { .. }), "cut at {end}");
            }
        }
    }

    #[tokio::test]
    async fn a_client_that_begins_with_tls_is_recognised_by_its_first_byte() {
        for sent in [&[0x16][..], b"\x16\x03\x01\x02\0\x01\0"] {
            assert!(matches!(error(sent).await, Error::DirectTls));
        }
    }

    #[tokio::test]
    async fn tls_is_taken_up_where_it_is_offered() {
        for encryption in [Encryption::Offered, Encryption::Required] {
            let asks = [SSL_REQUEST, &[GSSENC_REQUEST, SSL_REQUEST].concat()].map(<[u8]>::to_vec);
            for (asks, answered) in asks.into_iter().zip([&b""[..], b"N"]) {
                let (result, refused, left) = outcome_with(encryption, &[&asks, &b"early"[..]].concat()).await;
                let Accepted::Tls { answer, read } = result.unwrap() else { panic!("no TLS") };
                assert_eq!(
                    (answer, &read[..], &refused[..], &left[..]),
                    (&b"S"[..], &b""[..], answered, &b"early"[..])
                );
            }
            let (result, answered, left) = outcome_with(encryption, b"\x16\x03\x01\x02\0\x01\0").await;
            let Accepted::Tls { answer, read } = result.unwrap() else { panic!("no TLS") };
            assert_eq!((answer, &read[..], answered.len()), (&b""[..], &b"\x16\x03\x01\x02"[..], 0));
            assert_eq!(left, b"\0\x01\0");
            let late = outcome_with(encryption, &[GSSENC_REQUEST, b"\x16\x03\x01\x02"].concat()).await.0;
            assert!(matches!(late.unwrap_err(), Error::DirectTls));
        }
    }

    #[tokio::test]
    async fn only_a_cancel_request_comes_without_required_tls() {
        let refused = outcome_with(Encryption::Required, PSQL).await.0.unwrap_err();
        let report = refused.report().unwrap();
        assert_eq!(report.sqlstate, "28000");
        assert!(report.hint.unwrap().contains("sslmode=require"));
        let cancel = packet(CANCEL_REQUEST_CODE, &[1; 8]);
        assert!(matches!(outcome_with(Encryption::Required, &cancel).await.0.unwrap(), Accepted::Cancel(_)));
        startup(outcome_with(Encryption::Offered, PSQL).await.0);
        startup(outcome_with(Encryption::Inside, PSQL).await.0);
        for request in [SSL_REQUEST, GSSENC_REQUEST] {
            let again = outcome_with(Encryption::Inside, request).await.0;
            assert!(matches!(again.unwrap_err(), Error::RepeatedRequest(_)));
        }
    }

    #[tokio::test]
    async fn asking_twice_is_an_error() {
        for request in [SSL_REQUEST, GSSENC_REQUEST] {
            let (result, answered, _) = outcome(&[request, request, PSQL].concat()).await;
            assert!(matches!(result.unwrap_err(), Error::RepeatedRequest(_)));
            assert_eq!(answered, b"N");
        }
    }

    #[tokio::test]
    async fn an_encryption_request_has_no_body() {
        assert!(matches!(error(&packet(SSL_REQUEST_CODE, b"x")).await, Error::StartupLayout(_)));
    }

    #[tokio::test]
    async fn lengths_outside_the_limits_are_refused_before_anything_is_read_or_allocated() {
        for length in [0_u32, 4, 7, 10_001, 0x4745_5420 /* "GET " */, u32::MAX] {
            let (result, _, left) = outcome(&[&length.to_be_bytes()[..], PSQL].concat()).await;
            assert!(matches!(result.unwrap_err(), Error::StartupLength(l) if l == length));
            assert_eq!(left, PSQL);
        }
        let filler = vec![b'x'; MAX_STARTUP_PACKET - 8 - 12];
        let longest = packet(3 << 16, &[b"user\0u\0", &filler[..], b"\0\0\0\0\0"].concat());
        assert_eq!(longest.len(), MAX_STARTUP_PACKET);
        assert!(matches!(error(&longest).await, Error::StartupLayout(_)));
        let longest = packet(3 << 16, &[b"user\0u\0o\0", &filler[..], b"\0\0\0"[..2].as_ref()].concat());
        assert!(outcome(&longest).await.0.is_ok());
    }

    #[tokio::test]
    async fn minor_versions_are_passed_on_and_other_majors_refused() {
        for minor in [0, 2, 9999] {
            let bytes = packet(3 << 16 | minor, b"user\0u\0_pq_.option\0on\0\0");
            let startup = startup(outcome(&bytes).await.0);
            assert_eq!(u32::from(startup.version.minor), minor);
            assert_eq!(startup.encode(), bytes);
        }
        for version in [0, 2 << 16, 4 << 16, 1234 << 16 | 1] {
            let report = error(&packet(version, b"user\0u\0\0")).await.report().unwrap();
            assert_eq!(report.sqlstate, "0A000");
            assert!(report.message.starts_with("unsupported frontend protocol "), "{}", report.message);
        }
    }

    #[tokio::test]
    async fn a_cancel_request_carries_any_key_length() {
        for length in [4, 32, 256] {
            let bytes = packet(CANCEL_REQUEST_CODE, &[&7_u32.to_be_bytes()[..], &vec![5; length]].concat());
            for preamble in [&[][..], SSL_REQUEST] {
                match outcome(&[preamble, &bytes].concat()).await.0.unwrap() {
                    Accepted::Cancel(request) => assert_eq!(request.encode(), bytes),
                    other => panic!("expected a cancel request, got {other:?}"),
                }
            }
        }
        for length in [0, 3, 7, 261] {
            assert!(matches!(error(&packet(CANCEL_REQUEST_CODE, &vec![0; length])).await, Error::CancelLength(_)));
        }
    }

    #[tokio::test]
    async fn replication_is_asked_for_unless_the_value_says_no() {
        let asked = async |value: &str| {
            let packet = packet(3 << 16, format!("user\0u\0replication\0{value}\0\0").as_bytes());
            startup(outcome(&packet).await.0).replication()
        };
        for value in ["true", "database", "on", "1", "yes", "T", "", "o", "nope"] {
            assert!(asked(value).await, "{value:?}");
        }
        for value in ["false", "F", "no", "n", "off", "OF", "0"] {
            assert!(!asked(value).await, "{value:?}");
        }
    }
}
