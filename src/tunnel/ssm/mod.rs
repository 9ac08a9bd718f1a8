//! The SSM data channel with a socket: the session's life around the protocol, which is the crate `ssm-session`'s.
//!
//! `websocket` opens the socket, `driver` is the one task that owns it, `stream` the handle that the rest of the program
//! reads and writes, `session` the calls to AWS around them all.

pub(super) mod driver;
pub mod session;
pub mod stream;
pub mod websocket;

pub use ssm_session::{
    channel, conversation, features, handshake, idle, liveness, load, message, payload, smux, tally,
};
