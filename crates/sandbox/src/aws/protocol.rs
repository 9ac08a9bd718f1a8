//! The wire shapes of the services: AWS JSON, Query, and Query in EC2's manner.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;

use crate::operation::Operation;

/// The family of wire shapes that a service speaks.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Protocol {
    /// AWS JSON 1.1.
    Json,
    /// Query, with this XML namespace.
    Query(&'static str),
    /// Query in EC2's manner: other error codes, in another document.
    Ec2,
}

impl Protocol {
    /// The shape in which the service of an operation speaks.
    pub(super) fn of(operation: Operation) -> Self {
        match operation.service() {
            "sts" => Self::Query("https://sts.amazonaws.com/doc/2011-06-15/"),
            "rds" => Self::Query("http://rds.amazonaws.com/doc/2014-10-31/"),
            "iam" => Self::Query("https://iam.amazonaws.com/doc/2010-05-08/"),
            "ec2" => Self::Ec2,
            _ => Self::Json,
        }
    }
}

/// The answer of a call that succeeded.
pub(super) fn success(protocol: Protocol, body: String, request_id: &str) -> Response<Full<Bytes>> {
    let (content_type, body) = match protocol {
        Protocol::Json => ("application/x-amz-json-1.1", body),
        Protocol::Query(_) | Protocol::Ec2 => (
            "text/xml",
            body.replace("</ResponseMetadata>", &format!("<RequestId>{request_id}</RequestId></ResponseMetadata>")),
        ),
    };
    respond(StatusCode::OK, content_type, request_id, body)
}

/// A response with the headers that AWS adds, but for `Date`.
pub(super) fn respond(
    status: StatusCode,
    content_type: &'static str,
    request_id: &str,
    body: String,
) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header("content-type", content_type)
        .header("x-amzn-requestid", request_id)
        .body(Full::new(body.into()))
        .expect("fixed header names and a UUID make a valid response")
}

/// Text inside an XML element.
pub(super) fn xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
