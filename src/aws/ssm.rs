//! The three session calls of Systems Manager, and the one preference of the account that matters to a session.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_sdk_ssm::operation::{
    get_document::GetDocumentError, resume_session::ResumeSessionError, start_session::StartSessionError,
    terminate_session::TerminateSessionError,
};
use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use ssm_session::control::{Grant, StartSession};
use zeroize::Zeroizing;

use super::{Account, Error};
use crate::target::InstanceId;

/// The document that holds the account's preferences for sessions in a region (Systems Manager guide, "Update Session
/// Manager preferences").
const PREFERENCES: &str = "SSM-SessionManagerRunShell";
/// The idle timeout of an account without preferences (the same guide, "Specify an idle session timeout value").
const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_mins(20);

impl Account {
    /// Starts a session, in one attempt: a failed attempt may have started a session whose id is unknown.
    ///
    /// # Errors
    /// [`Error::TargetNotConnected`], [`Error::InvalidDocument`], [`Error::AccessDenied`], and the errors of every call.
    pub(super) async fn try_start_session(&self, node: &InstanceId, request: &StartSession) -> Result<Grant, Error> {
        const OPERATION: &str = "StartSession";
        let answer = self
            .call(OPERATION, || async {
                let mut call = self
                    .0
                    .ssm
                    .start_session()
                    .target(&request.node)
                    .document_name(&request.document)
                    .reason(&request.reason);
                for (name, value) in &request.parameters {
                    call = call.parameters(name, vec![value.clone()]);
                }
                let once = aws_sdk_ssm::config::Builder::new().retry_config(RetryConfig::disabled());
                call.customize().config_override(once).send().await.map_err(|error| match error.as_service_error() {
                    Some(StartSessionError::TargetNotConnected(_)) => {
                        Error::TargetNotConnected { target: node.clone(), region: self.region().clone() }
                    }
                    Some(StartSessionError::InvalidDocument(_)) => {
                        Error::InvalidDocument { document: request.document.clone(), region: self.region().clone() }
                    }
                    _ => self.classify(OPERATION, error),
                })
            })
            .await?;
        let field = |field, value: Option<String>| {
            value.filter(|value| !value.is_empty()).ok_or(Error::Incomplete { operation: OPERATION, field })
        };
        Ok(Grant {
            session_id: field("SessionId", answer.session_id)?,
            stream_url: Zeroizing::new(field("StreamUrl", answer.stream_url)?),
            token: Zeroizing::new(field("TokenValue", answer.token_value)?),
        })
    }

    /// Gets a token for opening the data channel of a running session again.
    ///
    /// # Errors
    /// [`Error::SessionGone`] when the session has ended, [`Error::AccessDenied`] when fresh credentials are denied too, and
    /// the errors of every call.
    pub async fn resume_session(&self, session_id: &str) -> Result<Grant, Error> {
        const OPERATION: &str = "ResumeSession";
        let gone = || Error::SessionGone { session_id: session_id.into() };
        let attempt = || async {
            self.0.ssm.resume_session().session_id(session_id).send().await.map_err(|error| {
                match error.as_service_error() {
                    Some(ResumeSessionError::DoesNotExistException(_)) => gone(),
                    _ => self.classify(OPERATION, error),
                }
            })
        };
        let credentials = self.credentials().await?;
        let answer = match self.call(OPERATION, attempt).await {
            // The caller that started the session may resume it. Changed credentials are more likely than a changed policy.
            Err(Error::AccessDenied { .. }) => {
                tracing::debug!("AWS denied ResumeSession; fetching new credentials");
                self.0.credentials.forget(&credentials);
                self.call(OPERATION, attempt).await?
            }
            answer => answer?,
        };
        // A session that has timed out is resumed without a token.
        let token = answer.token_value.filter(|token| !token.is_empty()).ok_or_else(gone)?;
        Ok(Grant {
            session_id: session_id.into(),
            stream_url: Zeroizing::new(answer.stream_url.unwrap_or_default()),
            token: Zeroizing::new(token),
        })
    }

    /// Ends a session. A session that has already ended counts as a success.
    ///
    /// # Errors
    /// The errors of every call.
    pub async fn terminate_session(&self, session_id: &str) -> Result<(), Error> {
        const OPERATION: &str = "TerminateSession";
        let answer = self
            .call(OPERATION, || async {
                let sent = self.0.ssm.terminate_session().session_id(session_id).send().await;
                sent.map_err(|error: SdkError<TerminateSessionError, HttpResponse>| match error.code() {
                    Some("DoesNotExistException") => Error::SessionGone { session_id: session_id.into() },
                    _ => self.classify(OPERATION, error),
                })
            })
            .await;
        match answer {
            Ok(_) | Err(Error::SessionGone { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The idle timeout of sessions in this account; `None` if the caller may not read it. Fetched once.
    pub async fn session_idle_timeout(&self) -> Option<Duration> {
        *self.0.session_idle_timeout.get_or_init(|| self.fetch_idle_timeout()).await
    }

    async fn fetch_idle_timeout(&self) -> Option<Duration> {
        const OPERATION: &str = "GetDocument";
        let answer = self
            .call(OPERATION, || async {
                let sent = self.0.ssm.get_document().name(PREFERENCES).send().await;
                sent.map_err(|error| match error.as_service_error() {
                    Some(GetDocumentError::InvalidDocument(_)) => {
                        Error::InvalidDocument { document: PREFERENCES.into(), region: self.region().clone() }
                    }
                    _ => self.classify(OPERATION, error),
                })
            })
            .await;
        match answer {
            Ok(document) => idle_timeout_of(document.content.as_deref()?),
            Err(Error::InvalidDocument { .. }) => Some(DEFAULT_IDLE_TIMEOUT),
            Err(cause) => {
                // Most callers lack the permission, and do not need it.
                tracing::debug!(%cause, "the account's idle timeout is not known");
                None
            }
        }
    }
}

/// `inputs.idleSessionTimeout` of the preferences: minutes, as text; empty or absent is the default.
fn idle_timeout_of(content: &str) -> Option<Duration> {
    let preferences: serde_json::Value = serde_json::from_str(content).ok()?;
    match preferences.pointer("/inputs/idleSessionTimeout").and_then(serde_json::Value::as_str) {
        None | Some("") => Some(DEFAULT_IDLE_TIMEOUT),
        Some(minutes) => minutes.parse().ok().filter(|minutes| (1..=60).contains(minutes)).map(Duration::from_mins),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_idle_timeout_is_in_minutes_or_the_default() {
        let minutes = |text: &str| format!(r#"{{"schemaVersion":"1.0","inputs":{{"idleSessionTimeout":"{text}"}}}}"#);
        assert_eq!(idle_timeout_of(&minutes("45")), Some(Duration::from_mins(45)));
        assert_eq!(idle_timeout_of(&minutes("")), Some(DEFAULT_IDLE_TIMEOUT));
        assert_eq!(idle_timeout_of(r#"{"inputs":{}}"#), Some(DEFAULT_IDLE_TIMEOUT));
        for unknown in [minutes("0"), minutes("61"), minutes("soon"), "schemaVersion: '1.0'".into(), String::new()] {
            assert_eq!(idle_timeout_of(&unknown), None, "{unknown}");
        }
    }
}
