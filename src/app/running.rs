//! A running proxy, from its start to its shutdown.
//!
//! Its tasks: one for each listener, one for each connection, and one for each target that checks the path to the database at the
//! start. [`Running`] owns all of them, and none outlives [`Running::stop`].
//!
//! The targets are prepared and put in place as a [reload](super::reload) does it.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use super::{
    Cause, Error, Event, Pools,
    current::Current,
    door::{Door, Ping},
    room::Rooms,
    waits::{self, Stage, Wait},
};
use crate::{
    aws::Accounts,
    config::Config,
    connect::{self, Deadline},
    listen::{Local, passed::Passed},
    proxy::{
        self,
        serve::{Learning, Service, learn, reach},
    },
    target::Target,
    telemetry::{log, metrics::Metrics},
    tunnel::own::Listening,
};

/// The time after which connections that are still open at shutdown count as busy and are reported.
const DRAIN_NOTICE: Duration = Duration::from_millis(300);
/// The time limit for aborted connections to send their final error.
const ABORT_TIMEOUT: Duration = Duration::from_secs(3);

/// A running proxy. End it with [`Running::stop`]; dropping it leaves SSM sessions to their idle timeout.
pub struct Running {
    pub(super) tasks: TaskTracker,
    /// Cancelled when no more clients are accepted.
    pub(super) stop: CancellationToken,
    /// Cancelled when idle connections must end.
    pub(super) drain: CancellationToken,
    /// Cancelled when busy connections must end too.
    pub(super) abort: CancellationToken,
    pub(super) served: Vec<Served>,
    /// The addresses of `served`. A direct dial that would end at one of them is an error.
    pub(super) listening: Vec<Listening>,
    /// The targets that reloads have removed, for as long as they have connections.
    pub(super) leaving: Vec<Arc<Current>>,
    pub(super) pools: Arc<Mutex<Pools>>,
    /// The sockets of a supervisor.
    pub(super) passed: Passed,
    pub(super) rooms: Rooms,
    pub(super) limits: Limits,
    /// The number of configured targets.
    pub(super) targets: usize,
    /// The cause of the first target that cannot be served as it is configured.
    pub(super) failed: Option<Cause>,
}

/// A target that is served.
pub struct Served {
    /// The target.
    pub target: Arc<Target>,
    /// Every bound address, with the port that the system chose for port 0.
    pub bound: Vec<Local>,
    pub(super) current: Arc<Current>,
    pub(super) doors: Vec<Door>,
    pub(super) tasks: TaskTracker,
}

/// Settings of the process that services and pools are made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) connect_timeout: Duration,
    pub(super) resume_for: Duration,
}

impl Limits {
    pub(super) fn of(config: &Config) -> Self {
        Self { connect_timeout: config.connect_timeout, resume_for: config.resume_for }
    }
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served").field("target", &self.target.name).field("bound", &self.bound).finish_non_exhaustive()
    }
}

impl Served {
    /// Connects to the database without logging in, so that the first client need not wait for a session.
    ///
    /// # Errors
    /// The error that the first client would get.
    pub async fn reach(&self) -> Result<(), connect::Error> {
        let service = self.current.service().await;
        let deadline = Deadline::unattended(Instant::now() + service.connect_timeout);
        if let Some(keeping) = reach(&service, deadline).await? {
            self.tasks.spawn(keeping);
        }
        Ok(())
    }

    /// The stage of [`Served::reach`], which began at `since`, while it is under way.
    pub fn stage(&self, since: std::time::Instant) -> Stage {
        waits::reaching(&self.current.last(), since)
    }
}

