//! The composition root: from a [`Config`] to a running proxy and back. Owns every long task and the order of the end.
//!
//! ```text
//!   admin endpoints ─▶ Running::start   bind each target's listeners ─▶ say so ─▶ accept ─▶ ready
//!   Running::stop   stop accepting ─▶ idle connections end, busy ones may finish ─▶ abort the rest
//!                   ─▶ terminate SSM sessions ─▶ admin endpoints end
//! ```
//!
//! [`run`] is the two with a signal between them. A target whose listeners cannot be bound is reported and does not stop the
//! others; when none is left there is nothing to run. A further signal cuts the waiting short, whatever is waited for: busy
//! connections are cut then, and SSM sessions are left to the service.

mod current;
mod pools;
mod running;
mod signals;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::sync::mpsc::UnboundedReceiver;

pub use pools::Pools;
pub use running::{Running, Served};
pub use signals::{Signals, is_ignored};

use crate::{
    admin,
    aws::{self, Accounts, Prompt},
    config::Config,
    listen,
    target::Target,
    telemetry::metrics::Metrics,
    tls,
};

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
    /// A signal has come: listeners are closed, idle connections end.
    Stopping,
    /// Busy connections are waited for.
    Draining {
        /// How many there are.
        connections: usize,
        /// The longest wait.
        at_most: Duration,
    },
    /// The end of SSM sessions is waited for.
    Ending {
        /// How many there are, those included that are being opened.
        sessions: usize,
        /// The longest wait.
        at_most: Duration,
    },
}

/// What ended the proxy in good order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// SIGINT, Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGHUP: the terminal has gone.
    HangUp,
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
        cause: listen::Error,
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
    Admin(#[source] listen::Error),
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
            Self::Listen { cause, .. } => cause.hint("--listen"),
            Self::Aws { cause, .. } => cause.hint(),
            Self::Tls { cause, .. } => cause.hint(),
            Self::Admin(cause) => cause.hint("--admin"),
            Self::Signals(_) => None,
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
    let running = tokio::select! {
        running = Running::start(config, accounts, &metrics, &mut events) => running?,
        // Nothing has been opened yet.
        stopped = signals.next() => return Ok(Ended { stopped, failed: None }),
    };
    if let Some(admin) = &admin {
        let served = running
            .served()
            .iter()
            .map(|served| admin::Served { service: served.current.shown(), listeners: served.bound.clone() });
        admin.view().ready(served.collect());
        events(Event::Admin { address: admin.address().into() });
    }
    events(Event::Ready { served: running.served(), targets: running.targets });
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
    running.stop(delay, async || _ = signals.next().await, &mut events).await;
    if let Some(admin) = admin {
        admin.stop().await;
    }
    Ok(Ended { stopped, failed })
}
