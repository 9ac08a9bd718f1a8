//! One entry an option, in the order of the documentation.

use std::{str::FromStr, time::Duration};

use super::entry::{DefaultValue, Entry, Group, Kind, List, Scope, Show, Trust};
use crate::{
    config::value::{self, Listen, ValueError, Via, duration_text},
    listen,
    target::{
        Auth, Compress, Document, Engine, ExternalId, InstanceId, Isolation, LocalTlsMode, MfaCode, MfaSerial,
        Parameter, ParseError, PasswordSource, Reason, Reference, Region, RoleArn, Route, SessionName,
    },
};

/// From `KEY: TYPE = PARSER => ENTRY;`: [`Key`], the table, and a [`Typed`] for each.
macro_rules! options {
    ($($key:ident: $value:ty = $parse:expr => $entry:expr;)+) => {
        /// One option: the same in a file (`ca_file`), as a flag (`--ca-file`) and as a variable (`RDSGATE_CA_FILE`).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs, reason = "the entry describes the key")]
        pub enum Key {
            $($key),+
        }

        impl Key {
            /// Every key, in the order of the documentation.
            pub const ALL: [Self; [$(Self::$key),+].len()] = [$(Self::$key),+];

            /// The entry of the key.
            pub const fn entry(self) -> &'static Entry {
                match self {
                    $(Self::$key => {
                        const ENTRY: &Entry = &$entry;
                        ENTRY
                    })+
                }
            }

            /// Whether a text is a value of this key.
            #[cfg(test)]
            pub(super) fn check(self, text: &str) -> Result<(), ValueError> {
                match self {
                    $(Self::$key => typed::$key::parse(text).map(drop)),+
                }
            }
        }

        /// Each key with the type of its value.
        pub mod typed {
            $(
                #[allow(missing_docs, reason = "the entry describes the key")]
                #[derive(Debug)]
                pub struct $key;
            )+
        }

        $(
            impl Typed for typed::$key {
                const KEY: Key = Key::$key;
                type Value = $value;

                fn parse(text: &str) -> Result<$value, ValueError> {
                    let parse: fn(&str) -> Result<$value, ValueError> = $parse;
                    parse(text)
                }
            }
        )+
    };
}

/// An option with the type of its value; [`typed`] has one for each key.
pub trait Typed {
    /// Its key.
    const KEY: Key;
    /// The type of a value.
    type Value;

    /// One value from its text.
    ///
    /// # Errors
    /// The fault in the text.
    fn parse(text: &str) -> Result<Self::Value, ValueError>;
}

/// A word of the vocabulary.
fn word<T: FromStr<Err: Into<ParseError>>>(text: &str) -> Result<T, ValueError> {
    Ok(text.parse().map_err(Into::into)?)
}

