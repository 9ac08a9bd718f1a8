//! PostgreSQL's and MySQL's protocols as far as a login, for the side of the server and that of the client, and as much of
//! what follows as it takes to know whether a connection is idle.
//!
//! Everything works on bytes or on any `AsyncRead + AsyncWrite`. There is no socket, task or clock here, and no policy:
//! deadlines, TLS, and which password goes where are the caller's.
//!
//! A protocol is a module. [`Error`] joins the errors of all of them, for callers to whom the protocol does not matter.

mod c_string;
#[cfg(any(test, feature = "testing"))]
mod chunks;
mod encryption;
mod error_kind;
pub mod mysql;
pub mod postgres;

use std::io;

pub use encryption::Encryption;
pub use error_kind::ErrorKind;

/// An error of a conversation with a client or a database server, whatever its protocol.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Of PostgreSQL.
    #[error(transparent)]
    Postgres(#[from] postgres::Error),
    /// Of MySQL and MariaDB.
    #[error(transparent)]
    Mysql(#[from] mysql::Error),
}

impl Error {
    /// Its meaning.
    pub fn kind(&self) -> ErrorKind<'_> {
        match self {
            Self::Postgres(error) => error.kind(),
            Self::Mysql(error) => error.kind(),
        }
    }

    /// Whether the server went away or is about to: what a failover looks like to its clients.
    pub fn suggests_failover(&self) -> bool {
        match self {
            Self::Postgres(error) => error.suggests_failover(),
            Self::Mysql(error) => error.suggests_failover(),
        }
    }

    /// The remedy, as far as the protocol tells.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Postgres(error) => error.hint(),
            Self::Mysql(error) => error.hint(),
        }
    }

    /// The error of the stream below, if that is what failed.
    pub fn io(&self) -> Option<&io::Error> {
        match self.kind() {
            ErrorKind::Io(cause) => Some(cause),
            _ => None,
        }
    }

    /// Whether the peer closed the connection in the middle of the conversation.
    pub fn is_closed(&self) -> bool {
        matches!(self.kind(), ErrorKind::Closed)
    }

    /// Whether the database refused the login, over TLS.
    pub fn is_refusal(&self) -> bool {
        matches!(self.kind(), ErrorKind::Refused)
    }

    /// Whether the database refused the password, or says that there is no such user.
    pub fn is_refused_password(&self) -> bool {
        match self {
            Self::Postgres(postgres::Error::Refused(server)) => {
                server.sqlstate() == postgres::error::sqlstate::INVALID_PASSWORD
            }
            Self::Mysql(mysql::Error::Refused(server)) => server.code() == mysql::error::code::ACCESS_DENIED.0,
            _ => false,
        }
    }

    /// Whether the database refused the connection, or TLS, before there was any.
    pub fn is_refusal_before_tls(&self) -> bool {
        matches!(self.kind(), ErrorKind::RefusedBeforeTls)
    }

    /// Whether it shows, before TLS, that a database of this engine is at the other end.
    pub fn is_from_database(&self) -> bool {
        matches!(self.kind(), ErrorKind::RefusedBeforeTls | ErrorKind::UnsupportedServer)
    }
}
