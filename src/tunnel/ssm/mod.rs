//! The SSM data channel: message codec, payloads, and what makes a reliable byte stream of them.

pub mod channel;
pub mod conversation;
pub mod features;
pub mod handshake;
pub mod message;
pub mod payload;
pub mod websocket;
mod window;
