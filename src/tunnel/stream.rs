//! A connection to the endpoint by either route, and the server at its far end.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use ssm_session::stream::{SessionAcceptance, SessionPeer, SessionStream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{direct, error::Error, stream_error::StreamError};

/// The server at the far end of a connection, for connecting to the same server again: a name may lead to another server
/// each time it is resolved.
#[derive(Debug, Clone)]
pub enum Peer {
    /// The address that the agent of a session resolved.
    Session(SessionPeer),
    /// The address that was dialled from here.
    Address(SocketAddr),
}

impl Peer {
    /// Opens another connection to this server, even if its session takes no new connections. Starts no session. The
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

/// The state of acceptance of a connection, before the first byte of the database.
#[derive(Debug)]
pub enum Acceptance {
    /// The database has accepted: the TCP connection exists.
    Accepted,
    /// The agent of a session dials, and does not report success.
    Session(SessionAcceptance),
}

impl Acceptance {
    /// Whether the database is known to have accepted.
    pub fn is_accepted(&self) -> bool {
        match self {
            Self::Accepted => true,
            Self::Session(session) => session.is_accepted(),
        }
    }

    /// Why the database is not connected, for a caller that gives up `after` this time; `None` if it may be.
    pub fn overdue(&self, after: Duration) -> Option<StreamError> {
        match self {
            Self::Accepted => None,
            Self::Session(session) => session.overdue(after).map(StreamError::from),
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
    /// The id of the SSM session that carries it; `None` on the direct route.
    pub fn session_id(&self) -> Option<Arc<str>> {
        match self {
            Self::Ssm(stream) => Some(Arc::clone(stream.session_id())),
            Self::Direct(_) => None,
        }
    }

    /// Waits until the server is being dialled: before that another session may serve the connection.
    ///
    /// # Errors
    /// Those of a read.
    pub async fn announced(&mut self) -> io::Result<()> {
        match self {
            Self::Ssm(stream) => stream.announced().await.map_err(StreamError::reword),
            Self::Direct(_) => Ok(()),
        }
    }

    /// A handle for asking whether the database has accepted, while the stream is in use.
    pub fn acceptance(&self) -> Acceptance {
        match self {
            Self::Ssm(stream) => Acceptance::Session(stream.acceptance()),
            Self::Direct(_) => Acceptance::Accepted,
        }
    }

    /// The server at the far end; `None` if the connection is already broken.
    pub fn peer(&self) -> Option<Peer> {
        match self {
            Self::Ssm(stream) => Some(Peer::Session(stream.peer())),
            Self::Direct(stream) => stream.peer_addr().ok().map(Peer::Address),
        }
    }

    /// Whether its session was opened before `moment`. Such a session may have ended unnoticed, as during a long sleep.
    pub fn is_in_session_from_before(&self, moment: Instant) -> bool {
        matches!(self, Self::Ssm(stream) if stream.session_opened() < moment)
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Ssm(stream) => Pin::new(stream).poll_read(cx, buf).map_err(StreamError::reword),
            Self::Direct(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Ssm(stream) => Pin::new(stream).poll_write(cx, bytes).map_err(StreamError::reword),
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
