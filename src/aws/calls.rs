//! The settings that all calls to AWS share: HTTP client, endpoints, timeouts and retries. The SDK receives all of them and reads
//! no variables and files by itself, so that its calls and ours agree.

use std::{path::PathBuf, time::Duration};

use aws_config::{
    BehaviorVersion, SdkConfig, identity::IdentityCache, provider_config::ProviderConfig, retry::RetryConfig,
    timeout::TimeoutConfig,
};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_async::{
    rt::sleep::{SharedAsyncSleep, TokioSleep},
    time::SystemTimeSource,
};

use super::{
    Error,
    endpoints::Endpoints,
    http,
    limits::{ATTEMPT_TIMEOUT, ATTEMPTS, CALL_TIMEOUT, CONNECT_TIMEOUT},
    profiles::Profiles,
};
use crate::target::Region;

/// The shared settings of calls. See the module's description.
#[derive(Clone)]
pub(super) struct Calls {
    pub(super) client: http::Client,
    pub(super) endpoints: Endpoints,
    pub(super) retries: RetryConfig,
    /// The time limit for one attempt of a call, including the reply.
    pub(super) attempt_timeout: Duration,
    /// The home folder, which contains the caches of logins.
    pub(super) home: PathBuf,
}

impl Calls {
    /// Reads the settings from the variables and the profile in use.
    ///
    /// # Errors
    /// [`Error::CaBundle`], [`Error::Setting`].
    pub(super) fn of(profiles: &Profiles, clients: &http::Clients) -> Result<Self, Error> {
        let bundle = profiles.text("AWS_CA_BUNDLE", "ca_bundle")?;
        Ok(Self {
            client: clients.get(bundle.as_ref())?,
            endpoints: Endpoints::of(profiles)?,
            retries: RetryConfig::standard().with_max_attempts(ATTEMPTS),
            attempt_timeout: ATTEMPT_TIMEOUT,
            home: profiles.environment().home(),
        })
    }

    /// The configuration for calls of one service. Its id is as in `AWS_ENDPOINT_URL_<SERVICE>`, in lower case.
    pub(super) fn config(&self, id: &str, region: &Region, credentials: SharedCredentialsProvider) -> SdkConfig {
        let config = self.builder(region).credentials_provider(credentials).build();
        self.endpoints.tell(id, &config)
    }

    /// The configuration for unsigned calls.
    pub(super) fn anonymous(&self, id: &str, region: &Region) -> SdkConfig {
        self.endpoints.tell(id, &self.builder(region).build())
    }

    fn builder(&self, region: &Region) -> aws_types::sdk_config::Builder {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(self.attempt_timeout)
            .operation_timeout(CALL_TIMEOUT)
            .build();
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(self.client.sdk.clone())
            .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
            .time_source(SystemTimeSource::new())
            .identity_cache(IdentityCache::no_cache()) // ours is behind the provider
            .timeout_config(timeouts)
            .retry_config(self.retries.clone())
            .region(aws_config::Region::new(region.as_str().to_owned()))
    }

    /// The configuration for the SDK's own credential providers.
    pub(super) fn provider_config(&self, region: &Region) -> ProviderConfig {
        let (fips, dual_stack) = self.endpoints.switches();
        ProviderConfig::without_region()
            .with_region(Some(aws_config::Region::new(region.as_str().to_owned())))
            .with_http_client(self.client.sdk.clone())
            .with_use_fips(Some(fips))
            .with_use_dual_stack(Some(dual_stack))
    }
}
