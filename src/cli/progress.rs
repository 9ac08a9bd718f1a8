//! The waits of a command, with their seconds: lines below everything else on stderr, where that is a terminal. They are erased
//! before anything else is written, and when the wait is over.
//!
//! ```text
//!   ⠹ discovery  3 s
//! ```
//!
//! Nothing is drawn where stderr is a file or a pipe, on a dumb terminal (`TERM=dumb`), where the log is JSON, and while the process
//! is a background job. The lines have no colours.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use safe_display::printable;

use super::terminal;
use crate::telemetry::log;

/// A wait that ends sooner is not shown.
const DELAY: Duration = Duration::from_millis(400);
/// The time between two turns of the spinner.
const TURN: Duration = Duration::from_millis(100);
/// The turns of the spinner.
const BRAILLE: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
/// The same for terminals without UTF-8.
const ASCII: [&str; 4] = ["|", "/", "-", "\\"];

/// A line that shows a wait. Dropping it erases the line.
#[derive(Debug)]
pub struct Progress {
    /// Its key in [`LINES`]; `None` where nothing is drawn.
    key: Option<(usize, u64)>,
}

/// The lines of this process, from the top.
static LINES: Mutex<Lines> = Mutex::new(Lines { next: 0, shown: BTreeMap::new(), is_ticking: false, questions: 0 });

struct Lines {
    next: u64,
    /// By rank, and by key among equals.
    shown: BTreeMap<(usize, u64), Line>,
    /// Whether the thread that turns the spinners runs.
    is_ticking: bool,
    /// The number of questions that a person is being asked.
    questions: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    /// Nothing is shown.
    Erased,
    /// A stage that runs, shown from a time on.
    Running { stage: String, since: Instant, from: Instant },
    /// A stage that has ended, above one that has not.
    Settled(String),
}

impl Progress {
    /// Shows a stage once it has taken 0.4 s.
    pub fn start(stage: impl Into<String>) -> Self {
        Self::new(stage.into(), DELAY, 0)
    }

    /// Shows one of several stages at once, below those of lower rank.
    pub fn ranked(stage: impl Into<String>, rank: usize) -> Self {
        Self::new(stage.into(), Duration::ZERO, rank)
    }

    fn new(stage: String, delay: Duration, rank: usize) -> Self {
        if !is_possible() {
            return Self { key: None };
        }
        let mut lines = lock();
        let key = (rank, lines.next);
        lines.next += 1;
        lines.shown.insert(key, Line::running(stage, delay));
        lines.draw();
        lines.tick();
        Self { key: Some(key) }
    }

    /// A line that is never shown.
    pub fn none() -> Self {
        Self { key: None }
    }

    /// Whether there is a terminal to show it on.
    pub fn is_shown(&self) -> bool {
        self.key.is_some()
    }

    /// Goes on to another stage, whose seconds begin at 0.
    pub fn stage(&self, stage: impl Into<String>) {
        self.set(Line::running(stage.into(), DELAY));
    }

    /// Shows in the place of the stage how it ended, until the line is dropped.
    pub fn settle(&self, result: impl Into<String>) {
        self.set(Line::Settled(result.into()));
    }

    /// Shows nothing until the next stage: a person is asked, or another program has the terminal.
    pub fn erase(&self) {
        self.set(Line::Erased);
    }

    fn set(&self, line: Line) {
        let Some(key) = self.key else { return };
        let mut lines = lock();
        lines.shown.insert(key, line);
        lines.draw();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut lines = lock();
        lines.shown.remove(&key);
        lines.draw();
    }
}

/// Keeps all lines away while a person types an answer.
#[derive(Debug)]
pub struct Question(());

impl Question {
    /// Erases the lines until this is dropped.
    pub fn begin() -> Self {
        let mut lines = lock();
        lines.questions += 1;
        lines.draw();
        Self(())
    }
}

/// Erases the lines for the rest of the process, whose last words follow.
pub fn end() {
    std::mem::forget(Question::begin());
}

impl Drop for Question {
    fn drop(&mut self) {
        let mut lines = lock();
        lines.questions = lines.questions.saturating_sub(1);
    }
}

