//! A report as text for people: a line for each check, then the checks that could not be made, and the failures last.
//!
//! ```text
//!   ok       IAM principal: arn:aws:iam::123456789012:user/dev
//!   warn     local clock, compared with AWS: 120 s behind AWS
//!            why: …
//!            fix: …
//!   unknown  not checked: query, IAM login of the database user: the login failed
//!   FAIL     login: …
//! ```

use std::{fmt::Write as _, time::Duration};

use safe_display::printable;

use crate::{
    cli::progress::cut,
    doctor::{Check, Finding, Report, Stage, Verdict},
    telemetry::log::wrapped,
};

/// Where the words begin, behind the verdict.
const INDENT: usize = 9;
/// The fewest columns of a cause that shares its line with the fix.
const BRIEF: usize = 30;
/// How the fact of a check begins that there was no need to make.
const NOT_NEEDED: &str = "not needed";
/// The narrowest and the widest report.
const WIDTHS: (usize, usize) = (40, 120);

/// How a report is laid out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    /// The columns of the terminal, or of a page.
    pub(super) columns: usize,
    /// Whether a line that is too long loses its end, as on a terminal, or goes on in the next line.
    pub(super) cuts: bool,
    /// Whether verdicts have colours.
    pub(super) colour: bool,
    /// Whether every fact is shown, with the time that each check took.
    pub(super) verbose: bool,
}

impl Layout {
    fn width(&self) -> usize {
        self.columns.clamp(WIDTHS.0, WIDTHS.1)
    }

    /// A check that has ended. One that was not made comes at the end.
    pub(super) fn settled(&self, stage: &Stage) -> String {
        if self.verbose {
            return self.details(stage, true);
        }
        if stage.skipped().is_some() {
            return String::new();
        }
        match stage.verdict {
            Verdict::Pass if self.cuts && fact_of(stage).starts_with(NOT_NEEDED) => String::new(),
            // The end of the report has the rest.
            Verdict::Pass | Verdict::Fail => self.one_line(stage),
            Verdict::Unknown | Verdict::Warn if self.cuts => self.one_line(stage),
            Verdict::Unknown | Verdict::Warn => self.details(stage, false),
        }
    }

    fn one_line(&self, stage: &Stage) -> String {
        let text = format!("{}: {}", stage.checked, fact_of(stage));
        if self.cuts {
            let text = cut(&text, self.width().saturating_sub(INDENT));
            return format!("{} {text}\n", self.verdict(stage.verdict));
        }
        format!("{} {}", self.verdict(stage.verdict), self.wrapped(&text))
    }

    /// A check with its findings; without `all`, only those that are not in order.
    fn details(&self, stage: &Stage, all: bool) -> String {
        let shown: Vec<&Finding> =
            stage.findings.iter().filter(|finding| all || finding.verdict != Verdict::Pass).collect();
        let mut text = format!("{} ", self.verdict(stage.verdict));
        if let ([finding], false) = (shown.as_slice(), all) {
            text += &self.wrapped(&format!("{}: {}", stage.checked, finding.fact));
            text += &self.advice(finding);
            return text;
        }
        if all {
            let took = Duration::from_millis(stage.milliseconds).as_millis();
            let _ = writeln!(text, "{} ({took} ms)", stage.checked);
        } else {
            let _ = writeln!(text, "{}", stage.checked);
        }
        for finding in &shown {
            // The line above has the verdict of the only one.
            let mark = match finding.verdict {
                Verdict::Pass => String::new(),
                _ if shown.len() == 1 => String::new(),
                verdict => format!("{}: ", word(verdict)),
            };
            let _ = write!(text, "{:INDENT$}{}", "", self.wrapped(&format!("{mark}{}", finding.fact)));
            text += &self.advice(finding);
        }
        text
    }

    fn advice(&self, finding: &Finding) -> String {
        let mut text = String::new();
        if let Some(cause) = &finding.cause {
            let _ = write!(text, "{:INDENT$}{}", "", self.wrapped(&format!("why: {cause}")));
        }
        match &finding.fix {
            // A command is pasted as it is.
            Some(fix) if finding.verbatim => {
                let _ = writeln!(text, "{:INDENT$}fix: {fix}", "");
            }
            Some(fix) => {
                let _ = write!(text, "{:INDENT$}{}", "", self.wrapped(&format!("fix: {fix}")));
            }
            None => {}
        }
        text
    }

