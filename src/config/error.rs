//! Errors about a configuration, each with its place and a hint.

use std::{fmt, io, path::PathBuf};

use super::{
    options::{Key, Scope},
    origin::{Asked, Keys, Location, Origin},
    value::ValueError,
};
use crate::target::{Host, ParseError, Reference, Region};

/// A configuration that cannot be used. Each is the user's to fix; [`Error::hint`] says how.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The working directory is gone.
    #[error("cannot find the working directory")]
    WorkingDirectory {
        /// The system's reason.
        source: io::Error,
    },
    /// A file that was named, or found, cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is not valid TOML.
    #[error("{at}: not valid TOML: {message}")]
    Syntax {
        /// The file, line and column.
        at: Location,
        /// The parser's message.
        message: String,
    },
    /// An unknown key, most often a typing mistake.
    #[error("{at}: unknown key {key:?} {}", Place(table.as_deref()))]
    UnknownKey {
        /// The file, line and column.
        at: Location,
        /// The key in the file.
        key: String,
        /// The table it stands in, `None` at the top level.
        table: Option<String>,
        /// The closest known name.
        suggestion: Option<String>,
    },
    /// A key in a table where it means nothing.
    #[error("{at}: {} does not belong in {table}", key.name())]
    Misplaced {
        /// The file, line and column.
        at: Location,
        /// The key.
        key: Key,
        /// The table it stands in.
        table: String,
    },
    /// A command in a file that comes with a project, and so from the project's authors.
    #[error("{at}: {} runs a command, which a project's file may not", key.name())]
    ForeignCommand {
        /// The file, line and column.
        at: Location,
        /// The key.
        key: Key,
    },
    /// A target in a project's file that is called like a host: typed in full, that must lead to the host.
    #[error("{at}: {name:?} is a host name, which cannot name a target of a project's file")]
    NamedLikeHost {
        /// The file, line and column.
        at: Location,
        /// The name.
        name: String,
    },
    /// A project's file asks for what the owner decides, and has not been trusted.
    #[error("{} {}: {}", path.display(), Asks(*changed), Keys(requests))]
    NotTrusted {
        /// The file.
        path: PathBuf,
        /// Whether it was trusted once, and has changed since.
        changed: bool,
        /// The options in it that only the owner may set.
        requests: Vec<Asked>,
    },
    /// The record of trusted files cannot be written.
    #[error("cannot record that {} is trusted", path.display())]
    TrustRecord {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The value has another TOML type than the key.
    #[error("{at}: {key} is {} {found}, expected {expected}", article(found))]
    WrongType {
        /// The file, line and column.
        at: Location,
        /// The key.
        key: String,
        /// The type and an example.
        expected: &'static str,
        /// The type that it has.
        found: &'static str,
    },
    /// A target's name that cannot stand in a log line or on a command line.
    #[error("{at}: {name:?} cannot name a target: expected at most 63 letters, digits, '-', '_' and '.'")]
    TargetName {
        /// The file, line and column.
        at: Location,
        /// The name.
        name: String,
    },
    /// A value that does not parse.
    #[error("{}", Bad(*key, origin))]
    BadValue {
        /// The key.
        key: Key,
        /// The origin of the value.
        origin: Origin,
        /// The reason.
        source: ValueError,
    },
    /// `host = "name:5433"` and `port = 5434`.
    #[error("{}: the host says port {in_host}, port says {in_port}", Bad(Key::Host, origin))]
    TwoPorts {
        /// The origin of the host.
        origin: Origin,
        /// The port in it.
        in_host: String,
        /// The other port.
        in_port: String,
    },
    /// A variable that is not UTF-8.
    #[error("{variable} is not valid UTF-8")]
    NotUnicode {
        /// The name of the variable.
        variable: String,
    },
    /// An AWS variable with something else than a region.
    #[error("invalid {variable}")]
    AwsRegion {
        /// The name of the variable.
        variable: &'static str,
        /// The reason.
        source: ParseError,
    },
    /// There are no targets to serve.
    #[error("no database to serve: {}", Searched(files))]
    NoTargets {
        /// The files that were read.
        files: Vec<PathBuf>,
    },
    /// A word that is neither the name of a target nor a host name.
    #[error("no target is called {name:?}")]
    UnknownTarget {
        /// The word.
        name: String,
        /// The closest known name.
        suggestion: Option<String>,
        /// The targets in the files.
        known: Vec<String>,
    },
    /// A database that only AWS can say the endpoint of, and was not asked.
    #[error("target {target} has no endpoint: {reference} was not looked up")]
    NotLookedUp {
        /// The target.
        target: String,
        /// The identifier or ARN that the user gave.
        reference: Reference,
    },
    /// A target without a host.
    #[error("target {target} has no host")]
    NoHost {
        /// The target.
        target: String,
    },
    /// No way to the database.
    #[error("target {target} has no bastion to go through")]
    NoBastion {
        /// The target.
        target: String,
    },
    /// The host name does not tell the region, and nothing else does.
    #[error(
        "the region of {target} is unknown: {host} is {}",
        host.service().map_or("not an RDS endpoint name".to_owned(), |service| format!("{}, which no region is part of", service.description()))
    )]
    NoRegion {
        /// The target.
        target: String,
        /// The host of the target.
        host: Host,
    },
    /// The region of a server that is not a database: no name tells it.
    #[error("the region of {target} is unknown")]
    NoRegionOfServer {
        /// The target.
        target: String,
    },
    /// A server without a usual port.
    #[error("target {target} has no port")]
    NoPort {
        /// The target.
        target: String,
        /// The host of the target.
        host: Host,
    },
    /// Guards that only the protocol of a database can keep.
    #[error(
        "target {target} has pin_user, read_only or statement_timeout, and its engine has no protocol that keeps them"
    )]
    GuardWithoutProtocol {
        /// The target.
        target: String,
    },
    /// A listener that others can reach, without a password.
    #[error(
        "target {target} listens on {address}, which is not a loopback address: anyone who can reach it could use the database \
         without a password"
    )]
    OpenWithoutPassword {
        /// The target.
        target: String,
        /// The address.
        address: String,
    },
    /// A password of the listener, and bytes without a protocol.
    #[error("target {target} has local_password_file, and its engine has no protocol that asks for a password")]
    LocalPasswordWithoutProtocol {
        /// The target.
        target: String,
    },
    /// A password of the listener, and clients that send the password of the database.
    #[error(
        "target {target} has local_password_file and auth = \"password\": a client has one password, which is the database's"
    )]
    LocalPasswordAndClients {
        /// The target.
        target: String,
    },
    /// A token signed for one region is refused by a database in another.
    #[error("target {target} is in {in_arn} by its ARN, but its region is set to {configured}")]
    RegionMismatch {
        /// The target.
        target: String,
        /// The region in the ARN.
        in_arn: Region,
        /// The region that was set.
        configured: Region,
    },
    /// More sessions to be kept open than there may be.
    #[error("target {target} is to keep {warm_sessions} sessions warm, but may have {max_sessions}")]
    WarmSessions {
        /// The target.
        target: String,
        /// `warm_sessions`.
        warm_sessions: usize,
        /// `max_sessions`.
        max_sessions: usize,
    },
    /// Clients are held to a user that is not known.
    #[error("target {target} has pin_user but no user")]
    PinWithoutUser {
        /// The target.
        target: String,
    },
    /// Two sources of one password.
    #[error("target {target} has both secret and password_command")]
    TwoPasswords {
        /// The target.
        target: String,
    },
    /// A unix socket that the programs of the engine would not find.
    #[error("target {target}: programs look for {usual} in a folder, not for {}", path.display())]
    SocketName {
        /// The target.
        target: String,
        /// The configured path.
        path: PathBuf,
        /// The usual name of the socket.
        usual: &'static str,
    },
    /// Two targets on one unix socket.
    #[error("targets {first} and {second} both listen on {}", path.display())]
    SharedSocket {
        /// The first target.
        first: String,
        /// The second target.
        second: String,
        /// The path of the socket.
        path: PathBuf,
    },
    /// Two targets on one address.
    #[error("targets {first} and {second} both listen on port {port}")]
    SharedAddress {
        /// The first target.
        first: String,
        /// The second target.
        second: String,
        /// The port.
        port: u16,
        /// Whether a flag or variable set it for all targets.
        everywhere: bool,
    },
}

