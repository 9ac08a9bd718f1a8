//! Routes to the database: a TCP connection of our own, or a stream inside an SSM session.

pub mod smux;
pub mod ssm;
