//! An account: one identity in one region, with its credentials and its clients. The calls of each API are in the file of the API.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_smithy_runtime_api::client::{http::SharedHttpConnector, orchestrator::HttpResponse, result::SdkError};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use ssm_session::control::RawPlus;
use tokio::sync::OnceCell;
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};

use super::{
    Error, Retry,
    calls::Calls,
    credentials::{Cache, Provider, Source},
    http,
    interaction::{Asking, Interaction},
    issue::Issuer,
    meaning::{classify, meaning},
    origin::Origin,
    password::Passwords,
    principal::Principal,
    process,
    profiles::{Environment, Profiles},
};
use crate::target::{Identity, MfaCode, Region};

/// An identity and a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The identity. Its profile wins over keys in the environment, as with the AWS CLI's `--profile`; `None` is the default chain,
    /// `AWS_PROFILE` included.
    pub identity: Identity,
    /// The region whose endpoints are called.
    pub region: Region,
}

/// The accounts of a process.
pub struct Accounts {
    issuer: Arc<Issuer>,
    caches: Mutex<HashMap<Identity, Arc<Cache>>>,
    passwords: Arc<Passwords>,
}

impl Accounts {
    /// Starts without accounts. `interaction` leads to the person who can log in and read an MFA device; `code` is the MFA code for
    /// the first use.
    pub fn new(interaction: Interaction, code: Option<MfaCode>) -> Self {
        Self { issuer: Issuer::new(interaction, code), caches: Mutex::default(), passwords: Arc::default() }
    }

    /// Reads the configuration from the AWS variables and files. Makes no call; credentials are fetched on first use.
    ///
    /// # Errors
    /// [`Error::ProfileNotFound`], [`Error::AwsFile`], [`Error::Setting`] and [`Error::CaBundle`].
    pub fn load(&self, options: &Options) -> Result<Account, Error> {
        let profiles = Profiles::read(Environment::Process, options.identity.profile.as_deref())?;
        let calls = Calls::of(&profiles, self.issuer.clients())?;
        let bundle = profiles.text("AWS_CA_BUNDLE", "ca_bundle")?.map(|bundle| PathBuf::from(bundle.text.as_str()));
        let credentials = {
            let mut caches = self.caches.lock().unwrap_or_else(PoisonError::into_inner);
            let new = || {
                Cache::new(options.identity.clone(), options.region.clone(), Source::Issuer(Arc::clone(&self.issuer)))
            };
            Arc::clone(caches.entry(options.identity.clone()).or_insert_with(new))
        };
        Ok(Account::assemble(options, credentials, Arc::clone(&self.passwords), calls, bundle))
    }
}

/// One identity in one region. Clones share everything.
#[derive(Clone)]
pub struct Account(pub(super) Arc<Shared>);

/// The state of an account, for the calls in the files of their APIs.
pub(super) struct Shared {
    pub(super) region: Region,
    pub(super) identity: Identity,
    pub(super) credentials: Arc<Cache>,
    pub(super) passwords: Arc<Passwords>,
    pub(super) ssm: aws_sdk_ssm::Client,
    pub(super) rds: aws_sdk_rds::Client,
    pub(super) sts: aws_sdk_sts::Client,
    pub(super) principal: OnceCell<Principal>,
    pub(super) session_idle_timeout: OnceCell<Option<Duration>>,
    /// Set if the service accepted a signature in which a raw `+` counts as itself, after refusing the reference client's form.
    pub(super) signs_plus_as_plus: AtomicBool,
    /// The client for services without an SDK, made on first use.
    pub(super) connector: OnceLock<SharedHttpConnector>,
    pub(super) calls: Calls,
    pub(super) ca_bundle: Option<PathBuf>,
}

impl Account {
    pub(super) fn assemble(
        options: &Options,
        credentials: Arc<Cache>,
        passwords: Arc<Passwords>,
        calls: Calls,
        ca_bundle: Option<PathBuf>,
    ) -> Self {
        let provider = SharedCredentialsProvider::new(Provider(Arc::clone(&credentials)));
        let config = |id| calls.config(id, &options.region, provider.clone());
        Self(Arc::new(Shared {
            region: options.region.clone(),
            identity: options.identity.clone(),
            credentials,
            passwords,
            ssm: aws_sdk_ssm::Client::new(&config("ssm")),
            rds: aws_sdk_rds::Client::new(&config("rds")),
            sts: aws_sdk_sts::Client::new(&config("sts")),
            principal: OnceCell::new(),
            session_idle_timeout: OnceCell::new(),
            signs_plus_as_plus: AtomicBool::new(false),
            connector: OnceLock::new(),
            calls,
            ca_bundle,
        }))
    }

