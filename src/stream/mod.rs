//! Bytes in motion, no protocol: a boxed stream type and the relay.

pub mod goodbye;
pub mod relay;

pub use ssm_session::connect::{BoxIo, Io};
