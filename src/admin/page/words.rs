//! Numbers and states in the words of the page.

use std::fmt::{self, Display};

use crate::admin::model::{Condition, FailureStatus, Phase, Status, TargetStatus};

/// A client that has not logged in by then is worth a word, in seconds: usual logins are over sooner.
const SLOW_LOGIN: u64 = 3;

/// `12 s`, `3 min`, `2 h 5 min`, `4 days`.
pub(super) fn duration(seconds: u64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match hours {
        0 if minutes == 0 => format!("{seconds} s"),
        0 => format!("{minutes} min"),
        1..48 if minutes % 60 == 0 => format!("{hours} h"),
        1..48 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{} days", hours / 24),
    }
}

/// `999 B`, `1.2 kB`, `34 MB`, by powers of 1000.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    let mut tenths = u128::from(bytes) * 10;
    let mut unit = "B";
    for next in UNITS {
        // As it would be rounded.
        if tenths < 9995 {
            break;
        }
        tenths = (tenths + 500) / 1000;
        unit = next;
    }
    if unit == "B" || tenths >= 100 {
        format!("{} {unit}", (tenths + 5) / 10)
    } else {
        format!("{}.{} {unit}", tenths / 10, tenths % 10)
    }
}

/// `1 connection`, `2 connections`.
pub(super) fn counted(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// How a target does, by rising urgency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// Nothing is wrong.
    Fine,
    /// Worth knowing; it may pass.
    Attention,
    /// Connections fail or hang.
    Problem,
}

impl Level {
    /// The class in the style sheet.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Attention => "attention",
            Self::Problem => "problem",
        }
    }

    /// The word for people, with a sign that is not a colour.
    fn word(self) -> &'static str {
        match self {
            Self::Fine => "● Ready",
            Self::Attention => "▲ Attention",
            Self::Problem => "✖ Problem",
        }
    }
}

/// The class and the word of a target. While the process shuts down, no target is ready.
pub(super) fn sign(phase: Phase, level: Level) -> (&'static str, &'static str) {
    match (phase, level) {
        (Phase::Draining, Level::Fine | Level::Attention) => (Level::Attention.class(), "▲ Closing"),
        (Phase::Draining, Level::Problem) | (Phase::Starting | Phase::Running, _) => (level.class(), level.word()),
    }
}

/// Something about a target that a person should know.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) level: Level,
    /// One sentence or two: the state and its meaning for clients.
    pub(super) text: String,
    /// Facts that explain it.
    pub(super) detail: Option<String>,
    /// The remedy.
    pub(super) remedy: Option<String>,
}

impl Notice {
    fn new(level: Level, text: impl Display) -> Self {
        Self { level, text: text.to_string(), detail: None, remedy: None }
    }

    fn or_do(self, remedy: impl Display) -> Self {
        Self { remedy: Some(remedy.to_string()), ..self }
    }
}

/// The notices of a target, the most urgent first.
pub(super) fn notices(target: &TargetStatus) -> Vec<Notice> {
    let mut notices: Vec<Notice> = target.last_failure.iter().filter(|failure| !failure.over).map(failed).collect();
    for condition in Condition::ALL {
        let sessions = target.sessions.iter().filter(|session| session.condition == condition).count() as u64;
        if sessions > 0 {
            notices.extend(of_sessions(condition, sessions, &target.name));
        }
    }
    let waiting = target.clients.iter().filter(|client| !client.logged_in && client.age_seconds >= SLOW_LOGIN);
    let waiting: Vec<u64> = waiting.map(|client| client.age_seconds).collect();
    if let Some(longest) = waiting.iter().max() {
        let clients = counted(waiting.len() as u64, "client");
        let verb = if waiting.len() == 1 { "waits" } else { "wait" };
        let text = format!("{clients} {verb} for a login to the database, for up to {}.", duration(*longest));
        notices.push(Notice::new(Level::Attention, text));
    }
    if target.credentials.as_ref().is_some_and(|held| held.expires_in_seconds == Some(0)) {
        let text = "The AWS credentials have expired. The next connection asks for new ones.";
        let profile = target.profile.as_ref().map(|profile| format!(" --profile {profile}")).unwrap_or_default();
        let notice = Notice::new(Level::Attention, text);
        notices.push(notice.or_do(format_args!("Run rdsgate login{profile} to renew them now.")));
    }
    notices.sort_by_key(|notice| std::cmp::Reverse(notice.level));
    notices
}

