//! Who calls AWS in this process: the runtime that the calls live in, the accounts, and the person whom they may ask.
//!
//! There is one for a process, so that the user is asked once: what looks a database up and what serves it share the
//! accounts, with their caches of credentials. It is made when it is first needed, which it is not for every command.

use std::sync::Arc;

use tokio::{runtime::Runtime, sync::mpsc::UnboundedReceiver};

use super::{exit::Exit, output::Output, terminal};
use crate::{
    app::Event,
    aws::{Accounts, Interaction, Prompt},
    target::MfaCode,
};

/// The runtime, the accounts and the terminal, made when they are first needed.
pub(super) struct Caller {
    code: Option<MfaCode>,
    open_browser: bool,
    parts: Option<Parts>,
}

/// The parts of a [`Caller`].
pub(super) struct Parts {
    pub(super) runtime: Runtime,
    pub(super) accounts: Arc<Accounts>,
    pub(super) person: Person,
}

impl Caller {
    /// `code` is for the first time that an MFA device's is wanted.
    pub(super) fn new(code: Option<MfaCode>, open_browser: bool) -> Self {
        Self { code, open_browser, parts: None }
    }

    /// Ready for calls; none is made yet.
    ///
    /// # Errors
    /// The exit code; the reason has been printed.
    pub(super) fn parts(&mut self, output: &mut Output) -> Result<&mut Parts, Exit> {
        let parts = match self.parts.take() {
            Some(parts) => parts,
            None => Parts::new(self.code.clone(), self.open_browser, output)?,
        };
        Ok(self.parts.insert(parts))
    }

    /// [`Caller::parts`], for a command that keeps them to its end.
    ///
    /// # Errors
    /// As for [`Caller::parts`].
    pub(super) fn into_parts(mut self, output: &mut Output) -> Result<Parts, Exit> {
        match self.parts.take() {
            Some(parts) => Ok(parts),
            None => Parts::new(self.code, self.open_browser, output),
        }
    }

    /// Stops the runtime, if there is one.
    pub(super) fn end(self) {
        if let Some(parts) = self.parts {
            parts.end();
        }
    }
}

impl Parts {
    fn new(code: Option<MfaCode>, open_browser: bool, output: &mut Output) -> Result<Self, Exit> {
        let (there, prompts) = Interaction::channel();
        let interaction = if terminal::is_attended() { there } else { Interaction::none() };
        let accounts = Accounts::new(interaction, code);
        let person = Person { prompts, answers: terminal::Answers::default(), open_browser };
        Ok(Self { runtime: runtime(output)?, accounts: Arc::new(accounts), person })
    }

    /// Does `work`, and meanwhile asks the person what it takes.
    pub(super) fn block_on<T>(&mut self, output: &mut Output, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(self.person.during(output, work))
    }

    /// Stops the runtime, if there is one. A connection to AWS or a name lookup may still be under way; nothing waits for them.
    pub(super) fn end(self) {
        self.runtime.shutdown_background();
    }
}

/// The runtime of a subcommand that waits for something.
///
/// # Errors
/// The exit code, when the system refuses; the reason has been printed.
fn runtime(output: &mut Output) -> Result<Runtime, Exit> {
    Runtime::new().map_err(|error| {
        output.error(&error, None);
        Exit::Failure
    })
}

/// The user at the terminal, if there is one. Once it is dropped, prompts end without an answer.
pub(super) struct Person {
    pub(super) prompts: UnboundedReceiver<Prompt>,
    pub(super) answers: terminal::Answers,
    open_browser: bool,
}

impl Person {
    /// Does `work`, and meanwhile says what AWS wants.
    pub(super) async fn during<T>(&mut self, output: &mut Output, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                Some(prompt) = self.prompts.recv() => {
                    let event = Event::Prompt { prompt, open_browser: self.open_browser };
                    output.event(&event);
                    terminal::act(&event, &self.answers);
                }
            }
        }
    }
}
