//! Errors in the two shapes AWS gives them: a JSON document with `__type`, or an XML `ErrorResponse`.

use std::borrow::Cow;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;

use super::protocol::{Protocol, respond, xml};
use crate::{failure::Failure, identity::Identity, operation::Operation, sigv4::Refusal};

/// An error on its way to the caller.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) code: Cow<'static, str>,
    pub(super) message: String,
    pub(super) disconnect: bool,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code: code.into(), message: message.into(), disconnect: false }
    }

    pub(super) fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// The code that each family gives for a refused signature (AWS, "Common errors" of SSM and of STS).
    pub(super) fn refused(refusal: &Refusal, protocol: Protocol) -> Self {
        let (json, query) = match refusal {
            Refusal::Unsigned => ("MissingAuthenticationTokenException", "MissingAuthenticationToken"),
            Refusal::Incomplete(_) => ("IncompleteSignatureException", "IncompleteSignature"),
            Refusal::UnknownKey => ("UnrecognizedClientException", "InvalidClientTokenId"),
            Refusal::NotSigned(_) | Refusal::Scope { .. } | Refusal::Skew(_) | Refusal::Mismatch => {
                ("InvalidSignatureException", "SignatureDoesNotMatch")
            }
        };
        match protocol {
            Protocol::Json => Self::bad(json, refusal.to_string()),
            Protocol::Query(_) => Self::new(StatusCode::FORBIDDEN, query, refusal.to_string()),
            Protocol::Ec2 => Self::new(StatusCode::UNAUTHORIZED, "AuthFailure", refusal.to_string()),
        }
    }

    pub(super) fn expired(protocol: Protocol) -> Self {
        let message = "The security token included in the request is expired";
        match protocol {
            Protocol::Json => Self::bad("ExpiredTokenException", message),
            Protocol::Query(_) => Self::new(StatusCode::FORBIDDEN, "ExpiredToken", message),
            Protocol::Ec2 => Self::bad("RequestExpired", message),
        }
    }

    pub(crate) fn denied(identity: &Identity, operation: Operation, resource: &str) -> Self {
        let action = format!("{}:{operation}", operation.service());
        let message = format!(
            "User: {} is not authorized to perform: {action} on resource: {resource} because no identity-based policy allows the {action} action",
            identity.arn
        );
        match Protocol::of(operation) {
            Protocol::Json => Self::bad("AccessDeniedException", message),
            Protocol::Query(_) => Self::new(StatusCode::FORBIDDEN, "AccessDenied", message),
            Protocol::Ec2 => Self::new(StatusCode::FORBIDDEN, "UnauthorizedOperation", message),
        }
    }

    /// The error for a failure that was asked for; failures that change the answer instead come back as `Ok`.
    pub(super) fn injected(
        failure: Failure,
        identity: &Identity,
        operation: Operation,
        resource: &str,
    ) -> Result<Option<Failure>, Self> {
        let protocol = Protocol::of(operation);
        Err(match failure {
            Failure::EmptyToken | Failure::LostAnswer => return Ok(Some(failure)),
            Failure::Throttling => match protocol {
                Protocol::Json => Self::bad("ThrottlingException", "Rate exceeded"),
                Protocol::Query(_) => Self::bad("Throttling", "Rate exceeded"),
                Protocol::Ec2 => {
                    Self::new(StatusCode::SERVICE_UNAVAILABLE, "RequestLimitExceeded", "Request limit exceeded.")
                }
            },
            Failure::InternalServerError => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", "An internal error occurred.")
            }
            Failure::Unavailable => Self::new(StatusCode::SERVICE_UNAVAILABLE, "", ""),
            Failure::AccessDenied => Self::denied(identity, operation, resource),
            Failure::ExpiredCredentials => Self::expired(protocol),
            Failure::TargetNotConnected => Self::target_not_connected(resource.rsplit('/').next().unwrap_or(resource)),
            Failure::InvalidDocument => Self::invalid_document("?"),
            Failure::BadRequest => {
                Self::bad("BadRequest", "port forwarding sessions to remote hosts are not supported by this agent")
            }
            Failure::DoesNotExist => Self::does_not_exist("The session"),
            Failure::Disconnect => Self { disconnect: true, ..Self::bad("Disconnect", "") },
        })
    }

    pub(super) fn target_not_connected(target: &str) -> Self {
        Self::bad("TargetNotConnected", format!("{target} is not connected."))
    }

    pub(super) fn invalid_document(name: &str) -> Self {
        Self::bad("InvalidDocument", format!("Document with name {name} does not exist."))
    }

    pub(super) fn does_not_exist(what: &str) -> Self {
        Self::bad("DoesNotExistException", format!("{what} does not exist."))
    }

    /// The error's name.
    pub(crate) fn code(&self) -> &str {
        &self.code
    }

    /// The whole answer.
    pub(crate) fn response(self, protocol: Protocol, request_id: &str) -> Response<Full<Bytes>> {
        let Self { status, code, message, .. } = self;
        if code.is_empty() {
            return respond(status, "text/plain", request_id, String::new());
        }
        match protocol {
            Protocol::Json => {
                let body = serde_json::json!({ "__type": code, "message": message });
                respond(status, "application/x-amz-json-1.1", request_id, body.to_string())
            }
            Protocol::Query(namespace) => {
                let side = if status.is_server_error() { "Receiver" } else { "Sender" };
                let body = format!(
                    "<ErrorResponse xmlns=\"{namespace}\"><Error><Type>{side}</Type><Code>{code}</Code><Message>{}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>",
                    xml(&message)
                );
                respond(status, "text/xml", request_id, body)
            }
            Protocol::Ec2 => {
                let body = format!(
                    "<Response><Errors><Error><Code>{code}</Code><Message>{}</Message></Error></Errors><RequestID>{request_id}</RequestID></Response>",
                    xml(&message)
                );
                respond(status, "text/xml", request_id, body)
            }
        }
    }
}
