//! A draft: one database as far as the user has described it. Its values are parsed, some may be missing; a [`Target`] has all.
//!
//! `cli` fills in missing values by asking AWS and the DNS; [`Draft::finish`] adds the defaults and checks the rules that
//! span options.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{
    env::Environment,
    error::Error,
    options::{Key, typed},
    origin::{Origin, Setting},
    settings::{self, Settings},
    sockets,
    value::{self, Listen, Via},
    warning::Warning,
};
use crate::{
    service::InvalidRegion,
    target::{
        Address, Auth, CaFile, Compress, Document, Endpoint, Engine, Guard, Host, Identity, InstanceId, Isolation,
        ListenAddress, LocalTls, LocalTlsMode, PasswordSource, Pooling, Reason, Reference, Region, Route, SessionName,
        SessionSettings, SocketAccess, Target, default_pooling,
    },
    tls::local::Authority,
};

/// The description of one database, in part or in full.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The name of the target.
    pub name: Arc<str>,
    /// The database. Only the host name of an endpoint makes a target.
    pub reference: Reference,
    /// The alias that led to the reference, when the user gave one.
    pub alias: Option<Host>,
    /// The protocol on the wire.
    pub engine: Option<Engine>,
    /// The database's port.
    pub port: Option<u16>,
    /// The database user.
    pub user: Option<String>,
    /// The database for clients that name none.
    pub database: Option<String>,
    /// The proof of identity for the database.
    pub auth: Auth,
    /// The source of the password, where rdsgate has one to log in with.
    pub password: PasswordSource,
    /// The managed node that carries the bytes, where the route needs one.
    pub bastion: Option<InstanceId>,
    /// The requested route; `None` leaves it to the endpoint.
    pub via: Option<Via>,
    /// The AWS identity.
    pub identity: Identity,
    /// The region: the one that is set for this database, else the one in the reference, else the one that is set for all.
    pub region: Option<Region>,
    /// Extra roots for the database's certificate.
    pub ca_file: Option<CaFile>,
    /// Compression upstream.
    pub compress: Compress,
    /// Protection against mistakes.
    pub guard: Guard,
    /// The local addresses.
    pub listen: Option<Vec<Listen>>,
    socket: SocketAccess,
    allow_users: Vec<u32>,
    local_password: Option<LocalPassword>,
    local_tls: DraftTls,
    max_connections: Option<usize>,
    reuse: Option<Duration>,
    max_logins_per_second: usize,
    /// The settings of SSM sessions. The reason in them is a placeholder, which [`Draft::finish`] replaces.
    session: SessionSettings,
    reason: Option<Reason>,
    /// The folder for sockets.
    runtime: PathBuf,
    /// The local user, for the reason.
    local_user: Option<String>,
    /// The sharing of SSM sessions.
    sessions: Sessions,
    /// The region that was set for this database. It counts more than the one in the host name.
    configured_region: Option<Region>,
}

