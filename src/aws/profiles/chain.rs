//! The source of a profile's credentials, in botocore's order (botocore, `credentials.py`, `create_credential_resolver`
//! and `AssumeRoleProvider`):
//!
//! ```text
//!   keys in the environment, unless a profile was named explicitly
//!   role_arn: the roles, and below them the source_profile or credential_source
//!   web identity ─▶ SSO ─▶ credentials file ─▶ aws login ─▶ credential_process ─▶ config file
//!   ECS ─▶ EC2
//! ```
//!
//! The first one that is configured is used. If it is incomplete, that is an error and the next one is not tried.

use std::{path::PathBuf, sync::Arc};

use aws_credential_types::Credentials;

use super::{Place, Profiles, Setting, words};
use crate::{
    aws::{Error, time},
    target::{ExternalId, MfaSerial, Region, RoleArn},
};

/// The expiry of the keys in the environment, set by `aws configure export-credentials` and other tools.
const EXPIRATION: &str = "AWS_CREDENTIAL_EXPIRATION";

/// Credentials and the roles that are assumed with them.
#[derive(Clone, PartialEq)]
pub(in crate::aws) struct Chain {
    pub(in crate::aws) source: Source,
    /// The profile of `source`; `None` is the environment or the machine.
    pub(in crate::aws) profile: Option<String>,
    /// The roles, in the order in which they are assumed.
    pub(in crate::aws) roles: Vec<Role>,
    /// The MFA device of `profile`, for roles that a target adds.
    pub(in crate::aws) mfa_serial: Option<MfaSerial>,
}

/// The beginning of a chain.
#[derive(Clone, PartialEq)]
pub(in crate::aws) enum Source {
    /// Keys in the environment or a file.
    Keys(Credentials, Place),
    /// A token in a file, for a role.
    WebIdentity { file: PathBuf, role: String, session_name: Option<String> },
    /// IAM Identity Center.
    Sso(Sso),
    /// The session of `aws login`.
    Console(String),
    /// A program and its arguments.
    Process(Vec<String>, Place),
    /// The container's credentials endpoint.
    Container,
    /// The instance metadata service.
    Instance,
}

/// A role in a profile.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::aws) struct Role {
    pub(in crate::aws) arn: RoleArn,
    pub(in crate::aws) external_id: Option<ExternalId>,
    pub(in crate::aws) session_name: Option<String>,
    /// The duration of the session in seconds.
    pub(in crate::aws) duration: Option<i32>,
    pub(in crate::aws) mfa_serial: Option<MfaSerial>,
}

/// The settings of a login with IAM Identity Center.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::aws) struct Sso {
    /// The text whose hash names the token's file: the session's name, or the start URL of a profile without a session.
    pub(in crate::aws) cache_key: String,
    /// Whether `cache_key` is a session's name. Only tokens of sessions are renewed.
    pub(in crate::aws) has_session: bool,
    pub(in crate::aws) region: Region,
    pub(in crate::aws) start_url: String,
    pub(in crate::aws) scopes: Vec<String>,
    pub(in crate::aws) account: String,
    pub(in crate::aws) role: String,
}

impl Source {
    /// The place, in words for people.
    pub(in crate::aws) fn words(&self) -> &'static str {
        match self {
            Self::Keys(_, Place::Variable(_)) => "AWS_ACCESS_KEY_ID in the environment",
            Self::Keys(_, Place::Key { .. }) => "keys in the AWS files",
            Self::WebIdentity { .. } => "a role assumed with a web identity",
            Self::Sso(_) => "IAM Identity Center (SSO)",
            Self::Console(_) => "aws login",
            Self::Process(..) => "a credential process",
            Self::Container => "the container's credentials endpoint",
            Self::Instance => "the instance metadata service",
        }
    }
}

