//! The client's half of a connection's start: what it asks for before it is a session.
//!
//! ```text
//!   ─▶ SSLRequest ── N ─▶ ┐
//!   ─▶ GSSENCRequest─ N ─▶ ┴─ again ─▶ StartupMessage ─▶ Accepted::Startup
//!                                  └─▶ CancelRequest  ─▶ Accepted::Cancel
//! ```
//!
//! Encryption is refused here: the client is on this machine. The rules are `ProcessStartupPacket`'s.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{
    cancel::CancelRequest,
    error::Error,
    message::{CANCEL_REQUEST_CODE, GSSENC_REQUEST_CODE, SSL_REQUEST_CODE},
    startup::{ProtocolVersion, Startup},
};

/// The longest startup packet in bytes, its length field included. PostgreSQL's own limit
/// (`MAX_STARTUP_PACKET_LENGTH`).
pub const MAX_STARTUP_PACKET: usize = 10_000;
/// The shortest: length and code.
pub const MIN_STARTUP_PACKET: usize = 8;
/// The first byte of a TLS ClientHello (handshake record). No startup packet begins so: it would be 369 MB long.
const TLS_HANDSHAKE: u8 = 0x16;

/// What a client turned out to want.
#[derive(Debug)]
pub enum Accepted {
    /// To log in.
    Startup(Startup),
    /// To cancel a query of another connection. Nothing is ever answered to it.
    Cancel(CancelRequest),
    /// Nothing: it went away between packets. A port probe, or, when it had asked for TLS and heard that there is
    /// none, a client that insists on it (`sslmode=require`).
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
/// What a client may be told is in [`Error::report`]; it knows of none for [`Error::DirectTls`], which no
/// ErrorResponse would reach, and for a broken CancelRequest.
pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(client: &mut S) -> Result<Accepted, Error> {
    let mut asked_for_tls = false;
    let mut asked_for_gss = false;
    loop {
        let Some(packet) = read_packet(client).await? else { return Ok(Accepted::Gone { asked_for_tls }) };
        let (asked, request) = match packet.code {
            SSL_REQUEST_CODE => (&mut asked_for_tls, "SSLRequest"),
            GSSENC_REQUEST_CODE => (&mut asked_for_gss, "GSSENCRequest"),
            CANCEL_REQUEST_CODE => return CancelRequest::parse(&packet.body).map(Accepted::Cancel),
            version => {
                let startup = Startup::parse(ProtocolVersion::from(version), &packet.body)?;
                return if startup.replication() { Err(Error::Replication) } else { Ok(Accepted::Startup(startup)) };
            }
        };
        if *asked {
            return Err(Error::RepeatedRequest(request));
        }
        if !packet.body.is_empty() {
            return Err(Error::StartupLayout("an encryption request has no body"));
        }
        *asked = true;
        client.write_all(b"N").await.map_err(broke)?;
        client.flush().await.map_err(broke)?;
    }
}

struct Packet {
    code: u32,
    body: Vec<u8>,
}

/// One packet, or `None` when the client has gone before its first byte.
async fn read_packet<S: AsyncRead + Unpin>(client: &mut S) -> Result<Option<Packet>, Error> {
    let mut length = [0; 4];
    let n = match client.read(&mut length).await {
        Ok(0) => return Ok(None),
        Ok(n) => n,
        // A probe that closes with SO_LINGER 0 is as quiet as one that closes.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
        Err(error) => return Err(broke(error)),
    };
    if length.first() == Some(&TLS_HANDSHAKE) {
        return Err(Error::DirectTls);
    }
    if let Some(missing) = length.get_mut(n..) {
        client.read_exact(missing).await.map_err(broke)?;
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
    Ok(Some(Packet { code: u32::from_be_bytes(code), body }))
}

fn broke(error: io::Error) -> Error {
    Error::broke(error, "the rest of the startup packet")
}
