//! Who we are in AWS's eyes.

use super::{Account, Error};

/// The caller's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The account's twelve digits.
    pub account: String,
    /// The user's or assumed role's ARN.
    pub arn: String,
}

impl Principal {
    /// What tells it from others of the account: `Role/session` of an assumed role, a user's name.
    pub fn short(&self) -> &str {
        let resource = self.arn.splitn(6, ':').nth(5).unwrap_or(&self.arn);
        ["assumed-role/", "user/"].iter().find_map(|kind| resource.strip_prefix(kind)).unwrap_or(resource)
    }
}

impl Account {
    /// The caller's identity, if it has been asked for before.
    pub fn known_principal(&self) -> Option<&Principal> {
        self.0.principal.get()
    }

    /// STS GetCallerIdentity, asked once.
    ///
    /// # Errors
    /// As for every call; failures are not remembered.
    pub async fn principal(&self) -> Result<Principal, Error> {
        const OPERATION: &str = "GetCallerIdentity";
        let field = |field, value: Option<String>| value.ok_or(Error::Incomplete { operation: OPERATION, field });
        let principal = self.0.principal.get_or_try_init(|| async {
            let answer = self
                .call(OPERATION, || async {
                    self.0.sts.get_caller_identity().send().await.map_err(|error| self.classify(OPERATION, error))
                })
                .await?;
            Ok(Principal { account: field("Account", answer.account)?, arn: field("Arn", answer.arn)? })
        });
        principal.await.cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_name_is_the_end_of_the_arn() {
        for (arn, short) in [
            ("arn:aws:sts::123456789012:assumed-role/Developer/alice@example.com", "Developer/alice@example.com"),
            ("arn:aws:iam::123456789012:user/team/bob", "team/bob"),
            ("arn:aws:sts::123456789012:federated-user/a:b", "federated-user/a:b"),
            ("arn:aws-cn:iam::123456789012:root", "root"),
            ("odd", "odd"),
        ] {
            let principal = Principal { account: "123456789012".into(), arn: arn.into() };
            assert_eq!(principal.short(), short);
        }
    }
}
