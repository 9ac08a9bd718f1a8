//! The differences between engines outside their protocols, as data.

use super::{client::Client, failure::Applicant};
use database_wire::Error;

/// The facts about an engine that rdsgate needs.
#[derive(Debug)]
pub struct Facts {
    /// The databases that speak it, for people.
    pub products: &'static str,
    /// In configurations, in output and in logs.
    pub name: &'static str,
    /// Other words for it in configurations, among them those of the RDS API.
    pub aliases: &'static [&'static str],
    /// The default port of servers and of our listeners; `None` where each target has its own.
    pub default_port: Option<u16>,
    /// The file name of a unix socket, by which its clients find one in a folder.
    pub socket: &'static str,
    /// The forms in which its clients get an address; `None` where any program may be the client.
    pub client: Option<&'static Client>,
    /// The protocols that a client may choose inside TLS (ALPN); with none, a choice is ignored.
    pub alpn: &'static [&'static [u8]],
    /// Names that its clients send when they know no user, beside those of the operating system.
    pub default_users: &'static [&'static [u8]],
    /// The database that every server has, where a client that names none asks for one named like the user; `None` where a
    /// client needs no database.
    pub maintenance_database: Option<&'static str>,
    /// The SQL that makes this database user, for an engine that RDS calls so.
    pub create_user: fn(rds_engine: &str, user: &str) -> String,
    /// The remedy for a refused login. `None` for an error that is not a refusal, and where the server's message says it all.
    pub refusal_hint: fn(error: &Error, applicant: &Applicant<'_>) -> Option<String>,
}
