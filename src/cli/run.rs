//! `rdsgate run`: a command with a database at hand.

use std::ffi::OsString;

use clap::Args;
use tokio::process::Command;

use super::{
    command::{self, Program, ProxyArguments},
    exit::Exit,
    output::Output,
};
use crate::{local_connection::Connection, target::Target};

/// Run a command that connects to a database
///
/// Opens the way to the database, then runs the command with PGHOST, PGPORT, PGUSER, PGDATABASE, PGSSLMODE (or MYSQL_HOST,
/// MYSQL_TCP_PORT) and DATABASE_URL set, and closes it when the command ends. The exit status is the command's.
#[derive(Debug, Args)]
#[command(after_help = EPILOG)]
pub struct Arguments {
    #[command(flatten)]
    proxy: ProxyArguments,
    /// The command and its arguments
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

pub(super) const EPILOG: &str = "\
The local port is a free one unless --listen is given: a configured address
belongs to rdsgate up. Only warnings are logged unless --log-level is given.

Exit codes:
  the command's own; 128 and the signal's number when a signal ended it;
  126 or 127 when it cannot be run; 1 to 5 as in rdsgate --help when the
  database cannot be reached

Examples:
  rdsgate run orders -- alembic upgrade head
  rdsgate run orders -- sh -c 'pg_dump --schema-only > schema.sql'
";

/// Runs the subcommand to its end.
pub fn run(arguments: Arguments, output: &mut Output) -> Exit {
    command::run(&Any(arguments.command), arguments.proxy, output)
}

/// The command that the user typed.
struct Any(Vec<OsString>);

impl Program for Any {
    fn name(&self) -> &'static str {
        "run"
    }

    fn check(&self, _: &Target, _: &mut Output) -> Result<(), Exit> {
        Ok(())
    }

    fn command(&self, _: &Connection<'_>) -> Command {
        let (program, arguments) = self.0.split_first().expect("clap requires one");
        let mut command = Command::new(program);
        command.args(arguments);
        command
    }
}
