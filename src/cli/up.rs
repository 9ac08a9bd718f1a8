//! `rdsgate up`: serve databases on localhost until a signal.

use clap::Args;

use super::{exit::Exit, output::Output, runtime, target_arguments::TargetArguments, terminal};
use crate::app;

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
    let runtime = match runtime(output) {
        Ok(runtime) => runtime,
        Err(exit) => return exit,
    };
    let answers = terminal::Answers::default();
    let events = |event| {
        output.event(&event);
        terminal::act(&event, &answers);
    };
    let result = runtime.block_on(app::run(loaded.config, terminal::attended(), events));
    // A name lookup may still be under way in a thread that cannot be stopped; it must not hold up the exit.
    runtime.shutdown_background();
    match result {
        Ok(stopped) => stopped.into(),
        Err(error) => {
            output.error(&error, error.hint().as_deref());
            error.cause().into()
        }
    }
}
