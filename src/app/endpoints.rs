//! The HTTP endpoints of this process: at the admin address, if one is configured, and always at a socket of the process's own,
//! which `rdsgate status` asks.

use std::{path::PathBuf, sync::Arc};

use tokio::sync::mpsc;
use tracing::debug;

use super::Running;
use crate::{
    admin::{self, Reload, ReloadRequest, View},
    listen::{self, Address},
    telemetry::metrics::Metrics,
};

/// The facts that others learn about this process.
#[derive(Debug, Clone)]
pub struct Process {
    /// The subcommand that it runs, such as `up`.
    pub command: &'static str,
    /// The unix socket of this process; `None` where there is no private folder for it.
    pub socket: Option<PathBuf>,
    /// Whether a person sees what clients wait for.
    pub shows_waits: bool,
}

/// The running endpoints.
pub struct Endpoints {
    view: Arc<View>,
    admin: Option<admin::Server>,
    own: Option<admin::Server>,
}

impl Endpoints {
    /// Binds the endpoints. Without the own socket the process serves all the same.
    ///
    /// # Errors
    /// The admin address cannot be bound.
    pub async fn start(admin: Option<&Address>, process: &Process, metrics: &Metrics) -> Result<Self, listen::Error> {
        let view = Arc::new(View::new(process.command));
        let admin = match admin {
            Some(address) => Some(admin::Server::start(address, &view, metrics).await?),
            None => None,
        };
        let own = match process.socket.clone().map(Address::Unix) {
            Some(address) => admin::Server::start(&address, &view, metrics)
                .await
                .inspect_err(|cause| debug!(%cause, "rdsgate status will not show this process"))
                .ok(),
            None => None,
        };
        Ok(Self { view, admin, own })
    }

    /// Shows the served targets, and those that were removed while they have connections.
    pub fn ready(&self, running: &Running) {
        let served = running.served().iter().map(|served| (&served.current, served.bound.clone()));
        let leaving = running.leaving().iter().map(|current| (current, Vec::new()));
        let all = served.chain(leaving);
        self.view
            .ready(all.map(|(current, listeners)| admin::Served { service: current.shown(), listeners }).collect());
    }

    /// Takes wishes for reloads from now on.
    pub fn reloads_by(&self, requests: mpsc::Sender<ReloadRequest>) {
        self.view.reloads_by(requests);
    }

    /// Shows the result of a reload.
    pub fn reloaded(&self, result: Reload) {
        self.view.reloaded(result);
    }

    /// The admin address for people, if one is configured.
    pub fn admin_address(&self) -> Option<&str> {
        self.admin.as_ref().map(admin::Server::address)
    }

    /// Shows that no new connections are accepted.
    pub fn draining(&self) {
        self.view.draining();
    }

    /// Stops, and waits a moment for replies under way.
    pub async fn stop(self) {
        for server in [self.admin, self.own].into_iter().flatten() {
            server.stop().await;
        }
    }
}
