//! Opening the websocket of a data channel: the check of its URL, the connection, the upgrade.
//!
//! The URL comes from outside (StartSession's answer) and decides where a signed request and a session go, so it is
//! checked before anything is dialled, then sent byte for byte: its query holds raw `+`, `/` and `=`. No redirect is
//! followed, no extension offered. Neither the URL nor a header's value appears in errors and logs.
//!
//! What is said over the websocket is not known here.

mod error;
mod path;
mod url;

use http::{HeaderName, HeaderValue};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, handshake::client::generate_key, protocol::WebSocketConfig},
};

pub use self::{
    error::Error,
    path::Path,
    url::{Address, MessageService, UrlError, check_url},
};
use crate::connect::{BoxIo, Connect};

/// The largest message we take. Neither official side has a limit; hostile input needs one.
const MAX_MESSAGE: usize = 16 << 20;
/// Messages fed without a flush are gathered up to this size: a flush for each costs six times the CPU.
const WRITE_BUFFER: usize = 128 << 10;
/// What may wait for a service that does not read, answers to its pings above all: the above, our largest message, and
/// room for pongs, beyond which only the last of them is kept.
const MAX_WRITE_BUFFER: usize = 1 << 20;

/// Opens the websocket with `headers` added, the signature, and says which way it goes. Not cancel safe: a dropped future
/// closes what it had opened.
///
/// The deadline of the whole is the caller's.
///
/// # Errors
/// See [`Error`].
pub async fn open(
    connect: &dyn Connect,
    address: &Address,
    headers: Vec<(HeaderName, HeaderValue)>,
) -> Result<(WebSocketStream<BoxIo>, Path), Error> {
    let (stream, path) = connect.connect(address).await.map_err(Error::Connect)?;
    Ok((upgrade(stream, address, headers).await?, path))
}

async fn upgrade(
    stream: BoxIo,
    address: &Address,
    headers: Vec<(HeaderName, HeaderValue)>,
) -> Result<WebSocketStream<BoxIo>, Error> {
    let host = || address.host.clone();
    let failed = |cause: tungstenite::Error| match cause {
        tungstenite::Error::Http(answer) => Error::Refused { host: host(), status: answer.status() },
        cause => Error::Upgrade { host: host(), cause: Box::new(cause) },
    };
    let mut request = http::Request::get(address.uri.clone())
        .header("Host", address.uri.authority().map_or("", |authority| authority.as_str()))
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", generate_key())
        .body(())
        .map_err(|cause| failed(cause.into()))?;
    request.headers_mut().extend(headers);
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(MAX_WRITE_BUFFER);
    Ok(client_async_with_config(request, stream, Some(config)).await.map_err(failed)?.0)
}

#[cfg(test)]
mod tests;
