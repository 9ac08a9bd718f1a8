//! The vocabulary of targets: [`Engine`], [`Endpoint`], [`InstanceId`], [`Route`], [`Target`]; in `reference` the names of
//! databases: host names, ARNs, identifiers; in `identity` the AWS identity; in `session` and `pooling` the settings of SSM
//! sessions. Each value is parsed once and not checked again.
//!
//! This module opens no socket and makes no call.

mod identity;
mod listen;
mod pooling;
mod reference;
mod secret;
mod session;

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use ssm_session::request::Destination;

pub use self::{
    identity::{ExternalId, Identity, MfaCode, MfaSerial, RoleArn, SessionName},
    listen::{Address, ListenAddress, Local, SocketAccess},
    pooling::{Isolation, Pooling, default_pooling},
    reference::{Arn, Host, Reference},
    secret::{PasswordSource, SecretId},
    session::{Document, Parameter, Reason, SessionSettings},
};
use crate::service::{DatabaseUser, InvalidRegion, Permission, Service};
pub use crate::service::{Partition, Region, UserMapping};

/// The database engine of a target, which decides the protocol of the listener. The differences between engines are in
/// `engine`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Engine {
    /// RDS for PostgreSQL, Aurora PostgreSQL, or an RDS Proxy in front of one.
    Postgres,
    /// RDS for MySQL and MariaDB, Aurora MySQL, or an RDS Proxy in front of one.
    Mysql,
    /// Any TCP port: the bytes pass as they are.
    Tcp,
}

/// The far end of a connection, as errors call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remote {
    /// A database, which rdsgate logs in to.
    Database,
    /// A server of any kind.
    Server,
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Database => "database",
            Self::Server => "server",
        })
    }
}

/// A text that is not a value of its type. The message contains the text and the expected form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not one of the engines.
    #[error(
        "unknown engine {0:?}: expected postgres (also aurora-postgresql), mysql (also mariadb, aurora-mysql) or tcp"
    )]
    Engine(String),
    /// Not a DNS host name.
    #[error(
        "{0:?} is not a host name: expected letters, digits, '-' and '.', as in orders.c1abcdefghij.eu-central-1.rds.amazonaws.com"
    )]
    Host(String),
    /// Not a destination of bytes without a protocol.
    #[error("{0:?} is not a destination: expected a host name, an IP address or a managed node (i-…, mi-…, ecs:…)")]
    Destination(String),
    /// Not the ARN of a database, cluster or proxy.
    #[error(
        "{0:?} is not the ARN of a database: expected arn:aws:rds:REGION:ACCOUNT:KIND:NAME, where KIND is db, cluster, \
         cluster-endpoint, db-proxy or db-proxy-endpoint; or arn:aws:dsql:REGION:ACCOUNT:cluster/ID"
    )]
    Arn(String),
    /// Not an AWS region.
    #[error(transparent)]
    Region(#[from] InvalidRegion),
    /// Not a compression method.
    #[error("{0:?} is not a compression: expected auto, zlib, zstd or off")]
    Compress(String),
    /// Not a use of TLS.
    #[error("{0:?} is not a use of TLS: expected off, offer or require")]
    LocalTls(String),
    /// Not a way to log in.
    #[error("{0:?} is not a login: expected iam, password or secret")]
    Auth(String),
    /// Not a managed node.
    #[error("{0:?} is not an SSM managed node: expected i-… (EC2), mi-… (hybrid) or ecs:CLUSTER_TASK_RUNTIME")]
    InstanceId(String),
    /// Not the ARN of a role.
    #[error("{0:?} is not a role's ARN: expected something like arn:aws:iam::123456789012:role/NAME")]
    RoleArn(String),
    /// Not an external id that STS accepts.
    #[error("{0:?} is not an external id: expected 2 to 1224 letters, digits and _+=,.@:/-")]
    ExternalId(String),
    /// Not a session name that STS accepts.
    #[error("{0:?} is not a session name: expected 2 to 64 letters, digits and _+=,.@-")]
    SessionName(String),
    /// Not an MFA device.
    #[error("{0:?} is not an MFA device: expected arn:aws:iam::123456789012:mfa/NAME or a serial number")]
    MfaSerial(String),
    /// Not an MFA code. The value is not shown, because it is a secret.
    #[error("not an MFA code: expected six digits")]
    MfaCode,
    /// Not a session document, a parameter of a document, or a sharing mode.
    #[error(transparent)]
    Session(#[from] ssm_session::request::ParseError),
    /// Not the name or ARN of a secret.
    #[error(
        "{0:?} is not a secret: expected rds, a name of Secrets Manager, or arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME"
    )]
    Secret(String),
    /// A reason that is too long or contains line breaks.
    #[error("a reason of {0} characters: expected 1 to 256 of them, without line breaks")]
    Reason(usize),
}

