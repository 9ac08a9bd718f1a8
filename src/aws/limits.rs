//! The limits of every call to AWS, whether by the SDK or by [`super::call`].

use std::time::Duration;

/// The time limit for TCP and TLS to an AWS endpoint or a proxy.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The time limit for one attempt of a call, including the reply.
pub(super) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// The time limit for a call with all its attempts.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(25);
/// The number of attempts of a call with a transient failure (throttled, 5xx, connection lost).
pub(super) const ATTEMPTS: u32 = 3;
