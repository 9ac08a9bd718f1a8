//! The terminal that the program runs in: whether somebody is there, what they type, and their browser. What they read
//! is [`super::output`]'s.

use std::{
    io::{self, IsTerminal as _},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    app::Event,
    aws::{Answer, Prompt},
};

/// Whether somebody is there: input and messages are a terminal's, and it is ours to read from.
pub fn is_attended() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal() && in_foreground()
}

/// A job in the background that reads from its terminal is stopped by the kernel, connections and all.
#[cfg(unix)]
fn in_foreground() -> bool {
    rustix::termios::tcgetpgrp(io::stdin()).is_ok_and(|group| group == rustix::process::getpgrp())
}

#[cfg(not(unix))]
fn in_foreground() -> bool {
    true
}

/// Does what a prompt wants done on this machine.
pub fn act(event: &Event<'_>, answers: &Answers) {
    let Event::Prompt { prompt, open_browser } = event else { return };
    match prompt {
        Prompt::MfaCode { answer, .. } if in_foreground() => answers.expect(answer.clone()),
        Prompt::SsoLogin { url, .. } if *open_browser => open(url),
        Prompt::MfaCode { .. } | Prompt::SsoLogin { .. } | Prompt::ConsoleLogin { .. } | Prompt::LoggedIn { .. } => {}
    }
}

/// Who waits for the next line that is typed.
#[derive(Debug, Default, Clone)]
pub struct Answers(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    answer: Option<Answer>,
    /// A thread is in the middle of reading. It ends with the process if nothing is ever typed.
    reading: bool,
}

impl Answers {
    /// Gives the next line to `answer`, in the place of whoever waited for it. Nothing is read but for an answer.
    fn expect(&self, answer: Answer) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.answer = Some(answer);
        if !waiting.reading {
            waiting.reading = true;
            let answers = self.clone();
            std::thread::spawn(move || answers.read());
        }
    }

    fn read(&self) {
        loop {
            let mut line = String::new();
            let read = io::stdin().read_line(&mut line);
            let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // When no more will be typed, whoever waits hears that by being dropped.
            if let (Ok(1..), Some(answer)) = (read, waiting.answer.take()) {
                answer.give(line);
            }
            waiting.reading = waiting.answer.is_some();
            if !waiting.reading {
                return;
            }
        }
    }
}

/// Opens a page in the user's browser. One that does not open is no failure: the address is on the terminal.
fn open(url: &str) {
    // What comes from a network is not to start anything else.
    if !url.starts_with("https://") && !url.starts_with("http://127.0.0.1") {
        return;
    }
    let usual = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let browser = std::env::var("BROWSER").ok().filter(|browser| !browser.is_empty());
    let started = Command::new(browser.as_deref().unwrap_or(usual))
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    match started {
        // Waited for by nobody else; a browser may live as long as it likes.
        Ok(mut browser) => drop(std::thread::spawn(move || browser.wait())),
        Err(cause) => tracing::debug!(%cause, "no browser"),
    }
}
