//! A reload: the configuration is read again as at the start, and targets are added, removed and changed while the others serve. A
//! configuration that cannot be served changes nothing.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::future::BoxFuture;
use tracing::{info, warn};

use super::{Changes, Error, Running, running::Prepared};
use crate::{admin::Reload, aws::Accounts, causes, config::Config, listen::Address, target::Target};

/// Reads the configuration again, for a process that serves these targets.
pub type Reread = dyn Fn(Vec<Arc<Target>>) -> BoxFuture<'static, Result<Config, Refused>> + Send + Sync;

/// How a process reloads.
pub struct Reloading {
    /// Whether SIGHUP asks for a reload. Otherwise it ends the process.
    pub on_hang_up: bool,
    /// Reads the configuration again.
    pub reread: Box<Reread>,
}

impl fmt::Debug for Reloading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloading").field("on_hang_up", &self.on_hang_up).finish_non_exhaustive()
    }
}

/// The reason why a configuration is not served.
#[derive(Debug)]
pub struct Refused {
    /// What is wrong.
    pub message: String,
    /// The remedy.
    pub hint: Option<String>,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { message: causes::one_line(&error), hint: error.hint() }
    }
}

/// The settings of the process that [`run`](super::run) itself uses.
#[derive(Debug, Clone)]
pub struct Settings {
    pub(super) min_sigterm_delay: Duration,
    pub(super) max_sigterm_delay: Duration,
    pub(super) open_browser: bool,
    /// Bound at the start only.
    admin: Option<Address>,
}

impl Settings {
    pub(super) fn of(config: &Config) -> Self {
        let Config { min_sigterm_delay, max_sigterm_delay, open_browser, admin, .. } = config;
        let (min_sigterm_delay, max_sigterm_delay) = (*min_sigterm_delay, *max_sigterm_delay);
        Self { min_sigterm_delay, max_sigterm_delay, open_browser: *open_browser, admin: admin.clone() }
    }
}

/// A configuration that can take the place of the present one.
pub struct Next {
    pub(super) targets: Prepared,
    pub(super) settings: Settings,
    /// Whether it has changes that take a restart.
    pub(super) needs_restart: bool,
}

impl Reloading {
    /// Reads the configuration again and prepares what it describes. Nothing changes yet.
    pub(super) async fn prepare(
        &self,
        running: &Running,
        settings: &Settings,
        accounts: &Accounts,
    ) -> Result<Next, Refused> {
        let served = running.served().iter().map(|served| Arc::clone(&served.target)).collect();
        let config = (self.reread)(served).await?;
        let next = Settings::of(&config);
        let needs_restart = next.admin != settings.admin;
        let next = Settings { admin: settings.admin.clone(), ..next };
        let targets = running.prepare(config, accounts).await?;
        Ok(Next { targets, settings: next, needs_restart })
    }
}

impl Changes {
    /// Logs a reload that has taken place.
    pub(super) fn report(&self, needs_restart: bool) -> Reload {
        let message = self.to_string();
        let hint = needs_restart.then(|| "restart rdsgate for the new value of admin".to_owned());
        info!(changes = message, "configuration reloaded");
        if let Some(hint) = &hint {
            warn!(hint, "the admin address does not change while rdsgate runs");
        }
        Reload { at: SystemTime::now(), is_done: true, message, hint }
    }
}

impl Refused {
    /// Logs a reload that has not taken place.
    pub(super) fn report(self) -> Reload {
        let Self { message, hint } = self;
        warn!(
            cause = message,
            hint = hint.as_deref().unwrap_or_default(),
            "configuration not reloaded; the old one stays"
        );
        Reload { at: SystemTime::now(), is_done: false, message, hint }
    }
}
