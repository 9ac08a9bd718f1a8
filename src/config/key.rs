//! The keys of the configuration: their names, where they may stand, and what their values look like in a file.

use super::value;

/// One key: the same in a file (`ca_file`), as a flag (`--ca-file`) and as a variable (`RDSGATE_CA_FILE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The database's host name, optionally with `:port`; a target's own.
    Host,
    /// The database engine.
    Engine,
    /// The database's port.
    Port,
    /// The local address.
    Listen,
    /// The SSM managed node.
    Bastion,
    /// The database user.
    User,
    /// The database.
    Database,
    /// The profile in the AWS configuration files.
    Profile,
    /// The AWS region.
    Region,
    /// Roles to assume, one after the other.
    RoleArn,
    /// What the roles want to hear.
    ExternalId,
    /// What the roles' sessions are called.
    SessionName,
    /// The MFA device.
    MfaSerial,
    /// What prints its codes.
    MfaCommand,
    /// Extra roots for the database's certificate.
    CaFile,
    /// How bytes reach the database.
    Via,
    /// How they are compressed on the way, for MySQL.
    Compress,
    /// See [`crate::target::SessionSettings::document`].
    Document,
    /// See [`crate::target::SessionSettings::parameters`].
    DocumentParameters,
    /// See [`crate::target::SessionSettings::reason`].
    Reason,
    /// See [`crate::target::SessionSettings::ssmmessages_endpoint`].
    SsmmessagesEndpoint,
    /// See [`crate::target::SessionSettings::unsigned_stream`].
    UnsignedStream,
    /// See [`crate::target::SessionSettings::payload_size`].
    PayloadSize,
    /// See [`crate::target::SessionSettings::keep_alive`].
    KeepAlive,
    /// See [`crate::target::SessionSettings::idle_timeout`].
    IdleTimeout,
    /// See [`crate::target::Guard::pin_user`].
    PinUser,
    /// See [`crate::target::Guard::read_only`].
    ReadOnly,
    /// See [`crate::target::Guard::statement_timeout`].
    StatementTimeout,
    /// See [`crate::target::Guard::label`].
    Label,
    /// See [`crate::target::Guard::confirm`].
    Confirm,
    /// Most SSM sessions at a time.
    MaxSessions,
    /// SSM sessions kept open.
    WarmSessions,
    /// When unused SSM sessions end.
    IdleClose,
    /// Whether connections share SSM sessions.
    Isolation,
    /// The age at which an SSM session takes no new connections.
    RotateAfter,
    /// See [`super::Config::connect_timeout`].
    ConnectTimeout,
    /// See [`super::Config::resume_for`].
    ResumeFor,
    /// See [`super::Config::max_sigterm_delay`].
    MaxSigtermDelay,
    /// See [`super::Config::admin`].
    Admin,
    /// One of its codes; for one use, so in no file.
    MfaCode,
    /// See [`super::Config::open_browser`].
    OpenBrowser,
}

/// Where a key may stand in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Only in `[targets.NAME]`: two targets cannot share it.
    Target,
    /// In `[targets.NAME]`, or in `[defaults]` for all of them.
    Any,
    /// Only in `[defaults]`: it is about the process.
    Process,
    /// In no file: it is about one run.
    Once,
}

impl Key {
    /// Every key, in the order of the documentation.
    pub const ALL: [Self; 41] = [
        Self::Host,
        Self::Engine,
        Self::Port,
        Self::Listen,
        Self::Bastion,
        Self::User,
        Self::Database,
        Self::Profile,
        Self::Region,
        Self::RoleArn,
        Self::ExternalId,
        Self::SessionName,
        Self::MfaSerial,
        Self::MfaCommand,
        Self::CaFile,
        Self::Via,
        Self::Compress,
        Self::Document,
        Self::DocumentParameters,
        Self::Reason,
        Self::SsmmessagesEndpoint,
        Self::UnsignedStream,
        Self::PayloadSize,
        Self::KeepAlive,
        Self::IdleTimeout,
        Self::PinUser,
        Self::ReadOnly,
        Self::StatementTimeout,
        Self::Label,
        Self::Confirm,
        Self::MaxSessions,
        Self::WarmSessions,
        Self::IdleClose,
        Self::Isolation,
        Self::RotateAfter,
        Self::ConnectTimeout,
        Self::ResumeFor,
        Self::MaxSigtermDelay,
        Self::Admin,
        Self::MfaCode,
        Self::OpenBrowser,
    ];