    /// The region of a profile in the AWS configuration files. Without a name, the profile of the environment, or `default`.
    ///
    /// # Errors
    /// [`Error::Setting`] if it is not a region, [`Error::AwsFile`] and [`Error::ProfileNotFound`].
    pub fn region_of_profile(profile: Option<&str>) -> Result<Option<Region>, Error> {
        Profiles::read(Environment::Process, profile)?.region()
    }

    /// The names of all profiles in the AWS files, sorted. Empty where a file cannot be read.
    pub fn profiles() -> Vec<String> {
        Profiles::names(Environment::Process)
    }

    /// Reports that a database refused a login signed with our credentials. Credentials without an expiry are then read again.
    pub fn login_was_refused(&self) {
        self.0.credentials.suspect();
    }

    /// The file of additional roots that the variables or the profile name.
    pub fn ca_bundle(&self) -> Option<&Path> {
        self.0.ca_bundle.as_deref()
    }

    /// The region whose endpoints are called.
    pub fn region(&self) -> &Region {
        &self.0.region
    }

    /// The meaning of a raw `+` in the signature of a data channel: the one that the service accepted last.
    pub fn raw_plus(&self) -> RawPlus {
        if self.0.signs_plus_as_plus.load(Ordering::Relaxed) { RawPlus::Plus } else { RawPlus::Space }
    }

    /// Records that the service accepted this meaning after it had refused the other.
    pub fn remember_raw_plus(&self, plus: RawPlus) {
        self.0.signs_plus_as_plus.store(plus == RawPlus::Plus, Ordering::Relaxed);
    }

    /// Valid credentials, from the cache if possible. Concurrent callers share one fetch. Never asks a person.
    ///
    /// # Errors
    /// If there are none; [`Error::CredentialsExpired`] if even new ones have expired.
    pub async fn credentials(&self) -> Result<Credentials, Error> {
        self.0.credentials.get(Asking::No).await
    }

    /// Valid credentials for a waiting client. May ask a person. The question outlives the client, and its answer serves later ones.
    ///
    /// # Errors
    /// As for [`Account::credentials`].
    pub async fn credentials_for_client(&self) -> Result<Credentials, Error> {
        self.0.credentials.get(Asking::Allowed).await
    }

    /// The credentials of the last fetch, whatever is left of their lifetime. Makes no call.
    pub fn held_credentials(&self) -> Option<Credentials> {
        self.0.credentials.held()
    }

    /// Whether a person can be asked to log in, or for an MFA code.
    pub fn may_ask(&self) -> bool {
        self.0.credentials.may_ask()
    }

    /// Whether a `credential_process`, or a command for an MFA code or a password, is running, which may take long.
    pub fn runs_process(&self) -> bool {
        process::is_running()
    }

    /// Whether the SSM endpoint, as the AWS variables and files set it, is on this machine: a sandbox.
    pub fn ssm_endpoint_is_loopback(&self) -> bool {
        self.0.calls.endpoints.url("ssm").is_some_and(http::is_loopback)
    }

    /// The origin of `credentials`: the place, and the profile that led there.
    pub fn source(&self, credentials: &Credentials) -> String {
        match credentials.get_property::<Origin>() {
            Some(Origin { place, profile: Some(profile) }) => format!("{place}, profile {profile:?}"),
            Some(Origin { place, profile: None }) => (*place).into(),
            None => "the default chain".into(),
        }
    }

    /// Makes a call, and once more with fresh credentials when AWS refuses those we had.
    pub(super) async fn call<T, F>(&self, operation: &'static str, attempt: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        // Asked first so that an error about credentials is ours, not one wrapped by the SDK.
        let credentials = self.credentials().await?;
        // The SDK's trace lines hold the session token and the answer's secrets.
        let answer = attempt().with_subscriber(NoSubscriber::default()).await;
        let refused = matches!(&answer, Err(error) if error.retry() == Retry::RefreshCredentials);
        if !refused {
            return answer;
        }
        tracing::debug!(operation, "AWS refused the credentials; fetching new ones");
        self.0.credentials.forget(&credentials);
        self.credentials().await?;
        attempt().with_subscriber(NoSubscriber::default()).await
    }

    /// [`classify`] for this account's profile.
    pub(super) fn classify<E>(&self, operation: &'static str, error: SdkError<E, HttpResponse>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        classify(operation, self.0.identity.profile.as_deref(), error)
    }

    /// [`meaning`] for this account's profile.
    pub(super) fn meaning(&self, operation: &'static str, status: Option<u16>, code: String, message: String) -> Error {
        meaning(operation, self.0.identity.profile.as_deref(), status, (code, message))
    }
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account")
            .field("profile", &self.0.identity.profile)
            .field("region", &self.0.region)
            .finish_non_exhaustive()
    }
}
