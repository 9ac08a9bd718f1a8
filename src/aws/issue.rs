//! How the credentials of an [`Identity`] are made, each time from the start:
//!
//! ```text
//!   chain or profile ─▶ SDK: keys, SSO, aws login, credential_process, web identity, ECS, EC2
//!                        │  session over: log in (`sso`), or wait until somebody has
//!                        ▼
//!                  MFA device ─▶ GetSessionToken (`mfa`) ─▶ AssumeRole, once for each role ─▶ credentials
//! ```
//!
//! Files are read each time, so that what changed in the meantime (`aws sso login`, new keys) counts. Roles are assumed
//! here and not by the SDK, which has no MFA.

use std::{
    error::Error as StdError,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_config::{
    SdkConfig, default_provider::credentials::DefaultCredentialsChain, imds::client::error::ImdsError,
    profile::ProfileFileCredentialsProvider, provider_config::ProviderConfig,
};
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, error::CredentialsError},
};
use aws_sdk_sso::operation::get_role_credentials::GetRoleCredentialsError;
use aws_smithy_runtime_api::client::{
    http::SharedHttpClient,
    orchestrator::HttpResponse,
    result::{ConnectorError, SdkError},
};
use aws_smithy_types::{DateTime, date_time::Format, error::metadata::ProvideErrorMetadata};
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};

use super::{
    Error,
    credentials::Asking,
    interaction::Interaction,
    loader,
    mfa::{Device, Devices},
    profiles::{Chain, Login, Profiles, Role, Source},
    sso::Logins,
};
use crate::target::{Identity, MfaCode, Region};

/// What the SDK does, with every process, file and call that it takes (`credential_process` may ask a person).
const SDK_DEADLINE: Duration = Duration::from_mins(1);
/// Logins that are tried for one fetch: that of a profile, and once more if it was already over when it came.
const LOGINS: usize = 2;
/// No role wants a code that is younger than this: one that is denied is denied for another reason.
const FRESH: Duration = Duration::from_mins(15);
/// When the keys in the environment expire (RFC 3339): set by `aws configure export-credentials` and others, known to the
/// AWS CLI, not to the SDK.
const EXPIRATION: &str = "AWS_CREDENTIAL_EXPIRATION";

/// Makes credentials. What identities have in common is kept here: codes, MFA sessions, logins.
pub(super) struct Issuer {
    client: SharedHttpClient,
    interaction: Interaction,
    devices: Devices,
    logins: Logins,
}

/// A role to assume.
pub(super) struct Step {
    pub(super) arn: String,
    pub(super) external_id: Option<String>,
    pub(super) session_name: String,
    /// Seconds; `None` is STS's hour.
    pub(super) duration: Option<i32>,
    device: Option<String>,
}

impl Issuer {
    pub(super) fn new(client: SharedHttpClient, interaction: Interaction, code: Option<MfaCode>) -> Arc<Self> {
        let devices = Devices::new(interaction.clone(), code);
        Arc::new(Self { client, interaction, devices, logins: Logins::default() })
    }

    pub(super) fn client(&self) -> &SharedHttpClient {
        &self.client
    }

    /// Whether somebody can be asked.
    pub(super) fn may_ask(&self) -> bool {
        self.interaction.is_there()
    }

    /// Makes credentials, with a person's help where that is allowed and needed. May take as long as that person does.
    pub(super) async fn issue(
        &self,
        identity: &Identity,
        region: &Region,
        asking: Asking,
    ) -> Result<Credentials, Error> {
        let asking = if self.may_ask() { asking } else { Asking::No };
        for _ in 0..LOGINS {
            match self.try_issue(identity, region, asking).await {
                Err(Error::SsoSessionOver { profile, cause }) if asking == Asking::Allowed => {
                    let Some(settings) = Profiles::read().sso(&profile) else {
                        return Err(Error::SsoSessionOver { profile, cause });
                    };
                    let config = self.config(Some(&profile), &settings.region).await;
                    self.logins.sso(&profile, settings, config, &self.interaction).await?;
                }
                Err(Error::ConsoleSessionOver { profile, cause }) if asking == Asking::Allowed => {
                    let profiles = Profiles::read();
                    let Some(session) = profiles.login_session(&profile) else {
                        return Err(Error::ConsoleSessionOver { profile, cause });
                    };
                    self.logins.console(&profile, session, &self.interaction).await?;
                }
                outcome => return outcome,
            }
        }
        self.try_issue(identity, region, Asking::No).await
    }

