//! Secrets Manager: the secrets of the sandbox and their versions.

use serde_json::{Value, json};

use super::{answer::Answer, error::ApiError};
use crate::{identity::ACCOUNT, world::World};

/// The ARN of a secret, by its name or ARN.
pub(super) fn arn(world: &World, id: &str) -> String {
    let name = name(id);
    format!("arn:aws:secretsmanager:{}:{ACCOUNT}:secret:{name}-a1b2c3", world.region)
}

/// The name in an ARN, without the six characters that AWS appends.
fn name(id: &str) -> &str {
    match id.rsplit_once(":secret:") {
        Some((_, name)) => name.strip_suffix("-a1b2c3").unwrap_or(name),
        None => id,
    }
}

pub(super) fn get_secret_value(world: &World, parameters: &Value) -> Result<Answer, ApiError> {
    let text = |name: &str| parameters.get(name).and_then(Value::as_str);
    let id = text("SecretId").unwrap_or_default();
    let stage = text("VersionStage").unwrap_or("AWSCURRENT");
    let state = world.lock();
    let Some(secret) = state.secrets.get(name(id)) else {
        return Err(ApiError::bad("ResourceNotFoundException", "Secrets Manager can't find the specified secret."));
    };
    let version = match stage {
        "AWSCURRENT" => Some(&secret.current),
        "AWSPENDING" => secret.pending.as_ref(),
        _ => None,
    };
    let Some(version) = version else {
        let message = format!("Secrets Manager can't find the specified secret value for staging label: {stage}");
        return Err(ApiError::bad("ResourceNotFoundException", message));
    };
    let key = if secret.binary { "SecretBinary" } else { "SecretString" };
    let answer = json!({
        "ARN": arn(world, id),
        "Name": name(id),
        "VersionId": "00000000-0000-4000-8000-000000000000",
        key: version.expose(),
        "VersionStages": [stage],
        "CreatedDate": 1_700_000_000.5,
    });
    Ok(Answer::new(answer.to_string()))
}
