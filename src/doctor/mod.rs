//! What keeps a target from working, found stage by stage, from the cheap to the expensive: what was checked, the fact, its
//! cause and what to do about it.
//!
//! - `cloud`: credentials, clock, what AWS says of the database and the bastion;
//! - `permission`: what IAM says to the login, and the database's log of it;
//! - `network`: whether security groups let the bastion reach the database;
//! - `way`: the session, the bastion's dial, the certificate;
//! - `login`: token, login, and what the database says of the user;
//! - `local`: this machine's end.
//!
//! It goes on past a failure where it can, takes less than a minute, and leaves nothing behind: the session that it opened
//! is terminated on every path. It decides, and prints nothing.
//!
//! A report is for other people's eyes. Everything in it comes from an allow list: names and numbers of ours and of AWS's,
//! and the words of error types that hold nothing secret (`words`). A token is told by its length and its end.

mod cloud;
mod local;
mod login;
mod network;
mod permission;
mod way;
mod words;

use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::{
    app::Cause,
    aws::{self, Account, Principal, rds::Database},
    login::Prepared,
    printable,
    service::{DatabaseUser, Permission},
    target::{Host, InstanceId, Region, Route, Target},
};

/// All stages together. The end of the session has its own few seconds behind it.
const DEADLINE: Duration = Duration::from_secs(52);
/// One question to AWS.
const CALL: Duration = Duration::from_secs(8);
/// Credentials: the first time of SSO or a credential process.
const CREDENTIALS: Duration = Duration::from_secs(15);

/// What a finding comes to; the worst of them is a stage's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be, or not needed.
    Pass,
    /// It could not be seen.
    Unknown,
    /// It works, and may not for long or for everybody.
    Warn,
    /// It keeps the target from working.
    Fail,
}

/// What is checked, in the order in which it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// What the user has described.
    Configuration,
    /// Where AWS credentials come from, and their end.
    Credentials,
    /// Who AWS says that we are.
    Identity,
    /// This machine's clock against AWS's.
    Clock,
    /// What was not said and had to be looked up.
    Discovery,
    /// What the name says: region, kind, alias.
    Endpoint,
    /// What RDS says of the database.
    Database,
    /// Whether IAM lets the user log in.
    Permission,
    /// What Systems Manager says of the bastion.
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
    /// What people call it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Credentials => "AWS credentials and their end",
            Self::Identity => "who AWS says we are",
            Self::Clock => "this machine's clock against AWS's",
            Self::Discovery => "what was left to be looked up",
            Self::Endpoint => "endpoint name and region",
            Self::Database => "the database, as RDS describes it",
            Self::Permission => "IAM permission rds-db:connect",
            Self::Bastion => "the bastion, as Systems Manager describes it",
            Self::Network => "security groups from bastion to database",
            Self::Session => "SSM session",
            Self::Dial => "connection to the database's port",
            Self::Certificate => "certificate of the database",
            Self::Token => "login token",
            Self::Login => "login",
            Self::Query => "query",
            Self::User => "database user for IAM logins",
            Self::Log => "the database's log of IAM logins",
            Self::Port => "local port",
        }
    }

    /// Which part it is about; decides the exit code.
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

    /// What it comes to when there is no answer in time: only what every connection needs is a failure.
    fn in_silence(self) -> Verdict {
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
    /// What it comes to.
    pub verdict: Verdict,
    /// What was found.
    pub fact: String,
    /// Why that is so, or what it leads to.
    pub cause: Option<String>,
    /// What to do: often a command, a statement of SQL's or of a policy's.
    pub fix: Option<String>,
    /// Whether the fix is to be pasted as it is, and not broken into lines.
    #[serde(skip)]
    pub verbatim: bool,
    /// Whose failure it is, where it is not the check's own.
    #[serde(skip)]
    part: Option<Cause>,
}

impl Finding {
    /// A fact of this verdict, in one line. The far side's words may be in it.
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

    fn pass(fact: impl Into<String>) -> Self {
        Self::new(Verdict::Pass, fact)
    }

    fn warn(fact: impl Into<String>) -> Self {
        Self::new(Verdict::Warn, fact)
    }

    fn fail(fact: impl Into<String>) -> Self {
        Self::new(Verdict::Fail, fact)
    }

    fn unknown(fact: impl Into<String>) -> Self {
        Self::new(Verdict::Unknown, fact)
    }

    fn because(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(shown(&cause.into()));
        self
    }

    /// What to do about it.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<Option<String>>) -> Self {
        self.fix = fix.into().map(|fix| printable::lines(&fix).into_owned());
        self
    }

    /// Whose failure it is, where that is not its check's.
    #[must_use]
    pub fn of(self, part: Cause) -> Self {
        Self { part: Some(part), ..self }
    }

    /// A command, or a statement of SQL's or of a policy's.
    fn paste(self, fix: impl Into<String>) -> Self {
        Self { verbatim: true, ..self.fix(fix.into()) }
    }

    /// A call that failed. Whether it matters is the verdict's business, whose failure it is the error's.
    fn of_call(verdict: Verdict, error: &aws::Error) -> Self {
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

/// One check and what it found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stage {
    /// Which.
    pub check: Check,
    /// What was checked, for people.
    pub checked: &'static str,
    /// The worst of the findings.
    pub verdict: Verdict,
    /// How long it took.
    pub milliseconds: u64,
    /// At least one.
    pub findings: Vec<Finding>,
}

impl Stage {
    /// A check that took this long and found this.
    pub fn new(check: Check, took: Duration, findings: Vec<Finding>) -> Self {
        Self {
            check,
            checked: check.title(),
            verdict: findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Unknown),
            milliseconds: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            findings,
        }
    }

    /// Whose failure it is, if it is one.
    fn failure(&self) -> Option<Cause> {
        let failed = self.findings.iter().find(|finding| finding.verdict == Verdict::Fail)?;
        Some(failed.part.unwrap_or_else(|| self.check.part()))
    }
}

