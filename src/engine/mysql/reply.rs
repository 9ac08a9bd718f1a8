//! The ERR packet for a client whose connection failed: cause and hint within its 511 bytes.

use database_wire::{
    Error,
    mysql::{
        self, ErrorReport, ReplyPosition,
        error::code::{
            ACCESS_DENIED, BAD_HANDSHAKE, HOST_NOT_PRIVILEGED, READ_ERROR, SERVER_SHUTDOWN, TOO_MANY_CONNECTIONS,
            UNKNOWN,
        },
    },
};

use super::hint::{alter_user_hint, hint};
use crate::engine::{Failure, Kind};

/// The packet, which stands at `position` in the conversation; `None` if no reply is possible.
pub fn reply(failure: Failure<'_>, position: ReplyPosition) -> Option<Vec<u8>> {
    // There is no room for both, and a fact says more than a list of things to check.
    let fact = failure.fact.as_ref().map(|fact| format!("{fact} Run: {}", failure.doctor));
    let report = match failure.kind {
        Kind::Database(Error::Mysql(mysql::Error::Refused(server) | mysql::Error::RefusedBeforeTls(server))) => {
            let advice = || failure.advice_on_refusal(hint(server, &failure.applicant()));
            return Some(server.encode_with(position, Some(&fact.unwrap_or_else(advice))));
        }
        Kind::Database(Error::Mysql(error @ mysql::Error::Authentication(_))) => {
            let hint = fact.or_else(|| failure.applicant().choice()).or_else(|| Some(alter_user_hint(failure.user)));
            ErrorReport { hint, ..error.report()? }
        }
        Kind::Client(Error::Mysql(error)) | Kind::Database(Error::Mysql(error)) => error.report()?,
        kind => {
            let (code, sqlstate) = code(kind);
            // Behind the last words of the agent there is no room for the command as well.
            let advice = |hint: &str| if hint.starts_with("If ") { hint.to_owned() } else { failure.advice(hint) };
            let hint = fact.or_else(|| failure.hint.as_deref().map(advice));
            let message = match (kind, (code, sqlstate)) {
                // As a server says it.
                (Kind::WrongPassword { host, given }, _) => {
                    let given = if given { "YES" } else { "NO" };
                    format!("Access denied for user '{}'@'{host}' (using password: {given})", failure.user)
                }
                // The text that people know from their client, with the innermost cause: there is little room.
                (_, UNKNOWN) => {
                    format!("Can't connect to MySQL server on '{}': {}", failure.target, failure.last_cause)
                }
                _ => failure.message,
            };
            ErrorReport { code, sqlstate, message, detail: None, hint }
        }
    };
    Some(report.encode(position))
}

fn code(kind: Kind<'_>) -> (u16, &'static str) {
    match kind {
        Kind::NotAdmitted => HOST_NOT_PRIVILEGED,
        Kind::NoLogin | Kind::WrongPassword { .. } => ACCESS_DENIED,
        Kind::ShuttingDown => SERVER_SHUTDOWN,
        Kind::TooManyClients => TOO_MANY_CONNECTIONS,
        Kind::Denied | Kind::NoRoom | Kind::Unreachable => UNKNOWN,
        Kind::Tls | Kind::LostInTls => BAD_HANDSHAKE,
        Kind::Lost | Kind::Client(_) | Kind::Database(_) => READ_ERROR,
    }
}
