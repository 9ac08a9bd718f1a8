//! `rdsgate config`: the configuration itself: a first file, whether it is sound, what counts and why, a schema for editors.

mod init;
mod schema;
mod show;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{exit::Exit, output::Output, target_arguments::TargetArguments};
use crate::config::{self, Consent, Environment};

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
        #[arg(long, value_name = "FILE", default_value = config::PROJECT_FILE)]
        file: PathBuf,
    },
    /// Check the configuration
    ///
    /// Reads the files and the variables as rdsgate up does, and reports errors and warnings. It makes no call to AWS.
    Check(Choice),
    /// Show each value and its origin
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
    /// Names in the configuration files, or endpoints (HOST[:PORT]) [default: every target of the files]
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