    /// The end of the report: the checks that were not made, the failures, and the rows that name cause and next step. `stopped` is
    /// the end of a run by a signal. On a terminal the failure that decides leaves no room for others, nor for warnings.
    pub(super) fn end(&self, name: &str, report: &Report, code: u8, stopped: bool) -> String {
        let mut text = String::new();
        // Each of them has been shown already where everything is.
        for (why, checks) in if self.verbose { Vec::new() } else { skipped(report) } {
            let names: Vec<String> = checks.iter().map(|check| format!("{check:?}").to_lowercase()).collect();
            let line = format!("not checked, because {why}: {}", names.join(", "));
            let _ = write!(text, "{} {}", self.verdict(Verdict::Unknown), self.wrapped(&line));
        }
        let deciding = report.failure().map(|(stage, _)| stage.check);
        let failed = report.stages.iter().filter(|stage| stage.verdict == Verdict::Fail);
        let (last, others): (Vec<&Stage>, Vec<&Stage>) = failed.partition(|stage| Some(stage.check) == deciding);
        let doubtful = report.stages.iter().filter(|stage| [Verdict::Unknown, Verdict::Warn].contains(&stage.verdict));
        // On a pipe as well, so that the end of a report has what matters.
        let before: Vec<&Stage> = match (self.cuts && !self.verbose, deciding) {
            (false, _) => others.into_iter().rev().collect(),
            (true, Some(_)) => Vec::new(),
            (true, None) => doubtful.filter(|stage| stage.skipped().is_none()).collect(),
        };
        for stage in before {
            text += &self.details(stage, false);
        }
        let bottom = bottom_line(name, report, code, stopped, self.width());
        for stage in last {
            let mut stage = stage.clone();
            // A terminal has no room for a long fix twice.
            if self.cuts && !self.verbose && bottom.contains('\n') {
                let fix = report.failure().and_then(|(_, finding)| finding.fix.clone());
                stage.findings.iter_mut().filter(|finding| finding.fix == fix).for_each(|finding| finding.fix = None);
            }
            text += &self.details(&stage, false);
        }
        text + &bottom + "\n"
    }

    /// The paragraph behind the indentation, in lines that are broken between words. A longer word has a line of its own.
    fn wrapped(&self, paragraph: &str) -> String {
        broken(paragraph, self.width(), &" ".repeat(INDENT))
    }

    /// The verdict as a word of eight columns.
    fn verdict(&self, verdict: Verdict) -> String {
        let word = word(verdict);
        let colour = match verdict {
            Verdict::Pass => "32",
            Verdict::Unknown => "36",
            Verdict::Warn => "33",
            Verdict::Fail => "1;31",
        };
        let padding = " ".repeat(INDENT.saturating_sub(1 + word.len()));
        if self.colour { format!("\u{1b}[{colour}m{word}\u{1b}[0m{padding}") } else { format!("{word}{padding}") }
    }
}

/// A paragraph in lines of at most `columns` columns, each but the first behind `indent`; the first begins there already.
fn broken(paragraph: &str, columns: usize, indent: &str) -> String {
    let lines = paragraph.lines().map(|line| wrapped(line, indent.len(), columns, indent));
    lines.collect::<Vec<_>>().join(&format!("\n{indent}")) + "\n"
}

/// The first words of a text in at most `room` columns, with an ellipsis where others follow.
fn brief(text: &str, room: usize) -> String {
    let text = text.lines().next().unwrap_or_default().trim_end_matches([':', '.', ';']);
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let kept: String = text.chars().take(room.saturating_sub(1)).collect();
    format!("{} …", kept.rsplit_once(' ').map_or(&*kept, |(words, _)| words))
}

/// The line of a check while others above it run.
pub(super) fn headline(stage: &Stage) -> String {
    format!("{:8} {}: {}", word(stage.verdict), stage.checked, fact_of(stage))
}

/// The end of a report, which names the cause and the next step: in one row if the step leaves room for enough of the cause, else in
/// a row for each. A command is never cut. The lines above have the whole of both.
fn bottom_line(name: &str, report: &Report, code: u8, stopped: bool, columns: usize) -> String {
    let name = printable::line(name);
    let stopped = if stopped { "stopped; " } else { "" };
    match report.failure() {
        Some((_, finding)) => {
            let name = name.split('.').next().unwrap_or_default();
            let (before, after) = (format!("{name}: {stopped}"), format!(" (exit code {code})"));
            let room = columns.saturating_sub(before.chars().count() + after.len()).max(BRIEF);
            let Some(fix) = &finding.fix else { return format!("{before}{}{after}", brief(&finding.fact, room)) };
            let beside = room.saturating_sub("; fix: ".len() + fix.chars().count());
            if beside >= finding.fact.chars().count().min(BRIEF) && !fix.contains('\n') {
                return format!("{before}{}; fix: {fix}{after}", brief(&finding.fact, beside));
            }
            let fix = if finding.verbatim { fix.clone() } else { broken(fix, columns, "     ") };
            format!("{before}{}{after}\nfix: {}", brief(&finding.fact, room), fix.trim_end())
        }
        None if stopped.is_empty() => format!("{name}: nothing failed{}", warnings(report)),
        None => format!("{name}: {stopped}nothing failed so far (exit code {code})"),
    }
}

fn warnings(report: &Report) -> String {
    match report.count(Verdict::Warn) {
        0 => String::new(),
        1 => ", 1 warning".into(),
        count => format!(", {count} warnings"),
    }
}

/// The fact that a line has room for: the worst, and of several the first.
fn fact_of(stage: &Stage) -> &str {
    let worst = stage.findings.iter().find(|finding| finding.verdict == stage.verdict);
    worst.map(|finding| finding.fact.lines().next().unwrap_or_default()).unwrap_or_default()
}

