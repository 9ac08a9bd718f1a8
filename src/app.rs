//! The composition root: makes a running proxy from a [`Config`]. Owns every long-lived task and the order of shutdown.
//!
//! ```text
//!   admin endpoints ─▶ Running::start   bind each target's listeners ─▶ report ─▶ accept ─▶ ready
//!   Running::stop   stop accepting ─▶ idle connections end, busy ones may finish ─▶ abort the rest
//!                   ─▶ terminate SSM sessions ─▶ admin endpoints end
//! ```
//!
//! [`run`] starts, waits for a signal and stops. A target whose listeners cannot be bound is reported and does not stop the
//! others; without any target, `run` fails. A further signal ends the current wait: busy connections are closed then, and SSM
//! sessions are left to the service.

mod cause;
mod current;
mod endpoints;
mod pools;
mod running;
mod signals;
mod waits;

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc::UnboundedReceiver;

pub use cause::Cause;
pub use endpoints::{Endpoints, Process};
pub use pools::Pools;
pub use running::{Running, Served};
pub use signals::{Signals, is_ignored};
pub use waits::{Stage, Wait};

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
    /// A target cannot be served; others may be.
    Failed {
        /// The reason.
        error: Error,
    },
    /// Every target was tried, and at least one is served.
    Ready {
        /// The served targets.
        served: &'a [Served],
        /// The number of configured targets.
        targets: usize,
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
    /// The cause of the first target that could not be served.
    pub failed: Option<Cause>,
}

/// The interval of looks at what clients wait for.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Runs the proxy until a signal ends it. `process` is what others learn of it. Questions of `accounts` to a person arrive through `prompts` and become events.
///
/// # Errors
/// If no target can be served. Nothing is left behind then.
pub async fn run(
    config: Config,
    accounts: &Accounts,
    prompts: &mut UnboundedReceiver<Prompt>,
    process: &Process,
    mut events: impl FnMut(Event<'_>) + Send,
) -> Result<Ended, Error> {
    // Before anything is bound, so that no signal arrives without a handler.
    let mut signals = Signals::new().map_err(Error::Signals)?;
    let (delay, open_browser) = (config.max_sigterm_delay, config.open_browser);
    let metrics = Metrics::default();
    // First, so that a supervisor gets 503 from /readyz while targets are being bound.
    let endpoints = Endpoints::start(config.admin.as_ref(), process, &metrics).await.map_err(Error::Admin)?;
    let running = tokio::select! {
        running = Running::start(config, accounts, &metrics, &mut events) => running?,
        // No connection has been opened yet.
        stopped = signals.next() => return Ok(Ended { stopped, failed: None }),
    };
    endpoints.ready(&running);
    if let Some(address) = endpoints.admin_address() {
        events(Event::Admin { address: address.into() });
    }
    events(Event::Ready { served: running.served(), targets: running.targets });
    running.check();
    let failed = running.failed;
    let (mut look, mut shown) = (tokio::time::interval(LOOK_INTERVAL), None);
    let stopped = loop {
        tokio::select! {
            stopped = signals.next() => break stopped,
            _ = look.tick(), if process.shows_waits => {
                let wait = running.wait();
                if wait != shown {
                    events(Event::Waiting { wait: wait.clone() });
                    shown = wait;
                }
            }
            Some(prompt) = prompts.recv() => events(Event::Prompt { prompt, open_browser }),
        }
    };
    endpoints.draining();
    running.stop(delay, async || _ = signals.next().await, &mut events).await;
    endpoints.stop().await;
    Ok(Ended { stopped, failed })
}
