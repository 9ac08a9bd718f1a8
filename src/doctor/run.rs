//! Runs checks one after the other, each within its limit, and collects what they find.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::report::{Check, Finding, Report, Stage};
use crate::{
    aws::{Principal, rds::Database},
    connect::Deadline,
    login::Prepared,
    service::{DatabaseUser, Permission},
    target::Target,
};

/// For all checks together. The end of the session has its own few seconds behind it.
const RUN_TIMEOUT: Duration = Duration::from_secs(52);
/// For one call to AWS, and for one query.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(8);
/// For credentials, which SSO or a credential process may have to fetch first.
pub(super) const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(15);

/// What the checks so far have found for the later ones.
#[derive(Default)]
pub(super) struct Known {
    pub(super) login: Option<Prepared>,
    pub(super) principal: Option<Principal>,
    pub(super) database: Option<Database>,
    /// Security groups between which a rule is missing, the database's first.
    pub(super) missing_rule: Option<(String, String)>,
}

impl Known {
    /// What the policy must allow: exact where account and resource id are known.
    pub(super) fn permission(&self, target: &Target, user: &str) -> Permission {
        let user = DatabaseUser {
            account: self.principal.as_ref().map(|principal| principal.account.as_str()),
            resource_id: self.database.as_ref().and_then(|database| database.resource_id.as_deref()),
            name: user,
        };
        target.endpoint.service().permission(&target.region, user)
    }
}

/// A run of the checks.
pub(super) struct Run {
    pub(super) report: Report,
    deadline: Instant,
}

impl Run {
    /// Begins a run after the checks that were made already.
    pub(super) fn new(configuration: Stage, discovery: &Stage) -> Self {
        let spent = Duration::from_millis(configuration.milliseconds + discovery.milliseconds);
        let deadline = Instant::now() + RUN_TIMEOUT.saturating_sub(spent);
        Self { report: Report { stages: vec![configuration] }, deadline }
    }

    /// The time that is left.
    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// The deadline of a connection. There is no client that could give up, so a step that hangs reports its own cause.
    pub(super) fn connect_deadline(&self, connect_timeout: Duration) -> Deadline {
        Deadline::unattended(Instant::now() + connect_timeout.min(self.left()))
    }

    /// Runs one check: its findings, and a value for later ones.
    pub(super) async fn check<T>(
        &mut self,
        check: Check,
        limit: Duration,
        work: impl Future<Output = (Vec<Finding>, Option<T>)>,
    ) -> Option<T> {
        let started = Instant::now();
        let limit = limit.min(self.left());
        let (findings, value) = timeout_at(started + limit, work).await.unwrap_or_else(|_| {
            let fact = format!("no answer within {} s", limit.as_secs());
            (vec![Finding::new(check.verdict_on_timeout(), fact)], None)
        });
        self.record(check, started.elapsed(), findings);
        value
    }

    /// Adds a check that has been made.
    pub(super) fn record(&mut self, check: Check, took: Duration, findings: Vec<Finding>) {
        self.report.stages.push(Stage::new(check, took, findings));
    }

    /// Adds a check that could not be made, because an earlier one has failed.
    pub(super) fn skip(&mut self, check: Check, why: &str) {
        self.note(check, Finding::unknown(format!("not checked: {why}")));
    }

    /// Adds a check that takes no time.
    pub(super) fn note(&mut self, check: Check, finding: Finding) {
        self.record(check, Duration::ZERO, vec![finding]);
    }
}
