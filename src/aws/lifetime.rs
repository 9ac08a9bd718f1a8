//! The time for which credentials stay valid.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;

/// The remaining lifetime of credentials.
pub(super) fn left(credentials: &Credentials) -> Duration {
    credentials.expiry().map_or(Duration::MAX, |at| at.duration_since(SystemTime::now()).unwrap_or_default())
}
