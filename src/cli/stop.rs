//! `rdsgate stop`: end a running `rdsgate up` of this user.

use std::time::{Duration, Instant};

use clap::Args;

use super::{
    exit::Exit,
    output::Output,
    running::{self, Record},
};

/// How often to look whether it has ended.
const PAUSE: Duration = Duration::from_millis(50);

/// Stop a running rdsgate up
///
/// Sends SIGTERM to the processes of this user that serve the targets, and waits until they have ended: busy connections have
/// their --max-sigterm-delay.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Targets whose process is to end, with all that it serves [default: the only process that runs]
    #[arg(value_name = "TARGET", conflicts_with = "all")]
    targets: Vec<String>,
    /// Stop every one
    #[arg(long)]
    all: bool,
    /// Longest time to wait for the end
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = super::wait::time)]
    timeout: Duration,
}

/// Why nothing was stopped.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("no rdsgate up of this user is running")]
    None,
    #[error("no rdsgate up of this user serves {0}")]
    NotServed(String),
    #[error("several rdsgate up are running: {0}")]
    Several(String),
    #[error("cannot signal process {pid}")]
    Signal { pid: u32, source: std::io::Error },
    #[error("process {pid} has not ended within {after:?}")]
    Lives { pid: u32, after: Duration },
}

impl Error {
    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Several(_) => Some("name a target of the one to stop, or use --all"),
            Self::Lives { .. } => Some("connections are busy; stop it again to cut them"),
            Self::None | Self::NotServed(_) | Self::Signal { .. } => None,
        }
    }
}

/// Runs the subcommand.
pub fn run(arguments: &Arguments, output: &mut Output) -> Exit {
    let chosen = match choose(arguments, running::all()) {
        Ok(chosen) => chosen,
        Err(error) => {
            output.error(&error, error.hint());
            return Exit::Failure;
        }
    };
    let mut exit = Exit::Success;
    let mut signalled = Vec::new();
    for record in chosen {
        match record.terminate() {
            Ok(()) => signalled.push(record),
            Err(source) => {
                exit = Exit::Failure;
                output.error(&Error::Signal { pid: record.pid, source }, None);
            }
        }
    }
    let deadline = Instant::now() + arguments.timeout;
    for record in signalled {
        while record.is_alive() && Instant::now() < deadline {
            std::thread::sleep(PAUSE);
        }
        if record.is_alive() {
            exit = Exit::Failure;
            let error = Error::Lives { pid: record.pid, after: arguments.timeout };
            output.error(&error, error.hint());
        } else {
            output.note(&format!("stopped {}", record.describe()));
        }
    }
    exit
}

fn choose(arguments: &Arguments, running: Vec<Record>) -> Result<Vec<Record>, Error> {
    let serves = |record: &Record, name: &str| record.targets.iter().any(|serving| serving.name == name);
    if let Some(missing) =
        arguments.targets.iter().find(|name| !running.iter().any(|record| serves(record, name.as_str())))
    {
        return Err(Error::NotServed(missing.clone()));
    }
    let named = |record: &Record| arguments.targets.iter().any(|name| serves(record, name));
    match running.as_slice() {
        [] => Err(Error::None),
        [_] => Ok(running),
        _ if arguments.all => Ok(running),
        several if arguments.targets.is_empty() => {
            Err(Error::Several(several.iter().map(Record::describe).collect::<Vec<_>>().join("; ")))
        }
        _ => Ok(running.into_iter().filter(named).collect()),
    }
}
