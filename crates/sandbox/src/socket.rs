//! The socket of a client, plain or TLS, that can be made to swallow bytes or to end with RST.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

/// A client's socket, which can be made to swallow everything both ways while it stays open.
pub(super) struct Socket {
    transport: Transport,
    deaf: Arc<AtomicBool>,
}

pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    pub(super) fn new(transport: Transport) -> Self {
        Self { transport, deaf: Arc::default() }
    }

    /// The switch for a half-open connection.
    pub(super) fn deaf(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.deaf)
    }

    /// Makes the close, when this is dropped, an RST: whatever is in flight is lost.
    pub(super) fn reset_on_drop(&self) {
        let socket = match &self.transport {
            Transport::Plain(socket) => socket,
            Transport::Tls(stream) => stream.get_ref().0,
        };
        // A socket that is closed already cannot be cut any more.
        let _ = socket.set_zero_linger();
    }
}

impl Transport {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.deaf.load(Ordering::Relaxed) {
            return self.transport.poll_read(cx, buf);
        }
        // Half-open: the bytes arrive at a machine that is not there any more.
        let mut scratch = [0; 4096];
        loop {
            let mut swallowed = ReadBuf::new(&mut scratch);
            match self.transport.poll_read(cx, &mut swallowed) {
                Poll::Ready(Ok(())) if !swallowed.filled().is_empty() => {}
                other => return other,
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.deaf.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(buf.len()));
        }
        match &mut self.transport {
            Transport::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
