//! The token of an SSO login in the format of AWS's tools, and the credentials behind it. The rules are those of botocore
//! (`tokens.py`, `SSOTokenProvider`; `credentials.py`, `SSOCredentialFetcher`).

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_credential_types::Credentials;
use aws_lc_rs::digest;
use aws_smithy_types::error::metadata::ProvideErrorMetadata as _;
use serde::Serialize;
use serde_json::Value;
use zeroize::Zeroizing;

use super::file::{hash, replace, seconds, utc};
use crate::aws::{
    Error,
    calls::Calls,
    error::{Cause, Reason},
    meaning::unreachable,
    profiles::Sso,
    time,
};

/// The time before expiry at which a token is renewed: botocore's `_REFRESH_WINDOW`.
const RENEW_BEFORE: Duration = Duration::from_mins(15);
/// The largest file that is read.
const LIMIT: u64 = 1 << 20;

/// The token file of the AWS CLI, with its keys in the CLI's order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Kept<'a> {
    pub(super) start_url: &'a str,
    pub(super) region: &'a str,
    pub(super) access_token: &'a str,
    pub(super) expires_at: String,
    pub(super) client_id: Option<&'a str>,
    pub(super) client_secret: Option<&'a str>,
    pub(super) registration_expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refresh_token: Option<&'a str>,
}

impl Kept<'_> {
    /// # Errors
    /// [`Error::TokenFile`].
    pub(super) fn write(&self, path: &Path) -> Result<(), Error> {
        let failed = |cause| Error::TokenFile { path: path.to_owned(), cause: Arc::new(cause) };
        let text = serde_json::to_vec(self).map(Zeroizing::new).map_err(|cause| failed(cause.into()))?;
        replace(path, &text).map_err(failed)
    }
}

/// The token file for these settings.
pub(super) fn file_of(home: &Path, settings: &Sso) -> PathBuf {
    let name = hash(&digest::SHA1_FOR_LEGACY_USE_ONLY, &settings.cache_key);
    home.join(".aws/sso/cache").join(format!("{name}.json"))
}

/// A token from a file.
struct Token {
    text: Zeroizing<String>,
    expires: SystemTime,
    renewal: Option<Renewal>,
}

/// The values needed to renew a token.
struct Renewal {
    refresh_token: Zeroizing<String>,
    client_id: String,
    client_secret: Zeroizing<String>,
    /// The text from the file, which is written back unchanged.
    registration_expires_at: String,
}

impl Token {
    /// # Errors
    /// The missing or invalid key of the file.
    fn read(path: &Path) -> Result<Self, Reason> {
        let place = path.display();
        let metadata = std::fs::metadata(path).map_err(|cause| Reason(format!("{place}: {cause}")))?;
        if !metadata.is_file() || metadata.len() > LIMIT {
            return Err(Reason(format!("{place} is not a file of at most 1 MiB")));
        }
        let bytes = std::fs::read(path).map(Zeroizing::new).map_err(|cause| Reason(format!("{place}: {cause}")))?;
        let kept: Value = serde_json::from_slice(&bytes).map_err(|_| Reason(format!("{place} is not JSON")))?;
        let text = |key| kept.get(key).and_then(Value::as_str).map(str::to_owned);
        let needed = |key| text(key).ok_or_else(|| Reason(format!("{place} has no `{key}`")));
        let at = |key: &str, text: &str| {
            time::parse(text).ok_or_else(|| Reason(format!("`{key}` in {place} is not a time with an offset")))
        };
        let renewal = (|| {
            Some(Renewal {
                refresh_token: text("refreshToken")?.into(),
                client_id: text("clientId")?,
                client_secret: text("clientSecret")?.into(),
                registration_expires_at: text("registrationExpiresAt")?,
            })
        })();
        if let Some(renewal) = &renewal {
            at("registrationExpiresAt", &renewal.registration_expires_at)?;
        }
        Ok(Self {
            text: needed("accessToken")?.into(),
            expires: at("expiresAt", &needed("expiresAt")?)?,
            renewal: renewal.filter(|renewal| time::parse(&renewal.registration_expires_at).is_some_and(is_ahead)),
        })
    }
}

fn is_ahead(at: SystemTime) -> bool {
    at > SystemTime::now()
}

