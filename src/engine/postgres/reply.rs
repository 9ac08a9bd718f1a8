//! The ErrorResponse for a client whose connection failed, with DETAIL and HINT.

use database_wire::{
    Error,
    postgres::{
        self, ErrorReport, ServerError,
        error::sqlstate::{
            CANNOT_CONNECT_NOW, CONNECTION_FAILURE, INVALID_AUTHORIZATION, INVALID_PASSWORD, REJECTED,
            TOO_MANY_CONNECTIONS, UNABLE_TO_CONNECT,
        },
    },
};

use super::hint::{OR_PASSWORD, hint, quote_identifier};
use crate::{
    connect::NO_DATABASE_HINT,
    engine::{Failure, Kind},
};

/// The message; `None` if no reply is possible.
pub(super) fn reply(failure: Failure<'_>) -> Option<Vec<u8>> {
    match failure.kind {
        Kind::Client(Error::Postgres(postgres::Error::Closed { .. } | postgres::Error::Io(_))) => None,
        Kind::Client(Error::Postgres(error)) => {
            let mut report = error.report()?;
            report.message = failure.sentence(&report.message, report.hint.as_deref());
            Some(report.encode())
        }
        Kind::Database(Error::Postgres(postgres::Error::Refused(server))) => Some(refusal(server, failure)),
        Kind::Database(Error::Postgres(error)) => {
            let mut report = error.report()?;
            match error {
                postgres::Error::Authentication(_) => {
                    let chosen = || not_a_member_hint(failure.user);
                    report.hint = Some(failure.applicant().choice().unwrap_or_else(chosen));
                }
                postgres::Error::RefusedBeforeTls(server) => {
                    report.hint = hint(server, &failure.applicant());
                }
                // The protocol's layer does not know whose connection it was.
                postgres::Error::Closed { .. } | postgres::Error::Io(_) => {
                    report.message = format!("cannot log in to the database: {}", report.message);
                }
                _ => {}
            }
            let hint = failure.advice(report.hint.as_deref().unwrap_or(NO_DATABASE_HINT));
            report.message = failure.sentence(&report.message, Some(&hint));
            report.hint = joined(failure.fact, Some(hint));
            report.detail = joined(report.detail, failure.context);
            Some(report.encode())
        }
        kind => {
            let hint = failure.hint.as_deref().map(|hint| failure.advice(hint));
            let report = ErrorReport {
                sqlstate: sqlstate(kind),
                message: failure.sentence(&failure.message, hint.as_deref()),
                detail: failure.context,
                hint: joined(failure.fact, hint),
            };
            Some(report.encode())
        }
    }
}

/// The server's own error, with what we know about it.
fn refusal(server: &ServerError, failure: Failure<'_>) -> Vec<u8> {
    let hint = failure.advice_on_refusal(hint(server, &failure.applicant()));
    let remedy = failure.behind_the_servers(&hint);
    server.encode_with(remedy.as_deref(), failure.context.as_deref(), joined(failure.fact, Some(hint)).as_deref())
}

/// Clients and their pools do not retry after class 28; after class 08 they do.
fn sqlstate(kind: Kind<'_>) -> &'static str {
    match kind {
        Kind::WrongPassword { .. } => INVALID_PASSWORD,
        Kind::NotAdmitted | Kind::NoLogin | Kind::Denied => INVALID_AUTHORIZATION,
        Kind::ShuttingDown => CANNOT_CONNECT_NOW,
        Kind::NoRoom | Kind::TooManyClients => TOO_MANY_CONNECTIONS,
        Kind::Unreachable => UNABLE_TO_CONNECT,
        Kind::Tls => REJECTED,
        Kind::Lost | Kind::LostInTls | Kind::Client(_) | Kind::Database(_) => CONNECTION_FAILURE,
    }
}

/// A server asks for a password also when there is no such role.
fn not_a_member_hint(user: &str) -> String {
    let (role, lower) = (quote_identifier(user), user.to_lowercase());
    if lower != user {
        return format!(
            "Log in as {lower}: names are in lower case, unless a role was created in quotes. For one that was, as an \
             administrator: GRANT rds_iam TO {role};"
        );
    }
    format!(
        "As an administrator: GRANT rds_iam TO {role}; and check that IAM database authentication is enabled on the instance, \
         cluster or RDS Proxy. {OR_PASSWORD}"
    )
}

/// Two texts, a line each.
fn joined(first: Option<String>, second: Option<String>) -> Option<String> {
    match (first, second) {
        (Some(first), Some(second)) => Some(format!("{first}\n{second}")),
        (first, second) => first.or(second),
    }
}
