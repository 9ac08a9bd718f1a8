//! Systems Manager: sessions and managed nodes.

use serde_json::{Value, json};

use super::{
    answer::{Answer, page},
    error::ApiError,
};
use crate::{
    failure::Failure,
    identity::{ACCOUNT, Identity},
    session::{SessionRequest, Started},
    world::World,
};

/// The documents that forward ports, with the parameters each takes.
const DOCUMENTS: [(&str, &[&str]); 3] = [
    ("AWS-StartPortForwardingSession", &["portNumber", "localPortNumber"]),
    ("AWS-StartPortForwardingSessionToRemoteHost", &["host", "portNumber", "localPortNumber"]),
    ("AWS-StartSSHSession", &["portNumber"]),
];

/// Holds the account's preferences for sessions.
const PREFERENCES: &str = "SSM-SessionManagerRunShell";

pub(super) fn start_session(world: &World, identity: &Identity, parameters: &Value) -> Result<Answer, ApiError> {
    let text = |name: &str| parameters.get(name).and_then(Value::as_str);
    let target = text("Target").ok_or_else(|| missing("target"))?;
    let document = text("DocumentName").unwrap_or(PREFERENCES);
    let properties = properties(world, document, parameters)?;
    let reason = text("Reason");
    if reason.is_some_and(|reason| reason.is_empty() || reason.chars().count() > 256) {
        return Err(ApiError::bad("ValidationException", "reason must have length between 1 and 256"));
    }
    let state = world.lock();
    let connected = state.nodes.iter().any(|node| node.online && node.id == target)
        || state.tasks.iter().any(|task| task.exec && task.target() == target);
    drop(state);
    if !connected {
        return Err(ApiError::target_not_connected(target));
    }
    Ok(grant(world.start_session(SessionRequest {
        owner: identity.name().into(),
        owner_arn: identity.arn.clone(),
        target: target.into(),
        document: document.into(),
        properties,
        reason: reason.map(Into::into),
    })))
}

/// The parameters for the agent: those that were given, each one that the document has and fits it, and what it fixes.
fn properties(world: &World, document: &str, parameters: &Value) -> Result<Vec<(String, String)>, ApiError> {
    let own = world.documents.iter().find(|known| known.name == document);
    let aws = DOCUMENTS.iter().find(|(name, _)| *name == document);
    let allowed: Vec<&str> = match (own, aws) {
        (Some(own), _) => own.parameters.iter().map(String::as_str).collect(),
        (None, Some((_, allowed))) => allowed.to_vec(),
        (None, None) => return Err(ApiError::invalid_document(document)),
    };
    let mut properties = own.map(|own| own.fixed.clone()).unwrap_or_default();
    for (name, values) in parameters.get("Parameters").and_then(Value::as_object).into_iter().flatten() {
        let Some([Value::String(value)]) = values.as_array().map(Vec::as_slice) else {
            return Err(invalid(&format!("Parameter \"{name}\" must be a list of one string")));
        };
        let fits = match name.as_str() {
            "portNumber" => value.parse::<u16>().is_ok_and(|port| port > 0 && port.to_string() == *value),
            "localPortNumber" => value.parse::<u16>().is_ok_and(|port| port.to_string() == *value),
            _ => !value.is_empty(),
        };
        if !allowed.contains(&name.as_str()) || !fits {
            return Err(invalid(&format!("Parameter \"{name}\" has value \"{value}\" not valid for {document}")));
        }
        properties.push((name.clone(), value.clone()));
    }
    Ok(properties)
}

/// Serves the preferences only.
pub(super) fn get_document(world: &World, parameters: &Value) -> Result<Answer, ApiError> {
    let name = parameters.get("Name").and_then(Value::as_str).ok_or_else(|| missing("name"))?;
    let timeout = world.idle_timeout.filter(|_| name == PREFERENCES).ok_or_else(|| ApiError::invalid_document(name))?;
    let content = json!({
        "schemaVersion": "1.0", "sessionType": "Standard_Stream", "description": "Session Manager preferences",
        "inputs": { "idleSessionTimeout": (timeout.as_secs() / 60).to_string(), "kmsKeyId": "", "runAsEnabled": false },
    });
    let answer = json!({
        "Name": name, "Content": content.to_string(), "DocumentType": "Session", "DocumentFormat": "JSON", "Status": "Active",
    });
    Ok(Answer::new(answer.to_string()))
}

