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
//! The token goes out over TLS only. To a server that takes no more than 255 bytes in the response
//! (without CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA), a longer one goes out with the switch.

use std::fmt;

use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use super::{
    capabilities::Capabilities,
    codec,
    error::{Error, ServerError},
    greeting::Greeting,
    message::{self, OkPacket, Plugin},
    response::HandshakeResponse,
};
use crate::secret::Secret;

/// An SSLRequest follows the greeting, which is number 0.
const SSL_REQUEST: u8 = 1;
const HANDSHAKE_RESPONSE: u8 = 2;
/// The longest authentication data behind a length of one byte.
const MAX_SHORT_DATA: usize = 255;

/// How packets after the login are compressed between us and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// `CLIENT_COMPRESS`: all servers have it unless it was turned off.
    Zlib,
    /// `CLIENT_ZSTD_COMPRESSION_ALGORITHM`: MySQL since 8.0.18.
    Zstd,
}

impl Compression {
    /// What the server is told that we compress with: its own level is another matter. zstd's default.
    pub(super) const ZSTD_LEVEL: u8 = 3;

    /// The capability that asks for it.
    pub fn capability(self) -> Capabilities {
        match self {
            Self::Zlib => Capabilities::COMPRESS,
            Self::Zstd => Capabilities::ZSTD,
        }
    }

    /// The first of `preferred` that the server offers.
    pub fn choose(preferred: &[Self], greeting: &Greeting) -> Option<Self> {
        preferred.iter().copied().find(|algorithm| greeting.capabilities.contains(algorithm.capability()))
    }
}

/// A finished login.
#[derive(Clone)]
pub struct LoggedIn {
    /// What the server said last.
    pub ok: OkPacket,
    /// What was agreed with the server.
    pub capabilities: Capabilities,
}

impl fmt::Debug for LoggedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LoggedIn with {:?}, status {:#x}", self.capabilities, self.ok.status)
    }
}

/// Asks for TLS: the handshake may begin when this returns, the server answers with nothing else. `compression` is the
/// same as for [`login`](fn@login). The caller sets the deadline. Not cancel safe.
///
/// # Errors
/// [`Error::NoTls`] when the server has none, or a connection that breaks.
pub async fn ssl_request<S: AsyncWrite + Unpin>(
    upstream: &mut S,
    greeting: &Greeting,
    response: &HandshakeResponse,
    compression: Option<Compression>,
) -> Result<(), Error> {
    let capabilities = agreed(greeting, response, compression)?;
    codec::send(upstream, &response.ssl_request(SSL_REQUEST, capabilities), "the TLS handshake").await
}

/// Logs in over an encrypted stream. What follows OK is compressed if `compression` says so, OK itself is not. The
/// caller sets the deadline. Not cancel safe.
///
/// # Errors
/// [`Error::Refused`] by the server, [`Error::Authentication`] when it wants no token, and whatever breaks the protocol
/// or the connection.
pub async fn login<S: AsyncRead + AsyncWrite + Unpin>(
    upstream: &mut S,
    greeting: &Greeting,
    response: &HandshakeResponse,
    compression: Option<Compression>,
    token: &Secret<String>,
) -> Result<LoggedIn, Error> {
    let capabilities = agreed(greeting, response, compression)?;
    let fits = capabilities.contains(Capabilities::PLUGIN_AUTH_LENENC) || token.expose().len() < MAX_SHORT_DATA;
    let (plugin, data) = if fits {
        if token.expose().contains('\0') {
            return Err(Error::Nul("token"));
        }
        let mut data = Zeroizing::new(Vec::with_capacity(token.expose().len() + 1));
        data.extend_from_slice(token.expose().as_bytes());
        data.push(0);
        (Plugin::Clear, data)
    } else {
        // Nothing, for another plugin than the account's: the server asks for that one.
        (Plugin::Native, Zeroizing::default())
    };
    let packet = response.encode(HANDSHAKE_RESPONSE, capabilities, &plugin, &data, Compression::ZSTD_LEVEL)?;
    codec::send(upstream, &packet, VERDICT).await?;
    let ok = verdict(upstream, HANDSHAKE_RESPONSE.wrapping_add(1), token).await?;
    Ok(LoggedIn { ok, capabilities })
}

const VERDICT: &str = "OK or AuthSwitchRequest";

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
            Some(&message::AUTH_SWITCH) => match message::auth_switch_request(&packet.payload)? {
                Plugin::Clear if switched => return Err(Error::Malformed("second AuthSwitchRequest")),
                Plugin::Clear => {
                    switched = true;
                    let password = message::clear_password(packet.next(), token)?;
                    codec::send(upstream, &password, VERDICT).await?;
                    sequence = packet.next().wrapping_add(1);
                }
                other => return Err(Error::Authentication(other)),
            },
            other => return Err(Error::Unexpected { first: other.copied(), waiting_for: VERDICT }),
        }
    }
}

/// What goes upstream: what client and server agree on, and what we need ourselves.
fn agreed(
    greeting: &Greeting,
    response: &HandshakeResponse,
    compression: Option<Compression>,
) -> Result<Capabilities, Error> {
    if !greeting.capabilities.contains(Capabilities::SSL) {
        return Err(Error::NoTls);
    }
    let needed = Capabilities::PROTOCOL_41
        | Capabilities::SECURE_CONNECTION
        | Capabilities::SSL
        | Capabilities::PLUGIN_AUTH
        | (greeting.capabilities & Capabilities::PLUGIN_AUTH_LENENC)
        | compression.map_or(Capabilities::default(), Compression::capability);
    Ok((response.capabilities & (greeting.offered() | Capabilities::MYSQL) | needed)
        .with(Capabilities::CONNECT_WITH_DB, response.database().is_some()))
}
