//! Opening the websocket of a data channel: the check of its URL, TCP, a proxy on the way, TLS, the upgrade.
//!
//! The URL comes from outside (StartSession's answer) and decides where a signed request and a session go, so it is
//! [checked](check_url) before anything is dialled, then sent byte for byte: its query holds raw `+`, `/` and `=`.
//! No redirect is followed. Neither URL nor header values appear in errors and logs.
//!
//! What is said over the websocket is not known here. No deadline is set here: the caller's.

use std::{
    io,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use http::{HeaderName, HeaderValue, StatusCode, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use percent_encoding::percent_decode_str;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, lookup_host},
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, handshake::client::generate_key, protocol::WebSocketConfig},
};

use crate::{
    stream::BoxIo,
    target::{Partition, Region},
    tls,
};

/// The largest message we take: neither official side has a limit, hostile input needs one.
const MAX_MESSAGE: usize = 16 << 20;
/// Messages are gathered up to this size when they are fed without a flush.
const WRITE_BUFFER: usize = 128 << 10;
/// The largest answer of a proxy to CONNECT.
const MAX_PROXY_ANSWER: usize = 8 << 10;

/// What to open.
pub struct Request<'a> {
    /// The stream URL as StartSession or ResumeSession gave it.
    pub url: &'a str,
    /// The session that the URL must be for.
    pub session_id: &'a str,
    /// The session's region.
    pub region: &'a Region,
    /// Headers to add: the signature.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Whether `ws://`, and any other scheme, may lead to this machine: only when the SSM endpoint itself does.
    pub allow_plain_loopback: bool,
    /// A host that is as good as AWS's own, from the configuration: a private endpoint under a name of one's own.
    pub allow_host: Option<&'a str>,
}

/// Why there is no websocket.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL breaks a rule.
    #[error("the stream URL of the session is not acceptable: {0}")]
    Url(UrlError),
    /// A root file is of no use.
    #[error("TLS to the data channel cannot be set up")]
    Roots(#[source] Box<tls::Error>),
    /// The proxy from the environment is none that we can use.
    #[error("the proxy {proxy} cannot be used: only http:// and https:// proxies can")]
    Proxy {
        /// Scheme, host and port.
        proxy: String,
    },
    /// The proxy does not open a tunnel.
    #[error("the proxy {proxy} refused the tunnel to {host}: {status}")]
    ProxyRefused {
        /// Scheme, host and port.
        proxy: String,
        /// Where to.
        host: String,
        /// The HTTP status line's code and words.
        status: String,
    },
    /// The name has no address.
    #[error("no address was found for {host}")]
    Resolve {
        /// The name.
        host: String,
        /// The resolver's reason.
        #[source]
        cause: io::Error,
    },
    /// No TCP connection.
    #[error("cannot connect to {host}")]
    Connect {
        /// The name and port.
        host: String,
        /// The last address's reason.
        #[source]
        cause: io::Error,
    },
    /// TLS failed.
    #[error("TLS to {host} failed")]
    Tls {
        /// The name.
        host: String,
        /// The reason.
        #[source]
        cause: io::Error,
    },
    /// The server answered the upgrade with something else.
    #[error("{host} refused the data channel: HTTP {status}")]
    Refused {
        /// The name.
        host: String,
        /// The HTTP status.
        status: StatusCode,
    },
    /// The upgrade failed.
    #[error("the websocket upgrade at {host} failed")]
    Upgrade {
        /// The name.
        host: String,
        /// The reason.
        #[source]
        cause: Box<tungstenite::Error>,
    },
}

/// Which rule a stream URL breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It is no URL.
    #[error("it is not a URL")]
    Malformed,
    /// It carries a user name or password.
    #[error("it carries a user name")]
    UserInfo,
    /// It is for another session.
    #[error("it is not for this session")]
    Session,
    /// It leads to a host that is no ssmmessages endpoint of the region.
    #[error("its host is not an ssmmessages endpoint of the region")]
    Host,
    /// It is not encrypted.
    #[error("its scheme is not wss")]
    Scheme,
}

