//! AWS: credentials that are never stale, the session calls of SSM, descriptions of databases and managed nodes, the
//! caller's identity, and signatures.
//!
//! An [`Account`] is one identity in one region, one of the [`Accounts`] of a process. Those share one HTTP client
//! (`http`), and accounts with the same identity one cache of credentials (`credentials`), which are made by `issue` with
//! the help of `profiles`, `mfa`, `assume` and `sso`. What only a person can do is asked for by an [`Interaction`].
//! [`token`] and [`sign`] are pure and make no call. Services that are not worth an SDK go through `call`. Every call has
//! its own deadline, so none can hang, and runs without a log subscriber: the SDK's own trace lines carry session tokens.
//!
//! It knows nothing of tunnels and databases.

mod assume;
mod call;
mod credentials;
mod error;
mod flight;
mod hint;
mod http;
mod interaction;
#[cfg(test)]
pub mod invariants;
mod issue;
mod mfa;
pub mod network;
pub mod nodes;
pub mod permission;
mod profiles;
pub mod rds;
#[cfg(test)]
mod reference;
mod sessions;
pub mod sign;
mod source;
mod ssm;
mod sso;
mod start;
mod sts;
pub mod token;
pub mod xml;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_config::{
    BehaviorVersion, ConfigLoader, SdkConfig, identity::IdentityCache, retry::RetryConfig, timeout::TimeoutConfig,
};
use aws_credential_types::Credentials;
use aws_smithy_runtime_api::client::http::{SharedHttpClient, SharedHttpConnector};
use tokio::sync::OnceCell;

pub use self::{
    call::Service,
    error::{Error, Retry},
    interaction::{Answer, Interaction, Prompt},
    sessions::OpenSession,
    ssm::{SessionGrant, StartSession},
    start::Start,
    sts::Principal,
};
use self::{
    credentials::{Asking, Cache, Source},
    issue::Issuer,
    profiles::Profiles,
};
use crate::target::{Identity, MfaCode, Region};

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
    /// Who we are. Its profile goes before keys in the environment, as with the AWS CLI's `--profile`; `None` is the default
    /// chain, with `AWS_PROFILE` and all.
    pub identity: Identity,
    /// The region whose endpoints are called.
    pub region: Region,
}

/// The accounts of a process.
pub struct Accounts {
    issuer: Arc<Issuer>,
    caches: Mutex<HashMap<Identity, Arc<Cache>>>,
}

impl Accounts {
    /// None yet. `interaction` leads to whoever can log in and read an MFA device; `code` is for the first time that one
    /// is wanted.
    ///
    /// # Errors
    /// [`Error::CaBundle`] when `AWS_CA_BUNDLE` is unusable.
    pub fn new(interaction: Interaction, code: Option<MfaCode>) -> Result<Self, Error> {
        Ok(Self { issuer: Issuer::new(http::client()?, interaction, code), caches: Mutex::default() })
    }

    /// Reads the configuration that the AWS variables and files give. No call is made: credentials are first fetched
    /// when something needs them.
    ///
    /// # Errors
    /// [`Error::ProfileNotFound`].
    pub async fn load(&self, options: &Options) -> Result<Account, Error> {
        let profile = options.identity.profile.as_deref();
        if let Some(profile) = profile {
            Profiles::read().must_have(profile)?;
        }
        let credentials = {
            let mut caches = self.caches.lock().unwrap_or_else(PoisonError::into_inner);
            let new = || Cache::new(options.clone(), Source::Issuer(Arc::clone(&self.issuer)));
            Arc::clone(caches.entry(options.identity.clone()).or_insert_with(new))
        };
        let mut loader = loader(self.issuer.client().clone());
        if let Some(profile) = profile {
            loader = loader.profile_name(profile);
        }
        Ok(Account::assemble(options, credentials, loader).await)
    }
}

/// A configuration with our HTTP client, timeouts and retries.
fn loader(client: SharedHttpClient) -> ConfigLoader {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_DEADLINE)
        .operation_attempt_timeout(ATTEMPT_DEADLINE)
        .operation_timeout(CALL_DEADLINE)
        .build();
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(client)
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
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
    rds: aws_sdk_rds::Client,
    sts: aws_sdk_sts::Client,
    principal: OnceCell<Principal>,
    session_idle_timeout: OnceCell<Option<Duration>>,
    /// For the services without an SDK, made when the first of them is called.
    connector: OnceCell<SharedHttpConnector>,
    config: SdkConfig,
}

impl Account {
    async fn assemble(options: &Options, credentials: Arc<Cache>, loader: ConfigLoader) -> Self {
        let config = loader
            .region(aws_config::Region::new(options.region.as_str().to_owned()))
            .identity_cache(IdentityCache::no_cache()) // ours is behind the provider
            .credentials_provider(credentials::Provider(Arc::clone(&credentials)))
            .load()
            .await;
        Self(Arc::new(Shared {
            region: options.region.clone(),
            profile: options.identity.profile.clone(),
            credentials,
            ssm: aws_sdk_ssm::Client::new(&config),
            ssm_is_loopback: http::endpoint_is_loopback(&config, "SSM"),
            rds: aws_sdk_rds::Client::new(&config),
            sts: aws_sdk_sts::Client::new(&config),
            principal: OnceCell::new(),
            session_idle_timeout: OnceCell::new(),
            connector: OnceCell::new(),
            config,
        }))
    }

    /// The region of a profile (`AWS_PROFILE` or `default` for none), as the AWS configuration files have it.
    pub fn region_of_profile(profile: Option<&str>) -> Option<Region> {
        Profiles::read().region(profile)
    }

    /// The region whose endpoints are called.
    pub fn region(&self) -> &Region {
        &self.0.region
    }

    /// Credentials that are valid now, from the cache where possible. Concurrent callers share one fetch. Nobody is asked
    /// for anything.
    ///
    /// # Errors
    /// Why there are none; [`Error::CredentialsExpired`] when even fresh ones have expired.
    pub async fn credentials(&self) -> Result<Credentials, Error> {
        self.0.credentials.get(Asking::No).await
    }

    /// The same for a client that waits: worth a person's while, if one is there. What was asked of that person outlives
    /// the client's patience, and serves the next one.
    ///
    /// # Errors
    /// The same.
    pub async fn credentials_for_client(&self) -> Result<Credentials, Error> {
        self.0.credentials.get(Asking::Allowed).await
    }

    /// Whether somebody is there who can be asked to log in, or for an MFA code.
    pub fn may_ask(&self) -> bool {
        self.0.credentials.may_ask()
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
pub(crate) mod tests;
