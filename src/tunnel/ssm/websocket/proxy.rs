//! The way out through an HTTP proxy: `CONNECT`, RFC 9110 section 9.3.6.

use std::io;

use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Address, Error};

/// The longest answer to CONNECT that we read.
const MAX_ANSWER: usize = 8 << 10;
/// How much of a refusal is shown.
const MAX_STATUS: usize = 100;

/// The proxy for one address.
pub(super) struct Proxy {
    scheme: String,
    host: String,
    pub(super) port: u16,
    pub(super) secure: bool,
    authorization: Option<HeaderValue>,
}

impl Proxy {
    /// The proxy that the environment names for `address`, by the same rules as for the SDK's calls; never one for
    /// loopback.
    pub(super) fn find(proxies: &Matcher, address: &Address) -> Option<Self> {
        if address.loopback {
            return None;
        }
        let destination: Uri = format!("https://{}:{}", address.host, address.port).parse().ok()?;
        let found = proxies.intercept(&destination)?;
        let scheme = found.uri().scheme_str().unwrap_or("http").to_owned();
        let secure = scheme == "https";
        Some(Self {
            host: found.uri().host()?.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: found.uri().port_u16().unwrap_or(if secure { 443 } else { 80 }),
            authorization: found.basic_auth().cloned(),
            scheme,
            secure,
        })
    }

    /// Where to connect.
    pub(super) fn host(&self) -> Result<&str, Error> {
        // SOCKS proxies may stand in the same variables.
        if self.scheme == "http" || self.secure { Ok(&self.host) } else { Err(Error::Proxy { proxy: self.name() }) }
    }

    /// Without user name and password.
    fn name(&self) -> String {
        format!("{}://{}:{}", self.scheme, self.host, self.port)
    }

    /// Asks for a tunnel to `address`; afterwards `stream` is that tunnel.
    pub(super) async fn connect<S>(&self, stream: &mut S, address: &Address) -> Result<(), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let broken = |cause| Error::ProxyBroken { proxy: self.name(), cause };
        let destination = format!("{}:{}", address.host, address.port);
        let mut request = format!("CONNECT {destination} HTTP/1.1\r\nHost: {destination}\r\n").into_bytes();
        if let Some(authorization) = &self.authorization {
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
                Err(Error::ProxyRefused { proxy: self.name(), host: address.host.clone(), status })
            }
            _ => Err(broken(io::ErrorKind::InvalidData.into())),
        }
    }
}

/// Up to the empty line. A byte at a time, so that nothing of what follows is taken; it is some hundred bytes, once.
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