/// A stream URL that may be dialled.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    uri: Uri,
    host: String,
    port: u16,
    secure: bool,
    loopback: bool,
}

/// Opens the websocket. Not cancel safe; a dropped future closes what it had opened. The deadline is the caller's.
///
/// # Errors
/// See [`Error`].
pub async fn open(request: Request<'_>) -> Result<WebSocketStream<BoxIo>, Error> {
    let address = check_url(&request).map_err(Error::Url)?;
    let stream: BoxIo = match proxy_for(&address) {
        Some(proxy) => proxy.tunnel(&address).await?,
        None => Box::new(dial(&address.host, address.port, address.loopback).await?),
    };
    let stream = if address.secure { secure(stream, &address.host).await? } else { stream };
    upgrade(stream, address, request.headers).await
}

/// Whether a stream URL may be dialled: `wss://` on an ssmmessages endpoint of the region (or the allowed host), for this
/// session, without user name; anything on loopback only where the SSM endpoint is there too.
///
/// # Errors
/// Which rule it breaks.
pub fn check_url(request: &Request<'_>) -> Result<Address, UrlError> {
    let uri: Uri = request.url.parse().map_err(|_| UrlError::Malformed)?;
    let authority = uri.authority().ok_or(UrlError::Malformed)?;
    if request.url.contains('#') {
        return Err(UrlError::Malformed);
    }
    if authority.as_str().contains('@') {
        return Err(UrlError::UserInfo);
    }
    let secure = match uri.scheme_str() {
        Some("wss") => true,
        Some("ws") => false,
        _ => return Err(UrlError::Scheme),
    };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if !(loopback && request.allow_plain_loopback) {
        let known =
            is_ssmmessages(&host, request.region) || request.allow_host.is_some_and(|h| h.eq_ignore_ascii_case(&host));
        if !known {
            return Err(UrlError::Host);
        }
        if !secure {
            return Err(UrlError::Scheme);
        }
    }
    let ours = |segment: &str| percent_decode_str(segment).eq(request.session_id.bytes());
    if request.session_id.is_empty() || !uri.path().split('/').any(ours) {
        return Err(UrlError::Session);
    }
    let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
    Ok(Address { host, port, secure, loopback, uri })
}

/// The forms of AWS's endpoint names: regional, FIPS, dual-stack, and a VPC endpoint's own names.
fn is_ssmmessages(host: &str, region: &Region) -> bool {
    let service = |name: &str| matches!(name, "ssmmessages" | "ssmmessages-fips");
    let (suffix, dual_stack) = match region.partition() {
        Partition::Aws | Partition::AwsUsGov => ("amazonaws.com", "api.aws"),
        Partition::AwsCn => ("amazonaws.com.cn", "api.amazonwebservices.com.cn"),
    };
    let before = |rest: &str| host.strip_suffix(rest).and_then(|host| host.strip_suffix('.')).map(str::to_owned);
    let regional = [suffix, dual_stack]
        .iter()
        .any(|suffix| before(&format!("{region}.{suffix}")).is_some_and(|name| service(&name)));
    let vpc = before(&format!("{region}.vpce.{suffix}")).is_some_and(|name| {
        name.rsplit_once('.').is_some_and(|(endpoint, name)| endpoint.starts_with("vpce-") && service(name))
    });
    regional || vpc
}

/// Connects to the first address that answers; for a loopback name only to loopback addresses, whatever a resolver says.
async fn dial(host: &str, port: u16, only_loopback: bool) -> Result<TcpStream, Error> {
    let resolve = |cause| Error::Resolve { host: host.into(), cause };
    let addresses = lookup_host((host, port)).await.map_err(resolve)?;
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses.filter(|address| !only_loopback || address.ip().is_loopback()) {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true).map_err(|cause| Error::Connect { host: format!("{host}:{port}"), cause })?;
                return Ok(stream);
            }
            Err(cause) => last = cause,
        }
    }
    Err(Error::Connect { host: format!("{host}:{port}"), cause: last })
}

