//! The listening socket of the sandbox: HTTP/1.1, plain or TLS, for the APIs and the websocket alike.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::{
    aws,
    session::PATH,
    socket::{Socket, Transport},
    websocket,
    world::World,
};

/// The largest body of a request, far above that of any API call.
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
    let socket = Socket::new(transport);
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
    if request.uri().path().starts_with(PATH) {
        return Some(websocket::upgrade(world, request));
    }
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, LARGEST_BODY).collect().await else {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
        return Some(response);
    };
    aws::answer(&world, &head, &body.to_bytes()).await
}
