//! Makes credentials from a [`Source`].

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_config::{
    ecs::EcsCredentialsProvider,
    imds::{self, client::error::ImdsError, credentials::ImdsCredentialsProvider},
    login::LoginCredentialsProvider,
};
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, error::CredentialsError},
};
use aws_smithy_runtime_api::client::result::ConnectorError;

use super::{
    Error, assume,
    calls::Calls,
    endpoints,
    error::{Reason, Tried},
    meaning::{described, find},
    process,
    profiles::{Chain, Profiles, Source},
    sso,
};
use crate::{outbound, target::Region};

/// The time limit for a provider of the SDK, including all its files and calls.
const SDK_TIMEOUT: Duration = Duration::from_mins(1);
/// The largest token of a web identity.
const TOKEN_LIMIT: u64 = 1 << 20;

/// Makes the credentials that a chain begins with. `session_name` is for a web identity whose profile has none.
///
/// # Errors
/// If there are none.
pub(super) async fn provide(
    chain: &Chain,
    profiles: &Profiles,
    calls: &Calls,
    region: &Region,
    session_name: &str,
) -> Result<Credentials, Error> {
    let profile = chain.profile.clone();
    let credentials = match &chain.source {
        Source::Keys(keys, _) => keys.clone(),
        Source::WebIdentity { file, role, session_name: own } => {
            let token = token(file)?;
            let session_name = own.as_deref().unwrap_or(session_name);
            let config = calls.anonymous("sts", region);
            assume::web_identity(&config, role, session_name, &token, file).await?
        }
        Source::Sso(settings) => {
            sso::token::credentials(profile.as_deref().unwrap_or_default(), settings, calls).await?
        }
        Source::Console(session) => {
            let provider =
                LoginCredentialsProvider::builder(session.as_str()).configure(&calls.provider_config(region)).build();
            match ask(provider).await {
                Ok(credentials) => credentials,
                Err(Error::Credentials { cause, .. }) => {
                    return Err(Error::ConsoleSessionOver { profile: profile.unwrap_or_default(), cause });
                }
                Err(error) => return Err(error),
            }
        }
        Source::Process(words, place) => {
            let ran = process::run(words, place).await;
            ran.map_err(|reason| Error::Credentials { profile: profile.clone(), cause: Arc::new(reason) })?
        }
        Source::Container => {
            ask(EcsCredentialsProvider::builder().configure(&calls.provider_config(region)).build()).await?
        }
        Source::Instance => instance(profiles, calls, region).await.map_err(|error| match error {
            Error::NoCredentials { cause, .. } => {
                if let Some(unreadable) = profiles.unreadable() {
                    return unreadable;
                }
                // Only where the chain ended here is it a list.
                let mut tried = if chain.roles.is_empty() { profiles.tried() } else { Vec::new() };
                tried.push(match cause.downcast_ref::<Reason>() {
                    Some(reason) => reason.to_string(),
                    None => "the instance metadata service gives none: this is not an EC2 instance with a role".into(),
                });
                Error::NoCredentials { profile: profiles.existing(), cause: Arc::new(Tried(tried)) }
            }
            error => error,
        })?,
    };
    match credentials.expiry() {
        Some(since) if since <= SystemTime::now() => {
            let place = match &chain.source {
                Source::Keys(..) => Some("`AWS_CREDENTIAL_EXPIRATION` in the environment".to_owned()),
                Source::Process(_, place) => Some(format!("`Expiration` in the output of {place}")),
                _ => None,
            };
            Err(Error::CredentialsExpired { profile, place, since })
        }
        _ => Ok(credentials),
    }
}

async fn instance(profiles: &Profiles, calls: &Calls, region: &Region) -> Result<Credentials, Error> {
    let switched_off = profiles.environment().get("AWS_EC2_METADATA_DISABLED");
    if switched_off.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        let cause = Arc::new(Reason("AWS_EC2_METADATA_DISABLED turns the instance metadata service off".into()));
        return Err(Error::NoCredentials { profile: None, cause });
    }
    let config = calls.provider_config(region);
    let client = imds::Client::builder().configure(&config).endpoint(endpoints::instance_metadata(profiles)?);
    let client = client.map_err(|cause| Error::NoCredentials { profile: None, cause: cause.into() })?.build();
    ask(ImdsCredentialsProvider::builder().configure(&config).imds_client(client).build()).await
}

/// Calls one of the SDK's providers.
async fn ask(provider: impl ProvideCredentials) -> Result<Credentials, Error> {
    let answer = tokio::time::timeout(SDK_TIMEOUT, provider.provide_credentials()).await;
    let cause = match answer.map_err(|_| Error::CredentialsTimeout { after: SDK_TIMEOUT })? {
        Ok(credentials) => return Ok(credentials),
        Err(cause) => cause,
    };
    // The chain ends with the metadata service, at whose address another program may answer.
    let nothing = matches!(cause, CredentialsError::CredentialsNotLoaded(_)) || find::<ImdsError>(&cause).is_some();
    let timed_out = matches!(cause, CredentialsError::ProviderTimedOut(_));
    // A connection failed; the service did not reply.
    let transport = find::<ConnectorError>(&cause).is_some();
    let proxy = find::<outbound::Error>(&cause).cloned();
    let cause = described(cause);
    Err(match proxy {
        Some(proxy) => Error::Proxy(proxy),
        None if nothing => Error::NoCredentials { profile: None, cause },
        None if timed_out => Error::CredentialsTimeout { after: SDK_TIMEOUT },
        None if transport => Error::CredentialsTransport { cause },
        None => Error::Credentials { profile: None, cause },
    })
}

/// The token of a web identity.
fn token(path: &Path) -> Result<String, Error> {
    let failed = |reason: String| Error::WebIdentity { file: path.to_owned(), cause: Arc::new(Reason(reason)) };
    let metadata = std::fs::metadata(path).map_err(|cause| failed(cause.to_string()))?;
    if !metadata.is_file() || metadata.len() > TOKEN_LIMIT {
        return Err(failed("it is not a file of at most 1 MiB".into()));
    }
    std::fs::read_to_string(path).map_err(|cause| failed(cause.to_string()))
}
