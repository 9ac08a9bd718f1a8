//! The sharing of SSM sessions between connections to a target.

use std::time::Duration;

pub use ssm_session::pool::{Isolation, Pooling};

use super::Host;
use crate::service::Service;

/// The age at which a session to a cluster's endpoint takes no new connections, since the name moves from one instance to another.
const ROTATE_AFTER: Duration = Duration::from_mins(30);

/// The defaults for a host: those of the crate, and rotation of sessions to a cluster's endpoint.
pub fn default_pooling(isolation: Isolation, host: &Host) -> Pooling {
    Pooling {
        rotate_after: host.service().is_some_and(Service::moves).then_some(ROTATE_AFTER),
        ..Pooling::new(isolation)
    }
}
