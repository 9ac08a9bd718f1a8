//! The vocabulary of what we connect to: [`Engine`], [`Host`], [`Arn`], [`Region`], [`InstanceId`], [`Endpoint`],
//! [`Route`], [`Target`]; in `identity`, who we are for AWS. Each is parsed once; after that nothing is re-checked.
//!
//! Nothing here opens a socket or asks AWS.

mod identity;
mod pooling;
mod session;

use std::{fmt, net::IpAddr, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

pub use self::{
    identity::{ExternalId, Identity, MfaCode, MfaSerial, RoleArn, SessionName},
    pooling::{Isolation, Pooling},
    session::{Document, Parameter, Reason, SessionSettings},
};

/// The database engine of a target: which startup protocol the listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Engine {
    /// RDS for PostgreSQL, Aurora PostgreSQL, or an RDS Proxy in front of one.
    Postgres,
    /// RDS for MySQL and MariaDB, Aurora MySQL, or an RDS Proxy in front of one.
    Mysql,
}

impl Engine {
    /// The port that the engine listens on unless told otherwise, here and at AWS.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Postgres => 5432,
            Self::Mysql => 3306,
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postgres => "postgres",
            Self::Mysql => "mysql",
        })
    }
}

/// Why a word of the vocabulary was refused. Says what was given and what is expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not one of the engines.
    #[error("unknown engine {0:?}: expected postgres (also aurora-postgresql) or mysql (also mariadb, aurora-mysql)")]
    Engine(String),
    /// Not a DNS host name.
    #[error(
        "{0:?} is not a host name: expected letters, digits, '-' and '.', as in orders.c1abcdefghij.eu-central-1.rds.amazonaws.com"
    )]
    Host(String),
    /// Not the ARN of something with an endpoint.
    #[error(
        "{0:?} is not the ARN of a database: expected arn:aws:rds:REGION:ACCOUNT:KIND:NAME, where KIND is db, cluster, \
         cluster-endpoint, db-proxy or db-proxy-endpoint"
    )]
    Arn(String),
    /// Not an AWS region.
    #[error("{0:?} is not an AWS region: expected something like eu-central-1")]
    Region(String),
    /// Not a way to compress.
    #[error("{0:?} is not a compression: expected auto, zlib, zstd or off")]
    Compress(String),
    /// Not a way to share sessions.
    #[error("{0:?} is not an isolation: expected shared or connection")]
    Isolation(String),
    /// Not a managed node.
    #[error("{0:?} is not an SSM managed node: expected i-… (EC2), mi-… (hybrid) or ecs:CLUSTER_TASK_RUNTIME")]
    InstanceId(String),
    /// Not a role.
    #[error("{0:?} is not a role's ARN: expected something like arn:aws:iam::123456789012:role/NAME")]
    RoleArn(String),
    /// Not what STS takes as an external id.
    #[error("{0:?} is not an external id: expected 2 to 1224 letters, digits and _+=,.@:/-")]
    ExternalId(String),
    /// Not what STS takes as a session's name.
    #[error("{0:?} is not a session name: expected 2 to 64 letters, digits and _+=,.@-")]
    SessionName(String),
    /// Not an MFA device.
    #[error("{0:?} is not an MFA device: expected arn:aws:iam::123456789012:mfa/NAME or a serial number")]
    MfaSerial(String),
    /// Not a code of one; it is not shown.
    #[error("not an MFA code: expected six digits")]
    MfaCode,
    /// Not the name of a session document.
    #[error("{0:?} is not the name of a session document: expected 3 to 128 letters, digits and any of _ - . : /")]
    Document(String),
    /// Not a parameter of one.
    #[error("{0:?} is not a document parameter: expected host, portNumber or NAME=VALUE")]
    Parameter(String),
    /// Too long a reason, or one that breaks lines.
    #[error("a reason of {0} characters: expected 1 to 256 of them, without line breaks")]
    Reason(usize),
}

impl FromStr for Engine {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        match s {
            "postgres" | "postgresql" | "aurora-postgresql" => Ok(Self::Postgres),
            "mysql" | "mariadb" | "aurora-mysql" => Ok(Self::Mysql),
            other => Err(ParseError::Engine(other.into())),
        }
    }
}

/// A DNS host name in lower case, without a trailing dot: the form that goes into a token and into certificate checks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host(Arc<str>);

impl Host {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name moves from one instance to another: an Aurora cluster's, reader's or custom endpoint.
    pub fn is_cluster(&self) -> bool {
        self.region().is_some() && self.0.split('.').nth(1).is_some_and(|label| label.starts_with("cluster-"))
    }

    /// Whether the name is to lead to the one instance that can be written to: an Aurora cluster's own endpoint.
    pub fn is_cluster_writer(&self) -> bool {
        let label = self.0.split('.').nth(1).unwrap_or_default();
        self.is_cluster() && !label.starts_with("cluster-ro-") && !label.starts_with("cluster-custom-")
    }

