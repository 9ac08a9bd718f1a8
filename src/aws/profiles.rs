//! What the AWS configuration files say of a profile, as far as an error needs it: that it exists, how it logs in.
//!
//! The SDK reads the files for real; it passes over a profile that does not exist as if none had been named.

use std::{collections::BTreeMap, path::PathBuf};

use super::Error;
use crate::target::Region;

/// The profiles of both files, each with its keys.
pub(super) struct Profiles(BTreeMap<String, BTreeMap<String, String>>);

impl Profiles {
    /// Reads the files that the environment names, or those in the home directory. Unreadable ones count as empty, as
    /// for the SDK.
    pub(super) fn read() -> Self {
        let home = std::env::home_dir().unwrap_or_default();
        let path =
            |variable, name| std::env::var_os(variable).map_or_else(|| home.join(".aws").join(name), PathBuf::from);
        let text = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
        let mut profiles = Self(BTreeMap::new());
        profiles.add(&text(path("AWS_CONFIG_FILE", "config")), |section| match section {
            "default" => Some("default"),
            _ => section.strip_prefix("profile").filter(|rest| rest.starts_with([' ', '\t'])).map(str::trim),
        });
        profiles.add(&text(path("AWS_SHARED_CREDENTIALS_FILE", "credentials")), |section| Some(section));
        profiles
    }

    fn add(&mut self, text: &str, profile_name: impl for<'s> Fn(&'s str) -> Option<&'s str>) {
        let mut current = None;
        for line in text.lines().map(str::trim_end) {
            if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                current = profile_name(section.0.trim()).map(|name| name.trim_matches(['"', '\'']).to_owned());
                if let Some(name) = &current {
                    self.0.entry(name.clone()).or_default();
                }
            } else if let (Some(name), Some((key, value))) = (&current, line.split_once('=')) {
                // Nested settings are indented, comments start with # or ;
                if !line.starts_with([' ', '\t', '#', ';']) {
                    self.0.entry(name.clone()).or_default().insert(key.trim().to_owned(), value.trim().to_owned());
                }
            }
        }
    }

    /// The region that `profile` sets; `None` is the one that the environment names, or `default`.
    pub(super) fn region(&self, profile: Option<&str>) -> Option<Region> {
        let named = std::env::var("AWS_PROFILE").ok().filter(|name| !name.is_empty());
        let profile = profile.or(named.as_deref()).unwrap_or("default");
        self.0.get(profile)?.get("region")?.parse().ok()
    }

    /// How `profile` logs in, through the profiles that it names as its source.
    pub(super) fn login(&self, profile: &str) -> Login {
        let mut name = profile;
        // A chain longer than the number of profiles is a loop; the SDK reports that.
        for _ in 0..=self.0.len() {
            let Some(keys) = self.0.get(name) else { break };
            if keys.contains_key("sso_session") || keys.contains_key("sso_start_url") {
                return Login::Sso { profile: name.to_owned() };
            }
            if keys.contains_key("login_session") {
                return Login::Console { profile: name.to_owned() };
            }
            if keys.contains_key("mfa_serial") {
                return Login::Mfa { profile: name.to_owned() };
            }
            match keys.get("source_profile") {
                Some(source) if source != name => name = source,
                _ => break,
            }
        }
        Login::Other
    }
}

/// How a profile gets its credentials, where it matters for what a person should do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Login {
    /// IAM Identity Center: `aws sso login`.
    Sso {
        /// The profile that holds the settings: the one to log in with.
        profile: String,
    },
    /// A console session: `aws login`.
    Console {
        /// The profile that holds the setting.
        profile: String,
    },
    /// A role that wants an MFA code.
    Mfa {
        /// The profile that holds the setting.
        profile: String,
    },
    /// Anything else.
    Other,
}

/// # Errors
/// [`Error::ProfileNotFound`], with the names that there are.
pub(super) fn must_exist(profile: &str) -> Result<(), Error> {
    let profiles = Profiles::read();
    if profiles.0.contains_key(profile) {
        return Ok(());
    }
    Err(Error::ProfileNotFound { profile: profile.into(), known: profiles.0.into_keys().collect() })
}
