//! Errors between the first byte of a connection and its login, and the replies to the client.
//!
//! An error does not say whose fault it is: those of [`accept`](mod@super::accept) are the client's, those of
//! [`greeting`](mod@super::greeting) and [`login`](mod@super::login) the upstream's.

use std::io;

pub use super::error_packet::{ErrorReport, MAX_MESSAGE, ReplyPosition, ServerError};
use super::plugin::Plugin;
use crate::{ErrorKind, c_string::Nul, error_kind::is_closed};

/// Error codes that we use, with their SQLSTATE
/// (<https://dev.mysql.com/doc/mysql-errors/en/server-error-reference.html>). A server's codes only: MariaDB's clients
/// take an ERR with a code of the clients' own (from 2000 on) for a malformed packet.
pub mod code {
    /// `ER_CON_COUNT_ERROR`: no more connections.
    pub const TOO_MANY_CONNECTIONS: (u16, &str) = (1040, "08004");
    /// `ER_HANDSHAKE_ERROR`: somebody does not speak the protocol.
    pub const BAD_HANDSHAKE: (u16, &str) = (1043, "08S01");
    /// `ER_ACCESS_DENIED_ERROR`: not allowed to log in.
    pub const ACCESS_DENIED: (u16, &str) = (1045, "28000");
    /// `ER_SERVER_SHUTDOWN`: ended by the administrator.
    pub const SERVER_SHUTDOWN: (u16, &str) = (1053, "08S01");
    /// `ER_UNKNOWN_ERROR`: nothing else fits, such as a database that cannot be reached.
    pub const UNKNOWN: (u16, &str) = (1105, "HY000");
    /// `ER_HOST_NOT_PRIVILEGED`: not from here.
    pub const HOST_NOT_PRIVILEGED: (u16, &str) = (1130, "HY000");
    /// `ER_NET_PACKET_TOO_LARGE`.
    pub const PACKET_TOO_LARGE: (u16, &str) = (1153, "08S01");
    /// `ER_NET_PACKETS_OUT_OF_ORDER`.
    pub const PACKETS_OUT_OF_ORDER: (u16, &str) = (1156, "08S01");
    /// `ER_NET_READ_ERROR`: the connection broke.
    pub const READ_ERROR: (u16, &str) = (1158, "08S01");
    /// `ER_NOT_SUPPORTED_AUTH_MODE`: the client is too old.
    pub const NOT_SUPPORTED_AUTH_MODE: (u16, &str) = (1251, "08004");
    /// `ER_SECURE_TRANSPORT_REQUIRED`: not without TLS.
    pub const SECURE_TRANSPORT_REQUIRED: (u16, &str) = (3159, "HY000");
    /// `ER_CONNECTION_KILLED` of MariaDB, with the SQLSTATE of a broken connection instead of its own 70100: what drivers
    /// and pools take for a lost connection (the rules of drivers are a table in the tests of `engine/mysql/tap.rs`).
    pub const CONNECTION_LOST: (u16, &str) = (1927, "08S01");
    /// The refusal of a write by a server that is read only: `ER_OPTION_PREVENTS_STATEMENT`, which has other reasons too,
    /// and `ER_READ_ONLY_MODE`.
    pub const READ_ONLY: [u16; 2] = [1290, 1836];
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
    /// A packet longer than any of a login.
    #[error("a packet of {length} bytes while waiting for {waiting_for}")]
    PacketLength {
        /// Its length field.
        length: usize,
        /// The next thing expected.
        waiting_for: &'static str,
    },
    /// A packet out of its turn.
    #[error("packet number {sequence} instead of {expected} while waiting for {waiting_for}")]
    Sequence {
        /// The number that was its turn.
        expected: u8,
        /// The number it has.
        sequence: u8,
        /// The next thing expected.
        waiting_for: &'static str,
    },

