//! The SSM data channel: a session's messages, what makes a reliable byte stream of them, and the session's life.
//!
//! `message`, `payload`, `features`, `handshake`, `window`, `load`, `tally`, `trial`, `idle`, `silence`, `channel`, `smux`,
//! `conversation` and `liveness` are sans-IO: bytes and time come in, values go out. `websocket` opens the socket, `driver` is
//! the one task that owns it, `stream` the handle that a program reads and writes, `session` the calls to AWS around them all,
//! `pool` the sessions to one destination.

pub mod backoff;
pub mod channel;
pub mod connect;
pub mod control;
pub mod conversation;
mod driver;
#[cfg(test)]
mod fault_table;
pub mod features;
pub mod handshake;
pub mod idle;
#[cfg(any(test, feature = "testing"))]
pub mod invariants;
mod liveness;
pub mod load;
pub mod message;
pub mod payload;
pub mod pool;
pub mod request;
pub mod session;
mod silence;
pub mod smux;
pub mod stream;
pub mod tally;
mod trial;
pub mod websocket;
mod window;
