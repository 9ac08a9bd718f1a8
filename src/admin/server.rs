//! The HTTP/1.1 server. Every connection carries one request, with a short timeout.

use std::{convert::Infallible, future::Future, net::IpAddr, sync::Arc, time::Duration};

use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{
        ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, ORIGIN, REFERER, REFERRER_POLICY,
        X_CONTENT_TYPE_OPTIONS,
    },
    uri::Authority,
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::{encoding::text, metrics::info::Info, registry::Registry};
use tokio::{
    sync::{Semaphore, oneshot},
    time::{sleep, timeout},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tracing::{debug, info, warn};

use super::{
    forms,
    model::Status,
    page,
    phase::Phase,
    sessions::Sessions,
    view::{Outcome, Reload, View},
};
use crate::{
    listen::{self, Accepted, Address, Error, Listener, Local, Stream, access},
    telemetry::metrics::Metrics,
};

/// The number of connections served at a time. Further ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 8;
/// The number of connections of other users answered with 403 at a time. Further ones are closed without a reply.
const MAX_OTHER_USERS: usize = 2;
/// The time limit for request line and headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// The time limit for a whole connection, including the reply.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// The time for which the reply to `/reload` waits for the result: a lookup at AWS may take longer.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(8);
/// The smallest limit that hyper accepts, and far more than any scraper sends.
const MAX_HEADER_BYTES: usize = 8192;
/// The largest number of header fields.
const MAX_HEADERS: usize = 64;
/// The pause after a failed accept, which means that the system is out of a resource.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The time limit at shutdown for replies under way.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);

/// The content type of OpenMetrics 1.0, section "Content-Type".
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
const PLAIN: &str = "text/plain; charset=utf-8";

/// The running server. Stops when dropped.
pub struct Server {
    address: String,
    shared: Arc<Shared>,
    stop: DropGuard,
}

struct Shared {
    view: Arc<View>,
    registry: Registry,
    connections: Arc<Semaphore>,
    other_users: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl Server {
    /// Binds the address and starts serving `view` and `metrics`.
    ///
    /// # Errors
    /// [`Error`]; nothing is left behind.
    pub async fn start(address: &Address, view: &Arc<View>, metrics: &Metrics) -> Result<Self, Error> {
        let listeners = listen::bind(address).await?;
        let bound: Vec<_> = listeners.iter().filter_map(|listener| listener.local().ok()).collect();
        let name = address.named(&bound);
        let shared = Arc::new(Shared {
            registry: registry(metrics, view),
            view: Arc::clone(view),
            connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            other_users: Arc::new(Semaphore::new(MAX_OTHER_USERS)),
            tasks: TaskTracker::new(),
        });
        let stop = CancellationToken::new();
        for listener in listeners {
            let (serving, stop) = (Arc::clone(&shared), stop.clone());
            shared.tasks.spawn(async move {
                tokio::select! {
                    () = serve(&serving, &listener) => {}
                    () = stop.cancelled() => {}
                }
            });
        }
        Ok(Self { address: name, shared, stop: stop.drop_guard() })
    }

    /// The address for people: `localhost:9090`, `unix:/run/user/1000/rdsgate.sock`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Stops accepting requests, and waits a moment for replies under way.
    pub async fn stop(self) {
        drop(self.stop);
        self.shared.tasks.close();
        let _ = timeout(STOP_TIMEOUT, self.shared.tasks.wait()).await;
    }
}

fn registry(metrics: &Metrics, view: &Arc<View>) -> Registry {
    let mut registry = Registry::default();
    let version = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("rdsgate_build", "This program", version);
    metrics.register(&mut registry);
    registry.register_collector(Box::new(Sessions(Arc::clone(view))));
    registry
}

/// The clients of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Programs of this machine, by a unix socket.
    Socket,
    /// Programs of this machine and its browsers, by TCP on loopback.
    Loopback,
    /// A network, such as that of a pod: probes and scrapers. The kernel knows no users of those, so they learn about the process and
    /// nothing about databases, clients and users.
    Network,
}

impl Reach {
    fn of(listener: &Listener) -> Self {
        match listener.local() {
            Ok(Local::Unix(_)) => Self::Socket,
            Ok(Local::Tcp(address)) if address.ip().is_loopback() => Self::Loopback,
            Ok(Local::Tcp(_)) | Err(_) => Self::Network,
        }
    }
}

/// Accepts connections until cancelled.
async fn serve(shared: &Arc<Shared>, listener: &Listener) {
    let reach = Reach::of(listener);
    loop {
        // The connection holds the permit to its end. Without a permit, connections wait in the kernel's queue.
        let permit = Arc::clone(&shared.connections).acquire_owned().await.expect("the semaphore is never closed");
        let Accepted { stream, peer } = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(cause) => {
                warn!(%cause, "cannot accept a connection to the admin address");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if reach != Reach::Network
            && let Err(cause) = access::check(peer, &[])
        {
            info!(%cause, "refused a connection to the admin address");
            let Ok(permit) = Arc::clone(&shared.other_users).try_acquire_owned() else { continue };
            let message = cause.to_string();
            shared.tasks.spawn(async move {
                connection(stream, async |_| reply(StatusCode::FORBIDDEN, PLAIN, message.clone())).await;
                drop(permit);
            });
            continue;
        }
        let serving = Arc::clone(shared);
        shared.tasks.spawn(async move {
            connection(stream, async |request| respond(&serving, reach, &request).await).await;
            drop(permit);
        });
    }
}

/// Serves one request.
async fn connection<F: Future<Output = Response<String>>>(stream: Stream, respond: impl Fn(Request<Incoming>) -> F) {
    let service = service_fn(|request| {
        let reply = respond(request);
        async { Ok::<_, Infallible>(reply.await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(CONNECTION_TIMEOUT, served).await {
        Ok(Ok(())) => {}
        Ok(Err(cause)) => debug!(%cause, "a connection to the admin address broke"),
        Err(_) => debug!("a connection to the admin address timed out"),
    }
}

async fn respond(shared: &Shared, reach: Reach, request: &Request<Incoming>) -> Response<String> {
    if reach == Reach::Loopback && !names_this_machine(request.headers()) {
        return reply(StatusCode::FORBIDDEN, PLAIN, "the Host header must be localhost or a loopback address".into());
    }
    if is_of_another_site(request.headers()) {
        return reply(StatusCode::FORBIDDEN, PLAIN, "other sites cannot use these endpoints".into());
    }
    let respond: fn(&Shared) -> Response<String> = match request.uri().path() {
        "/" | "/status" | "/reload" if reach == Reach::Network => {
            let refusal = "only /healthz, /readyz and /metrics are answered at this address";
            return reply(StatusCode::FORBIDDEN, PLAIN, refusal.into());
        }
        "/" => page,
        "/healthz" => health,
        "/readyz" => readiness,
        "/metrics" => metrics,
        "/status" => status,
        "/reload" if request.method() != Method::POST => return not_allowed("POST", "only POST is allowed"),
        "/reload" if is_of_browser(request.headers()) => {
            return reply(StatusCode::FORBIDDEN, PLAIN, "browsers cannot use this endpoint".into());
        }
        "/reload" => return reload(shared).await,
        _ => {
            return reply(
                StatusCode::NOT_FOUND,
                PLAIN,
                "not found; try /, /healthz, /readyz, /metrics, /status or /reload".into(),
            );
        }
    };
    // To HEAD, hyper sends the head of this reply.
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return not_allowed("GET, HEAD", "only GET and HEAD are allowed");
    }
    respond(shared)
}

fn not_allowed(methods: &'static str, words: &str) -> Response<String> {
    let mut refusal = reply(StatusCode::METHOD_NOT_ALLOWED, PLAIN, words.into());
    refusal.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    refusal
}

/// Asks for a reload, and waits for its result.
async fn reload(shared: &Shared) -> Response<String> {
    let failed = |status, text: &str| reply(status, PLAIN, text.into());
    let Some(requests) = shared.view.reloads() else {
        return failed(StatusCode::CONFLICT, "only rdsgate up reads its configuration again\n");
    };
    if shared.view.phase() != Phase::Running {
        return failed(StatusCode::SERVICE_UNAVAILABLE, "rdsgate is starting or shutting down\n");
    }
    let (request, result) = oneshot::channel();
    if requests.try_send(request).is_err() {
        return failed(StatusCode::SERVICE_UNAVAILABLE, "other reloads are waiting\n");
    }
    let Reload { outcome, message, hint, .. } = match timeout(RELOAD_TIMEOUT, result).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => return failed(StatusCode::SERVICE_UNAVAILABLE, "rdsgate is shutting down\n"),
        Err(_) => return failed(StatusCode::ACCEPTED, "the reload goes on; rdsgate status shows its result\n"),
    };
    let hint = hint.map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
    let (status, words) = match outcome {
        Outcome::Done => (StatusCode::OK, "reloaded"),
        Outcome::InPart => (StatusCode::UNPROCESSABLE_ENTITY, "reloaded in part"),
        Outcome::Refused => (StatusCode::UNPROCESSABLE_ENTITY, "not reloaded"),
    };
    reply(status, PLAIN, format!("{words}: {message}\n{hint}"))
}

/// Whether a browser makes the request, for any page: programs send none of these headers. A browser that does not name the relation
/// of the page sends at least the first with a POST.
fn is_of_browser(headers: &HeaderMap) -> bool {
    headers.contains_key(ORIGIN) || headers.contains_key(REFERER) || headers.contains_key("sec-fetch-site")
}

/// Whether the Host header names this machine. A web page could point its own name at our address and read the replies through
/// the user's browser.
fn names_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST) else { return true };
    let Some(authority) = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok()) else { return false };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether a page of another origin makes the request. Browsers name the relation (Fetch Metadata Request Headers); to follow a
/// link is allowed, because the page that has it learns nothing.
fn is_of_another_site(headers: &HeaderMap) -> bool {
    let value = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
    let is_link = value("sec-fetch-mode") == Some(b"navigate") && value("sec-fetch-dest") == Some(b"document");
    matches!(value("sec-fetch-site"), Some(b"cross-site" | b"same-site")) && !is_link
}

fn page(shared: &Shared) -> Response<String> {
    let status = Status::of(&shared.view);
    let mut response = reply(StatusCode::OK, HTML, page::render(&status, &forms::of(&shared.view)));
    let headers = response.headers_mut();
    let policy = HeaderValue::from_str(&page::POLICY).expect("hashes and words are ASCII");
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    response
}

fn health(shared: &Shared) -> Response<String> {
    match shared.view.phase() {
        Phase::Starting | Phase::Running => reply(StatusCode::OK, PLAIN, "ok".into()),
        Phase::Draining => reply(StatusCode::SERVICE_UNAVAILABLE, PLAIN, "draining".into()),
    }
}

fn readiness(shared: &Shared) -> Response<String> {
    match shared.view.phase() {
        Phase::Starting => reply(StatusCode::SERVICE_UNAVAILABLE, PLAIN, "starting".into()),
        Phase::Running => reply(StatusCode::OK, PLAIN, "ok".into()),
        Phase::Draining => reply(StatusCode::SERVICE_UNAVAILABLE, PLAIN, "draining".into()),
    }
}

fn metrics(shared: &Shared) -> Response<String> {
    let mut body = String::new();
    text::encode(&mut body, &shared.registry).expect("a String takes everything");
    reply(StatusCode::OK, OPEN_METRICS, body)
}

fn status(shared: &Shared) -> Response<String> {
    let body = serde_json::to_string(&Status::of(&shared.view)).expect("strings and numbers always serialize");
    reply(StatusCode::OK, JSON, body)
}

fn reply(status: StatusCode, content_type: &'static str, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_sites_may_link_here_and_no_more() {
        for (site, mode, dest, refused) in [
            ("none", "navigate", "document", false),
            ("same-origin", "cors", "empty", false),
            ("cross-site", "navigate", "document", false),
            ("cross-site", "navigate", "iframe", true),
            ("cross-site", "no-cors", "image", true),
            ("same-site", "cors", "empty", true),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in [("sec-fetch-site", site), ("sec-fetch-mode", mode), ("sec-fetch-dest", dest)] {
                headers.insert(name, HeaderValue::from_static(value));
            }
            assert_eq!(is_of_another_site(&headers), refused, "{site} {mode} {dest}");
        }
        assert!(!is_of_another_site(&HeaderMap::new()), "programs send none of these");
    }

    #[test]
    fn only_names_of_this_machine_are_accepted() {
        for (host, accepted) in [
            (None, true),
            (Some(""), false),
            (Some("localhost"), true),
            (Some("LocalHost:9090"), true),
            (Some("127.0.0.1:9090"), true),
            (Some("[::1]:9090"), true),
            (Some("evil.example:9090"), false),
            (Some("127.0.0.1.evil.example"), false),
            (Some("10.0.0.1"), false),
            (Some("a b"), false),
        ] {
            let headers = host.map(|host| (HOST, HeaderValue::from_static(host))).into_iter().collect();
            assert_eq!(names_this_machine(&headers), accepted, "{host:?}");
        }
    }
}
