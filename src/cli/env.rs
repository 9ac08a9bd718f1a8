//! `rdsgate env`: where a target is on this machine, as environment variables.

use std::fmt::Write as _;

use clap::{Args, ValueEnum};

use super::{exit::Exit, output::Output, target_arguments::TargetArguments};
use crate::{
    local_connection::{Connection, Unwritable},
    quote,
};

/// Print environment variables for connecting to a database
///
/// The variables that `rdsgate run` sets, with the address of a running `rdsgate up`, or else the configured one.
#[derive(Debug, Args)]
#[command(after_help = EPILOG)]
pub struct Arguments {
    /// A name in the configuration files, or an endpoint (HOST[:PORT])
    #[arg(value_name = "TARGET")]
    target: String,
    /// Syntax of the output
    #[arg(long, value_name = "FORMAT", default_value = DEFAULT)]
    format: Format,
    #[command(flatten)]
    options: TargetArguments,
}

pub(super) const EPILOG: &str = "\
Examples:
  eval \"$(rdsgate env orders)\"
  rdsgate env orders --format fish | source
  rdsgate env orders --format dotenv > .env
  rdsgate env orders --format docker > env && docker run --env-file env …
  rdsgate env orders --format powershell | Out-String | Invoke-Expression
  for /f \"delims=\" %i in ('rdsgate env orders --format cmd') do @%i
";

/// The usual shell of the system.
const DEFAULT: &str = if cfg!(windows) { "powershell" } else { "sh" };

/// A syntax for variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// POSIX shells: sh, bash, zsh
    Sh,
    /// fish
    Fish,
    /// A .env file, for python-dotenv and its like or to be sourced
    Dotenv,
    /// docker's --env-file, which knows no quotes
    Docker,
    /// PowerShell
    Powershell,
    /// The command prompt of Windows
    Cmd,
}

/// Runs the subcommand.
pub fn run(arguments: Arguments, output: &mut Output) -> Exit {
    let Arguments { target, format, options } = arguments;
    options.with_connection(target, output, |connection, output| match text(connection, format) {
        Ok(text) => output.print(&text),
        Err(error) => {
            output.error(&error, Some("use --format sh, fish or powershell, or rename it"));
            Exit::Usage
        }
    })
}

