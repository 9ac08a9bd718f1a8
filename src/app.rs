//! The composition root: from a [`Config`] to a running proxy and back. Owns every long task and the order of the end.
//!
//! ```text
//!   admin endpoints ─▶ Running::start   bind each target's listeners ─▶ say so ─▶ accept ─▶ ready
//!   Running::stop   stop accepting ─▶ idle connections end, busy ones may finish ─▶ abort the rest
//!                   ─▶ terminate SSM sessions ─▶ admin endpoints end
//! ```
//!
//! [`run`] is the two with a signal between them. A target whose listeners cannot be bound is reported and does not stop the
//! others; when none is left there is nothing to run. A second signal cuts the waiting short; sessions are terminated all the
//! same.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc::UnboundedReceiver,
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use crate::{
    admin,
    aws::{self, Accounts, Prompt},
    config::Config,
    proxy::{
        error, listener,
        registry::Registry,
        serve::{Service, counts, serve},
        upstream::Upstream,
    },
    target::{InstanceId, Route, Target},
    telemetry::metrics::Metrics,
    tls,
    tunnel::{Dialer, Spec, pool::Pool, ssm::conversation},
};

/// The system is out of something that accepting needs, file descriptors mostly: wait for connections to end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the user is told while the proxy runs.
#[derive(Debug)]
pub enum Event<'a> {
    /// A target's listeners are bound.
    Listening {
        /// The target.
        target: Arc<Target>,
        /// The addresses, with the port that the system chose if it was to.
        addresses: Vec<SocketAddr>,
    },
    /// The admin address is bound.
    Admin {
        /// Which it is.
        address: String,
    },
    /// AWS wants something of a person.
    Prompt {
        /// What.
        prompt: Prompt,
        /// Whether to open the page that it is about in a browser.
        open_browser: bool,
    },
    /// A target is not served; others may be.
    Failed {
        /// Why.
        error: Error,
    },
    /// Every listener is bound that could be.
    Ready {
        /// What is served.
        served: &'a [Served],
        /// How many were asked for.
        targets: usize,
    },
}

impl From<&aws::Error> for Cause {
    /// An API that fails for the credentials' sake is about them.
    fn from(error: &aws::Error) -> Self {
        match error {
            aws::Error::AccessDenied { .. }
            | aws::Error::TargetNotConnected { .. }
            | aws::Error::InvalidDocument { .. }
            | aws::Error::SessionGone { .. }
            | aws::Error::Throttled { .. }
            | aws::Error::BadRequest { .. }
            | aws::Error::Service { .. }
            | aws::Error::Incomplete { .. }
            | aws::Error::Timeout { .. }
            | aws::Error::Transport { .. } => Self::Aws,
            _ => Self::Credentials,
        }
    }
}

/// What ended the proxy in good order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// SIGINT, Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

/// Which part failed: decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// This machine: an address that is taken, a file.
    Local,
    /// The configuration.
    Configuration,
    /// AWS credentials.
    Credentials,
    /// An AWS API, the tunnel.
    Aws,
    /// The database's TLS or login.
    Database,
}

/// Why the proxy could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No listener.
    #[error("cannot serve {target}")]
    Listen {
        /// Which target.
        target: Arc<str>,
        /// Why.
        #[source]
        cause: listener::Error,
    },
    /// The AWS configuration is unusable.
    #[error("cannot serve {target}")]
    Aws {
        /// Which target.
        target: Arc<str>,
        /// Why.
        #[source]
        cause: aws::Error,
    },
    /// The roots for the database's certificate are unusable.
    #[error("cannot serve {target}")]
    Tls {
        /// Which target.
        target: Arc<str>,
        /// Why.
        #[source]
        cause: tls::Error,
    },
    /// No admin address.
    #[error("cannot serve the admin address")]
    Admin(#[source] admin::Error),
    /// Signals cannot be received.
    #[error("cannot receive signals")]
    Signals(#[source] std::io::Error),
}

impl Error {
    /// Which part failed.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Listen { .. } | Self::Admin(_) | Self::Signals(_) => Cause::Local,
            Self::Aws { .. } => Cause::Credentials,
            Self::Tls { .. } => Cause::Configuration,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Listen { cause: listener::Error::Taken { .. }, .. } => {
                Some("stop that program, or choose another local port with --listen (0 takes a free one)".into())
            }
            Self::Aws { cause, .. } => cause.hint(),
            Self::Tls { cause, .. } => cause.hint(),
            Self::Admin(cause) => cause.hint(),
            Self::Listen { .. } | Self::Signals(_) => None,
        }
    }
}

/// How [`run`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// What ended it.
    pub stopped: Stopped,
    /// Why a target was not served: the first that was not.
    pub failed: Option<Cause>,
}

