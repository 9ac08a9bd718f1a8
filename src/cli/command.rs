//! A program that runs beside a proxy of its own: `run`, `psql` and `mysql`.
//!
//! ```text
//!   load ─▶ listen ─▶ open the way to the database ─▶ the program ─▶ end the session ─▶ the program's status
//! ```
//!
//! The way is open before the program starts, so that no timeout of its own meets a tunnel that is still opening, and what
//! is wrong with it is said in our words. The program is in our process group and has the terminal as we have it. What the
//! terminal sends (Ctrl-C) has reached it already; what somebody sends to us is passed on.

use std::{
    ffi::OsStr,
    io,
    time::{Duration, Instant},
};

use clap::Args;
use tokio::process::{Child, Command};
use tracing::debug;

use super::{
    caller::{Parts, Person},
    complete::Ready,
    exit::Exit,
    output::{INTERRUPTED, Output},
    progress::Progress,
    running,
    signals::Signals,
    up::ServingArguments,
};
use crate::{
    app::{Cause, Endpoints, Event, Passed, Running},
    local_connection::Connection,
    local_password,
    platform::{limits, process, signals::Signal},
    target::Target,
    telemetry::{log, metrics::Metrics},
};

/// A program has just closed its connections; what is left of them is on its way.
const CHILD_DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// A program that runs beside a proxy.
pub(super) trait Program {
    /// The subcommand.
    fn name(&self) -> &'static str;
    /// Whether it can be used with this target at all; says why not.
    fn check(&self, target: &Target, output: &mut Output) -> Result<(), Exit>;
    /// The command, with its environment still to be set.
    fn command(&self, connection: &Connection<'_>) -> Command;
}

/// The arguments of the proxy; a subcommand flattens them.
#[derive(Debug, Args)]
pub(super) struct ProxyArguments {
    /// A name in the configuration files, or an endpoint (HOST[:PORT])
    #[arg(value_name = "TARGET")]
    target: String,
    #[command(flatten)]
    serving: ServingArguments,
}

/// Serves one target for as long as a program runs.
pub(super) fn run(program: &impl Program, arguments: ProxyArguments, output: &mut Output) -> Exit {
    let ProxyArguments { target, serving: ServingArguments { options, confirm } } = arguments;
    let is_private = !options.has_address();
    let Ready { mut config, caller, .. } = match options.or_any_port().load(vec![target], output) {
        Ok(ready) => ready,
        Err(exit) => return exit,
    };
    if is_private {
        // The program is the only client, and not every program takes a password from its environment.
        config.targets.iter_mut().for_each(|target| target.local_password_file = None);
    }
    if let Some(Err(exit)) = config.targets.first().map(|target| program.check(target, output)) {
        return exit;
    }
    if let Err(exit) = confirm.ask(&config.targets, output) {
        return exit;
    }
    let Parts { runtime, accounts, person } = match caller.into_parts(output) {
        Ok(parts) => parts,
        Err(exit) => return exit,
    };
    let exit = runtime.block_on(async {
        // Before anything is bound, so that no signal finds us unprepared.
        let mut signals = match Signals::new() {
            Ok(signals) => signals,
            Err(error) => {
                output.error(&error, None);
                return Exit::Failure;
            }
        };
        let events = |event: Event<'_>| {
            if let Event::Failed { error } = event {
                output.error(error, error.hint().as_deref());
            }
        };
        let metrics = Metrics::default();
        let endpoints = match Endpoints::start(None, &running::process(program.name()), &metrics).await {
            Ok(endpoints) => endpoints,
            Err(error) => {
                output.error(&error, None);
                return Exit::Failure;
            }
        };
        let running = match Running::start((config, Passed::default()), &accounts, &metrics, events).await {
            Ok(running) => running,
            Err(error) => {
                output.error(&error, error.hint().as_deref());
                return error.cause().into();
            }
        };
        endpoints.ready(&running);
        let exit = beside(&running, program, person, &mut signals, output).await;
        endpoints.draining();
        let _progress = Progress::start("ending the connections and the SSM session");
        running.stop(CHILD_DRAIN_TIMEOUT, async || _ = signals.next().await, |event| output.event(&event)).await;
        endpoints.stop().await;
        exit
    });
    // A name lookup may still be under way in a thread that cannot be stopped; it must not hold up the exit.
    runtime.shutdown_background();
    exit
}

async fn beside(
    running: &Running,
    program: &impl Program,
    mut person: Person,
    signals: &mut Signals,
    output: &mut Output,
) -> Exit {
    let Some(served) = running.served().first() else { return Exit::Failure };
    let since = Instant::now();
    let reached = tokio::select! {
        reached = person.during(|| served.stage(since).as_str(), output, Box::pin(served.reach())) => Ok(reached),
        signal = signals.next() => Err(signal),
    };
    match reached {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            output.unreachable(&served.target, &error);
            return Cause::from(&error).into();
        }
        Err(signal) => {
            if log::on_terminal() {
                output.interrupted(INTERRUPTED);
            }
            return Exit::Signalled(signal);
        }
    }
    // From here on the terminal is the program's.
    drop(person);
    let connection = Connection::new(&served.target, &served.bound);
    let mut command = program.command(&connection);
    for name in connection.misleading() {
        command.env_remove(name);
    }
    command.envs(connection.variables());
    if let (Some(name), Some(file)) = (connection.password_variable(), &served.target.local_password_file) {
        match local_password::read(file) {
            Ok(password) => _ = command.env(name, password.expose()),
            Err(error) => {
                output.error(&error, error.hint().as_deref());
                return Exit::Usage;
            }
        }
    }
    output.settle();
    // With the limits that we were started with.
    let mut child = match limits::as_at_start(|| command.spawn()) {
        Ok(child) => child,
        Err(error) => return cannot_start(command.as_std().get_program(), &error, output),
    };
    loop {
        tokio::select! {
            ended = child.wait() => return match ended {
                Ok(status) => Exit::Program(process::exit_code(status)),
                Err(error) => {
                    output.error(&error, None);
                    Exit::Failure
                }
            },
            signal = signals.next() => if !signal.is_from_terminal() {
                forward(&child, signal);
            },
        }
    }
}

/// As a shell says it: 127 when it is not there, 126 when it may not be run.
fn cannot_start(program: &OsStr, error: &io::Error, output: &mut Output) -> Exit {
    let name = program.to_string_lossy();
    let (code, hint) = match error.kind() {
        io::ErrorKind::NotFound => (127, Some(format!("install {name}, or add its folder to PATH"))),
        _ => (126, None),
    };
    output.error(&CannotRun { program: name.into_owned(), cause: error.to_string() }, hint.as_deref());
    Exit::Program(code)
}

#[derive(Debug, thiserror::Error)]
#[error("cannot run {program}: {cause}")]
struct CannotRun {
    program: String,
    cause: String,
}

fn forward(child: &Child, signal: Signal) {
    if let Some(pid) = child.id() {
        let passed = signal.send(pid);
        debug!(?signal, ?passed, "a signal was passed on");
    }
}
