//! Security Token Service: who am I, and roles.

use std::time::{Duration, UNIX_EPOCH};

use aws_smithy_types::{DateTime, date_time::Format};
use serde_json::Value;

use super::{Answer, error::ApiError, xml};
use crate::{
    sandbox::{
        World,
        identity::{ACCOUNT, Identity, SessionToken},
    },
    secret::Secret,
};

const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

pub(super) fn get_caller_identity(identity: &Identity) -> Answer {
    Answer::new(format!(
        "<GetCallerIdentityResponse xmlns=\"{NAMESPACE}\"><GetCallerIdentityResult><Arn>{}</Arn><UserId>{}</UserId><Account>{ACCOUNT}</Account></GetCallerIdentityResult><ResponseMetadata></ResponseMetadata></GetCallerIdentityResponse>",
        xml(&identity.arn),
        xml(&user_id(identity)),
    ))
}

/// Hands out a new temporary identity that the sandbox knows from then on. Any role of the account may be assumed.
pub(super) fn assume_role(world: &World, parameters: &Value) -> Result<Answer, ApiError> {
    let text = |name: &str| parameters.get(name).and_then(Value::as_str);
    let (Some(role), Some(session)) = (text("RoleArn"), text("RoleSessionName")) else {
        return Err(ApiError::bad("ValidationError", "RoleArn and RoleSessionName are required"));
    };
    let Some(name) = role.strip_prefix(&format!("arn:aws:iam::{ACCOUNT}:role/")) else {
        return Err(ApiError::bad("ValidationError", format!("{role} is not a role of account {ACCOUNT}")));
    };
    let lifetime = text("DurationSeconds").and_then(|text| text.parse().ok()).unwrap_or(3600);
    let now = world.now();
    let expiration = now.duration_since(UNIX_EPOCH).unwrap_or_default() + Duration::from_secs(lifetime);
    let expiration = DateTime::from_secs(i64::try_from(expiration.as_secs()).unwrap_or(i64::MAX));
    let expiration = expiration.fmt(Format::DateTime).unwrap_or_default();

    let mut random = world.random();
    let mut draw = |alphabet: &[u8], length: usize| -> String {
        (0..length).filter_map(|_| random.choice(alphabet).copied().map(char::from)).collect()
    };
    let access_key = format!("ASIA{}", draw(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16));
    let secret = draw(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", 40);
    let token = format!("IQoJ{}", draw(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", 360));
    let mut identity = Identity::new(&access_key, &secret, SessionToken::Exact(Secret::new(token.clone())), session);
    identity.arn = format!("arn:aws:sts::{ACCOUNT}:assumed-role/{name}/{session}");
    let (arn, id) = (xml(&identity.arn), xml(&user_id(&identity)));
    world.lock().identities.insert(access_key.clone(), identity);
    Ok(Answer::new(format!(
        "<AssumeRoleResponse xmlns=\"{NAMESPACE}\"><AssumeRoleResult><AssumedRoleUser><AssumedRoleId>{id}</AssumedRoleId><Arn>{arn}</Arn></AssumedRoleUser><Credentials><AccessKeyId>{access_key}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey><SessionToken>{token}</SessionToken><Expiration>{expiration}</Expiration></Credentials></AssumeRoleResult><ResponseMetadata></ResponseMetadata></AssumeRoleResponse>",
    )))
}

fn user_id(identity: &Identity) -> String {
    match &identity.session_token {
        SessionToken::None => "AIDACKCEVSQ6C2EXAMPLE".into(),
        _ => format!("AROACKCEVSQ6C2EXAMPLE:{}", identity.name()),
    }
}