/// The SSM managed node that dials the database for us, passed to StartSession as it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct InstanceId(Arc<str>);

impl InstanceId {
    /// The id in the form of AWS.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for InstanceId {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        let hex = |rest: &str| (8..=32).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_hexdigit());
        let ok = match s.split_once(['-', ':']) {
            Some(("i" | "mi", rest)) => hex(rest),
            Some(("ecs", rest)) => rest.split('_').count() >= 3 && s.len() <= 400 && !s.contains(char::is_whitespace),
            _ => false,
        };
        if ok { Ok(Self(s.into())) } else { Err(ParseError::InstanceId(s.into())) }
    }
}

/// A host and a port. For a database these are AWS's own: the token and the certificate are for this name, whatever address is
/// dialled.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The host name; for a database that of RDS, never an alias.
    pub host: Host,
    /// The port; for a database the one that it listens on.
    pub port: u16,
}

impl Endpoint {
    /// The destination that the agent of a node dials.
    pub fn destination(&self) -> Destination {
        Destination::new(self.host.as_str(), self.port)
    }

    /// The service behind it. A name that does not have a form of AWS is an alias that could not be resolved, and is treated
    /// as an RDS instance.
    pub fn service(&self) -> Service {
        self.host.service().unwrap_or(Service::Instance)
    }

    /// The permission that the IAM policy must grant for a login here as `user`.
    pub fn permission(&self, region: &Region, user: DatabaseUser<'_>) -> Permission {
        let resource_id = user.resource_id.or_else(|| self.service().resource_id_of(self.host.as_str()));
        self.service().permission(region, DatabaseUser { resource_id, ..user })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.is_ipv6() {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The route of the bytes to the endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Route {
    /// Through an SSM session to this bastion.
    Ssm(InstanceId),
    /// TCP from this machine.
    Direct,
    /// TCP from this machine if that works, else through an SSM session to this bastion.
    Auto(InstanceId),
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ssm(bastion) => write!(f, "via {bastion}"),
            Self::Direct => f.write_str("direct"),
            Self::Auto(bastion) => write!(f, "direct or via {bastion}"),
        }
    }
}

/// Compression of packets between rdsgate and a MySQL server, invisible to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compress {
    /// With a method of the server on the route through a session, where bandwidth is scarce; none on the direct route.
    Auto,
    /// With zlib, if the server has it.
    Zlib,
    /// With zstd, if the server has it.
    Zstd,
    /// No compression.
    Off,
}

impl FromStr for Compress {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        match s {
            "auto" => Ok(Self::Auto),
            "zlib" => Ok(Self::Zlib),
            "zstd" => Ok(Self::Zstd),
            "off" => Ok(Self::Off),
            other => Err(ParseError::Compress(other.into())),
        }
    }
}

/// Whether clients may or must use TLS to a listener.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LocalTlsMode {
    /// TLS is not offered.
    #[default]
    Off,
    /// A client that asks for TLS gets it.
    Offer,
    /// A client that does not ask for TLS is refused.
    Require,
}

impl fmt::Display for LocalTlsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Offer => "offer",
            Self::Require => "require",
        })
    }
}

impl FromStr for LocalTlsMode {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        match s {
            "off" => Ok(Self::Off),
            "offer" => Ok(Self::Offer),
            "require" => Ok(Self::Require),
            other => Err(ParseError::LocalTls(other.into())),
        }
    }
}

/// TLS between clients and the listener of a target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalTls {
    /// Whether clients may or must use it.
    pub mode: LocalTlsMode,
    /// The names and addresses that the certificate proves beside those of this machine.
    pub names: Vec<String>,
    /// The file of the authority's certificate, beside its key; `None` without a folder for it.
    pub certificate: Option<PathBuf>,
}

/// The proof of identity for the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// A token, signed with the credentials of the AWS identity.
    Iam,
    /// The password of the client, which passes through to the database.
    Password,
    /// A password that rdsgate fetches: [`Target::password`].
    Secret,
}

impl fmt::Display for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Iam => "iam",
            Self::Password => "password",
            Self::Secret => "secret",
        })
    }
}

impl FromStr for Auth {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        match s {
            "iam" => Ok(Self::Iam),
            "password" => Ok(Self::Password),
            "secret" => Ok(Self::Secret),
            other => Err(ParseError::Auth(other.into())),
        }
    }
}

