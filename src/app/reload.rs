//! A reload: the configuration is read again as at the start, and targets are added, removed and changed while the others serve. As at
//! the start, a target that cannot be served does not stop the others; one that is served already goes on with its old settings. A
//! configuration that cannot be read, or of which no target can be served, changes nothing.
//!
//! It has two parts, which are those of the start as well: [`Running::prepare`] does everything that can fail and changes nothing,
//! [`Running::switch`] cannot fail.

use std::{
    fmt,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::future::BoxFuture;
use tracing::{info, warn};

use super::{Error, Event, Running, Served, current::Current, door::Door, running::Limits};
use crate::{
    admin::{Outcome, Reload},
    aws::{self, Accounts},
    causes,
    config::Config,
    connect::Upstream,
    listen::{self, Listener, Local, passed},
    local_password::LocalPassword,
    proxy::serve::{Service, counts},
    target::{Address, ListenAddress, LocalTls, LocalTlsMode, Target},
    telemetry::{log, metrics::Metrics},
    tls,
    tunnel::own::Listening,
};

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
#[derive(Debug, PartialEq, Eq)]
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

/// A configuration that can be served from now on.
pub struct Prepared {
    limits: Limits,
    targets: Vec<PreparedTarget>,
    /// The number of configured targets.
    configured: usize,
    failures: Vec<Failure>,
}

/// A target that cannot be served as it is configured.
struct Failure {
    error: Error,
    /// Whether it is served as it was configured before.
    is_served: bool,
}

struct PreparedTarget {
    target: Arc<Target>,
    /// The sockets that it needs beside those that are bound already.
    listeners: Vec<(Address, Listener)>,
    /// Whether the target is served with the same settings already.
    is_same: bool,
    /// The way to the database, TLS for clients, and the password that they must know; `None` where the present ones stay.
    way: Option<(Upstream, Option<Arc<tls::local::Server>>, Option<LocalPassword>)>,
}

/// The effect of a reload, by the names of targets.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    added: Vec<Arc<str>>,
    removed: Vec<Arc<str>>,
    changed: Vec<Arc<str>>,
    unchanged: usize,
    /// Why targets are not served as they are configured.
    failed: Vec<Refused>,
}

impl PreparedTarget {
    /// The target as it is served.
    fn as_before(served: &Served) -> Self {
        Self { target: Arc::clone(&served.target), listeners: Vec::new(), is_same: true, way: None }
    }
}

impl From<Failure> for Refused {
    fn from(Failure { error, is_served }: Failure) -> Self {
        let Self { mut message, hint } = error.into();
        if is_served {
            message.push_str(" (it is served as before)");
        }
        Self { message, hint }
    }
}

impl Changes {
    /// Whether new connections to the target use other settings than before.
    pub(super) fn concern(&self, name: &Arc<str>) -> bool {
        self.added.contains(name) || self.changed.contains(name)
    }

    /// Logs a reload that has taken place.
    pub(super) fn report(&self, needs_restart: bool) -> Reload {
        let message = self.to_string();
        let restart = needs_restart.then(|| "restart rdsgate for the new value of admin".to_owned());
        if let Some(hint) = &restart {
            warn!(hint, "the admin address does not change while rdsgate runs");
        }
        let hint = self.failed.iter().find_map(|failed| failed.hint.clone()).or(restart);
        let outcome = if self.failed.is_empty() {
            info!(changes = message, "configuration reloaded");
            Outcome::Done
        } else {
            let hint = hint.as_deref().unwrap_or_default();
            warn!(changes = message, hint, "configuration reloaded in part");
            Outcome::InPart
        };
        Reload { at: SystemTime::now(), outcome, message, hint }
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (names, done) in [(&self.added, "added"), (&self.removed, "removed"), (&self.changed, "changed")] {
            if !names.is_empty() {
                write!(f, "{} {done} ({}), ", names.len(), names.join(", "))?;
            }
        }
        write!(f, "{} unchanged", self.unchanged)?;
        self.failed.iter().try_for_each(|Refused { message, .. }| write!(f, "; {message}"))
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
        Reload { at: SystemTime::now(), outcome: Outcome::Refused, message, hint }
    }
}

