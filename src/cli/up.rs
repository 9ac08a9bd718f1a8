//! `rdsgate up`: serve databases on localhost until a signal.

use clap::Args;
use tracing::debug;

use super::{
    caller::Parts,
    complete::Ready,
    confirm::ConfirmArguments,
    exit::Exit,
    output::Output,
    progress::{self, Progress},
    reload::{ReloadArguments, Reread},
    running,
    target_arguments::TargetArguments,
    terminal,
};
use crate::{
    app::{self, Event, Passed, Process, Wait},
    telemetry::log,
};

/// Serve databases on localhost
///
/// Without TARGET every target of the configuration files is served. The psql command and the URL of each go to stdout.
#[derive(Debug, Args)]
#[command(after_help = EPILOG)]
pub struct Arguments {
    /// Names in the configuration files, or identifiers, ARNs or endpoints (HOST[:PORT])
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    #[command(flatten)]
    serving: ServingArguments,
    #[command(flatten)]
    reload: ReloadArguments,
}

/// How targets are served; a subcommand flattens them.
#[derive(Debug, Args)]
pub(super) struct ServingArguments {
    #[command(flatten)]
    pub(super) options: TargetArguments,
    #[command(flatten)]
    pub(super) confirm: ConfirmArguments,
}

pub(super) const EPILOG: &str = "\
Each option is also a variable (--ca-file: RDSGATE_CA_FILE) and a key of the
configuration files (ca_file). Flags win over variables, variables over
.rdsgate.toml in this folder or above, and that over
~/.config/rdsgate/config.toml.

Examples:
  rdsgate up orders.c1abcdefghij.eu-central-1.rds.amazonaws.com \\
      --bastion i-0123456789abcdef0 --user app_user
  rdsgate up my-cluster --user app_user     missing values are looked up
  rdsgate up orders billing --profile dev
  rdsgate up orders --listen 6543
";

/// Runs the subcommand to its end.
pub fn run(arguments: Arguments, passed: Passed, output: &mut Output) -> Exit {
    let Arguments { targets, serving, reload } = arguments;
    serve("up", (targets, passed), serving, &reload, output)
}

/// Serves targets until a signal, as the subcommand `name`; those whose address a `passed` socket has, by that.
pub(super) fn serve(
    name: &'static str,
    (targets, passed): (Vec<String>, Passed),
    ServingArguments { options, confirm }: ServingArguments,
    reload: &ReloadArguments,
    output: &mut Output,
) -> Exit {
    let request = options.request(targets);
    let Ready { config, files, caller, complete } = match TargetArguments::load_request(&request, output) {
        Ok(ready) => ready,
        Err(exit) => return exit,
    };
    // A target that could not be completed is not in the configuration, and its socket waits for a reload.
    let listeners: Vec<_> = config.targets.iter().map(|target| (&*target.name, &*target.listen)).collect();
    if let (Exit::Success, Err(error)) = (complete, passed.check(&listeners)) {
        output.error(&error, Some(error.hint()));
        return Exit::Usage;
    }
    if let Err(exit) = confirm.ask(&config.targets, output) {
        return exit;
    }
    let mut parts = match caller.into_parts(output) {
        Ok(parts) => parts,
        Err(exit) => return exit,
    };
    let mut record = None;
    let process = Process { shows_waits: progress::is_possible(), ..running::process(name) };
    let mut waiting: Option<Progress> = None;
    let Parts { runtime, accounts, person } = &mut parts;
    let reread = Reread::new(request, accounts, files, confirm.is_given());
    let files = reread.files();
    let reloading = reread.reloading(reload);
    let config = (config, passed);
    let result = runtime.block_on(app::run(config, accounts, &mut person.prompts, &process, reloading, |event| {
        // Before the process reports that it is ready.
        match &event {
            Event::Ready { served, .. } => match running::announce(served, &files.get()) {
                Ok(own) => record = Some(own),
                Err(error) => debug!(%error, "other commands will not know of this process"),
            },
            Event::Reloaded { served } => {
                let updated = record.as_mut().map_or(Ok(()), |own| own.update(served, &files.get()));
                if let Err(error) = updated {
                    debug!(%error, "other commands do not know of the new targets");
                }
            }
            Event::Stopping => {
                if let Some(own) = &mut record {
                    own.stopping();
                }
                waiting = Some(Progress::start("ending connections and SSM sessions"));
                // The log says it too, where it has that level.
                if log::on_terminal() && !tracing::enabled!(tracing::Level::INFO) {
                    output.note("stopping");
                }
            }
            Event::Waiting { wait } => {
                let text = |wait: &Wait| format!("{}: {}", wait.target, wait.stage.as_str());
                match (wait.as_ref().map(text), &waiting) {
                    (Some(text), Some(progress)) => progress.stage(text),
                    (Some(text), None) => waiting = Some(Progress::start(text)),
                    (None, _) => waiting = None,
                }
            }
            Event::Prompt { .. } => waiting = None,
            _ => {}
        }
        output.event(&event);
        terminal::act(&event, &person.answers);
    }));
    drop(record);
    parts.end();
    match result {
        Ok(ended) => ended.failed.map_or(complete, Exit::from).or(ended.stopped.into()),
        Err(error) => {
            output.error(&error, error.hint().as_deref());
            error.cause().into()
        }
    }
}
