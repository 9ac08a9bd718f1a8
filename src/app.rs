//! The composition root: makes a running proxy from a [`Config`]. Owns every long-lived task and the order of shutdown.
//!
//! ```text
//!   admin endpoints ─▶ Running::start   bind each target's listeners ─▶ report ─▶ accept ─▶ ready
//!   SIGTERM         not ready any more ─▶ --min-sigterm-delay
//!   Running::stop   stop accepting ─▶ idle connections end, busy ones may finish ─▶ abort the rest
//!                   ─▶ terminate SSM sessions ─▶ admin endpoints end
//! ```
//!
//! A reload changes targets while others are served, see `reload`.
//!
//! [`run`] starts, waits for a signal and stops. A target whose listeners cannot be bound is reported and does not stop the
//! others; without any target, `run` fails. A further signal ends the current wait: busy connections are closed then, and SSM
//! sessions are left to the service.

mod cause;
mod current;
mod door;
mod endpoints;
mod pools;
mod reload;
mod room;
mod running;
mod signals;
mod supervisor;
mod waits;

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::{
    sync::{
        mpsc::{self, UnboundedReceiver},
        watch,
    },
    time::timeout,
};
use tracing::info;

pub use cause::Cause;
pub use endpoints::{Endpoints, Process};
pub use pools::Pools;
pub use reload::{Changes, Next, Refused, Reloading, Reread, Settings};
pub use running::{Running, Served};
pub use signals::{Signals, Wish};
pub use supervisor::Supervisor;
pub use waits::{Stage, Wait};

pub use crate::listen::passed::Passed;

use crate::{
    aws::{self, Accounts, Prompt},
    config::Config,
    listen, local_password,
    target::{Local, Target},
    telemetry::metrics::Metrics,
    tls,
};

/// Something to report to the user while the proxy runs.
#[derive(Debug)]
pub enum Event<'a> {
    /// A target's listeners are bound.
    Listening {
        /// The target.
        target: Arc<Target>,
        /// Every address, with the port that the system chose for port 0.
        bound: Vec<Local>,
    },
    /// The admin address is bound.
    Admin {
        /// The address, for people.
        address: String,
    },
    /// A login needs input from a person.
    Prompt {
        /// The question.
        prompt: Prompt,
        /// Whether to open the prompt's page in a browser.
        open_browser: bool,
    },
    /// A target cannot be served as it is configured; others may be.
    Failed {
        /// The reason.
        error: &'a Error,
    },
    /// Every target was tried, and at least one is served.
    Ready {
        /// The served targets.
        served: &'a [Served],
        /// The number of configured targets.
        targets: usize,
    },
    /// A reload has put other targets in the place of the served ones.
    Reloaded {
        /// The targets that are served now.
        served: &'a [Served],
    },
    /// The waits of clients have changed. Only where [`Process::shows_waits`].
    Waiting {
        /// `None` when no client waits any more.
        wait: Option<Wait>,
    },
    /// A signal arrived: listeners are closed, idle connections end.
    Stopping,
    /// Waiting for busy connections.
    Draining {
        /// The number of busy connections.
        connections: usize,
        /// The longest wait.
        at_most: Duration,
    },
    /// Waiting for SSM sessions to end.
    Ending {
        /// The number of sessions, including those that are being opened.
        sessions: usize,
        /// The longest wait.
        at_most: Duration,
    },
}

/// The signal that ended the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// SIGINT, Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGHUP: the terminal was closed.
    HangUp,
}

/// The proxy cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A listener cannot be bound.
    #[error("cannot serve {target}")]
    Listen {
        /// The target's name.
        target: Arc<str>,
        /// The cause.
        #[source]
        cause: listen::Error,
    },
    /// The AWS configuration is unusable.
    #[error("cannot serve {target}")]
    Aws {
        /// The target's name.
        target: Arc<str>,
        /// The cause.
        #[source]
        cause: aws::Error,
    },
    /// The roots for the database's certificate are unusable.
    #[error("cannot serve {target}")]
    Tls {
        /// The target's name.
        target: Arc<str>,
        /// The cause.
        #[source]
        cause: tls::Error,
    },
    /// The password of its listener cannot be used.
    #[error("cannot serve {target}")]
    LocalPassword {
        /// The target's name.
        target: Arc<str>,
        /// The cause.
        #[source]
        cause: local_password::Error,
    },
    /// TLS for clients cannot be served.
    #[error("cannot serve {target} with TLS for clients")]
    LocalTls {
        /// The target's name.
        target: Arc<str>,
        /// The cause.
        #[source]
        cause: tls::local::Error,
    },
    /// The admin address cannot be bound.
    #[error("cannot serve the admin address")]
    Admin(#[source] listen::Error),
    /// Signals cannot be received.
    #[error("cannot receive signals")]
    Signals(#[source] std::io::Error),
}

impl Error {
    /// The part that failed.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Listen { .. } | Self::Admin(_) | Self::Signals(_) => Cause::Local,
            Self::Aws { cause, .. } => cause.into(),
            Self::Tls { .. } | Self::LocalPassword { .. } | Self::LocalTls { .. } => Cause::Configuration,
        }
    }

    /// A way to fix it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Listen { cause, .. } => cause.hint("--listen"),
            Self::Aws { cause, .. } => cause.hint(),
            Self::Tls { cause, .. } => cause.hint(),
            Self::LocalPassword { cause, .. } => cause.hint(),
            Self::LocalTls { cause, .. } => Some(cause.hint()),
            Self::Admin(cause) => cause.hint("--admin"),
            Self::Signals(_) => None,
        }
    }
}