impl Error {
    /// Whether it is only that something is missing which AWS or the DNS may know.
    pub(super) fn is_gap(&self) -> bool {
        matches!(
            self,
            Self::NotLookedUp { .. } | Self::NoRegion { .. } | Self::NoRegionOfServer { .. } | Self::NoBastion { .. }
        )
    }

    /// The remedy, where there is more to say than the error does.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownKey { suggestion: Some(near), table: Some(_), .. }
            | Self::UnknownTarget { suggestion: Some(near), .. } => Some(format!("did you mean {near:?}?")),
            Self::UnknownKey { suggestion: Some(near), table: None, .. } => Some(format!("did you mean {near}?")),
            Self::UnknownKey { suggestion: None, .. } => Some(format!("the keys are: {}", key_names())),
            Self::Misplaced { key, .. } => Some(match key.scope() {
                Scope::Target => format!("{} belongs in [targets.NAME], where NAME is yours to choose", key.name()),
                Scope::Any => format!("{} belongs in [targets.NAME], or in [defaults] for all of them", key.name()),
                Scope::Process => format!("{} is the same for all targets: put it in [defaults]", key.name()),
                Scope::Once => format!("{} is for one run: use {} or {}", key.name(), key.flag(), key.variable()),
            }),
            Self::ForeignCommand { key, .. } => Some(format!(
                "put it into your own file, ~/.config/rdsgate/config.toml, or use {}", key.flag()
            )),
            Self::NamedLikeHost { .. } => Some("call it by a word of at most one dot".into()),
            Self::NotTrusted { requests, .. } => Some(format!(
                "look at it and accept it: rdsgate trust. Or set them yourself: {}, or your own file, \
                 ~/.config/rdsgate/config.toml",
                flags(requests)
            )),
            Self::TwoPorts { .. } => Some("keep one of the two; the local port is listen's".into()),
            Self::NoTargets { .. } => Some(
                "rdsgate ls lists your databases; rdsgate psql NAME --user USER opens one, without a file; rdsgate config init \
                 describes them for this folder"
                    .into(),
            ),
            Self::UnknownTarget { known, .. } if known.is_empty() => {
                Some("no configuration file has targets; to use no file, give an identifier, ARN or host name".into())
            }
            Self::UnknownTarget { known, .. } => Some(format!("the targets are: {}", known.join(", "))),
            Self::NoHost { target } => Some(format!("set host = \"ENDPOINT\" in [targets.{target}]")),
            Self::NoBastion { .. } => Some(
                "set --bastion (or bastion = \"i-…\"); these are online: aws ssm describe-instance-information --query \
                 'InstanceInformationList[?PingStatus==`Online`].[InstanceId,ComputerName]'. A database that this \
                 machine can reach by itself needs none: --via direct"
                    .into(),
            ),
            Self::NoRegion { host, .. } if host.service().is_some() => Some(
                "set --region (or region) to the region of the writer's cluster; by itself rdsgate finds it where a name \
                 server of this machine, or the one in RDSGATE_DNS, resolves the name"
                    .into(),
            ),
            Self::NoRegion { .. } => {
                Some("use the endpoint name that RDS shows, or set --region (or region, or AWS_REGION)".into())
            }
            Self::RegionMismatch { .. } => {
                Some("remove the region: a token for another region than the database's cannot work".into())
            }
            Self::NoRegionOfServer { .. } => {
                Some("set --region (or region, or AWS_REGION): that of the node which dials the server".into())
            }
            Self::NoPort { host, .. } => Some(format!("give it with the host, {host}:PORT, or set port (--port)")),
            Self::GuardWithoutProtocol { .. } => Some(
                "serve the database with its own engine, or remove the guards: read_only = false, pin_user = false".into(),
            ),
            Self::OpenWithoutPassword { .. } => {
                Some("set local_password_file (rdsgate password makes the file), or listen on localhost or a unix socket".into())
            }
            Self::LocalPasswordWithoutProtocol { .. } => {
                Some("serve the database with its own engine, or remove local_password_file".into())
            }
            Self::LocalPasswordAndClients { .. } => {
                Some("remove local_password_file, or let rdsgate log in: auth = \"iam\", secret or password_command".into())
            }
            Self::TwoPasswords { .. } => Some("keep one of the two".into()),
            Self::PinWithoutUser { .. } => Some("set user (--user), or remove pin_user".into()),
            Self::WarmSessions { warm_sessions, .. } => Some(format!("set max_sessions to {warm_sessions} or more")),
            Self::SharedAddress { second, everywhere: true, .. } => Some(format!(
                "--listen and RDSGATE_LISTEN are for one target: set listen in [targets.{second}] instead"
            )),
            Self::SharedAddress { second, port, everywhere: false, .. } => Some(format!(
                "give {second} another local port: listen = \"localhost:{}\" in [targets.{second}]",
                if *port == u16::MAX { 5433 } else { port + 1 }
            )),
            Self::SocketName { path, usual, .. } => {
                Some(format!("end it in / for a folder: {0}/, for the socket {0}/{usual}", path.display()))
            }
            Self::SharedSocket { second, .. } => {
                Some(format!("give {second} another path, or unix, with listen in [targets.{second}]"))
            }
            Self::BadValue { source, .. } => source.hint(),
            Self::NotLookedUp { .. }
            | Self::WorkingDirectory { .. }
            | Self::TrustRecord { .. }
            | Self::Read { .. }
            | Self::Syntax { .. }
            | Self::WrongType { .. }
            | Self::TargetName { .. }
            | Self::NotUnicode { .. }
            | Self::AwsRegion { .. } => None,
        }
    }
}

