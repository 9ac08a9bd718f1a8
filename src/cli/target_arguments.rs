//! The flags that say which database and how to get there: the same for every subcommand that takes a TARGET.
//!
//! Each is a key of the configuration, a variable and a flag; what it means is [`crate::config`]'s.

use std::path::PathBuf;

use clap::Args;

use super::{
    caller::Caller,
    complete::{self, Ready},
    connection::Connection,
    exit::Exit,
    output::Output,
    running::{self, ServedForAnother},
    trust,
};
use crate::config::{self, Environment, Key, Plan, Request};

/// A port that the system will choose.
#[derive(Debug, thiserror::Error)]
#[error("the local port of {0} is not known before it runs")]
struct NoAddress(String);

/// The flags of a target and of the process; a subcommand flattens them.
#[derive(Debug, Default, Args)]
pub struct TargetArguments {
    /// The SSM managed node to go through: i-… (EC2), mi-… (hybrid) or ecs:CLUSTER_TASK_RUNTIME [default: looked up]
    #[arg(long, value_name = "ID", help_heading = "Way to the database")]
    bastion: Option<String>,
    /// ssm (through the bastion), direct (this machine reaches the database by itself) or auto (direct if that works, else
    /// the bastion) [default: ssm]
    #[arg(long, value_name = "ROUTE", help_heading = "Way to the database")]
    via: Option<String>,
    /// Profile in the AWS configuration files [default: AWS_PROFILE, then the default chain]
    #[arg(long, value_name = "NAME", help_heading = "Way to the database")]
    profile: Option<String>,
    /// AWS region [default: the one in the endpoint's name, then AWS_REGION, then the profile's]
    #[arg(long, value_name = "REGION", help_heading = "Way to the database")]
    region: Option<String>,

    #[command(flatten)]
    identity: IdentityArguments,

    /// postgres or mysql (also mariadb) [default: looked up, else mysql for port 3306, else postgres]
    #[arg(long, value_name = "ENGINE", help_heading = "Database")]
    engine: Option<String>,
    /// The database's own port, not the local one [default: the engine's, 5432 or 3306]
    #[arg(long, value_name = "PORT", help_heading = "Database")]
    port: Option<String>,
    /// Database user for clients that name none [default: the name that the client sends]
    #[arg(long, value_name = "NAME", help_heading = "Database")]
    user: Option<String>,
    /// Database for clients that name none [default: none]
    #[arg(long, value_name = "NAME", help_heading = "Database")]
    database: Option<String>,
    /// PEM file with further roots for the database's certificate (GovCloud, China) [default: AWS's public roots]
    #[arg(long, value_name = "FILE", help_heading = "Database")]
    ca_file: Option<String>,
    /// Compression between rdsgate and a MySQL server: auto (through a session), zlib, zstd or off [default: auto]
    #[arg(long, value_name = "KIND", help_heading = "Database")]
    compress: Option<String>,

