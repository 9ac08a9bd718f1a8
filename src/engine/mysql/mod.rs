//! The knowledge about MySQL and MariaDB beyond their protocol.

mod accept;
mod answering;
mod client;
pub mod connect;
mod goodbye;
mod greeted;
mod guard;
mod hint;
mod login;
mod reply;
mod spares;
mod tap;
#[cfg(test)]
mod tests;
mod user;

pub use self::{
    greeted::Greeted,
    hint::{alter_user_hint, hint},
    login::{Established, Mysql, change_user, change_user_of, guards_sessions, reset},
    reply::reply,
    tap::{Tap, connection_lost},
};

use super::Facts;

/// The facts that set MySQL apart.
pub const FACTS: Facts = Facts {
    products: "MySQL and MariaDB",
    name: "mysql",
    aliases: &["mariadb", "aurora-mysql"],
    default_port: Some(3306),
    socket: "mysql.sock",
    client: Some(&client::CLIENT),
    alpn: &[],
    // What libmysqlclient sends when it finds no name at all, and what it sends on Windows (`read_user_name`).
    default_users: &[b"UNKNOWN_USER", b"ODBC"],
    maintenance_database: None,
    create_user: user::create,
    refusal_hint: hint::of_refusal,
};
