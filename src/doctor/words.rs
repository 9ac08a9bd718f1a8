//! What may be said of an error in a report: the words of our own types, which hold names of the user's and of AWS's, and no
//! further. What lies below them is of libraries' making, and may repeat a URL or a header.

use crate::{
    proxy::error::Error,
    tunnel::{self, direct, pool, ssm::session},
};

/// An error on the way to the database, in one line.
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
