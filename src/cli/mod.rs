//! The command line: arguments to a request, a result to lines and an exit code.
//!
//! - one file a subcommand, or a folder: [`up`], [`forward`], [`run`], [`psql`], [`mysql`], [`url`], [`mod@env`], [`token`],
//!   [`password`], [`sessions`], [`ls`], [`login`], [`whoami`],
//!   [`export`], [`config`], [`mod@trust`], [`cert`], [`wait`], [`stop`], [`service`], [`status`], [`completion`] with [`words`], [`man`];
//! - `flags`: the table of options as arguments; [`target_arguments`]: all of them, for every subcommand with a TARGET;
//! - `help`: how much of them `-h` shows; `reference`: docs/options.md; `error_page`: docs/errors.md;
//! - `caller`: who calls AWS, and whom it may ask; `account`: the options of that for subcommands without a TARGET;
//! - [`confirm`]: whether a guarded target may be served;
//! - [`command`]: a program that runs beside a proxy of its own;
//! - `reload`: the configuration again, while its targets are served;
//! - `connection`: how clients reach a target, in every form; `quote`: words for shells, files and URLs;
//! - `signals`: the signals that reach us meanwhile;
//! - `running`: which proxies of this user run;
//! - `table`: text in columns;
//! - [`output`]: the only writer to stdout and stderr, besides the log;
//! - [`progress`]: what a command waits for, on the terminal;
//! - [`terminal`]: who is there, what they type, their browser;
//! - [`exit`]: the exit codes.
//!
//! Rules about values are [`crate::config`]'s, which knows where each came from; here they are text.

mod account;
mod again;
mod caller;
pub mod cert;
pub mod command;
mod complete;
pub mod completion;
pub mod config;
pub mod confirm;
pub mod doctor;
pub mod env;
#[cfg(test)]
mod error_page;
pub mod exit;
pub mod export;
mod flags;
pub mod forward;
mod help;
pub mod login;
pub mod ls;
pub mod man;
pub mod mysql;
pub mod output;
pub mod password;
pub mod policy;
pub mod progress;
pub mod psql;
#[cfg(test)]
mod reference;
pub mod reload;
pub mod run;
mod running;
pub mod service;
pub mod sessions;
pub mod setup;
mod signals;
pub mod status;
pub mod stop;
mod table;
pub mod target_arguments;
pub mod terminal;
pub mod token;
pub mod trust;
pub mod up;
pub mod url;
pub mod wait;
pub mod whoami;
pub mod words;

use std::{process::ExitCode, time::Duration};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::{
    app::Passed,
    platform::{self, limits},
    telemetry::log,
};
use exit::Exit;
use output::Output;

/// A local, passwordless door to private Amazon RDS and Aurora databases.
///
/// rdsgate listens on localhost, reaches the database through an AWS SSM session, verifies its certificate and logs in
/// with a fresh IAM token for every connection. Clients need no password, no AWS tools and no certificate bundle.
#[derive(Debug, Parser)]
#[command(name = "rdsgate", version, propagate_version = true, arg_required_else_help = true, after_help = EPILOG)]
pub struct Cli {
    #[command(flatten)]
    log: LogArguments,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Psql(psql::Arguments),
    Mysql(mysql::Arguments),
    Ls(ls::Arguments),
    Up(up::Arguments),
    Forward(forward::Arguments),
    Status(status::Arguments),
    Run(run::Arguments),
    Doctor(doctor::Arguments),
    Policy(policy::Arguments),
    Setup(setup::Arguments),
    Login(login::Arguments),
    Whoami(whoami::Arguments),
    Url(url::Arguments),
    Env(env::Arguments),
    Token(token::Arguments),
    Password(password::Arguments),
    Sessions(sessions::Arguments),
    Export(export::Arguments),
    Config(config::Arguments),
    Trust(trust::Arguments),
    Cert(cert::Arguments),
    Wait(wait::Arguments),
    Stop(stop::Arguments),
    Service(service::Arguments),
    Completion(completion::Arguments),
    #[command(hide = true)]
    Man(man::Arguments),
    #[command(hide = true)]
    CompleteWords(words::Arguments),
}

