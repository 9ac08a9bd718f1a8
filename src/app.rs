//! The composition root: from a [`Config`] to a running proxy and back. Owns every long task and the order of the end.
//!
//! ```text
//!   bind all listeners (or none) ─▶ say so ─▶ accept ─▶ signal
//!       ─▶ stop accepting ─▶ idle connections end, busy ones may finish (`max_sigterm_delay`) ─▶ abort the rest
//!       ─▶ terminate SSM sessions ─▶ admin endpoints end ─▶ Stopped
//! ```
//!
//! A second signal cuts the waiting short; sessions are terminated all the same.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use crate::{
    admin::{self, Served},
    aws::{self, Accounts, Interaction, Prompt},
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
#[derive(Debug, Clone)]
pub enum Event {
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
    /// Every listener is bound.
    Ready {
        /// How many targets are served.
        targets: usize,
    },
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
    /// What AWS calls need is unusable, whoever makes them.
    #[error("cannot call AWS")]
    Settings(#[source] aws::Error),
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
            Self::Aws { .. } | Self::Settings(_) => Cause::Credentials,
            Self::Tls { .. } => Cause::Configuration,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Listen { cause: listener::Error::Taken { .. }, .. } => {
                Some("stop that program, or choose another local port with --listen (0 takes a free one)".into())
            }
            Self::Aws { cause, .. } | Self::Settings(cause) => cause.hint(),
            Self::Tls { cause, .. } => cause.hint(),
            Self::Admin(cause) => cause.hint(),
            Self::Listen { .. } | Self::Signals(_) => None,
        }
    }
}

/// Whether somebody sees [`Event::Prompt`] and can do what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attended {
    /// Somebody sits at a terminal.
    Yes,
    /// What needs a person is an error instead.
    No,
}

/// Runs the proxy until a signal ends it.
///
/// # Errors
/// What keeps it from starting; nothing is left behind then.
pub async fn run(config: Config, attended: Attended, mut events: impl FnMut(Event) + Send) -> Result<Stopped, Error> {
    // Before anything is bound, so that no signal finds us unprepared.
    let mut signals = Signals::new().map_err(Error::Signals)?;
    let mut proxy = Proxy { services: Vec::new(), tasks: TaskTracker::new(), stop: CancellationToken::new() };
    let (drain, abort) = (CancellationToken::new(), CancellationToken::new());
    let metrics = Metrics::default();
    // First, so that a supervisor hears that we are not ready yet.
    let admin = match &config.admin {
        Some(address) => Some(admin::Server::start(address, &metrics).await.map_err(Error::Admin)?),
        None => None,
    };
    let (interaction, mut prompts) = Interaction::channel();
    let interaction = if attended == Attended::Yes { interaction } else { Interaction::none() };
    let accounts = Accounts::new(interaction, config.mfa_code.clone()).map_err(Error::Settings)?;
    let mut bound = Vec::new();
    for target in &config.targets {
        let target = Arc::new(target.clone());
        let listen = |cause| Error::Listen { target: Arc::clone(&target.name), cause };
        let listeners = listener::bind(&target.listen).await.map_err(listen)?;
        let service = Arc::new(Service {
            upstream: upstream(&target, &config, &accounts).await?,
            registry: Registry::default(),
            connections: counts(&metrics, &target),
            connect_timeout: config.connect_timeout,
            drain: drain.clone(),
            abort: abort.clone(),
        });
        bound.push((target, listeners, service));
    }
    let mut served = Vec::new();
    for (target, listeners, service) in bound {
        let addresses: Vec<_> = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        served.push(Served { service: Arc::clone(&service), listeners: addresses.clone() });
        events(Event::Listening { target, addresses });
        proxy.start(service, listeners);
    }
    if let Some(admin) = &admin {
        admin.view().ready(served);
        events(Event::Admin { address: admin.address().into() });
    }
    events(Event::Ready { targets: config.targets.len() });

    let stopped = loop {
        tokio::select! {
            stopped = signals.next() => break stopped,
            Some(prompt) = prompts.recv() => events(Event::Prompt { prompt, open_browser: config.open_browser }),
        }
    };
    info!("stopping: no new connections");
    if let Some(admin) = &admin {
        admin.view().draining();
    }
    proxy.stop.cancel();
    drain.cancel();
    proxy.tasks.close();
    tokio::select! {
        ended = timeout(config.max_sigterm_delay, proxy.tasks.wait()) => if ended.is_err() {
            warn!(connections = proxy.tasks.len(), "busy connections are cut after --max-sigterm-delay");
        },
        _ = signals.next() => warn!(connections = proxy.tasks.len(), "second signal: busy connections are cut"),
    }
    abort.cancel();
    proxy.tasks.wait().await;
    // Together: each has its own bounded wait for AWS.
    let closing: Vec<_> =
        proxy.services.into_iter().map(|service| tokio::spawn(async move { service.upstream.close().await })).collect();
    for closed in closing {
        let _ = closed.await;
    }
    if let Some(admin) = admin {
        admin.stop().await;
    }
    Ok(stopped)
}

async fn upstream(target: &Arc<Target>, config: &Config, accounts: &Accounts) -> Result<Upstream, Error> {
    let options = aws::Options { identity: target.identity.clone(), region: target.region.clone() };
    let aws_failed = |cause| Error::Aws { target: Arc::clone(&target.name), cause };
    let account = accounts.load(&options).await.map_err(aws_failed)?;
    let tls_failed = |cause| Error::Tls { target: Arc::clone(&target.name), cause };
    let tls = tls::Connector::new(&target.endpoint.host, target.ca_file.as_deref()).map_err(tls_failed)?;
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
            resume_for: config.resume_for,
        };
        Pool::new(spec, target.pooling.clone())
    };
    let dialer = match &target.route {
        Route::Ssm(bastion) => Dialer::Ssm(pool(bastion)),
        Route::Direct => Dialer::Direct(target.endpoint.clone()),
        Route::Auto(bastion) => Dialer::auto(target.endpoint.clone(), pool(bastion)),
    };
    Ok(Upstream::new(Arc::clone(target), account, dialer, tls))
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
        let (checked, stop) = (Arc::clone(&service), self.stop.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = prepare(&checked) => {}
                () = stop.cancelled() => {}
            }
        });
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
async fn prepare(service: &Service) {
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
