//! The report: checks, what each found, and whose failure it is.

use std::time::Duration;

use safe_display::printable;
use serde::Serialize;

use super::words::{self, NO_REPLY};
use crate::{app::Cause, aws};

/// An event of a check.
#[derive(Debug)]
pub enum Event {
    /// It has begun.
    Started(Check),
    /// It has ended. One that takes no time does not begin.
    Settled(Stage),
}

/// The outcome of a finding, from good to bad. A stage has the worst of its findings'.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// In order, or not needed.
    Pass,
    /// Not known.
    Unknown,
    /// It works, but perhaps not for long or not for every user.
    Warn,
    /// The target does not work.
    Fail,
}

/// The checks, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// The flags, variables and files.
    Configuration,
    /// The source of the AWS credentials, and their expiry.
    Credentials,
    /// The IAM principal.
    Identity,
    /// This machine's clock, compared with that of AWS.
    Clock,
    /// The values that were looked up because the configuration lacks them.
    Discovery,
    /// The endpoint's name: region, kind, alias.
    Endpoint,
    /// The database as RDS describes it.
    Database,
    /// Whether IAM allows the login.
    Permission,
    /// The bastion as Systems Manager describes it.
    Bastion,
    /// Whether security groups let the bastion reach the database.
    Network,
    /// An SSM session.
    Session,
    /// The bastion's, or our own, connection to the database.
    Dial,
    /// The network around a bastion that is offline, or whose dial hangs.
    Vpc,
    /// The database's certificate.
    Certificate,
    /// The login token.
    Token,
    /// The login itself.
    Login,
    /// A query.
    Query,
    /// Whether the user is one for IAM logins.
    User,
    /// The database's log of IAM logins.
    Log,
    /// The local port.
    Port,
    /// The end of the SSM session.
    End,
}

impl Check {
    /// All of them, in their order.
    pub const ALL: [Self; 21] = [
        Self::Configuration,
        Self::Credentials,
        Self::Identity,
        Self::Clock,
        Self::Discovery,
        Self::Endpoint,
        Self::Database,
        Self::Permission,
        Self::Bastion,
        Self::Network,
        Self::Session,
        Self::Dial,
        Self::Vpc,
        Self::Certificate,
        Self::Token,
        Self::Login,
        Self::Query,
        Self::User,
        Self::Log,
        Self::Port,
        Self::End,
    ];

    /// The title in a report for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Credentials => "AWS credentials and expiry",
            Self::Identity => "IAM principal",
            Self::Clock => "local clock, compared with AWS",
            Self::Discovery => "discovery",
            Self::Endpoint => "endpoint name and region",
            Self::Database => "database in RDS",
            Self::Permission => "IAM permission rds-db:connect",
            Self::Bastion => "bastion in Systems Manager",
            Self::Network => "security groups, bastion to database",
            Self::Session => "SSM session",
            Self::Dial => "connection to the database port",
            Self::Vpc => "network around the bastion",
            Self::Certificate => "database certificate",
            Self::Token => "login token",
            Self::Login => "login",
            Self::Query => "query",
            Self::User => "IAM login of the database user",
            Self::Log => "IAM login log of the database",
            Self::Port => "local port",
            Self::End => "end of the SSM session",
        }
    }

    /// The part that a failure belongs to, which decides the exit code.
    fn part(self) -> Cause {
        match self {
            Self::Configuration | Self::Discovery | Self::Endpoint => Cause::Configuration,
            Self::Credentials | Self::Token => Cause::Credentials,
            Self::Identity
            | Self::Permission
            | Self::Bastion
            | Self::Network
            | Self::Session
            | Self::Dial
            | Self::Vpc
            | Self::End => Cause::Aws,
            Self::Database | Self::Certificate | Self::Login | Self::Query | Self::User | Self::Log => Cause::Database,
            Self::Clock | Self::Port => Cause::Local,
        }
    }

    /// The verdict when there is no answer in time: a failure only for what every connection needs.
    pub(super) fn verdict_on_timeout(self) -> Verdict {
        match self {
            Self::Credentials | Self::Session | Self::Dial | Self::Certificate | Self::Login | Self::Query => {
                Verdict::Fail
            }
            _ => Verdict::Unknown,
        }
    }
}

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The outcome.
    pub verdict: Verdict,
    /// The fact.
    pub fact: String,
    /// Its reason, or its consequence.
    pub cause: Option<String>,
    /// The fix: often a command, or a statement of SQL or of a policy.
    pub fix: Option<String>,
    /// Whether the fix is to be pasted as it is, and not broken into lines.
    #[serde(skip)]
    pub verbatim: bool,
    /// The part that a failure belongs to, where it is not the check's own.
    #[serde(skip)]
    pub(super) part: Option<Cause>,
    /// Why the check was not made, if it was not.
    #[serde(skip)]
    pub skipped: Option<&'static str>,
}

impl Finding {
    /// A fact in one line, which may hold text of the far side.
    pub fn new(verdict: Verdict, fact: impl Into<String>) -> Self {
        let fact = shown(&fact.into());
        Self { verdict, fact, cause: None, fix: None, verbatim: false, part: None, skipped: None }
    }

    /// Further lines of the fact.
    #[must_use]
    pub fn lines(mut self, lines: &[String]) -> Self {
        for line in lines {
            self.fact = format!("{}\n{}", self.fact, shown(line));
        }
        self
    }

    pub(super) fn pass(fact: impl Into<String>) -> Self {
        Self::new(Verdict::Pass, fact)
    }