impl Draft {
    /// Parses the settings of the database called `name`.
    ///
    /// # Errors
    /// [`Error::BadValue`] for a value; otherwise the variant names the rule.
    pub(super) fn parse(name: &str, settings: &Settings<'_>, environment: &Environment) -> Result<Self, Error> {
        let engine = settings.value::<typed::Engine>()?;
        let is_database = engine.is_none_or(Engine::is_database);
        let reference = match settings.get(Key::Host) {
            Some(Setting { value, origin }) if !is_database => value::destination(value)
                .map_err(|source| Error::BadValue { key: Key::Host, origin: origin.clone(), source })?,
            // Only there: a single word as `host` in a file is the name of a host.
            Some(Setting { value, origin: Origin::Argument }) if value::is_identifier(value) => {
                Reference::Identifier(value.to_ascii_lowercase())
            }
            Some(setting) => settings::parse::<typed::Host>(setting)?,
            None => return Err(Error::NoHost { target: name.to_owned() }),
        };
        let node = match &reference {
            Reference::Host(host) if !is_database => host.node(),
            _ => None,
        };
        let configured_region = settings.for_target(Key::Region).map(settings::parse::<typed::Region>).transpose()?;
        let region = match configured_region.clone().or_else(|| reference.region()) {
            Some(region) => Some(region),
            None => default_region(settings, environment)?,
        };
        let (auth, password) = login(name, settings)?;
        let allow_users = settings.value::<typed::AllowUsers>()?.unwrap_or_default();
        let draft = Self {
            name: Arc::from(name),
            alias: None,
            engine,
            port: settings.value::<typed::Port>()?.or_else(|| port_of(&reference)),
            reference,
            user: settings.value::<typed::User>()?,
            database: settings.value::<typed::Database>()?,
            auth,
            password,
            // A node leads to itself.
            session: session(settings, node.is_some())?,
            bastion: node.map_or_else(|| settings.value::<typed::Bastion>(), |node| Ok(Some(node)))?,
            via: via(settings)?,
            identity: identity(settings, environment)?,
            region,
            ca_file: ca_file(settings, environment)?,
            compress: settings.value_or_default::<typed::Compress>()?,
            guard: guard(settings)?,
            listen: settings.value::<typed::Listen>()?.map(|listen| at_home(listen, environment)),
            socket: SocketAccess {
                // The rule of user ids decides which of them are served.
                mode: settings.value::<typed::SocketMode>()?.unwrap_or(if allow_users.is_empty() {
                    0o600
                } else {
                    0o666
                }),
                group: settings.value::<typed::SocketGroup>()?,
            },
            runtime: environment.runtime(),
            allow_users,
            local_password: LocalPassword::parse(settings, environment)?,
            local_tls: DraftTls::parse(settings, environment)?,
            max_connections: settings.value::<typed::MaxConnections>()?,
            reuse: settings.value::<typed::Reuse>()?.filter(|reuse| !reuse.is_zero()),
            max_logins_per_second: settings.value_or_default::<typed::MaxLoginsPerSecond>()?,
            reason: settings.value::<typed::Reason>()?,
            // A name that is not Unicode is left out.
            local_user: environment.user().ok().flatten().map(str::to_owned),
            sessions: Sessions::parse(settings)?,
            configured_region,
        };
        draft.check_region()?;
        Ok(draft)
    }

    /// Records that the given name is an alias of the endpoint `found`. The region of the endpoint counts, and changes with the
    /// alias.
    pub fn follow_alias(&mut self, alias: Host, found: Host) {
        self.configured_region = None;
        self.region = found.region();
        self.alias = Some(alias);
        self.reference = Reference::Host(found);
        self.port = self.port.or_else(|| port_of(&self.reference));
    }

    /// The route: the requested one, else from this machine to an endpoint that is reachable from the internet, and through a
    /// bastion to any other.
    fn route(&self) -> Via {
        let is_public = matches!(&self.reference, Reference::Host(host) if host.is_public());
        self.via.unwrap_or(if is_public { Via::Direct } else { Via::Ssm })
    }

    /// The names that its local certificate proves beside those of this machine.
    pub fn local_names(&self) -> &[String] {
        &self.local_tls.names
    }

    /// The configured folder of the authority that makes its local certificate.
    pub fn authority_folder(&self) -> Option<&Path> {
        self.local_tls.folder.as_deref()
    }

    /// Whether the host may be an alias of a database.
    pub fn may_have_alias(&self) -> bool {
        self.engine.is_none_or(Engine::is_database)
    }

    /// Whether the region must still be found. Bytes that pass straight from this machine to a server need none.
    pub fn lacks_region(&self) -> bool {
        if self.may_have_alias() {
            self.reference.region().is_none()
        } else {
            self.region.is_none() && self.route() != Via::Direct
        }
    }

    /// The configured file of the listener's password.
    pub fn local_password_file(&self) -> Option<&Path> {
        self.local_password.as_ref().map(|password| password.file.as_path())
    }

    /// Whether a managed node must still be chosen.
    pub fn lacks_bastion(&self) -> bool {
        self.route() != Via::Direct && self.bastion.is_none()
    }