    /// Refuse clients that name another database user than --user [default: false]
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        help_heading = "Guard"
    )]
    pin_user: Option<String>,
    /// Make transactions read only unless the client asks for another kind [default: false]
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        help_heading = "Guard"
    )]
    read_only: Option<String>,
    /// Longest time that a statement may run [default: the database's]
    #[arg(long, value_name = "TIME", help_heading = "Guard")]
    statement_timeout: Option<String>,
    /// Words to show with the target's name, such as PRODUCTION [default: none]
    #[arg(long, value_name = "WORDS", help_heading = "Guard")]
    label: Option<String>,
    /// Ask on the terminal before serving the target [default: false]
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        help_heading = "Guard"
    )]
    confirm: Option<String>,

    /// Most SSM sessions at a time; each carries about 0.75 MB/s down [default: 4]
    #[arg(long, value_name = "NUMBER", help_heading = "Sessions")]
    max_sessions: Option<String>,
    /// SSM sessions opened at the start and kept open while the target is in use [default: 1]
    #[arg(long, value_name = "NUMBER", help_heading = "Sessions")]
    warm_sessions: Option<String>,
    /// When SSM sessions end after the last connection [default: 5m]
    #[arg(long, value_name = "TIME", help_heading = "Sessions")]
    idle_close: Option<String>,
    /// shared (connections share SSM sessions) or connection (one each) [default: shared]
    #[arg(long, value_name = "KIND", help_heading = "Sessions")]
    isolation: Option<String>,
    /// Age at which an SSM session takes no new connections [default: 30m for cluster endpoints, else never]
    #[arg(long, value_name = "TIME", help_heading = "Sessions")]
    rotate_after: Option<String>,

    /// Session document; AWS-StartPortForwardingSession is for a database on the bastion itself [default:
    /// AWS-StartPortForwardingSessionToRemoteHost]
    #[arg(long, value_name = "NAME", help_heading = "Sessions")]
    document: Option<String>,
    /// What the document takes: any of host, portNumber and NAME=VALUE with commas between them, or none [default: what
    /// AWS's documents take]
    #[arg(long, value_name = "LIST", help_heading = "Sessions")]
    document_parameters: Option<String>,
    /// Text for the session history and CloudTrail [default: rdsgate's version, this user, the endpoint]
    #[arg(long, value_name = "TEXT", help_heading = "Sessions")]
    reason: Option<String>,
    /// Private endpoint for the data channel [default: AWS's public one]
    #[arg(long, value_name = "HOST[:PORT]", help_heading = "Sessions")]
    ssmmessages_endpoint: Option<String>,
    /// Open the data channel without a signature where every signed request is refused with HTTP 403 [default: false]
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        help_heading = "Sessions"
    )]
    unsigned_stream: Option<String>,
    /// Most bytes in one message to the agent, 256 to 65536; more than 1024 only where a trial goes well [default: 1024]
    #[arg(long, value_name = "BYTES", help_heading = "Sessions")]
    payload_size: Option<String>,
    /// Keep sessions with open connections from the account's idle timeout [default: false]
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        help_heading = "Sessions"
    )]
    keep_alive: Option<String>,
    /// The account's idle timeout, for a warning before it ends a session [default: AWS is asked]
    #[arg(long, value_name = "TIME", help_heading = "Sessions")]
    idle_timeout: Option<String>,

    /// Local address to listen on, loopback only; port 0 takes a free one [default: localhost and the engine's port]
    #[arg(long, value_name = "[HOST:]PORT", help_heading = "Proxy")]
    listen: Option<String>,
    /// Configuration file to read instead of .rdsgate.toml and ~/.config/rdsgate/config.toml
    #[arg(long, value_name = "FILE", help_heading = "Proxy")]
    config: Option<PathBuf>,
    /// Longest time from a client's arrival to its login [default: 30s]
    #[arg(long, value_name = "TIME", help_heading = "Proxy")]
    connect_timeout: Option<String>,
    /// How long to resume a broken SSM session before its connections are given up [default: 2m]
    #[arg(long, value_name = "TIME", help_heading = "Proxy")]
    resume_for: Option<String>,
    /// How long busy connections may go on after SIGTERM or Ctrl-C [default: 30s]
    #[arg(long, value_name = "TIME", help_heading = "Proxy")]
    max_sigterm_delay: Option<String>,
    /// Address of /healthz, /readyz, /metrics and /status: [HOST:]PORT on loopback or unix:PATH [default: none]
    #[arg(long, value_name = "ADDRESS", help_heading = "Proxy")]
    admin: Option<String>,
}

/// The flags that say who we are for AWS, besides the profile.
#[derive(Debug, Default, Args)]
pub struct IdentityArguments {
    /// Role to assume with the profile's credentials; again for a role to assume with that one's [default: none]
    #[arg(long, value_name = "ARN", help_heading = "AWS identity")]
    role_arn: Vec<String>,
    /// External id that the roles' trust policies ask for [default: none]
    #[arg(long, value_name = "ID", help_heading = "AWS identity")]
    external_id: Option<String>,
    /// What CloudTrail calls the roles' sessions [default: rdsgate-USER]
    #[arg(long, value_name = "NAME", help_heading = "AWS identity")]
    session_name: Option<String>,
    /// MFA device whose code the roles want: its ARN or serial number [default: the profile's mfa_serial]
    #[arg(long, value_name = "ARN", help_heading = "AWS identity")]
    mfa_serial: Option<String>,
    /// A code of the MFA device, for the first time that one is wanted [default: asked on the terminal]
    #[arg(long, value_name = "CODE", help_heading = "AWS identity")]
    mfa_code: Option<String>,
    /// Command whose first line of output is a code of the MFA device [default: asked on the terminal]
    #[arg(long, value_name = "COMMAND", help_heading = "AWS identity")]
    mfa_command: Option<String>,
    /// Open the page of an SSO login in a browser, besides printing its address [default: false]
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        help_heading = "AWS identity"
    )]
    open_browser: Option<String>,
}

