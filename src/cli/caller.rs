//! The calls to AWS of this process: the runtime that the calls live in, the accounts, and the person whom they may ask.
//!
//! There is one for a process, so that the user is asked once: what looks a database up and what serves it share the
//! accounts, with their caches of credentials. It is made when it is first needed, which it is not for every command.

use std::{sync::Arc, time::Duration};

use tokio::{runtime::Runtime, sync::mpsc::UnboundedReceiver};

use super::{
    exit::Exit,
    output::{INTERRUPTED, Output},
    progress::Progress,
    signals::Interrupt,
    terminal,
};
use crate::{
    app::Event,
    aws::{Accounts, Interaction, Prompt},
    target::MfaCode,
};

/// The interval of looks at the stage of a wait.
const STAGE_INTERVAL: Duration = Duration::from_millis(200);

/// The runtime, the accounts and the terminal, made when they are first needed.
pub(super) struct Caller {
    code: Option<MfaCode>,
    open_browser: bool,
    /// Shows prompts where no person is at a terminal, too.
    always_asks: bool,
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
        Self { code, open_browser, always_asks: false, parts: None }
    }

    /// The same, which shows prompts where no person is at a terminal, too: a page to approve needs no keyboard.
    #[must_use]
    pub(super) fn always_asking(self) -> Self {
        Self { always_asks: true, ..self }
    }

    /// Ready for calls; none is made yet.
    ///
    /// # Errors
    /// The exit code; the reason has been printed.
    pub(super) fn parts(&mut self, output: &mut Output) -> Result<&mut Parts, Exit> {
        let parts = match self.parts.take() {
            Some(parts) => parts,
            None => Parts::new(self.code.clone(), self.open_browser, self.always_asks, output)?,
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
            None => Parts::new(self.code, self.open_browser, self.always_asks, output),
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
    fn new(code: Option<MfaCode>, open_browser: bool, always_asks: bool, output: &mut Output) -> Result<Self, Exit> {
        let (there, prompts) = Interaction::channel();
        let attended = terminal::is_attended();
        let interaction = if attended || always_asks { there } else { Interaction::none() };
        let accounts = Accounts::new(interaction, code);
        let person = Person { prompts, answers: terminal::Answers::default(), open_browser, attended };
        Ok(Self { runtime: runtime(output)?, accounts: Arc::new(accounts), person })
    }

    /// Does `work`, which is shown as `stage` if it takes long, and meanwhile asks the person what it takes. Ctrl-C at a terminal
    /// ends the process.
    pub(super) fn wait_for<T>(&mut self, stage: &'static str, output: &mut Output, work: impl Future<Output = T>) -> T {
        self.until_interrupted(stage, output, work).unwrap_or_else(|exit| std::process::exit(exit.code().into()))
    }

    /// [`Parts::wait_for`], for a command that has something to say when Ctrl-C ends the wait.
    ///
    /// # Errors
    /// [`Exit::Interrupted`]; that has been said.
    pub(super) fn until_interrupted<T>(
        &mut self,
        stage: &'static str,
        output: &mut Output,
        work: impl Future<Output = T>,
    ) -> Result<T, Exit> {
        let Self { runtime, person, .. } = self;
        let done = runtime.block_on(async {
            let mut interrupt = Interrupt::at_terminal();
            tokio::select! {
                done = person.during(|| stage, output, work) => Some(done),
                () = interrupt.arrives() => None,
            }
        });
        done.ok_or_else(|| {
            output.interrupted(INTERRUPTED);
            Exit::Interrupted
        })
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
    /// Whether an answer can be typed.
    attended: bool,
}

impl Person {
    /// Does `work`, shows its stages where they take long, and meanwhile says what AWS wants. A stage without a name is not shown.
    pub(super) async fn during<T>(
        &mut self,
        stage: impl Fn() -> &'static str,
        output: &mut Output,
        work: impl Future<Output = T>,
    ) -> T {
        let mut work = std::pin::pin!(work);
        let mut shown = stage();
        let progress = if shown.is_empty() { Progress::none() } else { Progress::start(shown) };
        let mut look = tokio::time::interval(STAGE_INTERVAL);
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = look.tick(), if progress.is_shown() => {
                    let stage = stage();
                    if stage != shown {
                        progress.stage(stage);
                        shown = stage;
                    }
                }
                Some(prompt) = self.prompts.recv() => {
                    // Without a keyboard there is no answer to wait for: the question fails when it is dropped.
                    if self.attended || !matches!(prompt, Prompt::MfaCode { .. }) {
                        progress.erase();
                        output.prompt(&prompt);
                        match &prompt {
                            Prompt::SsoLogin { .. } => progress.stage("waiting for your approval"),
                            Prompt::ConsoleLogin { .. } => progress.stage("waiting for aws login"),
                            Prompt::LoggedIn { .. } => progress.stage(shown),
                            // The answer is typed there.
                            Prompt::MfaCode { .. } => {}
                        }
                        let event = Event::Prompt { prompt, open_browser: self.open_browser };
                        terminal::act(&event, &self.answers);
                    }
                }
            }
        }
    }
}