    /// The target, with defaults for optional values.
    ///
    /// # Errors
    /// A value is missing, or values contradict each other.
    pub fn finish(self) -> Result<Target, Error> {
        self.check_region()?;
        let (listen, local_password_file) = self.listeners()?;
        let via = self.route();
        let Reference::Host(host) = self.reference else {
            return Err(Error::NotLookedUp { target: self.name.to_string(), reference: self.reference });
        };
        let engine = engine(self.engine, self.port).unwrap_or(Engine::DEFAULT);
        let region = self.configured_region.or_else(|| host.region()).or(self.region);
        let route = match (via, self.bastion) {
            (Via::Direct, _) => Route::Direct,
            (Via::Ssm, Some(bastion)) => Route::Ssm(bastion),
            (Via::Auto, Some(bastion)) => Route::Auto(bastion),
            (Via::Ssm | Via::Auto, None) => return Err(Error::NoBastion { target: self.name.to_string() }),
        };
        let region = match region {
            Some(region) => region,
            None if !engine.is_database() && matches!(route, Route::Direct) => Region::global(),
            None if engine.is_database() => return Err(Error::NoRegion { target: self.name.to_string(), host }),
            None => return Err(Error::NoRegionOfServer { target: self.name.to_string() }),
        };
        if self.guard.pin_user && self.user.is_none() {
            return Err(Error::PinWithoutUser { target: self.name.to_string() });
        }
        let Guard { pin_user, read_only, statement_timeout, .. } = &self.guard;
        if !engine.is_database() && (*pin_user || *read_only || statement_timeout.is_some()) {
            return Err(Error::GuardWithoutProtocol { target: self.name.to_string() });
        }
        let auth = if engine.is_database() { self.auth } else { Auth::Password };
        let pooling = self.sessions.pooling(&self.name, &host)?;
        let Some(port) = self.port.or(engine.default_port()) else {
            return Err(Error::NoPort { target: self.name.to_string(), host });
        };
        let usual = || vec![Address::Tcp(ListenAddress::localhost(engine.default_port().unwrap_or(port)))];
        let listen = listen.unwrap_or_else(usual);
        let local_tls = if engine.is_database() { self.local_tls.of_listeners(&listen) } else { LocalTls::default() };
        let endpoint = Endpoint { host, port };
        let of = || Reason::of(self.local_user.as_deref(), &endpoint);
        let session = SessionSettings { reason: self.reason.unwrap_or_else(of), ..self.session };
        Ok(Target {
            engine,
            pooling,
            region,
            session,
            endpoint,
            alias: self.alias,
            // A client that logs in somewhere behind a port does so by itself.
            user: self.user.filter(|_| engine.is_database()),
            database: self.database.filter(|_| engine.is_database()),
            auth,
            password: self.password,
            route,
            identity: self.identity,
            ca_file: self.ca_file,
            compress: self.compress,
            guard: self.guard,
            listen,
            socket: self.socket,
            allow_users: self.allow_users,
            local_password_file,
            local_tls,
            max_connections: self.max_connections,
            reuse: self.reuse,
            max_logins_per_second: self.max_logins_per_second,
            name: self.name,
        })
    }

    /// The configured addresses, and the password that their clients must know. Nothing that is looked up changes whether the two go
    /// together.
    ///
    /// # Errors
    /// They do not.
    pub(super) fn listeners(&self) -> Result<(Option<Vec<Address>>, Option<PathBuf>), Error> {
        let engine = engine(self.engine, self.port).unwrap_or(Engine::DEFAULT);
        let auth = if engine.is_database() { self.auth } else { Auth::Password };
        let password = self.local_password.clone();
        let password = password.map(|password| password.of_target(&self.name, engine, auth)).transpose()?.flatten();
        let listen = self.listen.clone();
        let listen = listen.map(|listen| sockets::addresses(listen, &self.name, engine, &self.runtime)).transpose()?;
        let open = listen.iter().flatten().find(|address| address.is_open());
        match open {
            Some(address) if password.is_none() => {
                Err(Error::OpenWithoutPassword { target: self.name.to_string(), address: address.to_string() })
            }
            _ => Ok((listen, password)),
        }
    }

