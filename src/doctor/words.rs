//! The texts of a report. Of an error they hold the messages of our own types, and of the system, of TLS and of an HTTP proxy, which name
//! hosts, files and things of AWS. The messages of other libraries are left out: they may repeat a URL or a header.

use std::{error::Error as StdError, sync::Arc, time::SystemTime};

use aws_smithy_types::{DateTime, date_time::Format};
use safe_display::printable;

use crate::{
    aws,
    connect::Error,
    engine, outbound,
    target::Remote,
    tls,
    tunnel::{
        self, StreamError, direct, message_service, pool,
        ssm::{control::ControlError, conversation::EndReason, session, websocket},
    },
};

/// No session is needed.
pub(super) const DIRECT: &str = "not needed: the route is direct";
/// No check of TLS or of a login is needed.
pub(super) const NO_PROTOCOL: &str = "not needed: bytes pass as they are, without TLS or a login of ours";
/// A login with a password takes no token, no permission and nothing of IAM, and only a client can make it.
pub(super) const CLIENTS_PASSWORD: &str = "clients log in with a password of their own";
/// The same for a login with a password that rdsgate has.
pub(super) const OWN_PASSWORD: &str = "rdsgate logs in with a password";
/// Why a check is skipped.
pub(super) const NO_CREDENTIALS: &str = "there are no usable credentials";
/// Why a check is skipped.
pub(super) const NO_BASTION: &str = "no bastion is chosen";
/// Why a check is skipped.
pub(super) const NO_ENDPOINT: &str = "the endpoint is not known";
/// Why a check is skipped.
pub(super) const NO_REPLY: &str = "AWS was not reached";
/// Why a check is skipped.
pub(super) const NO_DESCRIPTION: &str = "RDS did not describe the database";
/// Why a check is skipped.
pub(super) const NO_CONNECTION: &str = "the database was not reached";
/// Why a check is skipped.
pub(super) const NO_USER: &str = "no database user is set";
/// Why a check is skipped.
pub(super) const STOPPED: &str = "the run was stopped before";

/// A time by RFC 3339, to the second.
pub(super) fn time(at: SystemTime) -> String {
    let seconds = DateTime::from_secs(DateTime::from(at).secs());
    seconds.fmt(Format::DateTime).unwrap_or_else(|_| "an unknown time".into())
}

/// An error of connecting to this remote end, in one line. The step is the check's; the text says what happened in it.
pub(super) fn of(error: &Error, remote: Remote) -> String {
    match error {
        Error::Route(cause) => joined(cause),
        Error::Stream(cause) => printable::without_tokens(&cause.message(remote)).into_owned(),
        // A finding of its own has the names and dates of the certificate.
        Error::Tls(tls::Error::Certificate(rejected)) => {
            format!("the certificate for {} was refused: {}", rejected.host, rejected.reason)
        }
        Error::Tls(cause) => joined(cause),
        other => joined(other),
    }
}

/// An error of a call to AWS, in one line.
pub(super) fn of_aws(error: &aws::Error) -> String {
    joined(error)
}

/// The messages of an error and of its causes, as far as they may be shown.
fn joined(error: &(dyn StdError + 'static)) -> String {
    let mut text = String::new();
    for error in std::iter::successors(Some(error), |&error| error.source()).filter(|error| may_be_shown(*error)) {
        let more = error.to_string();
        if text.is_empty() {
            text = more;
        } else if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
    }
    printable::without_tokens(&text).into_owned()
}

fn may_be_shown(error: &(dyn StdError + 'static)) -> bool {
    // A shared cause is an error as well.
    let error = match error.downcast_ref::<Arc<dyn StdError + Send + Sync>>() {
        Some(shared) => &**shared as &(dyn StdError + 'static),
        None => error,
    };
    let is_of_connecting = is::<Error>(error)
        || is::<tunnel::Error>(error)
        || is::<pool::Error>(error)
        || is::<session::Error>(error)
        || is::<EndReason>(error)
        || is::<ControlError>(error)
        || is::<websocket::Error>(error)
        || is::<message_service::Error>(error)
        || is::<StreamError>(error)
        || is::<direct::Error>(error)
        || is::<direct::Attempts>(error)
        || is::<engine::Error>(error);
    let is_of_aws = is::<aws::Error>(error) || is::<aws::Unreachable>(error) || is::<outbound::Error>(error);
    is_of_connecting || is_of_aws || aws::is_sentence(error) || tls::is_of_tls_or_system(error)
}

fn is<E: StdError + 'static>(error: &(dyn StdError + 'static)) -> bool {
    error.is::<E>() || error.is::<Arc<E>>() || error.is::<Box<E>>()
}

/// The name in IAM of the calls that a report is made from.
pub(super) fn action(operation: &str) -> Option<String> {
    let service = match operation {
        "SimulatePrincipalPolicy" | "GetInstanceProfile" | "ListAttachedRolePolicies" => "iam",
        "FilterLogEvents" => "logs",
        "DescribeInstances"
        | "DescribeSecurityGroups"
        | "DescribeVpcEndpoints"
        | "DescribeVpcAttribute"
        | "DescribeNetworkAcls" => "ec2",
        "DescribeInstanceInformation" => "ssm",
        _ if operation.starts_with("DescribeDB") => "rds",
        _ => return None,
    };
    Some(format!("{service}:{operation}"))
}