impl Command {
    /// The default log filter. Where another program has the terminal, or the output is the result, only what is
    /// amiss.
    fn log_filter(&self) -> Option<&'static str> {
        match self {
            Self::Up(_) | Self::Forward(_) => None,
            _ => Some("warn"),
        }
    }

    /// Whether it serves sockets that a supervisor passes. Other commands leave them to the programs that they run.
    fn takes_sockets(&self) -> bool {
        matches!(self, Self::Up(_) | Self::Forward(_))
    }
}

/// Logging options, for every subcommand.
#[derive(Debug, clap::Args)]
struct LogArguments {
    /// What to log: error, warn, info, debug, trace, or a filter such as rdsgate::tunnel=debug [default: info]
    ///
    /// A filter is a list of TARGET=LEVEL. Libraries never log below info: their wire logs would show secrets.
    #[arg(
        long,
        global = true,
        hide_short_help = true,
        value_name = "LEVEL",
        env = "RDSGATE_LOG",
        hide_env_values = true,
        help_heading = "Log"
    )]
    log_level: Option<String>,
    /// How to write the log
    ///
    /// JSON is for programs that collect logs: one object for each event.
    #[arg(
        long,
        global = true,
        hide_short_help = true,
        value_name = "FORMAT",
        env = "RDSGATE_LOG_FORMAT",
        hide_env_values = true,
        default_value = "human",
        help_heading = "Log"
    )]
    log_format: log::Format,
}

const EPILOG: &str = "\
Examples:
  rdsgate psql orders --user app    open psql: no file, no bastion to name
  rdsgate ls                        list the databases of your account
  rdsgate config init               describe databases for this folder
  rdsgate up                        serve every target of .rdsgate.toml
  rdsgate run orders -- alembic upgrade head
  rdsgate forward i-0123456789abcdef0:80 --listen 9090

Exit codes:
  0 success    1 failure        2 usage or configuration    3 credentials
  4 AWS or tunnel    5 database login    129 SIGHUP    130 SIGINT    143 SIGTERM
";

/// For a user who has typed `rdsgate` alone.
const FIRST_STEPS: &str = "\
rdsgate opens private RDS and Aurora databases on this machine.

  rdsgate psql NAME --user USER    open a database: no file, no bastion to name
  rdsgate ls                       list the databases of your account
  rdsgate config init              describe databases for this folder
  rdsgate up                       serve what .rdsgate.toml describes
  rdsgate doctor NAME              find out why one does not work
  rdsgate --help                   all commands
";

/// Time at the end to write the last messages to stderr.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let exit = run();
    // Messages that stderr has not taken by then are dropped.
    log::flush(LAST_WORDS_TIMEOUT);
    exit.into()
}

/// The command line as clap has it.
fn command_line() -> clap::Command {
    help::shorten(Cli::command())
}

fn run() -> Exit {
    let parsed = command_line().try_get_matches().and_then(|mut matches| {
        let parsed = Cli::from_arg_matches_mut(&mut matches);
        parsed.map_err(|error| error.format(&mut command_line()))
    });
    let cli = match parsed {
        Ok(cli) => cli,
        Err(_) if std::env::args_os().len() == 1 => {
            return Output::of_process(wanted_format()).first_steps(FIRST_STEPS);
        }
        // Help and version come this way too, with exit code 0.
        Err(error) => return Output::of_process(wanted_format()).usage(&error),
    };
    // Before there is another thread, because it changes the environment.
    let passed = if cli.command.takes_sockets() { Passed::take() } else { Ok(Passed::default()) };
    let mut output = Output::of_process(cli.log.log_format);
    let passed = match passed {
        Ok(passed) => passed,
        Err(error) => {
            output.error(&error, Some(error.hint()));
            return Exit::Usage;
        }
    };
    let filter = cli.log.log_level.or_else(|| cli.command.log_filter().map(str::to_owned));
    if let Err(error) = log::init(&log::Options { filter, format: cli.log.log_format }) {
        output.error(&error, error.hint().as_deref());
        return Exit::Usage;
    }
    limits::set();
    platform::terminal::enable_escapes();
    crate::tunnel::own::others_are(running::addresses_of_others);
    dispatch(cli.command, passed, &mut output)
}