/// The known word that is nearest to `word`, if it is near enough to have been meant.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A third of the letters, and two in any case: `prot` is `port`, but `x` is nothing.
    let most = (word.chars().count() / 3).max(2).min(word.chars().count().saturating_sub(1));
    known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(word, known), known))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// The clause about a project's file that sets options of the owner. `true` if the file was trusted before it changed.
struct Asks(bool);

impl fmt::Display for Asks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0 {
            "has changed since you trusted it, and asks for what only you decide"
        } else {
            "asks for what only you decide"
        })
    }
}

/// The flags of these keys, each once.
fn flags(requests: &[Asked]) -> String {
    let mut flags: Vec<String> = Vec::new();
    for flag in requests.iter().map(|request| request.key.flag()) {
        if !flags.contains(&flag) {
            flags.push(flag);
        }
    }
    flags.join(", ")
}

/// "in [targets.orders]" or "at the top level".
struct Place<'a>(Option<&'a str>);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(table) => write!(f, "in {table}"),
            None => f.write_str("at the top level"),
        }
    }
}

/// "invalid --port", ".rdsgate.toml:3:8: invalid port".
struct Bad<'a>(Key, &'a Origin);

impl fmt::Display for Bad<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Origin::Flag => write!(f, "invalid {}", self.0.flag()),
            Origin::Argument => f.write_str("invalid TARGET"),
            Origin::Variable(name) => write!(f, "invalid {name}"),
            Origin::File(at) => write!(f, "{at}: invalid {}", self.0.name()),
        }
    }
}

/// The clause that lists the files that were read.
struct Searched<'a>(&'a [PathBuf]);

impl fmt::Display for Searched<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none on the command line, and there is no configuration file");
        }
        let names: Vec<String> = self.0.iter().map(|path| path.display().to_string()).collect();
        write!(f, "none on the command line, and none in {}", names.join(" or "))
    }
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

fn key_names() -> String {
    let in_files = Key::ALL.into_iter().filter(|key| key.scope() != Scope::Once);
    in_files.map(Key::name).collect::<Vec<_>>().join(", ")
}