impl IdentityArguments {
    /// The values given, by key.
    pub(super) fn flags(self) -> [(Key, Option<String>); 7] {
        [
            (Key::RoleArn, Some(self.role_arn.join(" ")).filter(|roles| !roles.is_empty())),
            (Key::ExternalId, self.external_id),
            (Key::SessionName, self.session_name),
            (Key::MfaSerial, self.mfa_serial),
            (Key::MfaCommand, self.mfa_command),
            (Key::MfaCode, self.mfa_code),
            (Key::OpenBrowser, self.open_browser),
        ]
    }
}

impl TargetArguments {
    /// What the command line asks for: these flags, for these targets.
    pub fn request(self, targets: Vec<String>) -> Request {
        let flags = [
            (Key::Engine, self.engine),
            (Key::Port, self.port),
            (Key::Listen, self.listen),
            (Key::Bastion, self.bastion),
            (Key::User, self.user),
            (Key::Database, self.database),
            (Key::Profile, self.profile),
            (Key::Region, self.region),
            (Key::CaFile, self.ca_file),
            (Key::Via, self.via),
            (Key::Compress, self.compress),
            (Key::Document, self.document),
            (Key::DocumentParameters, self.document_parameters),
            (Key::Reason, self.reason),
            (Key::SsmmessagesEndpoint, self.ssmmessages_endpoint),
            (Key::UnsignedStream, self.unsigned_stream),
            (Key::PayloadSize, self.payload_size),
            (Key::KeepAlive, self.keep_alive),
            (Key::IdleTimeout, self.idle_timeout),
            (Key::PinUser, self.pin_user),
            (Key::ReadOnly, self.read_only),
            (Key::StatementTimeout, self.statement_timeout),
            (Key::Label, self.label),
            (Key::Confirm, self.confirm),
            (Key::MaxSessions, self.max_sessions),
            (Key::WarmSessions, self.warm_sessions),
            (Key::IdleClose, self.idle_close),
            (Key::Isolation, self.isolation),
            (Key::RotateAfter, self.rotate_after),
            (Key::ConnectTimeout, self.connect_timeout),
            (Key::ResumeFor, self.resume_for),
            (Key::MaxSigtermDelay, self.max_sigterm_delay),
            (Key::Admin, self.admin),
        ];
        let flags = flags.into_iter().chain(self.identity.flags());
        let flags = flags.filter_map(|(key, value)| Some((key, value?))).collect();
        Request { targets, flags, file: self.config }
    }

    /// These flags with a free local port, unless `--listen` is among them.
    #[must_use]
    pub fn or_any_port(mut self) -> Self {
        self.listen.get_or_insert_with(|| "localhost:0".into());
        self
    }

    /// These flags for a command that goes nowhere, so that no bastion is looked up for it.
    #[must_use]
    pub(super) fn without_bastion(mut self) -> Self {
        self.via = Some("direct".into());
        self
    }

