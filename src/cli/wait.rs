//! `rdsgate wait`: until a running `rdsgate up` serves a target.

use std::time::{Duration, Instant};

use clap::Args;

use super::{
    exit::Exit,
    output::{self, INTERRUPTED, Output},
    progress::Progress,
    running::{self, Record, Wanted},
};
use crate::config::value;

/// The interval between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Wait until a running rdsgate up serves a target
///
/// Ready means that the local listener accepts clients; whether the database does is shown by the first connection. A name
/// that the configuration here has means the target of that file.
#[derive(Debug, Args)]
#[command(after_help = EPILOG)]
pub struct Arguments {
    /// The target's name, as rdsgate up shows it
    #[arg(value_name = "TARGET")]
    target: String,
    /// Longest time to wait
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
    timeout: Duration,
}

pub(super) const EPILOG: &str = "\
Examples:
  rdsgate up orders & rdsgate wait orders && alembic upgrade head
";

/// The target was not served in time.
#[derive(Debug, thiserror::Error)]
#[error("{target} is not served within {after:?}: {reason}")]
struct NotReady {
    target: String,
    after: Duration,
    reason: String,
}

/// Runs the subcommand.
pub fn run(arguments: &Arguments, output: &mut Output) -> Exit {
    let deadline = Instant::now() + arguments.timeout;
    let _watch = output::answer_interrupt(INTERRUPTED);
    let wanted = Wanted::of(&arguments.target);
    let _progress = Progress::start(format!("waiting for {}", arguments.target));
    loop {
        // A process writes its record when its listeners are bound, and says there when it closes them: nothing has to connect,
        // of which its log would tell.
        let running = running::all();
        let Some(reason) = missing(&wanted, &running) else { return Exit::Success };
        if Instant::now() >= deadline {
            let error = NotReady { target: arguments.target.clone(), after: arguments.timeout, reason };
            output.error(&error, Some("start it with rdsgate up, and look at what that says"));
            return Exit::Failure;
        }
        std::thread::sleep(PAUSE.min(deadline.saturating_duration_since(Instant::now())));
    }
}

/// Why a target is not served; `None` when it is.
fn missing(wanted: &Wanted, running: &[Record]) -> Option<String> {
    let serving = running.iter().filter(|record| !record.stopping);
    let mut targets = serving.flat_map(|record| record.targets.iter().map(move |serving| (record, serving)));
    if targets.clone().any(|(_, serving)| wanted.is(serving) && wanted.is_host(serving)) {
        return None;
    }
    let other = targets.find(|(_, serving)| serving.name == wanted.name);
    Some(match other {
        Some((record, serving)) => format!("process {} serves another one, {}", record.pid, serving.describe()),
        None => "no rdsgate up of this user serves it".into(),
    })
}

/// A length of time on the command line.
pub(super) fn time(text: &str) -> Result<Duration, value::ValueError> {
    value::duration(text, Duration::ZERO..=Duration::from_hours(24))
}
