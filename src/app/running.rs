//! A running proxy, from its start to its shutdown.
//!
//! Its tasks: one for each listener, one for each connection, and one for each target that checks the path to the database at the
//! start. [`Running`] owns all of them, and none outlives [`Running::stop`].

use std::{
    fmt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use super::{
    Cause, Error, Event, Pools,
    current::Current,
    waits::{self, Stage, Wait},
};
use crate::{
    aws::{self, Accounts},
    config::Config,
    connect::{self, Deadline, Upstream},
    listen::{self, Listener, Local},
    local_password::LocalPassword,
    proxy::{
        self,
        serve::{Service, counts, learn, reach, serve},
    },
    target::{Address, LocalTls, LocalTlsMode, Target},
    telemetry::{log, metrics::Metrics},
    tls,
    tunnel::own::Listening,
};

/// The pause after a failed accept, which mostly means that file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The time after which connections that are still open at shutdown count as busy and are reported.
const DRAIN_NOTICE: Duration = Duration::from_millis(300);
/// The time limit for aborted connections to send their final error.
const ABORT_TIMEOUT: Duration = Duration::from_secs(3);

/// A running proxy. End it with [`Running::stop`]; dropping it leaves SSM sessions to their idle timeout.
pub struct Running {
    tasks: TaskTracker,
    /// Cancelled when no more clients are accepted.
    stop: CancellationToken,
    /// Cancelled when idle connections must end.
    drain: CancellationToken,
    /// Cancelled when busy connections must end too.
    abort: CancellationToken,
    served: Vec<Served>,
    /// The addresses of `served`. A direct dial that would end at one of them is an error.
    listening: Vec<Listening>,
    pools: Arc<Mutex<Pools>>,
    /// The number of configured targets.
    pub(super) targets: usize,
    /// The cause of the first target that could not be served.
    pub(super) failed: Option<Cause>,
}

/// A target that is served.
pub struct Served {
    /// The target.
    pub target: Arc<Target>,
    /// Every bound address, with the port that the system chose for port 0.
    pub bound: Vec<Local>,
    pub(super) current: Arc<Current>,
    tasks: TaskTracker,
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
}

impl Served {
    /// The stage of [`Served::reach`], which began at `since`, while it is under way.
    pub fn stage(&self, since: std::time::Instant) -> Stage {
        waits::reaching(&self.current.last(), since)
    }
}

impl Running {
    /// Binds and serves every target that can be served.
    ///
    /// # Errors
    /// If no target can be served: the first error. Nothing is left behind then.
    pub async fn start(
        config: Config,
        accounts: &Accounts,
        metrics: &Metrics,
        mut events: impl FnMut(Event<'_>) + Send,
    ) -> Result<Self, Error> {
        let mut running = Self {
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            drain: CancellationToken::new(),
            abort: CancellationToken::new(),
            served: Vec::new(),
            listening: Vec::new(),
            pools: Arc::new(Mutex::new(Pools::new(config.connect_timeout, config.resume_for))),
            targets: config.targets.len(),
            failed: None,
        };
        let mut bound = Vec::new();
        let mut errors = Vec::new();
        for target in &config.targets {
            if let Some(label) = &target.guard.label {
                log::label(&target.name, label);
            }
            match running.bind(Arc::new(target.clone()), &config, accounts, metrics).await {
                Ok(service) => bound.push(service),
                Err(error) => errors.push(error),
            }
        }
        running.failed = errors.first().map(Error::cause);
        let mut errors = errors.into_iter();
        let fatal = if bound.is_empty() { errors.next() } else { None };
        for error in errors {
            events(Event::Failed { error });
        }
        if let Some(error) = fatal {
            return Err(error);
        }
        for (listeners, current) in bound {
            let target = Arc::clone(current.last().upstream.target());
            let bound: Vec<_> = listeners.iter().filter_map(|listener| listener.local().ok()).collect();
            running.listening.push(Listening::on(&bound.iter().filter_map(Local::tcp).collect::<Vec<_>>()));
            events(Event::Listening { target: Arc::clone(&target), bound: bound.clone() });
            for listener in listeners {
                running.listen(listener, &current);
            }
            let tasks = running.tasks.clone();
            running.served.push(Served { target, bound, current, tasks });
        }
        Ok(running)
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

    /// Checks credentials and sessions of the targets in the background, and logs obstacles.
    pub fn check(&self) {
        for served in &self.served {
            let (service, tasks) = (served.current.last(), self.tasks.clone());
            self.until_stop(async move {
                if check(&service).await {
                    // To its end, because the server minds a connection that is broken off.
                    tasks.spawn(async move { learn(&service).await });
                }
            });
        }
    }

    async fn bind(
        &mut self,
        target: Arc<Target>,
        config: &Config,
        accounts: &Accounts,
        metrics: &Metrics,
    ) -> Result<(Vec<Listener>, Arc<Current>), Error> {
        let listen_failed = |cause| Error::Listen { target: Arc::clone(&target.name), cause };
        let password_failed = |cause| Error::LocalPassword { target: Arc::clone(&target.name), cause };
        let password = target.local_password_file.as_deref().map(LocalPassword::of_file).transpose();
        let password = password.map_err(password_failed)?;
        let listeners = listen::bind_all(&target).await.map_err(listen_failed)?;
        let upstream = self.upstream(&target, accounts)?;
        let local_tls =
            local_tls(&target, config).map_err(|cause| Error::LocalTls { target: Arc::clone(&target.name), cause })?;
        let (drain, abort) = (self.drain.clone(), self.abort.clone());
        let service = Service::new(upstream, counts(metrics, &target), config.connect_timeout, drain, abort);
        let service = service.with_local_tls(local_tls).with_password(password);
        Ok((listeners, Arc::new(Current::new(service, &self.pools))))
    }

    fn upstream(&mut self, target: &Arc<Target>, accounts: &Accounts) -> Result<Upstream, Error> {
        let options = aws::Options { identity: target.identity.clone(), region: target.region.clone() };
        let aws_failed = |cause| Error::Aws { target: Arc::clone(&target.name), cause };
        let account = accounts.load(&options).map_err(aws_failed)?;
        let tls_failed = |cause| Error::Tls { target: Arc::clone(&target.name), cause };
        let tls = tls::Connector::new(&target.endpoint.host, target.ca_file.as_ref()).map_err(tls_failed)?;
        let dialer = self.pools.lock().unwrap_or_else(PoisonError::into_inner).dialer(target, &account);
        Ok(Upstream::new(Arc::clone(target), account, dialer, tls))
    }

    fn listen(&self, listener: Listener, current: &Arc<Current>) {
        let (current, tasks) = (Arc::clone(current), self.tasks.clone());
        self.until_stop(async move { accept(listener, &current, &tasks).await });
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

/// TLS for the clients of a target that offers it. The authority, if it is made now, may prove the names of all targets.
fn local_tls(target: &Target, config: &Config) -> Result<Option<Arc<tls::local::Server>>, tls::local::Error> {
    let LocalTls { mode, names, certificate } = &target.local_tls;
    if *mode == LocalTlsMode::Off {
        if target.listen.iter().any(Address::is_open) {
            warn!(target = %target.name, "clients of other machines send in clear, because local_tls is off");
        }
        return Ok(None);
    }
    let folder = certificate.as_deref().and_then(Path::parent).ok_or(tls::local::Error::NoFolder)?;
    let of_all: Vec<String> = config.targets.iter().flat_map(|target| target.local_tls.names.clone()).collect();
    let authority = tls::local::Authority::open(folder, &of_all)?;
    let server = tls::local::Server::new(Arc::new(authority), names, target.engine.facts().alpn)?;
    Ok(Some(Arc::new(server)))
}

async fn accept(listener: Listener, current: &Arc<Current>, tasks: &TaskTracker) {
    loop {
        match listener.accept().await {
            Ok(client) => {
                let (current, accepted) = (Arc::clone(current), Instant::now());
                tasks.spawn(async move { serve(&*current.service().await, client, accepted).await });
            }
            Err(cause) => {
                warn!(%cause, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Reports expired credentials or an offline bastion at the start instead of at the first connection. This is not fatal, because
/// both can recover. Whether there is neither.
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
        let worded = |text: String| target.engine.worded(&text);
        let (hint, cause) = (cause.hint(target).map(worded).unwrap_or_default(), worded(cause.message()));
        warn!(target = %target.name, cause, hint, "connections will fail");
        return false;
    }
    true
}
