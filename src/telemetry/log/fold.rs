//! Lines that repeat each other: the first ones are written, the others counted and told in one line. Sans-IO.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// Lines of one kind that are written within [`WINDOW`] before the others are counted.
pub(super) const BURST: u64 = 5;
/// How long lines are counted before their number is written.
pub(super) const WINDOW: Duration = Duration::from_secs(10);
/// Kinds that are looked after at a time; lines of further ones are all written.
const KINDS: usize = 256;

/// Makes the line that stands for a number of others.
pub(super) type Summary = Box<dyn FnOnce(u64) -> String + Send>;

/// What was written lately.
#[derive(Default)]
pub(super) struct Fold {
    kinds: HashMap<String, Kind>,
}

/// Lines that repeat each other.
struct Kind {
    /// When their number is written.
    ends: Instant,
    /// In this window.
    seen: u64,
    /// Not written.
    held: u64,
    /// Of the last one that was not written.
    summary: Option<Summary>,
}

impl Fold {
    /// Whether a line is to be written. If not, `summary` makes the line that stands for it and others.
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

    /// When [`Fold::due`] has something to do.
    pub(super) fn next(&self) -> Option<Instant> {
        self.kinds.values().map(|kind| kind.ends).min()
    }

    /// The numbers of the windows that are over at `now`, or with `all` of every window. A kind that was held goes on being
    /// counted without a new burst.
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
    fn after_a_burst_lines_are_counted_and_their_number_is_told_when_the_window_ends() {
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
        // A storm that goes on is a line a window.
        assert!(!seen(&mut fold, "refused", start + WINDOW));
        assert_eq!(fold.due(start + WINDOW, true), ["repeated 1 times"]);
        // One that is over is forgotten.
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
