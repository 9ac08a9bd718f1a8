//! Stderr behind a bounded queue, written by a thread of its own, so that a stopped terminal or an unread pipe does not block the
//! proxy. Lines beyond the bound are dropped, and their number is written when there is room again.
//!
//! The status is text that stays below everything else on a terminal: it is erased before a line and drawn again after it.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use serde_json::json;
use tracing::Level;

use super::{
    fold::{Fold, Summary},
    line::{self, Format},
};
use crate::platform::terminal;

/// The largest number of bytes in the queue.
const CAPACITY: usize = 4 << 20;
/// The interval for checking whether the terminal lets a background job write.
const TOSTOP_PAUSE: Duration = Duration::from_millis(250);
/// The longest wait of [`Stderr::flush`], which keeps the order with text written elsewhere.
const IN_ORDER_TIMEOUT: Duration = Duration::from_millis(250);
/// For text written elsewhere after a flush, before the status is drawn again.
const QUIET: Duration = Duration::from_millis(40);

/// Lines waiting to be written.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Notified when lines are added or written.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: VecDeque<String>,
    /// The sum of the lengths of `lines`.
    bytes: usize,
    /// Lines dropped since the last report of them.
    dropped: u64,
    /// Set while the thread writes a line that it has taken from `lines`.
    writing: bool,
    fold: Fold,
    /// The format of lines made here, such as the number of dropped lines.
    format: Format,
    /// The lines that are to stay below all others. Each fits into a row of the terminal.
    status: Vec<String>,
    /// The lines of the status that the terminal shows now.
    drawn: Vec<String>,
    /// Until then no status is set, because something else is being written to the terminal.
    quiet_until: Option<Instant>,
}

impl State {
    fn push(&mut self, line: String) {
        if self.bytes + line.len() > CAPACITY {
            self.dropped += 1;
            return;
        }
        self.bytes += line.len();
        self.lines.push_back(line);
    }

    /// Whether everything is written, and the terminal shows the status as it is to be.
    fn is_written(&self) -> bool {
        self.lines.is_empty() && !self.writing && self.dropped == 0 && self.status == self.drawn
    }

    /// Removes the status, for text that comes from elsewhere.
    fn make_room(&mut self) {
        self.status.clear();
        self.quiet_until = Some(Instant::now() + QUIET);
    }

    /// The text that removes the status from the terminal.
    fn erasure(&mut self) -> String {
        match std::mem::take(&mut self.drawn).len() {
            0 => String::new(),
            rows => format!("\r\u{1b}[K{}", "\u{1b}[1A\u{1b}[K".repeat(rows - 1)),
        }
    }

    /// The text that brings the status up to date, if it is not.
    fn redrawing(&mut self) -> Option<String> {
        if self.status == self.drawn {
            return None;
        }
        let erasure = self.erasure();
        self.drawn.clone_from(&self.status);
        Some(erasure + &self.drawn.join("\n"))
    }
}

impl Queue {
    /// A queue whose lines a new thread writes to `writer`.
    pub(super) fn start(writer: impl Write + Send + 'static) -> Arc<Self> {
        let queue = Arc::new(Self::default());
        let lines = Arc::clone(&queue);
        let thread = std::thread::Builder::new().name("stderr".into());
        // Without a thread there is no log; nothing else depends on it.
        let _ = thread.spawn(move || lines.write(writer));
        queue
    }

    /// Sets the format of lines made by the queue itself.
    pub(super) fn set_format(&self, format: Format) {
        self.lock().format = format;
    }

