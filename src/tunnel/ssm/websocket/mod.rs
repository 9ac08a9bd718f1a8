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
    collections::HashMap,
    io,
    path::{Path as FilePath, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use http::{HeaderName, HeaderValue};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{net::lookup_host, time::Instant};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, handshake::client::generate_key, protocol::WebSocketConfig},
};

pub use self::{
    error::Error,
    path::Path,
    url::{Address, Rules, UrlError, check_url},
};
use crate::{
    limits,
    outbound::{Proxies, Proxy},
    stream::BoxIo,
    tls,
    tunnel::direct,
};

/// The largest message we take. Neither official side has a limit; hostile input needs one.
const MAX_MESSAGE: usize = 16 << 20;
/// Messages fed without a flush are gathered up to this size: a flush for each costs six times the CPU.
const WRITE_BUFFER: usize = 128 << 10;
/// What may wait for a service that does not read, answers to its pings above all: the above, our largest message, and
/// room for pongs, beyond which only the last of them is kept.
const MAX_WRITE_BUFFER: usize = 1 << 20;

/// Opens the websocket with `headers` added, the signature, and says which way it goes. `roots` is a file of further roots to
/// trust. Not cancel safe: a dropped future closes what it had opened.
///
/// The deadline of the whole is the caller's.
///
/// # Errors
/// See [`Error`].
pub async fn open(
    address: &Address,
    headers: Vec<(HeaderName, HeaderValue)>,
    roots: Option<&FilePath>,
) -> Result<(WebSocketStream<BoxIo>, Path), Error> {
    Network::with_roots(roots)?.open(address, headers).await
}

/// How the environment says to reach AWS.
struct Network {
    proxies: Proxies,
    tls: Arc<ClientConfig>,
}

impl Network {
    /// The proxies of the environment; the machine's roots (`SSL_CERT_FILE`, `SSL_CERT_DIR`) and those of a file. Made once for
    /// each file: reading all the machine's roots takes milliseconds.
    fn with_roots(roots: Option<&FilePath>) -> Result<Arc<Self>, Error> {
        static NETWORKS: Mutex<Option<HashMap<Option<PathBuf>, Arc<Network>>>> = Mutex::new(None);
        let mut networks = NETWORKS.lock().unwrap_or_else(PoisonError::into_inner);
        let networks = networks.get_or_insert_default();
        let key = roots.map(FilePath::to_path_buf);
        if let Some(network) = networks.get(&key) {
            return Ok(Arc::clone(network));
        }
        let tls = tls::system::system_client(roots).map_err(|cause| Error::Roots(Box::new(cause)))?;
        let network = Arc::new(Self { proxies: Proxies::of_environment(), tls });
        networks.insert(key, Arc::clone(&network));
        Ok(network)
    }

    async fn open(
        &self,
        address: &Address,
        headers: Vec<(HeaderName, HeaderValue)>,
    ) -> Result<(WebSocketStream<BoxIo>, Path), Error> {
        let proxy = if address.loopback { Ok(None) } else { self.proxies.find(true, &address.host, address.port) };
        let (stream, path) = match proxy.map_err(Error::Proxy)? {
            Some(proxy) => self.tunnel(proxy, address).await?,
            None => dial(&address.host, address.port, address.loopback).await?,
        };
        let stream = if address.secure { self.secure(stream, &address.host).await? } else { stream };
        Ok((upgrade(stream, address, headers).await?, path))
    }

    async fn tunnel(&self, proxy: &Proxy, address: &Address) -> Result<(BoxIo, Path), Error> {
        let (mut stream, path) = dial(&proxy.host, proxy.port, false).await?;
        if proxy.secure {
            stream = self.secure(stream, &proxy.host).await?;
        }
        proxy::connect(proxy, &mut stream, address).await?;
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
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(MAX_WRITE_BUFFER);
    Ok(client_async_with_config(request, stream, Some(config)).await.map_err(failed)?.0)
}

#[cfg(test)]
mod tests;