    pub(super) fn warn(fact: impl Into<String>) -> Self {
        Self::new(Verdict::Warn, fact)
    }

    pub(super) fn fail(fact: impl Into<String>) -> Self {
        Self::new(Verdict::Fail, fact)
    }

    pub(super) fn unknown(fact: impl Into<String>) -> Self {
        Self::new(Verdict::Unknown, fact)
    }

    pub(super) fn because(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(shown(&cause.into()));
        self
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<Option<String>>) -> Self {
        self.fix = fix.into().map(|fix| printable::lines(&fix).into_owned());
        self
    }

    /// Assigns a failure to another part than its check's.
    #[must_use]
    pub fn of(self, part: Cause) -> Self {
        Self { part: Some(part), ..self }
    }

    /// Adds a fix to be pasted as it is: a command, or a statement of SQL or of a policy.
    pub(super) fn paste(self, fix: impl Into<String>) -> Self {
        Self { verbatim: true, ..self.fix(fix.into()) }
    }

    /// A check that could not be made.
    pub(super) fn skip(why: &'static str) -> Self {
        Self { skipped: Some(why), ..Self::unknown(format!("not checked: {why}")) }
    }

    /// A call to AWS that failed.
    pub(super) fn of_call(verdict: Verdict, error: &aws::Error) -> Self {
        let allow = match error {
            aws::Error::AccessDenied { operation, .. } => {
                words::action(operation).map(|action| format!("allow {action} to have this checked"))
            }
            _ => None,
        };
        // Many lookups fail alike then, and the check that needs AWS says why.
        let is_unreachable = matches!(error, aws::Error::Transport { .. } | aws::Error::Timeout { .. });
        let skipped = (is_unreachable && verdict == Verdict::Unknown).then_some(NO_REPLY);
        let finding = Self { part: Some(error.into()), skipped, ..Self::new(verdict, words::of_aws(error)) };
        finding.fix(error.hint().or(allow))
    }
}

fn shown(text: &str) -> String {
    printable::line(&printable::without_tokens(text)).into_owned()
}

/// One check with its findings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stage {
    /// The check.
    pub check: Check,
    /// Its title.
    pub checked: &'static str,
    /// The worst of the findings.
    pub verdict: Verdict,
    /// Its duration.
    pub milliseconds: u64,
    /// At least one.
    pub findings: Vec<Finding>,
}

impl Stage {
    /// A check that took this long.
    pub fn new(check: Check, took: Duration, findings: Vec<Finding>) -> Self {
        Self {
            check,
            checked: check.title(),
            verdict: findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Unknown),
            milliseconds: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            findings,
        }
    }

    /// The first finding that is a failure.
    pub fn failure(&self) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.verdict == Verdict::Fail)
    }

    /// Why the check was not made, if it was not.
    pub fn skipped(&self) -> Option<&'static str> {
        self.findings.first()?.skipped
    }
}

/// The stages, in order.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// One for each check.
    pub stages: Vec<Stage>,
}

impl Report {
    /// The first check that failed, with what decided that. A wrong clock comes before all others: every signature depends on it.
    pub fn failure(&self) -> Option<(&Stage, &Finding)> {
        let of = |stage: &'_ Stage| stage.failure().is_some();
        let clock = self.stages.iter().find(|stage| stage.check == Check::Clock && of(stage));
        let stage = clock.or_else(|| self.stages.iter().find(|stage| of(stage)))?;
        Some((stage, stage.failure()?))
    }

    /// Makes what the network around the bastion lacks the cause of a bastion that is offline, or of a dial that hangs.
    pub(super) fn blame_network(&mut self) {
        let vpc = self.stages.iter().find(|stage| stage.check == Check::Vpc);
        let lacking = vpc.and_then(|stage| {
            stage.findings.iter().find(|finding| finding.verdict == Verdict::Warn && finding.fix.is_some())
        });
        let Some(Finding { fact, fix, verbatim, .. }) = lacking.cloned() else { return };
        let explained = [Check::Bastion, Check::Session, Check::Dial];
        for stage in self.stages.iter_mut().filter(|stage| explained.contains(&stage.check)) {
            // A command that is there already is about a surer cause.
            let failed = |finding: &&mut Finding| finding.verdict == Verdict::Fail && !finding.verbatim;
            for finding in stage.findings.iter_mut().filter(failed) {
                finding.cause = Some(fact.clone());
                finding.fix.clone_from(&fix);
                finding.verbatim = verbatim;
            }
        }
    }

    /// Makes a wrong clock the cause of what AWS and the database refused. They see a wrong signature, and suspect policy, key or user.
    pub(super) fn blame_clock(&mut self) {
        let clock = self.stages.iter().find(|stage| stage.check == Check::Clock);
        let Some(Finding { fact, fix, .. }) = clock.and_then(Stage::failure).cloned() else { return };
        let refused = [Check::Identity, Check::Session, Check::Login];
        for stage in self.stages.iter_mut().filter(|stage| refused.contains(&stage.check)) {
            for finding in stage.findings.iter_mut().filter(|finding| finding.verdict == Verdict::Fail) {
                finding.cause = Some(format!("this machine's clock is {fact}"));
                finding.fix.clone_from(&fix);
                finding.verbatim = true;
            }
        }
    }

    /// The part that failed first.
    pub fn first_failure(&self) -> Option<Cause> {
        self.failure().map(|(stage, finding)| finding.part.unwrap_or_else(|| stage.check.part()))
    }

    /// The number of checks with this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.stages.iter().filter(|stage| stage.verdict == verdict).count()
    }
}