/// The stages, in order.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// What was checked.
    pub stages: Vec<Stage>,
}

impl Report {
    /// Whose the first failure is.
    pub fn first_failure(&self) -> Option<Cause> {
        self.stages.iter().find_map(Stage::failure)
    }
}

/// What is examined: a target, or as much of one as could be looked up.
#[derive(Debug)]
pub enum Subject {
    /// All of it.
    Whole(Box<Target>),
    /// A target of which nobody has said, or found, by which bastion it is reached; its route means nothing.
    NoRoute(Box<Target>),
    /// An endpoint that was not found.
    NoEndpoint {
        /// Where it was looked for.
        region: Region,
        /// The bastion, where it was said.
        bastion: Option<InstanceId>,
    },
}

impl Subject {
    /// The target, as far as it is one.
    pub fn target(&self) -> Option<&Target> {
        match self {
            Self::Whole(target) | Self::NoRoute(target) => Some(target),
            Self::NoEndpoint { .. } => None,
        }
    }

    fn region(&self) -> &Region {
        match self {
            Self::Whole(target) | Self::NoRoute(target) => &target.region,
            Self::NoEndpoint { region, .. } => region,
        }
    }

    /// The bastion, if one is needed.
    ///
    /// # Errors
    /// Why that is not known.
    fn bastion(&self) -> Result<Option<&InstanceId>, &'static str> {
        match self {
            Self::Whole(target) => match &target.route {
                Route::Ssm(id) | Route::Auto(id) => Ok(Some(id)),
                Route::Direct => Ok(None),
            },
            Self::NoEndpoint { bastion: Some(id), .. } => Ok(Some(id)),
            Self::NoRoute(_) | Self::NoEndpoint { .. } => Err(NO_BASTION),
        }
    }
}

const NO_BASTION: &str = "no bastion is chosen";
const NO_ENDPOINT: &str = "the endpoint is not known";

/// Who is examined.
#[derive(Debug)]
pub struct Patient {
    /// What of it is known.
    pub subject: Subject,
    /// How it came to be known.
    pub discovery: Stage,
    /// The name that the user gave, when it was an alias of the endpoint's.
    pub alias: Option<Host>,
    /// Who asks; an error is a finding.
    pub account: Result<Account, aws::Error>,
    /// For the session, as in `rdsgate up`.
    pub resume_for: Duration,
    /// Why the local port leads to another target, when a running rdsgate serves that there.
    pub port_of_another: Option<String>,
    /// Ends the examination early, and in good order.
    pub stop: CancellationToken,
}

/// What an examination has come to know, for its later stages.
#[derive(Default)]
struct Known {
    login: Option<Prepared>,
    principal: Option<Principal>,
    database: Option<Database>,
    /// Security groups, the database's first, between which a rule is missing.
    missing_rule: Option<(String, String)>,
}

impl Known {
    /// What the policy must allow: exact where account and resource id are known.
    fn permission(&self, target: &Target, user: &str) -> Permission {
        let user = DatabaseUser {
            account: self.principal.as_ref().map(|principal| principal.account.as_str()),
            resource_id: self.database.as_ref().and_then(|database| database.resource_id.as_deref()),
            name: user,
        };
        target.endpoint.service().permission(&target.region, user)
    }
}

/// Runs checks against their own deadlines and a common one.
struct Examination {
    report: Report,
    deadline: Instant,
}

impl Examination {
    /// Runs one check: what it found, and what later ones go on with.
    async fn check<T>(
        &mut self,
        check: Check,
        limit: Duration,
        work: impl Future<Output = (Vec<Finding>, Option<T>)>,
    ) -> Option<T> {
        let started = Instant::now();
        let limit = limit.min(self.deadline.saturating_duration_since(started));
        let (findings, value) = timeout_at(started + limit, work).await.unwrap_or_else(|_| {
            let silence = format!("no answer within {} s", limit.as_secs());
            (vec![Finding::new(check.in_silence(), silence)], None)
        });
        self.report.stages.push(Stage::new(check, started.elapsed(), findings));
        value
    }

    /// A check that needs what an earlier one did not bring.
    fn skip(&mut self, check: Check, why: &str) {
        self.note(check, Finding::unknown(format!("not checked: {why}")));
    }

    /// A check that takes no time.
    fn note(&mut self, check: Check, finding: Finding) {
        self.report.stages.push(Stage::new(check, Duration::ZERO, vec![finding]));
    }
}

/// Examines a target whose configuration was `configuration`. Not cancel safe: it would leave a session behind; that is what
/// [`Patient::stop`] is for, after which the report is of no use.
pub async fn examine(configuration: Stage, patient: &Patient) -> Report {
    let spent = Duration::from_millis(configuration.milliseconds + patient.discovery.milliseconds);
    let deadline = Instant::now() + DEADLINE.saturating_sub(spent);
    let mut examination = Examination { report: Report { stages: vec![configuration] }, deadline };
    let mut known = Known::default();
    tokio::select! {
        () = cloud::examine(&mut examination, patient, &mut known) => {}
        () = patient.stop.cancelled() => return examination.report,
    }
    // Everything that a login needs, on one stack.
    Box::pin(way::examine(&mut examination, patient, &known)).await;
    match patient.subject.target() {
        Some(target) => local::examine(&mut examination, target, patient.port_of_another.as_deref()).await,
        None => examination.skip(Check::Port, NO_ENDPOINT),
    }
    examination.report
}
