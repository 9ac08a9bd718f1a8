//! Connections through an HTTP proxy: `CONNECT`, RFC 9110 section 9.3.6.

use std::io;

use ssm_session::websocket::Address;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::error::Error;
use crate::outbound::Proxy;

/// The longest reply to CONNECT that is read.
const MAX_ANSWER: usize = 8 << 10;
/// The longest part of a refusal that is shown.
const MAX_STATUS: usize = 100;

/// Requests a tunnel to `address` from `proxy`. Afterwards `stream` is the tunnel.
pub(super) async fn connect<S>(proxy: &Proxy, stream: &mut S, address: &Address) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let broken = |cause| Error::ProxyBroken { proxy: proxy.url(), cause };
    let destination = format!("{}:{}", address.host(), address.port());
    let mut request = format!("CONNECT {destination} HTTP/1.1\r\nHost: {destination}\r\n").into_bytes();
    if let Some(authorization) = proxy.authorization() {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(authorization.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;

    let answer = read_head(stream).await.map_err(broken)?;
    let line = String::from_utf8_lossy(answer.split(|byte| *byte == b'\r').next().unwrap_or_default()).into_owned();
    match line.split_once(' ') {
        Some((version, status)) if version.starts_with("HTTP/1.") && status.starts_with('2') => Ok(()),
        Some((version, status)) if version.starts_with("HTTP/1.") => {
            let status = status.chars().filter(|c| !c.is_control()).take(MAX_STATUS).collect();
            Err(Error::ProxyRefused { proxy: proxy.url(), host: address.host().to_owned(), status })
        }
        _ => Err(broken(io::ErrorKind::InvalidData.into())),
    }
}

/// Reads up to the empty line. One byte at a time, so that no byte of the tunnel is taken; the reply is short.
async fn read_head<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_ANSWER {
            return Err(io::ErrorKind::InvalidData.into());
        }
        head.push(stream.read_u8().await?);
    }
    Ok(head)
}
