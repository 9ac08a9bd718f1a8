//! `rdsgate env`: where a target is on this machine, as environment variables.

use std::fmt::Write as _;

use clap::{Args, ValueEnum};

use super::{connection::Connection, exit::Exit, output::Output, quote, target_arguments::TargetArguments};

/// Print environment variables that lead to a database
///
/// Those that `rdsgate run` sets, for the address that a running `rdsgate up` has, or else the configured one.
#[derive(Debug, Args)]
#[command(after_help = EPILOG)]
pub struct Arguments {
    /// A name in the configuration files, or an endpoint (HOST[:PORT]) that is in none
    #[arg(value_name = "TARGET")]
    target: String,
    /// For whom
    #[arg(long, value_name = "FORMAT", default_value = "sh")]
    format: Format,
    #[command(flatten)]
    options: TargetArguments,
}

pub(super) const EPILOG: &str = "\
Examples:
  eval \"$(rdsgate env orders)\"
  rdsgate env orders --format fish | source
  rdsgate env orders --format dotenv > .env
";

/// Who reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// POSIX shells: sh, bash, zsh
    Sh,
    /// fish
    Fish,
    /// A .env file
    Dotenv,
}

/// Runs the subcommand.
pub fn run(arguments: Arguments, output: &mut Output) -> Exit {
    let Arguments { target, format, options } = arguments;
    options.with_connection(target, output, |connection, output| output.print(&text(connection, format)))
}

fn text(connection: &Connection<'_>, format: Format) -> String {
    let mut text = String::new();
    // What would lead past the proxy goes. A file can only add.
    let misleading = connection.misleading().join(" ");
    match format {
        Format::Sh if !misleading.is_empty() => text = format!("unset {misleading}\n"),
        Format::Fish if !misleading.is_empty() => text = format!("set -e {misleading}\n"),
        Format::Sh | Format::Fish | Format::Dotenv => {}
    }
    for (name, value) in connection.variables() {
        let _ = match format {
            Format::Sh => writeln!(text, "export {name}={}", quote::posix(&value)),
            Format::Fish => writeln!(text, "set -gx {name} {}", quote::fish(&value)),
            Format::Dotenv => writeln!(text, "{name}={}", quote::dotenv(&value)),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::connection::tests::target, target::Engine};

    #[test]
    fn each_reader_gets_its_own_words() {
        let target = target(Engine::Postgres, Some("it's me"), Some("$db"), "5432");
        let connection = Connection::new(&target, None);
        assert_eq!(
            text(&connection, Format::Sh),
            "unset PGSERVICE PGHOSTADDR PGSSLROOTCERT PGSSLNEGOTIATION PGREQUIREAUTH PGCHANNELBINDING\n\
             export PGHOST=localhost\nexport PGPORT=5432\nexport PGUSER='it'\\''s me'\nexport PGDATABASE='$db'\n\
             export PGSSLMODE=disable\n\
             export DATABASE_URL='postgresql://it%27s%20me@localhost:5432/%24db?sslmode=disable'\n"
        );
        assert_eq!(
            text(&connection, Format::Fish),
            "set -e PGSERVICE PGHOSTADDR PGSSLROOTCERT PGSSLNEGOTIATION PGREQUIREAUTH PGCHANNELBINDING\n\
             set -gx PGHOST localhost\nset -gx PGPORT 5432\nset -gx PGUSER 'it\\'s me'\nset -gx PGDATABASE '$db'\n\
             set -gx PGSSLMODE disable\n\
             set -gx DATABASE_URL 'postgresql://it%27s%20me@localhost:5432/%24db?sslmode=disable'\n"
        );
        assert_eq!(
            text(&connection, Format::Dotenv),
            "PGHOST=localhost\nPGPORT=5432\nPGUSER=\"it's me\"\nPGDATABASE='$db'\nPGSSLMODE=disable\n\
             DATABASE_URL=postgresql://it%27s%20me@localhost:5432/%24db?sslmode=disable\n"
        );
    }

    #[test]
    fn mysql_has_its_own_variables() {
        let target = target(Engine::Mysql, Some("app"), Some("shop"), "3306");
        assert_eq!(
            text(&Connection::new(&target, None), Format::Sh),
            "export MYSQL_HOST=127.0.0.1\nexport MYSQL_TCP_PORT=3306\nexport DATABASE_URL=mysql://app@127.0.0.1:3306/shop\n"
        );
    }
}
