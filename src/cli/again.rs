//! Another subcommand in the place of this one.

use std::process::Command;

use super::{exit::Exit, output::Output};
use crate::platform::{limits, process};

/// Replaces this process by rdsgate with these words. Returns when that fails, and the reason has been printed; on Windows, where a
/// process cannot be replaced, with the status of the other one.
pub(super) fn again(words: impl IntoIterator<Item = String>, output: &mut Output) -> Exit {
    output.settle();
    let became = std::env::current_exe()
        .and_then(|program| limits::as_at_start(|| process::become_program(Command::new(program).args(words))));
    match became {
        Ok(status) => Exit::Program(status),
        Err(error) => {
            output.error(&error, None);
            Exit::Failure
        }
    }
}