    /// An ARN's region is the only one that its database can be looked up in.
    fn check_region(&self) -> Result<(), Error> {
        match (&self.reference, &self.configured_region) {
            (Reference::Arn(arn), Some(configured)) if arn.region() != configured => Err(Error::RegionMismatch {
                target: self.name.to_string(),
                in_arn: arn.region().clone(),
                configured: configured.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// A warning if the configured region differs from the one in the host name.
    pub(super) fn warning(&self) -> Option<Warning> {
        let (in_host, configured) = (self.reference.region()?, self.configured_region.clone()?);
        (in_host != configured).then(|| Warning::OtherRegion { target: self.name.to_string(), in_host, configured })
    }
}

/// The configured part of [`Pooling`], whose defaults depend on the endpoint.
#[derive(Debug, Clone)]
struct Sessions {
    isolation: Isolation,
    most: Option<usize>,
    warm: Option<usize>,
    idle_close: Option<Duration>,
    rotate_after: Option<Duration>,
}

impl Sessions {
    fn parse(settings: &Settings<'_>) -> Result<Self, Error> {
        Ok(Self {
            isolation: settings.value_or_default::<typed::Isolation>()?,
            most: settings.value::<typed::MaxSessions>()?,
            warm: settings.value::<typed::WarmSessions>()?,
            idle_close: settings.value::<typed::IdleClose>()?,
            rotate_after: settings.value::<typed::RotateAfter>()?,
        })
    }

    /// Cluster endpoints are rotated by default: the agent looks their name up once a session.
    fn pooling(&self, name: &str, host: &Host) -> Result<Pooling, Error> {
        let default = default_pooling(self.isolation, host);
        let pooling = Pooling {
            max_sessions: self.most.unwrap_or(default.max_sessions),
            warm_sessions: self.warm.unwrap_or(default.warm_sessions),
            idle_close: self.idle_close.unwrap_or(default.idle_close),
            isolation: self.isolation,
            rotate_after: self.rotate_after.or(default.rotate_after),
        };
        if pooling.warm_sessions > pooling.max_sessions {
            let Pooling { max_sessions, warm_sessions, .. } = pooling;
            return Err(Error::WarmSessions { target: name.to_owned(), warm_sessions, max_sessions });
        }
        Ok(pooling)
    }
}

/// The configured password of the listener.
#[derive(Debug, Clone)]
struct LocalPassword {
    file: PathBuf,
    /// Whether it is set for this target, not for all.
    is_targets_own: bool,
}

impl LocalPassword {
    fn parse(settings: &Settings<'_>, environment: &Environment) -> Result<Option<Self>, Error> {
        let is_targets_own = settings.for_target(Key::LocalPasswordFile).is_some();
        let file = settings.value::<typed::LocalPasswordFile>()?;
        Ok(file.map(|file| Self { file: environment.expand_home(Path::new(&file)), is_targets_own }))
    }

    /// The file for a target. One that is set for all targets does not apply to a target that cannot have one.
    fn of_target(self, name: &str, engine: Engine, auth: Auth) -> Result<Option<PathBuf>, Error> {
        let target = || name.to_owned();
        match (engine.is_database(), auth) {
            (true, Auth::Iam | Auth::Secret) => Ok(Some(self.file)),
            (false, _) if self.is_targets_own => Err(Error::LocalPasswordWithoutProtocol { target: target() }),
            (true, Auth::Password) if self.is_targets_own => Err(Error::LocalPasswordAndClients { target: target() }),
            _ => Ok(None),
        }
    }
}

/// The port that a host's service fixes.
fn port_of(reference: &Reference) -> Option<u16> {
    let Reference::Host(host) = reference else { return None };
    host.service()?.port()
}

/// The requested route. A bastion that is set for one database requests it, one that is set for all does not.
fn via(settings: &Settings<'_>) -> Result<Option<Via>, Error> {
    let requested = settings.get(Key::Via).map(settings::parse::<typed::Via>).transpose()?;
    Ok(requested.or_else(|| settings.for_target(Key::Bastion).map(|_| Via::Ssm)))
}

/// The configured engine, or the one that the port is known for.
fn engine(configured: Option<Engine>, port: Option<u16>) -> Option<Engine> {
    configured.or_else(|| Engine::of_port(port?))
}

/// The engine as far as it is known without looking it up.
///
/// # Errors
/// [`Error::BadValue`].
pub(super) fn configured_engine(settings: &Settings<'_>) -> Result<Option<Engine>, Error> {
    let configured = settings.value::<typed::Engine>()?;
    Ok(engine(configured, settings.value::<typed::Port>()?))
}

/// The addresses with the user's home in the place of a leading `~/`.
fn at_home(listen: Vec<Listen>, environment: &Environment) -> Vec<Listen> {
    let expanded = |address| match address {
        Listen::Socket(path) => {
            let is_folder = path.as_os_str().as_encoded_bytes().ends_with(b"/");
            let path = environment.expand_home(&path);
            // Joining nothing keeps the slash.
            Listen::Socket(if is_folder { path.join("") } else { path })
        }
        Listen::Tcp(_) | Listen::UsualSocket => address,
    };
    listen.into_iter().map(expanded).collect()
}

/// The AWS identity. Sessions of roles are named after the local user, who would otherwise be missing in CloudTrail.
pub(super) fn identity(settings: &Settings<'_>, environment: &Environment) -> Result<Identity, Error> {
    let session_name = match settings.value::<typed::SessionName>()? {
        Some(name) => name,
        None => environment.user()?.map_or_else(SessionName::default, SessionName::of_user),
    };
    Ok(Identity {
        profile: settings.value::<typed::Profile>()?,
        roles: settings.value::<typed::RoleArn>()?.unwrap_or_default(),
        external_id: settings.value::<typed::ExternalId>()?,
        session_name,
        mfa_serial: settings.value::<typed::MfaSerial>()?,
        mfa_command: settings.value::<typed::MfaCommand>()?,
    })
}

/// The login, and the source of its password. A source that is set asks for a login with it.
fn login(name: &str, settings: &Settings<'_>) -> Result<(Auth, PasswordSource), Error> {
    let source = match (settings.value::<typed::Secret>()?, settings.value::<typed::PasswordCommand>()?) {
        (Some(_), Some(_)) => return Err(Error::TwoPasswords { target: name.to_owned() }),
        (Some(secret), None) => Some(secret),
        (None, command) => command.map(|command| PasswordSource::Command(command.into())),
    };
    let implied = if source.is_some() { Auth::Secret } else { Auth::Iam };
    Ok((settings.value::<typed::Auth>()?.unwrap_or(implied), source.unwrap_or_default()))
}

/// The configured part of [`LocalTls`], whose default depends on the addresses.
#[derive(Debug, Clone)]
struct DraftTls {
    mode: Option<LocalTlsMode>,
    names: Vec<String>,
    /// The configured folder of the authority.
    folder: Option<PathBuf>,
    /// Its folder otherwise.
    usual_folder: Option<PathBuf>,
}

impl DraftTls {
    fn parse(settings: &Settings<'_>, environment: &Environment) -> Result<Self, Error> {
        Ok(Self {
            mode: settings.value::<typed::LocalTls>()?,
            names: settings.value::<typed::LocalNames>()?.unwrap_or_default(),
            folder: settings.value::<typed::LocalCa>()?.map(|folder| environment.expand_home(Path::new(&folder))),
            usual_folder: environment.authority_folder(),
        })
    }

    fn of_listeners(self, listen: &[Address]) -> LocalTls {
        let is_open = listen.iter().any(Address::is_open);
        let mode = self.mode.unwrap_or(if is_open { LocalTlsMode::Offer } else { LocalTlsMode::Off });
        let usual = self.usual_folder.filter(|_| mode != LocalTlsMode::Off);
        let certificate = self.folder.or(usual).as_deref().map(Authority::certificate_in);
        LocalTls { mode, names: self.names, certificate }
    }
}

fn ca_file(settings: &Settings<'_>, environment: &Environment) -> Result<Option<CaFile>, Error> {
    let path = settings.value::<typed::CaFile>()?.map(|path| environment.expand_home(Path::new(&path)));
    Ok(path.map(|path| CaFile { sha256: settings.sha256(&path), path }))
}

fn guard(settings: &Settings<'_>) -> Result<Guard, Error> {
    Ok(Guard {
        pin_user: settings.value_or_default::<typed::PinUser>()?,
        read_only: settings.value_or_default::<typed::ReadOnly>()?,
        statement_timeout: settings.value::<typed::StatementTimeout>()?,
        label: settings.value::<typed::Label>()?,
        confirm: settings.value_or_default::<typed::Confirm>()?,
    })
}

/// The settings of sessions but for the reason, which may need the endpoint. The destination may be the node itself.
fn session(settings: &Settings<'_>, is_node: bool) -> Result<SessionSettings, Error> {
    let default = SessionSettings::default();
    Ok(SessionSettings {
        document: match settings.get(Key::Document) {
            None if is_node => Document::of_node(),
            _ => settings.value_or_default::<typed::Document>()?,
        },
        parameters: settings.value::<typed::DocumentParameters>()?,
        reason: default.reason,
        ssmmessages_endpoint: settings.value::<typed::SsmmessagesEndpoint>()?,
        unsigned_stream: settings.value_or_default::<typed::UnsignedStream>()?,
        payload_size: settings.value_or_default::<typed::PayloadSize>()?,
        keep_alive: settings.value_or_default::<typed::KeepAlive>()?,
        idle_timeout: settings.value::<typed::IdleTimeout>()?,
    })
}

/// The region that is configured for all targets, or that of the AWS variables.
pub(super) fn default_region(settings: &Settings<'_>, environment: &Environment) -> Result<Option<Region>, Error> {
    if let Some(region) = settings.value::<typed::Region>()? {
        return Ok(Some(region));
    }
    for variable in ["AWS_REGION", "AWS_DEFAULT_REGION"] {
        if let Some(text) = environment.variable(variable)? {
            return text
                .parse()
                .map(Some)
                .map_err(|cause: InvalidRegion| Error::AwsRegion { variable, source: cause.into() });
        }
    }
    Ok(None)
}
