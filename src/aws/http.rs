//! The HTTP clients of all AWS calls.
//!
//! They trust the machine's roots (`SSL_CERT_FILE`, `SSL_CERT_DIR`) and the file named by `AWS_CA_BUNDLE` or `ca_bundle` of the profile,
//! and use the proxy that the environment names for the endpoint.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_http_client::{
    Connector,
    proxy::ProxyConfig,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::{
    http::{
        HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
        http_client_fn,
    },
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
};
use aws_smithy_types::{body::SdkBody, byte_stream::ByteStream};
use bytes::Bytes;
use tokio::time::{sleep, timeout};
use zeroize::Zeroize as _;

use super::{Error, Unreachable, profiles::Setting, unreachable::RefusedReply};
use crate::{
    outbound::{self, Proxies, Proxy},
    regular_file, tls,
};

/// The clients of a process, one for each file of additional roots.
#[derive(Default)]
pub(super) struct Clients(Mutex<HashMap<Option<PathBuf>, Client>>);

/// The largest reply that is read. A page of a hundred instances has some hundred kilobytes.
const ANSWER_LIMIT: usize = 8 << 20;

/// For the HTTP client to let go of the buffer of a connection that is closed, and between looks at it.
const WIPE_TIMEOUT: Duration = Duration::from_secs(10);
const WIPE_POLL: Duration = Duration::from_millis(10);

/// A client for the SDK, and one for our own requests.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) sdk: SharedHttpClient,
    context: TlsContext,
    proxies: Arc<Proxies>,
}

impl Clients {
    /// The client that also trusts `bundle`. The file is read once.
    ///
    /// # Errors
    /// [`Error::CaBundle`].
    pub(super) fn get(&self, bundle: Option<&Setting>) -> Result<Client, Error> {
        let key = bundle.map(|bundle| PathBuf::from(bundle.text.as_str()));
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let client = Client::new(bundle)?;
        clients.insert(key, client.clone());
        Ok(client)
    }
}

impl Client {
    fn new(bundle: Option<&Setting>) -> Result<Self, Error> {
        let (context, proxies) = (context(bundle)?, Arc::new(Proxies::of_environment()));
        let (of_client, proxies_of_client) = (context.clone(), Arc::clone(&proxies));
        // The SDK makes one connector for each pair of timeouts; a connector owns a connection pool.
        let connectors: Mutex<HashMap<[Option<Duration>; 2], SharedHttpConnector>> = Mutex::default();
        let sdk = http_client_fn(move |settings, components| {
            let mut connectors = connectors.lock().unwrap_or_else(PoisonError::into_inner);
            let key = [settings.connect_timeout(), settings.read_timeout()];
            let connector = connectors.entry(key).or_insert_with(|| {
                let (context, proxies) = (of_client.clone(), Arc::clone(&proxies_of_client));
                SharedHttpConnector::new(Outbound::new(context, proxies, settings.clone(), components.sleep_impl()))
            });
            connector.clone()
        });
        Ok(Self { sdk, context, proxies })
    }

    /// The connector for our own requests. Only connecting has a time limit.
    pub(super) fn own_connector(&self, connect_deadline: Duration) -> SharedHttpConnector {
        let settings = HttpConnectorSettings::builder().connect_timeout(connect_deadline).build();
        let sleep = Some(SharedAsyncSleep::new(TokioSleep::new()));
        SharedHttpConnector::new(Outbound::new(self.context.clone(), Arc::clone(&self.proxies), settings, sleep))
    }
}

/// Sends each request directly or through a proxy. Connectors are made on first use.
struct Outbound {
    context: TlsContext,
    proxies: Arc<Proxies>,
    settings: HttpConnectorSettings,
    sleep: Option<SharedAsyncSleep>,
    straight: OnceLock<Connector>,
    /// By scheme (https or not), because each may have its own proxy, and by the URL of the proxy.
    by_proxy: Mutex<HashMap<(bool, String), Connector>>,
}

impl Outbound {
    fn new(
        context: TlsContext,
        proxies: Arc<Proxies>,
        settings: HttpConnectorSettings,
        sleep: Option<SharedAsyncSleep>,
    ) -> Self {
        Self { context, proxies, settings, sleep, straight: OnceLock::new(), by_proxy: Mutex::default() }
    }

    fn connector(&self, proxy: ProxyConfig) -> Connector {
        let mut builder = Connector::builder().connector_settings(self.settings.clone());
        builder.set_sleep_impl(self.sleep.clone());
        builder
            .proxy_config(proxy)
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(self.context.clone())
            .build()
    }

    fn through(&self, proxy: &Proxy, secure: bool, request: HttpRequest) -> HttpConnectorFuture {
        let key = (secure, proxy.url());
        let mut connectors = self.by_proxy.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connector) = connectors.get(&key) {
            return connector.call(request);
        }
        let Ok(config) = ProxyConfig::all(proxy.secret_url().as_str()) else {
            let refused = outbound::Error { variable: proxy.url(), problem: "its host is not a host name" };
            return HttpConnectorFuture::ready(Err(ConnectorError::user(refused.into())));
        };
        connectors.entry(key).or_insert_with(|| self.connector(config)).call(request)
    }
}

impl std::fmt::Debug for Outbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Outbound")
    }
}

/// Asks for a reply of which no buffer keeps a copy. Its connection is closed, because an open one keeps its buffer.
pub(super) fn ask_to_wipe(request: &mut HttpRequest) {
    request.headers_mut().insert("connection", "close");
}

