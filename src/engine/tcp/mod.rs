//! The knowledge about a port without a protocol of its own: bytes go both ways. rdsgate adds no TLS, no login and no
//! message for a client, so an error is a line of the log and a reset.

mod half_close;
mod tap;
mod verbs;

pub use self::verbs::Tcp;
use super::Facts;

/// The facts that set bytes without a protocol apart.
pub const FACTS: Facts = Facts {
    products: "any TCP port",
    name: "tcp",
    aliases: &[],
    default_port: None,
    socket: "tcp.sock",
    client: None,
    alpn: &[],
    default_users: &[],
    maintenance_database: None,
    create_user: |_, _| String::new(),
    refusal_hint: |_, _| None,
};
