//! Another subcommand in the place of this one.

use std::{os::unix::process::CommandExt as _, process::Command};

use super::{exit::Exit, output::Output, rlimits};

/// Replaces this process by rdsgate with these words. Returns only when that fails; the reason has been printed.
pub(super) fn again(words: impl IntoIterator<Item = String>, output: &mut Output) -> Exit {
    output.settle();
    let error = match std::env::current_exe() {
        Ok(program) => rlimits::as_at_start(|| Command::new(program).args(words).exec()),
        Err(error) => error,
    };
    output.error(&error, None);
    Exit::Failure
}
