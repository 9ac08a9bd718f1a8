//! AWS: credentials that are never stale, the three session calls of SSM, the caller's identity, and signatures.
//!
//! An [`Account`] is one identity in one region. All its calls share one HTTP client (`http`) and one cache of
//! credentials (`credentials`); [`token`] and [`sign`] are pure and make no call. Every call has its own deadline, so
//! none can hang, and runs without a log subscriber: the SDK's own trace lines carry session tokens.
//!
//! It knows nothing of tunnels and databases.

mod credentials;
mod error;
mod http;
mod profiles;
#[cfg(test)]
mod reference;
mod sessions;
pub mod sign;
mod ssm;
mod sts;
pub mod token;

use std::{sync::Arc, time::Duration};

use aws_config::{BehaviorVersion, ConfigLoader, identity::IdentityCache, retry::RetryConfig, timeout::TimeoutConfig};
use aws_credential_types::Credentials;
use tokio::sync::OnceCell;

use self::credentials::{Cache, Source};
pub use self::{
    error::{Error, Retry},
    sessions::OpenSession,
    ssm::{SessionGrant, StartSession},
    sts::Principal,
};
use crate::target::Region;

/// TCP and TLS to an AWS endpoint or a proxy.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
/// One try of a call, answer included.
const ATTEMPT_DEADLINE: Duration = Duration::from_secs(10);
/// A call with all its tries.
const CALL_DEADLINE: Duration = Duration::from_secs(25);
/// Tries in all of a call that fails in a way that may pass (throttled, 5xx, connection lost).
const ATTEMPTS: u32 = 3;

/// Which identity, where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// A profile of the AWS configuration files. It goes before keys in the environment, as with the AWS CLI's
    /// `--profile`; `None` is the default chain, with `AWS_PROFILE` and all.
    pub profile: Option<String>,
    /// The region whose endpoints are called.
    pub region: Region,
}

/// One identity in one region. Clones share everything.
#[derive(Clone)]
pub struct Account(Arc<Shared>);

struct Shared {
    region: Region,
    profile: Option<String>,
    credentials: Arc<Cache>,
    ssm: aws_sdk_ssm::Client,
    ssm_is_loopback: bool,
    sts: aws_sdk_sts::Client,
    principal: OnceCell<Principal>,
}

impl Account {
    /// Reads the configuration that the AWS variables and files give. No call is made: credentials are first fetched
    /// when something needs them.
    ///
    /// # Errors
    /// [`Error::CaBundle`] when `AWS_CA_BUNDLE` is unusable, [`Error::ProfileNotFound`].
    pub async fn load(options: &Options) -> Result<Self, Error> {
        if let Some(profile) = &options.profile {
            profiles::must_exist(profile)?;
        }
        let client = http::client()?;
        let credentials = Cache::new(options.clone(), Source::Settings(client.clone()));
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_DEADLINE)
            .operation_attempt_timeout(ATTEMPT_DEADLINE)
            .operation_timeout(CALL_DEADLINE)
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(client)
            .timeout_config(timeouts)
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS));
        if let Some(profile) = &options.profile {
            loader = loader.profile_name(profile);
        }
        Ok(Self::assemble(options, credentials, loader).await)
    }

    async fn assemble(options: &Options, credentials: Arc<Cache>, loader: ConfigLoader) -> Self {
        let config = loader
            .region(aws_config::Region::new(options.region.as_str().to_owned()))
            .identity_cache(IdentityCache::no_cache()) // ours is behind the provider
            .credentials_provider(credentials::Provider(Arc::clone(&credentials)))
            .load()
            .await;
        Self(Arc::new(Shared {
            region: options.region.clone(),
            profile: options.profile.clone(),
            credentials,
            ssm: aws_sdk_ssm::Client::new(&config),
            ssm_is_loopback: http::endpoint_is_loopback(&config, "SSM"),
            sts: aws_sdk_sts::Client::new(&config),
            principal: OnceCell::new(),
        }))
    }

    /// The region whose endpoints are called.
    pub fn region(&self) -> &Region {
        &self.0.region
    }

    /// Credentials that are valid now, from the cache where possible. Concurrent callers share one fetch.
    ///
    /// # Errors
    /// Why there are none; [`Error::CredentialsExpired`] when even fresh ones have expired.
    pub async fn credentials(&self) -> Result<Credentials, Error> {
        self.0.credentials.get().await
    }

    /// Whether the SSM endpoint, as the AWS variables and files set it, is on this machine: a sandbox.
    pub fn ssm_endpoint_is_loopback(&self) -> bool {
        self.0.ssm_is_loopback
    }
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account")
            .field("profile", &self.0.profile)
            .field("region", &self.0.region)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
