//! The texts of a report. Of an error they hold the messages of our own types, which name things of the user and of AWS, but
//! not the causes below them: those come from libraries, and may repeat a URL or a header.

use std::time::SystemTime;

use aws_smithy_types::{DateTime, date_time::Format};

use crate::{
    connect::Error,
    tunnel::{self, direct, pool, ssm::session},
};

/// No session is needed.
pub(super) const DIRECT: &str = "not needed: the route is direct";
/// Why a check is skipped.
pub(super) const NO_CREDENTIALS: &str = "there are no usable credentials";
/// Why a check is skipped.
pub(super) const NO_BASTION: &str = "no bastion is chosen";
/// Why a check is skipped.
pub(super) const NO_ENDPOINT: &str = "the endpoint is not known";

/// A time by RFC 3339, to the second.
pub(super) fn time(at: SystemTime) -> String {
    let seconds = DateTime::from_secs(DateTime::from(at).secs());
    seconds.fmt(Format::DateTime).unwrap_or_else(|_| "an unknown time".into())
}

/// An error of connecting, in one line.
pub(super) fn of(error: &Error) -> String {
    match error {
        Error::Credentials(cause) => format!("{error}: {cause}"),
        Error::Route(tunnel::Error::Pool(pool::Error::Session(cause))) => of_session(cause),
        Error::Route(tunnel::Error::Direct(cause)) => of_direct(cause),
        Error::Route(cause) => cause.to_string(),
        Error::Stream(cause) => cause.to_string(),
        Error::Tls(cause) => cause.to_string(),
        other => other.to_string(),
    }
}

fn of_session(error: &session::Error) -> String {
    match error {
        session::Error::Start { cause, .. } | session::Error::Sign(cause) => format!("{error}: {cause}"),
        session::Error::WebSocket(cause) => format!("{error}: {cause}"),
        session::Error::Ended { reason, .. } => format!("{error}: {reason}"),
        session::Error::WebSocketTimeout | session::Error::FirstFrame(_) => error.to_string(),
    }
}

fn of_direct(error: &direct::Error) -> String {
    match error {
        direct::Error::Resolve { .. } | direct::Error::Own { .. } => error.to_string(),
        direct::Error::Connect { cause, .. } => format!("{error}: {cause}"),
    }
}

/// The name in IAM of the calls that a report is made from.
pub(super) fn action(operation: &str) -> Option<String> {
    let service = match operation {
        "SimulatePrincipalPolicy" => "iam",
        "FilterLogEvents" => "logs",
        "DescribeInstances" | "DescribeSecurityGroups" => "ec2",
        "DescribeInstanceInformation" => "ssm",
        _ if operation.starts_with("DescribeDB") => "rds",
        _ => return None,
    };
    Some(format!("{service}:{operation}"))
}
