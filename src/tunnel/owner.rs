//! The process that started an SSM session: a mark in the session's reason, which AWS gives back.
//!
//! ```text
//!   rdsgate/0.1.0 by alice for orders.…:5432 #1a2b3c4d @5e6f70.1234.89ab
//!                                             session   machine process start
//! ```
//!
//! A process ends its sessions itself. A session whose process has gone is an orphan, and ends by the account's idle timeout.
//! Another machine's processes cannot be looked at from here, so its sessions are never orphans.

use std::{fmt::Write as _, sync::OnceLock};

use aws_lc_rs::digest::{SHA256, digest};
use ssm_session::request::MAX_REASON;

use crate::platform::process::{self, started};

/// The process that started a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// A process of this machine, which runs.
    Process(u32),
    /// A process of this machine, which has ended.
    Ended(u32),
    /// A process of another machine or container.
    Elsewhere,
    /// The reason has no mark: an older version, or another program.
    Unknown,
}

impl Owner {
    /// The owner of a session with this reason.
    pub fn of(reason: &str) -> Self {
        Self::among(reason, machine(), started)
    }

    fn among(reason: &str, machine: &str, started: impl Fn(u32) -> Option<String>) -> Self {
        let mark = reason.rsplit_once(" @").map(|(_, mark)| mark);
        let Some([of_machine, pid, start]) = mark.and_then(parts) else { return Self::Unknown };
        let Ok(pid) = pid.parse::<u32>() else { return Self::Unknown };
        if of_machine != machine {
            return Self::Elsewhere;
        }
        match started(pid) {
            Some(now) if short(&now, 4) == start => Self::Process(pid),
            _ => Self::Ended(pid),
        }
    }
}

fn parts(mark: &str) -> Option<[&str; 3]> {
    let mut parts = mark.split('.');
    let parts = [parts.next()?, parts.next()?, parts.next()?];
    parts.iter().all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric())).then_some(parts)
}

/// A reason with the mark of this process behind it. As much of the reason as is allowed: its end, which holds the session's own
/// mark, stays.
pub(super) fn marked(reason: &str) -> String {
    static MARK: OnceLock<String> = OnceLock::new();
    let mark = MARK.get_or_init(|| {
        let pid = std::process::id();
        format!(" @{}.{pid}.{}", machine(), short(&started(pid).unwrap_or_default(), 4))
    });
    with_mark(reason, mark)
}

fn with_mark(reason: &str, mark: &str) -> String {
    let (text, own) =
        reason.rsplit_once(" #").map_or((reason, String::new()), |(text, own)| (text, format!(" #{own}")));
    let room = MAX_REASON.saturating_sub(own.chars().count() + mark.chars().count());
    let text: String = text.chars().take(room).collect();
    format!("{text}{own}{mark}")
}

/// A short name of this machine and, in a container, of its process ids. It reveals nothing of either.
fn machine() -> &'static str {
    static MACHINE: OnceLock<String> = OnceLock::new();
    MACHINE.get_or_init(|| short(&process::machine(), 6))
}

/// The first hexadecimal digits of a text's hash.
fn short(text: &str, digits: usize) -> String {
    let mut hex = String::new();
    for byte in digest(&SHA256, text.as_bytes()).as_ref() {
        let _ = write!(hex, "{byte:02x}");
    }
    hex.truncate(digits);
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_belongs_to_the_process_that_marked_it() {
        let reason = marked("rdsgate/0.1.0 for db.example:5432 #1a2b3c4d");
        assert!(reason.starts_with("rdsgate/0.1.0 for db.example:5432 #1a2b3c4d @"), "{reason}");
        assert_eq!(Owner::of(&reason), Owner::Process(std::process::id()));
        let owner = |reason: &str| Owner::among(reason, "a1b2c3", |pid| (pid == 7).then(|| "4711".to_owned()));
        let start = short("4711", 4);
        assert_eq!(owner(&format!("x #1 @a1b2c3.7.{start}")), Owner::Process(7));
        assert_eq!(owner("x #1 @a1b2c3.7.ffff"), Owner::Ended(7), "another process has its id now");
        assert_eq!(owner(&format!("x #1 @a1b2c3.8.{start}")), Owner::Ended(8));
        assert_eq!(owner(&format!("x #1 @d4e5f6.7.{start}")), Owner::Elsewhere);
        for reason in ["", "x #1", "mail me @ home", "x @a1b2c3.7", "x @a1b2c3.seven.0000", "x @a.\u{1b}.b"] {
            assert_eq!(owner(reason), Owner::Unknown, "{reason:?}");
        }
    }

    #[test]
    fn marks_stay_whole_behind_a_long_reason() {
        let reason = with_mark(&format!("{} #1a2b3c4d", "ö".repeat(245)), " @a1b2c3.7.0000");
        assert_eq!(reason.chars().count(), MAX_REASON);
        assert!(reason.ends_with("ö #1a2b3c4d @a1b2c3.7.0000"), "{reason}");
    }
}
