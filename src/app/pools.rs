//! The session pools of all targets. Targets with the same endpoint, bastion, identity and settings share a pool, and so its
//! sessions: for example two users of a database, or two databases of a server.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::sleep};
use tracing::warn;

use super::Event;
use crate::{
    aws::Account,
    connect::Pace,
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
    /// One queue of logins for each database and rate.
    paces: Vec<(Endpoint, usize, Arc<Pace>)>,
}

/// The settings that two targets must have in common to share a pool.
#[derive(PartialEq, Eq)]
struct PoolKey {
    start_for: Duration,
    resume_for: Duration,
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
        Self { start_for: connect_timeout * 3 / 4, resume_for, ..Self::default() }
    }

    /// Other limits for the pools that are made from now on.
    pub fn set_limits(&mut self, connect_timeout: Duration, resume_for: Duration) {
        let Self { start_for, resume_for, .. } = Self::new(connect_timeout, resume_for);
        (self.start_for, self.resume_for) = (start_for, resume_for);
    }

    /// Lets the sessions of all pools that are not `used` end with their last connection.
    pub fn retire_all_but(&self, used: &[&Pool]) {
        for (_, pool) in &self.open {
            pool.set_retired(!used.iter().any(|used| used.is(pool)));
        }
    }

    /// The queue of logins at the database of a target.
    pub fn pace(&mut self, target: &Target) -> Arc<Pace> {
        self.queue(&target.endpoint, target.max_logins_per_second)
    }

    fn queue(&mut self, endpoint: &Endpoint, rate: usize) -> Arc<Pace> {
        // A queue without a target, of a rate that a reload has replaced.
        self.paces.retain(|(.., pace)| Arc::strong_count(pace) > 1);
        if let Some((.., pace)) = self.paces.iter().find(|(known, of, _)| known == endpoint && *of == rate) {
            return Arc::clone(pace);
        }
        let pace = Arc::new(Pace::new(rate));
        self.paces.push((endpoint.clone(), rate, Arc::clone(&pace)));
        pace
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
            start_for: self.start_for,
            resume_for: self.resume_for,
            identity: target.identity.clone(),
            region: target.region.clone(),
            bastion: bastion.clone(),
            endpoint: target.endpoint.clone(),
            session: target.session.clone(),
            pooling: target.pooling.clone(),
        };
        if let Some((_, pool)) = self.open.iter().find(|(known, _)| *known == key) {
            pool.set_retired(false);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_of_logins_goes_with_the_last_target_that_has_it() {
        let mut pools = Pools::new(Duration::from_secs(1), Duration::from_secs(1));
        let host = "orders.c1abcdefghij.eu-central-1.rds.amazonaws.com".parse().unwrap();
        let endpoint = Endpoint { host, port: 5432 };
        let first = pools.queue(&endpoint, 100);
        assert!(Arc::ptr_eq(&first, &pools.queue(&endpoint, 100)));
        let second = pools.queue(&endpoint, 50);
        assert_eq!(pools.paces.len(), 2);
        drop(first);
        assert!(Arc::ptr_eq(&second, &pools.queue(&endpoint, 50)));
        assert_eq!(pools.paces.len(), 1, "no target has the other rate");
    }
}
