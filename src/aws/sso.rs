//! Logins in a browser: the one of IAM Identity Center, which rdsgate conducts, and `aws login`, for which it waits.
//!
//! ```text
//!   RegisterClient ─▶ StartDeviceAuthorization ─▶ the person opens the page and approves
//!                                              └▶ CreateToken, every second or so ─▶ ~/.aws/sso/cache/….json
//! ```
//!
//! This is RFC 8628, through the IAM Identity Center OIDC API. The token is stored in the place and format of the AWS CLI, and
//! `token` reads it from there. A login through rdsgate therefore serves every tool, and rdsgate uses logins of other tools.

pub(super) mod token;

use std::{
    collections::HashMap,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use aws_config::SdkConfig;
use aws_lc_rs::digest;
use aws_sdk_ssooidc::{
    Client,
    operation::{create_token::CreateTokenOutput, register_client::RegisterClientOutput},
};
use aws_smithy_types::{DateTime, date_time::Format, error::metadata::ProvideErrorMetadata};
use tokio::time::Instant;
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};
use zeroize::Zeroizing;

use self::token::{Kept, file_of};
use super::{
    Error,
    flight::Flight,
    interaction::{Interaction, Prompt},
    profiles::{Environment, Sso},
    ssm::classify,
};

/// The grant type of RFC 8628, section 3.4.
const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// The polling interval unless the service sets another, and its increase on `slow_down` (RFC 8628, section 3.5).
const INTERVAL: Duration = Duration::from_secs(5);
/// The longest wait for a login. The limit of the service itself is ten minutes.
const LOGIN_TIMEOUT: Duration = Duration::from_mins(15);
/// The polling interval for a file that another program will write.
const FILE_POLL_INTERVAL: Duration = Duration::from_secs(1);

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
        kept.write(&self.file.path)
    }

    fn failed(&self, reason: &'static str) -> Error {
        Error::SsoLogin { profile: self.profile.clone(), reason }
    }
}

/// A file that another program may write, with its time of modification when the wait began.
struct File {
    path: PathBuf,
    modified: Option<SystemTime>,
}

impl File {
    fn new(path: PathBuf) -> Self {
        let modified = modified(&path);
        Self { path, modified }
    }

    /// Resolves once the file has been written again.
    async fn changed(&self) {
        while modified(&self.path).is_none_or(|now| Some(now) == self.modified) {
            tokio::time::sleep(FILE_POLL_INTERVAL).await;
        }
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|meta| meta.modified()).ok()
}

/// Replaces a file atomically. The new one is readable by its owner only.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let (mut folders, mut options) = (std::fs::DirBuilder::new(), std::fs::OpenOptions::new());
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
        folders.mode(0o700);
        options.mode(0o600);
    }
    folders.recursive(true).create(folder)?;
    let temporary = folder.join(format!("rdsgate-{}.tmp", uuid::Uuid::new_v4()));
    let written = options.write(true).create_new(true).open(&temporary).and_then(|mut file| {
        file.write_all(text)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    });
    if written.is_err() {
        // The temporary file may not exist; in any case it must not stay.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

fn hash(algorithm: &'static digest::Algorithm, text: &str) -> String {
    digest::digest(algorithm, text.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn seconds(number: i32) -> Duration {
    Duration::from_secs(u64::try_from(number).unwrap_or_default())
}

fn utc(at: impl Into<DateTime>) -> String {
    // The AWS CLI writes no fraction.
    let at = DateTime::from_secs(at.into().secs());
    at.fmt(Format::DateTime).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn replaced_file_is_noticed_and_readable_by_its_owner_only() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("sso/cache/token.json");
        let file = File::new(path.clone());
        assert!(tokio::time::timeout(Duration::from_millis(20), file.changed()).await.is_err(), "not there yet");
        replace(&path, b"first").unwrap();
        file.changed().await;
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        }
    }

    #[test]
    fn failed_replacement_leaves_no_file_behind() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("token.json");
        std::fs::create_dir_all(folder.join("full")).unwrap();
        replace(&folder, b"text").unwrap_err();
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn times_and_names_are_those_of_the_aws_cli() {
        assert_eq!(utc(SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_225_600_900)), "2026-01-01T00:00:00Z");
        // The SDK's own examples: `sso/cache.rs` and `login/cache.rs` of aws-config.
        let sha1 = hash(&digest::SHA1_FOR_LEGACY_USE_ONLY, "https://d-92671207e4.awsapps.com/start");
        assert_eq!(sha1, "13f9d35043871d073ab260e020f0ffde092cb14b");
        let sha256 = hash(&digest::SHA256, "arn:aws:iam::0123456789012:user/Admin");
        assert_eq!(sha256, "36db1d138ff460920374e4c3d8e01f53f9f73537e89c88d639f68393df0e2726");
    }

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
