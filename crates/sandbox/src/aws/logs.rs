//! CloudWatch Logs: the groups and events of the sandbox.

use serde_json::{Value, json};

use super::{
    answer::{Answer, page},
    error::ApiError,
};
use crate::world::World;

pub(super) fn filter_log_events(world: &World, parameters: &Value) -> Result<Answer, ApiError> {
    let events = events(world, parameters)?;
    let (events, next) = page(world, &events, parameters.get("limit"), parameters.get("nextToken"))?;
    Ok(Answer::new(json!({ "events": events, "searchedLogStreams": [], "nextToken": next }).to_string()))
}

/// Returns the events of a group, which has one stream.
pub(super) fn get_log_events(world: &World, parameters: &Value) -> Result<Answer, ApiError> {
    let events = events(world, parameters)?;
    let (events, next) = page(world, &events, parameters.get("limit"), parameters.get("nextToken"))?;
    Ok(Answer::new(json!({ "events": events, "nextForwardToken": next }).to_string()))
}

fn events(world: &World, parameters: &Value) -> Result<Vec<Value>, ApiError> {
    let group = parameters.get("logGroupName").and_then(Value::as_str).unwrap_or_default();
    let time = |name: &str| parameters.get(name).and_then(Value::as_u64);
    let (start, end) = (time("startTime").unwrap_or(0), time("endTime").unwrap_or(u64::MAX));
    let state = world.lock();
    let Some(events) = state.logs.get(group) else {
        return Err(ApiError::bad("ResourceNotFoundException", "The specified log group does not exist."));
    };
    let within = events.iter().filter(|(at, _)| (start..=end).contains(at));
    Ok(within.map(|(at, message)| json!({ "timestamp": at, "logStreamName": "1", "message": message })).collect())
}
