//! Which of the many places credentials came from, in words for people. Nothing of the credentials themselves.

use aws_credential_types::{Credentials, credential_feature::AwsCredentialFeature};

use super::Account;

impl Account {
    /// Where `credentials` came from: the place, and the profile that led there.
    pub fn source(&self, credentials: &Credentials) -> String {
        use AwsCredentialFeature as Feature;
        let features = credentials.get_property::<Vec<Feature>>().map(Vec::as_slice).unwrap_or_default();
        let profile = self.0.profile.clone().or_else(|| std::env::var("AWS_PROFILE").ok());
        let profile = profile.filter(|profile| !profile.is_empty());
        let in_environment = std::env::var("AWS_ACCESS_KEY_ID").is_ok_and(|key| key == credentials.access_key_id());
        let place = features.iter().rev().find_map(|feature| {
            Some(match feature {
                Feature::CredentialsProfileSso | Feature::CredentialsSso => "IAM Identity Center (SSO)",
                Feature::CredentialsProfileProcess | Feature::CredentialsProcess => "a credential process",
                Feature::CredentialsHttp => "the container's credentials endpoint",
                Feature::CredentialsImds => "the instance metadata service",
                Feature::CredentialsProfileLogin | Feature::CredentialsLogin => "aws login",
                Feature::CredentialsStsAssumeRole => "an assumed role",
                Feature::CredentialsStsAssumeRoleWebId
                | Feature::CredentialsEnvVarsStsWebIdToken
                | Feature::CredentialsProfileStsWebIdToken => "a role assumed with a web identity",
                Feature::CredentialsProfile => "keys in the AWS files",
                _ => return None,
            })
        });
        match (place, profile) {
            _ if in_environment => "AWS_ACCESS_KEY_ID in the environment".into(),
            (Some(place), Some(profile)) => format!("{place}, profile {profile:?}"),
            (Some(place), None) => place.into(),
            (None, Some(profile)) => format!("profile {profile:?}"),
            (None, None) => "the default chain".into(),
        }
    }
}
