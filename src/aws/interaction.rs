//! Questions to a person: log in with a browser, read a code from an MFA device. This module sends questions as values; the
//! creator of the [`Interaction`] decides how to show them.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use safe_display::Secret;
use tokio::sync::{mpsc, oneshot};

use crate::target::MfaSerial;

/// The time limit for a person's answer.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(10);

/// A message or a question to a person.
#[derive(Debug, Clone)]
pub enum Prompt {
    /// Open a page, compare the code and approve.
    SsoLogin {
        /// The profile whose session has expired.
        profile: String,
        /// The address of the page, which includes the code.
        url: String,
        /// The code that the page must show. Another code belongs to another program's request.
        code: String,
        /// The lifetime of the page.
        lasts: Duration,
    },
    /// Run `aws login --profile PROFILE`.
    ConsoleLogin {
        /// The profile whose session has expired.
        profile: String,
    },
    /// A login has succeeded, here or in another program.
    LoggedIn {
        /// The profile.
        profile: String,
    },
    /// Type a code.
    MfaCode {
        /// The MFA device.
        device: MfaSerial,
        /// The reason why the previous code was refused.
        complaint: Option<String>,
        /// Receives the code.
        answer: Answer,
    },
}

/// Receives the text that a person typed, once.
#[derive(Clone)]
pub struct Answer(Arc<Mutex<Option<oneshot::Sender<Secret<String>>>>>);

impl Answer {
    /// Gives the answer. A late answer is dropped.
    pub fn give(&self, text: String) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            // The question has timed out; the answer is dropped.
            let _ = sender.send(Secret::new(text));
        }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answer")
    }
}

/// Whether a fetch may ask a person to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asking {
    /// A client is waiting, so a question is justified.
    Allowed,
    /// No client is waiting.
    No,
}

/// The channel to a person, if there is one. Clones share it.
#[derive(Debug, Clone)]
pub struct Interaction(Option<mpsc::UnboundedSender<Prompt>>);

impl Interaction {
    /// Without a person. Logins that need one are errors with a hint.
    pub fn none() -> Self {
        Self(None)
    }

    /// With a person, who sees the prompts from the receiver.
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<Prompt>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(Some(sender)), receiver)
    }

    /// Whether a person can be asked.
    pub(super) fn is_there(&self) -> bool {
        self.0.as_ref().is_some_and(|prompts| !prompts.is_closed())
    }

    /// Shows a prompt.
    pub(super) fn show(&self, prompt: Prompt) {
        if let Some(prompts) = &self.0 {
            // A closed channel means that the process is ending.
            let _ = prompts.send(prompt);
        }
    }

    /// Asks for a code and waits for it. `None` if no person can be asked, or on a timeout.
    pub(super) async fn ask(&self, device: &MfaSerial, complaint: Option<String>) -> Option<Secret<String>> {
        let prompts = self.0.as_ref()?;
        let (sender, receiver) = oneshot::channel();
        let answer = Answer(Arc::new(Mutex::new(Some(sender))));
        prompts.send(Prompt::MfaCode { device: device.clone(), complaint, answer }).ok()?;
        tokio::time::timeout(ANSWER_TIMEOUT, receiver).await.ok()?.ok()
    }
}
