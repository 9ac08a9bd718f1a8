//! The origin of credentials, in words for people. It contains nothing of the credentials themselves.

use aws_credential_types::Credentials;

use super::Account;

/// The origin of credentials, stored as a property of them.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    /// The place.
    pub(super) place: &'static str,
    /// The profile that led there.
    pub(super) profile: Option<String>,
}

impl Account {
    /// The origin of `credentials`: the place, and the profile that led there.
    pub fn source(&self, credentials: &Credentials) -> String {
        match credentials.get_property::<Origin>() {
            Some(Origin { place, profile: Some(profile) }) => format!("{place}, profile {profile:?}"),
            Some(Origin { place, profile: None }) => (*place).into(),
            None => "the default chain".into(),
        }
    }
}