/// Overwrites bytes that nothing else refers to.
pub(super) fn wipe(bytes: Bytes) {
    if let Ok(mut bytes) = bytes.try_into_mut() {
        bytes.as_mut().zeroize();
    }
}

/// Reads a whole reply, up to [`ANSWER_LIMIT`]. Neither the SDK nor its HTTP client has a limit, and none of our calls streams.
fn bounded(answer: HttpConnectorFuture, is_wiped: bool) -> HttpConnectorFuture {
    HttpConnectorFuture::new(async move {
        let mut answer = answer.await?;
        let chunks = read(answer.take_body()).await?;
        let body = SdkBody::from(chunks.concat());
        if !is_wiped {
            *answer.body_mut() = body;
            return Ok(answer);
        }
        // The headers refer to the same buffer.
        let mut owned = HttpResponse::new(answer.status(), body);
        for (name, value) in answer.headers() {
            owned.headers_mut().append(name.to_owned(), value.to_owned());
        }
        drop(answer);
        // No login waits for it, and it ends by itself.
        tokio::spawn(wipe_once_free(chunks));
        Ok(owned)
    })
}

async fn read(body: SdkBody) -> Result<Vec<Bytes>, ConnectorError> {
    let (mut stream, mut chunks, mut length) = (ByteStream::new(body), Vec::new(), 0);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|cause| ConnectorError::io(cause.into()))?;
        length += chunk.len();
        if length > ANSWER_LIMIT {
            return Err(ConnectorError::other(RefusedReply("the answer is longer than 8 MiB").into(), None));
        }
        chunks.push(chunk);
    }
    Ok(chunks)
}

/// Overwrites a reply once the connection, which ends in a task of its own, has let go of its buffer. A buffer stays as it is where several
/// parts of a reply share it, and in HTTP/2, whose connections stay open.
async fn wipe_once_free(chunks: Vec<Bytes>) {
    if let [whole] = &chunks[..] {
        let free = async {
            while !whole.is_unique() {
                sleep(WIPE_POLL).await;
            }
        };
        let _ = timeout(WIPE_TIMEOUT, free).await;
    }
    chunks.into_iter().for_each(wipe);
}

impl HttpConnector for Outbound {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let way = self.way(&request);
        let is_wiped = request.headers().get("connection") == Some("close");
        let answer = bounded(self.send(request), is_wiped);
        HttpConnectorFuture::new(async move { answer.await.map_err(|error| described(error, way)) })
    }
}

/// The error with the host and the proxy that were tried. Its kind, by which it is retried, stays.
fn described(error: ConnectorError, way: Option<(String, Option<String>)>) -> ConnectorError {
    let Some((host, proxy)) = way.filter(|_| !error.is_user()) else { return error };
    let unreachable = Box::new(Unreachable::of(&error, host, proxy));
    if error.is_timeout() {
        ConnectorError::timeout(unreachable)
    } else if error.is_io() {
        ConnectorError::io(unreachable)
    } else {
        ConnectorError::other(unreachable, error.as_other())
    }
}

impl Outbound {
    /// Host and port of a request, and the URL of the proxy on the way.
    fn way(&self, request: &HttpRequest) -> Option<(String, Option<String>)> {
        let uri: ::http::Uri = request.uri().parse().ok()?;
        let (host, secure) = (uri.host()?, uri.scheme_str() == Some("https"));
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let proxy = self.proxies.find(secure, host, port).ok().flatten();
        Some((format!("{host}:{port}"), proxy.map(Proxy::url)))
    }

    fn send(&self, request: HttpRequest) -> HttpConnectorFuture {
        let uri: Option<::http::Uri> = request.uri().parse().ok();
        let Some((uri, host)) = uri.as_ref().and_then(|uri| Some((uri, uri.host()?))) else {
            return HttpConnectorFuture::ready(Err(ConnectorError::user("the request has no host".into())));
        };
        let secure = uri.scheme_str() == Some("https");
        match self.proxies.find(secure, host, uri.port_u16().unwrap_or(if secure { 443 } else { 80 })) {
            Ok(None) => self.straight.get_or_init(|| self.connector(ProxyConfig::disabled())).call(request),
            Ok(Some(proxy)) => self.through(proxy, secure, request),
            Err(error) => HttpConnectorFuture::ready(Err(ConnectorError::user(error.into()))),
        }
    }
}

/// # Errors
/// [`Error::CaBundle`]: the file is checked here because the SDK panics on a bad one.
fn context(bundle: Option<&Setting>) -> Result<TlsContext, Error> {
    let mut trust = TrustStore::empty();
    // The SDK panics if it is configured to use native roots and finds none, as in a slim container.
    if !tls::system::native_roots().is_empty() {
        trust = trust.with_native_roots(true);
    }
    if let Some(bundle) = bundle {
        let path = PathBuf::from(bundle.text.as_str());
        let refused = |cause| Error::CaBundle { path: path.clone(), place: bundle.place.to_string(), cause };
        tls::system::system_roots(Some(&path)).map_err(|cause| refused(Arc::new(cause)))?;
        let pem = regular_file::read(&path).map_err(|cause| refused(Arc::new(cause)))?.bytes;
        trust = trust.with_pem_certificate(pem);
    }
    TlsContext::builder().with_trust_store(trust).build().map_err(|cause| Error::HttpClient(Arc::new(cause)))
}

/// Whether a URL points to this machine.
pub(super) fn is_loopback(url: &str) -> bool {
    let Ok(uri) = url.parse::<::http::Uri>() else { return false };
    let Some(host) = uri.host() else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