    /// Sets the status. It is never shown among JSON.
    fn set_status(&self, lines: Vec<String>) {
        let mut state = self.lock();
        let is_quiet = state.quiet_until.is_some_and(|until| Instant::now() < until);
        if state.format == Format::Human && !is_quiet {
            state.status = lines;
        }
        drop(state);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a text that ends with its newline.
    pub(super) fn push(&self, line: String) {
        self.lock().push(line);
        self.changed.notify_all();
    }

    /// Adds a line, or counts it if it repeats recent ones. `summary` makes the line that reports the count.
    pub(super) fn push_folding(&self, line: String, kind: String, summary: impl FnOnce() -> Summary) {
        let mut state = self.lock();
        if state.fold.is_new(kind, Instant::now(), summary) {
            state.push(line);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Erases the status, and waits at most `limit` until everything is written, summaries of counted lines included. Returns
    /// whether it is.
    pub(super) fn flush(&self, limit: Duration) -> bool {
        let mut state = self.lock();
        state.make_room();
        for line in state.fold.due(Instant::now(), true) {
            state.push(line);
        }
        self.changed.notify_all();
        let waited = self.changed.wait_timeout_while(state, limit, |state| !state.is_written());
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.is_written()
    }

    /// Erases the status, and waits at most `limit` until the queue is written. Repeated lines continue to be counted.
    fn settle(&self, limit: Duration) {
        let mut state = self.lock();
        state.make_room();
        self.changed.notify_all();
        let waited = self.changed.wait_timeout_while(state, limit, |state| !state.is_written());
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// The thread's work. It ends with the process.
    fn write(&self, mut writer: impl Write) {
        loop {
            let line = self.next();
            // A failure cannot be reported anywhere.
            let _ = writer.write_all(line.as_bytes()).and_then(|()| writer.flush());
            self.lock().writing = false;
            self.changed.notify_all();
        }
    }

    fn next(&self) -> String {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            for line in state.fold.due(now, false) {
                state.push(line);
            }
            if let Some(line) = state.lines.pop_front() {
                state.bytes -= line.len();
                state.writing = true;
                return state.erasure() + &line;
            }
            if state.dropped > 0 {
                let dropped = std::mem::take(&mut state.dropped);
                state.writing = true;
                return state.erasure() + &dropped_lines(dropped, state.format);
            }
            if let Some(status) = state.redrawing() {
                state.writing = true;
                return status;
            }
            let wait = state.fold.next().map_or(Duration::MAX, |next| next.saturating_duration_since(now));
            state = match wait {
                Duration::MAX => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                wait => self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }
}

/// The line that reports dropped lines.
fn dropped_lines(dropped: u64, format: Format) -> String {
    let message = format!("{dropped} lines of the log were dropped: stderr was not read");
    match format {
        Format::Human => format!("warning: {message}\n"),
        Format::Json => line::json(Level::WARN, [("message", json!(message)), ("dropped", json!(dropped))]),
    }
}

/// The queue of this process.
pub(super) fn of_process() -> Arc<Queue> {
    static QUEUE: OnceLock<Arc<Queue>> = OnceLock::new();
    Arc::clone(QUEUE.get_or_init(|| Queue::start(TerminalSafe(io::stderr()))))
}

/// Stderr that delays writes of a background job while the terminal would stop it for writing (`stty tostop`).
struct TerminalSafe(io::Stderr);

impl Write for TerminalSafe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        while terminal::write_would_stop() {
            std::thread::sleep(TOSTOP_PAUSE);
        }
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Waits at most `limit` until stderr has received everything.
pub fn flush(limit: Duration) {
    of_process().flush(limit);
}

/// Shows these lines below everything else on stderr, which must be a terminal; none to erase them. Each must fit into a row. The
/// next flush of stderr erases them as well.
pub fn set_status(lines: Vec<String>) {
    of_process().set_status(lines);
}

/// Stderr for text other than the log, in order with the log. Each write is written whole or, if stderr is not read, dropped
/// whole. Flushing waits until it is written, for a quarter of a second at most.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        of_process().push(String::from_utf8_lossy(bytes).into_owned());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        of_process().settle(IN_ORDER_TIMEOUT);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_mins(1);

    /// A reader that accepts a text only when the test allows it.
    struct Gated {
        opened: mpsc::Receiver<()>,
        written: mpsc::Sender<String>,
    }

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Once the test has dropped its end, everything goes through.
            let _ = self.opened.recv();
            let _ = self.written.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn unread_stderr_blocks_nothing_and_dropped_lines_are_counted() {
        let ((open, opened), (written, read)) = (mpsc::channel(), mpsc::channel());
        let queue = Queue::start(Gated { opened, written });
        let line = "x".repeat(1 << 20) + "\n";
        for _ in 0..10 {
            queue.push(line.clone());
        }
        assert!(!queue.flush(Duration::from_millis(10)), "nothing was read");
        drop(open);
        assert!(queue.flush(LONG));
        let texts: Vec<String> = read.try_iter().collect();
        let whole = texts.iter().filter(|text| **text == line).count();
        let dropped = 10 - whole;
        assert!(dropped >= 6, "4 MiB have room");
        assert_eq!(
            texts.last().map(String::as_str),
            Some(&*format!("warning: {dropped} lines of the log were dropped: stderr was not read\n"))
        );
    }

    #[test]
    fn status_stays_below_the_lines_and_is_erased_by_a_flush() {
        let ((open, opened), (written, read)) = (mpsc::channel(), mpsc::channel());
        drop(open);
        let queue = Queue::start(Gated { opened, written });
        let next = || read.recv_timeout(LONG).expect("it is written");
        queue.set_status(vec!["one".into(), "two".into()]);
        assert_eq!(next(), "one\ntwo");
        queue.push("line\n".into());
        assert_eq!(next(), "\r\u{1b}[K\u{1b}[1A\u{1b}[Kline\n");
        assert_eq!(next(), "one\ntwo");
        queue.set_status(vec!["one".into()]);
        assert_eq!(next(), "\r\u{1b}[K\u{1b}[1A\u{1b}[Kone");
        assert!(queue.flush(LONG));
        assert_eq!(next(), "\r\u{1b}[K");
        queue.set_format(Format::Json);
        queue.set_status(vec!["one".into()]);
        assert!(queue.flush(LONG));
        assert_eq!(read.try_iter().count(), 0);
    }

    #[test]
    fn counted_lines_are_summarised_at_the_end() {
        let ((open, opened), (written, read)) = (mpsc::channel(), mpsc::channel());
        drop(open);
        let queue = Queue::start(Gated { opened, written });
        for _ in 0..62 {
            let summary = || Box::new(|times: u64| format!("refused, repeated {times} times\n")) as Summary;
            queue.push_folding("refused\n".into(), "refused".into(), summary);
        }
        assert!(queue.flush(LONG));
        let texts: Vec<String> = read.try_iter().collect();
        assert_eq!(texts.len(), 6);
        assert_eq!(texts[5], "refused, repeated 57 times\n");
    }
}