    async fn try_issue(&self, identity: &Identity, region: &Region, asking: Asking) -> Result<Credentials, Error> {
        let profiles = Profiles::read();
        let named = profile_in_use(identity);
        let chain = named.as_deref().filter(|name| profiles.must_have(name).is_ok()).map(|name| profiles.chain(name));
        let (source, roles) = match chain {
            Some(Chain { source, roles }) => (Some(source), roles),
            None => (None, Vec::new()),
        };
        let user = match &source {
            Some(Source::Profile(name) | Source::Keys { profile: name, .. }) => Some(*name),
            None => None,
        };
        let mut steps: Vec<Step> = roles.iter().map(|role| Step::of_profile(role, identity)).collect();
        let inherited = user.filter(|_| steps.is_empty() && !identity.roles.is_empty());
        let inherited = inherited.and_then(|user| profiles.mfa_serial(user)).map(str::to_owned);
        steps.extend(identity.roles.iter().map(|role| Step::of_target(role.as_str(), identity)));
        // A role has no device, so it is the user at the beginning whose device counts.
        let device = identity.mfa_serial.as_ref().map(|serial| serial.as_str().to_owned()).or(inherited);
        if let (Some(first), Some(device)) = (steps.first_mut(), &device) {
            first.device = Some(device.clone());
        }
        let mut credentials = match source {
            Some(Source::Keys { keys, .. }) => keys,
            // Also the place of the environment's keys and of what a machine has.
            _ if identity.profile.is_none() && roles.is_empty() => self.ask_sdk(None, named.as_deref(), region).await?,
            Some(Source::Profile(name)) => self.ask_sdk(Some(name), None, region).await?,
            None => self.ask_sdk(identity.profile.as_deref(), None, region).await?,
        };
        if steps.is_empty() && device.is_none() {
            return Ok(credentials);
        }
        let config = self.config(user, region.as_str()).await;
        let work = async {
            if let (true, Some(device)) = (steps.is_empty(), device) {
                let device = Device::new(&device, identity)?;
                return Ok(self.devices.session(&config, &credentials, &device, asking).await?.credentials);
            }
            for step in &steps {
                credentials = self.take(step, identity, &config, credentials, asking).await?;
            }
            Ok(credentials)
        };
        work.with_subscriber(NoSubscriber::default()).await
    }

    /// Assumes a role, with its device's help if it has one.
    async fn take(
        &self,
        step: &Step,
        identity: &Identity,
        config: &SdkConfig,
        credentials: Credentials,
        asking: Asking,
    ) -> Result<Credentials, Error> {
        let Some(device) = &step.device else { return step.assume(config, credentials, None).await };
        let device = Device::new(device, identity)?;
        // Only keys that do not end can be made into a session; others bring the code along.
        if credentials.session_token().is_some() {
            let code = self.devices.code(&device, None, asking).await?;
            return step.assume(config, credentials, Some((&device, &code))).await;
        }
        let session = self.devices.session(config, &credentials, &device, asking).await?;
        match step.assume(config, session.credentials, None).await {
            // A role may want a code that is younger than our session (aws:MultiFactorAuthAge). Others may be content with it.
            Err(Error::RoleDenied { .. }) if session.age > FRESH && asking == Asking::Allowed => {
                self.devices.forget(&credentials, &device).await;
                let session = self.devices.session(config, &credentials, &device, asking).await?;
                step.assume(config, session.credentials, None).await
            }
            outcome => outcome,
        }
    }

    /// For calls to AWS's services with credentials that are given to each.
    async fn config(&self, profile: Option<&str>, region: &str) -> SdkConfig {
        let mut loader =
            loader(self.client.clone()).region(aws_config::Region::new(region.to_owned())).no_credentials();
        if let Some(profile) = profile {
            loader = loader.profile_name(profile);
        }
        loader.load().with_subscriber(NoSubscriber::default()).await
    }

    /// Credentials as the SDK finds them: those of `profile`, or of its default chain, which looks at `named`.
    async fn ask_sdk(&self, profile: Option<&str>, named: Option<&str>, region: &Region) -> Result<Credentials, Error> {
        let region = aws_config::Region::new(region.as_str().to_owned());
        let config = ProviderConfig::without_region().with_region(Some(region)).with_http_client(self.client.clone());
        let provided = async {
            match profile {
                Some(profile) => {
                    let provider = ProfileFileCredentialsProvider::builder().configure(&config).profile_name(profile);
                    provider.build().provide_credentials().await
                }
                None => DefaultCredentialsChain::builder().configure(config).build().await.provide_credentials().await,
            }
        };
        let profile = profile.or(named).map(str::to_owned);
        let provided = provided.with_subscriber(NoSubscriber::default());
        let mut credentials = match tokio::time::timeout(SDK_DEADLINE, provided).await {
            Ok(Ok(credentials)) => credentials,
            Ok(Err(cause)) => return Err(explain(profile, cause)),
            Err(_) => return Err(Error::CredentialsTimeout { after: SDK_DEADLINE }),
        };
        if credentials.expiry().is_none()
            && std::env::var("AWS_ACCESS_KEY_ID").is_ok_and(|key| key == credentials.access_key_id())
        {
            *credentials.expiry_mut() = expiration_in_environment();
        }
        match credentials.expiry() {
            Some(since) if since <= SystemTime::now() => Err(Error::CredentialsExpired { profile, since }),
            _ => Ok(credentials),
        }
    }
}