/// How [`run`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// The signal.
    pub stopped: Stopped,
    /// The cause of the first target that cannot be served as it is configured.
    pub failed: Option<Cause>,
}

/// The number of reloads that wait for their turn. Further requests are refused.
const MAX_RELOADS: usize = 8;
/// The interval of looks at what clients wait for.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Runs the proxy until a signal ends it. Targets are served by the `passed` sockets as far as there are any. `process` is what others
/// learn of it, `reloading` reads the configuration again. Questions of `accounts` to a person arrive through `prompts` and become events.
///
/// # Errors
/// If no target can be served. Nothing is left behind then.
pub async fn run(
    (config, passed): (Config, Passed),
    accounts: &Accounts,
    prompts: &mut UnboundedReceiver<Prompt>,
    process: &Process,
    reloading: Reloading,
    mut events: impl FnMut(Event<'_>) + Send,
) -> Result<Ended, Error> {
    // Before anything is bound, so that no signal arrives without a handler.
    let mut signals = Signals::new(reloading.on_hang_up).map_err(Error::Signals)?;
    let mut settings = Settings::of(&config);
    let metrics = Metrics::default();
    // First, so that a supervisor gets 503 from /readyz while targets are being bound.
    let endpoints = Endpoints::start(config.admin.as_ref(), process, &metrics).await.map_err(Error::Admin)?;
    let mut running = tokio::select! {
        running = Running::start((config, passed), accounts, &metrics, &mut events) => running?,
        // No connection has been opened yet.
        stopped = signals.stopped() => return Ok(Ended { stopped, failed: None }),
    };
    // Before it is ready: a client may ask at once.
    let (requests, mut requested) = mpsc::channel(MAX_RELOADS);
    endpoints.reloads_by(requests);
    endpoints.ready(&running);
    if let Some(address) = endpoints.admin_address() {
        events(Event::Admin { address: address.into() });
    }
    events(Event::Ready { served: running.served(), targets: running.targets });
    let supervisor = Supervisor::of_process();
    let loops = watch::Sender::new(running.pings());
    let _watchdog = supervisor.watch(loops.subscribe());
    supervisor.ready(running.served().len(), running.targets);
    running.check(|_| true);
    let (mut look, mut shown) = (tokio::time::interval(LOOK_INTERVAL), None);
    let stopped = 'serving: loop {
        let request = tokio::select! {
            wish = signals.next() => match wish {
                Wish::Stop(stopped) => break stopped,
                Wish::Reload => None,
            },
            Some(request) = requested.recv() => Some(request),
            _ = look.tick(), if process.shows_waits => {
                let wait = running.wait();
                if wait != shown {
                    events(Event::Waiting { wait: wait.clone() });
                    shown = wait;
                }
                continue;
            }
            Some(prompt) = prompts.recv() => {
                events(Event::Prompt { prompt, open_browser: settings.open_browser });
                continue;
            }
        };
        supervisor.reloading();
        let prepared = {
            let mut prepared = pin!(reloading.prepare(&running, &settings, accounts));
            // Signals and prompts are heard meanwhile: the configuration may need a lookup and that a login.
            loop {
                tokio::select! {
                    prepared = &mut prepared => break prepared,
                    stopped = signals.stopped() => break 'serving stopped,
                    Some(prompt) = prompts.recv() => events(Event::Prompt { prompt, open_browser: settings.open_browser }),
                }
            }
        };
        let result = match prepared {
            Ok(next) => {
                let changes = running.switch(next.targets, &metrics, &mut events).await;
                settings = next.settings;
                loops.send_replace(running.pings());
                endpoints.ready(&running);
                events(Event::Reloaded { served: running.served() });
                running.check(|name| changes.concern(name));
                changes.report(next.needs_restart)
            }
            Err(refused) => refused.report(),
        };
        supervisor.ready(running.served().len(), running.targets);
        endpoints.reloaded(result.clone());
        if let Some(request) = request {
            // The client may have gone.
            let _ = request.send(result);
        }
    };
    let failed = running.failed;
    endpoints.draining();
    supervisor.stopping();
    let delay = settings.min_sigterm_delay;
    if stopped == Stopped::Terminate && !delay.is_zero() {
        info!("not ready any more; new clients are accepted for {delay:?} (--min-sigterm-delay)");
        let _ = timeout(delay, signals.stopped()).await;
    }
    running.stop(settings.max_sigterm_delay, async || _ = signals.stopped().await, &mut events).await;
    endpoints.stop().await;
    Ok(Ended { stopped, failed })
}
