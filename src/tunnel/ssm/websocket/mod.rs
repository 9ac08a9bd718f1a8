//! Opening the websocket of a data channel: the check of its URL, TCP, a proxy on the way, TLS, the upgrade.
//!
//! The URL comes from outside (StartSession's answer) and decides where a signed request and a session go, so it is
//! checked before anything is dialled, then sent byte for byte: its query holds raw `+`, `/` and `=`. No redirect is
//! followed, no extension offered. Neither the URL nor a header's value appears in errors and logs.
//!
//! What is said over the websocket is not known here.

mod error;
mod path;
mod proxy;
mod url;

use std::{
    io,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use http::{HeaderName, HeaderValue};
use hyper_util::client::proxy::matcher::Matcher;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{net::lookup_host, time::Instant};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, handshake::client::generate_key, protocol::WebSocketConfig},
};

use self::proxy::Proxy;
pub use self::{
    error::Error,
    path::Path,
    url::{Address, Rules, UrlError, check_url},
};
use crate::{limits, stream::BoxIo, tls, tunnel::direct};

/// The largest message we take. Neither official side has a limit; hostile input needs one.
const MAX_MESSAGE: usize = 16 << 20;
/// Messages fed without a flush are gathered up to this size: a flush for each costs six times the CPU.
const WRITE_BUFFER: usize = 128 << 10;

/// Opens the websocket with `headers` added, the signature, and says which way it goes. Not cancel safe: a dropped future
/// closes what it had opened.
///
/// The deadline of the whole is the caller's.
///
/// # Errors
/// See [`Error`].
pub async fn open(
    address: &Address,
    headers: Vec<(HeaderName, HeaderValue)>,
) -> Result<(WebSocketStream<BoxIo>, Path), Error> {
    static NETWORK: OnceLock<Network> = OnceLock::new();
    if let Some(network) = NETWORK.get() {
        return network.open(address, headers).await;
    }
    let network = Network::of_environment()?;
    NETWORK.get_or_init(|| network).open(address, headers).await
}

/// How the environment says to reach AWS. Read once: all the machine's roots take milliseconds.
struct Network {
    proxies: Matcher,
    tls: Arc<ClientConfig>,
}

impl Network {
    /// `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`; the machine's roots (`SSL_CERT_FILE`, `SSL_CERT_DIR`) and `AWS_CA_BUNDLE`.
    fn of_environment() -> Result<Self, Error> {
        let bundle = std::env::var_os("AWS_CA_BUNDLE").filter(|path| !path.is_empty()).map(PathBuf::from);
        let tls = tls::system::system_client(bundle.as_deref()).map_err(|cause| Error::Roots(Box::new(cause)))?;
        Ok(Self { proxies: Matcher::from_env(), tls })
    }

    async fn open(
        &self,
        address: &Address,
        headers: Vec<(HeaderName, HeaderValue)>,
    ) -> Result<(WebSocketStream<BoxIo>, Path), Error> {
        let (stream, path) = match Proxy::find(&self.proxies, address) {
            Some(proxy) => self.tunnel(&proxy, address).await?,
            None => dial(&address.host, address.port, address.loopback).await?,
        };
        let stream = if address.secure { self.secure(stream, &address.host).await? } else { stream };
        Ok((upgrade(stream, address, headers).await?, path))
    }

    async fn tunnel(&self, proxy: &Proxy, address: &Address) -> Result<(BoxIo, Path), Error> {
        let (mut stream, path) = dial(proxy.host()?, proxy.port, false).await?;
        if proxy.secure {
            stream = self.secure(stream, proxy.host()?).await?;
        }
        proxy.connect(&mut stream, address).await?;
        Ok((stream, path))
    }

    async fn secure(&self, stream: BoxIo, host: &str) -> Result<BoxIo, Error> {
        let failed = |cause| Error::Tls { host: host.into(), cause };
        let name = ServerName::try_from(host.to_owned()).map_err(|cause| failed(io::Error::other(cause)))?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        Ok(Box::new(connector.connect(name, stream).await.map_err(failed)?))
    }
}

/// Connects to the first address that answers; for a loopback name only to loopback addresses, whatever a resolver says.
async fn dial(host: &str, port: u16, only_loopback: bool) -> Result<(BoxIo, Path), Error> {
    let failed = |cause| Error::Connect { host: format!("{host}:{port}"), cause };
    let addresses = lookup_host((host, port)).await.map_err(|cause| Error::Resolve { host: host.into(), cause })?;
    let addresses = addresses.filter(|address| !only_loopback || address.ip().is_loopback());
    let stream = direct::connect_first(addresses, Instant::now() + limits::DIAL_TIMEOUT).await.map_err(failed)?;
    let path = Path::of(&stream);
    Ok((Box::new(stream), path))
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
        .write_buffer_size(WRITE_BUFFER);
    Ok(client_async_with_config(request, stream, Some(config)).await.map_err(failed)?.0)
}

#[cfg(test)]
mod tests;
