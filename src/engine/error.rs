//! An error of a conversation with a client or a database server, whatever its engine.

use std::io;

use super::{mysql as mysql_engine, postgres as postgres_engine};
use database_wire::{mysql, postgres};

/// An error of one engine's protocol.
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
    /// The error of the stream below, if that is what failed.
    pub fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Postgres(postgres::Error::Io(cause)) | Self::Mysql(mysql::Error::Io(cause)) => Some(cause),
            Self::Postgres(_) | Self::Mysql(_) => None,
        }
    }

    /// Whether the peer closed the connection in the middle of the conversation.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Postgres(postgres::Error::Closed { .. }) | Self::Mysql(mysql::Error::Closed { .. }))
    }

    /// Whether the database refused the login, over TLS.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Postgres(postgres::Error::Refused(_)) | Self::Mysql(mysql::Error::Refused(_)))
    }

    /// Whether the database asks for something other than a token.
    pub fn is_other_authentication(&self) -> bool {
        matches!(
            self,
            Self::Postgres(postgres::Error::Authentication(_)) | Self::Mysql(mysql::Error::Authentication(_))
        )
    }

    /// Whether the database refused the connection, or TLS, before there was any.
    pub fn is_refusal_before_tls(&self) -> bool {
        matches!(
            self,
            Self::Postgres(postgres::Error::NoTls | postgres::Error::RefusedBeforeTls(_))
                | Self::Mysql(mysql::Error::NoTls | mysql::Error::RefusedBeforeTls(_))
        )
    }

    /// Whether it shows, before TLS, that a database of this engine is at the other end.
    pub fn is_from_database(&self) -> bool {
        self.is_refusal_before_tls()
            || matches!(self, Self::Mysql(mysql::Error::GreetingVersion(_) | mysql::Error::TooOld(_)))
    }

    /// Whether the server went away or is about to: what a failover looks like to its clients.
    pub fn suggests_failover(&self) -> bool {
        match self {
            Self::Postgres(error) => error.suggests_failover(),
            Self::Mysql(error) => error.suggests_failover(),
        }
    }

    /// What to do about it, as far as the protocol tells.
    pub fn hint(&self) -> Option<String> {
        match self {
            // The reply to the client names the role.
            Self::Postgres(postgres::Error::Authentication(_)) => None,
            Self::Postgres(error) => error.report()?.hint,
            Self::Mysql(error) => error.report()?.hint,
        }
    }

    /// What to do about a refused login, for a user whom the IAM policy must give `permission`.
    pub fn refusal_hint(&self, user: &str, permission: &str) -> Option<String> {
        match self {
            Self::Postgres(postgres::Error::Refused(server)) => postgres_engine::hint(server, user, permission),
            Self::Mysql(mysql::Error::Refused(server)) => mysql_engine::hint(server, user, permission),
            Self::Postgres(_) | Self::Mysql(_) => None,
        }
    }
}