/// # Errors
/// A name that the format has no way to write.
fn text(connection: &Connection<'_>, format: Format) -> Result<String, Unwritable> {
    connection.must_be_printable("an environment variable")?;
    let mut text = String::new();
    // What would lead past the proxy goes. A file can only add.
    let misleading = connection.misleading().join(" ");
    match format {
        Format::Sh if !misleading.is_empty() => text = format!("unset {misleading}\n"),
        Format::Fish if !misleading.is_empty() => text = format!("set -e {misleading}\n"),
        Format::Powershell => {
            for name in connection.misleading() {
                let _ = writeln!(text, "Remove-Item Env:{name} -ErrorAction Ignore");
            }
        }
        Format::Cmd => {
            for name in connection.misleading() {
                let _ = writeln!(text, "set {name}=");
            }
        }
        Format::Sh | Format::Fish | Format::Dotenv | Format::Docker => {}
    }
    for (name, value) in connection.variables() {
        let _ = match format {
            Format::Sh => writeln!(text, "export {name}={}", quote::posix(&value)),
            Format::Fish => writeln!(text, "set -gx {name} {}", quote::fish(&value)),
            Format::Docker => writeln!(text, "{name}={value}"),
            Format::Powershell => writeln!(text, "$env:{name} = {}", quote::powershell(&value)),
            Format::Cmd => match quote::cmd(&value) {
                Some(value) => writeln!(text, "set \"{name}={value}\""),
                None => return Err(Unwritable { what: name, name: value, form: "a variable of cmd" }),
            },
            Format::Dotenv => match quote::dotenv(&value) {
                Some(quoted) => writeln!(text, "{name}={quoted}"),
                None => return Err(Unwritable { what: name, name: value, form: "a line of a .env file" }),
            },
        };
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{local_connection::tests::target, target::Engine};

    #[test]
    fn each_reader_gets_its_own_words() {
        let target = target(Engine::Postgres, Some("it's me"), Some("$db"), "5432");
        let connection = Connection::new(&target, &[]);
        assert_eq!(
            text(&connection, Format::Sh).unwrap(),
            "unset PGSERVICE PGHOSTADDR PGREQUIRESSL PGSSLROOTCERT PGSSLNEGOTIATION PGSSLCERTMODE PGGSSENCMODE PGREQUIREAUTH \
             PGCHANNELBINDING\n\
             export PGHOST=localhost\nexport PGPORT=5432\nexport PGUSER='it'\\''s me'\nexport PGDATABASE='$db'\n\
             export PGSSLMODE=disable\n\
             export DATABASE_URL='postgresql://it%27s%20me@localhost:5432/%24db?sslmode=disable'\n"
        );
        assert_eq!(
            text(&connection, Format::Fish).unwrap(),
            "set -e PGSERVICE PGHOSTADDR PGREQUIRESSL PGSSLROOTCERT PGSSLNEGOTIATION PGSSLCERTMODE PGGSSENCMODE PGREQUIREAUTH \
             PGCHANNELBINDING\n\
             set -gx PGHOST localhost\nset -gx PGPORT 5432\nset -gx PGUSER 'it\\'s me'\nset -gx PGDATABASE '$db'\n\
             set -gx PGSSLMODE disable\n\
             set -gx DATABASE_URL 'postgresql://it%27s%20me@localhost:5432/%24db?sslmode=disable'\n"
        );
        assert_eq!(
            text(&connection, Format::Dotenv).unwrap(),
            "PGHOST=localhost\nPGPORT=5432\nPGUSER=\"it's me\"\nPGDATABASE='$db'\nPGSSLMODE=disable\n\
             DATABASE_URL=postgresql://it%27s%20me@localhost:5432/%24db?sslmode=disable\n"
        );
    }

    #[test]
    fn name_that_a_format_cannot_express_is_refused() {
        for (user, format, refused) in [
            ("a\nb", Format::Sh, true),
            ("a\u{1b}b", Format::Fish, true),
            ("a\u{202e}b", Format::Dotenv, true),
            ("it's $me", Format::Dotenv, true),
            ("it's $me", Format::Docker, false),
            ("it's $me", Format::Sh, false),
            ("it's $me", Format::Powershell, false),
            ("100%", Format::Cmd, true),
        ] {
            let target = target(Engine::Postgres, Some(user), None, "5432");
            assert_eq!(text(&Connection::new(&target, &[]), format).is_err(), refused, "{user:?} {format:?}");
        }
        let target = target(Engine::Postgres, Some("it's $me"), None, "5432");
        let docker = text(&Connection::new(&target, &[]), Format::Docker).unwrap();
        assert!(docker.contains("\nPGUSER=it's $me\n"), "{docker}");
    }

    #[test]
    fn shells_of_windows_get_their_words() {
        let mut target = target(Engine::Postgres, Some("it’s 'me'"), Some("$db & co"), "5432");
        let powershell = text(&Connection::new(&target, &[]), Format::Powershell).unwrap();
        assert!(powershell.starts_with("Remove-Item Env:PGSERVICE -ErrorAction Ignore\n"), "{powershell}");
        assert!(powershell.contains("\n$env:PGUSER = 'it’’s ''me'''\n$env:PGDATABASE = '$db & co'\n"), "{powershell}");
        (target.user, target.database) = (Some("app".into()), Some("orders".into()));
        let cmd = text(&Connection::new(&target, &[]), Format::Cmd).unwrap();
        assert!(cmd.starts_with("set PGSERVICE=\nset PGHOSTADDR=\n"), "{cmd}");
        let url = "set \"DATABASE_URL=postgresql://app@localhost:5432/orders?sslmode=disable\"\n";
        assert!(cmd.ends_with(url), "{cmd}");
    }

    #[test]
    fn mysql_has_its_own_variables() {
        let target = target(Engine::Mysql, Some("app"), Some("shop"), "3306");
        assert_eq!(
            text(&Connection::new(&target, &[]), Format::Sh).unwrap(),
            "export MYSQL_HOST=127.0.0.1\nexport MYSQL_TCP_PORT=3306\nexport DATABASE_URL=mysql://app@127.0.0.1:3306/shop\n"
        );
    }
}
