//! What only a person can do: log in with a browser, read a code off an MFA device. Here it is asked for as a value; who
//! shows it, and where, is decided by whoever made the [`Interaction`].

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};

use crate::{secret::Secret, target::MfaSerial};

/// How long a person has to answer.
const PATIENCE: Duration = Duration::from_mins(10);

/// What a person is told, or asked.
#[derive(Debug, Clone)]
pub enum Prompt {
    /// Open a page, compare the code and approve.
    SsoLogin {
        /// The profile whose session is over.
        profile: String,
        /// The page; it knows the code already.
        url: String,
        /// What the page shows: another one means that another program asks.
        code: String,
        /// How long the page can be used.
        lasts: Duration,
    },
    /// Run `aws login --profile PROFILE`.
    ConsoleLogin {
        /// The profile whose session is over.
        profile: String,
    },
    /// One of the logins is done, here or elsewhere.
    LoggedIn {
        /// The profile.
        profile: String,
    },
    /// Type a code.
    MfaCode {
        /// Which device.
        device: MfaSerial,
        /// Why the code before was no good.
        complaint: Option<String>,
        /// Takes the code.
        answer: Answer,
    },
}

/// Takes what a person typed, once.
#[derive(Clone)]
pub struct Answer(Arc<Mutex<Option<oneshot::Sender<Secret<String>>>>>);

impl Answer {
    /// Gives the answer. One that comes too late is dropped.
    pub fn give(&self, text: String) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            // Nobody waits any more: as good as never given.
            let _ = sender.send(Secret::new(text));
        }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answer")
    }
}

/// The way to a person, if there is one. Clones lead to the same.
#[derive(Debug, Clone)]
pub struct Interaction(Option<mpsc::UnboundedSender<Prompt>>);

impl Interaction {
    /// Nobody is there: what needs a person is an error that says what to do.
    pub fn none() -> Self {
        Self(None)
    }

    /// Somebody is there, and sees what comes out of the receiver.
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<Prompt>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(Some(sender)), receiver)
    }

    /// Whether somebody is there.
    pub(super) fn is_there(&self) -> bool {
        self.0.as_ref().is_some_and(|prompts| !prompts.is_closed())
    }

    /// Shows something.
    pub(super) fn show(&self, prompt: Prompt) {
        if let Some(prompts) = &self.0 {
            // Nobody looks any more: the process is ending.
            let _ = prompts.send(prompt);
        }
    }

    /// Asks for a code and waits for what is typed. `None` when nobody is there, or nobody answers.
    pub(super) async fn ask(&self, device: &MfaSerial, complaint: Option<String>) -> Option<Secret<String>> {
        let prompts = self.0.as_ref()?;
        let (sender, receiver) = oneshot::channel();
        let answer = Answer(Arc::new(Mutex::new(Some(sender))));
        prompts.send(Prompt::MfaCode { device: device.clone(), complaint, answer }).ok()?;
        tokio::time::timeout(PATIENCE, receiver).await.ok()?.ok()
    }
}
