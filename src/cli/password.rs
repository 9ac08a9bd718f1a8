//! `rdsgate password`: the local password of listeners, its file, and how clients get it.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{exit::Exit, output::Output, target_arguments::TargetArguments};
use crate::{
    config::Environment,
    local_password::{self, Error},
    quote,
    target::Reference,
};

/// Make the local password of a listener, or show where it is
///
/// Clients of a target with local_password_file must know this password, which is rdsgate's own: the database never sees it. The
/// command makes the file, which only you can read, with 32 random characters, or finds the one that is there, and prints its path.
/// The password itself is printed with --show only.
#[derive(Debug, Args)]
#[command(after_help = EPILOG)]
pub struct Arguments {
    /// A name in the configuration files; without one, the password is for all targets
    #[arg(value_name = "TARGET", conflicts_with = "file")]
    target: Option<String>,
    /// The file, in place of the configured one
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// Replace the password with a new one
    #[arg(long)]
    renew: bool,
    /// Print the password, and nothing else
    #[arg(long)]
    show: bool,
    /// Configuration file to read instead of .rdsgate.toml and ~/.config/rdsgate/config.toml
    #[arg(long, value_name = "FILE", requires = "target")]
    config: Option<PathBuf>,
}

pub(super) const EPILOG: &str = "\
Without TARGET and --file it is ~/.config/rdsgate/local-password.

Examples:
  rdsgate password orders
  PGPASSWORD=$(rdsgate password orders --show) psql -h localhost -U app_user
  rdsgate password orders --renew
";

/// The file of a local password.
struct Place {
    path: PathBuf,
    /// The table that names it, if none does yet.
    missing_in: Option<String>,
}

/// Runs the subcommand.
pub fn run(arguments: Arguments, output: &mut Output) -> Exit {
    let Arguments { target, file, renew, show, config } = arguments;
    let options = config.as_deref().map(TargetArguments::of_file).unwrap_or_default();
    let shown = match (&target, &file) {
        (Some(target), _) => format!(" {}", quote::shell(target)),
        (None, Some(file)) => format!(" --file {}", quote::shell(&file.display().to_string())),
        (None, None) => String::new(),
    };
    let place = match (file, target) {
        (Some(path), _) => Place { path, missing_in: None },
        (None, None) => match own_file("local-password", output) {
            Ok(path) => Place { path, missing_in: Some("[defaults]".into()) },
            Err(exit) => return exit,
        },
        (None, Some(target)) => match of_target(options, &target, output) {
            Ok(place) => place,
            Err(exit) => return exit,
        },
    };
    match make(&place.path, renew) {
        Ok(password) if show => return output.print(&format!("{}\n", password.expose())),
        Ok(_) => {}
        Err(error) => {
            output.error(&error, error.hint().as_deref());
            return Exit::Usage;
        }
    }
    let exit = output.data(&format!("{}\n", place.path.display()));
    if renew {
        output.note("the password is new: a running rdsgate takes it from the next client on, and the old one no more");
    }
    if let Some(table) = place.missing_in {
        output.note_to_copy(&format!(
            "put this into {table} of your own configuration: local_password_file = {:?}",
            place.path.display().to_string()
        ));
    }
    output.note_to_copy(&format!("clients take it as PGPASSWORD or MYSQL_PWD: $(rdsgate password{shown} --show)"));
    exit
}

/// Makes the file where there is none, and reads it.
fn make(path: &Path, renew: bool) -> Result<safe_display::Secret<String>, Error> {
    if renew || path.symlink_metadata().is_err() {
        local_password::create(path, renew)?;
    }
    local_password::read(path)
}

fn of_target(options: TargetArguments, target: &str, output: &mut Output) -> Result<Place, Exit> {
    let plan = options.plan(vec![target.to_owned()], output)?;
    let Some(draft) = plan.drafts.first() else { return Err(Exit::Usage) };
    if let Reference::Identifier(name) = &draft.reference {
        let error = plan.unknown(name);
        output.error(&error, error.hint().as_deref());
        return Err(Exit::Usage);
    }
    Ok(match draft.local_password_file() {
        Some(path) => Place { path: path.to_owned(), missing_in: None },
        None => Place {
            path: own_file(&format!("{target}.local-password"), output)?,
            missing_in: Some(format!("[targets.{target}]")),
        },
    })
}

/// A file in the folder of the user's own configuration.
fn own_file(name: &str, output: &mut Output) -> Result<PathBuf, Exit> {
    let folder = Environment::of_process().map(|environment| environment.own_folder());
    match folder {
        Ok(Some(folder)) => Ok(folder.join(name)),
        Ok(None) => {
            output.problem("there is no folder for your own configuration", Some("name the file: --file PATH"));
            Err(Exit::Usage)
        }
        Err(error) => {
            output.error(&error, error.hint().as_deref());
            Err(Exit::Usage)
        }
    }
}
