//! Folding of repeated lines: the first ones are written, the others counted and summarised in one line. Sans-IO.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// The number of lines of one kind that are written within [`WINDOW`]; further ones are counted.
pub(super) const BURST: u64 = 5;
/// The time for which lines are counted before their number is written.
pub(super) const WINDOW: Duration = Duration::from_secs(10);
/// The number of kinds tracked at a time. Lines of further kinds are all written.
const KINDS: usize = 256;

/// Makes the line that summarises a number of repetitions.
pub(super) type Summary = Box<dyn FnOnce(u64) -> String + Send>;

/// The kinds of lines written within the last window.
#[derive(Default)]
pub(super) struct Fold {
    kinds: HashMap<String, Kind>,
}

/// The state of one kind of line.
struct Kind {
    /// The end of the window, when the summary is written.
    ends: Instant,
    /// Lines in this window, written or not.
    seen: u64,
    /// Lines in this window that were not written.
    held: u64,
    /// Makes the summary of the last line that was not written.
    summary: Option<Summary>,
}

impl Fold {
    /// Whether to write a line. If not, `summary` will make the line that summarises it and others.
    pub(super) fn is_new(&mut self, kind: String, now: Instant, summary: impl FnOnce() -> Summary) -> bool {
        if let Some(known) = self.kinds.get_mut(&kind) {
            known.seen += 1;
            if known.seen <= BURST {
                return true;
            }
            known.held += 1;
            known.summary = Some(summary());
            return false;
        }
        if self.kinds.len() < KINDS {
            self.kinds.insert(kind, Kind { ends: now + WINDOW, seen: 1, held: 0, summary: None });
        }
        true
    }

    /// The next time at which [`Fold::due`] returns lines; `None` if no window is open.
    pub(super) fn next(&self) -> Option<Instant> {
        self.kinds.values().map(|kind| kind.ends).min()
    }

    /// The summaries of the windows that have ended at `now`, or with `all` of every window. A kind with a summary continues
    /// to be counted, without a new burst.
    pub(super) fn due(&mut self, now: Instant, all: bool) -> Vec<String> {
        let mut lines = Vec::new();
        self.kinds.retain(|_, kind| {
            if kind.ends > now && !all {
                return true;
            }
            let held = std::mem::take(&mut kind.held);
            if held == 0 {
                return false;
            }
            lines.extend(kind.summary.take().map(|summary| summary(held)));
            (kind.ends, kind.seen) = (now + WINDOW, BURST);
            true
        });
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_after_a_burst_are_summarised_at_the_end_of_the_window() {
        let mut fold = Fold::default();
        let start = Instant::now();
        let seen = |fold: &mut Fold, kind: &str, now| {
            fold.is_new(kind.into(), now, || Box::new(|times| format!("repeated {times} times")))
        };
        let written = (0..62).filter(|_| seen(&mut fold, "refused", start)).count();
        assert_eq!(written, 5);
        assert!(seen(&mut fold, "something else", start));
        assert_eq!(fold.next(), Some(start + WINDOW));
        assert_eq!(fold.due(start + WINDOW / 2, false), Vec::<String>::new());
        assert_eq!(fold.due(start + WINDOW, false), ["repeated 57 times"]);
        // A storm that continues causes one line for each window.
        assert!(!seen(&mut fold, "refused", start + WINDOW));
        assert_eq!(fold.due(start + WINDOW, true), ["repeated 1 times"]);
        // A storm that has ended is forgotten.
        assert_eq!(fold.due(start + 3 * WINDOW, false), Vec::<String>::new());
        assert_eq!(fold.next(), None);
        assert!(seen(&mut fold, "refused", start + 3 * WINDOW));
    }

    #[test]
    fn kinds_are_bounded() {
        let mut fold = Fold::default();
        let now = Instant::now();
        for number in 0..10 * KINDS {
            assert!(fold.is_new(number.to_string(), now, || unreachable!()));
        }
        assert_eq!(fold.kinds.len(), KINDS);
    }
}
