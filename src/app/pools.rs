//! The session pools of all targets. Targets with the same endpoint, bastion, identity and settings share a pool, and so its
//! sessions: for example two users of a database, or two databases of a server.

use std::{pin::pin, time::Duration};

use tokio::{task::JoinSet, time::sleep};
use tracing::warn;

use super::Event;
use crate::{
    aws::Account,
    target::{Endpoint, Identity, InstanceId, Pooling, Region, Route, SessionSettings, Target},
    tunnel::{
        Dialer, control,
        pool::{CLOSE_TIMEOUT, Pool},
    },
};

/// The time after which a slow end of sessions is reported.
const CLOSE_NOTICE: Duration = Duration::from_secs(1);

/// The pools made so far.
#[derive(Default)]
pub struct Pools {
    start_for: Duration,
    resume_for: Duration,
    open: Vec<(PoolKey, Pool)>,
}

/// The settings that two targets must have in common to share a pool.
#[derive(PartialEq, Eq)]
struct PoolKey {
    identity: Identity,
    region: Region,
    bastion: InstanceId,
    endpoint: Endpoint,
    session: SessionSettings,
    pooling: Pooling,
}

impl Pools {
    /// Starts without pools. A session may take three quarters of `connect_timeout` to start while AWS throttles; the rest is
    /// left for reaching the database, or for reporting the failure. A session that lost its connection is resumed for
    /// `resume_for`.
    pub fn new(connect_timeout: Duration, resume_for: Duration) -> Self {
        Self { start_for: connect_timeout * 3 / 4, resume_for, open: Vec::new() }
    }

    /// The dialer of a target. Opens nothing yet.
    pub fn dialer(&mut self, target: &Target, account: &Account) -> Dialer {
        match &target.route {
            Route::Ssm(bastion) => Dialer::Ssm(self.pool(target, account, bastion)),
            Route::Direct => Dialer::Direct(target.endpoint.clone()),
            Route::Auto(bastion) => Dialer::auto(target.endpoint.clone(), self.pool(target, account, bastion)),
        }
    }

    fn pool(&mut self, target: &Target, account: &Account, bastion: &InstanceId) -> Pool {
        let key = PoolKey {
            identity: target.identity.clone(),
            region: target.region.clone(),
            bastion: bastion.clone(),
            endpoint: target.endpoint.clone(),
            session: target.session.clone(),
            pooling: target.pooling.clone(),
        };
        if let Some((_, pool)) = self.open.iter().find(|(known, _)| *known == key) {
            return pool.clone();
        }
        let limits = (self.start_for, self.resume_for);
        let spec = control::spec(account, bastion, &target.endpoint, &target.session, limits);
        let pool = Pool::new(spec, target.pooling.clone());
        self.open.push((key, pool.clone()));
        pool
    }

    /// Ends all sessions concurrently; each waits for AWS for a bounded time. When `hurry` resolves, the remaining ones are left to
    /// the service, which ends them by its idle timeout.
    pub async fn close(self, mut hurry: impl AsyncFnMut(), mut events: impl FnMut(Event<'_>)) {
        let open = |pool: &Pool| {
            let stats = pool.stats();
            stats.sessions.len() + stats.opening
        };
        let sessions = self.open.iter().map(|(_, pool)| open(pool)).sum();
        let mut closing: JoinSet<()> =
            self.open.into_iter().map(|(_, pool)| async move { pool.close().await }).collect();
        let mut closed = pin!(async { while closing.join_next().await.is_some() {} });
        tokio::select! {
            () = &mut closed => return,
            () = sleep(CLOSE_NOTICE) => events(Event::Ending { sessions, at_most: CLOSE_TIMEOUT }),
            () = hurry() => return left_alone(sessions),
        }
        tokio::select! {
            () = closed => {}
            () = hurry() => left_alone(sessions),
        }
    }
}

fn left_alone(sessions: usize) {
    warn!(sessions, "signal received: leaving open SSM sessions to their idle timeout");
}