    /// Loads one target and hands `work` the way that clients on this machine have to it: the address that a running proxy
    /// has, or else the configured one.
    pub(super) fn with_connection(
        self,
        target: String,
        output: &mut Output,
        work: impl FnOnce(&Connection<'_>, &mut Output) -> Exit,
    ) -> Exit {
        let ready = match self.without_bastion().load_without_trust(vec![target], output) {
            Ok(ready) => ready,
            Err(exit) => return exit,
        };
        ready.caller.end();
        let Some(target) = ready.config.targets.first() else { return Exit::Usage };
        let bound = match running::address_of(target, &ready.files) {
            Ok(bound) => bound,
            Err(error) => {
                output.error(&error, Some(ServedForAnother::HINT));
                return Exit::Failure;
            }
        };
        if bound.is_none() && target.listen.port == 0 {
            output.error(
                &NoAddress(target.name.to_string()),
                Some("start it with rdsgate up, or give it a port with --listen or the key listen"),
            );
            return Exit::Failure;
        }
        work(&Connection::new(target, bound), output)
    }

    /// Joins the flags with the variables and the files, looks up what is missing, and prints what is odd or wrong.
    ///
    /// # Errors
    /// The exit code, when it was wrong.
    pub(super) fn load(self, targets: Vec<String>, output: &mut Output) -> Result<Ready, Exit> {
        let request = self.request(targets);
        let read = trust::with_consent(
            output,
            |environment, warnings| config::read(&request, environment, warnings),
            |plan: &Plan| plan.consent.as_ref(),
        );
        let plan = planned(read, output)?;
        Self::complete(plan, output)
    }

    /// The same for a command that logs in nowhere: what a project's file asks for and may not is left out, with a warning.
    ///
    /// # Errors
    /// As for [`TargetArguments::load`].
    pub(super) fn load_without_trust(self, targets: Vec<String>, output: &mut Output) -> Result<Ready, Exit> {
        let plan = self.plan(targets, output)?;
        Self::complete(plan, output)
    }

    fn complete(plan: Plan, output: &mut Output) -> Result<Ready, Exit> {
        let process = plan.process();
        let caller = Caller::new(process.mfa_code.clone(), process.open_browser);
        complete::complete(plan, caller, output)
    }

    /// Joins the flags with the variables and the files, and prints what is odd or wrong there. Nothing is looked up, and what
    /// a project's file asks for and may not is left out.
    ///
    /// # Errors
    /// The exit code, when it was wrong.
    pub(super) fn plan(self, targets: Vec<String>, output: &mut Output) -> Result<Plan, Exit> {
        let request = self.request(targets);
        let mut warnings = Vec::new();
        let read =
            Environment::of_process().and_then(|environment| config::read(&request, &environment, &mut warnings));
        output.warnings(&warnings);
        let plan = planned(read, output)?;
        if let Some(consent) = &plan.consent {
            output.warnings(&[consent.warning()]);
        }
        Ok(plan)
    }
}

/// A plan that was read, its warnings printed, or the exit code when it could not be.
fn planned(read: Result<Plan, config::Error>, output: &mut Output) -> Result<Plan, Exit> {
    match read {
        Ok(plan) => {
            output.warnings(&plan.warnings);
            Ok(plan)
        }
        Err(error) => {
            output.error(&error, error.hint().as_deref());
            Err(Exit::Usage)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config::Kind;

    #[derive(Parser)]
    struct Only {
        #[arg(value_name = "TARGET")]
        targets: Vec<String>,
        #[command(flatten)]
        options: TargetArguments,
    }

    fn request(arguments: &[&str]) -> Request {
        let only = Only::try_parse_from([&["up"], arguments].concat()).unwrap_or_else(|error| panic!("{error}"));
        only.options.request(only.targets)
    }

    #[test]
    fn every_key_but_the_host_is_a_flag() {
        for key in Key::ALL.into_iter().filter(|key| *key != Key::Host) {
            // Those of the kind `true` may stand alone, so their value must be joined to them.
            let flags = request(&[&format!("{}=value", key.flag())]).flags;
            assert_eq!(flags, [(key, "value".to_owned())]);
            if key.kind() == Kind::Boolean {
                let request = request(&[&key.flag(), "orders"]);
                assert_eq!((request.flags, request.targets), (vec![(key, "true".into())], vec!["orders".into()]));
            } else {
                assert_eq!(request(&[&key.flag(), "value"]).flags, flags);
            }
        }
    }

    #[test]
    fn targets_flags_and_a_file_become_a_request() {
        let request = request(&["orders", "--listen=5433", "billing", "--config", "a.toml", "--user", "x y"]);
        assert_eq!(request.targets, ["orders", "billing"]);
        assert_eq!(request.flags, [(Key::Listen, "5433".to_owned()), (Key::User, "x y".to_owned())]);
        assert_eq!(request.file, Some(PathBuf::from("a.toml")));
        let empty = self::request(&[]);
        assert!(empty.targets.is_empty() && empty.flags.is_empty() && empty.file.is_none());
    }
}
