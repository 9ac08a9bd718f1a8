//! What the AWS configuration files say of a profile: that it exists, how it logs in, which roles it assumes.
//!
//! The SDK reads the files for real, where keys and tokens come from. It passes over a profile that does not exist as if
//! none had been named, and over `mfa_serial`; that is why roles are read here, and assumed by [`super::issue`].

use std::{collections::BTreeMap, path::PathBuf};

use aws_credential_types::Credentials;

use super::Error;
use crate::target::Region;

type Keys = BTreeMap<String, String>;

/// The sections of both files, each with its keys.
#[derive(Default)]
pub(super) struct Profiles {
    profiles: BTreeMap<String, Keys>,
    sso_sessions: BTreeMap<String, Keys>,
}

/// What a section's title names.
enum Section<'s> {
    Profile(&'s str),
    SsoSession(&'s str),
}

impl Profiles {
    /// Reads the files that the environment names, or those in the home directory. Unreadable ones count as empty, as
    /// for the SDK.
    pub(super) fn read() -> Self {
        let home = std::env::home_dir().unwrap_or_default();
        let path =
            |variable, name| std::env::var_os(variable).map_or_else(|| home.join(".aws").join(name), PathBuf::from);
        let text = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
        let mut profiles = Self::default();
        profiles.add(&text(path("AWS_CONFIG_FILE", "config")), |section| match section.split_once([' ', '\t']) {
            None => (section == "default").then_some(Section::Profile(section)),
            Some(("profile", name)) => Some(Section::Profile(name)),
            Some(("sso-session", name)) => Some(Section::SsoSession(name)),
            Some(_) => None,
        });
        profiles
            .add(&text(path("AWS_SHARED_CREDENTIALS_FILE", "credentials")), |section| Some(Section::Profile(section)));
        profiles
    }

    fn add(&mut self, text: &str, title: impl for<'s> Fn(&'s str) -> Option<Section<'s>>) {
        let mut current: Option<&mut Keys> = None;
        for line in text.lines().map(str::trim_end) {
            if let Some((section, _)) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                let plain = |name: &str| name.trim().trim_matches(['"', '\'']).to_owned();
                current = match title(section.trim()) {
                    Some(Section::Profile(name)) => Some(self.profiles.entry(plain(name)).or_default()),
                    Some(Section::SsoSession(name)) => Some(self.sso_sessions.entry(plain(name)).or_default()),
                    None => None,
                };
            } else if let (Some(keys), Some((key, value))) = (&mut current, line.split_once('=')) {
                // Nested settings are indented; comments start with # or ;, after a value with a blank before.
                if !line.starts_with([' ', '\t', '#', ';']) {
                    let value = value.split(" #").next().and_then(|value| value.split(" ;").next()).unwrap_or(value);
                    keys.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
                }
            }
        }
    }

    /// The region that `profile` sets; `None` is the one that the environment names, or `default`.
    pub(super) fn region(&self, profile: Option<&str>) -> Option<Region> {
        let named = std::env::var("AWS_PROFILE").ok().filter(|name| !name.is_empty());
        let profile = profile.or(named.as_deref()).unwrap_or("default");
        self.get(profile, "region")?.parse().ok()
    }

    /// # Errors
    /// [`Error::ProfileNotFound`], with the names that there are.
    pub(super) fn must_have(&self, profile: &str) -> Result<(), Error> {
        if self.profiles.contains_key(profile) {
            return Ok(());
        }
        Err(Error::ProfileNotFound { profile: profile.into(), known: self.profiles.keys().cloned().collect() })
    }

    fn get(&self, profile: &str, key: &str) -> Option<&str> {
        self.profiles.get(profile)?.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The MFA device of a profile.
    pub(super) fn mfa_serial(&self, profile: &str) -> Option<&str> {
        self.get(profile, "mfa_serial")
    }

    /// The roles that a profile assumes, the first one first, and where the credentials for that come from.
    ///
    /// A chain that cannot be followed (a loop, a profile that is not there) ends here as if it had no roles: the SDK
    /// knows what to say of it. So does one that starts at the machine (`credential_source`), which has no MFA device.
    pub(super) fn chain<'p>(&'p self, profile: &'p str) -> Chain<'p> {
        let whole = || Chain { source: Source::Profile(profile), roles: Vec::new() };
        let mut roles: Vec<Role<'p>> = Vec::new();
        let mut name = profile;
        loop {
            if !roles.is_empty()
                && let Some(keys) = self.static_keys(name)
            {
                roles.reverse();
                return Chain { source: Source::Keys { profile: name, keys }, roles };
            }
            if !self.profiles.contains_key(name) || roles.iter().any(|role| role.profile == name) {
                return whole();
            }
            let arn = self.get(name, "role_arn").filter(|_| self.get(name, "web_identity_token_file").is_none());
            let Some(arn) = arn else { break };
            roles.push(Role {
                profile: name,
                arn,
                external_id: self.get(name, "external_id"),
                session_name: self.get(name, "role_session_name"),
                duration: self.get(name, "duration_seconds").and_then(|text| text.parse().ok()),
                mfa_serial: self.mfa_serial(name),
            });
            match self.get(name, "source_profile") {
                // Its own keys are taken above.
                Some(source) if source == name && self.static_keys(name).is_some() => {}
                Some(source) if source != name => name = source,
                _ => return whole(),
            }
        }
        roles.reverse();
        Chain { source: Source::Profile(name), roles }
    }

    fn static_keys(&self, profile: &str) -> Option<Credentials> {
        let key = self.get(profile, "aws_access_key_id")?;
        let secret = self.get(profile, "aws_secret_access_key")?;
        let token = self.get(profile, "aws_session_token").map(str::to_owned);
        Some(Credentials::new(key, secret, token, None, "profile"))
    }

    /// How `profile` itself logs in, without regard to roles.
    pub(super) fn login(&self, profile: &str) -> Login {
        let has = |key| self.get(profile, key).is_some();
        if has("sso_session") || has("sso_start_url") {
            Login::Sso
        } else if has("login_session") {
            Login::Console
        } else if let Some(file) = self.get(profile, "web_identity_token_file") {
            Login::WebIdentity { file: file.into() }
        } else {
            Login::Other
        }
    }

    /// The IAM Identity Center session of a profile, when its settings are complete.
    pub(super) fn sso(&self, profile: &str) -> Option<Sso> {
        let (named, keys) = match self.get(profile, "sso_session") {
            Some(session) => (Some(session), self.sso_sessions.get(session)?),
            None => (None, self.profiles.get(profile)?),
        };
        let start_url = keys.get("sso_start_url")?.clone();
        let scopes = keys.get("sso_registration_scopes").map(String::as_str).unwrap_or_default();
        let mut scopes: Vec<String> =
            scopes.split(',').map(str::trim).filter(|scope| !scope.is_empty()).map(str::to_owned).collect();
        if named.is_some() && scopes.is_empty() {
            // The least that a session can be renewed with.
            scopes.push("sso:account:access".into());
        }
        Some(Sso {
            cache_key: named.map_or_else(|| start_url.clone(), str::to_owned),
            region: keys.get("sso_region")?.clone(),
            start_url,
            scopes,
        })
    }

    /// The console session of a profile of `aws login`.
    pub(super) fn login_session(&self, profile: &str) -> Option<&str> {
        self.get(profile, "login_session")
    }
}

