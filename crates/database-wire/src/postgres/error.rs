//! Errors between the first byte of a connection and its login, and the replies to the client.
//!
//! An error does not say whose fault it is: those of [`accept`](mod@super::accept) are the client's, those of
//! [`login`](mod@super::login) the upstream's.

use std::io;

pub use super::error_response::{ErrorReport, Notice, ServerError};
use super::{
    method::Method,
    version::{MAJOR, NEWEST_MINOR, ProtocolVersion},
};
use crate::{ErrorKind, c_string::Nul, error_kind::is_closed};

/// SQLSTATE codes that we use (<https://www.postgresql.org/docs/18/errcodes-appendix.html>).
pub mod sqlstate {
    /// The database could not be reached.
    pub const UNABLE_TO_CONNECT: &str = "08001";
    /// Somebody on the way refused.
    pub const REJECTED: &str = "08004";
    /// The connection broke.
    pub const CONNECTION_FAILURE: &str = "08006";
    /// Somebody does not speak the protocol.
    pub const PROTOCOL_VIOLATION: &str = "08P01";
    /// Not offered.
    pub const FEATURE_NOT_SUPPORTED: &str = "0A000";
    /// `read_only_sql_transaction`: a standby, or a transaction that is read only.
    pub const READ_ONLY: &str = "25006";
    /// Not allowed to log in.
    pub const INVALID_AUTHORIZATION: &str = "28000";
    /// The password is wrong, or the role has none.
    pub const INVALID_PASSWORD: &str = "28P01";
    /// No more connections.
    pub const TOO_MANY_CONNECTIONS: &str = "53300";
    /// Ended by the administrator.
    pub const ADMIN_SHUTDOWN: &str = "57P01";
    /// Not now: starting or stopping.
    pub const CANNOT_CONNECT_NOW: &str = "57P03";
}