impl Profiles {
    /// The source of the credentials of the profile in use.
    ///
    /// # Errors
    /// [`Error::Setting`] and [`Error::ChainBroken`], for profiles that botocore refuses too.
    pub(in crate::aws) fn chain(&self) -> Result<Chain, Error> {
        let name = Some(self.in_use()).filter(|name| !name.is_empty()).unwrap_or_else(|| super::DEFAULT.into());
        if self.explicit.is_none()
            && let Some(source) = self.environment_keys()?
        {
            return Ok(Chain { source, profile: None, roles: Vec::new(), mfa_serial: None });
        }
        if self.has_role(&name) {
            let mut roles = Vec::new();
            let (source, profile) = self.follow(&name, &mut vec![name.clone()], &mut roles)?;
            roles.reverse();
            return Ok(Chain { source, profile, roles, mfa_serial: None });
        }
        if let Some(source) = self.own_source(&name, self.explicit.is_none())? {
            let mfa_serial = self.mfa_serial(&name)?;
            return Ok(Chain { source, profile: Some(name), roles: Vec::new(), mfa_serial });
        }
        let source = if self.container_is_configured() { Source::Container } else { Source::Instance };
        Ok(Chain { source, profile: None, roles: Vec::new(), mfa_serial: None })
    }

    /// The places in which the profile in use and the environment have no credentials, each with the reason.
    pub(in crate::aws) fn tried(&self) -> Vec<String> {
        let name = Some(self.in_use()).filter(|name| !name.is_empty()).unwrap_or_else(|| super::DEFAULT.into());
        let mut tried = Vec::new();
        if self.explicit.is_none() {
            tried.push("AWS_ACCESS_KEY_ID is not set".to_owned());
        }
        tried.push(if self.exists(&name) {
            format!("profile {name:?} has no credentials")
        } else {
            let [config, credentials] = [&self.paths.config, &self.paths.credentials].map(|path| path.display());
            format!("there is no profile {name:?} in {config} or {credentials}")
        });
        if self.explicit.is_none() {
            tried.push("AWS_WEB_IDENTITY_TOKEN_FILE is not set".to_owned());
        }
        tried.push("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is not set".to_owned());
        tried
    }

    fn environment_keys(&self) -> Result<Option<Source>, Error> {
        let environment = self.environment();
        let Some(key) = environment.set("AWS_ACCESS_KEY_ID") else { return Ok(None) };
        let place = Place::Variable("AWS_ACCESS_KEY_ID".into());
        let secret = environment.set("AWS_SECRET_ACCESS_KEY");
        let secret = secret.ok_or_else(|| place.refuse("AWS_SECRET_ACCESS_KEY is missing or empty beside it"))?;
        // botocore gives precedence to the first, older name.
        let token = environment.set("AWS_SECURITY_TOKEN").or_else(|| environment.set("AWS_SESSION_TOKEN"));
        let expires = environment.set(EXPIRATION).map(|at| {
            time::parse(&at)
                .ok_or_else(|| Place::Variable(EXPIRATION.into()).refuse("not a time such as 2026-01-31T12:00:00Z"))
        });
        let credentials = Credentials::new(key, secret, token, expires.transpose()?, "environment");
        Ok(Some(Source::Keys(credentials, place)))
    }

    fn has_role(&self, profile: &str) -> bool {
        self.has(profile, "role_arn") && !self.has(profile, "web_identity_token_file")
    }

    fn has_keys(&self, profile: &str) -> bool {
        self.has(profile, "aws_access_key_id") || self.has(profile, "aws_secret_access_key")
    }

    fn container_is_configured(&self) -> bool {
        let environment = self.environment();
        ["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"]
            .iter()
            .any(|name| environment.get(name).is_some())
    }

    /// Adds the roles of `profile` and of its source profiles, the last one first, and finds the source of their credentials.
    fn follow(
        &self,
        profile: &str,
        visited: &mut Vec<String>,
        roles: &mut Vec<Role>,
    ) -> Result<(Source, Option<String>), Error> {
        let (role, place) = self.role(profile)?;
        roles.push(role);
        let (below, machine) = (self.get(profile, "source_profile")?, self.get(profile, "credential_source")?);
        let below = match (below, machine) {
            (Some(below), None) => below,
            (None, Some(machine)) => return Ok((self.machine(&machine)?, None)),
            (Some(_), Some(machine)) => {
                return Err(machine.place.refuse("source_profile is set as well; only one of them can be"));
            }
            (None, None) => return Err(place.refuse("the profile needs source_profile or credential_source beside it")),
        };
        let (name, place) = (below.text.as_str(), &below.place);
        if !self.exists(name) {
            return Err(place.refuse("there is no such profile"));
        }
        // A profile may name itself as the source of its own keys.
        if visited.iter().any(|known| known == name) && !(name == profile && self.has_keys(name)) {
            return Err(place.refuse("the chain of source profiles is a loop"));
        }
        visited.push(name.to_owned());
        if !self.has_keys(name) && self.has_role(name) {
            return self.follow(name, visited, roles);
        }
        let source = self.own_source(name, false)?.ok_or_else(|| place.refuse("the profile has no credentials"))?;
        Ok((source, Some(name.to_owned())))
    }

