//! `rdsgate service`: `rdsgate up` as a service of the user, which the system starts at each login and restarts after a failure.

mod launchd;
mod plan;
mod systemd;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use clap::{Args, Subcommand};

use self::plan::{Job, MARK, Service};
use super::{exit::Exit, output::Output};
use crate::quote;

/// Run rdsgate up as a service of your user
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Write the service and start it
    ///
    /// A unit of systemd, $XDG_CONFIG_HOME/systemd/user/rdsgate.service, or an agent of launchd on macOS. It runs rdsgate up with
    /// these arguments in this folder, and again after each login and each failure.
    #[command(after_help = INSTALL_EPILOG)]
    Install {
        /// Targets and options of rdsgate up
        #[arg(value_name = "ARG", trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Stop the service and remove it
    Remove,
    /// Show the service
    Status,
}

const INSTALL_EPILOG: &str = "\
A service has neither your shell's variables nor a terminal: name the profile
with --profile or in the configuration, and log in with rdsgate login.

Examples:
  rdsgate service install
  rdsgate service install orders --profile dev --admin 9090
";

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the home folder is unknown")]
    NoHome(#[source] etcetera::HomeDirError),
    #[error("rdsgate cannot write a service of Windows yet")]
    NoServices,
    #[error("cannot find out {what}")]
    Unknown { what: &'static str, source: io::Error },
    #[error("{} was not written by rdsgate", .0.display())]
    NotOurs(PathBuf),
    #[error("there is no service: {} is missing", .0.display())]
    Missing(PathBuf),
    #[error("cannot change {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{command} failed ({status})")]
    Failed { command: String, status: String },
}

impl Error {
    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotOurs(_) => Some("move it away, or manage the service by hand"),
            Self::Missing(_) => Some("rdsgate service install writes it"),
            Self::NoHome(_) => Some("set HOME"),
            Self::NoServices => Some("let the Task Scheduler run rdsgate up at log on"),
            Self::Failed { .. } => Some("see its output above; the file stays as it is"),
            Self::Unknown { .. } | Self::File { .. } => None,
        }
    }
}

/// Runs the subcommand. `commands` is the command line of rdsgate.
pub fn run(arguments: Arguments, commands: clap::Command, output: &mut Output) -> Exit {
    let done = match arguments.act {
        Act::Install { arguments } => {
            // A mistake is worth a word now, not in the journal.
            let words = ["rdsgate", "up"].into_iter().chain(arguments.iter().map(String::as_str));
            if let Err(error) = commands.try_get_matches_from(words) {
                return output.usage(&error);
            }
            install(arguments, output)
        }
        Act::Remove => remove(output),
        Act::Status => status(output),
    };
    done.unwrap_or_else(|error| {
        output.error(&error, error.hint());
        Exit::Failure
    })
}

fn service() -> Result<Service, Error> {
    if cfg!(windows) {
        return Err(Error::NoServices);
    }
    if cfg!(target_os = "macos") {
        return etcetera::home_dir().map(|home| launchd::service(&home)).map_err(Error::NoHome);
    }
    let strategy = etcetera::choose_base_strategy().map_err(Error::NoHome)?;
    Ok(systemd::service(&etcetera::BaseStrategy::config_dir(&strategy)))
}

fn install(arguments: Vec<String>, output: &mut Output) -> Result<Exit, Error> {
    let service = service()?;
    let unknown = |what| move |source| Error::Unknown { what, source };
    let job = Job {
        program: std::env::current_exe().map_err(unknown("the path of rdsgate"))?,
        arguments: ["up", "--reload-on-hup"].into_iter().map(str::to_owned).chain(arguments).collect(),
        folder: std::env::current_dir().map_err(unknown("the working directory"))?,
        log: etcetera::home_dir().map_err(Error::NoHome)?.join("Library/Logs/rdsgate.log"),
    };
    must_be_ours(&service.path)?;
    write(&service.path, &(service.write)(&job)).map_err(|source| file(&service.path, source))?;
    output.note(&format!("wrote {}", service.path.display()));
    all(&service.start, output)
}

fn remove(output: &mut Output) -> Result<Exit, Error> {
    let service = service()?;
    if !service.path.exists() {
        return Err(Error::Missing(service.path));
    }
    must_be_ours(&service.path)?;
    all(&service.stop, output)?;
    fs::remove_file(&service.path).map_err(|source| file(&service.path, source))?;
    output.note(&format!("removed {}", service.path.display()));
    all(&service.forget, output)
}

fn status(output: &mut Output) -> Result<Exit, Error> {
    let service = service()?;
    if !service.path.exists() {
        return Err(Error::Missing(service.path));
    }
    output.note(&format!("the service is {}", service.path.display()));
    match execute(&service.show, output)? {
        // systemctl says so for a service that does not run.
        Some(code) if code != 0 => Ok(Exit::Failure),
        _ => Ok(Exit::Success),
    }
}

fn file(path: &Path, source: io::Error) -> Error {
    Error::File { path: path.to_owned(), source }
}

fn must_be_ours(path: &Path) -> Result<(), Error> {
    match fs::read_to_string(path) {
        Ok(text) if text.contains(MARK) => Ok(()),
        Ok(_) => Err(Error::NotOurs(path.to_owned())),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(file(path, source)),
    }
}

/// Whole or not at all.
fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(&new, path)
}

/// Runs the commands one after the other.
fn all(commands: &[Vec<String>], output: &mut Output) -> Result<Exit, Error> {
    for command in commands {
        if let Some(code) = execute(command, output)?.filter(|code| *code != 0) {
            let status = format!("status {code}");
            return Err(Error::Failed { command: command.join(" "), status });
        }
    }
    Ok(Exit::Success)
}

/// Runs a command, and returns its status; `None` where its program is missing: then it is printed, to be run elsewhere.
fn execute(command: &[String], output: &mut Output) -> Result<Option<i32>, Error> {
    let Some((program, arguments)) = command.split_first() else { return Ok(None) };
    output.settle();
    match Command::new(program).args(arguments).status() {
        Ok(status) => match status.code() {
            Some(code) => Ok(Some(code)),
            None => Err(Error::Failed { command: command.join(" "), status: status.to_string() }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let words: Vec<String> = command.iter().map(|word| quote::shell(word).into_owned()).collect();
            output.data(&format!("{}\n", words.join(" ")));
            Ok(None)
        }
        Err(error) => Err(Error::Failed { command: command.join(" "), status: error.to_string() }),
    }
}