/// Why a connection got no further.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection broke.
    #[error("the connection broke")]
    Io(#[source] io::Error),
    /// The connection ended in the middle.
    #[error("the connection was closed while waiting for {waiting_for}")]
    Closed {
        /// The next thing expected.
        waiting_for: &'static str,
    },

    /// The client began with TLS (`sslnegotiation=direct`), which this listener does not speak. It cannot be answered.
    #[error("the client began with a TLS handshake; this listener speaks plain PostgreSQL (no sslnegotiation=direct)")]
    DirectTls,
    /// The client does not ask for TLS, which this listener requires.
    #[error("this listener takes connections with TLS only")]
    TlsRequired,
    /// Bytes behind the client's SSLRequest, which it sent before TLS: anybody on the way may have put them there.
    #[error("received unencrypted data after SSL request")]
    UnencryptedData,
    /// A client that began with TLS has not chosen our protocol inside.
    #[error("received direct SSL connection request without ALPN protocol negotiation extension")]
    NoAlpn,
    /// A first packet longer or shorter than any.
    #[error("invalid length of startup packet: {0}")]
    StartupLength(u32),
    /// A StartupMessage that is not made of pairs of strings.
    #[error("invalid startup packet layout: {0}")]
    StartupLayout(&'static str),
    /// No user in the StartupMessage.
    #[error("no PostgreSQL user name specified in startup packet")]
    MissingUser,
    /// A decisive parameter given twice.
    #[error("startup parameter \"{0}\" is given more than once")]
    RepeatedParameter(&'static str),
    /// A second request of the same kind before the startup.
    #[error("{0} is sent more than once")]
    RepeatedRequest(&'static str),
    /// Another major version of the protocol.
    #[error("unsupported frontend protocol {0}: server supports {MAJOR}.0 to {MAJOR}.{NEWEST_MINOR}")]
    UnsupportedProtocol(ProtocolVersion),
    /// A replication connection.
    #[error("replication connections are not available through IAM database authentication")]
    Replication,
    /// A CancelRequest with an invalid key; the length is that of process id and key.
    #[error("invalid length of cancel request packet: {0} bytes of process id and key")]
    CancelLength(usize),

    /// The server does not offer TLS. The token is never sent without.
    #[error("the database server refuses TLS, and a token must not travel without")]
    NoTls,
    /// An ErrorResponse in place of the answer to SSLRequest. Unauthenticated: anybody on the way may have said it.
    #[error("the database server refused the connection before TLS: {0}")]
    RefusedBeforeTls(ServerError),
    /// An ErrorResponse during the login.
    #[error("the database refused the login: {0}")]
    Refused(ServerError),
    /// The server asks for something other than a password.
    #[error("the database asks for {0} authentication, not for an IAM token")]
    Authentication(Method),
    /// The server asks for something that a password of ours does not answer.
    #[error("the database asks for {0} authentication, which a password does not answer")]
    PasswordMethod(Method),
    /// SCRAM-SHA-256 went wrong on the other side.
    #[error("SCRAM-SHA-256 failed: {0}")]
    Scram(&'static str),
    /// In [`Mode::Pipelined`](super::Mode::Pipelined): the server does not take startup and password together. A new
    /// connection with [`Mode::Sequential`](super::Mode::Sequential) may succeed.
    #[error("the database server did not take the startup and the password together: {0}")]
    NotPipelined(&'static str),
    /// A message that has no place here.
    #[error("unexpected message {:?} from the database server while waiting for {waiting_for}", char::from(*.tag))]
    Unexpected {
        /// The first byte of the message that came.
        tag: u8,
        /// The messages that could have come.
        waiting_for: &'static str,
    },
    /// A message longer or shorter than any of a login.
    #[error("message {:?} of length {length} from the database server during login", char::from(*.tag))]
    MessageLength {
        /// The type of the message.
        tag: u8,
        /// The value of its length field.
        length: u32,
    },
    /// A message of the client that is too long for a password.
    #[error("message {:?} of length {length} in place of a password", char::from(*.tag))]
    AnswerLength {
        /// The type of the message.
        tag: u8,
        /// The value of its length field.
        length: u32,
    },
    /// More of a greeting than anybody needs, in bytes.
    #[error("the database server's greeting is longer than {0} bytes")]
    GreetingLength(usize),
    /// A message that is not laid out as it should be.
    #[error("the database server's {0} message is malformed")]
    Malformed(&'static str),
    /// A text that the protocol cannot carry: it holds a NUL.
    #[error("the {0} holds a NUL byte or is empty")]
    Nul(&'static str),
}

impl From<Nul> for Error {
    fn from(Nul(what): Nul) -> Self {
        Self::Nul(what)
    }
}

impl Error {
    /// Its meaning for a caller that does not know the protocol.
    pub fn kind(&self) -> ErrorKind<'_> {
        match self {
            Self::Io(cause) => ErrorKind::Io(cause),
            Self::Closed { .. } => ErrorKind::Closed,
            Self::Refused(_) => ErrorKind::Refused,
            Self::NoTls | Self::RefusedBeforeTls(_) => ErrorKind::RefusedBeforeTls,
            _ => ErrorKind::Other,
        }
    }

    /// The remedy, as far as the protocol tells; for [`Error::Authentication`] only the user's name would tell.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Authentication(_) => None,
            error => error.report()?.hint,
        }
    }

    /// Whether the server went away or is going: what a client sees of a failover.
    pub fn suggests_failover(&self) -> bool {
        match self {
            Self::Io(_) | Self::Closed { .. } => true,
            Self::Refused(server) | Self::RefusedBeforeTls(server) => {
                [sqlstate::ADMIN_SHUTDOWN, sqlstate::CANNOT_CONNECT_NOW].contains(&&*server.sqlstate())
            }
            _ => false,
        }
    }

    /// The error for a failed read or write: one that means that the peer has gone says so.
    pub(super) fn broke(error: io::Error, waiting_for: &'static str) -> Self {
        if is_closed(&error) { Self::Closed { waiting_for } } else { Self::Io(error) }
    }

    /// The reply to the client; `None` if it cannot be sent or the client is gone. A server's own ErrorResponse
    /// ([`Error::Refused`]) is not made into a report but passed on by [`ServerError::encode_with`].
    pub fn report(&self) -> Option<ErrorReport> {
        use sqlstate::{
            CONNECTION_FAILURE, FEATURE_NOT_SUPPORTED, INVALID_AUTHORIZATION, PROTOCOL_VIOLATION, REJECTED,
            UNABLE_TO_CONNECT,
        };
        let (sqlstate, detail, hint) = match self {
            Self::DirectTls | Self::StartupLength(_) | Self::CancelLength(_) | Self::Refused(_) => return None,
            Self::Io(cause) => (CONNECTION_FAILURE, Some(cause.to_string()), None),
            Self::Closed { .. } => (CONNECTION_FAILURE, None, None),
            Self::StartupLayout(_)
            | Self::RepeatedParameter(_)
            | Self::RepeatedRequest(_)
            | Self::UnencryptedData
            | Self::NoAlpn
            | Self::NotPipelined(_)
            | Self::Unexpected { .. }
            | Self::MessageLength { .. }
            | Self::AnswerLength { .. }
            | Self::GreetingLength(_)
            | Self::Scram(_)
            | Self::Malformed(_)
            | Self::Nul(_) => (PROTOCOL_VIOLATION, None, None),
            Self::TlsRequired => (
                INVALID_AUTHORIZATION,
                None,
                Some(
                    "Connect with sslmode=require, or with sslmode=verify-full and the certificate that `rdsgate cert` prints."
                        .into(),
                ),
            ),
            Self::MissingUser | Self::PasswordMethod(_) => (INVALID_AUTHORIZATION, None, None),
            Self::UnsupportedProtocol(_) => (FEATURE_NOT_SUPPORTED, None, None),
            Self::Replication => (
                FEATURE_NOT_SUPPORTED,
                Some("AWS does not allow IAM login for replication connections.".into()),
                Some("Log in with a password to replicate: --auth password.".into()),
            ),
            Self::NoTls => (
                UNABLE_TO_CONNECT,
                None,
                Some("Check that host and port are those of the RDS endpoint: RDS always offers TLS.".into()),
            ),
            Self::RefusedBeforeTls(_) => (REJECTED, None, None),
            Self::Authentication(_) => (
                INVALID_AUTHORIZATION,
                Some(
                    "The role is not a member of rds_iam, or does not exist, or IAM database authentication is off."
                        .into(),
                ),
                Some(
                    "As an administrator: GRANT rds_iam TO the role, and check that IAM database authentication is \
                     enabled on the instance, cluster or RDS Proxy."
                        .into(),
                ),
            ),
        };
        Some(ErrorReport { sqlstate, message: self.to_string(), detail, hint })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_hears_what_postgresql_itself_would_say() {
        let report = Error::UnsupportedProtocol(ProtocolVersion { major: 2, minor: 0 }).report().unwrap();
        assert_eq!(report.sqlstate, "0A000");
        assert_eq!(report.message, "unsupported frontend protocol 2.0: server supports 3.0 to 3.2");
        let report = Error::StartupLayout("expected terminator as last byte").report().unwrap();
        assert_eq!(report.sqlstate, "08P01");
        assert_eq!(report.message, "invalid startup packet layout: expected terminator as last byte");
        assert_eq!(Error::MissingUser.report().unwrap().sqlstate, "28000");
    }

    #[test]
    fn role_without_rds_iam_gets_the_missing_grant() {
        let report = Error::Authentication(Method(10)).report().unwrap();
        assert_eq!(report.sqlstate, "28000");
        assert_eq!(report.message, "the database asks for SASL (SCRAM-SHA-256) authentication, not for an IAM token");
        assert!(report.hint.unwrap().contains("GRANT rds_iam"));
    }

    #[test]
    fn nothing_is_said_to_those_who_cannot_hear_it() {
        assert!(Error::DirectTls.report().is_none());
        assert!(Error::CancelLength(3).report().is_none());
        // As PostgreSQL (`COMMERROR` in `ProcessStartupPacket`).
        assert!(Error::StartupLength(10_001).report().is_none());
    }
}