/// Credentials and the roles that are assumed with them.
pub(super) struct Chain<'p> {
    pub(super) source: Source<'p>,
    pub(super) roles: Vec<Role<'p>>,
}

/// Where a chain begins.
pub(super) enum Source<'p> {
    /// Whatever the SDK makes of this profile.
    Profile(&'p str),
    /// Keys that stand in this profile.
    Keys { profile: &'p str, keys: Credentials },
}

/// A role in a profile.
pub(super) struct Role<'p> {
    profile: &'p str,
    pub(super) arn: &'p str,
    pub(super) external_id: Option<&'p str>,
    pub(super) session_name: Option<&'p str>,
    /// Seconds.
    pub(super) duration: Option<i32>,
    pub(super) mfa_serial: Option<&'p str>,
}

/// What a login with IAM Identity Center takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sso {
    /// What the token's file is named after: the session's name, or the start URL of a profile without one.
    pub(super) cache_key: String,
    pub(super) region: String,
    pub(super) start_url: String,
    pub(super) scopes: Vec<String>,
}

/// How a profile gets its credentials, where it matters for what a person should do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Login {
    /// IAM Identity Center: `aws sso login`.
    Sso,
    /// A console session: `aws login`.
    Console,
    /// A file that something else renews.
    WebIdentity { file: PathBuf },
    /// Anything else.
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "
[default]
region = eu-central-1
[profile user]
mfa_serial = arn:aws:iam::123456789012:mfa/me  ; on the phone
[profile \"first role\"]
role_arn = arn:aws:iam::123456789012:role/first
source_profile = user
mfa_serial = GAHT12345678
duration_seconds = 7200
[profile second]
ROLE_ARN = arn:aws:iam::123456789012:role/second # the one
source_profile = first role
external_id = partner/7
role_session_name = night
[profile alone]
role_arn = arn:aws:iam::123456789012:role/alone
source_profile = alone
[profile loop-a]
role_arn = arn:aws:iam::123456789012:role/a
source_profile = loop-b
[profile loop-b]
role_arn = arn:aws:iam::123456789012:role/b
source_profile = loop-a
[profile nowhere]
role_arn = arn:aws:iam::123456789012:role/a
source_profile = missing
[profile machine]
role_arn = arn:aws:iam::123456789012:role/a
credential_source = Ec2InstanceMetadata
[profile token]
role_arn = arn:aws:iam::123456789012:role/a
web_identity_token_file = /run/token
[profile sso]
sso_session = corp
[profile old-sso]
sso_start_url = https://old.awsapps.com/start
sso_region = us-east-1
[sso-session corp]
sso_start_url = https://corp.awsapps.com/start
sso_region = eu-west-1
[sso-session scoped]
sso_start_url = https://corp.awsapps.com/start
sso_region = eu-west-1
sso_registration_scopes = a, b
[profile scoped]
sso_session = scoped
[profile half]
sso_session = missing
s3 =
  role_arn = nested
[services local]
role_arn = none
";

    fn profiles() -> Profiles {
        let mut profiles = Profiles::default();
        profiles.add(CONFIG, |section| match section.split_once(' ') {
            Some(("profile", name)) => Some(Section::Profile(name)),
            Some(("sso-session", name)) => Some(Section::SsoSession(name)),
            _ => None,
        });
        let keys = "[user]\naws_access_key_id = AKIDUSER\naws_secret_access_key = s\n[alone]\naws_access_key_id=AKIDALONE\naws_secret_access_key=s\n";
        profiles.add(keys, |section| Some(Section::Profile(section)));
        profiles
    }

    fn told(chain: &Chain<'_>) -> (String, Vec<String>) {
        let source = match &chain.source {
            Source::Profile(name) => (*name).to_owned(),
            Source::Keys { profile, keys } => format!("{profile} {}", keys.access_key_id()),
        };
        (source, chain.roles.iter().map(|role| role.arn.rsplit('/').next().unwrap().to_owned()).collect())
    }

    #[test]
    fn roles_are_followed_to_where_credentials_come_from() {
        let profiles = profiles();
        for (profile, source, roles) in [
            ("user", "user", &[][..]),
            ("first role", "user AKIDUSER", &["first"]),
            ("second", "user AKIDUSER", &["first", "second"]),
            ("alone", "alone AKIDALONE", &["alone"]),
            ("loop-a", "loop-a", &[]),
            ("nowhere", "nowhere", &[]),
            ("machine", "machine", &[]),
            ("token", "token", &[]),
            ("half", "half", &[]),
            ("missing", "missing", &[]),
        ] {
            let (found, names) = told(&profiles.chain(profile));
            assert_eq!((found.as_str(), names), (source, roles.iter().map(|&r| r.to_owned()).collect()), "{profile}");
        }
        let chain = profiles.chain("second");
        let [first, second] = chain.roles.as_slice() else { panic!("two roles") };
        assert_eq!((first.mfa_serial, first.duration), (Some("GAHT12345678"), Some(7200)));
        assert_eq!((first.external_id, first.session_name), (None, None));
        assert_eq!((second.external_id, second.session_name), (Some("partner/7"), Some("night")));
        assert_eq!(profiles.mfa_serial("user"), Some("arn:aws:iam::123456789012:mfa/me"), "without its comment");
    }

    #[test]
    fn a_login_has_the_settings_of_its_session() {
        let profiles = profiles();
        let named = profiles.sso("sso").unwrap();
        assert_eq!((named.cache_key.as_str(), named.region.as_str()), ("corp", "eu-west-1"));
        assert_eq!(named.scopes, ["sso:account:access"]);
        assert_eq!(profiles.sso("scoped").unwrap().scopes, ["a", "b"]);
        let old = profiles.sso("old-sso").unwrap();
        assert_eq!((old.cache_key.as_str(), old.region.as_str()), ("https://old.awsapps.com/start", "us-east-1"));
        assert!(old.scopes.is_empty());
        assert_eq!((profiles.sso("half"), profiles.sso("user")), (None, None));
        assert_eq!(profiles.login("token"), Login::WebIdentity { file: "/run/token".into() });
    }
}
