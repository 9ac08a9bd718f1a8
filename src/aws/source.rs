//! Which of the many places credentials came from, in words for people. Nothing of the credentials themselves.

use aws_credential_types::Credentials;

use super::Account;

/// Where credentials came from: a property of theirs.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    /// The place.
    pub(super) place: &'static str,
    /// The profile that led there.
    pub(super) profile: Option<String>,
}

impl Account {
    /// Where `credentials` came from: the place, and the profile that led there.
    pub fn source(&self, credentials: &Credentials) -> String {
        match credentials.get_property::<Origin>() {
            Some(Origin { place, profile: Some(profile) }) => format!("{place}, profile {profile:?}"),
            Some(Origin { place, profile: None }) => (*place).into(),
            None => "the default chain".into(),
        }
    }
}
