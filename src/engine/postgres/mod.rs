//! The knowledge about PostgreSQL beyond its protocol.

mod accept;
mod cancel;
mod client;
pub mod connect;
mod guard;
mod hint;
mod login;
mod reached;
mod reply;
mod reused;
mod tap;
mod user;
mod verbs;

pub use self::{
    hint::{hint, let_log_in, quote_identifier},
    login::Postgres,
    tap::Tap,
};

use super::Facts;

/// The facts that set PostgreSQL apart.
pub const FACTS: Facts = Facts {
    products: "PostgreSQL",
    name: "postgres",
    aliases: &["postgresql", "aurora-postgresql", "aurora-dsql"],
    default_port: Some(5432),
    socket: ".s.PGSQL.5432",
    client: Some(&client::CLIENT),
    alpn: &[database_wire::postgres::ALPN],
    default_users: &[],
    // Made by `initdb` for programs without a database of their own: documentation of PostgreSQL 17, "Creating a Database"
    // (https://www.postgresql.org/docs/17/manage-ag-createdb.html).
    maintenance_database: Some("postgres"),
    create_user: user::create,
    refusal_hint: hint::of_refusal,
};
