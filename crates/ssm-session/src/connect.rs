//! How bytes reach the message service: the caller's way out, or [`Plain`], which knows no proxy.

use std::{error, io, sync::Arc};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
};
use tokio_rustls::TlsConnector;

use crate::{
    control::BoxFuture,
    websocket::{Address, Path},
};

/// Anything that carries bytes both ways.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Io for S {}

/// A stream whose type does not matter any more: TCP, TLS over TCP, or a proxy's tunnel.
pub type BoxIo = Box<dyn Io>;

/// Why there is no connection, for people: no user name, password or token.
pub type ConnectError = Box<dyn error::Error + Send + Sync>;

/// Opens connections to the message service.
pub trait Connect: Send + Sync + 'static {
    /// A connection to `address`, with TLS where [`Address::is_secure`] says so, and the way that its packets take. The deadline
    /// is the caller's; a dropped future closes what it had opened.
    fn connect<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<(BoxIo, Path), ConnectError>>;
}

/// TCP to the first address that answers, then TLS. Knows no proxy.
pub struct Plain {
    tls: Arc<ClientConfig>,
}

impl Plain {
    /// TLS as `tls` says.
    pub fn new(tls: Arc<ClientConfig>) -> Self {
        Self { tls }
    }

    async fn open(&self, address: &Address) -> io::Result<(BoxIo, Path)> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for found in lookup_host((address.host(), address.port())).await? {
            if address.is_loopback() && !found.ip().is_loopback() {
                continue;
            }
            match TcpStream::connect(found).await {
                Ok(stream) => return self.secured(stream, address).await,
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn secured(&self, stream: TcpStream, address: &Address) -> io::Result<(BoxIo, Path)> {
        stream.set_nodelay(true)?;
        let path = Path::of(&stream);
        if !address.is_secure() {
            return Ok((Box::new(stream), path));
        }
        let name = ServerName::try_from(address.host().to_owned()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream).await?;
        Ok((Box::new(stream), path))
    }
}

impl Connect for Plain {
    fn connect<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<(BoxIo, Path), ConnectError>> {
        Box::pin(async move { Ok(self.open(address).await?) })
    }
}
