//! `rdsgate config`: the configuration itself: a first file, whether it is sound, what counts and why, a schema for editors.

mod init;
mod schema;
mod show;

use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use super::{exit::Exit, output::Output, target_arguments::TargetArguments};
use crate::config::{self, Consent, Environment, Key};

/// Write, check and explain the configuration
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a first .rdsgate.toml, with every key explained
    ///
    /// It is written into the working directory and never over a file that is there.
    Init {
        /// Another file to write
        #[arg(long, value_name = "FILE", default_value = config::env::PROJECT_FILE)]
        file: PathBuf,
    },
    /// Check the configuration
    ///
    /// Reads the files and the variables as rdsgate up does, and says what is wrong, or odd, in them. Nothing is asked of AWS.
    Check(Choice),
    /// Show each value and where it came from
    ///
    /// What is printed is a configuration file itself. Behind each value stands the file and line, the variable or the flag
    /// that set it.
    Show(Choice),
    /// Print a JSON schema of the configuration file
    ///
    /// For editors that complete and check TOML by it: Taplo, Even Better TOML.
    #[command(after_help = SCHEMA_EPILOG)]
    Schema,
}

#[derive(Debug, Args)]
struct Choice {
    /// Names in the configuration files, or endpoints (HOST[:PORT]) that are in none [default: every target of the files]
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    #[command(flatten)]
    options: TargetArguments,
}

const SCHEMA_EPILOG: &str = "\
Examples:
  rdsgate config schema > rdsgate.schema.json
  and as the first line of .rdsgate.toml:  #:schema ./rdsgate.schema.json
";

/// Runs the subcommand.
pub fn run(arguments: Arguments, output: &mut Output) -> Exit {
    match arguments.command {
        Command::Init { file } => init::run(&file, output),
        Command::Check(choice) => check(choice, output),
        Command::Show(choice) => show(choice, output),
        Command::Schema => output.json(&schema::schema()),
    }
}

fn check(choice: Choice, output: &mut Output) -> Exit {
    let plan = match choice.options.plan(choice.targets, output) {
        Ok(plan) => plan,
        Err(exit) => return exit,
    };
    if let Err(error) = plan.preview() {
        output.error(&error, error.hint().as_deref());
        return Exit::Usage;
    }
    let names: Vec<&str> = plan.drafts.iter().map(|draft| &*draft.name).collect();
    let files: Vec<String> = plan.files().map(|path| path.display().to_string()).collect();
    let of = if files.is_empty() { String::new() } else { format!(" ({})", files.join(", ")) };
    output.data(&format!("ok: {}{of}\n", names.join(", ")))
}

fn show(choice: Choice, output: &mut Output) -> Exit {
    let request = choice.options.request(choice.targets);
    let mut warnings = Vec::new();
    let explained =
        Environment::of_process().and_then(|environment| config::explain(&request, &environment, &mut warnings));
    output.warnings(&warnings);
    match explained {
        Ok(explanation) => {
            output.warnings(&explanation.plan.warnings);
            output.warnings(&explanation.plan.consent.iter().map(Consent::warning).collect::<Vec<_>>());
            output.data(&show::text(&explanation.tables))
        }
        Err(error) => {
            output.error(&error, error.hint().as_deref());
            Exit::Usage
        }
    }
}

/// What a key means, in the words of its flag.
fn about(key: Key) -> String {
    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        _options: TargetArguments,
    }
    if key == Key::Host {
        return "The database's endpoint, HOST[:PORT]".into();
    }
    let command = Flags::command();
    let flag = command.get_arguments().find(|flag| flag.get_long() == Some(key.flag().trim_start_matches("--")));
    flag.and_then(|flag| flag.get_help()).map(ToString::to_string).unwrap_or_default()
}

/// A value that could stand in a file.
fn example(key: Key) -> String {
    match (key, key.kind()) {
        (Key::Host, _) => "\"orders.c1abcdefghij.eu-central-1.rds.amazonaws.com\"".into(),
        (Key::Bastion, _) => "\"i-0123456789abcdef0\"".into(),
        (Key::Region, _) => "\"eu-central-1\"".into(),
        (Key::User, _) => "\"app_user\"".into(),
        (Key::Database, _) => "\"orders_db\"".into(),
        (Key::CaFile, _) => "\"ca.pem\"".into(),
        (Key::Label, _) => "\"PRODUCTION\"".into(),
        (Key::RoleArn, _) => "[\"arn:aws:iam::123456789012:role/reader\"]".into(),
        (Key::MfaSerial, _) => "\"arn:aws:iam::123456789012:mfa/me\"".into(),
        (Key::Document, _) => "\"AWS-StartPortForwardingSessionToRemoteHost\"".into(),
        (Key::DocumentParameters, _) => "[\"host\", \"portNumber\"]".into(),
        (Key::SsmmessagesEndpoint, _) => {
            "\"vpce-0123456789abcdef1-abcdefgh.ssmmessages.eu-central-1.vpce.amazonaws.com\"".into()
        }
        (Key::ExternalId, _) => "\"partner/7\"".into(),
        (Key::SessionName, _) => "\"rdsgate-ada\"".into(),
        (Key::Reason, _) => "\"ticket 4711\"".into(),
        (Key::MfaCommand, _) => "\"ykman oath accounts code --single aws\"".into(),
        (Key::Admin, _) => "\"localhost:9090\"".into(),
        (Key::IdleTimeout, _) => "\"20m\"".into(),
        (_, config::Kind::Word(words)) => format!("\"{}\"", words.first().copied().unwrap_or_default()),
        (_, config::Kind::Duration) => "\"30s\"".into(),
        (_, config::Kind::Port) => "5432".into(),
        (_, config::Kind::Count) => "4".into(),
        (_, config::Kind::Size) => "1024".into(),
        (_, config::Kind::Listen) => "\"localhost:5433\"".into(),
        (_, config::Kind::Boolean) => "true".into(),
        (_, config::Kind::Text | config::Kind::List(_)) => "\"dev\"".into(),
    }
}
