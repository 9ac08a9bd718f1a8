//! `rdsgate stop`: end a running `rdsgate up` of this user.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Args;

use super::{
    exit::Exit,
    output::{self, Output},
    progress::Progress,
    running::{self, Record, Wanted},
};

/// The interval between two checks whether it has ended.
const PAUSE: Duration = Duration::from_millis(50);

/// Stop a running rdsgate up
///
/// Sends SIGTERM to the processes of this user that serve the targets, and waits until they have ended: busy connections have
/// their --max-sigterm-delay. A name that the configuration here has means the target of that file.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Targets whose process is stopped, with everything it serves [default: the only running process]
    #[arg(value_name = "TARGET", conflicts_with = "all")]
    targets: Vec<String>,
    /// Stop all of them
    #[arg(long)]
    all: bool,
    /// Longest time to wait until they have ended
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
    #[error("no rdsgate up of this user serves {target} of {}; process {pid} serves {other}", file.display())]
    Another { target: String, file: PathBuf, pid: u32, other: String },
    #[error("several rdsgate up serve a target called {name}: {several}")]
    Ambiguous { name: String, several: String },
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
            Self::Another { .. } | Self::Ambiguous { .. } => {
                Some("stop it in the folder of its own file, or use --all")
            }
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
            // It has ended by itself in the meantime.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => {
                exit = Exit::Failure;
                output.error(&Error::Signal { pid: record.pid, source }, None);
            }
        }
    }
    let deadline = Instant::now() + arguments.timeout;
    let _watch = output::answer_interrupt("interrupted; the processes go on to their end");
    for record in signalled {
        let progress = Progress::start(format!("waiting for {}", record.describe()));
        while record.is_alive() && Instant::now() < deadline {
            std::thread::sleep(PAUSE);
        }
        drop(progress);
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
    if arguments.targets.is_empty() {
        return match running.as_slice() {
            [] => Err(Error::None),
            [_, _, ..] if !arguments.all => {
                Err(Error::Several(running.iter().map(Record::describe).collect::<Vec<_>>().join("; ")))
            }
            _ => Ok(running),
        };
    }
    let mut chosen: Vec<Record> = Vec::new();
    for name in &arguments.targets {
        for record in of_name(&Wanted::of(name), &running)? {
            if !chosen.iter().any(|other| other.pid == record.pid) {
                chosen.push(record);
            }
        }
    }
    Ok(chosen)
}

/// The processes that serve a target.
fn of_name(wanted: &Wanted, running: &[Record]) -> Result<Vec<Record>, Error> {
    let serving = |record: &Record| record.targets.iter().find(|serving| wanted.is(serving)).cloned();
    let found: Vec<_> = running.iter().filter_map(|record| Some((record, serving(record)?))).collect();
    let name = wanted.name.clone();
    let [(_, first), more @ ..] = found.as_slice() else {
        let namesakes = running.iter().flat_map(|record| record.targets.iter().map(move |serving| (record, serving)));
        let other = namesakes.into_iter().find(|(_, serving)| serving.name == name);
        return Err(match (other, &wanted.file) {
            (Some((record, serving)), Some(file)) => {
                Error::Another { target: name, file: file.clone(), pid: record.pid, other: serving.describe() }
            }
            _ => Error::NotServed(name),
        });
    };
    if wanted.file.is_none() && more.iter().any(|(_, serving)| serving.describe() != first.describe()) {
        let several = found.iter().map(|(record, serving)| format!("process {}, {}", record.pid, serving.describe()));
        return Err(Error::Ambiguous { name, several: several.collect::<Vec<_>>().join("; ") });
    }
    Ok(found.into_iter().map(|(record, _)| record.clone()).collect())
}
