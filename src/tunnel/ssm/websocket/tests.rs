//! Against listeners in this process: a plain service, a TLS one behind a proxy, and what goes wrong on the way.

use std::{
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll},
};

use futures_util::{SinkExt, StreamExt};
use http::StatusCode;
use rustls::{RootCertStore, ServerConfig, crypto::aws_lc_rs};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::{
    accept_async,
    tungstenite::{Message, error::CapacityError},
};

use super::*;
use crate::target::Endpoint;

const HOST: &str = "ssmmessages.eu-central-1.amazonaws.com";
/// A private endpoint that is configured but does not exist.
const NOWHERE: &str = "localhost.localdomain.invalid";
const REST: &str = "/v1/data-channel/s-1?role=publish_subscribe&cell-number=AAEAA+secret/cell==";

fn network(proxy: &str, roots: RootCertStore) -> Network {
    let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let proxies = Proxies::of(|name| match name {
        "HTTPS_PROXY" => Some(proxy.to_owned()),
        "NO_PROXY" => Some("exempt.example".to_owned()),
        _ => None,
    });
    Network { proxies, tls: Arc::new(tls) }
}

async fn open_url(network: &Network, url: &str) -> Result<WebSocketStream<BoxIo>, Error> {
    let authorization = HeaderValue::from_static("secret-signature");
    let region = "eu-central-1".parse().unwrap();
    let endpoint = url.contains(NOWHERE).then(|| Endpoint { host: NOWHERE.parse().unwrap(), port: 443 });
    let rules = Rules { session_id: "s-1", region: &region, allow_plain_loopback: true, endpoint: endpoint.as_ref() };
    let opened = match check_url(url, &rules) {
        Ok(address) => {
            let opened = network.open(&address, vec![(http::header::AUTHORIZATION, authorization)]).await;
            opened.map(|(websocket, _)| websocket)
        }
        Err(error) => Err(Error::Url(error)),
    };
    if let Err(error) = &opened {
        let text = format!("{error} {error:?}");
        assert!(!text.contains("secret") && !text.contains("cell-number"), "{text}");
    }
    opened
}

async fn plain(url: &str) -> Result<WebSocketStream<BoxIo>, Error> {
    open_url(&network("", RootCertStore::empty()), url).await
}

/// Takes one connection, reads a request's head and hands both to `serve`.
async fn listen<F: Future<Output = ()> + Send + 'static>(
    serve: impl FnOnce(String, TcpStream) -> F + Send + 'static,
) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let mut stream = listener.accept().await.unwrap().0;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        serve(String::from_utf8(head).unwrap(), stream).await;
    });
    (port, task)
}

/// Answers one connection's request with `answer` and closes.
async fn answering(answer: &'static str) -> u16 {
    listen(async move |_, mut stream: TcpStream| stream.write_all(answer.as_bytes()).await.unwrap()).await.0
}

#[tokio::test]
async fn the_request_is_the_url_as_it_came_with_the_signature_and_nothing_more() {
    let (port, server) = listen(async |head, _| {
        let mut lines: Vec<_> = head.trim_end().lines().collect();
        assert_eq!(lines.remove(0), format!("GET {REST} HTTP/1.1"));
        let mut names: Vec<_> = lines.iter().map(|line| line.split_once(": ").unwrap().0.to_lowercase()).collect();
        names.sort();
        let expected = ["authorization", "connection", "host", "sec-websocket-key", "sec-websocket-version", "upgrade"];
        assert_eq!(names, expected, "no extensions, no subprotocol, no origin");
        let signature = lines.iter().find(|line| line.to_lowercase().starts_with("authorization: "));
        assert!(signature.unwrap().ends_with("secret-signature"));
        assert!(lines.iter().any(|line| line.starts_with("Host: 127.0.0.1:")));
    })
    .await;
    assert!(plain(&format!("ws://127.0.0.1:{port}{REST}")).await.is_err(), "it only listens");
    server.await.unwrap();
}

