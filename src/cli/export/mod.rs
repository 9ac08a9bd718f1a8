//! `rdsgate export`: targets in the words of other programs' own settings.

mod databases;

use clap::{Args, ValueEnum};

use super::{
    complete::Ready,
    exit::Exit,
    output::Output,
    running::{self, ServedForAnother},
    target_arguments::TargetArguments,
};
use crate::{
    local_connection::{Connection, Unwritable, ide},
    target::{Engine, Target},
};

/// Print targets as settings of another program
///
/// With the configured local ports, which stay the same from run to run. No password is in them: none is needed.
#[derive(Debug, Args)]
#[command(after_help = EPILOG)]
pub struct Arguments {
    /// Program that reads the settings
    #[arg(value_name = "FORMAT")]
    format: Format,
    /// Names in the configuration files, or endpoints (HOST[:PORT]) [default: every target of the files]
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    #[command(flatten)]
    options: TargetArguments,
}

pub(super) const EPILOG: &str = "\
Examples:
  rdsgate export pgservice >> ~/.pg_service.conf
      then: psql service=orders
  rdsgate export mycnf >> ~/.my.cnf
      then: mysql --defaults-group-suffix=_shop
  rdsgate export datagrip
      copy it, then: New | Import from Clipboard
  rdsgate export pgadmin > servers.json
      then: Tools | Import/Export Servers
";

/// A program that reads the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// DataGrip and other JetBrains IDEs: data sources for the clipboard
    Datagrip,
    /// DBeaver: data-sources.json
    Dbeaver,
    /// libpq: pg_service.conf
    Pgservice,
    /// MySQL's and MariaDB's programs: groups of my.cnf
    Mycnf,
    /// VS Code with SQLTools: settings.json
    Vscode,
    /// VS Code with Microsoft's extension for PostgreSQL: settings.json
    VscodePgsql,
    /// pgAdmin: the file for Tools | Import/Export Servers
    Pgadmin,
    /// MySQL Workbench: connections.xml
    Workbench,
    /// TablePlus: a URL for each target
    Tableplus,
}

impl Format {
    /// The engine that the program is for, if it is for one only.
    fn engine(self) -> Option<Engine> {
        match self {
            Self::Pgservice | Self::VscodePgsql | Self::Pgadmin => Some(Engine::Postgres),
            Self::Mycnf | Self::Workbench => Some(Engine::Mysql),
            Self::Datagrip | Self::Dbeaver | Self::Vscode | Self::Tableplus => None,
        }
    }

    /// Whether its settings have words for a unix socket.
    fn has_sockets(self) -> bool {
        match self {
            Self::Pgservice | Self::Mycnf => true,
            Self::Datagrip
            | Self::Dbeaver
            | Self::Vscode
            | Self::VscodePgsql
            | Self::Pgadmin
            | Self::Workbench
            | Self::Tableplus => false,
        }
    }
}

/// Why a target cannot be exported.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{0} listens on a port that is not known before it runs")]
    AnyPort(String),
    #[error("no target is of the engine {0}")]
    NoTarget(Engine),
    #[error("target {0} has no user, which pgAdmin requires")]
    NoUser(String),
    #[error("no target is a database, which these settings are for")]
    NoDatabase,
    #[error(transparent)]
    Unwritable(#[from] Unwritable),
}

/// Runs the subcommand.
pub fn run(arguments: Arguments, output: &mut Output) -> Exit {
    let Arguments { format, targets, options } = arguments;
    let named = !targets.is_empty();
    let Ready { config, files, caller, complete } = match options.without_bastion().load_without_trust(targets, output)
    {
        Ok(ready) => ready,
        Err(exit) => return exit,
    };
    caller.end();
    for target in &config.targets {
        if let Err(error) = running::address_of(target, &files) {
            output.error(&error, Some(ServedForAnother::HINT));
            return Exit::Failure;
        }
    }
    match text(format, &config.targets, named) {
        Ok((text, skipped)) => {
            for name in skipped {
                output.warning(&format!("{name} is left out: its engine is another one"), None);
            }
            output.print(&text).or(complete)
        }
        Err(error) => {
            let hint = match &error {
                Error::AnyPort(_) => Some("give it one with the key listen"),
                Error::NoUser(_) => Some("give it one with the key user"),
                Error::Unwritable(error) => error.hint(),
                Error::NoTarget(_) | Error::NoDatabase => None,
            };
            output.error(&error, hint);
            Exit::Usage
        }
    }
}

/// The settings, and the names of targets that the program has no use for.
fn text(format: Format, targets: &[Target], named: bool) -> Result<(String, Vec<String>), Error> {
    let fits = |target: &&Target| format.engine().map_or(target.engine.is_database(), |engine| target.engine == engine);
    let (chosen, others): (Vec<_>, Vec<_>) = targets.iter().partition(fits);
    match format.engine() {
        Some(engine) if chosen.is_empty() => return Err(Error::NoTarget(engine)),
        None if chosen.is_empty() && !others.is_empty() => return Err(Error::NoDatabase),
        _ => {}
    }
    if let Some(target) = chosen.iter().find(|target| format == Format::Pgadmin && target.user.is_none()) {
        return Err(Error::NoUser(target.name.to_string()));
    }
    let connections = chosen.into_iter().map(|target| match Connection::new(target, &[]) {
        connection if format.has_sockets() => Ok(connection),
        connection => connection.by_tcp("a setting of this program"),
    });
    let connections: Vec<_> = connections.collect::<Result<_, _>>()?;
    if let Some(connection) = connections.iter().find(|connection| connection.is_any_port()) {
        return Err(Error::AnyPort(connection.target.name.to_string()));
    }
    connections.iter().try_for_each(|connection| connection.must_be_printable("a setting of another program"))?;
    let text = match format {
        Format::Datagrip => ide::datagrip(&connections),
        Format::Dbeaver => ide::dbeaver(&connections),
        Format::Vscode => ide::vscode(&connections),
        Format::Tableplus => ide::tableplus(&connections),
        Format::VscodePgsql => ide::vscode_pgsql(&connections),
        Format::Pgadmin => ide::pgadmin(&connections),
        Format::Workbench => ide::workbench(&connections),
        Format::Pgservice => databases::pgservice(&connections)?,
        Format::Mycnf => databases::mycnf(&connections),
    };
    // Those that were asked for by name are missed.
    let skipped = others.into_iter().filter(|_| named).map(|target| target.name.to_string());
    Ok((text, skipped.collect()))
}

#[cfg(test)]
mod tests;
