//! The last failure to connect to the database of a target. `/status` and the page show it, in the words that the client received.
//! It holds no secret, because those words hold none, and one failure for each target, with bounded texts.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::stage::Stage;
use crate::engine::Failure;

/// The longest text that is kept, in bytes. Messages have some hundred.
const MAX_TEXT: usize = 2000;

/// The last failure of one target. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct LastFailure(Arc<Mutex<Option<Kept>>>);

#[derive(Debug)]
struct Kept {
    at: Instant,
    report: Report,
}

/// A failure to connect, at the time of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The stage that failed.
    pub stage: Stage,
    /// The database user; empty where it was not known yet.
    pub user: String,
    /// The event with its causes, on one line.
    pub message: String,
    /// The facts that AWS gave about it.
    pub fact: Option<String>,
    /// The remedy.
    pub hint: Option<String>,
    /// The time since then.
    pub age: Duration,
    /// A client has logged in since then.
    pub is_over: bool,
}

impl LastFailure {
    /// Keeps a failure in the place of an earlier one. `hint` wins over its own. Failures of the client's side say nothing about the
    /// target and are left out.
    pub fn record(&self, stage: Stage, failure: &Failure<'_>, hint: Option<&str>, now: Instant) {
        if stage == Stage::Client {
            return;
        }
        let report = Report {
            stage,
            user: bounded(failure.user),
            message: bounded(&failure.message),
            fact: failure.fact.as_deref().map(bounded),
            hint: hint.or(failure.hint.as_deref()).map(bounded),
            age: Duration::ZERO,
            is_over: false,
        };
        *self.lock() = Some(Kept { at: now, report });
    }

    /// A client has logged in: an earlier failure is over.
    pub fn logged_in(&self) {
        if let Some(kept) = &mut *self.lock() {
            kept.report.is_over = true;
        }
    }

    /// The last failure, if there was one.
    pub fn report(&self, now: Instant) -> Option<Report> {
        let kept = self.lock();
        let Kept { at, report } = kept.as_ref()?;
        Some(Report { age: now.saturating_duration_since(*at), ..report.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The text, or as much of it as is kept.
fn bounded(text: &str) -> String {
    match text.get(..text.floor_char_boundary(MAX_TEXT)) {
        Some(kept) if kept.len() < text.len() => format!("{kept}…"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{connect::Step, engine::Kind};

    fn failure<'a>(message: &str, user: &'a str) -> Failure<'a> {
        Failure {
            kind: Kind::Unreachable,
            message: message.into(),
            last_cause: String::new(),
            context: None,
            fact: None,
            hint: Some("Start the bastion.".into()),
            target: "orders",
            user,
            is_unnamed: false,
            login: crate::login::Login::Iam,
            permission: String::new(),
            mapping: crate::service::UserMapping::OfUser,
            doctor: String::new(),
        }
    }

    #[test]
    fn failure_is_kept_until_the_next_one_and_is_over_after_a_login() {
        let (last, start) = (LastFailure::default(), Instant::now());
        assert_eq!(last.report(start), None);
        last.logged_in();
        last.record(Stage::Client, &failure("port probe", ""), None, start);
        assert_eq!(last.report(start), None, "a client's own fault is not one of the target");

        last.clone().record(Stage::Connect(Step::Route), &failure("no route", "app"), None, start);
        let report = last.report(start + Duration::from_secs(9)).unwrap();
        assert_eq!((report.message.as_str(), report.user.as_str(), report.age.as_secs()), ("no route", "app", 9));
        assert_eq!((report.hint.as_deref(), report.is_over), (Some("Start the bastion."), false));
        last.logged_in();
        assert!(last.report(start).unwrap().is_over);
        last.record(Stage::Connect(Step::Login), &failure("refused", "app"), Some("Grant rds_iam."), start);
        let report = last.report(start).unwrap();
        assert_eq!((report.hint.as_deref(), report.is_over), (Some("Grant rds_iam."), false));
    }

    #[test]
    fn texts_are_bounded() {
        let last = LastFailure::default();
        let long = "ä".repeat(MAX_TEXT);
        last.record(Stage::Connect(Step::Login), &failure(&long, &long), None, Instant::now());
        let report = last.report(Instant::now()).unwrap();
        assert_eq!(report.message.chars().count(), MAX_TEXT / 2 + 1);
        assert!(report.user.ends_with('…'));
    }
}
