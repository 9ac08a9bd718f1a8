//! Connections to the message service, which carry the data channels of sessions: TCP, an optional proxy, TLS.

mod error;
mod proxy;

use std::{
    collections::HashMap,
    io,
    path::{Path as FilePath, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{ClientConfig, pki_types::ServerName};
use ssm_session::{
    connect::{BoxIo, Connect, ConnectError, Path},
    control::BoxFuture,
    websocket::Address,
};
use tokio::{net::lookup_host, time::Instant};
use tokio_rustls::TlsConnector;

pub use self::error::{Error, hint};
use super::direct;
use crate::{
    limits,
    outbound::{Proxies, Proxy},
    tls,
};

/// The outbound path that the environment sets, with the machine's roots and those of a file.
#[derive(Debug)]
pub struct Outbound {
    roots: Option<PathBuf>,
}

impl Outbound {
    /// `roots` is a file of additional trusted roots.
    pub fn new(roots: Option<&FilePath>) -> Self {
        Self { roots: roots.map(FilePath::to_path_buf) }
    }
}

impl Connect for Outbound {
    fn connect<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<(BoxIo, Path), ConnectError>> {
        Box::pin(async move { Ok(Network::with_roots(self.roots.as_deref())?.open(address).await?) })
    }
}

/// The proxies and roots for connections to AWS.
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

    async fn open(&self, address: &Address) -> Result<(BoxIo, Path), Error> {
        let (host, port, is_loopback) = (address.host(), address.port(), address.is_loopback());
        let proxy = if is_loopback { Ok(None) } else { self.proxies.find(true, host, port) };
        let (stream, path) = match proxy.map_err(Error::Proxy)? {
            Some(proxy) => self.tunnel(proxy, address).await?,
            None => dial(host, port, is_loopback).await?,
        };
        let stream = if address.is_secure() { self.secure(stream, host).await? } else { stream };
        Ok((stream, path))
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

/// Connects to the first address that answers; for a loopback name only to loopback addresses, even if a resolver returns others.
async fn dial(host: &str, port: u16, only_loopback: bool) -> Result<(BoxIo, Path), Error> {
    let failed = |cause| Error::Connect { host: format!("{host}:{port}"), cause };
    let addresses = lookup_host((host, port)).await.map_err(|cause| Error::Resolve { host: host.into(), cause })?;
    let addresses = addresses.filter(|address| !only_loopback || address.ip().is_loopback());
    let stream = direct::connect_first(addresses, Instant::now() + limits::DIAL_TIMEOUT).await.map_err(failed)?;
    let path = Path::of(&stream);
    Ok((Box::new(stream), path))
}

#[cfg(test)]
mod tests;
