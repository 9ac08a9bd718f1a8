//! Routes to the database: a TCP connection of our own, or a stream inside an SSM session.
//!
//! ```text
//!   Dialer ─▶ direct: TCP                                   (auto: first this, then that)
//!          └▶ pool ─▶ session ─▶ stream ─▶ smux ─▶ channel ─▶ websocket ─▶ service ─▶ agent ─▶ TCP
//! ```
//!
//! [`ssm`] holds the data channel, sans-IO but for its driver; [`smux`] the multiplexer inside it. Nothing here knows what
//! a database says.

pub mod auto;
pub mod direct;
pub mod pool;
pub mod smux;
pub mod ssm;

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

pub use self::{smux::mux::StreamError, ssm::session::Spec, ssm::stream::SessionStream};
use crate::target::Endpoint;

/// The way to one endpoint.
#[derive(Clone)]
pub enum Dialer {
    /// Through SSM sessions.
    Ssm(pool::Pool),
    /// From this machine.
    Direct(Endpoint),
    /// From this machine when that works, else through SSM sessions.
    Auto(Arc<auto::Auto>),
}

/// Why the endpoint could not be dialled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No session.
    #[error(transparent)]
    Pool(#[from] pool::Error),
    /// No TCP connection.
    #[error(transparent)]
    Direct(#[from] direct::Error),
}

impl Dialer {
    /// Direct if that works, else through `pool`.
    pub fn auto(endpoint: Endpoint, pool: pool::Pool) -> Self {
        Self::Auto(Arc::new(auto::Auto::new(endpoint, pool)))
    }

    /// A connection to the endpoint, or, through SSM, a stream that will be one when its first bytes arrive: then reading
    /// says whether the dial failed. The deadline is the caller's.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn dial(&self) -> Result<Stream, Error> {
        match self {
            Self::Ssm(pool) => Ok(Stream::Ssm(pool.dial().await?)),
            Self::Direct(endpoint) => Ok(Stream::Direct(direct::dial(endpoint, direct::DIAL_TIMEOUT).await?)),
            Self::Auto(auto) => auto.dial().await,
        }
    }

    /// Opens what is to be open before the first connection.
    ///
    /// # Errors
    /// [`Error`]: what the first connection would meet.
    pub async fn warm(&self) -> Result<(), Error> {
        match self {
            Self::Ssm(pool) => Ok(pool.warm().await?),
            // It may need no session at all.
            Self::Direct(_) | Self::Auto(_) => Ok(()),
        }
    }

    /// A connection met what a failover of the database would explain.
    pub fn suspect_failover(&self) {
        // Without sessions the name is looked up for each connection.
        if let Some(pool) = self.pool() {
            pool.suspect_failover();
        }
    }

    /// Its sessions; `None` on a route without any.
    pub fn pool(&self) -> Option<&pool::Pool> {
        match self {
            Self::Ssm(pool) => Some(pool),
            Self::Auto(auto) => Some(auto.pool()),
            Self::Direct(_) => None,
        }
    }
}

/// A connection to the endpoint by either route.
#[derive(Debug)]
pub enum Stream {
    /// Inside a session.
    Ssm(SessionStream),
    /// TCP.
    Direct(TcpStream),
}

impl Stream {
    /// The SSM session that carries it; `None` on the direct route.
    pub fn session_id(&self) -> Option<Arc<str>> {
        match self {
            Self::Ssm(stream) => Some(Arc::clone(stream.session_id())),
            Self::Direct(_) => None,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Ssm(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Direct(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Ssm(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Direct(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Ssm(stream) => Pin::new(stream).poll_flush(cx),
            Self::Direct(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Ssm(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Direct(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
