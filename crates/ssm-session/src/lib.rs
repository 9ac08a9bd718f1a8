#![doc = include_str!("../README.md")]
//!
//! # Modules
//!
//! From the wire up: [`websocket`] opens the socket, [`message`] and [`payload`] are what goes over it, [`channel`] makes a reliable
//! byte stream of messages, [`handshake`] and [`features`] agree on what the agent can do, [`smux`] carries many streams in one,
//! and [`conversation`] joins all of these. [`session`] is the life of one session around it, [`stream`] the handle of one stream,
//! [`pool`] the sessions to one destination.
//!
//! Protocol code is sans-IO: bytes and time come in, values go out. One task for each session owns its socket and clock.

pub mod backoff;
pub mod channel;
mod clock;
pub mod connect;
pub mod control;
pub mod conversation;
mod driver;
mod error;
#[cfg(test)]
mod fault_table;
pub mod features;
pub mod handshake;
pub mod idle;
#[cfg(any(test, feature = "testing"))]
pub mod invariants;
mod link;
mod liveness;
pub mod load;
mod machine;
pub mod message;
pub mod payload;
pub mod pool;
pub mod request;
pub mod sequence;
pub mod session;
mod silence;
pub mod smux;
mod spec;
pub mod stream;
mod stream_url;
pub mod tally;
mod trial;
#[cfg(test)]
mod vectors;
pub mod websocket;
mod window;