impl Step {
    fn of_profile(role: &Role<'_>, identity: &Identity) -> Self {
        Self {
            arn: role.arn.into(),
            external_id: role.external_id.map(str::to_owned),
            session_name: role.session_name.unwrap_or(identity.session_name.as_str()).into(),
            duration: role.duration,
            device: role.mfa_serial.map(str::to_owned),
        }
    }

    fn of_target(arn: &str, identity: &Identity) -> Self {
        Self {
            arn: arn.into(),
            external_id: identity.external_id.as_ref().map(|id| id.as_str().to_owned()),
            session_name: identity.session_name.as_str().into(),
            duration: None,
            device: None,
        }
    }
}

/// The profile that decides: the one that was asked for; else, where the environment has no keys, which go before it, the
/// environment's.
fn profile_in_use(identity: &Identity) -> Option<String> {
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    identity.profile.clone().or_else(|| match set("AWS_ACCESS_KEY_ID").and(set("AWS_SECRET_ACCESS_KEY")) {
        Some(_) => None,
        None => Some(set("AWS_PROFILE").unwrap_or_else(|| "default".into())),
    })
}

/// Why the SDK has no credentials, in our terms. `profile` is the one that it looked at.
fn explain(profile: Option<String>, cause: CredentialsError) -> Error {
    let profiles = Profiles::read();
    let profile = profile.filter(|name| name != "default" || profiles.must_have(name).is_ok());
    // The chain ends with the metadata service, whose address may be answered by something else.
    let nothing = matches!(cause, CredentialsError::CredentialsNotLoaded(_)) || find::<ImdsError>(&cause).is_some();
    // A connection failed somewhere below, as opposed to an answer that says no.
    let transport = find::<ConnectorError>(&cause).is_some();
    let login = profile.as_deref().map_or(Login::Other, |profile| profiles.login(profile));
    let login = match std::env::var_os("AWS_WEB_IDENTITY_TOKEN_FILE") {
        Some(file) if profile.is_none() => Login::WebIdentity { file: file.into() },
        _ => login,
    };
    let cause = Arc::new(cause);
    let refused = find::<SdkError<GetRoleCredentialsError, HttpResponse>>(&*cause)
        .and_then(SdkError::as_service_error)
        .filter(|error| !error.is_unauthorized_exception());
    match (&*cause, login) {
        // The SDK passes over an AWS_PROFILE that does not exist.
        (_, _) if nothing => match profile.as_deref().map(|profile| profiles.must_have(profile)) {
            Some(Err(not_found)) => not_found,
            _ => Error::NoCredentials { profile, cause },
        },
        (CredentialsError::ProviderTimedOut(_), _) => Error::CredentialsTimeout { after: SDK_DEADLINE },
        (CredentialsError::InvalidConfiguration(_), _) => Error::CredentialsSettings { profile, cause },
        (_, _) if transport => Error::CredentialsTransport { cause },
        (_, Login::Sso) => match refused {
            Some(error) => Error::SsoRole {
                profile: profile.unwrap_or_default(),
                code: error.code().unwrap_or("unknown").into(),
                message: error.message().unwrap_or("no further words").into(),
            },
            None => Error::SsoSessionOver { profile: profile.unwrap_or_default(), cause },
        },
        (_, Login::Console) => Error::ConsoleSessionOver { profile: profile.unwrap_or_default(), cause },
        (_, Login::WebIdentity { file }) => Error::WebIdentity { file, cause },
        (_, Login::Other) => Error::Credentials { profile, cause },
    }
}

fn expiration_in_environment() -> Option<SystemTime> {
    let at = std::env::var(EXPIRATION).ok()?;
    DateTime::from_str(&at, Format::DateTimeWithOffset).ok()?.try_into().ok()
}

/// The first `E` among an error and its causes.
fn find<'e, E: StdError + 'static>(error: &'e (dyn StdError + 'static)) -> Option<&'e E> {
    std::iter::successors(Some(error), |&error| error.source()).find_map(<dyn StdError>::downcast_ref)
}
