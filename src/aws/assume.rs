//! The calls of STS that exchange credentials for other credentials.

use std::{path::Path, sync::Arc, time::Duration};

use aws_config::SdkConfig;
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_sdk_sts::{Client, types};
use aws_smithy_types::error::metadata::ProvideErrorMetadata as _;

use super::{
    Error,
    error::Reason,
    meaning::{classify, unreachable},
    profiles::Role,
};
use crate::target::{Identity, MfaCode, MfaSerial};

/// The requested duration of an MFA session: STS's own default. STS allows up to 36 h.
pub(super) const SESSION: Duration = Duration::from_hours(12);

/// A role to assume.
pub(super) struct Step {
    arn: String,
    external_id: Option<String>,
    session_name: String,
    /// Seconds; `None` is STS's default of an hour.
    duration: Option<i32>,
    /// The MFA device whose code the role requires.
    pub(super) device: Option<MfaSerial>,
}

impl Step {
    pub(super) fn of_profile(role: &Role, identity: &Identity) -> Self {
        Self {
            arn: role.arn.as_str().into(),
            external_id: role.external_id.as_ref().map(|id| id.as_str().to_owned()),
            session_name: role.session_name.as_deref().unwrap_or(identity.session_name.as_str()).into(),
            duration: role.duration,
            device: role.mfa_serial.clone(),
        }
    }

    pub(super) fn of_target(arn: &str, identity: &Identity) -> Self {
        Self {
            arn: arn.into(),
            external_id: identity.external_id.as_ref().map(|id| id.as_str().to_owned()),
            session_name: identity.session_name.as_str().into(),
            duration: None,
            device: None,
        }
    }

    /// AssumeRole.
    ///
    /// # Errors
    /// [`Error::RoleDenied`] if the policies of either side forbid it, and the errors of every call.
    pub(super) async fn assume(
        &self,
        config: &SdkConfig,
        with: Credentials,
        code: Option<(&MfaSerial, &MfaCode)>,
    ) -> Result<Credentials, Error> {
        const OPERATION: &str = "AssumeRole";
        let call = client(config, with).assume_role().role_arn(&self.arn).role_session_name(&self.session_name);
        let mut call = call.set_external_id(self.external_id.clone()).set_duration_seconds(self.duration);
        if let Some((device, code)) = code {
            call = call.serial_number(device.as_str()).token_code(code.as_str());
        }
        let answer = call.send().await.map_err(|error| match classify(OPERATION, None, error) {
            Error::AccessDenied { message, .. } => {
                Error::RoleDenied { role: self.arn.clone(), external_id: self.external_id.is_some(), message }
            }
            error => error,
        })?;
        credentials(OPERATION, answer.credentials)
    }
}

/// GetSessionToken, which only a user with long-term keys can call.
///
/// # Errors
/// [`Error::MfaRefused`] for a wrong code or another user's device, and the errors of every call.
pub(super) async fn session_token(
    config: &SdkConfig,
    with: Credentials,
    device: &MfaSerial,
    code: &MfaCode,
) -> Result<Credentials, Error> {
    const OPERATION: &str = "GetSessionToken";
    let seconds = i32::try_from(SESSION.as_secs()).unwrap_or(i32::MAX);
    let call = client(config, with).get_session_token().duration_seconds(seconds);
    let call = call.serial_number(device.as_str()).token_code(code.as_str());
    let answer = call.send().await.map_err(|error| match classify(OPERATION, None, error) {
        Error::AccessDenied { message, .. } => Error::MfaRefused { device: device.to_string(), message },
        error => error,
    })?;
    credentials(OPERATION, answer.credentials)
}

/// AssumeRoleWithWebIdentity, which is unsigned. `file` is the token's file, for errors.
///
/// # Errors
/// [`Error::WebIdentity`] if STS refuses the token, [`Error::CredentialsTransport`] if STS cannot be reached.
pub(super) async fn web_identity(
    config: &SdkConfig,
    role: &str,
    session_name: &str,
    token: &str,
    file: &Path,
) -> Result<Credentials, Error> {
    let call = Client::new(config).assume_role_with_web_identity().role_arn(role).role_session_name(session_name);
    let answer = call.web_identity_token(token.trim()).send().await.map_err(|error| {
        if error.as_service_error().is_none() {
            return unreachable(error);
        }
        let (code, message) = (error.code().unwrap_or("unknown"), error.message().unwrap_or("(no message)"));
        Error::WebIdentity { file: file.to_owned(), cause: Arc::new(Reason(format!("{code}: {message}"))) }
    })?;
    credentials("AssumeRoleWithWebIdentity", answer.credentials)
}

fn client(config: &SdkConfig, with: Credentials) -> Client {
    Client::new(&config.to_builder().credentials_provider(SharedCredentialsProvider::new(with)).build())
}

fn credentials(operation: &'static str, given: Option<types::Credentials>) -> Result<Credentials, Error> {
    let given = given.ok_or(Error::Incomplete { operation, field: "Credentials" })?;
    let expiration = given.expiration.try_into().map_err(|_| Error::Incomplete { operation, field: "Expiration" })?;
    let (key, secret) = (given.access_key_id, given.secret_access_key);
    Ok(Credentials::new(key, secret, Some(given.session_token), Some(expiration), operation))
}
