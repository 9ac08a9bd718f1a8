//! Shared by the tests of calls, cache and settings: an endpoint with scripted replies, and a provider with scripted credentials.

mod cache;
mod calls;
mod reference;
mod settings;

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use aws_config::retry::RetryConfig;
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, SharedCredentialsProvider, error::CredentialsError, future},
};
use aws_smithy_types::DateTime;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{
    calls::Calls,
    credentials::{Cache, Source},
    interaction::Asking,
    limits::{ATTEMPT_TIMEOUT, ATTEMPTS},
    *,
};
use crate::{stream::BoxIo, target::Identity};

/// An account whose calls go to `endpoint`, with these credentials and hardly any waiting between tries.
pub(crate) async fn account_at(endpoint: &str, region: &str, credentials: Credentials) -> Account {
    let options = Options { identity: Identity::default(), region: region.parse().unwrap() };
    let provider = SharedCredentialsProvider::new(credentials);
    let calls = calls_at(endpoint);
    Account::assemble(
        &options,
        Cache::new(options.identity.clone(), options.region.clone(), Source::Given(provider)),
        Arc::default(),
        calls,
        None,
    )
}

/// Calls that go to `endpoint`, with hardly any waiting between tries.
fn calls_at(endpoint: &str) -> Calls {
    Calls {
        client: http::Clients::default().get(None).unwrap(),
        endpoints: endpoints::Endpoints::at(endpoint),
        retries: RetryConfig::standard().with_max_attempts(ATTEMPTS).with_initial_backoff(Duration::from_millis(1)),
        attempt_timeout: ATTEMPT_TIMEOUT,
        home: PathBuf::new(),
    }
}

const SESSION_TOKEN: &str = "secret-session-token";

/// Answers each request with the next of its answers, the last one for ever; keeps the requests.
pub(crate) struct Fake {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    pub(crate) async fn start(answers: impl IntoIterator<Item = (u16, Value)>) -> Self {
        Self::listen("http", answers, |stream| async { Some(Box::new(stream) as BoxIo) }).await
    }

    async fn listen<A>(
        scheme: &str,
        answers: impl IntoIterator<Item = (u16, Value)>,
        accept: impl Fn(TcpStream) -> A + Send + 'static,
    ) -> Self
    where
        A: Future<Output = Option<BoxIo>> + Send,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{scheme}://localhost:{}", listener.local_addr().unwrap().port());
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let mut answers: VecDeque<_> = answers.into_iter().collect();
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Some(mut stream) = accept(stream).await else { continue };
                let mut request = Vec::new();
                while !complete(&request) {
                    if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        break;
                    }
                }
                // The client has given the connection up, as on a busy machine after its connect timeout.
                if !complete(&request) {
                    continue;
                }
                seen.lock().unwrap().push(String::from_utf8(request).unwrap());
                let Some((status, body)) = answers.front().cloned() else { continue };
                if answers.len() > 1 {
                    answers.pop_front();
                }
                let body = match body {
                    Value::String(text) => text,
                    body => body.to_string(),
                };
                let head =
                    format!("HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
                let _ = stream.write_all((head + &body).as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        Self { url, requests }
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
    body.len() >= length
}

/// Returns the scripted credentials one after the other, and counts its calls.
#[derive(Debug, Clone, Default)]
struct Purse {
    answers: Arc<Mutex<VecDeque<Option<Credentials>>>>,
    asked: Arc<AtomicUsize>,
}

impl Purse {
    fn new(answers: impl IntoIterator<Item = Option<Credentials>>) -> Self {
        Self { answers: Arc::new(Mutex::new(answers.into_iter().collect())), asked: Arc::default() }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn cache(&self) -> Arc<Cache> {
        let Options { identity, region } = options();
        Cache::new(identity, region, Source::Given(SharedCredentialsProvider::new(self.clone())))
    }
}

impl ProvideCredentials for Purse {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            self.asked.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            let next = self.answers.lock().unwrap().pop_front();
            next.expect("no more was to be asked").ok_or_else(|| CredentialsError::not_loaded("nothing here"))
        })
    }
}

fn options() -> Options {
    Options { identity: Identity::default(), region: "eu-central-1".parse().unwrap() }
}

pub(crate) fn credentials(key: &str, lifetime: Option<i64>) -> Credentials {
    let at = |seconds: i64| DateTime::from_secs(DateTime::from(SystemTime::now()).secs() + seconds).try_into().unwrap();
    Credentials::new(key, "secret-access-key", Some(SESSION_TOKEN.into()), lifetime.map(at), "test")
}