    /// The client asks for TLS, which it was not offered.
    #[error("the client asks for TLS, which this listener does not offer")]
    ClientTls,
    /// The client does not ask for TLS, which this listener requires.
    #[error("Connections using insecure transport are prohibited: this listener requires TLS")]
    InsecureTransport,
    /// The client spoke before it was greeted, which no client of MySQL does.
    #[error("the client spoke before the server's greeting, so it does not speak MySQL's protocol")]
    SpokeFirst,
    /// A client from before MySQL 4.1 (2004).
    #[error("the client speaks the protocol of before MySQL 4.1")]
    OldClient,
    /// A response to the greeting that is not laid out as one.
    #[error("the client's response to the greeting is malformed: {0}")]
    Response(&'static str),
    /// A COM_CHANGE_USER that is not laid out as one.
    #[error("the client's COM_CHANGE_USER is malformed: {0}")]
    ChangeUser(&'static str),

    /// Another version of the greeting.
    #[error("the database server greets with protocol version {0}, not with MySQL's 10")]
    GreetingVersion(u8),
    /// The server that the client was greeted from has been replaced by one of another kind.
    #[error("the database server has changed since it greeted the client")]
    GreetingChanged,
    /// A server that knows no authentication plugins; its version.
    #[error("the database server is too old for IAM database authentication: version {0}")]
    TooOld(String),
    /// The server does not offer TLS. The token is never sent without.
    #[error("the database server does not offer TLS, and a token must not travel without")]
    NoTls,
    /// An ERR in place of the greeting. Unauthenticated: anybody on the way may have said it.
    #[error("the database server refused the connection: {0}")]
    RefusedBeforeTls(ServerError),
    /// An ERR during the login.
    #[error("the database refused the login: {0}")]
    Refused(ServerError),
    /// The server asks for something other than a token.
    #[error("the database asks for {} authentication, not for an IAM token", .0.name().escape_ascii())]
    Authentication(Plugin),
    /// The server asks for a plugin that a password of ours does not answer.
    #[error("the database asks for {} authentication, which rdsgate cannot answer with a password", .0.name().escape_ascii())]
    PasswordPlugin(Plugin),
    /// A packet that has no place here.
    #[error("an unexpected packet ({}) from the database server while waiting for {waiting_for}", first.map_or("empty".into(), |first| format!("{first:#04x}")))]
    Unexpected {
        /// Its first byte; none when it is empty.
        first: Option<u8>,
        /// The messages that could have come.
        waiting_for: &'static str,
    },
    /// A packet that is not laid out as it should be.
    #[error("the database server's {0} packet is malformed")]
    Malformed(&'static str),
    /// A text that the protocol cannot carry: it holds a NUL.
    #[error("the {0} holds a NUL byte")]
    Nul(&'static str),
    /// A token that a server without CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA cannot take.
    #[error("the token is too long for this server")]
    TokenLength,
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
            Self::GreetingVersion(_) | Self::TooOld(_) => ErrorKind::UnsupportedServer,
            _ => ErrorKind::Other,
        }
    }

    /// The remedy, as far as the protocol tells.
    pub fn hint(&self) -> Option<String> {
        self.report()?.hint
    }

    /// Whether the server went away or is going: what a client sees of a failover.
    pub fn suggests_failover(&self) -> bool {
        match self {
            Self::Io(_) | Self::Closed { .. } => true,
            Self::Refused(server) | Self::RefusedBeforeTls(server) => server.code() == code::SERVER_SHUTDOWN.0,
            _ => false,
        }
    }

    /// Whether this can come of a server that misreads a token in the response to its greeting: it takes a part of the token
    /// for the database, and finds no end of the packet or no such database, or one that the user may not use.
    pub fn suggests_misread_token(&self) -> bool {
        match self {
            Self::Closed { .. } => true,
            Self::Refused(server) => matches!(server.code(), 1043 | 1044 | 1045 | 1049 | 1698),
            _ => false,
        }
    }

    /// The error for a failed read or write: one that means that the peer has gone says so.
    pub(super) fn broke(error: io::Error, waiting_for: &'static str) -> Self {
        if is_closed(&error) { Self::Closed { waiting_for } } else { Self::Io(error) }
    }

    /// Where an error of [`accept`](fn@super::accept) goes.
    pub fn position(&self) -> ReplyPosition {
        match self {
            Self::OldClient => ReplyPosition::OLD_RESPONSE,
            _ => ReplyPosition::RESPONSE,
        }
    }

    /// The report for the client; `None` for a server's own ERR ([`Error::Refused`]), which is not made into a report but
    /// passed on by [`ServerError::encode_with`].
    pub fn report(&self) -> Option<ErrorReport> {
        let (code, hint): (_, Option<&str>) = match self {
            Self::Refused(_) | Self::RefusedBeforeTls(_) => return None,
            Self::Io(_) | Self::Closed { .. } => (code::READ_ERROR, None),
            Self::PacketLength { .. } => (code::PACKET_TOO_LARGE, None),
            Self::Sequence { .. } => (code::PACKETS_OUT_OF_ORDER, None),
            Self::ClientTls => (
                code::BAD_HANDSHAKE,
                Some(
                    "Connect without TLS: it is this machine. mysql --ssl-mode=DISABLED, mariadb --skip-ssl, useSSL=false.",
                ),
            ),
            Self::InsecureTransport => (
                code::SECURE_TRANSPORT_REQUIRED,
                Some(
                    "Connect with --ssl-mode=REQUIRED, or with VERIFY_IDENTITY and the certificate that `rdsgate cert` prints.",
                ),
            ),
            Self::OldClient => {
                (code::NOT_SUPPORTED_AUTH_MODE, Some("Upgrade the client, or turn off its old_passwords option."))
            }
            Self::Response(_)
            | Self::SpokeFirst
            | Self::ChangeUser(_)
            | Self::GreetingVersion(_)
            | Self::Unexpected { .. }
            | Self::Malformed(_)
            | Self::Nul(_) => (code::BAD_HANDSHAKE, None),
            Self::GreetingChanged => (code::UNKNOWN, Some("Connect again.")),
            Self::TooOld(_) | Self::TokenLength => (code::UNKNOWN, None),
            Self::NoTls => (
                code::BAD_HANDSHAKE,
                Some("Check that host and port are those of the RDS endpoint: RDS always offers TLS."),
            ),
            // Who knows the user says what to do.
            Self::Authentication(_) | Self::PasswordPlugin(_) => (code::ACCESS_DENIED, None),
        };
        let (code, sqlstate) = code;
        let detail = match self {
            Self::Io(cause) => Some(cause.to_string()),
            _ => None,
        };
        Some(ErrorReport { code, sqlstate, message: self.to_string(), detail, hint: hint.map(Into::into) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_mysqls_own_codes() {
        for (error, code, sqlstate) in [
            (Error::Closed { waiting_for: "x" }, 1158, "08S01"),
            (Error::Io(io::ErrorKind::Other.into()), 1158, "08S01"),
            (Error::PacketLength { length: 1 << 20, waiting_for: "x" }, 1153, "08S01"),
            (Error::Sequence { expected: 1, sequence: 2, waiting_for: "x" }, 1156, "08S01"),
            (Error::Response("x"), 1043, "08S01"),
            (Error::OldClient, 1251, "08004"),
            (Error::ClientTls, 1043, "08S01"),
            (Error::InsecureTransport, 3159, "HY000"),
            (Error::NoTls, 1043, "08S01"),
            (Error::Authentication(Plugin::Native), 1045, "28000"),
            (Error::TooOld("5.1".into()), 1105, "HY000"),
        ] {
            let report = error.report().unwrap();
            assert_eq!((report.code, report.sqlstate), (code, sqlstate), "{error}");
            let told = report.encode(error.position());
            assert!(told.len() <= 4 + 9 + MAX_MESSAGE);
        }
        let refused = ServerError::parse(b"\xff\x15\x04#28000no").unwrap();
        assert!(Error::Refused(refused).report().is_none());
    }

    #[test]
    fn a_plugins_name_cannot_play_with_a_terminal() {
        let error = Error::Unexpected { first: Some(2), waiting_for: "OK" };
        assert_eq!(error.to_string(), "an unexpected packet (0x02) from the database server while waiting for OK");
        let error = Error::Authentication(Plugin::from(&b"\x1b]0;x"[..]));
        assert_eq!(error.to_string(), "the database asks for \\\\x1b]0;x authentication, not for an IAM token");
    }
}
