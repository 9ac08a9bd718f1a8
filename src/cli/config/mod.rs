//! `rdsgate config`: the configuration itself: a first file, whether it is sound, what counts and why, a schema for editors.

mod check;
mod init;
mod schema;
mod show;

use clap::{Args, Subcommand};

use self::check::{Choice, check};
use super::{exit::Exit, output::Output};
use crate::config::{self, Consent, Environment};

/// Write, check and explain the configuration
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a first .rdsgate.toml
    ///
    /// Looks up the databases of your account and asks at most five questions, then checks the file. It is written into the working
    /// directory and never over a file that is there. A profile that you choose goes into a file of your own.
    #[command(after_help = INIT_EPILOG)]
    Init(init::Arguments),
    /// Check the configuration
    ///
    /// Reads the files and the variables as rdsgate up does, and reports errors and warnings. It makes no call to AWS.
    Check(Choice),
    /// Show each value and its origin
    ///
    /// The output is a configuration file itself. Behind each value stands the file and line, the variable or the flag
    /// that set it.
    Show(Choice),
    /// Print a JSON schema of the configuration file
    ///
    /// For editors that complete and check TOML by it: Taplo, Even Better TOML.
    #[command(after_help = SCHEMA_EPILOG)]
    Schema,
}

const INIT_EPILOG: &str = "\
Examples:
  rdsgate config init
  rdsgate config init --from-aws --profile dev --user app_user
";

const SCHEMA_EPILOG: &str = "\
Examples:
  rdsgate config schema > rdsgate.schema.json
  and as the first line of .rdsgate.toml:  #:schema ./rdsgate.schema.json
";

/// Runs the subcommand.
pub fn run(arguments: Arguments, output: &mut Output) -> Exit {
    match arguments.command {
        Command::Init(arguments) => init::run(arguments, output),
        Command::Check(choice) => check(choice, output),
        Command::Show(choice) => show(choice, output),
        Command::Schema => output.json(&schema::schema()),
    }
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