#[tokio::test]
async fn an_answer_other_than_101_is_an_error_with_its_status() {
    for (answer, expected) in [
        ("HTTP/1.1 403 Forbidden\r\ncontent-length: 12\r\n\r\nsecret words", StatusCode::FORBIDDEN),
        (
            "HTTP/1.1 302 Found\r\nlocation: ws://127.0.0.1:1/v1/data-channel/s-1\r\ncontent-length: 0\r\n\r\n",
            StatusCode::FOUND,
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", StatusCode::OK),
    ] {
        let port = answering(answer).await;
        let error = plain(&format!("ws://127.0.0.1:{port}{REST}")).await.map(drop).unwrap_err();
        assert!(matches!(&error, Error::Refused { status, .. } if *status == expected), "{error:?}");
        assert_eq!(
            error.hint().is_some_and(|hint| hint.contains("OpenDataChannel")),
            expected == StatusCode::FORBIDDEN
        );
    }
    for answer in ["", "HTTP/1.1 101 Switching Protocols\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n\r\n"] {
        let port = answering(answer).await;
        let error = plain(&format!("ws://127.0.0.1:{port}{REST}")).await.map(drop).unwrap_err();
        assert!(matches!(error, Error::Upgrade { .. }), "{answer:?}: {error:?}");
    }
}

#[tokio::test]
async fn nobody_there_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = plain(&format!("ws://localhost:{port}{REST}")).await.map(drop).unwrap_err();
    assert!(matches!(&error, Error::Connect { host, .. } if *host == format!("localhost:{port}")), "{error:?}");
    let error = plain(&format!("wss://{NOWHERE}{REST}")).await.map(drop).unwrap_err();
    assert!(matches!(&error, Error::Resolve { .. }), "{error:?}");
    let error = plain(&format!("ws://example.com{REST}")).await.map(drop).unwrap_err();
    assert!(matches!(&error, Error::Url(UrlError::Host)), "{error:?}");
}

#[tokio::test]
async fn a_message_of_sixteen_megabytes_passes_and_a_larger_one_does_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let mut socket = accept_async(listener.accept().await.unwrap().0).await.unwrap();
        for size in [MAX_MESSAGE, MAX_MESSAGE + 1] {
            let _ = socket.send(Message::binary(vec![0; size])).await;
        }
    });
    let mut socket = plain(&format!("ws://127.0.0.1:{port}{REST}")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap().len(), MAX_MESSAGE);
    let error = socket.next().await.unwrap().unwrap_err();
    assert!(matches!(error, tungstenite::Error::Capacity(CapacityError::MessageTooLong { .. })), "{error:?}");
    drop(socket);
    server.await.unwrap();
}

/// Counts the writes that reach the far side.
struct Counting<S>(S, Arc<AtomicUsize>);

impl<S: AsyncRead + Unpin> AsyncRead for Counting<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counting<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.1.fetch_add(1, Ordering::SeqCst);
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn messages_fed_without_a_flush_go_out_together() {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let writes = Arc::<AtomicUsize>::default();
    let stream = Box::new(Counting(ours, Arc::clone(&writes)));
    let url = format!("ws://localhost{REST}");
    let region = "eu-central-1".parse().unwrap();
    let rules = Rules { session_id: "s-1", region: &region, allow_plain_loopback: true, endpoint: None };
    let address = check_url(&url, &rules).unwrap();
    let (socket, server) = tokio::join!(upgrade(stream, &address, Vec::new()), accept_async(theirs));
    let (mut socket, mut server) = (socket.unwrap(), server.unwrap());
    let before = writes.load(Ordering::SeqCst);
    for _ in 0..64 {
        socket.feed(Message::binary(vec![7; 1024])).await.unwrap();
    }
    assert_eq!(writes.load(Ordering::SeqCst), before, "nothing goes out before the flush");
    socket.flush().await.unwrap();
    assert_eq!(writes.load(Ordering::SeqCst), before + 1);
    for _ in 0..64 {
        assert_eq!(server.next().await.unwrap().unwrap().len(), 1024);
    }
}

