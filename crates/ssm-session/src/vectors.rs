//! Messages and frames recorded from the official implementations, for tests: see `tests/vectors`.

use bytes::Bytes;
use serde_json::Value;

/// AgentMessages, with the fields that they decode to.
pub(crate) fn ssm() -> Value {
    serde_json::from_str(include_str!("../tests/vectors/ssm-messages.json")).unwrap()
}

/// smux frames, and the results of receiving them.
pub(crate) fn smux() -> Value {
    serde_json::from_str(include_str!("../tests/vectors/smux-frames.json")).unwrap()
}

/// The bytes of a string of hexadecimal digits.
pub(crate) fn unhex(hex: &Value) -> Bytes {
    let hex = hex.as_str().unwrap();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}
