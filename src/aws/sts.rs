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

impl Account {
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
