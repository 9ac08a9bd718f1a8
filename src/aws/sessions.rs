//! The caller's open sessions of Session Manager.

use std::time::SystemTime;

use aws_sdk_ssm::types::{SessionFilter, SessionFilterKey, SessionState};

use super::{Account, Error};

/// The largest number of pages, so that a service that repeats its token cannot cause an endless loop.
const MAX_PAGES: usize = 200;

/// An open session, as DescribeSessions reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenSession {
    /// Its id.
    pub id: String,
    /// The managed node.
    pub target: String,
    /// The time of its start.
    pub started: Option<SystemTime>,
    /// The status, such as `Connected` or `Connecting`.
    pub status: String,
    /// The session document.
    pub document: String,
    /// The reason given at its start.
    pub reason: String,
}

impl Account {
    /// SSM DescribeSessions: the active sessions of this caller, all pages.
    ///
    /// # Errors
    /// The errors of every call.
    pub async fn open_sessions(&self) -> Result<Vec<OpenSession>, Error> {
        const OPERATION: &str = "DescribeSessions";
        let owner = SessionFilter::builder().key(SessionFilterKey::Owner).value(self.principal().await?.arn).build();
        let owner = owner.map_err(|_| Error::Incomplete { operation: OPERATION, field: "Filters" })?;
        let mut sessions = Vec::new();
        let mut next = None;
        for _ in 0..MAX_PAGES {
            let page = self
                .call(OPERATION, || async {
                    let call = self.0.ssm.describe_sessions().state(SessionState::Active).filters(owner.clone());
                    let sent = call.set_next_token(next.clone()).send().await;
                    sent.map_err(|error| self.classify(OPERATION, error))
                })
                .await?;
            sessions.extend(page.sessions.unwrap_or_default().into_iter().map(|session| OpenSession {
                id: session.session_id.unwrap_or_default(),
                target: session.target.unwrap_or_default(),
                started: session.start_date.and_then(|date| date.try_into().ok()),
                status: session.status.map(|status| status.as_str().to_owned()).unwrap_or_default(),
                document: session.document_name.unwrap_or_default(),
                reason: session.reason.unwrap_or_default(),
            }));
            next = page.next_token.filter(|token| !token.is_empty());
            if next.is_none() {
                break;
            }
        }
        Ok(sessions)
    }
}