fn failed(failure: &FailureStatus) -> Notice {
    let FailureStatus { stage, user, message, fact, hint, age_seconds, over: _ } = failure;
    let user = user.as_ref().map(|user| format!(" of the user {user:?}")).unwrap_or_default();
    let text =
        format!("The last connection{user} failed {} ago, at the stage {stage}: {message}", duration(*age_seconds));
    let mut notice = Notice::new(Level::Problem, text);
    notice.detail.clone_from(fact);
    notice.remedy.clone_from(hint);
    notice
}

fn of_sessions(condition: Condition, sessions: u64, target: &str) -> Option<Notice> {
    let number = counted(sessions, "SSM session");
    let one = sessions == 1;
    Some(match condition {
        Condition::Ready | Condition::Draining => return None,
        Condition::Restoring => {
            let verbs = if one {
                "has lost its connection to AWS and is"
            } else {
                "have lost their connections to AWS and are"
            };
            let text =
                format!("{number} {verbs} being resumed. Open connections wait and then go on; new ones take longer.");
            Notice::new(Level::Attention, text)
                .or_do("Check the network of this machine if this lasts longer than a minute.")
        }
        Condition::Full => {
            let verb = if one { "is" } else { "are" };
            let text = format!("{number} {verb} blocked, because a client does not read its results.");
            Notice::new(Level::Problem, text).or_do("Make the client read its results, or close it.")
        }
        Condition::Stuck => {
            let verb = if one { "is" } else { "are" };
            let text = format!("{number} {verb} blocked, because the bastion gets no answer from the database.");
            Notice::new(Level::Problem, text).or_do(format_args!("Run rdsgate doctor {target} to find the cause."))
        }
        Condition::Unresponsive => {
            let text = format!("The SSM agent of the bastion does not answer on {number}.");
            Notice::new(Level::Problem, text)
                .or_do(format_args!("Check that the bastion runs; rdsgate doctor {target} finds the cause."))
        }
    })
}

/// The level of a target.
pub(super) fn level(notices: &[Notice]) -> Level {
    notices.iter().map(|notice| notice.level).max().unwrap_or(Level::Fine)
}

/// The state of the process in one line, which screen readers speak when it changes. Counts that change all the time are not in it.
pub(super) struct Summary<'a> {
    pub(super) status: &'a Status,
    pub(super) levels: &'a [Level],
}

impl Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status.phase {
            Phase::Starting => return f.write_str("Starting: rdsgate does not listen yet."),
            Phase::Draining => {
                return f.write_str(
                    "Shutting down: no new connections are accepted. Open ones have a moment to finish, then rdsgate ends.",
                );
            }
            Phase::Running => {}
        }
        let named = |level: Level| -> Vec<&str> {
            let targets = self.status.targets.iter().zip(self.levels);
            targets.filter(|(_, found)| **found == level).map(|(target, _)| target.name.as_str()).collect()
        };
        let (problems, attention) = (named(Level::Problem), named(Level::Attention));
        write!(f, "Running.")?;
        if !problems.is_empty() {
            write!(f, " Problem with {}.", problems.join(", "))?;
        }
        if !attention.is_empty() {
            write!(f, " Attention: {}.", attention.join(", "))?;
        }
        if problems.is_empty() && attention.is_empty() {
            let targets = self.status.targets.len() as u64;
            write!(
                f,
                " {} ready.",
                if targets == 1 { "The target is".into() } else { format!("All {targets} targets are") }
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_bytes_have_two_digits_or_three() {
        let durations = [0, 59, 60, 3599, 3600, 7500, 172_799, 172_800].map(duration);
        assert_eq!(durations, ["0 s", "59 s", "1 min", "59 min", "1 h", "2 h 5 min", "47 h 59 min", "2 days"]);
        let sizes = [0, 999, 1000, 1249, 9_949, 9_951, 34_000_000, 999_400, 999_500, u64::MAX].map(bytes);
        let expected = ["0 B", "999 B", "1.0 kB", "1.2 kB", "9.9 kB", "10 kB", "34 MB", "999 kB", "1.0 MB", "18 EB"];
        assert_eq!(sizes, expected);
    }
}