    /// `credential_source`.
    fn machine(&self, setting: &Setting) -> Result<Source, Error> {
        match setting.text.as_str() {
            "Environment" => {
                self.environment_keys()?.ok_or_else(|| setting.place.refuse("the environment has no AWS_ACCESS_KEY_ID"))
            }
            "EcsContainer" if self.container_is_configured() => Ok(Source::Container),
            "EcsContainer" => Err(setting
                .place
                .refuse("this is not an ECS container: AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is not set")),
            "Ec2InstanceMetadata" => Ok(Source::Instance),
            _ => Err(setting.place.refuse("expected Environment, EcsContainer or Ec2InstanceMetadata")),
        }
    }

    fn role(&self, profile: &str) -> Result<(Role, Place), Error> {
        let missing = || Error::ChainBroken { profile: profile.into(), missing: "role_arn".into() };
        let setting = self.get(profile, "role_arn")?.ok_or_else(missing)?;
        let text = |key| Ok::<_, Error>(self.get(profile, key)?.map(|setting| setting.text.to_string()));
        let role = Role {
            arn: setting.text.parse().map_err(|_| setting.place.refuse("not the ARN of a role"))?,
            external_id: self.parsed(profile, "external_id", "not an external id of 2 to 1224 characters")?,
            session_name: text("role_session_name")?.filter(|name| !name.is_empty()),
            duration: self.parsed(profile, "duration_seconds", "not a number of seconds")?,
            mfa_serial: self.mfa_serial(profile)?,
        };
        Ok((role, setting.place))
    }

    fn mfa_serial(&self, profile: &str) -> Result<Option<MfaSerial>, Error> {
        self.parsed(profile, "mfa_serial", "not an MFA device: expected its ARN or serial number")
    }

    fn parsed<T: std::str::FromStr>(
        &self,
        profile: &str,
        key: &str,
        problem: &'static str,
    ) -> Result<Option<T>, Error> {
        let setting = self.get(profile, key)?;
        setting.map(|setting| setting.text.parse().map_err(|_| setting.place.refuse(problem))).transpose()
    }

    /// The source of a profile's credentials, ignoring `role_arn`. The environment may name a web identity token.
    fn own_source(&self, profile: &str, of_environment: bool) -> Result<Option<Source>, Error> {
        if let Some(source) = self.web_identity(profile, of_environment)? {
            return Ok(Some(source));
        }
        if let Some(sso) = self.sso(profile)? {
            return Ok(Some(Source::Sso(sso)));
        }
        if let Some(source) = keys(self.credentials.get(profile), &self.paths.credentials)? {
            return Ok(Some(source));
        }
        if let Some(session) = self.get(profile, "login_session")? {
            return Ok(Some(Source::Console(session.some()?.to_owned())));
        }
        if let Some(command) = self.get(profile, "credential_process")? {
            let words = words::split(&command.text).filter(|words| !words.is_empty());
            let words =
                words.ok_or_else(|| command.place.refuse("not a command: a quote is not closed, or it is empty"))?;
            return Ok(Some(Source::Process(words, command.place)));
        }
        keys(self.config.get(profile), &self.paths.config)
    }

