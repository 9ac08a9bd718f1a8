//! Connections to the message service: made by the caller, or by [`Plain`], which uses no proxy.

mod path;

use std::{error, io, sync::Arc};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
};
use tokio_rustls::TlsConnector;

pub use self::path::Path;
use crate::{control::BoxFuture, stream_url::Address};

/// Anything that carries bytes both ways.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Io for S {}

/// A stream of any type: TCP, TLS over TCP, or a tunnel through a proxy.
pub type BoxIo = Box<dyn Io>;

/// The reason why a connection cannot be made. The text is shown to people: it must not hold a user name, password or token.
pub type ConnectError = Box<dyn error::Error + Send + Sync>;

/// Opens connections to the message service.
pub trait Connect: Send + Sync + 'static {
    /// Opens a connection to `address`, with TLS if [`Address::is_secure`]. Returns it with the path that its packets take. The
    /// session sets the deadline of 15 s; a dropped future must close what it has opened.
    fn connect<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<(BoxIo, Path), ConnectError>>;
}

/// TCP to the first address that accepts, then TLS. Uses no proxy.
pub struct Plain {
    tls: Arc<ClientConfig>,
}

impl Plain {
    /// Connects with the roots and the crypto provider of `tls`.
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
