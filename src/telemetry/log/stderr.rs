//! Stderr behind a bounded queue, written by a thread of its own: a terminal that is stopped, or a pipe that is not read, must
//! not stop the proxy. Lines that find no room are dropped, and their number is written when there is room again.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use serde_json::json;
use tracing::Level;

use super::{
    Format,
    fold::{Fold, Summary},
    line,
};

/// Most bytes that wait.
const ROOM: usize = 4 << 20;
/// How often to look whether a terminal lets a job in the background write.
const TOSTOP_PAUSE: Duration = Duration::from_millis(250);
/// Most time that [`Stderr::flush`] waits, where what is written next should not come before.
const IN_ORDER_TIMEOUT: Duration = Duration::from_millis(250);

/// Lines on their way out.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Lines have come, or have been written.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: VecDeque<String>,
    /// In `lines`.
    bytes: usize,
    /// Lines that found no room since the last that did.
    dropped: u64,
    /// The thread is writing a line that is not in `lines` any more.
    writing: bool,
    fold: Fold,
    /// Of the lines that are made here.
    format: Format,
}

impl State {
    fn push(&mut self, line: String) {
        if self.bytes + line.len() > ROOM {
            self.dropped += 1;
            return;
        }
        self.bytes += line.len();
        self.lines.push_back(line);
    }

    fn is_written(&self) -> bool {
        self.lines.is_empty() && !self.writing && self.dropped == 0
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

    /// How to write what is said here.
    pub(super) fn set_format(&self, format: Format) {
        self.lock().format = format;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a text that ends with its newline.
    pub(super) fn push(&self, line: String) {
        self.lock().push(line);
        self.changed.notify_all();
    }

    /// Adds a line unless others of its kind came just before, which are then counted; `summary` makes the line that says
    /// their number.
    pub(super) fn push_folding(&self, line: String, kind: String, summary: impl FnOnce() -> Summary) {
        let mut state = self.lock();
        if state.fold.is_new(kind, Instant::now(), summary) {
            state.push(line);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until all is written, but not longer than `limit`; whether it is. Lines that were counted are among it.
    pub(super) fn flush(&self, limit: Duration) -> bool {
        let mut state = self.lock();
        for line in state.fold.due(Instant::now(), true) {
            state.push(line);
        }
        self.changed.notify_all();
        let waited = self.changed.wait_timeout_while(state, limit, |state| !state.is_written());
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.is_written()
    }

    /// Waits until what has come is written, but not longer than `limit`. Lines go on being counted.
    fn settle(&self, limit: Duration) {
        let waited = self.changed.wait_timeout_while(self.lock(), limit, |state| !state.is_written());
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// The thread's work. It ends with the process.
    fn write(&self, mut writer: impl Write) {
        loop {
            let line = self.next();
            // There is nowhere to complain when that fails.
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
                return line;
            }
            if state.dropped > 0 {
                let dropped = std::mem::take(&mut state.dropped);
                state.writing = true;
                return told(dropped, state.format);
            }
            let wait = state.fold.next().map_or(Duration::MAX, |next| next.saturating_duration_since(now));
            state = match wait {
                Duration::MAX => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                wait => self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }
}

/// The number of lines that are missing.
fn told(dropped: u64, format: Format) -> String {
    let message = format!("{dropped} lines of the log were dropped: stderr was not read");
    match format {
        Format::Human => format!("warning: {message}\n"),
        Format::Json => line::json(Level::WARN, [("message", json!(message)), ("dropped", json!(dropped))]),
    }
}

/// The queue of this process.
pub(super) fn of_process() -> Arc<Queue> {
    static QUEUE: OnceLock<Arc<Queue>> = OnceLock::new();
    Arc::clone(QUEUE.get_or_init(|| Queue::start(Patient(io::stderr()))))
}

/// Stderr, which a job in the background does not write to where the terminal would stop it for that (`stty tostop`).
struct Patient(io::Stderr);

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        while self.would_stop_us() {
            std::thread::sleep(TOSTOP_PAUSE);
        }
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Patient {
    #[cfg(unix)]
    fn would_stop_us(&self) -> bool {
        use rustix::{
            process::getpgrp,
            termios::{LocalModes, tcgetattr, tcgetpgrp},
        };
        // No attributes: not a terminal.
        tcgetattr(&self.0).is_ok_and(|modes| modes.local_modes.contains(LocalModes::TOSTOP))
            && tcgetpgrp(&self.0).is_ok_and(|group| group != getpgrp())
    }

    #[cfg(not(unix))]
    fn would_stop_us(&self) -> bool {
        false
    }
}

/// Waits until stderr has all that was said, but not longer than `limit`.
pub fn flush(limit: Duration) {
    of_process().flush(limit);
}

/// Stderr for what is not the log, in order with it. Each write is text that is written whole or, when stderr is not read,
/// dropped whole; flushing waits until it is written, for a quarter of a second at most.
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

    /// A reader that takes a text only when the test says so.
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
    fn a_stderr_that_is_not_read_holds_up_nothing_and_what_was_dropped_is_counted() {
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
    fn what_was_counted_is_written_at_the_end() {
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