/// The checks that were not made, by their reason.
fn skipped(report: &Report) -> Vec<(&'static str, Vec<Check>)> {
    let mut groups: Vec<(&'static str, Vec<Check>)> = Vec::new();
    for stage in &report.stages {
        let Some(why) = stage.skipped() else { continue };
        match groups.iter_mut().find(|(known, _)| *known == why) {
            Some((_, checks)) => checks.push(stage.check),
            None => groups.push((why, vec![stage.check])),
        }
    }
    groups
}

/// Failures are to be found by eye.
fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "ok",
        Verdict::Unknown => "unknown",
        Verdict::Warn => "warn",
        Verdict::Fail => "FAIL",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: Layout = Layout { columns: 80, cuts: false, colour: false, verbose: false };

    fn stage(check: Check, verdict: Verdict, fact: &str) -> Stage {
        let fix = (verdict == Verdict::Fail).then(|| "mend it".to_owned());
        Stage::new(check, Duration::from_millis(7), vec![Finding::new(verdict, fact).fix(fix)])
    }

    #[test]
    fn lines_are_broken_between_words_and_long_words_are_not() {
        let text = PAGE.wrapped(&"word ".repeat(40));
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert_eq!(text.split_whitespace().count(), 40);
        let long = "x".repeat(200);
        assert_eq!(
            PAGE.wrapped(&format!("a {long} b\nsecond")),
            format!("a\n         {long}\n         b\n         second\n")
        );
    }

    #[test]
    fn terminal_gets_one_line_for_a_check_and_a_page_gets_all_of_it() {
        let passed = stage(Check::Port, Verdict::Pass, &"word ".repeat(20));
        let terminal = Layout { cuts: true, ..PAGE };
        assert_eq!(terminal.settled(&passed).lines().count(), 1);
        assert!(terminal.settled(&passed).ends_with("…\n") && terminal.settled(&passed).chars().count() <= 81);
        assert_eq!(PAGE.settled(&passed).lines().count(), 2);
        let warned = stage(Check::Clock, Verdict::Warn, "7 s behind AWS");
        assert_eq!(terminal.settled(&warned), "warn     local clock, compared with AWS: 7 s behind AWS\n");
        assert_eq!(terminal.settled(&stage(Check::Vpc, Verdict::Pass, "not needed: all is well")), "");
        let healthy = Report { stages: vec![warned] };
        let end = "warn     local clock, compared with AWS: 7 s behind AWS\norders: nothing failed, 1 warning\n";
        assert_eq!(terminal.end("orders", &healthy, 0, false), end, "what to do has room at the end");
        let colour = Layout { colour: true, ..terminal };
        assert!(colour.settled(&passed).starts_with("\u{1b}[32mok\u{1b}[0m       local port: word "));
    }

    #[test]
    fn end_has_the_deciding_failure_last_and_names_cause_and_fix() {
        let skip = |check| {
            let mut finding = Finding::new(Verdict::Unknown, "not checked");
            finding.skipped = Some("it rains");
            Stage::new(check, Duration::ZERO, vec![finding])
        };
        let stages = vec![
            stage(Check::Credentials, Verdict::Pass, "here"),
            stage(Check::Dial, Verdict::Fail, "no way"),
            skip(Check::Login),
            skip(Check::Query),
            stage(Check::Port, Verdict::Fail, "taken"),
        ];
        let report = Report { stages };
        let texts: String = report.stages.iter().map(|stage| PAGE.settled(stage)).collect();
        assert_eq!(
            texts + &PAGE.end("orders", &report, 4, false),
            "ok       AWS credentials and expiry: here\n\
             FAIL     connection to the database port: no way\n\
             FAIL     local port: taken\n\
             unknown  not checked, because it rains: login, query\n\
             FAIL     local port: taken\n         fix: mend it\n\
             FAIL     connection to the database port: no way\n         fix: mend it\n\
             orders: no way; fix: mend it (exit code 4)\n"
        );
        let long = "word ".repeat(40);
        let mut failure = Finding::new(Verdict::Fail, long.trim()).fix(format!("aws {long}"));
        failure.verbatim = true;
        let long = Report { stages: vec![Stage::new(Check::Dial, Duration::ZERO, vec![failure])] };
        let end = PAGE.end("orders.example", &long, 4, false);
        let fact = "word ".repeat(11);
        let bottom = format!("orders: {fact}… (exit code 4)\nfix: aws {}\n", "word ".repeat(40).trim());
        assert!(end.ends_with(&bottom), "a command is whole: {end}");
        let terminal = Layout { cuts: true, ..PAGE }.end("orders.example", &long, 4, false);
        assert!(terminal.ends_with(&bottom) && terminal.matches("fix: ").count() == 1, "{terminal}");
        let healthy = Report { stages: vec![stage(Check::Clock, Verdict::Warn, "7 s behind AWS")] };
        assert_eq!(PAGE.end("orders", &healthy, 0, false), "orders: nothing failed, 1 warning\n");
        assert_eq!(PAGE.end("orders", &healthy, 130, true), "orders: stopped; nothing failed so far (exit code 130)\n");
    }
}
