//! Parsing of times: RFC 3339, with every variation that Python's `dateutil` accepts in the AWS CLI.

use std::time::{Duration, SystemTime};

/// Parses a date, a time, and an offset from UTC. Seconds and their fraction may be missing. The offset is `Z`, `UTC`, `GMT`, or
/// hours with or without minutes and colon. `None` for anything else, including a time without an offset, which could be in any
/// zone.
pub(super) fn parse(text: &str) -> Option<SystemTime> {
    let mut rest = Rest(text.trim());
    let year = rest.number(4)?;
    let dashes = rest.accept("-");
    let month = rest.number(2)?;
    if dashes != rest.accept("-") {
        return None;
    }
    let day = rest.number(2)?;
    if !["T", "t", " "].iter().any(|separator| rest.accept(separator)) {
        return None;
    }
    let hour = rest.number(2)?;
    let colons = rest.accept(":");
    let minute = rest.number(2)?;
    let more = if colons { rest.accept(":") } else { rest.0.starts_with(|c: char| c.is_ascii_digit()) };
    let second = if more { rest.number(2)? } else { 0 };
    if more && (rest.accept(".") || rest.accept(",")) {
        // Fractions of a second are ignored.
        rest.digits()?;
    }
    let offset = rest.offset()?;
    let valid = (1..=12).contains(&month)
        && (1..=days_in(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !valid || !rest.0.is_empty() {
        return None;
    }
    let seconds = days_since_epoch(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds >= 0 {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    }
}

/// The unread rest of the text.
struct Rest<'t>(&'t str);

impl Rest<'_> {
    /// Consumes `word` if the text continues with it.
    fn accept(&mut self, word: &str) -> bool {
        self.0.strip_prefix(word).map(|rest| self.0 = rest).is_some()
    }

    /// A number with exactly this many digits.
    fn number(&mut self, digits: usize) -> Option<i64> {
        let (number, rest) = self.0.split_at_checked(digits)?;
        self.0 = rest;
        number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok()).flatten()
    }

    /// One or more digits.
    fn digits(&mut self) -> Option<()> {
        let rest = self.0.trim_start_matches(|c: char| c.is_ascii_digit());
        (rest.len() < self.0.len()).then(|| self.0 = rest)
    }

    /// Seconds east of UTC.
    fn offset(&mut self) -> Option<i64> {
        self.0 = self.0.trim_start();
        if ["Z", "z", "UTC", "GMT"].iter().any(|utc| self.accept(utc)) {
            return Some(0);
        }
        let sign = if self.accept("+") {
            1
        } else if self.accept("-") {
            -1
        } else {
            return None;
        };
        let hours = self.number(2)?;
        let colon = self.accept(":");
        let minutes = if colon || !self.0.is_empty() { self.number(2)? } else { 0 };
        (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
    }
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since the Unix epoch in the proleptic Gregorian calendar (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`).
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings_of_a_time_are_read() {
        let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(1_764_324_672);
        for text in [
            "2025-11-28T10:11:12Z",
            "2025-11-28t10:11:12z",
            "2025-11-28 10:11:12Z",
            "2025-11-28T10:11:12UTC",
            "2025-11-28T10:11:12 UTC",
            "2025-11-28 10:11:12 GMT",
            "2025-11-28T10:11:12.5Z",
            "2025-11-28T10:11:12,123456789Z",
            "2025-11-28T10:11:12+00:00",
            "2025-11-28T10:11:12-00:00",
            "2025-11-28T11:11:12+0100",
            "2025-11-28T12:11:12+02",
            "2025-11-27T22:41:12.000-11:30",
            "20251128T101112Z",
            " 2025-11-28T10:11:12Z\n",
        ] {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
        assert_eq!(parse("1970-01-01T00:00Z"), Some(SystemTime::UNIX_EPOCH));
        assert_eq!(parse("2024-02-29T00:00:00Z"), Some(SystemTime::UNIX_EPOCH + Duration::from_hours(474_768)));
        assert_eq!(parse("1969-12-31T23:59:59Z"), Some(SystemTime::UNIX_EPOCH - Duration::from_secs(1)));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "soon",
            "1764324672",
            "2025-11-28",
            "2025-11-28T10:11:12",
            "2025-11-28T10:11:12Zx",
            "2025-13-28T10:11:12Z",
            "2025-02-29T10:11:12Z",
            "2025-11-28T24:00:00Z",
            "2025-11-28T10:60:00Z",
            "2025-11-28T10:11:12+25:00",
            "2025-1128T10:11:12Z",
            "2025-11-28T10:11:12.Z",
            "\u{e4}025-11-28T10:11:12Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