impl Running {
    /// Binds what `config` needs beside the present listeners, and reads the files that it names. Nothing changes for clients.
    ///
    /// # Errors
    /// If no target can be served as it is configured: the first reason.
    pub async fn prepare(&self, config: Config, accounts: &Accounts) -> Result<Prepared, Error> {
        let (limits, local_names, configured) = (Limits::of(&config), local_names(&config), config.targets.len());
        self.pools().set_limits(limits.connect_timeout, limits.resume_for);
        let (mut targets, mut failures, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        for target in config.targets {
            let served = self.served.iter().find(|served| served.target.name == target.name);
            match self.prepare_target(target, limits, &local_names, accounts).await {
                Ok(target) => targets.push(target),
                Err(error) => {
                    kept.extend(served.map(|served| (targets.len(), failures.len(), served)));
                    failures.push(Failure { error, is_served: false });
                }
            }
        }
        if targets.is_empty() && !failures.is_empty() {
            self.pools().set_limits(self.limits.connect_timeout, self.limits.resume_for);
            self.retire_unused_pools();
            return Err(failures.swap_remove(0).error);
        }
        // In its place, unless its address is another target's now.
        for (place, failure, served) in kept.into_iter().rev() {
            let name = &served.target.name;
            let is_claimed = |door: &Door| {
                let claims = |other: &PreparedTarget| {
                    other.target.listen.iter().any(|address| has_socket_of(door, name, address, &other.target.name))
                };
                targets.iter().any(|other| !other.is_same && claims(other))
            };
            if !served.doors.iter().any(is_claimed) {
                targets.insert(place, PreparedTarget::as_before(served));
                if let Some(failure) = failures.get_mut(failure) {
                    failure.is_served = true;
                }
            }
        }
        Ok(Prepared { limits, targets, configured, failures })
    }

    /// Serves what was prepared in the place of the present targets. Listeners whose address stays are not closed, and open
    /// connections stay as they are.
    pub async fn switch(
        &mut self,
        Prepared { limits, targets, configured, failures }: Prepared,
        metrics: &Metrics,
        mut events: impl FnMut(Event<'_>) + Send,
    ) -> Changes {
        let mut changes = Changes::default();
        self.failed = failures.first().map(|failure| failure.error.cause());
        for failure in failures {
            events(Event::Failed { error: &failure.error });
            changes.failed.push(failure.into());
        }
        let no_longer = std::mem::take(&mut self.listening);
        let mut doors: Vec<(Arc<str>, Door)> = Vec::new();
        let mut known: Vec<(Arc<Target>, Arc<Current>)> = Vec::new();
        for Served { target, current, doors: own, .. } in std::mem::take(&mut self.served) {
            doors.extend(own.into_iter().map(|door| (Arc::clone(&target.name), door)));
            known.push((target, current));
        }
        (self.limits, self.targets) = (limits, configured);
        for PreparedTarget { target, listeners, is_same, way } in targets {
            let name = &target.name;
            let served = known.extract_if(.., |(known, _)| known.name == *name).next().map(|(_, current)| current);
            match &served {
                Some(_) if is_same => changes.unchanged += 1,
                Some(_) => changes.changed.push(Arc::clone(name)),
                None => changes.added.push(Arc::clone(name)),
            }
            // One that comes back knows the connections that have outlived its removal.
            let left = |current: &mut Arc<Current>| current.last().upstream.target().name == *name;
            let served = served.or_else(|| self.leaving.extract_if(.., left).next());
            let current = match (served, way) {
                (Some(current), None) => current,
                (Some(current), Some(way)) => Arc::new(current.changed(way, limits.connect_timeout)),
                (None, Some((upstream, local_tls, password))) => {
                    let (drain, abort) = (self.drain.clone(), self.abort.clone());
                    let counts = counts(metrics, &target);
                    let service = Service::new(upstream, counts, limits.connect_timeout, drain, abort);
                    Arc::new(Current::new(service.with_local_tls(local_tls).with_password(password), &self.pools))
                }
                // A target that is not served yet is prepared with its way.
                (None, None) => continue,
            };
            log::label(name, target.guard.label.as_deref());
            let is_new = !listeners.is_empty();
            let mut own: Vec<Door> = Vec::new();
            for address in &target.listen {
                let kept = doors.extract_if(.., |(owner, door)| has_socket_of(door, owner, address, name));
                own.extend(kept.map(|(_, door)| door.at(address)));
            }
            for door in &own {
                door.lead_to(&current);
            }
            for (address, listener) in listeners {
                // The system knows the address of a socket that it has bound.
                let Ok(local) = listener.local() else { continue };
                own.push(Door::open((address, local), listener, &current, &self.rooms, &self.stop, &self.tasks));
            }
            own.sort_by_key(|door| target.listen.iter().position(|address| *address == door.address));
            let bound: Vec<Local> = own.iter().map(|door| door.local.clone()).collect();
            if is_new {
                events(Event::Listening { target: Arc::clone(&target), bound: bound.clone() });
            }
            self.listening.push(Listening::on(&bound.iter().filter_map(Local::tcp).collect::<Vec<_>>()));
            let tasks = self.tasks.clone();
            self.served.push(Served { target, bound, current, doors: own, tasks });
        }
        for (target, current) in known {
            log::label(&target.name, None);
            changes.removed.push(Arc::clone(&target.name));
            self.leaving.push(current);
        }
        for (_, door) in doors {
            door.close().await;
        }
        drop(no_longer);
        self.leaving.retain(|current| !current.last().open.is_empty());
        self.retire_unused_pools();
        changes
    }

    /// Lets the sessions that no target uses any more end with their connections.
    fn retire_unused_pools(&self) {
        let services: Vec<Arc<Service>> = self.served.iter().map(|served| served.current.last()).collect();
        let used: Vec<_> = services.iter().filter_map(|service| service.upstream.pool()).collect();
        self.pools().retire_all_but(&used);
    }

    async fn prepare_target(
        &self,
        target: Target,
        limits: Limits,
        local_names: &[String],
        accounts: &Accounts,
    ) -> Result<PreparedTarget, Error> {
        let target = Arc::new(target);
        let password_failed = |cause| Error::LocalPassword { target: Arc::clone(&target.name), cause };
        let password = target.local_password_file.as_deref().map(LocalPassword::of_file).transpose();
        let password = password.map_err(password_failed)?;
        let doors =
            || self.served.iter().flat_map(|served| served.doors.iter().map(|door| (&served.target.name, door)));
        let mut listeners: Vec<(Address, Listener)> = Vec::new();
        let new_ones = |listeners: &[(Address, Listener)]| -> Vec<SocketAddr> {
            listeners.iter().filter_map(|(_, listener)| listener.local().ok()?.tcp()).collect()
        };
        for address in &target.listen {
            let own = doors().filter(|(owner, door)| has_socket_of(door, owner, address, &target.name));
            let own: Vec<&Door> = own.map(|(_, door)| door).collect();
            if own.iter().all(|door| door.address != *address) {
                let listen_failed = |cause| Error::Listen { target: Arc::clone(&target.name), cause };
                let passed = self.passed_to(&target, address, &own).map_err(listen_failed)?;
                let is_whole = !passed.is_empty() && address.tcp().is_none_or(ListenAddress::is_any_port);
                listeners.extend(passed.into_iter().map(|listener| (address.clone(), listener)));
                if is_whole {
                    continue;
                }
                let bound: Vec<_> =
                    doors().filter_map(|(_, door)| door.local.tcp()).chain(new_ones(&listeners)).collect();
                let new = listen::bind_for(&target, address, &bound).await.map_err(listen_failed)?;
                listeners.extend(new.into_iter().map(|listener| (address.clone(), listener)));
            }
        }
        let is_same = self.limits == limits && self.served.iter().any(|served| served.target == target);
        // The content of a file may have changed where its name has not. That of a password is looked at for each client.
        let stays = is_same && target.ca_file.is_none();
        let way = if stays {
            None
        } else {
            let tls_failed = |cause| Error::LocalTls { target: Arc::clone(&target.name), cause };
            let local_tls = local_tls(&target, local_names).map_err(tls_failed)?;
            Some((self.upstream(&target, accounts)?, local_tls, password))
        };
        Ok(PreparedTarget { target, listeners, is_same, way })
    }

    /// The sockets of a supervisor at an address, but for those that the target has as its `own`.
    fn passed_to(&self, target: &Target, address: &Address, own: &[&Door]) -> Result<Vec<Listener>, listen::Error> {
        let sockets = self.passed.at(std::slice::from_ref(address), &target.name);
        let new = sockets.filter(|socket| own.iter().all(|door| door.local != socket.local));
        let listener = |socket: &passed::Socket| {
            socket.listener().map_err(|cause| listen::Error::Bind { address: socket.local.clone(), cause })
        };
        new.map(listener).collect()
    }

    fn upstream(&self, target: &Arc<Target>, accounts: &Accounts) -> Result<Upstream, Error> {
        let options = aws::Options { identity: target.identity.clone(), region: target.region.clone() };
        let aws_failed = |cause| Error::Aws { target: Arc::clone(&target.name), cause };
        let account = accounts.load(&options).map_err(aws_failed)?;
        let tls_failed = |cause| Error::Tls { target: Arc::clone(&target.name), cause };
        let tls = tls::Connector::new(&target.endpoint.host, target.ca_file.as_ref()).map_err(tls_failed)?;
        let (dialer, pace) = {
            let mut pools = self.pools();
            (pools.dialer(target, &account), pools.pace(target))
        };
        Ok(Upstream::new(Arc::clone(target), account, dialer, tls, pace))
    }
}

/// The names that clients of all targets may use in the certificates of this machine.
fn local_names(config: &Config) -> Vec<String> {
    config.targets.iter().flat_map(|target| target.local_tls.names.clone()).collect()
}

/// TLS for the clients of a target that offers it. The authority, if it is made now, may prove the names of all targets.
fn local_tls(target: &Target, of_all: &[String]) -> Result<Option<Arc<tls::local::Server>>, tls::local::Error> {
    let LocalTls { mode, names, certificate } = &target.local_tls;
    if *mode == LocalTlsMode::Off {
        if target.listen.iter().any(Address::is_open) {
            warn!(target = %target.name, "clients of other machines send in clear, because local_tls is off");
        }
        return Ok(None);
    }
    let folder = certificate.as_deref().and_then(Path::parent).ok_or(tls::local::Error::NoFolder)?;
    let authority = tls::local::Authority::open(folder, of_all)?;
    let server = tls::local::Server::new(Arc::new(authority), names, target.engine.facts().alpn)?;
    Ok(Some(Arc::new(server)))
}

/// Whether the socket of a door is one of those that the target `name` is to have at `address`.
fn has_socket_of(door: &Door, owner: &Arc<str>, address: &Address, name: &Arc<str>) -> bool {
    match address {
        // Each target has a port of its own from the system.
        Address::Tcp(listen) if listen.is_any_port() => door.address == *address && owner == name,
        Address::Tcp(listen) => {
            door.local.tcp().is_some_and(|local| local.port() == listen.port && listen.addresses.contains(&local.ip()))
        }
        Address::Unix(_) => door.address == *address,
    }
}
