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
    error::Error as StdError,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use aws_config::{
    default_provider::credentials::DefaultCredentialsChain, imds::client::error::ImdsError,
    profile::ProfileFileCredentialsProvider, provider_config::ProviderConfig,
};
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, error::CredentialsError, future},
};
use aws_smithy_runtime_api::client::{http::SharedHttpClient, result::ConnectorError};
use aws_smithy_types::{DateTime, date_time::Format};
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};

use super::{
    Error, Options,
    profiles::{self, Login, Profiles},
};

/// How long before expiry new credentials are fetched.
const AHEAD: Duration = Duration::from_mins(5);
/// What must be left for credentials to be used at all: a request signed with them has to arrive.
const USABLE: Duration = Duration::from_secs(10);
/// A fetch, with every process, file and call that it takes (`credential_process` may ask a person).
const FETCH_DEADLINE: Duration = Duration::from_mins(1);
/// Between fetches ahead of time that fail or bring nothing newer.
const PAUSE: Duration = Duration::from_secs(30);
/// When the keys in the environment expire (RFC 3339): set by `aws configure export-credentials` and others, known to the
/// AWS CLI, not to the SDK.
const EXPIRATION: &str = "AWS_CREDENTIAL_EXPIRATION";

/// The credentials of one [`Options`].
pub(super) struct Cache {
    options: Options,
    source: Source,
    state: Mutex<State>,
    fetching: Arc<tokio::sync::Mutex<()>>,
}

/// Where credentials come from.
pub(super) enum Source {
    /// The AWS variables and files; services that issue credentials are called with this client.
    Settings(SharedHttpClient),
    #[cfg(test)]
    Given(aws_credential_types::provider::SharedCredentialsProvider),
}

#[derive(Default)]
struct State {
    current: Option<Credentials>,
    /// Counts fetches that ended; the last one's error is kept for those who waited for it.
    fetches: u64,
    failure: Option<Error>,
    tried_ahead: Option<Instant>,
}

impl Cache {
    pub(super) fn new(options: Options, source: Source) -> Arc<Self> {
        Arc::new(Self { options, source, state: Mutex::default(), fetching: Arc::default() })
    }

    /// Credentials that are valid now. Cancel safe.
    pub(super) async fn get(self: &Arc<Self>) -> Result<Credentials, Error> {
        if let Some(credentials) = self.usable() {
            if left(&credentials) < AHEAD {
                self.fetch_ahead();
            }
            return Ok(credentials);
        }
        let fetches = self.lock().fetches;
        let _only_one = self.fetching.lock().await;
        // Someone else's fetch may have ended while we waited, well or badly.
        if let Some(credentials) = self.usable() {
            return Ok(credentials);
        }
        if let State { fetches: now, failure: Some(failure), .. } = &*self.lock()
            && *now != fetches
        {
            return Err(failure.clone());
        }
        self.fetch().await
    }

    /// Forgets what AWS has refused, so that the next [`Cache::get`] fetches.
    pub(super) fn forget(&self, refused: &Credentials) {
        let mut state = self.lock();
        if state.current.as_ref() == Some(refused) {
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
        let fetched = self.fetch_fresh().await;
        let mut state = self.lock();
        state.fetches += 1;
        match &fetched {
            Ok(credentials) => (state.current, state.failure) = (Some(credentials.clone()), None),
            Err(error) => state.failure = Some(error.clone()),
        }
        fetched
    }

    async fn fetch_fresh(&self) -> Result<Credentials, Error> {
        let provided = self.provide().with_subscriber(NoSubscriber::default());
        let mut credentials = match tokio::time::timeout(FETCH_DEADLINE, provided).await {
            Ok(Ok(credentials)) => credentials,
            Ok(Err(cause)) => return Err(self.explain(cause)),
            Err(_) => return Err(Error::CredentialsTimeout { after: FETCH_DEADLINE }),
        };
        if credentials.expiry().is_none()
            && std::env::var("AWS_ACCESS_KEY_ID").is_ok_and(|key| key == credentials.access_key_id())
        {
            *credentials.expiry_mut() = expiration_in_environment();
        }
        match credentials.expiry() {
            Some(since) if since <= SystemTime::now() => {
                Err(Error::CredentialsExpired { profile: self.options.profile.clone(), since })
            }
            _ => Ok(credentials),
        }
    }

    async fn provide(&self) -> Result<Credentials, CredentialsError> {
        let client = match &self.source {
            Source::Settings(client) => client.clone(),
            #[cfg(test)]
            Source::Given(provider) => return provider.provide_credentials().await,
        };
        let region = aws_config::Region::new(self.options.region.as_str().to_owned());
        let config = ProviderConfig::without_region().with_region(Some(region)).with_http_client(client);
        match &self.options.profile {
            Some(profile) => {
                let provider = ProfileFileCredentialsProvider::builder().configure(&config).profile_name(profile);
                provider.build().provide_credentials().await
            }
            None => DefaultCredentialsChain::builder().configure(config).build().await.provide_credentials().await,
        }
    }

    fn explain(&self, cause: CredentialsError) -> Error {
        let profile = self.options.profile.clone().or_else(|| std::env::var("AWS_PROFILE").ok());
        // The chain ends with the metadata service, whose address may be answered by something else.
        let nothing = matches!(cause, CredentialsError::CredentialsNotLoaded(_)) || has::<ImdsError>(&cause);
        // A connection failed somewhere below, as opposed to an answer that says no.
        let transport = has::<ConnectorError>(&cause);
        let cause = Arc::new(cause);
        match *cause {
            // The SDK passes over an AWS_PROFILE that does not exist.
            _ if nothing => match profile.as_deref().map(profiles::must_exist) {
                Some(Err(not_found)) => not_found,
                _ => Error::NoCredentials { profile, cause },
            },
            CredentialsError::ProviderTimedOut(_) => Error::CredentialsTimeout { after: FETCH_DEADLINE },
            CredentialsError::InvalidConfiguration(_) => Error::CredentialsSettings { profile, cause },
            _ if transport => Error::CredentialsTransport { cause },
            _ => match Profiles::read().login(profile.as_deref().unwrap_or("default")) {
                Login::Sso { profile } => Error::SsoSessionOver { profile, cause },
                Login::Console { profile } => Error::ConsoleSessionOver { profile, cause },
                Login::Mfa { profile } => Error::MfaNeeded { profile, cause },
                Login::Other => Error::Credentials { profile, cause },
            },
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn expiration_in_environment() -> Option<SystemTime> {
    let at = std::env::var(EXPIRATION).ok()?;
    DateTime::from_str(&at, Format::DateTimeWithOffset).ok()?.try_into().ok()
}

fn left(credentials: &Credentials) -> Duration {
    credentials.expiry().map_or(Duration::MAX, |at| at.duration_since(SystemTime::now()).unwrap_or_default())
}

/// Whether an `E` is among an error and its causes.
fn has<E: StdError + 'static>(error: &(dyn StdError + 'static)) -> bool {
    std::iter::successors(Some(error), |&error| error.source()).any(<dyn StdError>::is::<E>)
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
