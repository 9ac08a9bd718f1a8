//! What rdsgate knows of PostgreSQL beyond its protocol.

mod hint;

pub use self::hint::{hint, quote_identifier};
