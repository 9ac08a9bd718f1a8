//! Direct if that works, else through the bastion: for a machine that is on the VPN at one time and not at another.
//!
//! The direct route has two seconds, in which the database itself must have said something. When it does not work that is
//! remembered for a minute, in which connections go through the bastion at once; then one connection tries again while the
//! others do not wait for it.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::time::{Instant, timeout};
use tracing::{debug, info};

use super::{Stream, direct, pool::Pool};
use crate::{causes, limits::AUTO_DIRECT_TIMEOUT, target::Endpoint};

/// How long a direct route that did not work is not tried.
const TRY_AGAIN_AFTER: Duration = Duration::from_mins(1);

/// The two routes to one endpoint.
pub struct Auto {
    endpoint: Endpoint,
    pool: Pool,
    known: Mutex<Known>,
}

/// What the last connections have shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Nothing,
    Direct,
    /// Direct does not work; try again then.
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

    /// Tries the direct route, when it is worth a try. It works when `exchange` succeeds in time, or fails with an error that
    /// the database itself caused, as `from_database` says; a connection alone shows nothing, since VPN clients and address
    /// translators accept every one. `None`: go through the bastion.
    ///
    /// # Errors
    /// What the database said.
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
    /// Whether to try the direct route now; for the others the time has been put off.
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

    /// Says whether that is news.
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
