//! Whether a target that asks for it may be served: the `confirm` of its guard.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use clap::Args;
use safe_display::printable;

use super::{
    exit::Exit,
    output::{self, INTERRUPTED, Output},
    terminal,
};
use crate::{platform, target::Target, telemetry::log::Stderr};

/// The flag that answers the question in advance.
#[derive(Debug, Args)]
pub struct ConfirmArguments {
    /// Serve targets that require a confirmation without asking
    #[arg(long, help_heading = "Proxy")]
    yes: bool,
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{0} must be confirmed, and there is no terminal to ask on")]
    NoTerminal(String),
    #[error("{0} was not confirmed")]
    Refused(String),
}

impl ConfirmArguments {
    /// Whether every question is answered in advance.
    pub(super) fn is_given(&self) -> bool {
        self.yes
    }

    /// Asks for each target that wants it.
    ///
    /// # Errors
    /// The exit code, when one was not confirmed; the reason has been printed.
    pub fn ask(&self, targets: &[Target], output: &mut Output) -> Result<(), Exit> {
        for target in targets.iter().filter(|target| target.guard.confirm && !self.yes) {
            let name = output::name(target);
            let asked = ask(&format!("serve {name}?"));
            let Some(answer) = asked else {
                output.error(&Error::NoTerminal(name), Some("use --yes, or remove confirm"));
                return Err(Exit::Usage);
            };
            if !is_yes(&answer) {
                output.error(&Error::Refused(name), None);
                return Err(Exit::Failure);
            }
        }
        Ok(())
    }
}

/// The answer from the terminal, `None` when there is none. Not from stdin alone: that may be what a program is to read.
pub(super) fn ask(question: &str) -> Option<String> {
    if !io::stdin().is_terminal() || !terminal::in_foreground() {
        return None;
    }
    let (input, mut terminal) = platform::terminal::open().ok()?;
    // The lines before the question, which another thread writes.
    let _ = Stderr.flush();
    terminal.write_all(format!("{} [y/N] ", printable::line(question)).as_bytes()).ok()?;
    let _watch = output::answer_interrupt(INTERRUPTED);
    let mut answer = String::new();
    io::BufReader::new(input).read_line(&mut answer).ok()?;
    Some(answer)
}

/// Whether an answer is yes. Any other answer counts as a refusal.
pub(super) fn is_yes(answer: &str) -> bool {
    ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str())
}
