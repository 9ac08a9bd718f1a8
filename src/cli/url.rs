//! `rdsgate url`: where a target is on this machine, as a connection string.

use clap::{Args, ValueEnum};

use super::{exit::Exit, output::Output, target_arguments::TargetArguments};
use crate::local_connection::Connection;

/// Print the connection string of a database
///
/// The address is that of a running `rdsgate up`, or else the configured one.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A name in the configuration files, or an endpoint (HOST[:PORT])
    #[arg(value_name = "TARGET")]
    target: String,
    /// Form of the connection string
    #[arg(long, value_name = "FORMAT", default_value = "uri")]
    format: Format,
    #[command(flatten)]
    options: TargetArguments,
}

/// The form of a connection string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// As DATABASE_URL has it: libpq, most drivers and ORMs
    Uri,
    /// pgjdbc, MySQL Connector/J
    Jdbc,
    /// SQLAlchemy with psycopg or PyMySQL
    Sqlalchemy,
    /// pgx and lib/pq, go-sql-driver/mysql
    Go,
}

/// Runs the subcommand.
pub fn run(arguments: Arguments, output: &mut Output) -> Exit {
    let Arguments { target, format, options } = arguments;
    options.with_connection(target, output, |connection: &Connection<'_>, output| {
        let text = connection.must_be_printable("a connection string").and_then(|()| match format {
            Format::Uri => Ok(connection.uri()),
            Format::Jdbc => connection.jdbc(),
            Format::Sqlalchemy => connection.sqlalchemy(),
            Format::Go => connection.go(),
        });
        match text {
            Ok(text) => output.print(&format!("{text}\n")),
            Err(error) => {
                output.error(&error, error.hint());
                Exit::Usage
            }
        }
    })
}
