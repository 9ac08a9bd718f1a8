//! The caller's identity, as STS reports it.

use super::{Account, Error, Principal};

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