/// A service with a certificate for [`HOST`] behind a proxy, and the root to trust.
async fn behind_proxy() -> (u16, JoinHandle<()>, RootCertStore) {
    let identity = rcgen::generate_simple_self_signed([HOST.to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(identity.cert.der().clone()).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(identity.signing_key.serialize_der()).into();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![identity.cert.der().clone()], key)
        .unwrap();
    let (port, server) = listen(async move |head, mut stream: TcpStream| {
        assert!(head.starts_with(&format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n")), "{head}");
        // "me:p@ss" in base64
        assert!(head.contains("\r\nProxy-Authorization: Basic bWU6cEBzcw==\r\n"), "{head}");
        stream.write_all(b"HTTP/1.1 200 Connection established\r\nvia: 1.1 proxy\r\n\r\n").await.unwrap();
        if let Ok(stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await {
            let mut socket = accept_async(stream).await.unwrap();
            let message = socket.next().await.unwrap().unwrap();
            socket.send(message).await.unwrap();
        }
    })
    .await;
    (port, server, roots)
}

#[tokio::test]
async fn the_way_through_a_proxy_is_a_tunnel_with_tls_inside() {
    let (port, server, roots) = behind_proxy().await;
    let network = network(&format!("http://me:p%40ss@127.0.0.1:{port}"), roots);
    let mut socket = open_url(&network, &format!("wss://{HOST}{REST}")).await.unwrap();
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hello"));
    server.await.unwrap();
}

#[tokio::test]
async fn a_certificate_that_nobody_trusts_ends_it() {
    let (port, server, _) = behind_proxy().await;
    let mut other = RootCertStore::empty();
    other.add(rcgen::generate_simple_self_signed([HOST.to_owned()]).unwrap().cert.der().clone()).unwrap();
    let network = network(&format!("http://me:p%40ss@127.0.0.1:{port}"), other);
    let error = open_url(&network, &format!("wss://{HOST}{REST}")).await.map(drop).unwrap_err();
    assert!(matches!(&error, Error::Tls { host, .. } if host == HOST), "{error:?}");
    server.await.unwrap();
}

#[tokio::test]
async fn a_proxy_that_refuses_or_babbles_is_named_without_its_password() {
    let refused = "HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\n\r\n";
    let endless: &'static str =
        Box::leak(format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(MAX_ENDLESS)).into_boxed_str());
    for (answer, status) in
        [(refused, Some("407 Proxy Authentication Required")), (endless, None), ("", None), ("SSH-2.0\r\n\r\n", None)]
    {
        let port = answering(answer).await;
        let network = network(&format!("http://me:secret@127.0.0.1:{port}"), RootCertStore::empty());
        let error = open_url(&network, &format!("wss://{HOST}{REST}")).await.map(drop).unwrap_err();
        let name = format!("http://127.0.0.1:{port}");
        match (&error, status) {
            (Error::ProxyRefused { proxy, host, status: given }, Some(status)) => {
                assert_eq!((proxy, host.as_str(), given.as_str()), (&name, HOST, status));
            }
            (Error::ProxyBroken { proxy, .. }, None) => assert_eq!(*proxy, name),
            _ => panic!("{error:?}"),
        }
    }
    let socks = network("socks5://me:secret@127.0.0.1:1080", RootCertStore::empty());
    let error = open_url(&socks, &format!("wss://{HOST}{REST}")).await.map(drop).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the proxy in HTTPS_PROXY cannot be used: SOCKS proxies are not supported, only HTTP proxies"
    );
}

/// More than is read of a proxy's answer.
const MAX_ENDLESS: usize = 1 << 16;

#[tokio::test]
async fn loopback_never_goes_through_a_proxy() {
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let network = network(&format!("http://{}", proxy.local_addr().unwrap()), RootCertStore::empty());
    let port = answering("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await;
    let error = open_url(&network, &format!("ws://127.0.0.1:{port}{REST}")).await.map(drop).unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error:?}");
}

#[tokio::test]
async fn pings_of_a_service_that_does_not_read_the_answers_cost_little_memory() {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let address = {
        let region = "eu-central-1".parse().unwrap();
        let rules = Rules { session_id: "s-1", region: &region, allow_plain_loopback: true, endpoint: None };
        check_url(&format!("ws://localhost{REST}"), &rules).unwrap()
    };
    let (socket, server) = tokio::join!(upgrade(Box::new(ours), &address, Vec::new()), accept_async(theirs));
    let (mut socket, mut server) = (socket.unwrap(), server.unwrap());
    // 25 MB of pings, whose answers nobody takes.
    let flood = tokio::spawn(async move {
        for _ in 0..200_000 {
            server.feed(Message::Ping(vec![7; 125].into())).await.unwrap();
        }
        server.flush().await.unwrap();
        server
    });
    for _ in 0..200_000 {
        assert!(socket.next().await.unwrap().unwrap().is_ping());
    }
    let mut server = flood.await.unwrap();
    let mut answers = 0;
    let reading = async {
        while let Some(Ok(message)) = server.next().await {
            answers += usize::from(message.is_pong());
        }
    };
    let writing = async { socket.close(None).await.unwrap() };
    tokio::join!(reading, writing);
    assert!(answers * 131 <= MAX_WRITE_BUFFER + (1 << 18), "{answers} answers waited");
}