    /// The region in an RDS or Aurora endpoint name, `None` for any other name.
    ///
    /// Names are `<id>.<hash>.<region>.rds.amazonaws.com` (`.com.cn` in China); cluster and proxy endpoints put
    /// `cluster-`, `cluster-ro-`, `cluster-custom-` or `proxy-` before the hash. AWS, "Connecting to a DB instance".
    pub fn region(&self) -> Option<Region> {
        let name = self.0.strip_suffix(".amazonaws.com").or_else(|| self.0.strip_suffix(".amazonaws.com.cn"))?;
        let name = name.strip_suffix(".rds").or_else(|| name.strip_suffix(".rds-preview"))?;
        name.rsplit('.').next()?.parse().ok()
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Host {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        let name = s.strip_suffix('.').unwrap_or(s).to_ascii_lowercase();
        let label_ok = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // An address has no name to verify a certificate against.
        if name.len() > 253 || !name.split('.').all(label_ok) || name.parse::<IpAddr>().is_ok() {
            return Err(ParseError::Host(s.into()));
        }
        Ok(Self(name.into()))
    }
}

/// The ARN of something in RDS that one can log in to: an instance, a cluster, a custom endpoint, a proxy, a proxy's
/// endpoint ("Amazon Resource Names in Amazon RDS").
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Arn {
    text: Arc<str>,
    region: Region,
}

impl Arn {
    /// The ARN as a whole.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The region in it.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// `db`, `cluster`, `cluster-endpoint`, `db-proxy` or `db-proxy-endpoint`.
    pub fn kind(&self) -> &str {
        self.text.split(':').nth(5).unwrap_or_default()
    }

    /// What comes last: an identifier, or a proxy's resource id.
    pub fn name(&self) -> &str {
        self.text.rsplit(':').next().unwrap_or_default()
    }
}

impl fmt::Display for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Arn {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        const KINDS: [&str; 5] = ["db", "cluster", "cluster-endpoint", "db-proxy", "db-proxy-endpoint"];
        let refused = || ParseError::Arn(s.into());
        let fields: Vec<&str> = s.split(':').collect();
        let ["arn", partition, "rds", region, account, kind, name] = fields.as_slice() else { return Err(refused()) };
        let region: Region = region.parse().map_err(|_| refused())?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let ok = *partition == region.partition().name()
            && account.len() == 12
            && account.bytes().all(|byte| byte.is_ascii_digit())
            && KINDS.contains(kind)
            && !name.is_empty()
            && name.chars().all(plain);
        if ok { Ok(Self { text: s.into(), region }) } else { Err(refused()) }
    }
}

/// What a user calls a database by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// An endpoint's host name, or a name of one's own that is an alias of one (CNAME).
    Host(Host),
    /// An ARN.
    Arn(Arn),
    /// The identifier of an instance, a cluster, a custom endpoint or a proxy.
    Identifier(String),
}

impl Reference {
    /// The region in it, if there is one.
    pub fn region(&self) -> Option<Region> {
        match self {
            Self::Host(host) => host.region(),
            Self::Arn(arn) => Some(arn.region().clone()),
            Self::Identifier(_) => None,
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => host.fmt(f),
            Self::Arn(arn) => arn.fmt(f),
            Self::Identifier(id) => f.write_str(id),
        }
    }
}

/// An AWS region such as `eu-central-1`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Region(Arc<str>);

impl Region {
    /// The region's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The partition that the region belongs to.
    pub fn partition(&self) -> Partition {
        if self.0.starts_with("cn-") {
            Partition::AwsCn
        } else if self.0.starts_with("us-gov-") {
            Partition::AwsUsGov
        } else {
            Partition::Aws
        }
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Region {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        let parts: Vec<&str> = s.split('-').collect();
        let shape = (3..=5).contains(&parts.len())
            && parts.iter().all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
            && parts.last().is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit()));
        if shape { Ok(Self(s.into())) } else { Err(ParseError::Region(s.into())) }
    }
}

/// An AWS partition: which DNS suffix and which ARN prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partition {
    /// The commercial regions.
    Aws,
    /// China.
    AwsCn,
    /// GovCloud (US).
    AwsUsGov,
}

impl Partition {
    /// The second field of an ARN.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::AwsCn => "aws-cn",
            Self::AwsUsGov => "aws-us-gov",
        }
    }
}

/// The SSM managed node that dials the database for us, passed to StartSession as it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct InstanceId(Arc<str>);

