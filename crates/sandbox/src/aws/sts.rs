//! Security Token Service: who am I, roles, and sessions with MFA.

use std::time::{Duration, UNIX_EPOCH};

use aws_smithy_types::{DateTime, date_time::Format};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use safe_display::secret::Secret;
use serde_json::Value;

use super::{answer::Answer, error::ApiError, protocol::xml};
use crate::{
    identity::{ACCOUNT, Identity, SessionToken},
    operation::Operation,
    roles::{MfaDevice, Role},
    world::World,
};

const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";
/// The longest session of a role that was assumed with another role's credentials, in seconds (AWS, "Role chaining").
const CHAINED: u64 = 3600;

pub(super) fn get_caller_identity(identity: &Identity) -> Answer {
    Answer::new(format!(
        "<GetCallerIdentityResponse xmlns=\"{NAMESPACE}\"><GetCallerIdentityResult><Arn>{}</Arn><UserId>{}</UserId><Account>{ACCOUNT}</Account></GetCallerIdentityResult><ResponseMetadata></ResponseMetadata></GetCallerIdentityResponse>",
        xml(&identity.arn),
        xml(&user_id(identity)),
    ))
}

/// Hands out a new temporary identity that the sandbox knows from then on.
pub(super) fn assume_role(world: &World, caller: &Identity, parameters: &Value) -> Result<Answer, ApiError> {
    let text = |name: &str| parameters.get(name).and_then(Value::as_str);
    let (arn, name, session) = role_and_session(parameters)?;
    let denied = || ApiError::denied(caller, Operation::AssumeRole, arn);
    let role = world.lock().roles.iter().find(|role| role.name == name).cloned();
    let role = role.unwrap_or_else(|| Role::new(name));
    let trusted = |trusted: &String| caller.arn.contains(&format!(":assumed-role/{trusted}/"));
    if !role.trusted.as_ref().is_none_or(trusted) {
        return Err(denied());
    }
    if role.external_id.is_some() && role.external_id.as_deref() != text("ExternalId") {
        return Err(denied());
    }
    let mfa = caller.mfa || second_factor(world, caller, parameters)?;
    if role.mfa && !mfa {
        return Err(denied());
    }
    let lifetime = lifetime(parameters, 3600)?;
    if caller.arn.contains(":assumed-role/") && lifetime > CHAINED {
        let message =
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining";
        return Err(ApiError::bad("ValidationError", message));
    }
    let mut assumed = match role.gives {
        Some(identity) => identity,
        None => random_identity(world, session),
    };
    assumed.arn = format!("arn:aws:sts::{ACCOUNT}:assumed-role/{name}/{session}");
    Ok(answer(world, "AssumeRole", assumed, lifetime))
}

/// AssumeRole for the bearer of a web identity token. The token is not signed by a real issuer, so only its expiry is checked.
pub(super) fn assume_role_with_web_identity(world: &World, parameters: &Value) -> Result<Answer, ApiError> {
    let (_, name, session) = role_and_session(parameters)?;
    let token = parameters.get("WebIdentityToken").and_then(Value::as_str).unwrap_or_default();
    let claims = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let claims = claims.and_then(|claims| serde_json::from_slice::<Value>(&claims).ok());
    let Some(end) = claims.as_ref().and_then(|claims| claims.get("exp")?.as_u64()) else {
        return Err(ApiError::bad("InvalidIdentityToken", "The ID Token provided is not a valid JWT."));
    };
    if end <= world.epoch_seconds() {
        return Err(ApiError::bad(
            "ExpiredTokenException",
            format!("Token expired: current date/time must be before the expiration date/time {end}"),
        ));
    }
    let mut assumed = random_identity(world, session);
    assumed.arn = format!("arn:aws:sts::{ACCOUNT}:assumed-role/{name}/{session}");
    Ok(answer(world, "AssumeRoleWithWebIdentity", assumed, lifetime(parameters, 3600)?))
}

/// Hands out temporary credentials of a user.
pub(super) fn get_session_token(world: &World, caller: &Identity, parameters: &Value) -> Result<Answer, ApiError> {
    if !matches!(caller.session_token, SessionToken::None) {
        return Err(ApiError::new(
            http::StatusCode::FORBIDDEN,
            "AccessDenied",
            "Cannot call GetSessionToken with session credentials",
        ));
    }
    let mfa = second_factor(world, caller, parameters)?;
    let session = Identity { arn: caller.arn.clone(), mfa, ..random_identity(world, caller.name()) };
    Ok(answer(world, "GetSessionToken", session, lifetime(parameters, 12 * 3600)?))
}

