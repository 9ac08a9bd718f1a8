//! Logins in a browser: the one of IAM Identity Center, which rdsgate conducts, and `aws login`, for which it waits.
//!
//! ```text
//!   RegisterClient ─▶ StartDeviceAuthorization ─▶ the person opens the page and approves
//!                                              └▶ CreateToken, every second or so ─▶ ~/.aws/sso/cache/….json
//! ```
//!
//! This is RFC 8628, through the IAM Identity Center OIDC API. The token is stored in the place and format of the AWS CLI, and
//! `token` reads it from there. A login through rdsgate therefore serves every tool, and rdsgate uses logins of other tools.

mod file;
pub(super) mod token;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use aws_config::SdkConfig;
use aws_lc_rs::digest;
use aws_sdk_ssooidc::{
    Client,
    operation::{create_token::CreateTokenOutput, register_client::RegisterClientOutput},
};
use aws_smithy_types::{DateTime, error::metadata::ProvideErrorMetadata};
use tokio::time::Instant;
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};
use zeroize::Zeroizing;

use self::{
    file::{File, hash, seconds, utc},
    token::{Kept, file_of},
};
use super::{
    Error,
    flight::Flight,
    interaction::{Interaction, Prompt},
    meaning::classify,
    profiles::{Environment, Sso},
};

/// The grant type of RFC 8628, section 3.4.
const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// The polling interval unless the service sets another, and its increase on `slow_down` (RFC 8628, section 3.5).
const INTERVAL: Duration = Duration::from_secs(5);
/// The longest wait for a login. The limit of the service itself is ten minutes.
const LOGIN_TIMEOUT: Duration = Duration::from_mins(15);

/// The logins in progress, by the file that they write. Callers that need the same login share it.
#[derive(Default)]
pub(super) struct Logins(Mutex<HashMap<PathBuf, Flight<()>>>);

impl Logins {
    /// Logs in to IAM Identity Center.
    ///
    /// # Errors
    /// [`Error::SsoLogin`] if it was refused or not finished, [`Error::TokenFile`], and the errors of every call.
    pub(super) async fn sso(
        &self,
        profile: &str,
        settings: Sso,
        config: SdkConfig,
        interaction: &Interaction,
    ) -> Result<(), Error> {
        let path = file_of(&Environment::Process.home(), &settings);
        let login = Login {
            client: Client::new(&config),
            profile: profile.into(),
            settings,
            file: File::new(path.clone()),
            interaction: interaction.clone(),
        };
        self.join(path, login.conduct()).await
    }

    /// Waits until `aws login` has been run.
    ///
    /// # Errors
    /// [`Error::ConsoleLogin`] on a timeout.
    pub(super) async fn console(&self, profile: &str, session: &str, interaction: &Interaction) -> Result<(), Error> {
        let folder = std::env::var_os("AWS_LOGIN_CACHE_DIRECTORY").map(PathBuf::from);
        let folder = folder.unwrap_or_else(|| Environment::Process.home().join(".aws/login/cache"));
        let path = folder.join(format!("{}.json", hash(&digest::SHA256, session.trim())));
        let (profile, interaction, file) = (profile.to_owned(), interaction.clone(), File::new(path.clone()));
        let wait = async move {
            interaction.show(Prompt::ConsoleLogin { profile: profile.clone() });
            let done = tokio::time::timeout(LOGIN_TIMEOUT, file.changed()).await;
            done.map_err(|_| Error::ConsoleLogin { profile: profile.clone() })?;
            interaction.show(Prompt::LoggedIn { profile });
            Ok(())
        };
        self.join(path, wait).await
    }

    /// Joins the login that writes `path`, or starts one. It continues when the caller leaves.
    async fn join(
        &self,
        path: PathBuf,
        work: impl Future<Output = Result<(), Error>> + Send + 'static,
    ) -> Result<(), Error> {
        let mine = || Flight::start(work.with_subscriber(NoSubscriber::default()));
        let login = {
            let mut logins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            logins.retain(|_, login| login.is_under_way());
            logins.entry(path).or_insert_with(mine).clone()
        };
        login.outcome().await
    }
}

/// One login to IAM Identity Center.
struct Login {
    client: Client,
    profile: String,
    settings: Sso,
    file: File,
    interaction: Interaction,
}

