//! Facts from AWS that explain a failure: our principal, the database as RDS describes it, the bastion as Systems Manager
//! does. Asked for only after a failure, bounded, and kept for a minute, so that a client that retries in a loop costs no
//! calls.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::{error::Error, facts::Facts, stage::Stage};
use crate::{
    aws::{Account, nodes::Node, rds::Database},
    connect::Step,
    limits::FACTS_TIMEOUT,
    login::Login,
    target::{Route, Target},
};

/// How long an answer is kept, or the fact that there was none.
const LIFE: Duration = Duration::from_mins(1);

/// Asks for the facts about one target.
pub(super) struct Explainer {
    target: Arc<Target>,
    account: Account,
    database: Kept<Database>,
    bastion: Kept<Option<Node>>,
}

/// An answer and when it came.
type Kept<T> = Mutex<Option<(Instant, Option<T>)>>;

impl Explainer {
    pub(super) fn new(target: Arc<Target>, account: Account) -> Self {
        Self { target, account, database: Mutex::default(), bastion: Mutex::default() }
    }

    /// The facts that explain `error`. Takes two seconds at most; makes no call where facts would not explain it.
    pub(super) async fn facts(&self, error: &Error) -> Facts {
        match (error, error.stage()) {
            (_, Stage::Connect(Step::Login)) if Login::of(&self.target) != Login::Iam => Facts::default(),
            (_, Stage::Connect(Step::Login)) => {
                let principal = timeout(FACTS_TIMEOUT, self.account.principal());
                let (principal, database) = tokio::join!(principal, self.database());
                Facts { principal: principal.ok().and_then(Result::ok), database, bastion: None }
            }
            (_, Stage::Connect(Step::Answer)) => Facts { database: self.database().await, ..Facts::default() },
            (Error::Connect(error), _) if error.bastion_is_not_connected() => {
                Facts { bastion: self.bastion().await, ..Facts::default() }
            }
            _ => Facts::default(),
        }
    }

    async fn database(&self) -> Option<Database> {
        if !self.target.endpoint.host.is_regional_endpoint() {
            return None;
        }
        let ask = async { self.account.database_at(&self.target.endpoint.host).await.ok().flatten() };
        kept(&self.database, Box::pin(ask)).await
    }

    async fn bastion(&self) -> Option<Option<Node>> {
        let (Route::Ssm(id) | Route::Auto(id)) = &self.target.route else { return None };
        // Tasks of ECS are in no list of Systems Manager's.
        if id.as_str().starts_with("ecs:") {
            return None;
        }
        kept(&self.bastion, async { self.account.managed_node(id).await.ok() }).await
    }
}

/// The kept answer, or a new one. Callers that come meanwhile wait for the same call.
async fn kept<T: Clone>(kept: &Kept<T>, ask: impl Future<Output = Option<T>>) -> Option<T> {
    let mut kept = kept.lock().await;
    if let Some((at, answer)) = &*kept
        && at.elapsed() < LIFE
    {
        return answer.clone();
    }
    let answer = timeout(FACTS_TIMEOUT, ask).await.ok().flatten();
    *kept = Some((Instant::now(), answer.clone()));
    answer
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn facts_are_asked_for_once_a_minute_and_awaited_two_seconds() {
        let asked = AtomicU32::new(0);
        let cell = Kept::default();
        let ask = |answer, takes| {
            let asked = &asked;
            async move {
                asked.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(takes).await;
                answer
            }
        };
        let slow = Duration::from_secs(10);
        let start = Instant::now();
        // The second waits for the first and does not ask again.
        let both = tokio::join!(kept(&cell, ask(Some(1), slow)), kept(&cell, ask(Some(2), slow)));
        assert_eq!((both, start.elapsed().as_secs()), ((None, None), 2));
        assert_eq!(kept(&cell, ask(Some(3), Duration::ZERO)).await, None);
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        tokio::time::sleep(LIFE).await;
        assert_eq!(kept(&cell, ask(Some(4), Duration::ZERO)).await, Some(4));
        assert_eq!(kept(&cell, ask(None, Duration::ZERO)).await, Some(4));
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }
}
