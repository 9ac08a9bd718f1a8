//! `rdsgate psql`: psql with a database at hand.

use std::ffi::OsString;

use clap::Args;
use tokio::process::Command;

use super::{
    command::{self, Program, Request},
    confirm::ConfirmArguments,
    connection::Connection,
    exit::Exit,
    output::Output,
    target_arguments::TargetArguments,
};
use crate::target::{Engine, Target};

/// Open psql on a database
///
/// As `rdsgate run TARGET -- psql`: host, port, user and database are set as psql's environment has them.
#[derive(Debug, Args)]
#[command(after_help = EPILOG)]
pub struct Arguments {
    /// A name in the configuration files, or an endpoint (HOST[:PORT]) that is in none
    #[arg(value_name = "TARGET")]
    target: String,
    #[command(flatten)]
    options: TargetArguments,
    #[command(flatten)]
    confirm: ConfirmArguments,
    /// Arguments of psql, from the first that is not an option of rdsgate, or after --
    #[arg(value_name = "ARG", trailing_var_arg = true, allow_hyphen_values = true)]
    own: Vec<OsString>,
}

pub(super) const EPILOG: &str = "\
Examples:
  rdsgate psql orders
  rdsgate psql orders -c 'select version()'
  rdsgate psql orders other_db -f report.sql
";

/// Runs the subcommand to its end.
pub fn run(arguments: Arguments, output: &mut Output) -> Exit {
    let Arguments { target, options, confirm, own } = arguments;
    command::run(&Psql(own), Request { target, options, confirm }, output)
}

struct Psql(Vec<OsString>);

impl Program for Psql {
    fn check(&self, target: &Target, output: &mut Output) -> Result<(), Exit> {
        output.must_be(Engine::Postgres, target, "psql")
    }

    fn command(&self, _: &Connection<'_>) -> Command {
        let mut command = Command::new("psql");
        command.args(&self.0);
        command
    }
}
