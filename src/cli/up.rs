//! `rdsgate up`: serve databases on localhost until a signal.

use clap::Args;
use tracing::debug;

use super::{
    caller::Caller, confirm::ConfirmArguments, exit::Exit, output::Output, running, target_arguments::TargetArguments,
    terminal,
};
use crate::app::{self, Event};

/// Serve databases on localhost
///
/// Without TARGET every target of the configuration files is served. The psql command and the URL of each go to stdout.
#[derive(Debug, Args)]
#[command(after_help = EPILOG)]
pub struct Arguments {
    /// Names in the configuration files, or endpoints (HOST[:PORT]) that are in none
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    #[command(flatten)]
    options: TargetArguments,
    #[command(flatten)]
    confirm: ConfirmArguments,
}

pub(super) const EPILOG: &str = "\
Each option is also a variable (--ca-file: RDSGATE_CA_FILE) and a key of the
configuration files (ca_file). Flags win over variables, variables over
.rdsgate.toml in this folder or above, and that over
~/.config/rdsgate/config.toml.

Examples:
  rdsgate up orders.c1abcdefghij.eu-central-1.rds.amazonaws.com \\
      --bastion i-0123456789abcdef0 --user app_user
  rdsgate up orders billing --profile dev
  rdsgate up orders --listen 6543
";

/// Runs the subcommand to its end.
pub fn run(arguments: Arguments, output: &mut Output) -> Exit {
    let loaded = match arguments.options.load(arguments.targets, output) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    if let Err(exit) = arguments.confirm.ask(&loaded.config.targets, output) {
        return exit;
    }
    let config = loaded.config;
    let mut caller = match Caller::new(config.mfa_code.clone(), config.open_browser, output) {
        Ok(caller) => caller,
        Err(exit) => return exit,
    };
    let mut record = None;
    let Caller { runtime, accounts, person } = &mut caller;
    let result = runtime.block_on(app::run(config, accounts, &mut person.prompts, |event| {
        // Before anybody is told that it is ready.
        if let Event::Ready { served, .. } = &event {
            match running::announce(served) {
                Ok(own) => record = Some(own),
                Err(error) => debug!(%error, "other commands will not know of this process"),
            }
        }
        output.event(&event);
        terminal::act(&event, &person.answers);
    }));
    drop(record);
    caller.end();
    match result {
        Ok(ended) => ended.failed.map_or_else(|| ended.stopped.into(), Exit::from),
        Err(error) => {
            output.error(&error, error.hint().as_deref());
            error.cause().into()
        }
    }
}
