//! StartSession with retries, and the end of sessions that a lost reply leaves behind.
//!
//! A call whose reply was lost may have started a session all the same. Its id is unknown, and it would stay until the
//! idle timeout of the account. Therefore the SDK makes one attempt of each call and the retries are made here. The reason of
//! each session contains a mark, and sessions with that mark other than the one in use are ended.

use std::time::Duration;

use ssm_session::{
    backoff::Backoff,
    control::{Grant, StartSession},
};
use tokio::time::{Instant, sleep};
use tracing::{debug, info};

use super::{
    Account, Error, Retry,
    limits::{ATTEMPTS, CALL_TIMEOUT},
};
use crate::target::InstanceId;

/// The wait between the last attempt and the search, because a call that was cut off may still be in progress.
const SEARCH_AFTER: Duration = Duration::from_secs(2);

/// The outcome of starting a session.
#[derive(Debug)]
pub struct Start {
    /// The session.
    pub outcome: Result<Grant, Error>,
    /// Set if a reply was lost: other sessions may have been started.
    pub may_have_orphans: bool,
}

impl Account {
    /// Starts a session, and retries after transient failures. While AWS throttles, retries continue for `throttled_for`, and
    /// `on_throttled` is called before each.
    pub async fn start_session(
        &self,
        node: &InstanceId,
        request: &StartSession,
        throttled_for: Duration,
        on_throttled: impl Fn(),
    ) -> Start {
        let throttled_until = Instant::now() + throttled_for;
        let deadline = Instant::now() + CALL_TIMEOUT;
        let mut backoff = Backoff::default();
        let mut random = fastrand::Rng::new();
        let mut may_have_orphans = false;
        let mut tries = 0;
        loop {
            tries += 1;
            let outcome = self.try_start_session(node, request).await;
            let Err(cause) = &outcome else { return Start { outcome, may_have_orphans } };
            may_have_orphans |= cause.is_uncertain();
            let delay = backoff.next_delay(&mut random);
            let tried = Instant::now() + delay;
            let may_retry = match cause {
                Error::Throttled { .. } => {
                    on_throttled();
                    tried < throttled_until
                }
                cause => cause.retry() == Retry::Backoff && tries < ATTEMPTS && tried < deadline,
            };
            if !may_retry {
                return Start { outcome, may_have_orphans };
            }
            debug!(%cause, "StartSession failed, trying again");
            sleep(delay).await;
        }
    }

    /// Ends the sessions of this caller whose reason contains `mark`, except for `keep`. Needs `ssm:DescribeSessions`; without
    /// it they end by their idle timeout.
    pub async fn end_orphans(&self, mark: &str, keep: Option<&str>) {
        sleep(SEARCH_AFTER).await;
        let sessions = match self.open_sessions().await {
            Ok(sessions) => sessions,
            Err(cause) => {
                return debug!(%cause, "sessions that a lost answer may have left behind cannot be looked for");
            }
        };
        let orphans = sessions.iter().filter(|session| session.reason.contains(mark) && Some(&*session.id) != keep);
        for orphan in orphans {
            match self.terminate_session(&orphan.id).await {
                Ok(()) => info!(session = %orphan.id, "ended an SSM session that a lost answer had left behind"),
                Err(cause) => debug!(session = %orphan.id, %cause, "a session that was left behind cannot be ended"),
            }
        }
    }
}
