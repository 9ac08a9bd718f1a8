//! The three session calls of Systems Manager, and the one preference of the account that matters to a session.

use std::{sync::Arc, time::Duration};

use aws_config::retry::RetryConfig;
use aws_sdk_ssm::operation::{
    get_document::GetDocumentError, resume_session::ResumeSessionError, start_session::StartSessionError,
    terminate_session::TerminateSessionError,
};
use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use ssm_session::control::{Grant, StartSession};
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};
use zeroize::Zeroizing;

use super::{Account, Error, Retry, provide::find};
use crate::{outbound, printable, target::InstanceId};

/// The document that holds the account's preferences for sessions in a region (Systems Manager guide, "Update Session
/// Manager preferences").
const PREFERENCES: &str = "SSM-SessionManagerRunShell";
/// What holds in an account that has set no preferences (the same guide, "Specify an idle session timeout value").
const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_mins(20);

impl Account {
    /// Starts a session, in one attempt: a failed attempt may have started a session whose id is unknown.
    ///
    /// # Errors
    /// [`Error::TargetNotConnected`], [`Error::InvalidDocument`], [`Error::AccessDenied`] and the rest.
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

    /// Asks for leave to open the data channel of a running session again.
    ///
    /// # Errors
    /// [`Error::SessionGone`] when the session has ended, [`Error::AccessDenied`] when fresh credentials are denied too, and
    /// the rest.
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
            // Those who started the session may resume it: more likely than a new policy are other credentials meanwhile.
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

    /// Ends a session. One that is gone already is fine.
    ///
    /// # Errors
    /// Why AWS did not do it.
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

    /// How long a session of this account may be without input, as far as the caller may know it. Asked for once.
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
                // Most callers may not read it, and need not.
                tracing::debug!(%cause, "the account's idle timeout is not known");
                None
            }
        }
    }

    /// Makes a call, and once more with fresh credentials when AWS refuses those we had.
    pub(super) async fn call<T, F>(&self, operation: &'static str, attempt: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        // Asked first so that an error about credentials is ours, not one wrapped by the SDK.
        let credentials = self.credentials().await?;
        // The SDK's trace lines hold the session token and the answer's secrets.
        let answer = attempt().with_subscriber(NoSubscriber::default()).await;
        let refused = matches!(&answer, Err(error) if error.retry() == Retry::RefreshCredentials);
        if !refused {
            return answer;
        }
        tracing::debug!(operation, "AWS refused the credentials; fetching new ones");
        self.0.credentials.forget(&credentials);
        self.credentials().await?;
        attempt().with_subscriber(NoSubscriber::default()).await
    }

    /// [`classify`] for this account's profile.
    pub(super) fn classify<E>(&self, operation: &'static str, error: SdkError<E, HttpResponse>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        classify(operation, self.0.profile.as_deref(), error)
    }

    /// [`meaning`] for this account's profile.
    pub(super) fn meaning(&self, operation: &'static str, status: Option<u16>, code: String, message: String) -> Error {
        meaning(operation, self.0.profile.as_deref(), status, (code, message))
    }
}

/// What an error means that the operation does not model. AWS's error codes: "Common Error Types" of each API.
pub(super) fn classify<E>(operation: &'static str, profile: Option<&str>, error: SdkError<E, HttpResponse>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    let code = error.code().map_or_else(|| status.map_or("unknown".into(), |s| format!("HTTP {s}")), str::to_owned);
    let message = error.message().unwrap_or("(no message)").to_owned();
    if let Some(proxy) = find::<outbound::Error>(&error) {
        return Error::Proxy(proxy.clone());
    }
    match error {
        SdkError::TimeoutError(_) => Error::Timeout { operation, cause: Arc::new(error) },
        SdkError::DispatchFailure(ref failure) if failure.is_timeout() => {
            Error::Timeout { operation, cause: Arc::new(error) }
        }
        SdkError::DispatchFailure(_) | SdkError::ConstructionFailure(_) => {
            Error::Transport { operation, cause: Arc::new(error) }
        }
        _ => meaning(operation, profile, status, (code, message)),
    }
}

/// What an error code means, in whichever protocol it came with its message.
fn meaning(
    operation: &'static str,
    profile: Option<&str>,
    status: Option<u16>,
    (code, message): (String, String),
) -> Error {
    // A refusal of a signature quotes the request, with the session token in it.
    let message = printable::without_tokens(&message).into_owned();
    match code.as_str() {
        "ExpiredToken"
        | "ExpiredTokenException"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "AuthFailure"
        | "InvalidToken" => Error::CredentialsRefused { operation, profile: profile.map(str::to_owned), code },
        "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation" => {
            Error::AccessDenied { operation, message }
        }
        "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestLimitExceeded"
        | "TooManyRequestsException" => Error::Throttled { operation },
        _ if status.is_some_and(|status| (400..500).contains(&status)) => {
            Error::BadRequest { operation, code, message }
        }
        _ => Error::Service { operation, code, message },
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

    #[test]
    fn a_session_token_that_aws_quotes_is_cut() {
        let token = "IQoJb3JpZ2luX2VjE/+=".repeat(30);
        let quoted = format!("The Canonical String should have been 'POST\nx-amz-security-token:{token}\n'");
        let error = meaning("StartSession", None, Some(403), ("SignatureDoesNotMatch".into(), quoted));
        let text = crate::causes::one_line(&error);
        assert!(text.contains("x-amz-security-token:[cut]") && !text.contains("IQoJ"), "{text}");
    }
}