impl InstanceId {
    /// The id as AWS knows it.
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

/// A host and a port. A database's are as AWS names it: the token and the certificate are for this name, whatever is
/// dialled.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The host name; of a database the real one, RDS's.
    pub host: Host,
    /// The port; of a database the real one.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// How bytes reach the endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Route {
    /// Through an SSM session to this bastion.
    Ssm(InstanceId),
    /// TCP from this machine.
    Direct,
    /// TCP from this machine when that works, else through an SSM session to this bastion.
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

/// How packets are compressed between us and a MySQL server; the client never hears of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compress {
    /// With what the server has, on the way through a session, where bytes are dear; not on the direct route.
    Auto,
    /// With zlib, if the server has it.
    Zlib,
    /// With zstd, if the server has it.
    Zstd,
    /// Not at all.
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

/// One database endpoint as configured, complete and checked.
#[derive(Debug, Clone)]
pub struct Target {
    /// What the user calls it; in every log line.
    pub name: Arc<str>,
    /// Which startup protocol.
    pub engine: Engine,
    /// The database.
    pub endpoint: Endpoint,
    /// The region that the token is signed for and whose APIs are called.
    pub region: Region,
    /// The database user to log in as; `None` takes the name that the client gives.
    pub user: Option<String>,
    /// The database for clients that name none (for libpq: that name their own user).
    pub database: Option<String>,
    /// How to get there.
    pub route: Route,
    /// What its SSM sessions are like, on that route.
    pub session: SessionSettings,
    /// How connections share SSM sessions, on that route.
    pub pooling: Pooling,
    /// Who we are for AWS.
    pub identity: Identity,
    /// Extra roots for the database's certificate, PEM.
    pub ca_file: Option<PathBuf>,
    /// Compression upstream; MySQL only.
    pub compress: Compress,
    /// What protects it from a slip of the hand.
    pub guard: Guard,
    /// Local addresses to listen on, host and port apart: `localhost` is both loopback addresses.
    pub listen: ListenAddress,
}

/// What protects a database from a slip of the hand. It is no permission: a client that means to can lift the first two.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Guard {
    /// Transactions are read only unless the client asks for another kind.
    pub read_only: bool,
    /// The longest that a statement may run.
    pub statement_timeout: Option<Duration>,
    /// Shown with the target's name: `PRODUCTION`, say.
    pub label: Option<String>,
    /// Whether serving it has to be confirmed.
    pub confirm: bool,
}

/// Where clients connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddress {
    /// What the user wrote: `localhost` or one loopback address.
    pub host: String,
    /// The addresses to bind: for `localhost` 127.0.0.1 first, then `::1`.
    pub addresses: Vec<IpAddr>,
    /// The port; 0 lets the system choose (the same one on every address).
    pub port: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_lower_case_and_knows_its_region() {
        for (name, region) in [
            ("Orders.C1abcdefghij.EU-central-1.rds.amazonaws.com.", Some("eu-central-1")),
            ("a.cluster-ro-c1abcdefghij.us-gov-west-1.rds.amazonaws.com", Some("us-gov-west-1")),
            ("a.proxy-c1abcdefghij.us-east-1.rds.amazonaws.com", Some("us-east-1")),
            ("a.c1abcdefghij.cn-north-1.rds.amazonaws.com.cn", Some("cn-north-1")),
            ("a.c1abcdefghij.us-east-2.rds-preview.amazonaws.com", Some("us-east-2")),
            ("db.internal.example", None),
            ("localhost", None),
        ] {
            let host: Host = name.parse().unwrap();
            assert_eq!(host.as_str(), name.trim_end_matches('.').to_ascii_lowercase());
            assert_eq!(host.region().as_ref().map(Region::as_str), region, "{name}");
        }
    }

    #[test]
    fn an_arn_names_what_has_an_endpoint() {
        for (text, region, kind, name) in [
            ("arn:aws:rds:eu-central-1:123456789012:db:orders", "eu-central-1", "db", "orders"),
            ("arn:aws-cn:rds:cn-north-1:123456789012:cluster:a-b", "cn-north-1", "cluster", "a-b"),
            ("arn:aws-us-gov:rds:us-gov-west-1:123456789012:db-proxy:prx-0a1", "us-gov-west-1", "db-proxy", "prx-0a1"),
        ] {
            let arn: Arn = text.parse().unwrap();
            assert_eq!((arn.as_str(), arn.region().as_str(), arn.kind(), arn.name()), (text, region, kind, name));
        }
        for text in [
            "arn:aws:rds:eu-central-1:123456789012:snapshot:orders",
            "arn:aws:rds:eu-central-1:12345678901:db:orders",
            "arn:aws-cn:rds:eu-central-1:123456789012:db:orders",
            "arn:aws:rds::123456789012:db:orders",
            "arn:aws:rds:eu-central-1:123456789012:db:",
            "arn:aws:rds:eu-central-1:123456789012:db:a:b",
            "arn:aws:ec2:eu-central-1:123456789012:db:orders",
            "orders",
        ] {
            assert_eq!(text.parse::<Arn>(), Err(ParseError::Arn(text.into())));
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for name in ["", ".", "a..b", "-a.b", "a b", "10.0.0.1", "::1", "zoë.example", "a/b", &"a".repeat(64)] {
            assert!(name.parse::<Host>().is_err(), "{name}");
        }
        for region in ["", "eu", "eu-central", "EU-CENTRAL-1", "eu--1", "eu-central-x"] {
            assert!(region.parse::<Region>().is_err(), "{region}");
        }
        for id in ["", "i-", "i-xyz", "bastion", "ecs:only_two", "i-0123456789abcdef0 "] {
            assert!(id.parse::<InstanceId>().is_err(), "{id}");
        }
        for id in ["i-0123456789abcdef0", "i-12345678", "mi-0123456789abcdef0", "ecs:my_cluster_0123abc_0123abc-456"] {
            assert_eq!(id.parse::<InstanceId>().unwrap().as_str(), id);
        }
    }
}