    fn web_identity(&self, profile: &str, of_environment: bool) -> Result<Option<Source>, Error> {
        let get = |variable: &str, key: &str| match self.environment().get(variable).filter(|_| of_environment) {
            Some(text) => Ok(Some(Setting { text: text.into(), place: Place::Variable(variable.into()) })),
            None => self.get(profile, key),
        };
        let file = get("AWS_WEB_IDENTITY_TOKEN_FILE", "web_identity_token_file")?;
        let Some(file) = file.filter(|file| !file.text.is_empty()) else { return Ok(None) };
        let role = get("AWS_ROLE_ARN", "role_arn")?.filter(|role| !role.text.is_empty());
        let role =
            role.ok_or_else(|| file.place.refuse("there is a token but no role: set role_arn, or AWS_ROLE_ARN"))?;
        let _: RoleArn = role.text.parse().map_err(|_| role.place.refuse("not the ARN of a role"))?;
        let session_name = get("AWS_ROLE_SESSION_NAME", "role_session_name")?.filter(|name| !name.text.is_empty());
        Ok(Some(Source::WebIdentity {
            file: file.text.as_str().into(),
            role: role.text.to_string(),
            session_name: session_name.map(|name| name.text.to_string()),
        }))
    }

    /// The IAM Identity Center settings of a profile that names a role or an account of it.
    fn sso(&self, profile: &str) -> Result<Option<Sso>, Error> {
        if !self.has(profile, "sso_role_name") && !self.has(profile, "sso_account_id") {
            return Ok(None);
        }
        let session = self.get(profile, "sso_session")?;
        let section = match &session {
            Some(name) => Some(
                self.sso_sessions
                    .get(name.text.as_str())
                    .ok_or_else(|| name.place.refuse("there is no such sso-session section"))?,
            ),
            None => None,
        };
        // Keys of the old form are allowed beside a session if both agree.
        for (key, entry) in section.into_iter().flatten() {
            let of_session = super::setting(key, entry, &self.paths.config)?;
            if let Some(own) = self.get(profile, key)?
                && own.text != of_session.text
            {
                return Err(own.place.refuse("the sso-session says something else"));
            }
        }
        let get = |key: &str| {
            let of_session = section.and_then(|section| section.get(key));
            let found = match of_session {
                Some(entry) => Some(super::setting(key, entry, &self.paths.config)?),
                // A session brings its own URL and region.
                None if section.is_some() && matches!(key, "sso_start_url" | "sso_region") => None,
                None => self.get(profile, key)?,
            };
            found.ok_or_else(|| Error::ChainBroken { profile: profile.into(), missing: key.into() })
        };
        let (start_url, region) = (get("sso_start_url")?, get("sso_region")?);
        let scopes = get("sso_registration_scopes").map(|scopes| scopes.text.to_string()).unwrap_or_default();
        let mut scopes: Vec<String> =
            scopes.split(',').map(str::trim).filter(|scope| !scope.is_empty()).map(str::to_owned).collect();
        if session.is_some() && scopes.is_empty() {
            // The smallest scope that allows a renewal of the session.
            scopes.push("sso:account:access".into());
        }
        Ok(Some(Sso {
            cache_key: session.as_ref().map_or_else(|| start_url.text.to_string(), |name| name.text.to_string()),
            has_session: session.is_some(),
            region: region.text.parse().map_err(|_| region.place.refuse("not an AWS region such as eu-central-1"))?,
            start_url: start_url.some()?.to_owned(),
            scopes,
            account: get("sso_account_id")?.some()?.to_owned(),
            role: get("sso_role_name")?.some()?.to_owned(),
        }))
    }
}

/// The keys in one file.
fn keys(section: Option<&super::Keys>, path: &Arc<std::path::Path>) -> Result<Option<Source>, Error> {
    let get = |key: &str| {
        let entry = section.and_then(|section| section.get(key));
        entry.map(|entry| super::setting(key, entry, path)).transpose()
    };
    let Some(key) = get("aws_access_key_id")? else { return Ok(None) };
    let secret = get("aws_secret_access_key")?;
    let secret = secret.ok_or_else(|| key.place.refuse("aws_secret_access_key is missing beside it"))?;
    // botocore gives precedence to the first, older name.
    let token = match get("aws_security_token")? {
        Some(token) => Some(token),
        None => get("aws_session_token")?,
    };
    let token = token.map(|token| token.text.to_string()).filter(|token| !token.is_empty());
    let credentials = Credentials::new(key.some()?, secret.some()?, token, None, "profile");
    Ok(Some(Source::Keys(credentials, key.place)))
}
