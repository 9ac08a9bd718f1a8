//! Opening the websocket of a data channel: the check of its URL, the connection, the upgrade.
//!
//! The URL comes from outside (the reply to StartSession) and decides where a signed request and a session go. [`check_url`]
//! checks it before anything is dialled; then it is sent byte for byte, because its query holds raw `+`, `/` and `=`. No
//! redirect is followed and no extension is offered. Neither the URL nor the value of a header appears in errors and logs.
//!
//! The messages on the websocket are the business of [`crate::message`] and the layers above.

mod error;

use http::{HeaderName, HeaderValue};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, handshake::client::generate_key, protocol::WebSocketConfig},
};

pub use self::error::Error;
use crate::connect::{BoxIo, Connect, Path};
pub use crate::stream_url::{Address, MessageService, UrlError, check_url};

/// An open data channel.
pub type WebSocket = WebSocketStream<BoxIo>;

/// Bytes of the largest message that is accepted. Neither official side has a limit, and none is documented; hostile input
/// needs one.
const MAX_MESSAGE: usize = 16 << 20;
/// Messages fed without a flush are gathered up to this many bytes: a flush for each costs six times the CPU.
const WRITE_BUFFER: usize = 128 << 10;
/// Most bytes that wait for a service that does not read: [`WRITE_BUFFER`], our largest message, and pongs, of which only the
/// last is kept beyond this limit.
const MAX_WRITE_BUFFER: usize = 1 << 20;

/// Opens the websocket with the `headers` of the signature. Returns it with the path that its packets take. Not cancel safe: a
/// dropped future closes the connection. The caller sets the deadline.
///
/// # Errors
/// [`Error`]: the connection or the upgrade failed.
pub async fn open(
    connect: &dyn Connect,
    address: &Address,
    headers: Vec<(HeaderName, HeaderValue)>,
) -> Result<(WebSocket, Path), Error> {
    let (stream, path) = connect.connect(address).await.map_err(Error::Connect)?;
    Ok((upgrade(stream, address, headers).await?, path))
}

async fn upgrade(
    stream: BoxIo,
    address: &Address,
    headers: Vec<(HeaderName, HeaderValue)>,
) -> Result<WebSocket, Error> {
    let host = || address.host().to_owned();
    let failed = |cause: tungstenite::Error| match cause {
        tungstenite::Error::Http(reply) => Error::Refused { host: host(), status: reply.status() },
        cause => Error::Upgrade { host: host(), cause: Box::new(cause) },
    };
    let mut request = http::Request::get(address.uri().clone())
        .header("Host", address.uri().authority().map_or("", |authority| authority.as_str()))
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