    /// The name in a configuration file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Engine => "engine",
            Self::Port => "port",
            Self::Listen => "listen",
            Self::Bastion => "bastion",
            Self::User => "user",
            Self::Database => "database",
            Self::Profile => "profile",
            Self::Region => "region",
            Self::RoleArn => "role_arn",
            Self::ExternalId => "external_id",
            Self::SessionName => "session_name",
            Self::MfaSerial => "mfa_serial",
            Self::MfaCommand => "mfa_command",
            Self::CaFile => "ca_file",
            Self::Via => "via",
            Self::Compress => "compress",
            Self::Document => "document",
            Self::DocumentParameters => "document_parameters",
            Self::Reason => "reason",
            Self::SsmmessagesEndpoint => "ssmmessages_endpoint",
            Self::UnsignedStream => "unsigned_stream",
            Self::PayloadSize => "payload_size",
            Self::KeepAlive => "keep_alive",
            Self::IdleTimeout => "idle_timeout",
            Self::PinUser => "pin_user",
            Self::ReadOnly => "read_only",
            Self::StatementTimeout => "statement_timeout",
            Self::Label => "label",
            Self::Confirm => "confirm",
            Self::MaxSessions => "max_sessions",
            Self::WarmSessions => "warm_sessions",
            Self::IdleClose => "idle_close",
            Self::Isolation => "isolation",
            Self::RotateAfter => "rotate_after",
            Self::ConnectTimeout => "connect_timeout",
            Self::ResumeFor => "resume_for",
            Self::MaxSigtermDelay => "max_sigterm_delay",
            Self::Admin => "admin",
            Self::MfaCode => "mfa_code",
            Self::OpenBrowser => "open_browser",
        }
    }

    /// The flag, with its dashes.
    pub fn flag(self) -> String {
        format!("--{}", self.name().replace('_', "-"))
    }

    /// The environment variable.
    pub fn variable(self) -> String {
        format!("RDSGATE_{}", self.name().to_ascii_uppercase())
    }

    /// Where the key may stand in a file.
    pub fn scope(self) -> Scope {
        match self {
            Self::Host => Scope::Target,
            Self::Engine
            | Self::Port
            | Self::Listen
            | Self::Bastion
            | Self::User
            | Self::Database
            | Self::Profile
            | Self::Region
            | Self::RoleArn
            | Self::ExternalId
            | Self::SessionName
            | Self::MfaSerial
            | Self::MfaCommand
            | Self::CaFile
            | Self::Via
            | Self::Compress
            | Self::Document
            | Self::DocumentParameters
            | Self::Reason
            | Self::SsmmessagesEndpoint
            | Self::UnsignedStream
            | Self::PayloadSize
            | Self::KeepAlive
            | Self::IdleTimeout
            | Self::PinUser
            | Self::ReadOnly
            | Self::StatementTimeout
            | Self::Label
            | Self::Confirm
            | Self::MaxSessions
            | Self::WarmSessions
            | Self::IdleClose
            | Self::Isolation
            | Self::RotateAfter => Scope::Any,
            Self::ConnectTimeout | Self::ResumeFor | Self::MaxSigtermDelay | Self::Admin | Self::OpenBrowser => {
                Scope::Process
            }
            Self::MfaCode => Scope::Once,
        }
    }

    /// What its value looks like.
    pub fn kind(self) -> Kind {
        match self {
            Self::Port => Kind::Port,
            Self::Listen | Self::Admin => Kind::Listen,
            Self::Engine => {
                Kind::Word(&["postgres", "mysql", "mariadb", "postgresql", "aurora-postgresql", "aurora-mysql"])
            }
            Self::Via => Kind::Word(&["ssm", "direct", "auto"]),
            Self::Compress => Kind::Word(&["auto", "zlib", "zstd", "off"]),
            Self::Isolation => Kind::Word(&["shared", "connection"]),
            Self::MaxSessions | Self::WarmSessions => Kind::Count,
            Self::PayloadSize => Kind::Size,
            Self::RoleArn => Kind::List(List { separator: " ", none: "", expected: "an ARN or a list of them" }),
            Self::DocumentParameters => Kind::List(List {
                separator: ",",
                none: value::NO_PARAMETERS,
                expected: "an array of strings, such as [\"portNumber\"]",
            }),
            Self::StatementTimeout
            | Self::IdleTimeout
            | Self::IdleClose
            | Self::RotateAfter
            | Self::ConnectTimeout
            | Self::ResumeFor
            | Self::MaxSigtermDelay => Kind::Duration,
            Self::PinUser
            | Self::ReadOnly
            | Self::Confirm
            | Self::KeepAlive
            | Self::UnsignedStream
            | Self::OpenBrowser => Kind::Boolean,
            _ => Kind::Text,
        }
    }

    /// The key with this name in a file.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.name() == name)
    }
}

/// What a value looks like in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    Text,
    /// A string, one of these.
    Word(&'static [&'static str]),
    /// A string with a unit: `"30s"`.
    Duration,
    /// An integer from 1 to 65535.
    Port,
    /// An integer.
    Count,
    /// An integer: bytes.
    Size,
    /// A string, or an array of strings.
    List(List),
    /// A port, or a string with host and port.
    Listen,
    /// `true` or `false`.
    Boolean,
}

/// How an array becomes the text that a flag or a variable has in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct List {
    /// What stands between the entries.
    pub separator: &'static str,
    /// What an empty array is.
    pub none: &'static str,
    /// What is expected of a file, for an error.
    pub expected: &'static str,
}