impl Line {
    fn running(stage: String, delay: Duration) -> Self {
        let since = Instant::now();
        Self::Running { stage, since, from: since + delay }
    }

    /// The line in at most `columns` columns, if it is shown at all.
    fn text(&self, now: Instant, columns: usize, spinner: &[&str]) -> Option<String> {
        match self {
            Self::Erased => None,
            Self::Running { from, .. } if now < *from => None,
            Self::Running { stage, since, .. } => {
                let passed = now.saturating_duration_since(*since);
                let turns = passed.as_millis() / TURN.as_millis();
                let turn = usize::try_from(turns).unwrap_or_default() % spinner.len().max(1);
                let (mark, seconds) = (spinner.get(turn).unwrap_or(&""), format!("  {} s", passed.as_secs()));
                let room = columns.saturating_sub(2 + seconds.len());
                Some(format!("{mark} {}{seconds}", cut(&printable::line(stage), room)))
            }
            Self::Settled(result) => Some(cut(&printable::line(result), columns)),
        }
    }
}

impl Lines {
    fn draw(&self) {
        let drawn = if self.questions == 0 && terminal::stderr_is_ours() { self.texts() } else { Vec::new() };
        log::set_status(drawn);
    }

    fn texts(&self) -> Vec<String> {
        let (columns, rows) = log::size(io::stderr());
        let (now, spinner) = (Instant::now(), spinner());
        // The last column stays free: some terminals go to the next row once it is written.
        let texts = self.shown.values().filter_map(|line| line.text(now, columns.saturating_sub(1), spinner));
        // Rows that have scrolled away cannot be erased.
        texts.take(rows.saturating_sub(1)).collect()
    }

    /// Turns the spinners until no line is left.
    fn tick(&mut self) {
        if self.is_ticking {
            return;
        }
        let turns = || {
            loop {
                std::thread::sleep(TURN);
                let mut lines = lock();
                if lines.shown.is_empty() {
                    lines.is_ticking = false;
                    return;
                }
                lines.draw();
            }
        };
        // Without the thread the spinners stand still.
        self.is_ticking = std::thread::Builder::new().name("progress".into()).spawn(turns).is_ok();
    }
}

fn lock() -> MutexGuard<'static, Lines> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether lines can be erased on stderr.
pub(super) fn is_possible() -> bool {
    io::stderr().is_terminal() && is_smart_terminal()
}

/// Whether a terminal of this environment understands more than text.
pub(super) fn is_smart_terminal() -> bool {
    std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}

/// Braille where the locale is UTF-8.
fn spinner() -> &'static [&'static str] {
    let locale =
        ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
    let locale = locale.unwrap_or_default().to_ascii_lowercase();
    if locale.contains("utf-8") || locale.contains("utf8") { &BRAILLE } else { &ASCII }
}

/// The text in at most `columns` columns, with an ellipsis where something is missing.
pub(super) fn cut(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let kept: String = text.chars().take(columns.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_shows_stage_and_seconds_within_the_columns() {
        let line = Line::running("discovery of orders".into(), DELAY);
        let Line::Running { since, .. } = &line else { unreachable!() };
        let after = |millis| line.text(*since + Duration::from_millis(millis), 80, &ASCII);
        assert_eq!(after(399), None);
        assert_eq!(after(400).as_deref(), Some("| discovery of orders  0 s"));
        assert_eq!(after(12_300).as_deref(), Some("\\ discovery of orders  12 s"));
        assert_eq!(line.text(*since + DELAY, 16, &ASCII).as_deref(), Some("| discover…  0 s"));
        let settled = Line::Settled("ok  discovery\u{1b}[2J".into());
        assert_eq!(settled.text(*since, 80, &ASCII).as_deref(), Some("ok  discovery\\u{1b}[2J"));
        assert_eq!(Line::Erased.text(*since, 80, &ASCII), None);
    }

    #[test]
    fn text_is_cut_by_characters() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöüß", 3), "äö…");
        assert_eq!(cut("a b c", 3), "a…");
        assert_eq!(cut("abc", 0), "…");
    }
}
