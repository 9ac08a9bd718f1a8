//! Failures and delays that a test asks for.

use std::{collections::BTreeMap, time::Duration};

use crate::operation::Operation;

/// The failure of an API call that a test asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// `ThrottlingException`: Rate exceeded.
    Throttling,
    /// HTTP 500, `InternalServerError`.
    InternalServerError,
    /// HTTP 503 without a body, as a load balancer answers.
    Unavailable,
    /// `AccessDeniedException` in IAM's words.
    AccessDenied,
    /// The credentials have expired.
    ExpiredCredentials,
    /// StartSession: the agent is not there.
    TargetNotConnected,
    /// StartSession: no such document.
    InvalidDocument,
    /// StartSession: `BadRequest`, as for agents too old for the document.
    BadRequest,
    /// ResumeSession, TerminateSession: the session is gone.
    DoesNotExist,
    /// ResumeSession: answers without a token, as for sessions that have timed out.
    EmptyToken,
    /// The connection closes without an answer.
    Disconnect,
    /// The call is carried out, and the connection closes without an answer.
    LostAnswer,
}

/// Failures and delays that were asked for, by operation.
#[derive(Debug, Default)]
pub(crate) struct Injected {
    failures: BTreeMap<Operation, Vec<(Failure, Option<u32>)>>,
    delays: BTreeMap<Operation, Duration>,
}

impl Injected {
    pub(crate) fn fail(&mut self, operation: Operation, failure: Failure, times: Option<u32>) {
        self.failures.entry(operation).or_default().push((failure, times));
    }

    pub(crate) fn heal(&mut self, operation: Operation) {
        self.failures.remove(&operation);
    }

    pub(crate) fn delay(&mut self, operation: Operation, delay: Duration) {
        self.delays.insert(operation, delay);
    }

    pub(crate) fn next_failure(&mut self, operation: Operation) -> Option<Failure> {
        let failures = self.failures.get_mut(&operation)?;
        let (failure, times) = failures.first_mut()?;
        let failure = failure.clone();
        if let Some(times) = times {
            *times = times.saturating_sub(1);
            if *times == 0 {
                failures.remove(0);
            }
        }
        Some(failure)
    }

    /// The delay of answers.
    pub(crate) fn delay_of(&self, operation: Operation) -> Option<Duration> {
        self.delays.get(&operation).copied()
    }
}
