//! A running proxy, from its start to its shutdown.
//!
//! Its tasks: one for each listener, one for each connection, and one for each target that checks the path to the database at the
//! start. [`Running`] owns all of them, and none outlives [`Running::stop`].
//!
//! A reload has two parts: [`Running::prepare`] does everything that can fail and changes nothing, [`Running::switch`] cannot fail.

use std::{
    fmt,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use super::{
    Cause, Error, Event, Pools,
    current::Current,
    door::{Door, Ping},
    room::Rooms,
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
        serve::{Learning, Service, counts, learn, reach},
    },
    target::{Address, LocalTls, LocalTlsMode, Target},
    telemetry::{log, metrics::Metrics},
    tls,
    tunnel::own::Listening,
};

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
    /// The targets that reloads have removed, for as long as they have connections.
    leaving: Vec<Arc<Current>>,
    pools: Arc<Mutex<Pools>>,
    rooms: Rooms,
    limits: Limits,
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
    doors: Vec<Door>,
    tasks: TaskTracker,
}

/// Settings of the process that services and pools are made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limits {
    connect_timeout: Duration,
    resume_for: Duration,
}

/// A configuration that can be served from now on.
pub struct Prepared {
    limits: Limits,
    targets: Vec<PreparedTarget>,
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
}

impl Changes {
    /// Whether new connections to the target use other settings than before.
    pub(super) fn concern(&self, name: &Arc<str>) -> bool {
        self.added.contains(name) || self.changed.contains(name)
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (names, done) in [(&self.added, "added"), (&self.removed, "removed"), (&self.changed, "changed")] {
            if !names.is_empty() {
                write!(f, "{} {done} ({}), ", names.len(), names.join(", "))?;
            }
        }
        write!(f, "{} unchanged", self.unchanged)
    }
}

impl Limits {
    fn of(config: &Config) -> Self {
        Self { connect_timeout: config.connect_timeout, resume_for: config.resume_for }
    }
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
        let limits = Limits::of(&config);
        let mut running = Self {
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            drain: CancellationToken::new(),
            abort: CancellationToken::new(),
            served: Vec::new(),
            listening: Vec::new(),
            leaving: Vec::new(),
            pools: Arc::new(Mutex::new(Pools::new(limits.connect_timeout, limits.resume_for))),
            rooms: Rooms::of_process(),
            limits,
            targets: 0,
            failed: None,
        };
        let mut targets = Vec::new();
        let mut errors = Vec::new();
        let configured = config.targets.len();
        let local_names = local_names(&config);
        for target in config.targets {
            log::label(&target.name, target.guard.label.as_deref());
            match running.prepare_target(target, limits, &local_names, accounts).await {
                Ok(target) => targets.push(target),
                Err(error) => errors.push(error),
            }
        }
        running.failed = errors.first().map(Error::cause);
        let mut errors = errors.into_iter();
        let fatal = if targets.is_empty() { errors.next() } else { None };
        for error in errors {
            events(Event::Failed { error });
        }
        if let Some(error) = fatal {
            return Err(error);
        }
        running.switch(Prepared { limits, targets }, metrics, events).await;
        running.targets = configured;
        Ok(running)
    }

    /// Binds what `config` needs beside the present listeners, and reads the files that it names. Nothing changes for clients.
    ///
    /// # Errors
    /// The first reason why a target could not be served.
    pub async fn prepare(&self, config: Config, accounts: &Accounts) -> Result<Prepared, Error> {
        let (limits, local_names) = (Limits::of(&config), local_names(&config));
        self.pools().set_limits(limits.connect_timeout, limits.resume_for);
        let mut targets = Vec::new();
        for target in config.targets {
            match self.prepare_target(target, limits, &local_names, accounts).await {
                Ok(target) => targets.push(target),
                Err(error) => {
                    self.pools().set_limits(self.limits.connect_timeout, self.limits.resume_for);
                    self.retire_unused_pools();
                    return Err(error);
                }
            }
        }
        Ok(Prepared { limits, targets })
    }

    /// Serves what was prepared in the place of the present targets. Listeners whose address stays are not closed, and open
    /// connections stay as they are.
    pub async fn switch(
        &mut self,
        Prepared { limits, targets }: Prepared,
        metrics: &Metrics,
        mut events: impl FnMut(Event<'_>) + Send,
    ) -> Changes {
        let mut changes = Changes::default();
        let no_longer = std::mem::take(&mut self.listening);
        let mut doors: Vec<(Arc<str>, Door)> = Vec::new();
        let mut known: Vec<(Arc<Target>, Arc<Current>)> = Vec::new();
        for Served { target, current, doors: own, .. } in std::mem::take(&mut self.served) {
            doors.extend(own.into_iter().map(|door| (Arc::clone(&target.name), door)));
            known.push((target, current));
        }
        (self.limits, self.targets) = (limits, targets.len());
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

    /// The services of the targets that a reload has removed.
    pub(super) fn leaving(&self) -> &[Arc<Current>] {
        &self.leaving
    }

    /// Ask each accept loop whether it is alive.
    pub(super) fn pings(&self) -> Vec<mpsc::Sender<Ping>> {
        self.served.iter().flat_map(|served| &served.doors).map(Door::pings).collect()
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

    /// Checks credentials and sessions of targets in the background, and logs obstacles.
    pub fn check(&self, concerned: impl Fn(&Arc<str>) -> bool) {
        for served in self.served.iter().filter(|served| concerned(&served.target.name)) {
            let (service, tasks) = (served.current.last(), self.tasks.clone());
            let learning = Learning::begin(&service);
            self.until_stop(async move {
                if check(&service).await {
                    // To its end, because the server minds a connection that is broken off.
                    tasks.spawn(async move { learn(&service, learning).await });
                }
            });
        }
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
                let bound: Vec<_> =
                    doors().filter_map(|(_, door)| door.local.tcp()).chain(new_ones(&listeners)).collect();
                let listen_failed = |cause| Error::Listen { target: Arc::clone(&target.name), cause };
                let new = listen::bind_for(&target, address, &bound).await.map_err(listen_failed)?;
                listeners.extend(new.into_iter().map(|listener| (address.clone(), listener)));
            }
        }
        let is_same = self.limits == limits && self.served.iter().any(|served| served.target == target);
        // The content of a file may have changed where its name has not.
        let stays = is_same && target.ca_file.is_none() && target.local_password_file.is_none();
        let way = if stays {
            None
        } else {
            let tls_failed = |cause| Error::LocalTls { target: Arc::clone(&target.name), cause };
            let local_tls = local_tls(&target, local_names).map_err(tls_failed)?;
            Some((self.upstream(&target, accounts)?, local_tls, password))
        };
        Ok(PreparedTarget { target, listeners, is_same, way })
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

    fn pools(&self) -> MutexGuard<'_, Pools> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
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
        let (hint, cause) = (cause.hint(target).unwrap_or_default(), cause.message(target));
        warn!(target = %target.name, cause, hint, "connections will fail");
        return false;
    }
    true
}
