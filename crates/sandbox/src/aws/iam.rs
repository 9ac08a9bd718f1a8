//! IAM: what a policy would say to a database login.

use std::fmt::Write as _;

use serde_json::Value;

use super::{answer::Answer, error::ApiError, protocol::xml};
use crate::world::World;

const NAMESPACE: &str = "https://iam.amazonaws.com/doc/2010-05-08/";

/// Decides `rds-db:connect` by the database user at the end of each resource; other actions are allowed.
pub(super) fn simulate_principal_policy(world: &World, parameters: &Value) -> Result<Answer, ApiError> {
    let text = |name: &str| parameters.get(name).and_then(Value::as_str);
    let list = |name: &str| -> Vec<&str> { (1..).map_while(|n| text(&format!("{name}.member.{n}"))).collect() };
    let source = text("PolicySourceArn").unwrap_or_default();
    // An assumed role is simulated by the role itself: its session has no policies that IAM could look up.
    let named = |arn: &str| match arn.split_once(":assumed-role/") {
        Some((_, role)) => source.ends_with(&format!(":role/{}", role.split('/').next().unwrap_or_default())),
        None => source == arn,
    };
    let state = world.lock();
    let identity = state.identities.values().find(|identity| named(&identity.arn)).cloned();
    drop(state);
    let Some(identity) = identity else {
        return Err(ApiError::new(http::StatusCode::NOT_FOUND, "NoSuchEntity", format!("{source} cannot be found.")));
    };
    let mut results = String::new();
    for action in list("ActionNames") {
        for resource in list("ResourceArns") {
            let user = resource.rsplit('/').next().unwrap_or_default();
            let may = |users: &Vec<String>| users.iter().any(|allowed| allowed == user);
            let allowed = action != "rds-db:connect" || identity.database_users.as_ref().is_none_or(may);
            let decision = if allowed { "allowed" } else { "implicitDeny" };
            let _ = write!(
                results,
                "<member><EvalActionName>{}</EvalActionName><EvalResourceName>{}</EvalResourceName><EvalDecision>{decision}</EvalDecision></member>",
                xml(action),
                xml(resource),
            );
        }
    }
    Ok(Answer::new(format!(
        "<SimulatePrincipalPolicyResponse xmlns=\"{NAMESPACE}\"><SimulatePrincipalPolicyResult><IsTruncated>false</IsTruncated><EvaluationResults>{results}</EvaluationResults></SimulatePrincipalPolicyResult><ResponseMetadata></ResponseMetadata></SimulatePrincipalPolicyResponse>"
    )))
}