options! {
    Host: Reference = value::reference => Entry {
        name: "host",
        scope: Scope::Target,
        kind: Kind::Text,
        placeholder: "HOST[:PORT]",
        example: "\"orders.c1abcdefghij.eu-central-1.rds.amazonaws.com\"",
        default: DefaultValue::Required,
        show: Show::Target(|target| Some(target.endpoint.host.to_string())),
        group: Group::Database,
        common: true,
        help: "Endpoint of the database, HOST[:PORT], or its ARN",
        more: "On the command line it is the argument TARGET, which may be an identifier too. An alias (CNAME) of an \
               endpoint is resolved again for each login.",
        trust: Trust::Project,
        reason: "The token is valid for this name, port and user only, and is sent only after the server has proved this \
                 name with a certificate under AWS's roots.",
        aliases: &["endpoint", "hostname"],
    };
    Engine: Engine = word => Entry {
        name: "engine",
        scope: Scope::Any,
        kind: Kind::Word(&["postgres", "mysql", "mariadb", "postgresql", "aurora-postgresql", "aurora-mysql", "tcp"]),
        placeholder: "ENGINE",
        example: "\"postgres\"",
        default: DefaultValue::Depends("looked up, else mysql for port 3306, else postgres"),
        show: Show::Target(|target| Some(target.engine.to_string())),
        group: Group::Database,
        common: true,
        help: "postgres, mysql (also mariadb), or tcp for any port",
        more: "aurora-postgresql and postgresql are other names of postgres; mariadb and aurora-mysql of mysql. With tcp, bytes \
               pass as they are: host is any name or address that the bastion reaches, or a managed node, and rdsgate adds \
               neither TLS nor a login.",
        trust: Trust::Owner("forward bytes to a server that proves nothing"),
        reason: "The name of a protocol requires no trust. With tcp, no certificate proves who answers: a repository could lead a \
                 client, and a web page in your browser, to any server that the bastion reaches.",
        aliases: &[],
    };
    Port: u16 = value::port => Entry {
        name: "port",
        scope: Scope::Any,
        kind: Kind::Port,
        placeholder: "PORT",
        example: "5432",
        default: DefaultValue::Depends("the engine's, 5432 or 3306; required for tcp"),
        show: Show::Target(|target| Some(target.endpoint.port.to_string())),
        group: Group::Database,
        common: false,
        help: "Port of the database (the local port is --listen)",
        more: "host = \"NAME:PORT\" says the same.",
        trust: Trust::Project,
        reason: "The token is valid for this name, port and user only.",
        aliases: &[],
    };
    Listen: Vec<Listen> = value::listen_list => Entry {
        name: "listen",
        scope: Scope::Any,
        kind: Kind::Listen,
        placeholder: "ADDRESS",
        example: "\"localhost:5433\"",
        default: DefaultValue::Depends("localhost and the engine's port"),
        show: Show::Target(|target| {
            Some(target.listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
        }),
        group: Group::Proxy,
        common: true,
        help: "Local address to listen on: [HOST:]PORT, unix, or a path",
        more: "localhost means 127.0.0.1 and ::1, port 0 a free one. An address that is not loopback, such as 0.0.0.0:5432, takes \
               local_password_file. unix is a unix socket with the usual name of the engine in \
               $XDG_RUNTIME_DIR/rdsgate, where psql -h and mysql -S find it; a second target of the engine has it in a folder \
               NAME there. A path is a socket, or a folder for one of the usual name if it is a folder or ends in /. Several \
               addresses: the flag again, a list in a file, commas in the variable; programs are led to the first. A second \
               target of an engine gets a port from 20000 to 24999 that is made from its name and stays the same. With tcp it \
               is the port of the server, from 1024 on.",
        trust: Trust::Owner("listen at an address that others reach, or on a unix socket at a path of its choice"),
        reason: "A loopback address, or unix, requires no trust: the listener is this process. At another address it serves other \
                 machines, and at a path of its choice a repository could put it where another program looks for a socket of its own.",
        aliases: &["address", "local_port"],
    };
    SocketMode: u32 = value::socket_mode => Entry {
        name: "socket_mode",
        scope: Scope::Any,
        kind: Kind::Text,
        placeholder: "MODE",
        example: "\"0660\"",
        default: DefaultValue::Depends("0600; 0666 with allow_users"),
        show: Show::AsSet,
        group: Group::Proxy,
        common: false,
        help: "Permissions of the unix sockets, in octal digits",
        more: "A user who may write to a socket may connect; rdsgate serves its own user, root and allow_users alone. A folder that \
               rdsgate makes for a socket has mode 0755 if others may open it, else 0700.",
        trust: Trust::Owner("let other users of this machine open its unix sockets"),
        reason: "The permissions of the file stand before the check of the user.",
        aliases: &["unix_socket_mode", "unix_socket_permissions"],
    };
    SocketGroup: u32 = value::group => Entry {
        name: "socket_group",
        scope: Scope::Any,
        kind: Kind::Text,
        placeholder: "GROUP",
        example: "\"postgres\"",
        default: DefaultValue::Depends("your own"),
        show: Show::AsSet,
        group: Group::Proxy,
        common: false,
        help: "Group of the unix sockets, by name or id",
        more: "With socket_mode = \"0660\" its members may open them; which of those rdsgate serves is said by allow_users.",
        trust: Trust::Owner("let other users of this machine open its unix sockets"),
        reason: "The permissions of the file stand before the check of the user.",
        aliases: &["unix_socket_group"],
    };
    AllowUsers: Vec<u32> = value::users => Entry {
        name: "allow_users",
        scope: Scope::Any,
        kind: Kind::List(List {
            separator: " ",
            none: "",
            expected: "a name, or an array of names and user ids, such as [\"postgres\", 999]",
            repeats: true,
            integers: true,
        }),
        placeholder: "USER",
        example: "[\"postgres\", 999]",
        default: DefaultValue::Depends("your own user and root"),
        show: Show::AsSet,
        group: Group::Proxy,
        common: false,
        help: "User of this machine, by name or id, whose clients are served too",
        more: "Several users: the flag again, a list in a file, blanks between them in the variable. They log in with your AWS \
               identity. On Linux the kernel reports whose a connection is; elsewhere the check is not available.",
        trust: Trust::Owner("let other users of this machine log in with your AWS identity"),
        reason: "They get into the database as you do.",
        aliases: &["allowed_users", "allow_user"],
    };
    LocalPasswordFile: String = value::text => Entry {
        name: "local_password_file",
        scope: Scope::Any,
        kind: Kind::File,
        placeholder: "FILE",
        example: "\"~/.config/rdsgate/password\"",
        default: DefaultValue::Depends("clients need no password"),
        show: Show::AsSet,
        group: Group::Proxy,
        common: false,
        help: "File with the password that clients of the listener must know",
        more: "The password is rdsgate's own, and the database never sees it: PostgreSQL clients prove it by SCRAM-SHA-256, MySQL \
               clients by caching_sha2_password or mysql_native_password. rdsgate password makes the file. Only its owner may \
               read it; its first line counts. In [defaults] it applies to the targets that can have one: not to engine tcp, \
               and not with auth password, where the password of the client is the database's.",
        trust: Trust::Owner("let in clients that know the password in this file"),
        reason: "A repository could name a file whose content others know.",
        aliases: &["local_password", "password_file"],
    };
    LocalTls: LocalTlsMode = word => Entry {
        name: "local_tls",
        scope: Scope::Any,
        kind: Kind::Word(&["off", "offer", "require"]),
        placeholder: "USE",
        example: "\"offer\"",
        default: DefaultValue::Depends("off; offer if an address is not loopback"),
        show: Show::Target(|target| Some(target.local_tls.mode.to_string())),
        group: Group::Proxy,
        common: false,
        help: "TLS between clients and rdsgate: off, offer or require",
        more: "For clients that insist on TLS. The certificate is made by an authority on this machine, which `rdsgate cert` \
               shows with the ways to trust it. TLS to the database does not depend on this. A unix socket and a forwarded \
               port have none. Clients from other machines must take what is offered; only off lets them in without, with a \
               warning.",
        trust: Trust::Stricter,
        reason: "A repository may demand TLS of clients; one that lifts it would have them send in clear.",
        aliases: &["tls", "ssl", "listen_tls"],
    };
    LocalCa: String = value::text => Entry {
        name: "local_ca",
        scope: Scope::Any,
        kind: Kind::File,
        placeholder: "DIR",
        example: "\"/run/secrets/rdsgate-ca\"",
        default: DefaultValue::Depends("$XDG_STATE_HOME/rdsgate/local-ca"),
        show: Show::AsSet,
        group: Group::Proxy,
        common: false,
        help: "Folder of the authority that makes the certificates of --local-tls",
        more: "It holds ca.key and ca.pem, which are made if they are missing and never written otherwise. Several replicas behind one \
               name share one authority.",
        trust: Trust::Owner("prove itself to clients by another authority"),
        reason: "A repository could bring an authority whose key it knows.",
        aliases: &[],
    };
    LocalNames: Vec<String> = value::local_names => Entry {
        name: "local_names",
        scope: Scope::Any,
        kind: Kind::List(List {
            separator: " ",
            none: "",
            expected: "a name, or an array of names and addresses, such as [\"proxy\", \"10.1.2.3\"]",
            repeats: true,
            integers: false,
        }),
        placeholder: "NAME",
        example: "[\"proxy\", \"host.docker.internal\"]",
        default: DefaultValue::Depends("localhost, 127.0.0.1, ::1 and the host name"),
        show: Show::AsSet,
        group: Group::Proxy,
        common: false,
        help: "Further DNS name or address in the certificate of --local-tls",
        more: "Several names: the flag again, a list in a file, blanks between them in the variable. The authority is made for \
               these names; for others `rdsgate cert` renews it.",
        trust: Trust::Owner("prove other names with your local certificate"),
        reason: "Programs that trust the authority would believe this machine to be the server of that name.",
        aliases: &["local_name"],
    };
    Bastion: InstanceId = word => Entry {
        name: "bastion",
        scope: Scope::Any,
        kind: Kind::Text,
        placeholder: "ID",
        example: "\"i-0123456789abcdef0\"",
        default: DefaultValue::Depends("looked up"),
        show: Show::AsSet,
        group: Group::Route,
        common: true,
        help: "SSM managed node: i-… (EC2), mi-… (hybrid) or ecs:CLUSTER_TASK_RUNTIME",
        more: "Without it, the node that is online in the VPC of the database is used; on a terminal you choose among \
               several.",
        trust: Trust::Project,
        reason: "The node is one of the owner's account, sees only TLS, and a session that leads to another address than the \
                 target's is refused.",
        aliases: &["instance", "instance_id", "jump_host"],
    };
    User: String = value::text => Entry {
        name: "user",
        scope: Scope::Any,
        kind: Kind::Text,
        placeholder: "NAME",
        example: "\"app_user\"",
        default: DefaultValue::Depends("the name that the client sends"),
        show: Show::AsSet,
        group: Group::Database,
        common: true,
        help: "Database user for clients that name none",
        more: "A user that a client names is the one that it gets, unless it is only the client's default: the name of the \
               operating system's user.",
        trust: Trust::Project,
        reason: "The token is valid for this name, port and user only, and IAM must allow the user.",
        aliases: &["username"],
    };
    Database: String = value::text => Entry {
        name: "database",
        scope: Scope::Any,
        kind: Kind::Text,
        placeholder: "NAME",
        example: "\"orders_db\"",
        default: DefaultValue::None,
        show: Show::AsSet,
        group: Group::Database,
        common: true,
        help: "Database for clients that name none",
        more: "",
        trust: Trust::Project,
        reason: "It chooses a database within the server that the owner's user may connect to.",
        aliases: &["db", "dbname"],
    };
    Auth: Auth = word => Entry {
        name: "auth",
        scope: Scope::Any,
        kind: Kind::Word(&["iam", "password", "secret"]),
        placeholder: "LOGIN",
        example: "\"iam\"",
        default: DefaultValue::Depends("iam; secret with --secret or --password-command"),
        show: Show::Target(|target| Some(target.auth.to_string())),
        group: Group::Database,
        common: true,
        help: "Login to the database: iam (a token), password (the client's own) or secret",
        more: "With password, the password that a client gives reaches the database inside verified TLS; no token is signed, and \
               IAM authentication may be off. With secret, rdsgate logs in with a password of Secrets Manager or of a command, and the \
               client needs none.",
        trust: Trust::Owner("send your database password to the server that it names"),
        reason: "A token is of use to one server only, a password perhaps to others: a repository could name the database of a \
                 stranger, and your client would send it your password. The value iam requires no trust.",
        aliases: &["login", "authentication"],
    };
    Secret: PasswordSource = word => Entry {
        name: "secret",
        scope: Scope::Any,
        kind: Kind::Text,
        placeholder: "SECRET",
        example: "\"prod/orders\"",
        default: DefaultValue::Depends("rds with --auth secret"),
        show: Show::AsSet,
        group: Group::Database,
        common: false,
        help: "Secret with the password: a name or ARN of Secrets Manager, or rds",
        more: "A JSON object with username and password, as AWS's rotation templates write it, or the password alone. rds is the secret \
               of the master user, if RDS manages it. Clients log in as the user of the secret, whatever default name they send; for a \
               secret without a user, set user. The value is kept until the database refuses it, and then read again, so that a \
               rotation needs no restart. What [defaults] of your own file says does not apply to the targets of a project's file.",
        trust: Trust::Owner("send the password of this secret to the database that it names"),
        reason: "A certificate proves that a server is in RDS, not whose it is: a repository could name the database of a stranger \
                 and a secret of yours, and rdsgate would send the password there.",
        aliases: &["secret_arn", "secret_id"],
    };
    PasswordCommand: String = value::text => Entry {
        name: "password_command",
        scope: Scope::Any,
        kind: Kind::Text,
        placeholder: "COMMAND",
        example: "\"pass show orders\"",
        default: DefaultValue::None,
        show: Show::AsSet,
        group: Group::Database,
        common: false,
        help: "Command whose first line of output is the password of the user",
        more: "It is run once, and again when the database refuses the password.",
        trust: Trust::Never,
        reason: "It runs a command, and cloning a repository must not be enough to run what is in it.",
        aliases: &["password_process", "passexec"],
    };
    Profile: String = value::text => Entry {
        name: "profile",
        scope: Scope::Any,
        kind: Kind::Text,
        placeholder: "NAME",
        example: "\"dev\"",
        default: DefaultValue::Depends("AWS_PROFILE, then the default chain"),
        show: Show::AsSet,
        group: Group::Identity,
        common: true,
        help: "Profile in the AWS configuration files",
        more: "",
        trust: Trust::Owner("use this AWS profile of yours"),
        reason: "A stronger identity than the owner meant would make everything else stronger too.",
        aliases: &["aws_profile"],
    };
    Region: Region = word => Entry {
        name: "region",
        scope: Scope::Any,
        kind: Kind::Text,
        placeholder: "REGION",
        example: "\"eu-central-1\"",
        default: DefaultValue::Depends("the one in the endpoint's name, then AWS_REGION, then the profile's"),
        show: Show::Target(|target| Some(target.region.to_string())),
        group: Group::Identity,
        common: true,
        help: "AWS region",
        more: "Set for a target, it counts more than the region in the host name, with a warning.",
        trust: Trust::Project,
        reason: "All calls still go to AWS, and a database in another region refuses the token.",
        aliases: &["aws_region"],
    };
    RoleArn: Vec<RoleArn> = value::roles => Entry {
        name: "role_arn",
        scope: Scope::Any,
        kind: Kind::List(List {
            separator: " ",
            none: "",
            expected: "an ARN or a list of them",
            repeats: true,
            integers: false,
        }),
        placeholder: "ARN",
        example: "[\"arn:aws:iam::123456789012:role/reader\"]",
        default: DefaultValue::None,
        show: Show::AsSet,
        group: Group::Identity,
        common: true,
        help: "Role to assume with the credentials of the profile",
        more: "Several roles (the flag again, a list in a file, blanks between them in the variable) are assumed one after \
               the other, each with the credentials of the one before.",
        trust: Trust::Owner("assume this role with your credentials"),
        reason: "A role of a foreign account would send the owner's sessions, queries and audit trail there.",
        aliases: &["role"],
    };
    ExternalId: ExternalId = word => Entry {
        name: "external_id",
        scope: Scope::Any,
        kind: Kind::Text,
        placeholder: "ID",
        example: "\"partner/7\"",
        default: DefaultValue::None,
        show: Show::AsSet,
        group: Group::Identity,
        common: false,
        help: "External ID that the trust policies of the roles require",
        more: "",
        trust: Trust::Owner("send this external id when it assumes roles"),
        reason: "It opens roles that the owner did not mean to use.",
        aliases: &[],
    };
    SessionName: SessionName = word => Entry {
        name: "session_name",
        scope: Scope::Any,
        kind: Kind::Text,
        placeholder: "NAME",
        example: "\"rdsgate-ada\"",
        default: DefaultValue::Depends("rdsgate-USER"),
        show: Show::Target(|target| Some(target.identity.session_name.to_string())),
        group: Group::Identity,
        common: false,
        help: "Name of the role sessions in CloudTrail",
        more: "",
        trust: Trust::Owner("appear under this name in CloudTrail and in the database's logs"),
        reason: "A repository could write a false name into the audit trail.",
        aliases: &["role_session_name"],
    };
    MfaSerial: MfaSerial = word => Entry {
        name: "mfa_serial",
        scope: Scope::Any,
        kind: Kind::Text,
        placeholder: "ARN",
        example: "\"arn:aws:iam::123456789012:mfa/me\"",
        default: DefaultValue::Depends("the profile's mfa_serial"),
        show: Show::AsSet,
        group: Group::Identity,
        common: false,
        help: "MFA device whose code the roles require: its ARN or serial number",
        more: "",
        trust: Trust::Owner("ask you for a code of this MFA device"),
        reason: "A code proves the owner's presence.",
        aliases: &[],
    };
    MfaCommand: String = value::text => Entry {
        name: "mfa_command",
        scope: Scope::Any,
        kind: Kind::Text,
        placeholder: "COMMAND",
        example: "\"ykman oath accounts code --single aws\"",
        default: DefaultValue::Depends("asked on the terminal"),
        show: Show::AsSet,
        group: Group::Identity,
        common: false,
        help: "Command whose first line of output is a code of the MFA device",
        more: "",
        trust: Trust::Never,
        reason: "It runs a command, and cloning a repository must not be enough to run what is in it.",
        aliases: &["mfa_process"],
    };
    CaFile: String = value::text => Entry {
        name: "ca_file",
        scope: Scope::Any,
        kind: Kind::File,
        placeholder: "FILE",
        example: "\"ca.pem\"",
        default: DefaultValue::Depends("AWS's public roots"),
        show: Show::AsSet,
        group: Group::Database,
        common: false,
        help: "PEM file with additional roots for the database certificate",
        more: "Needed in GovCloud and China, and for a database that is not in RDS.",
        trust: Trust::Owner("believe each database whose certificate this file vouches for"),
        reason: "With a root of its own, anybody can be the database and take the token.",
        aliases: &["sslrootcert"],
    };
    Via: Via = value::via => Entry {
        name: "via",
        scope: Scope::Any,
        kind: Kind::Word(&["ssm", "direct", "auto"]),
        placeholder: "ROUTE",
        example: "\"ssm\"",
        default: DefaultValue::Fixed("ssm"),
        show: Show::Target(|target| {
            let via = match target.route {
                Route::Ssm(_) => "ssm",
                Route::Direct => "direct",
                Route::Auto(_) => "auto",
            };
            Some(via.into())
        }),
        group: Group::Route,
        common: true,
        help: "ssm (through the bastion), direct (from this machine) or auto",
        more: "auto connects directly if the database answers within two seconds, else through the bastion. The public endpoint of \
               an Aurora DSQL cluster is connected directly where neither a route nor a bastion is set for it.",
        trust: Trust::OwnerUnlessRds("connect from this machine to a name that is not an RDS endpoint"),
        reason: "Other names may lead anywhere, and from this machine to places that no bastion reaches.",
        aliases: &["route"],
    };
    Compress: Compress = word => Entry {
        name: "compress",
        scope: Scope::Any,
        kind: Kind::Word(&["auto", "zlib", "zstd", "off"]),
        placeholder: "KIND",
        example: "\"auto\"",
        default: DefaultValue::Fixed("auto"),
        show: Show::Target(|target| {
            let compress = match target.compress {
                Compress::Auto => "auto",
                Compress::Zlib => "zlib",
                Compress::Zstd => "zstd",
                Compress::Off => "off",
            };
            Some(compress.into())
        }),
        group: Group::Database,
        common: false,
        help: "Compression between rdsgate and a MySQL server: auto, zlib, zstd or off",
        more: "auto compresses what goes through an SSM session, with what the server offers. MariaDB has no zstd. The client \
               does not notice.",
        trust: Trust::Project,
        reason: "It costs speed at most.",
        aliases: &[],
    };
    Document: Document = word => Entry {
        name: "document",
        scope: Scope::Any,
        kind: Kind::Text,
        placeholder: "NAME",
        example: "\"AWS-StartPortForwardingSessionToRemoteHost\"",
        default: DefaultValue::Fixed("AWS-StartPortForwardingSessionToRemoteHost"),
        show: Show::Target(|target| Some(target.session.document.to_string())),
        group: Group::Sessions,
        common: false,
        help: "Session document",
        more: "AWS-StartPortForwardingSession is for a database, or a proxy to one, on the bastion itself. A document of your \
               account may be named too.",
        trust: Trust::Owner("start SSM sessions with this document"),
        reason: "The document decides what runs on the node and what it dials.",
        aliases: &["document_name"],
    };
    DocumentParameters: Vec<Parameter> = value::document_parameters => Entry {
        name: "document_parameters",
        scope: Scope::Any,
        kind: Kind::List(List {
            separator: ",",
            none: value::NO_PARAMETERS,
            expected: "an array of strings, such as [\"portNumber\"]",
            repeats: false,
            integers: false,
        }),
        placeholder: "LIST",
        example: "[\"host\", \"portNumber\"]",
        default: DefaultValue::Depends("those of AWS's documents"),
        show: Show::AsSet,
        group: Group::Sessions,
        common: false,
        help: "Parameters of the document: host, portNumber, NAME=VALUE, or none",
        more: "Separated by commas; in a file also an array. The default for a document of your own is host,portNumber.",
        trust: Trust::Owner("send these parameters, which may decide what the bastion dials"),
        reason: "The parameters may decide what the bastion dials.",
        aliases: &[],
    };
    Reason: Reason = word => Entry {
        name: "reason",
        scope: Scope::Any,
        kind: Kind::Text,
        placeholder: "TEXT",
        example: "\"ticket 4711\"",
        default: DefaultValue::Depends("rdsgate's version, the local user, the endpoint"),
        show: Show::Target(|target| Some(target.session.reason.to_string())),
        group: Group::Sessions,
        common: false,
        help: "Text for the session history and CloudTrail, up to 256 characters",
        more: "",
        trust: Trust::Owner("write this reason into the session history instead of your name and the database"),
        reason: "A repository could write a false name or ticket into the audit trail.",
        aliases: &[],
    };
    SsmmessagesEndpoint: crate::target::Endpoint = value::service_endpoint => Entry {
        name: "ssmmessages_endpoint",
        scope: Scope::Any,
        kind: Kind::Text,
        placeholder: "HOST[:PORT]",
        example: "\"vpce-0123456789abcdef1-abcdefgh.ssmmessages.eu-central-1.vpce.amazonaws.com\"",
        default: DefaultValue::Depends("AWS's public one"),
        show: Show::AsSet,
        group: Group::Sessions,
        common: false,
        help: "Private endpoint of the data channel",
        more: "The private endpoint of the API is the variable AWS_ENDPOINT_URL_SSM.",
        trust: Trust::Owner("send the traffic of its SSM sessions to this host"),
        reason: "All bytes of the tunnel go there, with session tokens and signed requests.",
        aliases: &[],
    };
    UnsignedStream: bool = value::boolean => Entry {
        name: "unsigned_stream",
        scope: Scope::Any,
        kind: Kind::Boolean,
        placeholder: "BOOL",
        example: "true",
        default: DefaultValue::Fixed("false"),
        show: Show::Target(|target| Some(target.session.unsigned_stream.to_string())),
        group: Group::Sessions,
        common: false,
        help: "Open the data channel without a signature if signed requests get HTTP 403",
        more: "For gateways that change requests and so break every signature. The token of the session alone opens the data \
               channel then.",
        trust: Trust::Owner("open the stream of a session without a signature"),
        reason: "Without a signature the token of the stream alone admits to the session.",
        aliases: &[],
    };
    PayloadSize: usize = |text| value::number(text, value::PAYLOAD_SIZE) => Entry {
        name: "payload_size",
        scope: Scope::Any,
        kind: Kind::Size,
        placeholder: "BYTES",
        example: "1024",
        default: DefaultValue::Fixed("1024"),
        show: Show::Target(|target| Some(target.session.payload_size.to_string())),
        group: Group::Sessions,
        common: false,
        help: "Largest payload of a message to the agent, 256 to 65536 bytes",
        more: "More than 1024 is used only where a trial succeeds.",
        trust: Trust::Project,
        reason: "It costs speed at most.",
        aliases: &[],
    };
    KeepAlive: bool = value::boolean => Entry {
        name: "keep_alive",
        scope: Scope::Any,
        kind: Kind::Boolean,
        placeholder: "BOOL",
        example: "true",
        default: DefaultValue::Fixed("false"),
        show: Show::Target(|target| Some(target.session.keep_alive.to_string())),
        group: Group::Sessions,
        common: false,
        help: "Keep sessions with open connections beyond the account's idle timeout",
        more: "",
        trust: Trust::Owner("keep sessions open beyond your account's idle timeout"),
        reason: "The account ends idle sessions on purpose.",
        aliases: &[],
    };
    IdleTimeout: Duration = |text| value::duration(text, value::IDLE_TIMEOUT) => Entry {
        name: "idle_timeout",
        scope: Scope::Any,
        kind: Kind::Duration,
        placeholder: "TIME",
        example: "\"20m\"",
        default: DefaultValue::Depends("AWS is asked"),
        show: Show::AsSet,
        group: Group::Sessions,
        common: false,
        help: "Idle timeout of the account, 1m to 60m, for a warning before it strikes",
        more: "The warning comes two minutes before a session ends.",
        trust: Trust::Project,
        reason: "It only decides when a warning is printed.",
        aliases: &[],
    };
    PinUser: bool = value::boolean => Entry {
        name: "pin_user",
        scope: Scope::Any,
        kind: Kind::Boolean,
        placeholder: "BOOL",
        example: "true",
        default: DefaultValue::Fixed("false"),
        show: Show::Target(|target| Some(target.guard.pin_user.to_string())),
        group: Group::Guards,
        common: false,
        help: "Refuse clients that name another database user than --user",
        more: "",
        trust: Trust::Stricter,
        reason: "A repository that lifts it could choose a user with more rights.",
        aliases: &[],
    };
    ReadOnly: bool = value::boolean => Entry {
        name: "read_only",
        scope: Scope::Any,
        kind: Kind::Boolean,
        placeholder: "BOOL",
        example: "true",
        default: DefaultValue::Fixed("false"),
        show: Show::Target(|target| Some(target.guard.read_only.to_string())),
        group: Group::Guards,
        common: true,
        help: "Make transactions read-only unless the client asks for another mode",
        more: "It protects from a slip of the hand; it is not a permission.",
        trust: Trust::Stricter,
        reason: "A repository that lifts it could turn a look into a change.",
        aliases: &[],
    };
    StatementTimeout: Duration = |text| value::duration(text, value::STATEMENT_TIMEOUT) => Entry {
        name: "statement_timeout",
        scope: Scope::Any,
        kind: Kind::Duration,
        placeholder: "TIME",
        example: "\"30s\"",
        default: DefaultValue::Depends("the database's"),
        show: Show::AsSet,
        group: Group::Guards,
        common: false,
        help: "Longest run time of a statement",
        more: "MySQL limits SELECT only (max_execution_time).",
        trust: Trust::Stricter,
        reason: "A repository that lifts it could let a statement run for hours.",
        aliases: &[],
    };
    Label: String = value::label => Entry {
        name: "label",
        scope: Scope::Any,
        kind: Kind::Text,
        placeholder: "TEXT",
        example: "\"PRODUCTION\"",
        default: DefaultValue::None,
        show: Show::AsSet,
        group: Group::Guards,
        common: false,
        help: "Text to show with the name of the target, such as PRODUCTION",
        more: "At most 32 characters.",
        trust: Trust::Stricter,
        reason: "A repository may label a target that has no label; it cannot replace the owner's words.",
        aliases: &[],
    };
    Confirm: bool = value::boolean => Entry {
        name: "confirm",
        scope: Scope::Any,
        kind: Kind::Boolean,
        placeholder: "BOOL",
        example: "true",
        default: DefaultValue::Fixed("false"),
        show: Show::Target(|target| Some(target.guard.confirm.to_string())),
        group: Group::Guards,
        common: false,
        help: "Ask on the terminal before serving the target",
        more: "--yes answers for you.",
        trust: Trust::Stricter,
        reason: "A repository that lifts it could have a database served that the owner did not mean.",
        aliases: &[],
    };
    MaxSessions: usize = |text| value::number(text, value::MAX_SESSIONS) => Entry {
        name: "max_sessions",
        scope: Scope::Any,
        kind: Kind::Count,
        placeholder: "NUMBER",
        example: "4",
        default: DefaultValue::Depends("4; 16 with --isolation connection"),
        show: Show::Target(|target| Some(target.pooling.max_sessions.to_string())),
        group: Group::Sessions,
        common: false,
        help: "Most SSM sessions at a time; each carries about 0.75 MB/s down",
        more: "Connections are spread over them, also those of another target with the same endpoint, bastion, identity and \
               session settings.",
        trust: Trust::Project,
        reason: "It costs sessions of this process, 100 at most, which end with it.",
        aliases: &[],
    };
    WarmSessions: usize = |text| value::number(text, value::WARM_SESSIONS) => Entry {
        name: "warm_sessions",
        scope: Scope::Any,
        kind: Kind::Count,
        placeholder: "NUMBER",
        example: "1",
        default: DefaultValue::Fixed("1"),
        show: Show::Target(|target| Some(target.pooling.warm_sessions.to_string())),
        group: Group::Sessions,
        common: false,
        help: "SSM sessions to open at the start and keep open while the target is used",
        more: "0: no session before the first connection.",
        trust: Trust::Project,
        reason: "It costs sessions of this process, 100 at most, which end with it.",
        aliases: &[],
    };
    IdleClose: Duration = |text| value::duration(text, value::IDLE_CLOSE) => Entry {
        name: "idle_close",
        scope: Scope::Any,
        kind: Kind::Duration,
        placeholder: "TIME",
        example: "\"5m\"",
        default: DefaultValue::Fixed("5m"),
        show: Show::Target(|target| Some(duration_text(target.pooling.idle_close))),
        group: Group::Sessions,
        common: false,
        help: "Time from the last connection to the end of the SSM sessions",
        more: "",
        trust: Trust::Project,
        reason: "It costs idle sessions of this process, which end with it.",
        aliases: &[],
    };
    Isolation: Isolation = word => Entry {
        name: "isolation",
        scope: Scope::Any,
        kind: Kind::Word(&["shared", "connection"]),
        placeholder: "KIND",
        example: "\"shared\"",
        default: DefaultValue::Fixed("shared"),
        show: Show::Target(|target| {
            let isolation = match target.pooling.isolation {
                Isolation::Shared => "shared",
                Isolation::Connection => "connection",
            };
            Some(isolation.into())
        }),
        group: Group::Sessions,
        common: false,
        help: "shared (connections share SSM sessions) or connection (one each)",
        more: "",
        trust: Trust::Project,
        reason: "It costs sessions of this process, which end with it.",
        aliases: &[],
    };
    RotateAfter: Duration = |text| value::duration(text, value::ROTATE_AFTER) => Entry {
        name: "rotate_after",
        scope: Scope::Any,
        kind: Kind::Duration,
        placeholder: "TIME",
        example: "\"30m\"",
        default: DefaultValue::Depends("30m for cluster endpoints, else never"),
        show: Show::Target(|target| target.pooling.rotate_after.map(duration_text)),
        group: Group::Sessions,
        common: false,
        help: "Age at which an SSM session takes no new connections",
        more: "The agent resolves the name of the database once for each session, and a cluster endpoint moves.",
        trust: Trust::Project,
        reason: "It costs speed at most.",
        aliases: &[],
    };
    ConnectTimeout: Duration = |text| value::duration(text, value::CONNECT_TIMEOUT) => Entry {
        name: "connect_timeout",
        scope: Scope::Process,
        kind: Kind::Duration,
        placeholder: "TIME",
        example: "\"30s\"",
        default: DefaultValue::Fixed("30s"),
        show: Show::Process(|config| Some(duration_text(config.connect_timeout))),
        group: Group::Proxy,
        common: false,
        help: "Longest time from accepting a client to its login",
        more: "It is used up only where there is hope, as while a database wakes up. Otherwise the client gets an error \
               within 9 s.",
        trust: Trust::Project,
        reason: "It costs time at most.",
        aliases: &[],
    };
    ResumeFor: Duration = |text| value::duration(text, value::RESUME_FOR) => Entry {
        name: "resume_for",
        scope: Scope::Process,
        kind: Kind::Duration,
        placeholder: "TIME",
        example: "\"2m\"",
        default: DefaultValue::Fixed("2m"),
        show: Show::Process(|config| Some(duration_text(config.resume_for))),
        group: Group::Proxy,
        common: false,
        help: "Longest time to resume a broken SSM session",
        more: "After it the connections of the session are closed.",
        trust: Trust::Project,
        reason: "It costs time at most.",
        aliases: &[],
    };
    MaxSigtermDelay: Duration = |text| value::duration(text, value::MAX_SIGTERM_DELAY) => Entry {
        name: "max_sigterm_delay",
        scope: Scope::Process,
        kind: Kind::Duration,
        placeholder: "TIME",
        example: "\"30s\"",
        default: DefaultValue::Fixed("30s"),
        show: Show::Process(|config| Some(duration_text(config.max_sigterm_delay))),
        group: Group::Proxy,
        common: false,
        help: "Longest time that busy connections go on after SIGTERM or Ctrl-C",
        more: "",
        trust: Trust::Project,
        reason: "It costs time at most.",
        aliases: &[],
    };
    Reuse: Duration = |text| value::duration(text, value::REUSE) => Entry {
        name: "reuse",
        scope: Scope::Any,
        kind: Kind::Duration,
        placeholder: "TIME",
        example: "\"60s\"",
        default: DefaultValue::None,
        show: Show::Target(|target| target.reuse.map(duration_text)),
        group: Group::Proxy,
        common: false,
        help: "Keep a PostgreSQL connection this long for the next client",
        more: "The session is reset (DISCARD ALL) and given to a client with the same user, database and startup parameters. Not with \
               --auth password, and not for MySQL.",
        trust: Trust::Owner("give connections of one program to another"),
        reason: "A reused connection stays logged in when its login has been revoked, for 15 minutes at most.",
        aliases: &[],
    };
    MaxConnections: usize = |text| value::number(text, value::MAX_CONNECTIONS) => Entry {
        name: "max_connections",
        scope: Scope::Any,
        kind: Kind::Count,
        placeholder: "NUMBER",
        example: "100",
        default: DefaultValue::Depends("half of the files that the process may open, for all targets together"),
        show: Show::AsSet,
        group: Group::Proxy,
        common: false,
        help: "Most clients of a target at a time",
        more: "A further one gets the error that the server would give: 53300 or 1040. Clients beyond the default wait until one of \
               the others has ended.",
        trust: Trust::Project,
        reason: "It refuses clients of this target at most.",
        aliases: &[],
    };
    MaxLoginsPerSecond: usize = |text| value::number(text, value::MAX_LOGINS_PER_SECOND) => Entry {
        name: "max_logins_per_second",
        scope: Scope::Any,
        kind: Kind::Count,
        placeholder: "NUMBER",
        example: "180",
        default: DefaultValue::Fixed("180"),
        show: Show::Target(|target| Some(target.max_logins_per_second.to_string())),
        group: Group::Proxy,
        common: false,
        help: "Most IAM logins a second at a database; further ones wait for their turn",
        more: "RDS takes about 200 on each instance and refuses the rest. A client whose turn would come after --connect-timeout gets \
               an error at once.",
        trust: Trust::Project,
        reason: "Beyond its limit the database refuses logins by itself.",
        aliases: &[],
    };
    MinSigtermDelay: Duration = |text| value::duration(text, value::MAX_SIGTERM_DELAY) => Entry {
        name: "min_sigterm_delay",
        scope: Scope::Process,
        kind: Kind::Duration,
        placeholder: "TIME",
        example: "\"10s\"",
        default: DefaultValue::Fixed("0s"),
        show: Show::Process(|config| Some(duration_text(config.min_sigterm_delay))),
        group: Group::Proxy,
        common: false,
        help: "Time after SIGTERM for which new clients are still accepted",
        more: "/readyz answers 503 from the beginning, so that a balancer sends its clients elsewhere before the listeners close. \
               A second signal ends it.",
        trust: Trust::Project,
        reason: "It costs time at most.",
        aliases: &[],
    };
    Admin: listen::Address = value::admin => Entry {
        name: "admin",
        scope: Scope::Process,
        kind: Kind::Admin,
        placeholder: "ADDRESS",
        example: "\"localhost:9090\"",
        default: DefaultValue::None,
        show: Show::AsSet,
        group: Group::Proxy,
        common: false,
        help: "Address of the page, /healthz, /readyz, /metrics and /status",
        more: "[HOST:]PORT (port 0: a free one), or unix:PATH. An address that is not on loopback, such as 0.0.0.0:9090 in a pod, \
               answers /healthz, /readyz and /metrics only, to everyone.",
        trust: Trust::Owner("answer questions about its state at this address"),
        reason: "It opens a listener with host names in its replies, at a port or path of the file's choice.",
        aliases: &[],
    };
    MfaCode: MfaCode = word => Entry {
        name: "mfa_code",
        scope: Scope::Once,
        kind: Kind::Text,
        placeholder: "CODE",
        example: "123456",
        default: DefaultValue::Depends("asked on the terminal"),
        show: Show::AsSet,
        group: Group::Identity,
        common: false,
        help: "Code of the MFA device for the first time that one is required",
        more: "A code can be used once, so no file can hold it.",
        trust: Trust::Never,
        reason: "It is for one run.",
        aliases: &[],
    };
    OpenBrowser: bool = value::boolean => Entry {
        name: "open_browser",
        scope: Scope::Process,
        kind: Kind::Boolean,
        placeholder: "BOOL",
        example: "true",
        default: DefaultValue::Fixed("false"),
        show: Show::Process(|config| Some(config.open_browser.to_string())),
        group: Group::Identity,
        common: false,
        help: "Open the page of an SSO login in a browser, besides printing its address",
        more: "",
        trust: Trust::Owner("open pages in your browser"),
        reason: "It starts a program with an address that came from a network.",
        aliases: &[],
    };
}
