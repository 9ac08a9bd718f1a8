//! The listening socket of the sandbox: HTTP/1.1, plain or TLS, for the APIs and the websocket alike.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{World, aws, service};

/// No API call of ours comes near this.
const LARGEST_BODY: usize = 1 << 20;
/// TLS handshakes and request headers of a client on the same machine.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Accepts connections until the sandbox stops.
pub(super) async fn serve(world: Arc<World>, listener: TcpListener, tls: Option<TlsAcceptor>) {
    loop {
        let accepted = tokio::select! {
            () = world.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        // An aborted connection or too many open files: neither is a reason to stop listening.
        let Ok((socket, peer)) = accepted else { continue };
        let (connection_world, tls) = (Arc::clone(&world), tls.clone());
        world.tasks.spawn(async move {
            let world = connection_world;
            let stop = world.stop.clone();
            tokio::select! {
                () = stop.cancelled() => {}
                () = connection(world, socket, peer, tls) => {}
            }
        });
    }
}

async fn connection(world: Arc<World>, socket: TcpStream, _peer: SocketAddr, tls: Option<TlsAcceptor>) {
    // Small answers must not wait for the peer's delayed acknowledgement.
    if socket.set_nodelay(true).is_err() {
        return;
    }
    let transport = match tls {
        None => Transport::Plain(socket),
        Some(tls) => match tokio::time::timeout(REQUEST_TIMEOUT, tls.accept(socket)).await {
            Ok(Ok(stream)) => Transport::Tls(Box::new(stream)),
            // A client that does not trust us, or none at all: that is its finding, not ours.
            Ok(Err(_)) | Err(_) => return,
        },
    };
    let socket = Socket { transport, deaf: Arc::default() };
    let service = service_fn(move |request| {
        let world = Arc::clone(&world);
        async move { respond(world, request).await.ok_or(Dropped) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::trace!(%error, "sandbox connection ended");
    }
}

/// Makes hyper close the connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection was to be dropped")]
struct Dropped;

async fn respond(world: Arc<World>, request: Request<Incoming>) -> Option<Response<Full<Bytes>>> {
    if request.uri().path().starts_with(service::PATH) {
        return Some(service::upgrade(world, request));
    }
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, LARGEST_BODY).collect().await else {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
        return Some(response);
    };
    aws::answer(&world, &head, &body.to_bytes()).await
}

/// A client's socket, which can be made to swallow everything both ways while it stays open.
pub(super) struct Socket {
    transport: Transport,
    deaf: Arc<AtomicBool>,
}

enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
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