/// Runs the proxy until a signal ends it. What `accounts` want of a person comes out of `prompts`, and becomes an event.
///
/// # Errors
/// What keeps it from serving anything; nothing is left behind then.
pub async fn run(
    config: Config,
    accounts: &Accounts,
    prompts: &mut UnboundedReceiver<Prompt>,
    mut events: impl FnMut(Event<'_>) + Send,
) -> Result<Ended, Error> {
    // Before anything is bound, so that no signal finds us unprepared.
    let mut signals = Signals::new().map_err(Error::Signals)?;
    let (delay, open_browser) = (config.max_sigterm_delay, config.open_browser);
    let metrics = Metrics::default();
    // First, so that a supervisor hears that we are not ready yet.
    let admin = match &config.admin {
        Some(address) => Some(admin::Server::start(address, &metrics).await.map_err(Error::Admin)?),
        None => None,
    };
    let running = Running::start(config, accounts, &metrics, &mut events).await?;
    if let Some(admin) = &admin {
        let served = running
            .served
            .iter()
            .map(|served| admin::Served { service: Arc::clone(&served.service), listeners: served.addresses.clone() });
        admin.view().ready(served.collect());
        events(Event::Admin { address: admin.address().into() });
    }
    events(Event::Ready { served: &running.served, targets: running.targets });
    running.check();
    let failed = running.failed;
    let stopped = loop {
        tokio::select! {
            stopped = signals.next() => break stopped,
            Some(prompt) = prompts.recv() => events(Event::Prompt { prompt, open_browser }),
        }
    };
    if let Some(admin) = &admin {
        admin.view().draining();
    }
    running.stop(delay, async { _ = signals.next().await }).await;
    if let Some(admin) = admin {
        admin.stop().await;
    }
    Ok(Ended { stopped, failed })
}

/// A proxy that serves. It ends with [`Running::stop`] only: dropping it leaves sessions to their own timeout.
pub struct Running {
    proxy: Proxy,
    drain: CancellationToken,
    abort: CancellationToken,
    served: Vec<Served>,
    /// How many were to be.
    targets: usize,
    failed: Option<Cause>,
}

/// A target that is served.
pub struct Served {
    /// The target.
    pub target: Arc<Target>,
    /// The addresses, with the port that the system chose if it was to.
    pub addresses: Vec<SocketAddr>,
    service: Arc<Service>,
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served")
            .field("target", &self.target.name)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

impl Served {
    /// Goes all the way to the database but for the login, so that the first client need not wait for a session.
    ///
    /// # Errors
    /// What the first client would be told.
    pub async fn reach(&self) -> Result<(), error::Error> {
        self.service.upstream.reach(Instant::now() + self.service.connect_timeout).await
    }
}

impl Running {
    /// Binds and serves every target that can be.
    ///
    /// # Errors
    /// When none can: the first one's reason, and nothing is left behind.
    pub async fn start(
        config: Config,
        accounts: &Accounts,
        metrics: &Metrics,
        mut events: impl FnMut(Event<'_>) + Send,
    ) -> Result<Self, Error> {
        let proxy = Proxy { services: Vec::new(), tasks: TaskTracker::new(), stop: CancellationToken::new() };
        let (drain, abort) = (CancellationToken::new(), CancellationToken::new());
        let targets = config.targets.len();
        let mut running = Self { proxy, drain, abort, served: Vec::new(), targets, failed: None };
        let mut bound = Vec::new();
        let mut errors = Vec::new();
        for target in &config.targets {
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
        for (listeners, service) in bound {
            let target = Arc::clone(service.upstream.target());
            let addresses: Vec<_> = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
            events(Event::Listening { target: Arc::clone(&target), addresses: addresses.clone() });
            running.served.push(Served { target, addresses, service: Arc::clone(&service) });
            running.proxy.start(service, listeners);
        }
        Ok(running)
    }

    /// What is served, in the order of the configuration.
    pub fn served(&self) -> &[Served] {
        &self.served
    }

    /// Goes as far as the targets' sessions meanwhile, and says in the log what is in the way.
    pub fn check(&self) {
        for served in &self.served {
            let (service, stop) = (Arc::clone(&served.service), self.proxy.stop.clone());
            self.proxy.tasks.spawn(async move {
                tokio::select! {
                    () = check(&service) => {}
                    () = stop.cancelled() => {}
                }
            });
        }
    }

    async fn bind(
        &self,
        target: Arc<Target>,
        config: &Config,
        accounts: &Accounts,
        metrics: &Metrics,
    ) -> Result<(Vec<TcpListener>, Arc<Service>), Error> {
        let listen = |cause| Error::Listen { target: Arc::clone(&target.name), cause };
        let listeners = listener::bind(&target.listen).await.map_err(listen)?;
        let service = Arc::new(Service {
            upstream: upstream(&target, config, accounts).await?,
            registry: Registry::default(),
            connections: counts(metrics, &target),
            connect_timeout: config.connect_timeout,
            drain: self.drain.clone(),
            abort: self.abort.clone(),
        });
        Ok((listeners, service))
    }

    /// Ends it: busy connections have `delay`, unless `hurry` resolves before.
    pub async fn stop(self, delay: Duration, hurry: impl Future<Output = ()>) {
        info!("stopping: no new connections");
        let Self { proxy, drain, abort, .. } = self;
        proxy.stop.cancel();
        drain.cancel();
        proxy.tasks.close();
        tokio::select! {
            ended = timeout(delay, proxy.tasks.wait()) => if ended.is_err() {
                warn!(connections = proxy.tasks.len(), "busy connections are cut after --max-sigterm-delay");
            },
            () = hurry => warn!(connections = proxy.tasks.len(), "second signal: busy connections are cut"),
        }
        abort.cancel();
        proxy.tasks.wait().await;
        // Together: each has its own bounded wait for AWS.
        let closing: Vec<_> = proxy
            .services
            .into_iter()
            .map(|service| tokio::spawn(async move { service.upstream.close().await }))
            .collect();
        for closed in closing {
            let _ = closed.await;
        }
    }
}

async fn upstream(target: &Arc<Target>, config: &Config, accounts: &Accounts) -> Result<Upstream, Error> {
    let options = aws::Options { identity: target.identity.clone(), region: target.region.clone() };
    let aws_failed = |cause| Error::Aws { target: Arc::clone(&target.name), cause };
    let account = accounts.load(&options).await.map_err(aws_failed)?;
    let tls_failed = |cause| Error::Tls { target: Arc::clone(&target.name), cause };
    let tls = tls::Connector::new(&target.endpoint.host, target.ca_file.as_deref()).map_err(tls_failed)?;
    let dialer = dialer(target, &account, config.resume_for);
    Ok(Upstream::new(Arc::clone(target), account, dialer, tls))
}

/// The way to a target. Nothing is opened yet.
pub fn dialer(target: &Target, account: &aws::Account, resume_for: Duration) -> Dialer {
    let pool = |bastion: &InstanceId| {
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
            resume_for,
        };
        Pool::new(spec, target.pooling.clone())
    };
    match &target.route {
        Route::Ssm(bastion) => Dialer::Ssm(pool(bastion)),
        Route::Direct => Dialer::Direct(target.endpoint.clone()),
        Route::Auto(bastion) => Dialer::auto(target.endpoint.clone(), pool(bastion)),
    }
}

struct Proxy {
    services: Vec<Arc<Service>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Proxy {
    fn start(&mut self, service: Arc<Service>, listeners: Vec<TcpListener>) {
        for listener in listeners {
            let (service, tasks, stop) = (Arc::clone(&service), self.tasks.clone(), self.stop.clone());
            self.tasks.spawn(async move {
                tokio::select! {
                    () = accept(listener, &service, &tasks) => {}
                    () = stop.cancelled() => {}
                }
            });
        }
        self.services.push(service);
    }
}

async fn accept(listener: TcpListener, service: &Arc<Service>, tasks: &TaskTracker) {
    loop {
        match listener.accept().await {
            Ok((client, peer)) => {
                let Ok(local) = client.local_addr() else { continue };
                if let Err(cause) = client.set_nodelay(true) {
                    warn!(%cause, "cannot set TCP_NODELAY on a client");
                }
                let service = Arc::clone(service);
                tasks.spawn(async move { serve(&service, client, peer, local).await });
            }
            Err(cause) => {
                warn!(%cause, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Dead credentials and a bastion that is offline are better heard of now than at the first connection. Not fatal: they may
/// come to life.
async fn check(service: &Service) {
    let target = service.upstream.target();
    let ready = match service.upstream.check_credentials().await {
        Ok(()) => service.upstream.warm().await,
        Err(cause) if cause.needs_person() && service.upstream.may_ask() => {
            info!(target = %target.name, %cause, "what is missing will be asked for when a client connects");
            return;
        }
        Err(cause) => Err(error::Error::Credentials(cause)),
    };
    if let Err(cause) = ready {
        let hint = cause.hint(target).unwrap_or_default();
        warn!(target = %target.name, cause = %cause.message(), hint, "connections will fail");
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> Stopped {
        tokio::select! {
            _ = self.interrupt.recv() => Stopped::Interrupt,
            _ = self.terminate.recv() => Stopped::Terminate,
        }
    }
}
