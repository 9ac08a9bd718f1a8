//! The cache of credentials: fetched once for all callers, renewed before they expire, never handed out expired.
//!
//! ```text
//!   more than 5 minutes left      handed out
//!   less, but still valid         handed out, while one task fetches new ones
//!   expired, none, or refused     everyone waits for the one fetch
//! ```
//!
//! Each fetch builds its provider anew, so that files changed in the meantime (`aws sso login`, new keys) are read.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use aws_config::{
    default_provider::credentials::DefaultCredentialsChain, profile::ProfileFileCredentialsProvider,
    provider_config::ProviderConfig,
};
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, error::CredentialsError, future},
};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};

use super::{
    Error, Options,
    profiles::{Login, Profiles},
};

/// How long before expiry new credentials are fetched.
const AHEAD: Duration = Duration::from_mins(5);
/// What must be left for credentials to be used at all: a request signed with them has to arrive.
const USABLE: Duration = Duration::from_secs(10);
/// A fetch, with every process, file and call that it takes (`credential_process` may ask a person).
const FETCH_DEADLINE: Duration = Duration::from_mins(1);
/// Between fetches ahead of time, when they fail.
const PAUSE: Duration = Duration::from_secs(30);

/// The credentials of one [`Options`].
pub(super) struct Cache {
    options: Options,
    client: SharedHttpClient,
    state: Mutex<State>,
    fetching: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct State {
    current: Option<Credentials>,
    tried_ahead: Option<Instant>,
}

impl Cache {
    pub(super) fn new(options: Options, client: SharedHttpClient) -> Arc<Self> {
        Arc::new(Self { options, client, state: Mutex::default(), fetching: Arc::default() })
    }

    /// Credentials that are valid now. Cancel safe.
    pub(super) async fn get(self: &Arc<Self>) -> Result<Credentials, Error> {
        if let Some(credentials) = self.usable() {
            if left(&credentials) < AHEAD {
                self.fetch_ahead();
            }
            return Ok(credentials);
        }
        let _only_one = self.fetching.lock().await;
        // Someone else may have fetched while we waited.
        if let Some(credentials) = self.usable() {
            return Ok(credentials);
        }
        self.fetch().await
    }

    /// Forgets what AWS has refused, so that the next [`Cache::get`] fetches.
    pub(super) fn forget(&self, refused: &Credentials) {
        let mut state = self.lock();
        if state.current.as_ref().is_some_and(|current| current.access_key_id() == refused.access_key_id()) {
            state.current = None;
        }
    }

    fn usable(&self) -> Option<Credentials> {
        self.lock().current.clone().filter(|credentials| left(credentials) > USABLE)
    }

    fn fetch_ahead(self: &Arc<Self>) {
        let Ok(only_one) = Arc::clone(&self.fetching).try_lock_owned() else { return };
        {
            let mut state = self.lock();
            if state.tried_ahead.is_some_and(|tried| tried.elapsed() < PAUSE) {
                return;
            }
            state.tried_ahead = Some(Instant::now());
        }
        let cache = Arc::clone(self);
        // Bounded by the fetch's deadline; nobody waits for it, and at the end of the process it may just stop.
        tokio::spawn(async move {
            if let Err(error) = cache.fetch().await {
                tracing::warn!(cause = %error, "failed to renew AWS credentials ahead of time");
            }
            drop(only_one);
        });
    }

    /// Fetches and keeps. The caller holds `fetching`.
    async fn fetch(&self) -> Result<Credentials, Error> {
        let started = Instant::now();
        let answer =
            tokio::time::timeout(FETCH_DEADLINE, self.provide().with_subscriber(NoSubscriber::default())).await;
        let credentials = match answer {
            Ok(Ok(credentials)) => credentials,
            Ok(Err(cause)) => return Err(self.explain(cause)),
            Err(_) => return Err(Error::CredentialsTimeout { after: started.elapsed() }),
        };
        if let Some(expiry) = credentials.expiry().filter(|expiry| *expiry <= SystemTime::now()) {
            return Err(Error::CredentialsExpired { profile: self.options.profile.clone(), since: expiry });
        }
        self.lock().current = Some(credentials.clone());
        Ok(credentials)
    }

    async fn provide(&self) -> Result<Credentials, CredentialsError> {
        let region = aws_config::Region::new(self.options.region.as_str().to_owned());
        let config = ProviderConfig::without_region().with_region(Some(region)).with_http_client(self.client.clone());
        match &self.options.profile {
            Some(profile) => {
                let provider =
                    ProfileFileCredentialsProvider::builder().configure(&config).profile_name(profile).build();
                provider.provide_credentials().await
            }
            None => DefaultCredentialsChain::builder().configure(config).build().await.provide_credentials().await,
        }
    }

    fn explain(&self, cause: CredentialsError) -> Error {
        let profile = self.options.profile.clone().or_else(|| std::env::var("AWS_PROFILE").ok());
        match cause {
            CredentialsError::CredentialsNotLoaded(_) => Error::NoCredentials { profile, cause },
            CredentialsError::ProviderTimedOut(_) => Error::CredentialsTimeout { after: FETCH_DEADLINE },
            CredentialsError::InvalidConfiguration(_) => Error::CredentialsSettings { profile, cause },
            cause if is_transport(&cause) => Error::CredentialsTransport { cause },
            cause => match Profiles::read().login(profile.as_deref().unwrap_or("default")) {
                Login::Sso { profile } => Error::SsoSessionOver { profile, cause },
                Login::Console { profile } => Error::ConsoleSessionOver { profile, cause },
                Login::Other => Error::Credentials { profile, cause },
            },
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn left(credentials: &Credentials) -> Duration {
    credentials.expiry().map_or(Duration::MAX, |at| at.duration_since(SystemTime::now()).unwrap_or_default())
}

/// Whether a connection failed somewhere below, as opposed to an answer that says no.
fn is_transport(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source())
        .any(<dyn std::error::Error>::is::<aws_smithy_runtime_api::client::result::ConnectorError>)
}

/// The cache in the SDK's terms.
pub(super) struct Provider(pub(super) Arc<Cache>);

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Provider")
    }
}

impl ProvideCredentials for Provider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async { self.0.get().await.map_err(CredentialsError::provider_error) })
    }
}