/// Whether the request contains a code of an MFA device. A wrong code is an error.
fn second_factor(world: &World, caller: &Identity, parameters: &Value) -> Result<bool, ApiError> {
    let text = |name: &str| parameters.get(name).and_then(Value::as_str);
    let (Some(serial), Some(code)) = (text("SerialNumber"), text("TokenCode")) else { return Ok(false) };
    let refused = |message: &str| Err(ApiError::new(http::StatusCode::FORBIDDEN, "AccessDenied", message));
    let mut state = world.lock();
    let own = |device: &&mut MfaDevice| device.serial == serial && serial.ends_with(&format!("/{}", caller.name()));
    let Some(device) = state.mfa_devices.iter_mut().find(own) else {
        return refused("MultiFactorAuthentication failed, unable to validate MFA code.");
    };
    let Some(at) = device.codes.iter().position(|known| known == code) else {
        return refused("MultiFactorAuthentication failed with invalid MFA one time pass code. ");
    };
    device.codes.remove(at);
    Ok(true)
}

/// The role's ARN and name, and the session's name.
fn role_and_session(parameters: &Value) -> Result<(&str, &str, &str), ApiError> {
    let text = |name: &str| parameters.get(name).and_then(Value::as_str);
    let (Some(role), Some(session)) = (text("RoleArn"), text("RoleSessionName")) else {
        return Err(ApiError::bad("ValidationError", "RoleArn and RoleSessionName are required"));
    };
    match role.strip_prefix(&format!("arn:aws:iam::{ACCOUNT}:role/")) {
        Some(name) => Ok((role, name, session)),
        None => Err(ApiError::bad("ValidationError", format!("{role} is not a role of account {ACCOUNT}"))),
    }
}

fn lifetime(parameters: &Value, usual: u64) -> Result<u64, ApiError> {
    let asked = parameters.get("DurationSeconds").and_then(Value::as_str);
    let seconds = asked.map_or(Some(usual), |text| text.parse().ok()).filter(|seconds| *seconds >= 900);
    seconds.ok_or_else(|| ApiError::bad("ValidationError", "durationSeconds must be 900 or more"))
}

fn random_identity(world: &World, name: &str) -> Identity {
    let access_key = format!("ASIA{}", draw(world, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16));
    Identity::new(&access_key, &draw(world, BASE64, 40), SessionToken::Any, name)
}

/// Answers with an identity's credentials, which the sandbox knows from then on.
fn answer(world: &World, operation: &str, mut identity: Identity, lifetime: u64) -> Answer {
    let token = format!("IQoJ{}", draw(world, BASE64, 360));
    identity.session_token = SessionToken::Exact(Secret::new(token.clone()));
    let now = world.now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let expiration =
        DateTime::from_secs(i64::try_from((now + Duration::from_secs(lifetime)).as_secs()).unwrap_or(i64::MAX));
    let expiration = expiration.fmt(Format::DateTime).unwrap_or_default();
    let (access_key, secret) = (identity.access_key.clone(), identity.secret.expose().clone());
    let (arn, id) = (xml(&identity.arn), xml(&user_id(&identity)));
    world.lock().identities.insert(access_key.clone(), identity);
    Answer::new(format!(
        "<{operation}Response xmlns=\"{NAMESPACE}\"><{operation}Result><AssumedRoleUser><AssumedRoleId>{id}</AssumedRoleId><Arn>{arn}</Arn></AssumedRoleUser><Credentials><AccessKeyId>{access_key}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey><SessionToken>{token}</SessionToken><Expiration>{expiration}</Expiration></Credentials></{operation}Result><ResponseMetadata></ResponseMetadata></{operation}Response>",
    ))
}

const BASE64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn draw(world: &World, alphabet: &[u8], length: usize) -> String {
    let mut random = world.random();
    (0..length).filter_map(|_| random.choice(alphabet).copied().map(char::from)).collect()
}

fn user_id(identity: &Identity) -> String {
    match &identity.session_token {
        SessionToken::None => "AIDACKCEVSQ6C2EXAMPLE".into(),
        _ => format!("AROACKCEVSQ6C2EXAMPLE:{}", identity.name()),
    }
}