/// One database endpoint as configured, complete and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The name of the target, in every log line.
    pub name: Arc<str>,
    /// The protocol on the wire.
    pub engine: Engine,
    /// The host and port of the database.
    pub endpoint: Endpoint,
    /// The alias (CNAME) that was configured and led to the endpoint. It may lead to another endpoint at any time.
    pub alias: Option<Host>,
    /// The region that the token is signed for and whose APIs are called. Without a meaning unless [`Target::needs_aws`].
    pub region: Region,
    /// The database user for clients that name none; with `None` the name that the client sends is used. See [`Guard::pin_user`].
    pub user: Option<String>,
    /// The database for clients that name none (for libpq: that name their own user).
    pub database: Option<String>,
    /// The proof of identity for the database.
    pub auth: Auth,
    /// The source of the password for [`Auth::Secret`].
    pub password: PasswordSource,
    /// The route of the bytes to the endpoint.
    pub route: Route,
    /// The settings of SSM sessions, where the route uses them.
    pub session: SessionSettings,
    /// The sharing of SSM sessions between connections, where the route uses them.
    pub pooling: Pooling,
    /// The AWS identity.
    pub identity: Identity,
    /// Extra roots for the database's certificate, PEM.
    pub ca_file: Option<CaFile>,
    /// Compression upstream; MySQL only.
    pub compress: Compress,
    /// Protection against mistakes.
    pub guard: Guard,
    /// The local addresses to listen on. The first is the one that commands and connection strings show.
    pub listen: Vec<Address>,
    /// The access to those of them that are unix sockets.
    pub socket: SocketAccess,
    /// The user ids whose clients are served beside our own and root's.
    pub allow_users: Vec<u32>,
    /// The file with the password that clients of the listener must know. It is read when the target is served.
    pub local_password_file: Option<PathBuf>,
    /// TLS between clients and the listener.
    pub local_tls: LocalTls,
    /// The largest number of clients at a time.
    pub max_connections: Option<usize>,
    /// How long a connection waits for another client once its own has said goodbye; `None` if it ends then.
    pub reuse: Option<Duration>,
    /// The largest number of IAM logins a second.
    pub max_logins_per_second: usize,
}

impl Target {
    /// The first TCP address to listen on.
    pub fn tcp(&self) -> Option<&ListenAddress> {
        self.listen.iter().find_map(Address::tcp)
    }

    /// The far end, as errors call it.
    pub fn remote(&self) -> Remote {
        if self.engine.is_database() { Remote::Database } else { Remote::Server }
    }

    /// Whether AWS has a part in it: not in bytes that pass to a server as they are, straight from this machine.
    pub fn needs_aws(&self) -> bool {
        self.engine.is_database() || !matches!(self.route, Route::Direct)
    }

    /// This target after its alias has moved to `host`. The region changes with the name, unless it was configured.
    #[must_use]
    pub fn moved_to(&self, host: Host) -> Self {
        let region_of_name = self.endpoint.host.region().is_some_and(|region| region == self.region);
        let region = host.region().filter(|_| region_of_name).unwrap_or_else(|| self.region.clone());
        let session = SessionSettings {
            reason: self.session.reason.renamed(self.endpoint.host.as_str(), host.as_str()),
            ..self.session.clone()
        };
        let endpoint = Endpoint { host, port: self.endpoint.port };
        Self { endpoint, region, session, ..self.clone() }
    }
}

/// Protection of a database against mistakes. Not a permission: a client can lift the first two on purpose.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Guard {
    /// Whether clients that name another user than the target's are refused. Requires a user.
    pub pin_user: bool,
    /// Whether transactions are read only unless the client requests otherwise.
    pub read_only: bool,
    /// The longest time that a statement may run.
    pub statement_timeout: Option<Duration>,
    /// A text that is shown with the name of the target, such as `PRODUCTION`.
    pub label: Option<String>,
    /// Whether serving it has to be confirmed.
    pub confirm: bool,
}

/// A file of additional roots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaFile {
    /// The path of the file.
    pub path: PathBuf,
    /// The SHA-256 that its content must have, if a trusted project's file names it.
    pub sha256: Option<[u8; 32]>,
}

impl From<&Path> for CaFile {
    /// A file whose content is not pinned.
    fn from(path: &Path) -> Self {
        Self { path: path.to_owned(), sha256: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bastion_is_an_instance_a_hybrid_node_or_a_task() {
        for id in ["", "i-", "i-xyz", "bastion", "ecs:only_two", "i-0123456789abcdef0 "] {
            assert!(id.parse::<InstanceId>().is_err(), "{id}");
        }
        for id in ["i-0123456789abcdef0", "i-12345678", "mi-0123456789abcdef0", "ecs:my_cluster_0123abc_0123abc-456"] {
            assert_eq!(id.parse::<InstanceId>().unwrap().as_str(), id);
        }
    }
}
