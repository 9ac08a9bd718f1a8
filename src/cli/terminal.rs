//! The terminal that the program runs in: whether somebody is there, what they type, and their browser. What they read
//! is [`super::output`]'s.

use std::{
    io::{self, IsTerminal as _},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

pub(super) use crate::platform::terminal::{in_foreground, stderr_is_ours};
use crate::{
    app::Event,
    aws::{Answer, Prompt},
    platform::{limits, process, terminal::has_line},
};

/// Whether somebody is there: input and messages are a terminal's, and it is ours to read from.
pub fn is_attended() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal() && in_foreground()
}

/// How often to look whether a line has been typed.
const LOOK: Duration = Duration::from_millis(100);

/// The next line that is typed. It is read only when it is there and we are in the foreground: the kernel stops a job in the
/// background for a read that waits, also when it went there meanwhile.
async fn typed() -> io::Result<String> {
    while !(in_foreground() && has_line()?) {
        tokio::time::sleep(LOOK).await;
    }
    let read = || {
        let mut line = String::new();
        io::stdin().read_line(&mut line).map(|_| line)
    };
    // A console tells of keys, not of lines.
    if cfg!(windows) { tokio::task::spawn_blocking(read).await.map_err(io::Error::other)? } else { read() }
}

/// Does what a prompt wants done on this machine.
pub fn act(event: &Event<'_>, answers: &Answers) {
    let Event::Prompt { prompt, open_browser } = event else { return };
    match prompt {
        Prompt::MfaCode { answer, .. } => answers.expect(answer.clone()),
        Prompt::SsoLogin { url, .. } if *open_browser => open(url),
        Prompt::SsoLogin { .. } | Prompt::ConsoleLogin { .. } | Prompt::LoggedIn { .. } => {}
    }
}

/// The receiver of the next line that is typed.
#[derive(Debug, Default, Clone)]
pub struct Answers(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    answer: Option<Answer>,
    /// A task is in the middle of reading.
    reading: bool,
}

impl Answers {
    /// Gives the next line to `answer`, in the place of the task that waited for it. Nothing is read but for an answer. To be called
    /// within a runtime.
    fn expect(&self, answer: Answer) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.answer = Some(answer);
        if !waiting.reading {
            waiting.reading = true;
            let answers = self.clone();
            tokio::spawn(async move { answers.read().await });
        }
    }

    async fn read(&self) {
        loop {
            let line = typed().await;
            let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // At the end of input, dropping the sender ends the wait.
            if let (Some(answer), Ok(line)) = (waiting.answer.take(), line)
                && !line.is_empty()
            {
                answer.give(line);
            }
            waiting.reading = waiting.answer.is_some();
            if !waiting.reading {
                return;
            }
        }
    }
}

/// Opens a page in the user's browser. A failure is ignored, since the address is on the terminal.
fn open(url: &str) {
    // What comes from a network is not to start anything else.
    if !url.starts_with("https://") && !url.starts_with("http://127.0.0.1") {
        return;
    }
    let browser = std::env::var("BROWSER").ok().filter(|browser| !browser.is_empty());
    let mut command = browser.map_or_else(process::browser, Command::new);
    command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let started = limits::as_at_start(|| command.spawn());
    match started {
        // Only this thread waits for it; a browser may run for any time.
        Ok(mut browser) => drop(std::thread::spawn(move || browser.wait())),
        Err(cause) => tracing::debug!(%cause, "no browser"),
    }
}
