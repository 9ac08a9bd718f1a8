//! The handle of one stream, an [`AsyncRead`] and [`AsyncWrite`] over the conversation, and the state that a session's tasks
//! share.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use futures_util::task::AtomicWaker;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{Notify, watch},
};

use crate::{
    clock,
    conversation::{Conversation, EndReason},
    smux::{frame::StreamId, mux::StreamError},
};

/// The progress of a session, for tasks that wait for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// The session is not usable yet, or its connection is being restored.
    Waiting,
    /// The session takes streams.
    Open,
    /// The session is over, for this reason.
    Ended(EndReason),
}

/// The state that driver, streams and session share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The session's id at AWS.
    pub(crate) session_id: Arc<str>,
    /// When the session was opened.
    opened: Instant,
    conversation: Mutex<Conversation>,
    /// Wakes the driver: there are bytes to send, or room to read.
    pub(crate) driver: AtomicWaker,
    pub(crate) phase: watch::Sender<Phase>,
    /// Notifies the pool that the session's condition has changed.
    pub(crate) changed: Arc<Notify>,
}

impl Shared {
    pub(crate) fn new(session_id: Arc<str>, conversation: Conversation, changed: Arc<Notify>) -> Self {
        Self {
            session_id,
            opened: clock::now(),
            conversation: Mutex::new(conversation),
            driver: AtomicWaker::new(),
            phase: watch::Sender::new(Phase::Waiting),
            changed,
        }
    }

    /// Locks the conversation, for a short time and never over an await. A panic of another task must not break every
    /// connection, so a poisoned lock is used all the same.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Conversation> {
        self.conversation.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection that the agent has dialled, or is dialling. Dropping it sends a FIN after the queued bytes.
///
/// The agent dials when it receives the stream, and reports only failures. So an error of the dial is an error of the first read
/// or write. The errors carry a [`StreamError`]; [`StreamError::from_io`] takes it out again.
#[derive(Debug)]
pub struct SessionStream {
    shared: Arc<Shared>,
    id: StreamId,
}

impl SessionStream {
    /// Opens a stream on the session; `None` if the session takes none.
    pub(crate) fn open(shared: &Arc<Shared>) -> Option<Self> {
        let id = shared.lock().open_stream(clock::now())?;
        shared.driver.wake();
        Some(Self { shared: Arc::clone(shared), id })
    }

    /// The id of the SSM session that carries the stream.
    pub fn session_id(&self) -> &Arc<str> {
        &self.shared.session_id
    }

    /// When that session was opened.
    pub fn session_opened(&self) -> Instant {
        self.shared.opened
    }

    /// Waits until the agent has acknowledged that it is to dial. Until then the destination has not been dialled, and another
    /// session may serve the connection. Cancel safe.
    ///
    /// # Errors
    /// Those of a read: the agent is silent, the session has ended, or the dial has failed already.
    pub async fn announced(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.shared.lock().mux().poll_announced(self.id, cx)).await.map_err(StreamError::into_io)
    }

    /// A handle that shows whether the destination has accepted the connection, while the stream is in use elsewhere.
    pub fn acceptance(&self) -> SessionAcceptance {
        SessionAcceptance { shared: Arc::clone(&self.shared), id: self.id }
    }

    /// The far end of the stream, to which further streams can be opened.
    pub fn peer(&self) -> SessionPeer {
        SessionPeer(Arc::clone(&self.shared))
    }
}

/// Shows whether the destination of a stream has accepted the connection.
#[derive(Debug)]
pub struct SessionAcceptance {
    shared: Arc<Shared>,
    id: StreamId,
}

impl SessionAcceptance {
    /// Whether the destination is known to have accepted by now. It may have accepted before that is known.
    pub fn is_accepted(&self) -> bool {
        self.shared.lock().mux().is_accepted(self.id)
    }

    /// Why the destination is not connected, for a caller that gives up `after` this time; `None` if it may be, or if the agent
    /// has not been asked to dial yet.
    pub fn overdue(&self, after: Duration) -> Option<StreamError> {
        self.shared.lock().mux().overdue(self.id, after)
    }
}

/// The far end of a session's streams: the address that its agent resolved when the session began. Another session to the same
/// destination may lead to another server.
#[derive(Debug, Clone)]
pub struct SessionPeer(Arc<Shared>);

impl SessionPeer {
    /// Opens one more stream to that address, even if the session takes no new connections otherwise. Waits while the session is
    /// being resumed; the caller sets the deadline. `None` if the session is over. Cancel safe.
    pub async fn open_urgent(&self) -> Option<SessionStream> {
        let settled = self.0.phase.subscribe().wait_for(|phase| *phase != Phase::Waiting).await.is_ok();
        let id = settled.then(|| self.0.lock().open_urgent_stream(clock::now())).flatten()?;
        self.0.driver.wake();
        Some(SessionStream { shared: Arc::clone(&self.0), id })
    }
}

impl AsyncRead for SessionStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (data, made_room) = {
            let mut conversation = self.shared.lock();
            let was_full = conversation.is_full();
            let data =
                ready!(conversation.mux().poll_read(self.id, cx, buf.remaining())).map_err(StreamError::into_io)?;
            (data, was_full && !conversation.is_full())
        };
        if made_room {
            self.shared.driver.wake();
        }
        buf.put_slice(&data);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SessionStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(self.shared.lock().mux().poll_write(self.id, cx, bytes)).map_err(StreamError::into_io)?;
        self.shared.driver.wake();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The driver sends queued bytes as soon as the window allows.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.lock().mux().shutdown(self.id);
        self.shared.driver.wake();
        Poll::Ready(Ok(()))
    }
}

impl Drop for SessionStream {
    fn drop(&mut self) {
        self.shared.lock().mux().abandon(self.id);
        self.shared.driver.wake();
    }
}
