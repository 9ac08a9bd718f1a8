#![doc = include_str!("../README.md")]
//!
//! # Modules
//!
//! From the wire up: [`websocket`] opens the socket; [`message`] and [`payload`] encode and decode the messages on it; [`channel`]
//! makes a reliable stream of messages, numbered by [`sequence`]; [`handshake`] and [`features`] find out the abilities of the
//! agent; [`smux`] carries many streams in one; and [`conversation`] joins all of these. [`session`] is the life of one session
//! around it, [`stream`] the handle of one stream, [`pool`] the sessions to one destination.
//!
//! Protocol code is sans-IO: bytes and time come in, values go out. One task for each session owns its socket and clock.
//!
//! "The plugin" is AWS's client [`session-manager-plugin`], "the agent" is [`amazon-ssm-agent`]. Line numbers in links are those of
//! the commits `61cf128` and `1c217c8`.
//!
//! [`session-manager-plugin`]: https://github.com/aws/session-manager-plugin/tree/61cf1288c7c66b4cbff922b7ed8a6604b3a3c2ea
//! [`amazon-ssm-agent`]: https://github.com/aws/amazon-ssm-agent/tree/1c217c89b42de51d4f4063363d8ec1f2eef56055

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
mod readiness;
pub mod request;
#[cfg(any(test, feature = "testing"))]
mod samples;
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
