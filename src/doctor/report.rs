//! The report: checks, what each found, and whose failure it is.

use std::time::Duration;

use serde::Serialize;

use super::words;
use crate::{app::Cause, aws, printable};

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
}

impl Check {
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
            Self::Certificate => "database certificate",
            Self::Token => "login token",
            Self::Login => "login",
            Self::Query => "query",
            Self::User => "IAM login of the database user",
            Self::Log => "IAM login log of the database",
            Self::Port => "local port",
        }
    }

    /// The part that a failure belongs to, which decides the exit code.
    fn part(self) -> Cause {
        match self {
            Self::Configuration | Self::Discovery | Self::Endpoint => Cause::Configuration,
            Self::Credentials | Self::Token => Cause::Credentials,
            Self::Identity | Self::Permission | Self::Bastion | Self::Network | Self::Session | Self::Dial => {
                Cause::Aws
            }
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
    /// What to do: often a command, or a statement of SQL or of a policy.
    pub fix: Option<String>,
    /// Whether the fix is to be pasted as it is, and not broken into lines.
    #[serde(skip)]
    pub verbatim: bool,
    /// The part that a failure belongs to, where it is not the check's own.
    #[serde(skip)]
    pub(super) part: Option<Cause>,
}

impl Finding {
    /// A fact in one line, which may hold text of the far side.
    pub fn new(verdict: Verdict, fact: impl Into<String>) -> Self {
        Self { verdict, fact: shown(&fact.into()), cause: None, fix: None, verbatim: false, part: None }
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

    /// A call to AWS that failed.
    pub(super) fn of_call(verdict: Verdict, error: &aws::Error) -> Self {
        let part = error.concerns_credentials().then_some(Cause::Credentials);
        let allow = match error {
            aws::Error::AccessDenied { operation, .. } => {
                words::action(operation).map(|action| format!("allow {action} to have this checked"))
            }
            _ => None,
        };
        Self { part, ..Self::new(verdict, error.to_string()) }.fix(error.hint().or(allow))
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

    /// The part that has failed, if it is a failure.
    fn failure(&self) -> Option<Cause> {
        let failed = self.findings.iter().find(|finding| finding.verdict == Verdict::Fail)?;
        Some(failed.part.unwrap_or_else(|| self.check.part()))
    }
}

/// The stages, in order.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// One for each check.
    pub stages: Vec<Stage>,
}

impl Report {
    /// The part that failed first.
    pub fn first_failure(&self) -> Option<Cause> {
        self.stages.iter().find_map(Stage::failure)
    }
}