impl Running {
    /// Binds and serves every target that can be served, by the `passed` sockets as far as there are any.
    ///
    /// # Errors
    /// If no target can be served: the first error. Nothing is left behind then.
    pub async fn start(
        (config, passed): (Config, Passed),
        accounts: &Accounts,
        metrics: &Metrics,
        events: impl FnMut(Event<'_>) + Send,
    ) -> Result<Self, Error> {
        let limits = Limits::of(&config);
        let mut running = Self {
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            drain: CancellationToken::new(),
            abort: CancellationToken::new(),
            served: Vec::new(),
            listening: Vec::new(),
            leaving: Vec::new(),
            pools: Arc::new(Mutex::new(Pools::new(limits.connect_timeout, limits.resume_for))),
            passed,
            rooms: Rooms::of_process(),
            limits,
            targets: 0,
            failed: None,
        };
        for target in &config.targets {
            log::label(&target.name, target.guard.label.as_deref());
        }
        let prepared = running.prepare(config, accounts).await?;
        running.switch(prepared, metrics, events).await;
        Ok(running)
    }

    /// The services of the targets that a reload has removed.
    pub(super) fn leaving(&self) -> &[Arc<Current>] {
        &self.leaving
    }

    /// The channels on which the accept loops are asked whether they are alive.
    pub(super) fn pings(&self) -> Vec<mpsc::Sender<Ping>> {
        self.served.iter().flat_map(|served| &served.doors).map(Door::pings).collect()
    }

    /// The first target whose clients wait for something.
    pub(super) fn wait(&self) -> Option<Wait> {
        self.served.iter().find_map(|served| {
            let stage = waits::stage(&served.current.last())?;
            Some(Wait { target: Arc::clone(&served.target.name), stage })
        })
    }

    /// The served targets, in the order of the configuration.
    pub fn served(&self) -> &[Served] {
        &self.served
    }

    /// Checks credentials and sessions of targets in the background, and logs obstacles.
    pub fn check(&self, concerned: impl Fn(&Arc<str>) -> bool) {
        for served in self.served.iter().filter(|served| concerned(&served.target.name)) {
            let (service, tasks) = (served.current.last(), self.tasks.clone());
            let learning = Learning::begin(&service);
            self.until_stop(async move {
                if check(&service).await {
                    // To its end, because the server minds a connection that is broken off.
                    tasks.spawn(async move { learn(&service, learning).await });
                }
            });
        }
    }

    pub(super) fn pools(&self) -> MutexGuard<'_, Pools> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn until_stop(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = work => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// Shuts down: busy connections have `delay` to finish, then SSM sessions are terminated. Each time that `hurry` resolves, the
    /// current wait is given up.
    pub async fn stop(self, delay: Duration, mut hurry: impl AsyncFnMut(), mut events: impl FnMut(Event<'_>)) {
        let Self { tasks, stop, drain, abort, pools, .. } = self;
        info!("stopping: no new connections");
        events(Event::Stopping);
        stop.cancel();
        drain.cancel();
        tasks.close();
        let drained = async {
            // Idle connections end by themselves meanwhile.
            if timeout(DRAIN_NOTICE, tasks.wait()).await.is_err() {
                events(Event::Draining { connections: tasks.len(), at_most: delay });
                tasks.wait().await;
            }
        };
        tokio::select! {
            ended = timeout(delay, drained) => if ended.is_err() {
                warn!(connections = tasks.len(), "closing busy connections: --max-sigterm-delay is over");
            },
            () = hurry() => warn!(connections = tasks.len(), "second signal: closing busy connections"),
        }
        abort.cancel();
        tokio::select! {
            () = tasks.wait() => {}
            () = sleep(ABORT_TIMEOUT) => warn!(connections = tasks.len(), "connections did not end in time"),
            () = hurry() => {}
        }
        let pools = std::mem::take(&mut *pools.lock().unwrap_or_else(PoisonError::into_inner));
        pools.close(hurry, events).await;
    }
}

/// Reports expired credentials or an offline bastion at the start instead of at the first connection. This is not fatal, because
/// both can recover. Returns whether it found neither.
async fn check(service: &Service) -> bool {
    let target = service.upstream.target();
    let ready = match service.upstream.check_credentials().await {
        Ok(()) => service.upstream.warm().await,
        Err(cause) if cause.needs_person() && service.upstream.may_ask() => {
            info!(target = %target.name, %cause, "you will be prompted to log in when a client connects");
            return false;
        }
        Err(cause) => Err(connect::Error::Credentials(cause)),
    };
    if let Err(cause) = ready {
        let cause = proxy::error::Error::from(cause);
        service.found_failure(&cause);
        let (hint, cause) = (cause.hint(target).unwrap_or_default(), cause.message(target));
        warn!(target = %target.name, cause, hint, "connections will fail");
        return false;
    }
    true
}
