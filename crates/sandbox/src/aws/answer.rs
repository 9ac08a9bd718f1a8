//! The answer of a handler, and one page of a list.

use super::error::ApiError;
use crate::world::World;

/// The answer of a handler: the body, and the id of the session that the call concerns.
pub(super) struct Answer {
    pub(super) body: String,
    pub(super) session_id: Option<String>,
}

impl Answer {
    pub(super) fn new(body: impl Into<String>) -> Self {
        Self { body: body.into(), session_id: None }
    }
}

/// One page of `all`, from `token` on: as many as were asked for, and no more than the sandbox gives at once. The token is
/// the place in the list, which a client must not rely on.
pub(super) fn page<T: Clone>(
    world: &World,
    all: &[T],
    asked: Option<&serde_json::Value>,
    token: Option<&serde_json::Value>,
) -> Result<(Vec<T>, Option<String>), ApiError> {
    let number = |value: &serde_json::Value| {
        value.as_u64().and_then(|number| usize::try_from(number).ok()).or_else(|| value.as_str()?.parse().ok())
    };
    let size = world.page.min(asked.and_then(number).unwrap_or(usize::MAX)).max(1);
    let start = match token {
        None => 0,
        Some(token) => {
            let start = token.as_str().and_then(|token| token.strip_prefix("page-")?.parse().ok());
            start
                .filter(|start| *start < all.len())
                .ok_or_else(|| ApiError::bad("InvalidParameterValue", "the token is not one that was handed out"))?
        }
    };
    let rest = all.get(start..).unwrap_or_default();
    let end = start + size;
    let next = (end < all.len()).then(|| format!("page-{end}"));
    Ok((rest.iter().take(size).cloned().collect(), next))
}