/// TLS with the machine's roots and `AWS_CA_BUNDLE`, made once: reading all roots takes milliseconds.
async fn secure(stream: BoxIo, host: &str) -> Result<BoxIo, Error> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let config = match CONFIG.get() {
        Some(config) => Arc::clone(config),
        None => {
            let bundle = std::env::var_os("AWS_CA_BUNDLE").filter(|path| !path.is_empty()).map(PathBuf::from);
            let config =
                tls::system::system_client(bundle.as_deref()).map_err(|cause| Error::Roots(Box::new(cause)))?;
            Arc::clone(CONFIG.get_or_init(|| config))
        }
    };
    secure_with(config, stream, host).await
}

async fn secure_with(config: Arc<ClientConfig>, stream: BoxIo, host: &str) -> Result<BoxIo, Error> {
    let failed = |cause| Error::Tls { host: host.into(), cause };
    let name = ServerName::try_from(host.to_owned()).map_err(|cause| failed(io::Error::other(cause)))?;
    Ok(Box::new(TlsConnector::from(config).connect(name, stream).await.map_err(failed)?))
}

async fn upgrade(
    stream: BoxIo,
    address: Address,
    headers: Vec<(HeaderName, HeaderValue)>,
) -> Result<WebSocketStream<BoxIo>, Error> {
    let Address { uri, host, .. } = address;
    let failed = |cause: tungstenite::Error| match cause {
        tungstenite::Error::Http(answer) => Error::Refused { host: host.clone(), status: answer.status() },
        cause => Error::Upgrade { host: host.clone(), cause: Box::new(cause) },
    };
    let authority = uri.authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default();
    let mut request = http::Request::get(uri)
        .header("Host", authority)
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
        .write_buffer_size(WRITE_BUFFER);
    Ok(client_async_with_config(request, stream, Some(config)).await.map_err(failed)?.0)
}

/// A proxy from `HTTPS_PROXY` or `ALL_PROXY`.
struct Proxy {
    host: String,
    port: u16,
    secure: bool,
    name: String,
    authorization: Option<HeaderValue>,
    usable: bool,
}

/// The proxy for an address, by the same rules as the SDK's calls; never one for loopback.
fn proxy_for(address: &Address) -> Option<Proxy> {
    if address.loopback {
        return None;
    }
    let destination: Uri = format!("https://{}:{}", address.host, address.port).parse().ok()?;
    Proxy::new(&Matcher::from_env(), &destination)
}

impl Proxy {
    fn new(matcher: &Matcher, destination: &Uri) -> Option<Self> {
        let intercept = matcher.intercept(destination)?;
        let uri = intercept.uri();
        let scheme = uri.scheme_str().unwrap_or("http");
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
        Some(Self {
            name: format!("{scheme}://{host}:{port}"),
            secure: scheme == "https",
            usable: matches!(scheme, "http" | "https"),
            authorization: intercept.basic_auth().cloned(),
            host,
            port,
        })
    }

    /// Connects through the proxy with CONNECT (RFC 9110, 9.3.6).
    async fn tunnel(&self, address: &Address) -> Result<BoxIo, Error> {
        if !self.usable {
            return Err(Error::Proxy { proxy: self.name.clone() });
        }
        let mut stream: BoxIo = Box::new(dial(&self.host, self.port, false).await?);
        if self.secure {
            stream = secure(stream, &self.host).await?;
        }
        let broken = |cause| Error::Connect { host: self.name.clone(), cause };
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

        // Nothing may follow the answer before we speak, and a byte at a time cannot read past its end.
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() >= MAX_PROXY_ANSWER {
                return Err(broken(io::ErrorKind::InvalidData.into()));
            }
            answer.push(stream.read_u8().await.map_err(broken)?);
        }
        let line = answer.split(|b| *b == b'\r').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        let status = line.split_once(' ').map_or("", |(_, status)| status);
        if line.starts_with("HTTP/1.") && status.starts_with('2') {
            return Ok(stream);
        }
        let status = status.chars().filter(|c| !c.is_control()).take(100).collect();
        Err(Error::ProxyRefused { proxy: self.name.clone(), host: address.host.clone(), status })
    }
}
