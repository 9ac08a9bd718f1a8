//! The report of `rdsgate doctor`, which holds nothing secret, and whose run leaves nothing behind.

use sandbox::Sandbox;
use serde_json::Value;
use tokio::time::timeout;

use super::gate::{GateOptions, PATIENCE, Ran};

/// One run of the program, with the arguments and the environment that `rdsgate up` would have.
pub(crate) async fn examined(options: GateOptions, sandbox: &Sandbox) -> Ran {
    let secrets = options.secrets();
    let said = options.verb("doctor").env("RDSGATE_LOG", "error").run().await;
    let handed_out = sandbox.stream_secrets();
    for secret in secrets.iter().chain(&handed_out).filter(|secret| !secret.is_empty()) {
        assert!(!said.stdout.contains(secret.as_str()), "a secret in a report: {said:?}");
        assert!(!said.stderr.contains(secret.as_str()), "a secret beside a report: {said:?}");
    }
    for mark in ["X-Amz-", "Action=connect", "ws://", "wss://"] {
        assert!(!said.stdout.contains(mark), "{mark}: {said:?}");
    }
    said
}

#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) code: i32,
    pub(crate) report: Value,
}

impl Report {
    /// The JSON report of a run.
    pub(crate) async fn of(options: GateOptions, sandbox: &Sandbox) -> Self {
        let said = examined(options.argument("--json"), sandbox).await;
        let report = serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"));
        Self { code: said.status.code().unwrap_or(-1), report }
    }

    /// The same, with no session left behind: for a sandbox that no other test uses.
    pub(crate) async fn alone(options: GateOptions, sandbox: &Sandbox) -> Self {
        let report = Self::of(options, sandbox).await;
        let over = sandbox.until(|sessions| sessions.iter().all(|session| session.ended.is_some()));
        timeout(PATIENCE, over).await.expect("sessions are terminated");
        report
    }

    /// The exit code, and that it is the report's own.
    #[track_caller]
    pub(crate) fn exits(&self, code: i32) -> &Self {
        assert_eq!((self.code, &self.report["exit_code"]), (code, &Value::from(code)), "{}", self.report);
        self
    }

    #[track_caller]
    pub(crate) fn stage(&self, check: &str) -> &Value {
        let stages = self.report["stages"].as_array().expect("a list");
        stages.iter().find(|stage| stage["check"] == check).unwrap_or_else(|| panic!("{check}: {}", self.report))
    }

    /// One of a check's findings has this verdict, says this, and has this among its fix or cause.
    #[track_caller]
    pub(crate) fn says(&self, check: &str, verdict: &str, fact: &str, fix: &str) -> &Self {
        let stage = self.stage(check);
        assert_eq!(stage["verdict"], verdict, "{stage}");
        let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        let found = stage["findings"].as_array().expect("a list").iter().any(|finding| {
            finding["verdict"] == verdict
                && text(finding, "fact").contains(fact)
                && (text(finding, "fix") + &text(finding, "cause")).contains(fix)
        });
        assert!(found, "{check}, {fact:?}, {fix:?}: {stage}");
        self
    }

    #[track_caller]
    pub(crate) fn is(&self, verdict: &str, checks: &[&str]) -> &Self {
        for check in checks {
            assert_eq!(self.stage(check)["verdict"], verdict, "{}", self.stage(check));
        }
        self
    }

    /// The first failure is this one.
    #[track_caller]
    pub(crate) fn first_fails(&self, check: &str) -> &Self {
        let stages = self.report["stages"].as_array().expect("a list");
        let first = stages.iter().find(|stage| stage["verdict"] == "fail").map(|stage| stage["check"].clone());
        assert_eq!(first, Some(check.into()), "{}", self.report);
        self
    }
}
