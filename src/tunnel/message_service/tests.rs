//! Against listeners in this process: a plain service, a TLS one behind a proxy, and what goes wrong on the way.

use futures_util::{SinkExt, StreamExt};
use http::HeaderValue;
use rustls::{RootCertStore, ServerConfig, crypto::aws_lc_rs};
use ssm_session::{
    request::Destination,
    websocket::{self, MessageService, UrlError, check_url},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::{WebSocketStream, accept_async, tungstenite::Message};

use super::*;

const HOST: &str = "ssmmessages.eu-central-1.amazonaws.com";
/// A private endpoint that is configured but does not exist.
const NOWHERE: &str = "localhost.localdomain.invalid";
const REST: &str = "/v1/data-channel/s-1?role=publish_subscribe&cell-number=AAEAA+secret/cell==";

fn network(proxy: &str, roots: RootCertStore) -> Arc<Network> {
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
    Arc::new(Network { proxies, tls: Arc::new(tls) })
}

/// An error of this module; one of the websocket itself as it is.
async fn open_url(network: &Arc<Network>, url: &str) -> Result<WebSocketStream<BoxIo>, websocket::Error> {
    let authorization = HeaderValue::from_static("secret-signature");
    let service = MessageService {
        allow_plain_loopback: true,
        endpoint: url.contains(NOWHERE).then(|| Destination::new(NOWHERE, 443)),
        ..MessageService::of_region("eu-central-1")
    };
    let opened = match check_url(url, "s-1", &service) {
        Ok(address) => {
            let headers = vec![(http::header::AUTHORIZATION, authorization)];
            websocket::open(&Tested(Arc::clone(network)), &address, headers).await.map(|(websocket, _)| websocket)
        }
        Err(error) => Err(websocket::Error::Url(error)),
    };
    if let Err(error) = &opened {
        let text = format!("{error} {error:?}");
        assert!(!text.contains("secret") && !text.contains("cell-number"), "{text}");
    }
    opened
}

struct Tested(Arc<Network>);

impl Connect for Tested {
    fn connect<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<(BoxIo, Path), ConnectError>> {
        Box::pin(async move { Ok(self.0.open(address).await?) })
    }
}

/// The error of the way out.
fn cause(error: &websocket::Error) -> &Error {
    match error {
        websocket::Error::Connect(cause) => cause.downcast_ref().unwrap(),
        other => panic!("{other:?}"),
    }
}

async fn plain(url: &str) -> Result<WebSocketStream<BoxIo>, websocket::Error> {
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
async fn service_that_denies_the_channel_has_a_hint_about_the_policy() {
    for (status, hinted) in [("403 Forbidden", true), ("401 Unauthorized", true), ("500 Internal Server Error", false)]
    {
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        let port = answering(Box::leak(answer.into_boxed_str())).await;
        let error = plain(&format!("ws://127.0.0.1:{port}{REST}")).await.map(drop).unwrap_err();
        assert_eq!(hint(&error).is_some_and(|hint| hint.contains("OpenDataChannel")), hinted, "{status}");
    }
}

#[tokio::test]
async fn closed_port_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = plain(&format!("ws://localhost:{port}{REST}")).await.map(drop).unwrap_err();
    assert!(matches!(cause(&error), Error::Connect { host, .. } if *host == format!("localhost:{port}")), "{error:?}");
    let error = plain(&format!("wss://{NOWHERE}{REST}")).await.map(drop).unwrap_err();
    assert!(matches!(cause(&error), Error::Resolve { .. }), "{error:?}");
    let error = plain(&format!("ws://example.com{REST}")).await.map(drop).unwrap_err();
    assert!(matches!(&error, websocket::Error::Url(UrlError::Host)), "{error:?}");
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
async fn untrusted_certificate_is_refused() {
    let (port, server, _) = behind_proxy().await;
    let mut other = RootCertStore::empty();
    other.add(rcgen::generate_simple_self_signed([HOST.to_owned()]).unwrap().cert.der().clone()).unwrap();
    let network = network(&format!("http://me:p%40ss@127.0.0.1:{port}"), other);
    let error = open_url(&network, &format!("wss://{HOST}{REST}")).await.map(drop).unwrap_err();
    assert!(matches!(cause(&error), Error::Tls { host, .. } if host == HOST), "{error:?}");
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
        match (cause(&error), status) {
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
    assert!(matches!(error, websocket::Error::Refused { .. }), "{error:?}");
}