/// Gets the credentials of a role.
///
/// # Errors
/// [`Error::SsoSessionOver`] if a person must log in, [`Error::SsoRole`] if a login would not help, and the errors of every call.
pub(in crate::aws) async fn credentials(profile: &str, settings: &Sso, calls: &Calls) -> Result<Credentials, Error> {
    const OPERATION: &str = "GetRoleCredentials";
    let path = file_of(&calls.home, settings);
    let over = |cause: Cause| Error::SsoSessionOver { profile: profile.into(), cause };
    let mut token = Token::read(&path).map_err(|reason| over(Arc::new(reason)))?;
    if settings.has_session
        && !is_ahead(token.expires - RENEW_BEFORE)
        && let Some(renewed) = renew(&token, settings, calls, &path).await?
    {
        token = renewed;
    }
    if !is_ahead(token.expires) {
        let at = utc(token.expires);
        return Err(over(Arc::new(Reason(format!("`expiresAt` in {} was {at}", path.display())))));
    }
    let client = aws_sdk_sso::Client::new(&calls.anonymous("sso", &settings.region));
    let call = client.get_role_credentials().account_id(&settings.account).role_name(&settings.role);
    let answer =
        call.access_token(token.text.as_str()).send().await.map_err(|error| match error.as_service_error() {
            Some(refusal) if refusal.is_unauthorized_exception() => {
                over(Arc::new(Reason("AWS refused the token".into())))
            }
            Some(refusal) => Error::SsoRole {
                profile: profile.into(),
                code: refusal.code().unwrap_or("unknown").into(),
                message: safe_display::printable::without_tokens(refusal.message().unwrap_or("(no message)")).into(),
            },
            None => unreachable(error),
        })?;
    let missing = |field| move || Error::Incomplete { operation: OPERATION, field };
    let given = answer.role_credentials.ok_or_else(missing("roleCredentials"))?;
    let expires = u64::try_from(given.expiration).map_err(|_| missing("expiration")())?;
    Ok(Credentials::new(
        given.access_key_id.ok_or_else(missing("accessKeyId"))?,
        given.secret_access_key.ok_or_else(missing("secretAccessKey"))?,
        given.session_token.filter(|token| !token.is_empty()),
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(expires)),
        "sso",
    ))
}

/// Renews a token and stores the new one. `None` if that fails, because the old one may still be valid for a while.
async fn renew(token: &Token, settings: &Sso, calls: &Calls, path: &Path) -> Result<Option<Token>, Error> {
    let Some(renewal) = &token.renewal else { return Ok(None) };
    let client = aws_sdk_ssooidc::Client::new(&calls.anonymous("sso_oidc", &settings.region));
    let call = client.create_token().grant_type("refresh_token").refresh_token(renewal.refresh_token.as_str());
    let call = call.client_id(&renewal.client_id).client_secret(renewal.client_secret.as_str());
    let answer = match call.send().await {
        Ok(answer) => answer,
        Err(error) if error.as_service_error().is_none() && !is_ahead(token.expires) => {
            return Err(unreachable(error));
        }
        Err(_) => return Ok(None),
    };
    let Some(text) = answer.access_token.clone() else { return Ok(None) };
    let expires = SystemTime::now() + seconds(answer.expires_in);
    let kept = Kept {
        start_url: &settings.start_url,
        region: settings.region.as_str(),
        access_token: &text,
        expires_at: utc(expires),
        client_id: Some(&renewal.client_id),
        client_secret: Some(renewal.client_secret.as_str()),
        registration_expires_at: Some(renewal.registration_expires_at.clone()),
        refresh_token: Some(answer.refresh_token.as_deref().unwrap_or(renewal.refresh_token.as_str())),
    };
    kept.write(path)?;
    Ok(Some(Token { text: text.into(), expires, renewal: None }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_read_in_every_time_format_and_faults_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token.json");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Token::read(&path).map_err(|reason| reason.to_string())
        };
        for at in ["2096-01-01T00:00:00Z", "2096-01-01T00:00:00UTC", "2096-01-01t01:00:00.5+01:00"] {
            let token = read(&format!(r#"{{"accessToken": "hush", "expiresAt": "{at}"}}"#)).unwrap();
            assert_eq!(token.expires, time::parse("2096-01-01T00:00:00Z").unwrap(), "{at}");
        }
        for (text, fault) in [
            ("hush", "is not JSON"),
            (r#"{"accessToken": "hush"}"#, "has no `expiresAt`"),
            (r#"{"expiresAt": "hush"}"#, "has no `accessToken`"),
            (r#"{"accessToken": "hush", "expiresAt": "2096-01-01T00:00:00"}"#, "`expiresAt` in"),
        ] {
            let error = read(text).map(drop).unwrap_err();
            assert!(error.contains(fault) && error.contains("token.json") && !error.contains("hush"), "{error}");
        }
    }
}
