//! How connections to a target share SSM sessions.

use std::time::Duration;

pub use ssm_session::pool::{Isolation, Pooling};

use super::Host;
use crate::service::Service;

/// The age at which a session to a cluster's endpoint takes no new connections, since the name moves from one instance to another.
const ROTATE_AFTER: Duration = Duration::from_mins(30);

/// The defaults for a host: the crate's, and sessions to a cluster's endpoint rotate.
pub fn default_pooling(isolation: Isolation, host: &Host) -> Pooling {
    Pooling {
        rotate_after: host.service().is_some_and(Service::moves).then_some(ROTATE_AFTER),
        ..Pooling::new(isolation)
    }
}
