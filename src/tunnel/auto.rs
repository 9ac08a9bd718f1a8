//! The route `auto`: direct if that works, else through the bastion. For a machine that is only sometimes on the VPN.
//!
//! The direct route has a limit of two seconds, within which the database itself must reply. A failure is remembered for a
//! minute, in which connections go through the bastion at once. Then one connection tries again, and the others do not wait.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use ssm_session::pool::Pool;
use tokio::time::{Instant, timeout};
use tracing::{debug, info};

use super::{direct, stream::Stream};
use crate::{causes, limits::AUTO_DIRECT_TIMEOUT, target::Endpoint};

/// The time for which a failed direct route is not tried again.
const TRY_AGAIN_AFTER: Duration = Duration::from_mins(1);

/// The two routes to one endpoint.
pub struct Auto {
    endpoint: Endpoint,
    pool: Pool,
    known: Mutex<Known>,
}

/// The result of the last attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Nothing,
    Direct,
    /// The direct route does not work; it is tried again after `until`.
    Bastion {
        until: Instant,
    },
}

impl Auto {
    pub(super) fn new(endpoint: Endpoint, pool: Pool) -> Self {
        Self { endpoint, pool, known: Mutex::new(Known::Nothing) }
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Tries the direct route, unless it failed recently. It works if `exchange` succeeds in time, or fails with an error of the
    /// database itself, as decided by `from_database`. A TCP connection alone proves nothing, since VPN clients and address
    /// translators accept every one. `None`: use the bastion.
    ///
    /// # Errors
    /// The error of the database.
    pub async fn direct<T, E: std::error::Error + 'static>(
        &self,
        exchange: impl for<'a> Fn(&'a mut Stream) -> BoxFuture<'a, Result<T, E>>,
        from_database: impl Fn(&E) -> bool,
    ) -> Result<Option<(Stream, T)>, E> {
        if !self.known().is_worth_a_try(Instant::now()) {
            return Ok(None);
        }
        let attempt = async {
            let mut stream = match direct::dial(&self.endpoint, AUTO_DIRECT_TIMEOUT).await {
                Ok(stream) => Stream::Direct(stream),
                Err(error) => return Err(causes::one_line(&error)),
            };
            match exchange(&mut stream).await {
                Err(error) if !from_database(&error) => {
                    Err(format!("what accepts there is not the database: {}", causes::one_line(&error)))
                }
                said => Ok((stream, said)),
            }
        };
        let cause = match timeout(AUTO_DIRECT_TIMEOUT, attempt).await {
            Ok(Ok((stream, said))) => {
                if self.known().learn(Known::Direct) {
                    info!(endpoint = %self.endpoint, "the database is reached directly");
                }
                return said.map(|said| Some((stream, said)));
            }
            Ok(Err(cause)) => cause,
            Err(_) => format!("no word of the database within {} s", AUTO_DIRECT_TIMEOUT.as_secs()),
        };
        let until = Instant::now() + TRY_AGAIN_AFTER;
        if self.known().learn(Known::Bastion { until }) {
            info!(endpoint = %self.endpoint, cause, "the database is not reached directly, going through the bastion");
        } else {
            debug!(endpoint = %self.endpoint, cause, "the database is still not reached directly");
        }
        Ok(None)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Whether to try the direct route now. If so, the next attempt of other connections is postponed.
    fn is_worth_a_try(&mut self, now: Instant) -> bool {
        match self {
            Self::Nothing | Self::Direct => true,
            Self::Bastion { until } if now >= *until => {
                *until = now + TRY_AGAIN_AFTER;
                true
            }
            Self::Bastion { .. } => false,
        }
    }

    /// Records the result. Returns whether it differs from the last one.
    fn learn(&mut self, learnt: Self) -> bool {
        let before = std::mem::replace(self, learnt);
        std::mem::discriminant(&before) != std::mem::discriminant(&learnt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_direct_route_that_fails_is_tried_by_one_connection_a_minute() {
        let start = Instant::now();
        let mut known = Known::Nothing;
        assert!(known.is_worth_a_try(start));
        assert!(known.learn(Known::Bastion { until: start + TRY_AGAIN_AFTER }));
        assert!(!known.is_worth_a_try(start + Duration::from_secs(59)));
        let later = start + TRY_AGAIN_AFTER;
        assert!(known.is_worth_a_try(later));
        assert!(!known.is_worth_a_try(later), "the second one does not wait");
        assert!(!known.learn(Known::Bastion { until: later + TRY_AGAIN_AFTER }), "no news");
        assert!(known.learn(Known::Direct));
        assert!(known.is_worth_a_try(later) && known.is_worth_a_try(later));
        assert!(!known.learn(Known::Direct));
    }
}