pub(super) fn resume_session(world: &World, parameters: &Value, failure: Option<&Failure>) -> Result<Answer, ApiError> {
    let id = session_id(parameters)?;
    if failure == Some(&Failure::EmptyToken) {
        return Ok(Answer { body: json!({ "SessionId": id }).to_string(), session_id: Some(id.into()) });
    }
    let started = world.resume_session(id).ok_or_else(|| ApiError::does_not_exist(&format!("Session {id}")))?;
    Ok(grant(started))
}

pub(super) fn terminate_session(world: &World, parameters: &Value) -> Result<Answer, ApiError> {
    let id = session_id(parameters)?;
    // AWS answers alike for sessions that have ended already.
    world.sessions.terminate(id);
    Ok(Answer { body: json!({ "SessionId": id }).to_string(), session_id: Some(id.into()) })
}

pub(super) fn describe_instance_information(world: &World, parameters: &Value) -> Result<Answer, ApiError> {
    let state = world.lock();
    let (mut nodes, version) = (state.nodes.clone(), state.agent.version.clone());
    drop(state);
    let filters = parameters.get("Filters").and_then(Value::as_array);
    for filter in filters.into_iter().flatten() {
        if filter.get("Key").and_then(Value::as_str) == Some("InstanceIds") {
            let values = filter.get("Values").and_then(Value::as_array).cloned().unwrap_or_default();
            nodes.retain(|node| values.contains(&node.id.as_str().into()));
        }
    }
    let (nodes, next) = page(world, &nodes, parameters.get("MaxResults"), parameters.get("NextToken"))?;
    let nodes: Vec<Value> = nodes
        .iter()
        .map(|node| {
            let kind = if node.id.starts_with("mi-") { "ManagedInstance" } else { "EC2Instance" };
            json!({
                "InstanceId": node.id, "PingStatus": if node.online { "Online" } else { "ConnectionLost" },
                "AgentVersion": version, "IsLatestVersion": false,
                "PlatformType": "Linux", "PlatformName": "Amazon Linux", "PlatformVersion": "2023",
                "ResourceType": kind, "IPAddress": "10.0.0.10", "ComputerName": format!("{}.internal", node.name),
                "LastPingDateTime": world.epoch_seconds(),
            })
        })
        .collect();
    Ok(Answer::new(json!({ "InstanceInformationList": nodes, "NextToken": next }).to_string()))
}

/// Sessions on a page, so that a client that reads one page only is found out.
const PAGE: usize = 2;

/// Filtered by owner, and in pages; a page's token is where the next begins.
pub(super) fn describe_sessions(world: &World, parameters: &Value) -> Result<Answer, ApiError> {
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let active = text(parameters, "State").as_deref() != Some("History");
    let filters = parameters.get("Filters").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut owner = None;
    for filter in filters {
        match text(filter, "key").as_deref() {
            Some("Owner") => owner = text(filter, "value"),
            other => return Err(ApiError::bad("InvalidFilterKey", format!("The filter key {other:?} is not valid"))),
        }
    }
    let start: usize = text(parameters, "NextToken").and_then(|token| token.parse().ok()).unwrap_or_default();
    let mut found: Vec<Value> = world
        .sessions
        .reports()
        .into_iter()
        .filter(|session| session.ended.is_none() == active)
        .filter(|session| owner.as_ref().is_none_or(|owner| *owner == session.owner_arn))
        .map(|session| {
            json!({
                "SessionId": session.id, "Target": session.target, "DocumentName": session.document,
                "Status": if active { "Connected" } else { "Terminated" },
                "Owner": session.owner_arn, "Reason": session.reason, "StartDate": session.started_at,
            })
        })
        .skip(start)
        .collect();
    let more = found.len() > PAGE;
    found.truncate(PAGE);
    let next = more.then(|| (start + PAGE).to_string());
    Ok(Answer::new(json!({ "Sessions": found, "NextToken": next }).to_string()))
}

fn grant(started: Started) -> Answer {
    let body =
        json!({ "SessionId": started.id, "StreamUrl": started.stream_url, "TokenValue": started.token }).to_string();
    Answer { body, session_id: Some(started.id) }
}

fn session_id(parameters: &Value) -> Result<&str, ApiError> {
    parameters.get("SessionId").and_then(Value::as_str).ok_or_else(|| missing("sessionId"))
}

fn missing(name: &str) -> ApiError {
    let message = format!(
        "1 validation error detected: Value null at '{name}' failed to satisfy constraint: Member must not be null"
    );
    ApiError::bad("ValidationException", message)
}

fn invalid(message: &str) -> ApiError {
    ApiError::bad("ValidationException", format!("{message} (account {ACCOUNT})"))
}
