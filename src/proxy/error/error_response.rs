//! What a PostgreSQL client is told: one match from error to ErrorResponse, with DETAIL and HINT.

use super::{Error, Login, Stage};
use crate::{
    aws,
    connect::{self, NO_DATABASE_HINT, Step},
    engine,
    listen::access,
    postgres::{
        self, ErrorReport,
        error::sqlstate::{
            CANNOT_CONNECT_NOW, CONNECTION_FAILURE, INVALID_AUTHORIZATION, REJECTED, TOO_MANY_CONNECTIONS,
            UNABLE_TO_CONNECT,
        },
    },
    target::Target,
    tls,
    tunnel::{self, StreamError, control::aws_error, pool, ssm::session},
};

impl Error {
    /// The ErrorResponse for the client, `None` when it cannot be told. `login` is who was to log in.
    pub fn response(&self, target: &Target, login: &Login<'_>) -> Option<Vec<u8>> {
        let context = login.context(self.stage(), target);
        match self {
            Self::ClientLeft
            | Self::Access(access::Error::Gone)
            | Self::Client(postgres::Error::Closed { .. } | postgres::Error::Io(_)) => None,
            Self::Connect(connect::Error::Login(postgres::Error::Refused(server))) => {
                let hint = engine::postgres::hint(server, login.user, &login.permission(target));
                let hint = joined(login.facts.of_database(Stage::Connect(Step::Login), target), hint);
                Some(server.encode_with(Some(&context), hint.as_deref()))
            }
            Self::Client(error) => Some(error.report()?.encode()),
            Self::Connect(connect::Error::Answer(error) | connect::Error::Login(error)) => {
                let mut report = error.report()?;
                match error {
                    postgres::Error::Authentication(_) => report.hint = Some(login.grant_hint()),
                    postgres::Error::RefusedBeforeTls(server) => {
                        report.hint = engine::postgres::hint(server, login.user, &login.permission(target));
                    }
                    // The layer below does not know whose connection it was.
                    postgres::Error::Closed { .. } | postgres::Error::Io(_) => {
                        report.message = format!("cannot log in to the database: {}", report.message);
                    }
                    _ => {}
                }
                report.hint = report.hint.or_else(|| Some(NO_DATABASE_HINT.into()));
                report.hint = joined(self.fact(target, login), report.hint);
                report.detail = Some(report.detail.map_or(context.clone(), |detail| format!("{detail}\n{context}")));
                Some(report.encode())
            }
            _ => {
                let report = ErrorReport {
                    sqlstate: self.sqlstate(),
                    message: self.message(),
                    // Whoever is not admitted does not learn what is behind the port.
                    detail: (!matches!(self, Self::Access(_))).then_some(context),
                    hint: joined(self.fact(target, login), self.hint(target).as_deref().map(sentence)),
                };
                Some(report.encode())
            }
        }
    }

    /// Class 28 is what clients and their pools do not try again by themselves, class 08 what they do.
    fn sqlstate(&self) -> &'static str {
        match self {
            Self::Access(_) | Self::PinnedUser { .. } => INVALID_AUTHORIZATION,
            Self::ShuttingDown => CANNOT_CONNECT_NOW,
            Self::StartupTimeout(_) | Self::ConnectTimeout { .. } => UNABLE_TO_CONNECT,
            Self::Client(_) | Self::MysqlClient(_) | Self::ClientLeft => CONNECTION_FAILURE,
            Self::Connect(error) => sqlstate_of(error),
        }
    }
}

fn sqlstate_of(error: &connect::Error) -> &'static str {
    use connect::Error;
    match error {
        Error::Credentials(_) => INVALID_AUTHORIZATION,
        Error::Route(tunnel::Error::Pool(pool::Error::Closed)) => CANNOT_CONNECT_NOW,
        Error::Route(tunnel::Error::Pool(pool::Error::NoRoom { .. })) => TOO_MANY_CONNECTIONS,
        Error::Route(tunnel::Error::Pool(pool::Error::Session(error))) if denies(error) => INVALID_AUTHORIZATION,
        Error::Route(_)
        | Error::Stream(
            StreamError::Refused
            | StreamError::DialTimeout(_)
            | StreamError::AgentSilent
            | StreamError::LinkLost
            | StreamError::SessionEnded(_),
        )
        | Error::Timeout { .. } => UNABLE_TO_CONNECT,
        Error::Stream(StreamError::Closed)
        | Error::Tls(tls::Error::Closed | tls::Error::Io(_))
        | Error::Answer(_)
        | Error::Login(_)
        | Error::MysqlLogin(_) => CONNECTION_FAILURE,
        Error::Tls(_) => REJECTED,
    }
}

/// A fact, and what to do.
fn joined(fact: Option<String>, hint: Option<String>) -> Option<String> {
    match (fact, hint) {
        (Some(fact), Some(hint)) => Some(format!("{fact}\n{hint}")),
        (fact, hint) => fact.or(hint),
    }
}

/// The texts of other layers begin as they do on a terminal, after `hint:`.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// Whether it is the caller who may not, as opposed to something that is broken.
fn denies(error: &session::Error) -> bool {
    match error {
        session::Error::Start { cause, .. } | session::Error::Sign(cause) => {
            aws_error(cause).is_some_and(aws::Error::denies)
        }
        session::Error::WebSocket(cause) => cause.denies(),
        session::Error::WebSocketTimeout | session::Error::FirstFrame(_) | session::Error::Ended { .. } => false,
    }
}
