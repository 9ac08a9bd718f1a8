//! Diagnosis of a failed login: IAM's policy simulator, and the database's own log of IAM logins.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::{Account, Api, Error, Principal};
use crate::service::Permission;

/// The largest number of log entries in one reply.
const ENTRIES: usize = 50;

/// The decision of SimulatePrincipalPolicy (`PolicyEvaluationDecisionType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// A statement allows it, and none denies it.
    Allowed,
    /// A statement denies it.
    ExplicitDeny,
    /// No statement allows it.
    ImplicitDeny,
}

impl Principal {
    /// The user or role whose policies can be simulated; `None` for the account's root and federated users. The ARN of a role's
    /// session lacks the role's path, so the result is wrong for a role with a path.
    pub fn policy_source(&self) -> Option<String> {
        let mut fields = self.arn.splitn(6, ':');
        let (_, partition, service) = (fields.next()?, fields.next()?, fields.next()?);
        let name = fields.nth(2)?;
        match (service, name.split_once('/')?) {
            ("iam", ("user" | "role", _)) => Some(self.arn.clone()),
            ("sts", ("assumed-role", rest)) => {
                let role = rest.split('/').next()?;
                Some(format!("arn:{partition}:iam::{}:role/{role}", self.account))
            }
            _ => None,
        }
    }
}

impl Account {
    /// Whether the policies of `source` (the ARN of a user or role) grant `permission`.
    ///
    /// # Errors
    /// The errors of every call. Needs `iam:SimulatePrincipalPolicy`.
    pub async fn simulate_connect(&self, source: &str, permission: &Permission) -> Result<Decision, Error> {
        const OPERATION: &str = "SimulatePrincipalPolicy";
        let parameters = [
            ("PolicySourceArn".into(), source.into()),
            ("ActionNames.member.1".into(), permission.action.into()),
            ("ResourceArns.member.1".into(), permission.resource.clone()),
        ];
        let answer = self.query(Api::Iam, OPERATION, &parameters).await?;
        let result = answer.child("SimulatePrincipalPolicyResult");
        let decision = result.and_then(|result| result.items("EvaluationResults").next()?.text(&["EvalDecision"]));
        match decision {
            Some("allowed") => Ok(Decision::Allowed),
            Some("explicitDeny") => Ok(Decision::ExplicitDeny),
            Some("implicitDeny") => Ok(Decision::ImplicitDeny),
            _ => Err(Error::Incomplete { operation: OPERATION, field: "EvalDecision" }),
        }
    }

    /// The entries of a log group since a time, oldest first; `None` if there is no such group.
    ///
    /// # Errors
    /// The errors of every call. Needs `logs:FilterLogEvents`.
    pub async fn log_events(&self, group: &str, since: SystemTime) -> Result<Option<Vec<(SystemTime, String)>>, Error> {
        let since = since.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        let input = json!({ "logGroupName": group, "startTime": since, "limit": ENTRIES });
        let answer = match self.json(Api::Logs, "FilterLogEvents", &input).await {
            Err(Error::BadRequest { code, .. }) if code == "ResourceNotFoundException" => return Ok(None),
            answer => answer?,
        };
        let event = |event: &Value| {
            let at = UNIX_EPOCH + Duration::from_millis(event.get("timestamp")?.as_u64()?);
            Some((at, event.get("message")?.as_str()?.to_owned()))
        };
        let events = answer.get("events").and_then(Value::as_array);
        Ok(Some(events.into_iter().flatten().filter_map(event).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_simulated_by_its_role_and_some_callers_not_at_all() {
        for (arn, source) in [
            ("arn:aws:iam::123456789012:user/teams/dev", Some("arn:aws:iam::123456789012:user/teams/dev")),
            ("arn:aws:sts::123456789012:assumed-role/developer/dev", Some("arn:aws:iam::123456789012:role/developer")),
            ("arn:aws-cn:sts::123456789012:assumed-role/a/b", Some("arn:aws-cn:iam::123456789012:role/a")),
            ("arn:aws:iam::123456789012:root", None),
            ("arn:aws:sts::123456789012:federated-user/dev", None),
            ("", None),
        ] {
            let principal = Principal { account: "123456789012".into(), arn: arn.into() };
            assert_eq!(principal.policy_source().as_deref(), source, "{arn}");
        }
    }
}
