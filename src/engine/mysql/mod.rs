//! What rdsgate knows of MySQL and MariaDB beyond their protocol.

mod hint;
#[cfg(test)]
mod tests;

pub use self::hint::{hint, made_for_tokens};
