//! The database engines: a folder for each, with the same verbs in the same files. It holds what rdsgate knows of an engine
//! beyond its protocol, which is in the crate `database-wire`.
//!
//! | file | verb |
//! |---|---|
//! | `accept` | hear the client: the user and the database that it asks for |
//! | `client` | programs and drivers, and the form in which each gets an address |
//! | `connect` | the steps of connecting that are the engine's own: first bytes, TLS, login |
//! | `guard` | what rdsgate adds to a session: its guard, the principal |
//! | `login` | a whole login for a client of the proxy: retries, and what has been learnt about the server |
//! | `goodbye` | end a connection that has no client, where the server minds |
//! | `reply` | tell the client about a failure in the words of its protocol |
//! | `tap` | follow the bytes after the login: busy, idle, over; and the client's last message |
//! | `hint` | what to do about a refused login |
//! | `verbs` | the order of the verbs for the proxy |
//!
//! The proxy knows two orders, not the engines: [`Order`]. A new engine is a folder, a variant of [`Engine`], and its arms in
//! this file.

mod client;
pub mod client_first;
mod facts;
mod failure;
mod follow;
pub mod mysql;
mod names;
pub mod postgres;
#[cfg(test)]
mod relayed;
pub mod tcp;

use std::{fmt, str::FromStr, sync::Arc};

pub use database_wire::Error;

pub use self::{
    client::{Address, Client, TlsSettings, Variables},
    client_first::ClientFirst,
    facts::Facts,
    failure::{Applicant, Failure, Kind, doctor_command},
    follow::Follow,
    names::{Names, Replaced, Request},
};
use crate::target::{Engine, ParseError};

/// The engine of one target at work, by the order of the conversation. It holds what has been learnt about the server.
pub enum Order {
    /// The client speaks first: the dial waits for its first message. A client without a protocol is dialled for at once.
    ClientFirst(Box<dyn ClientFirst>),
    /// The server speaks first and its client is logged in behind its greeting. MySQL alone does so.
    ServerFirst(Arc<mysql::Mysql>),
}

impl Engine {
    /// The engine of a target that names none.
    pub const DEFAULT: Self = Self::Postgres;

    /// The engine of a port whose protocol is not ours.
    pub const FORWARDED: Self = Self::Tcp;

    /// Every engine.
    pub const ALL: [Self; 3] = [Self::Postgres, Self::Mysql, Self::Tcp];

    /// The facts that set it apart.
    pub fn facts(self) -> &'static Facts {
        match self {
            Self::Postgres => &postgres::FACTS,
            Self::Mysql => &mysql::FACTS,
            Self::Tcp => &tcp::FACTS,
        }
    }

    /// The engine at work for a target whose server is not known yet.
    pub fn order(self) -> Order {
        match self {
            Self::Postgres => Order::ClientFirst(Box::<postgres::Postgres>::default()),
            Self::Mysql => Order::ServerFirst(Arc::default()),
            Self::Tcp => Order::ClientFirst(Box::new(tcp::Tcp)),
        }
    }

    /// The databases that can be served, for people.
    pub fn products() -> String {
        let databases = Self::ALL.into_iter().filter(|engine| engine.is_database());
        databases.map(|engine| engine.facts().products).collect::<Vec<_>>().join(", ")
    }

    /// The engine that a port stands for. That of the default engine stands for none: it may be meant or not.
    pub fn of_port(port: u16) -> Option<Self> {
        Self::of_default_port(port).filter(|engine| *engine != Self::DEFAULT)
    }

    /// The engine whose default port this is.
    pub fn of_default_port(port: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|engine| engine.default_port() == Some(port))
    }

    /// Whether it is the protocol of databases, with users, TLS and messages. Otherwise bytes pass as they are.
    pub fn is_database(self) -> bool {
        self.facts().client.is_some()
    }

    /// The default port of the engine, here and at AWS; `None` where there is none.
    pub fn default_port(self) -> Option<u16> {
        self.facts().default_port
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.facts().name)
    }
}

impl FromStr for Engine {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        let is_called = |engine: &Self| engine.facts().name == s || engine.facts().aliases.contains(&s);
        Self::ALL.into_iter().find(is_called).ok_or_else(|| ParseError::Engine(s.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sql_is_each_engines_own_and_quotes_exactly() {
        for (engine, user, expected) in [
            ("postgres", "app_user", "CREATE USER \"app_user\";\nGRANT rds_iam TO \"app_user\";\n"),
            ("aurora-postgresql", "a\"b", "CREATE USER \"a\"\"b\";\nGRANT rds_iam TO \"a\"\"b\";\n"),
            (
                "aurora-dsql",
                "app",
                "CREATE ROLE \"app\" WITH LOGIN;\nAWS IAM GRANT \"app\" TO 'arn:aws:iam::<account>:role/<role>';\n",
            ),
            (
                "aurora-dsql",
                "admin",
                "-- Every cluster has the role admin. Its logins need dsql:DbConnectAdmin, and no SQL.\n",
            ),
            (
                "mysql",
                "app_user",
                "CREATE USER 'app_user'@'%' IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS' REQUIRE SSL;\n",
            ),
            (
                "aurora-mysql",
                "it's\\a`b",
                "CREATE USER `it's\\a``b`@`%` IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS' REQUIRE SSL;\n",
            ),
            (
                "mariadb",
                "app_user",
                "CREATE USER 'app_user'@'%' IDENTIFIED VIA AWSAuthenticationPlugin USING 'RDS' REQUIRE SSL;\n",
            ),
        ] {
            let facts = engine.parse::<Engine>().unwrap().facts();
            assert_eq!((facts.create_user)(engine, user), expected);
        }
    }
}
