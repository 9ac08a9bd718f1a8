//! The pools of several targets. Those that lead through one bastion to one endpoint in the same way share theirs, and so the
//! sessions: two users of a database, say, or two databases of a server.

use std::{pin::pin, time::Duration};

use tokio::{task::JoinSet, time::sleep};
use tracing::warn;

use super::Event;
use crate::{
    aws::Account,
    target::{Endpoint, Identity, InstanceId, Pooling, Region, Route, SessionSettings, Target},
    tunnel::{
        Dialer, Spec,
        pool::{CLOSE_TIMEOUT, Pool},
        ssm::conversation,
    },
};

/// Ends of sessions that take longer than usual are worth a word.
const CLOSE_NOTICE: Duration = Duration::from_secs(1);

/// The pools so far.
#[derive(Default)]
pub struct Pools {
    start_for: Duration,
    resume_for: Duration,
    open: Vec<(Way, Pool)>,
}

/// All that makes one pool's sessions unlike another's.
#[derive(PartialEq, Eq)]
struct Way {
    identity: Identity,
    region: Region,
    bastion: InstanceId,
    endpoint: Endpoint,
    session: SessionSettings,
    pooling: Pooling,
}

impl Pools {
    /// None yet. A client has `connect_timeout` in all, most of which its session may take while AWS throttles; the rest is
    /// for the way to the database, or for telling the client. Sessions whose connection was lost are resumed for
    /// `resume_for`.
    pub fn new(connect_timeout: Duration, resume_for: Duration) -> Self {
        Self { start_for: connect_timeout * 3 / 4, resume_for, open: Vec::new() }
    }

    /// The way to a target. Nothing is opened yet.
    pub fn dialer(&mut self, target: &Target, account: &Account) -> Dialer {
        match &target.route {
            Route::Ssm(bastion) => Dialer::Ssm(self.pool(target, account, bastion)),
            Route::Direct => Dialer::Direct(target.endpoint.clone()),
            Route::Auto(bastion) => Dialer::auto(target.endpoint.clone(), self.pool(target, account, bastion)),
        }
    }

    fn pool(&mut self, target: &Target, account: &Account, bastion: &InstanceId) -> Pool {
        let way = Way {
            identity: target.identity.clone(),
            region: target.region.clone(),
            bastion: bastion.clone(),
            endpoint: target.endpoint.clone(),
            session: target.session.clone(),
            pooling: target.pooling.clone(),
        };
        if let Some((_, pool)) = self.open.iter().find(|(known, _)| *known == way) {
            return pool.clone();
        }
        let settings = target.session.clone();
        let options = conversation::Options {
            payload_size: settings.payload_size,
            keep_alive: settings.keep_alive,
            idle_timeout: settings.idle_timeout,
            ..conversation::Options::default()
        };
        let spec = Spec {
            account: account.clone(),
            bastion: bastion.clone(),
            endpoint: target.endpoint.clone(),
            settings,
            options,
            start_for: self.start_for,
            resume_for: self.resume_for,
        };
        let pool = Pool::new(spec, target.pooling.clone());
        self.open.push((way, pool.clone()));
        pool
    }

    /// Ends all sessions, together: each has its own bounded wait for AWS. When `hurry` resolves they are left to the service,
    /// which ends them by its idle timeout.
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