impl Login {
    async fn conduct(self) -> Result<(), Error> {
        const START: &str = "StartDeviceAuthorization";
        let scopes = Some(self.settings.scopes.clone()).filter(|scopes| !scopes.is_empty());
        let call = self.client.register_client().client_name("rdsgate").client_type("public").set_scopes(scopes);
        let registration = call.send().await.map_err(|error| classify("RegisterClient", Some(&self.profile), error))?;
        let call = self.client.start_device_authorization().start_url(&self.settings.start_url);
        let call = call.set_client_id(registration.client_id.clone());
        let call = call.set_client_secret(registration.client_secret.clone());
        let device = call.send().await.map_err(|error| classify(START, Some(&self.profile), error))?;
        let missing = |field| move || Error::Incomplete { operation: START, field };
        let page = device.verification_uri_complete.or(device.verification_uri);
        let lasts = seconds(device.expires_in).min(LOGIN_TIMEOUT);
        self.interaction.show(Prompt::SsoLogin {
            profile: self.profile.clone(),
            url: page.ok_or_else(missing("verificationUri"))?,
            code: device.user_code.ok_or_else(missing("userCode"))?,
            lasts,
        });
        let code = Zeroizing::new(device.device_code.ok_or_else(missing("deviceCode"))?);
        let interval = if device.interval > 0 { seconds(device.interval) } else { INTERVAL };
        let approved = tokio::select! {
            approved = self.poll(&registration, &code, interval) => Some(approved?),
            // A login with the AWS CLI was faster.
            () = self.file.changed() => None,
            () = tokio::time::sleep_until(Instant::now() + lasts) => {
                return Err(self.failed("it was not approved in time"));
            }
        };
        if let Some(token) = approved {
            self.keep(&registration, &token)?;
        }
        self.interaction.show(Prompt::LoggedIn { profile: self.profile });
        Ok(())
    }

    /// Polls until the person has decided.
    async fn poll(
        &self,
        registration: &RegisterClientOutput,
        code: &str,
        mut interval: Duration,
    ) -> Result<CreateTokenOutput, Error> {
        loop {
            tokio::time::sleep(interval).await;
            let call = self.client.create_token().grant_type(GRANT).device_code(code);
            let call = call.set_client_id(registration.client_id.clone());
            let error = match call.set_client_secret(registration.client_secret.clone()).send().await {
                Ok(token) => return Ok(token),
                Err(error) => error,
            };
            match error.code() {
                Some("SlowDownException") => interval += INTERVAL,
                Some("AccessDeniedException") => return Err(self.failed("it was refused")),
                Some("ExpiredTokenException") => return Err(self.failed("it was not approved in time")),
                // Still pending. Network failures are ignored, because a login takes minutes.
                Some("AuthorizationPendingException" | "InternalServerException") | None => {}
                Some(_) => return Err(classify("CreateToken", Some(&self.profile), error)),
            }
        }
    }

    fn keep(&self, registration: &RegisterClientOutput, token: &CreateTokenOutput) -> Result<(), Error> {
        let access_token = token.access_token.as_deref();
        let kept = Kept {
            start_url: &self.settings.start_url,
            region: self.settings.region.as_str(),
            access_token: access_token.ok_or(Error::Incomplete { operation: "CreateToken", field: "accessToken" })?,
            expires_at: utc(SystemTime::now() + seconds(token.expires_in)),
            client_id: registration.client_id.as_deref(),
            client_secret: registration.client_secret.as_deref(),
            registration_expires_at: Some(utc(DateTime::from_secs(registration.client_secret_expires_at))),
            refresh_token: token.refresh_token.as_deref(),
        };
        kept.write(self.file.path())
    }

    fn failed(&self, reason: &'static str) -> Error {
        Error::SsoLogin { profile: self.profile.clone(), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn finished_login_is_not_joined_again() {
        let logins = Logins::default();
        let path = PathBuf::from("token");
        let fail = |reason: &'static str| async move { Err(Error::SsoLogin { profile: "dev".into(), reason }) };
        let never = logins.join(path.clone(), fail("first"));
        // The first caller leaves before the login ends.
        drop(tokio::time::timeout(Duration::ZERO, never).await);
        loop {
            tokio::task::yield_now().await;
            let outcome = logins.join(path.clone(), fail("second")).await;
            if matches!(outcome, Err(Error::SsoLogin { reason: "second", .. })) {
                break;
            }
        }
    }
}
