//! Routes to the database: a TCP connection of our own, or a stream inside an SSM session.
//!
//! ```text
//!   Dialer ─▶ direct: TCP                                   (auto: first this, then that)
//!          └▶ pool ─▶ session ─▶ stream ─▶ smux ─▶ channel ─▶ websocket ─▶ service ─▶ agent ─▶ TCP
//! ```
//!
//! Everything from the pool to the websocket is the crate `ssm-session`'s; [`control`] makes its calls to AWS, and
//! [`message_service`] its connections. Nothing here knows what a database says.

pub mod auto;
pub mod control;
pub mod direct;
pub mod message_service;
pub mod own;

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

pub use ssm_session::{
    self as ssm, pool,
    smux::{self, mux::StreamError},
    stream::{SessionAcceptance, SessionPeer, SessionStream},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::{limits::DIAL_TIMEOUT, target::Endpoint};

/// The way to one endpoint.
#[derive(Clone)]
pub enum Dialer {
    /// Through SSM sessions.
    Ssm(pool::Pool),
    /// From this machine.
    Direct(Endpoint),
    /// From this machine when that works, else through SSM sessions.
    Auto(Arc<auto::Auto>),
    /// Nowhere: the target's name leads to no database, for this reason.
    Nowhere(Arc<str>),
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
    /// The target's name leads to no database.
    #[error("{0}")]
    Nowhere(Arc<str>),
    /// The SSM session that leads to this very server is over.
    #[error("the SSM session of the connection has ended")]
    PeerGone,
    /// This very server takes no further connection.
    #[error("cannot connect to {address} again")]
    Peer {
        /// Its address.
        address: SocketAddr,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

/// The server at the far end of a connection, so that another connection can be made to this very one: a name may lead to
/// another server each time it is resolved.
#[derive(Debug, Clone)]
pub enum Peer {
    /// The address that the agent of a session resolved.
    Session(SessionPeer),
    /// The address that was dialled from here.
    Address(SocketAddr),
}

impl Peer {
    /// One more connection to this server, also where its session takes no new connections. It starts no session. The
    /// deadline is the caller's.
    ///
    /// # Errors
    /// [`Error::PeerGone`], [`Error::Peer`]
    pub async fn dial(&self) -> Result<Stream, Error> {
        match self {
            Self::Session(peer) => peer.open_urgent().await.map(Stream::Ssm).ok_or(Error::PeerGone),
            &Self::Address(address) => {
                direct::connect(address).await.map(Stream::Direct).map_err(|cause| Error::Peer { address, cause })
            }
        }
    }
}

impl Dialer {
    /// Direct if that works, else through `pool`.
    pub fn auto(endpoint: Endpoint, pool: pool::Pool) -> Self {
        Self::Auto(Arc::new(auto::Auto::new(endpoint, pool)))
    }

    /// A connection to the endpoint, by an automatic route through SSM, after [`auto::Auto::direct`] has been tried. Through SSM
    /// it is a stream that will be a connection when its first bytes arrive: then reading
    /// says whether the dial failed. The deadline is the caller's.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn dial(&self) -> Result<Stream, Error> {
        match self {
            Self::Ssm(pool) => Ok(Stream::Ssm(pool.dial().await?)),
            Self::Direct(endpoint) => Ok(Stream::Direct(direct::dial(endpoint, DIAL_TIMEOUT).await?)),
            Self::Auto(auto) => Ok(Stream::Ssm(auto.pool().dial().await?)),
            Self::Nowhere(reason) => Err(Error::Nowhere(Arc::clone(reason))),
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
            Self::Direct(_) | Self::Auto(_) | Self::Nowhere(_) => Ok(()),
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
            Self::Direct(_) | Self::Nowhere(_) => None,
        }
    }
}

/// Whether the database has accepted a connection, as far as it can be known before it says its first word.
#[derive(Debug)]
pub enum Acceptance {
    /// It has: TCP says so.
    Accepted,
    /// The agent of a session dials, and says nothing when that succeeds.
    Session(SessionAcceptance),
}

impl Acceptance {
    /// Whether it is known to have accepted by now.
    pub fn is_accepted(&self) -> bool {
        match self {
            Self::Accepted => true,
            Self::Session(session) => session.is_accepted(),
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

    /// Tells whether the database has accepted, while the stream is in use.
    pub fn acceptance(&self) -> Acceptance {
        match self {
            Self::Ssm(stream) => Acceptance::Session(stream.acceptance()),
            Self::Direct(_) => Acceptance::Accepted,
        }
    }

    /// What it is connected to; `None` when the connection is broken already.
    pub fn peer(&self) -> Option<Peer> {
        match self {
            Self::Ssm(stream) => Some(Peer::Session(stream.peer())),
            Self::Direct(stream) => stream.peer_addr().ok().map(Peer::Address),
        }
    }

    /// Whether it is in a session that was open before `moment`: that one may have ended unnoticed, as in a long sleep.
    pub fn is_in_session_from_before(&self, moment: Instant) -> bool {
        matches!(self, Self::Ssm(stream) if stream.session_opened() < moment)
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
