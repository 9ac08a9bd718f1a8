//! What a MySQL client is told: one match from error to ERR packet, cause and hint within its 512 bytes.

use super::{Error, Login};
use crate::{
    connect, engine,
    listen::access,
    mysql::{
        self, ErrorReport, Turn,
        error::code::{ACCESS_DENIED, BAD_HANDSHAKE, HOST_NOT_PRIVILEGED, READ_ERROR, SERVER_SHUTDOWN, UNKNOWN},
    },
    target::Target,
    tunnel::{self, StreamError, pool},
};

impl Error {
    /// The ERR packet for the client, `None` when it cannot be told. `login` is who was to log in, `turn` where the
    /// packet stands in the conversation.
    pub fn mysql_response(&self, target: &Target, login: &Login<'_>, turn: Turn) -> Option<Vec<u8>> {
        let report = match self {
            Self::ClientLeft | Self::Access(access::Error::Gone) => return None,
            Self::Connect(connect::Error::MysqlLogin(mysql::Error::Refused(server))) => {
                // There is no room for both: a fact says more than what to look for.
                let fact = login.facts.of_database(self.stage(), target);
                let hint = fact.or_else(|| engine::mysql::hint(server, login.user, &login.permission(target)));
                return Some(server.encode_with(turn, hint.as_deref()));
            }
            Self::Connect(connect::Error::MysqlLogin(mysql::Error::RefusedBeforeTls(server))) => {
                return Some(server.encode_with(turn, None));
            }
            Self::Connect(connect::Error::MysqlLogin(error @ mysql::Error::Authentication(_))) => {
                let fact = login.facts.of_database(self.stage(), target);
                let hint = fact.or_else(|| Some(engine::mysql::made_for_tokens(login.user)));
                ErrorReport { hint, ..error.report()? }
            }
            Self::MysqlClient(error) | Self::Connect(connect::Error::MysqlLogin(error)) => error.report()?,
            _ => {
                let (code, sqlstate) = self.mysql_code();
                let message = match (code, sqlstate) {
                    // What people know from their client, which cannot say it itself here; and of the causes the last,
                    // for there is little room.
                    UNKNOWN => format!("Can't connect to MySQL server on '{}': {}", target.name, self.last_cause()),
                    _ => self.message(),
                };
                let hint = self.fact(target, login).or_else(|| self.hint(target));
                ErrorReport { code, sqlstate, message, detail: None, hint }
            }
        };
        Some(report.encode(turn))
    }

    fn last_cause(&self) -> String {
        let mut cause: &dyn std::error::Error = self;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        cause.to_string()
    }

    fn mysql_code(&self) -> (u16, &'static str) {
        match self {
            Self::Access(_) => HOST_NOT_PRIVILEGED,
            Self::PinnedUser { .. } => ACCESS_DENIED,
            Self::ShuttingDown => SERVER_SHUTDOWN,
            Self::StartupTimeout(_) | Self::ConnectTimeout { .. } => UNKNOWN,
            Self::Client(_) | Self::MysqlClient(_) | Self::ClientLeft => READ_ERROR,
            Self::Connect(error) => code_of(error),
        }
    }
}

fn code_of(error: &connect::Error) -> (u16, &'static str) {
    use connect::Error;
    match error {
        Error::Credentials(_) => ACCESS_DENIED,
        Error::Route(tunnel::Error::Pool(pool::Error::Closed)) => SERVER_SHUTDOWN,
        Error::Route(_)
        | Error::Stream(
            StreamError::Refused
            | StreamError::DialTimeout(_)
            | StreamError::AgentSilent
            | StreamError::LinkLost
            | StreamError::SessionEnded(_),
        )
        | Error::Timeout { .. } => UNKNOWN,
        Error::Tls(_) => BAD_HANDSHAKE,
        Error::Stream(StreamError::Closed) | Error::Answer(_) | Error::Login(_) | Error::MysqlLogin(_) => READ_ERROR,
    }
}
