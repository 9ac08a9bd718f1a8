//! Websockets to listeners in this process.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::{SinkExt, StreamExt};
use http::StatusCode;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_tungstenite::{
    accept_async,
    tungstenite::{Message, error::CapacityError},
};

use super::*;
use crate::connect::Plain;

const REST: &str = "/v1/data-channel/s-1?role=publish_subscribe&cell-number=AAEAA+secret/cell==";

fn service() -> MessageService {
    MessageService { allow_plain_loopback: true, ..MessageService::of_region("eu-central-1") }
}

/// Opens a websocket without TLS.
async fn plain(url: &str) -> Result<WebSocket, Error> {
    let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let authorization = HeaderValue::from_static("secret-signature");
    let opened = match check_url(url, "s-1", &service()) {
        Ok(address) => {
            let headers = vec![(http::header::AUTHORIZATION, authorization)];
            open(&Plain::new(Arc::new(tls)), &address, headers).await.map(|(websocket, _)| websocket)
        }
        Err(error) => Err(Error::Url(error)),
    };
    if let Err(error) = &opened {
        let text = format!("{error} {error:?}");
        assert!(!text.contains("secret") && !text.contains("cell-number"), "{text}");
    }
    opened
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
async fn request_is_the_unchanged_url_with_the_signature_and_no_other_header() {
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
async fn reply_other_than_101_is_an_error_with_its_status() {
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
            (error.denies(), error.is_forbidden()),
            (expected == StatusCode::FORBIDDEN, expected == StatusCode::FORBIDDEN)
        );
    }
    for answer in ["", "HTTP/1.1 101 Switching Protocols\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n\r\n"] {
        let port = answering(answer).await;
        let error = plain(&format!("ws://127.0.0.1:{port}{REST}")).await.map(drop).unwrap_err();
        assert!(matches!(error, Error::Upgrade { .. }), "{answer:?}: {error:?}");
    }
}

#[tokio::test]
async fn closed_port_and_foreign_host_are_errors() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = plain(&format!("ws://localhost:{port}{REST}")).await.map(drop).unwrap_err();
    assert!(matches!(&error, Error::Connect(_)), "{error:?}");
    let error = plain(&format!("ws://example.com{REST}")).await.map(drop).unwrap_err();
    assert!(matches!(&error, Error::Url(UrlError::Host)), "{error:?}");
}

#[tokio::test]
async fn messages_up_to_16_mib_are_accepted() {
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
    let address = check_url(&url, "s-1", &service()).unwrap();
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

#[tokio::test]
async fn pings_of_a_service_that_does_not_read_pongs_cost_little_memory() {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let address = check_url(&format!("ws://localhost{REST}"), "s-1", &service()).unwrap();
    let (socket, server) = tokio::join!(upgrade(Box::new(ours), &address, Vec::new()), accept_async(theirs));
    let (mut socket, mut server) = (socket.unwrap(), server.unwrap());
    // 25 MB of pings; the service does not read the pongs.
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
