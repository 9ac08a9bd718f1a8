//! Runs checks, each within its limit, and collects what they find. Independent ones run side by side.

use std::{cell::RefCell, rc::Rc, time::Duration};

use futures_util::future::{LocalBoxFuture, Shared};
use tokio::{
    sync::mpsc::UnboundedSender,
    time::{Instant, timeout_at},
};

use super::{
    report::{Check, Event, Finding, Report, Stage},
    words::STOPPED,
};
use crate::{
    aws::{Principal, rds::Database},
    connect::Deadline,
    service::{DatabaseUser, Permission},
    target::Target,
};

/// For all checks together. The end of the session has its own few seconds behind it.
const RUN_TIMEOUT: Duration = Duration::from_secs(52);
/// For one call to AWS, and for one query.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(8);
/// For the network around a bastion: several calls, in two rounds.
pub(super) const VPC_TIMEOUT: Duration = Duration::from_secs(12);
/// For credentials, which SSO or a credential process may have to fetch first.
pub(super) const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(15);

/// The facts of AWS about the caller and the database.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub(super) principal: Option<Principal>,
    pub(super) database: Option<Rc<Database>>,
}

impl Known {
    /// The permission that the policy must give: exact where account and resource id are known.
    pub(super) fn permission(&self, target: &Target, user: &str) -> Permission {
        let user = DatabaseUser {
            account: self.principal.as_ref().map(|principal| principal.account.as_str()),
            resource_id: self.database.as_ref().and_then(|database| database.resource_id.as_deref()),
            name: user,
        };
        target.endpoint.permission(&target.region, user)
    }
}

/// The verdict of the security groups on a dial of the bastion.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Rules {
    /// That is not known.
    #[default]
    Unknown,
    /// A rule lets the bastion in.
    Open,
    /// A rule between these groups is missing.
    Missing {
        /// A group of the database.
        database: String,
        /// A group of the bastion.
        bastion: String,
    },
}

/// The findings of other checks, for the causes of a failed connection or login.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) known: Known,
    pub(super) rules: Rules,
    /// Whether IAM denies the login.
    pub(super) is_denied: bool,
}

/// Facts that other checks are still looking for.
pub(super) type LaterFacts<'a> = Shared<LocalBoxFuture<'a, Facts>>;

/// A run of the checks.
pub(super) struct Run {
    stages: RefCell<Vec<Stage>>,
    events: UnboundedSender<Event>,
    deadline: Instant,
}

impl Run {
    /// Begins a run after the checks that were made already.
    pub(super) fn new(before: [Stage; 2], events: UnboundedSender<Event>) -> Self {
        let spent = before.iter().map(|stage| Duration::from_millis(stage.milliseconds)).sum();
        let deadline = Instant::now() + RUN_TIMEOUT.saturating_sub(spent);
        Self { stages: RefCell::new(before.into()), events, deadline }
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
        &self,
        check: Check,
        limit: Duration,
        work: impl Future<Output = (Vec<Finding>, Option<T>)>,
    ) -> Option<T> {
        self.begin(check);
        let started = Instant::now();
        let limit = limit.min(self.left());
        let (findings, value) = timeout_at(started + limit, work).await.unwrap_or_else(|_| {
            let fact = format!("no answer within {} s", limit.as_secs());
            (vec![Finding::new(check.verdict_on_timeout(), fact)], None)
        });
        self.record(check, started.elapsed(), findings);
        value
    }

    /// Reports that a check has begun.
    pub(super) fn begin(&self, check: Check) {
        // Without a receiver the run is not watched.
        let _ = self.events.send(Event::Started(check));
    }

    /// Adds a check that has been made.
    pub(super) fn record(&self, check: Check, took: Duration, findings: Vec<Finding>) {
        let stage = Stage::new(check, took, findings);
        let _ = self.events.send(Event::Settled(stage.clone()));
        self.stages.borrow_mut().push(stage);
    }

    /// Adds a check that could not be made, because an earlier one has failed.
    pub(super) fn skip(&self, check: Check, why: &'static str) {
        self.note(check, Finding::skip(why));
    }

    /// Adds a check that takes no time.
    pub(super) fn note(&self, check: Check, finding: Finding) {
        self.record(check, Duration::ZERO, vec![finding]);
    }

    /// Adds the checks that were not finished when the run was stopped.
    pub(super) fn skip_rest(&self) {
        for check in Check::ALL {
            let is_there = self.stages.borrow().iter().any(|stage| stage.check == check);
            if !is_there && check != Check::End {
                self.skip(check, STOPPED);
            }
        }
    }

    /// The report, in the order of the checks.
    pub(super) fn finish(self) -> Report {
        let mut stages = self.stages.into_inner();
        stages.sort_by_key(|stage| stage.check);
        let mut report = Report { stages };
        report.blame_network();
        report.blame_clock();
        report
    }
}
