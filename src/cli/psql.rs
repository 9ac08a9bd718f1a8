//! `rdsgate psql`: psql with a database at hand.

use std::ffi::OsString;

use clap::Args;
use tokio::process::Command;

use super::{
    command::{self, Program, ProxyArguments},
    exit::Exit,
    output::Output,
};
use crate::{
    local_connection::Connection,
    target::{Engine, Target},
};

/// Open psql on a database
///
/// As `rdsgate run TARGET -- psql`: host, port, user and database are set as psql's environment has them. Where no database
/// is configured it is `postgres`, which every server on RDS has, and not one named like the user.
#[derive(Debug, Args)]
#[command(after_help = EPILOG)]
pub struct Arguments {
    #[command(flatten)]
    proxy: ProxyArguments,
    /// Arguments of psql, from the first that is not an option of rdsgate, or after --
    #[arg(value_name = "ARG", trailing_var_arg = true, allow_hyphen_values = true)]
    own: Vec<OsString>,
}

pub(super) const EPILOG: &str = "\
Examples:
  rdsgate psql my-cluster --user app_user     no file and no bastion needed
  rdsgate psql orders
  rdsgate psql orders -c 'select version()'
  rdsgate psql orders other_db -f report.sql
";

/// libpq's variable for the name of the database. An argument of psql goes before it.
const DATABASE: &str = "PGDATABASE";

/// Runs the subcommand to its end.
pub fn run(arguments: Arguments, output: &mut Output) -> Exit {
    command::run(&Psql(arguments.own), arguments.proxy, output)
}

struct Psql(Vec<OsString>);

impl Program for Psql {
    fn name(&self) -> &'static str {
        "psql"
    }

    fn check(&self, target: &Target, output: &mut Output) -> Result<(), Exit> {
        output.must_be(Engine::Postgres, target, "psql")
    }

    fn command(&self, connection: &Connection<'_>) -> Command {
        let mut command = Command::new("psql");
        if let Some(name) = connection.target.engine.facts().maintenance_database
            && connection.target.database.is_none()
            && std::env::var_os(DATABASE).is_none_or(|name| name.is_empty())
        {
            command.env(DATABASE, name);
        }
        command.args(&self.0);
        command
    }
}
