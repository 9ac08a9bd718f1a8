//! The meaning of failures that the SDK or an API reports: error codes, missing replies, and what lies beneath them.

use std::{error::Error as StdError, sync::Arc};

use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use safe_display::printable;

use super::{Error, Unreachable, error::Cause};
use crate::outbound;

/// The meaning of an error that the operation does not model. AWS's error codes: "Common Error Types" of each API.
pub(super) fn classify<E>(operation: &'static str, profile: Option<&str>, error: SdkError<E, HttpResponse>) -> Error
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    let code = error.code().map_or_else(|| status.map_or("unknown".into(), |s| format!("HTTP {s}")), str::to_owned);
    let message = error.message().unwrap_or("(no message)").to_owned();
    if let Some(proxy) = find::<outbound::Error>(&error) {
        return Error::Proxy(proxy.clone());
    }
    match error {
        SdkError::TimeoutError(_) => Error::Timeout { operation, cause: described(error) },
        SdkError::DispatchFailure(ref failure) if failure.is_timeout() => {
            Error::Timeout { operation, cause: described(error) }
        }
        SdkError::DispatchFailure(_) | SdkError::ConstructionFailure(_) => {
            Error::Transport { operation, cause: described(error) }
        }
        _ => meaning(operation, profile, status, (code, message)),
    }
}

/// The meaning of an error code and its message, of any protocol.
pub(super) fn meaning(
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

/// Classifies a failure without a reply of a service that issues credentials.
pub(super) fn unreachable<E: StdError + Send + Sync + 'static>(error: SdkError<E, HttpResponse>) -> Error {
    match find::<outbound::Error>(&error) {
        Some(proxy) => Error::Proxy(proxy.clone()),
        None => Error::CredentialsTransport { cause: described(error) },
    }
}

/// The cause of a failure without a reply: the host that was tried, where it is known, and else the error itself.
pub(super) fn described(error: impl StdError + Send + Sync + 'static) -> Cause {
    match find::<Unreachable>(&error) {
        Some(unreachable) => Arc::new(unreachable.clone()),
        None => Arc::new(error),
    }
}

/// The first `E` among an error and its causes.
pub(super) fn find<'e, E: StdError + 'static>(error: &'e (dyn StdError + 'static)) -> Option<&'e E> {
    std::iter::successors(Some(error), |&error| error.source()).find_map(<dyn StdError>::downcast_ref)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_token_that_aws_quotes_is_cut() {
        let token = "IQoJb3JpZ2luX2VjE/+=".repeat(30);
        let quoted = format!("The Canonical String should have been 'POST\nx-amz-security-token:{token}\n'");
        let error = meaning("StartSession", None, Some(403), ("SignatureDoesNotMatch".into(), quoted));
        let text = crate::causes::one_line(&error);
        assert!(text.contains("x-amz-security-token:[cut]") && !text.contains("IQoJ"), "{text}");
    }
}
