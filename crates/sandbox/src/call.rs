//! The calls that were made, for assertions.

use crate::operation::Operation;

/// One call as it came in.
#[derive(Debug, Clone)]
pub struct Call {
    /// The operation.
    pub operation: Operation,
    /// The access key; `None` if the signature did not verify.
    pub access_key: Option<String>,
    /// The parameters: the JSON document, or the form as an object.
    pub parameters: serde_json::Value,
    /// The session that was started or named.
    pub session_id: Option<String>,
    /// The error code that was answered; `None` is success.
    pub error: Option<String>,
}
