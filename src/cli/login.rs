//! `rdsgate login`: log in to AWS ahead of the first connection.

use clap::Args;

use super::{
    account::{AccountArguments, Known},
    exit::Exit,
    output::Output,
    whoami,
};

/// Log in to AWS: the SSO session of a profile
///
/// Prints a page and a code, and waits until you have approved (--open-browser opens the page). The token is kept where the AWS CLI
/// keeps it, so other tools use it too. Nothing is asked while the session is valid. For a profile of aws login, it waits until
/// that has been run.
#[derive(Debug, Args)]
#[command(after_help = EPILOG)]
pub struct Arguments {
    #[command(flatten)]
    account: AccountArguments,
}

pub(super) const EPILOG: &str = "\
Examples:
  rdsgate login
  rdsgate login --profile dev --open-browser
";

/// Runs the subcommand to its end.
pub fn run(arguments: Arguments, output: &mut Output) -> Exit {
    let known = arguments.account.known(output).map(|known| Known { caller: known.caller.always_asking(), ..known });
    match known.and_then(|known| whoami::identify(known, output)) {
        Ok(identified) => {
            let expire =
                identified.left().map(|left| format!("; the credentials expire in {left}")).unwrap_or_default();
            output.note(&format!("logged in as {}{expire}", identified.principal.arn));
            Exit::Success
        }
        Err(exit) => exit,
    }
}
