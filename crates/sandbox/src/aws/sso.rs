//! IAM Identity Center: the device login of its OIDC service, and the portal that gives a role's credentials for a token.
//!
//! Both speak JSON over paths of their own and are not signed. The person who approves in a browser is
//! [`crate::Sandbox::sso_decide`].

use std::{
    collections::HashMap,
    time::{Duration, UNIX_EPOCH},
};

use http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{answer::Answer, error::ApiError};
use crate::{portal::Device, world::World};

/// Lifetime of a token.
const TOKEN_LIFE: Duration = Duration::from_hours(8);
/// The time in which a code can be approved.
const CODE_LIFE: Duration = Duration::from_mins(10);

fn refused(code: &'static str, message: &str) -> ApiError {
    ApiError::bad(code, message)
}

fn text<'v>(parameters: &'v Value, name: &str) -> &'v str {
    parameters.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn number(duration: Duration) -> u64 {
    duration.as_secs()
}

pub(super) fn register_client(world: &World, parameters: &Value) -> Result<Answer, ApiError> {
    if text(parameters, "clientType") != "public" || text(parameters, "clientName").is_empty() {
        return Err(refused("InvalidClientMetadataException", "clientName and clientType public are required"));
    }
    let (id, secret) = (Uuid::new_v4().to_string(), Uuid::new_v4().to_string());
    world.lock().portal.clients.insert(id.clone(), secret.clone());
    let issued = world.epoch_seconds();
    let ends = issued + number(Duration::from_hours(90 * 24));
    Ok(Answer::new(
        json!({"clientId": id, "clientSecret": secret, "clientIdIssuedAt": issued, "clientSecretExpiresAt": ends})
            .to_string(),
    ))
}

fn must_be_registered(world: &World, parameters: &Value) -> Result<(), ApiError> {
    let secret = world.lock().portal.clients.get(text(parameters, "clientId")).cloned();
    if secret.as_deref() == Some(text(parameters, "clientSecret")) {
        return Ok(());
    }
    Err(ApiError::new(StatusCode::UNAUTHORIZED, "InvalidClientException", "no such client"))
}

pub(super) fn start_device_authorization(world: &World, parameters: &Value) -> Result<Answer, ApiError> {
    must_be_registered(world, parameters)?;
    if !text(parameters, "startUrl").starts_with("https://") {
        return Err(refused("InvalidRequestException", "no such start URL"));
    }
    let code = Uuid::new_v4().to_string();
    let user_code = Uuid::new_v4().simple().to_string().to_ascii_uppercase();
    let (first, second) = (user_code.get(..4).unwrap_or_default(), user_code.get(4..8).unwrap_or_default());
    let user_code = format!("{first}-{second}");
    let page = format!("http://{}/sso/device", world.address);
    let device = Device { code: code.clone(), user_code: user_code.clone(), begun: world.now(), approved: None };
    world.lock().portal.devices.push(device);
    Ok(Answer::new(
        json!({
            "deviceCode": code, "userCode": user_code, "verificationUri": page,
            "verificationUriComplete": format!("{page}?user_code={user_code}"),
            "expiresIn": number(CODE_LIFE), "interval": 1,
        })
        .to_string(),
    ))
}

pub(super) fn create_token(world: &World, parameters: &Value) -> Result<Answer, ApiError> {
    must_be_registered(world, parameters)?;
    let now = world.now();
    let mut state = world.lock();
    let portal = &mut state.portal;
    match text(parameters, "grantType") {
        "refresh_token" => {
            if !portal.refresh_tokens.iter().any(|token| token == text(parameters, "refreshToken")) {
                return Err(refused("InvalidGrantException", "Invalid refresh token provided"));
            }
        }
        "urn:ietf:params:oauth:grant-type:device_code" => {
            let code = text(parameters, "deviceCode");
            let Some(at) = portal.devices.iter().position(|device| device.code == code) else {
                return Err(refused("InvalidGrantException", "Invalid device code"));
            };
            let device = portal.devices.get(at);
            let expired = device.is_none_or(|device| now > device.begun + CODE_LIFE);
            match device.and_then(|device| device.approved) {
                _ if expired => return Err(refused("ExpiredTokenException", "Device code expired")),
                None => return Err(refused("AuthorizationPendingException", "authorization pending")),
                Some(false) => return Err(refused("AccessDeniedException", "denied")),
                Some(true) => drop(portal.devices.remove(at)),
            }
        }
        _ => return Err(refused("UnsupportedGrantTypeException", "no such grant type")),
    }
    let (token, refresh) = (Uuid::new_v4().to_string(), Uuid::new_v4().to_string());
    portal.tokens.insert(token.clone(), now + TOKEN_LIFE);
    portal.refresh_tokens.push(refresh.clone());
    Ok(Answer::new(
        json!({
            "accessToken": token, "tokenType": "Bearer", "expiresIn": number(TOKEN_LIFE), "refreshToken": refresh,
        })
        .to_string(),
    ))
}

pub(super) fn get_role_credentials(world: &World, parameters: &Value) -> Result<Answer, ApiError> {
    let now = world.now();
    let mut state = world.lock();
    if state.portal.tokens.get(text(parameters, "accessToken")).is_none_or(|end| *end <= now) {
        let message = "Session token not found or invalid";
        return Err(ApiError::new(StatusCode::UNAUTHORIZED, "UnauthorizedException", message));
    }
    let Some(identity) = state.portal.roles.get(text(parameters, "role_name")).cloned() else {
        return Err(ApiError::new(StatusCode::FORBIDDEN, "ForbiddenException", "No access"));
    };
    let expiration = now.duration_since(UNIX_EPOCH).unwrap_or_default() + Duration::from_hours(1);
    let mut credentials: HashMap<String, String> = identity.env().into_iter().collect();
    let mut take = |name: &str| credentials.remove(name);
    let answer = json!({"roleCredentials": {
        "accessKeyId": take("AWS_ACCESS_KEY_ID"),
        "secretAccessKey": take("AWS_SECRET_ACCESS_KEY"),
        "sessionToken": take("AWS_SESSION_TOKEN"),
        "expiration": u64::try_from(expiration.as_millis()).unwrap_or(u64::MAX),
    }});
    state.identities.insert(identity.access_key.clone(), identity);
    Ok(Answer::new(answer.to_string()))
}
