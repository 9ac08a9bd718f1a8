//! Work with one execution and many waiters. It continues when the waiters have left, so that a person's answer is not lost with
//! the client that caused the question.

use std::{future::pending, panic::resume_unwind};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use tokio::task::AbortHandle;
use tokio_util::task::AbortOnDropHandle;

use super::Error;

/// Shared work in progress. Clones share it; the work is aborted when the last clone is dropped.
#[derive(Clone)]
pub(super) struct Flight<T> {
    outcome: Shared<BoxFuture<'static, Result<T, Error>>>,
    task: AbortHandle,
}

impl<T: Clone + Send + Sync + 'static> Flight<T> {
    /// Starts the work.
    pub(super) fn start(work: impl Future<Output = Result<T, Error>> + Send + 'static) -> Self {
        let running = AbortOnDropHandle::new(tokio::spawn(work));
        let task = running.abort_handle();
        let outcome = async move {
            match running.await.map_err(tokio::task::JoinError::try_into_panic) {
                Ok(outcome) => outcome,
                Err(Ok(panic)) => resume_unwind(panic),
                // The runtime is shutting down, and the waiters with it.
                Err(Err(_)) => pending().await,
            }
        };
        Self { outcome: outcome.boxed().shared(), task }
    }

    /// Waits for the outcome. Cancel safe.
    pub(super) async fn outcome(self) -> Result<T, Error> {
        self.outcome.await
    }

    /// Whether the work is still running.
    pub(super) fn is_under_way(&self) -> bool {
        !self.task.is_finished()
    }
}
