//! The current upstream of a target. A target that is named by an alias (CNAME) resolves it for every connection, and switches to
//! a new upstream when the alias points to another endpoint.
//!
//! Token, TLS and route depend on the endpoint behind the alias, so all three change together. Open connections never move.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tracing::{info, warn};

use super::Pools;
use crate::{
    causes,
    connect::Upstream,
    discover::{Alias, AliasError},
    local_password::LocalPassword,
    proxy::{
        last_failure::LastFailure,
        serve::{CurrentService, Service},
    },
    target::{Host, Target},
    tls,
    tunnel::Dialer,
};

/// Provides the service for each connection of a target.
pub(super) struct Current {
    service: Arc<CurrentService>,
    alias: Option<Alias>,
    pools: Arc<Mutex<Pools>>,
    /// Serialises lookups of the alias. `true` after a lookup without an answer, so that the warning appears once.
    lookup_failed: tokio::sync::Mutex<bool>,
}

impl Current {
    /// Starts with `service`.
    pub(super) fn new(service: Service, pools: &Arc<Mutex<Pools>>) -> Self {
        let alias = service.upstream.target().alias.clone().map(Alias::new);
        let service = Arc::new(CurrentService::new(service));
        Self { service, alias, pools: Arc::clone(pools), lookup_failed: tokio::sync::Mutex::default() }
    }

    /// The same target with other settings, for new connections. What its connections share stays.
    #[must_use]
    pub(super) fn changed(
        &self,
        (upstream, local_tls, password): (Upstream, Option<Arc<tls::local::Server>>, Option<LocalPassword>),
        connect_timeout: Duration,
    ) -> Self {
        let alias = upstream.target().alias.clone().map(Alias::new);
        let mut service = self.last().by(upstream).with_local_tls(local_tls).with_password(password);
        (service.connect_timeout, service.last_failure) = (connect_timeout, LastFailure::default());
        self.service.replace(Arc::new(service));
        let (service, pools) = (Arc::clone(&self.service), Arc::clone(&self.pools));
        Self { service, alias, pools, lookup_failed: tokio::sync::Mutex::default() }
    }

    /// The handle that `/status` and metrics read.
    pub(super) fn shown(&self) -> Arc<CurrentService> {
        Arc::clone(&self.service)
    }

    /// The service of the last connection.
    pub(super) fn last(&self) -> Arc<Service> {
        self.service.get()
    }

    /// The service for a new connection. Resolves the alias, if the target has one.
    pub(super) async fn service(&self) -> Arc<Service> {
        let Some(alias) = &self.alias else { return self.service.get() };
        let mut unanswered = self.lookup_failed.lock().await;
        let service = self.service.get();
        let target = service.upstream.target();
        match alias.follow().await {
            Ok(host) => {
                *unanswered = false;
                let leads_nowhere = matches!(service.upstream.dialer(), Dialer::Nowhere(_));
                if host == target.endpoint.host && !leads_nowhere {
                    return service;
                }
                info!(target = %target.name, alias = %alias.host(), from = %target.endpoint.host, to = %host,
                    "the alias now points to another database; new connections go there");
                self.put(&service, self.move_to(&service, host))
            }
            Err(AliasError::NoAnswer(host)) => {
                if !std::mem::replace(&mut *unanswered, true) {
                    warn!(target = %target.name, alias = %host, endpoint = %target.endpoint,
                        "no name server answers; new connections use the last known endpoint of the alias");
                }
                service
            }
            Err(reason @ AliasError::NotRds(_)) => {
                *unanswered = false;
                if matches!(service.upstream.dialer(), Dialer::Nowhere(_)) {
                    return service;
                }
                self.put(&service, nowhere(&service, target, &reason.to_string()))
            }
        }
    }

    /// Moves from `service`, unless a reload has replaced that in the meantime.
    fn put(&self, service: &Arc<Service>, upstream: Upstream) -> Arc<Service> {
        let moved = Arc::new(service.by(upstream));
        self.service.replace_if(service, &moved);
        moved
    }

    fn move_to(&self, service: &Service, host: Host) -> Upstream {
        let target = Arc::new(service.upstream.target().moved_to(host));
        match tls::Connector::new(&target.endpoint.host, target.ca_file.as_ref()) {
            Ok(tls) => {
                let account = service.upstream.account().clone();
                let (dialer, pace) = {
                    let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
                    (pools.dialer(&target, &account), pools.pace(&target))
                };
                Upstream::new(target, account, dialer, tls, pace)
            }
            Err(cause) => nowhere(service, &target, &causes::one_line(&cause)),
        }
    }
}

/// An upstream that refuses every connection with `reason`.
fn nowhere(service: &Service, target: &Arc<Target>, reason: &str) -> Upstream {
    warn!(target = %target.name, reason, "new connections are refused");
    let (account, tls) = (service.upstream.account().clone(), service.upstream.tls().clone());
    let pace = Arc::clone(service.upstream.pace());
    Upstream::new(Arc::clone(target), account, Dialer::Nowhere(reason.into()), tls, pace)
}
