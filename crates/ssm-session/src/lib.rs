//! The SSM data channel: a session's messages, what makes a reliable byte stream of them, and the streams in it.
//!
//! `message`, `payload`, `features`, `handshake`, `window`, `load`, `tally`, `trial`, `idle`, `silence`, `channel`, `smux`,
//! `conversation` and `liveness` are sans-IO: bytes and time come in, values go out.

pub mod backoff;
pub mod channel;
pub mod conversation;
#[cfg(test)]
mod fault_table;
pub mod features;
pub mod handshake;
pub mod idle;
pub mod liveness;
pub mod load;
pub mod message;
pub mod payload;
pub mod request;
mod silence;
pub mod smux;
pub mod tally;
mod trial;
mod window;
