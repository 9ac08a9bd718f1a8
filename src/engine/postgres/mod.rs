//! What rdsgate knows of PostgreSQL beyond its protocol.

mod accept;
mod client;
pub mod connect;
mod hint;
mod reply;
mod tap;

pub use self::{
    accept::notice,
    hint::{hint, quote_identifier},
    reply::reply,
    tap::Tap,
};

use super::Facts;

/// What is different about PostgreSQL.
pub const FACTS: Facts = Facts {
    name: "postgres",
    aliases: &["postgresql", "aurora-postgresql"],
    default_port: 5432,
    client: &client::CLIENT,
    default_users: &[],
    database_defaults_to_user: true,
};