fn dispatch(command: Command, passed: Passed, output: &mut Output) -> Exit {
    match command {
        Command::Up(arguments) => up::run(arguments, passed, output),
        Command::Forward(arguments) => forward::run(arguments, passed, output),
        Command::Run(arguments) => run::run(arguments, output),
        Command::Psql(arguments) => psql::run(arguments, output),
        Command::Mysql(arguments) => mysql::run(arguments, output),
        Command::Url(arguments) => url::run(arguments, output),
        Command::Env(arguments) => env::run(arguments, output),
        Command::Token(arguments) => token::run(arguments, output),
        Command::Password(arguments) => password::run(arguments, output),
        Command::Sessions(arguments) => sessions::run(arguments, output),
        Command::Export(arguments) => export::run(arguments, output),
        Command::Config(arguments) => config::run(arguments, output),
        Command::Trust(arguments) => trust::run(&arguments, output),
        Command::Cert(arguments) => cert::run(&arguments, output),
        Command::Wait(arguments) => wait::run(&arguments, output),
        Command::Stop(arguments) => stop::run(&arguments, output),
        Command::Service(arguments) => service::run(arguments, command_line(), output),
        Command::Status(arguments) => status::run(&arguments, output),
        Command::Completion(arguments) => completion::run(&arguments, &mut command_line(), output),
        Command::CompleteWords(arguments) => words::run(&arguments, command_line(), output),
        Command::Man(arguments) => man::run(&arguments, command_line(), output),
        Command::Ls(arguments) => ls::run(arguments, output),
        Command::Login(arguments) => login::run(arguments, output),
        Command::Whoami(arguments) => whoami::run(arguments, output),
        Command::Policy(arguments) => policy::run(arguments, output),
        Command::Setup(arguments) => setup::run(arguments, output),
        Command::Doctor(arguments) => doctor::run(arguments, output),
    }
}

/// The log's format as far as a command line says it that is wrong elsewhere.
fn wanted_format() -> log::Format {
    const FLAG: &str = "--log-format";
    let arguments: Vec<String> = std::env::args().skip(1).take_while(|word| word != "--").collect();
    let joined = |word: &String| word.strip_prefix(FLAG)?.strip_prefix('=').map(str::to_owned);
    let apart = arguments.windows(2).rev().find_map(|words| match words {
        [flag, value] if flag == FLAG => Some(value.clone()),
        _ => None,
    });
    let flag = arguments.iter().rev().find_map(joined).or(apart);
    let format = flag.or_else(|| std::env::var("RDSGATE_LOG_FORMAT").ok());
    if format.as_deref() == Some("json") { log::Format::Json } else { log::Format::Human }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_passes_the_checks_of_clap() {
        command_line().debug_assert();
    }

    #[test]
    fn help_and_version_exit_with_success_and_mistakes_with_usage() {
        for (arguments, exit) in [
            (vec!["--help"], Exit::Success),
            (vec!["--version"], Exit::Success),
            (vec!["up", "--help"], Exit::Success),
            (vec![], Exit::Usage),
            (vec!["down"], Exit::Usage),
            (vec!["up", "--prot", "1"], Exit::Usage),
            (vec!["up", "--port"], Exit::Usage),
            (vec!["--log-format", "xml", "up"], Exit::Usage),
        ] {
            let error = Cli::try_parse_from([&["rdsgate"], arguments.as_slice()].concat()).unwrap_err();
            assert_eq!(Exit::from(&error), exit, "{arguments:?}: {error}");
        }
    }

    #[test]
    fn log_flags_are_accepted_before_and_after_the_subcommand() {
        for arguments in [
            ["--log-level", "debug", "--log-format", "json", "up"],
            ["up", "--log-level", "debug", "--log-format", "json"],
        ] {
            let cli = Cli::try_parse_from([&["rdsgate"], arguments.as_slice()].concat()).unwrap();
            assert_eq!(cli.log.log_level.as_deref(), Some("debug"));
            assert_eq!(cli.log.log_format, log::Format::Json);
        }
    }

    #[test]
    fn help_tells_every_exit_code_and_fits_eighty_columns() {
        for code in [
            "0 success",
            "1 failure",
            "2 usage",
            "3 credentials",
            "4 AWS",
            "5 database",
            "129 SIGHUP",
            "130 SIGINT",
            "143 SIGTERM",
        ] {
            assert!(EPILOG.contains(code), "{code}");
        }
        let commands = command_line();
        let epilogs =
            commands.get_subcommands().filter_map(|command| command.get_after_long_help().or(command.get_after_help()));
        let epilogs = epilogs.map(ToString::to_string);
        for epilog in epilogs.chain([EPILOG.to_owned()]) {
            assert!(epilog.lines().all(|line| line.chars().count() <= 80), "{epilog}");
        }
    }
}
