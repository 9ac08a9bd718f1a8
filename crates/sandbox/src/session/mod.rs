//! The sessions of the message service between client and agent: their tokens, their ends, and the link of each ([`Link`]).
//!
//! ```text
//!            ┌──────────── Session ────────────┐
//! websocket ─┤─▶ up: Pipe ───────────▶ agent   │   a websocket comes and goes; pipes and agent stay
//!  (client) ─┤◀─ down: Pipe ◀───────── task    │
//!            └─────────────────────────────────┘
//! ```
//!
//! The service relays whole messages and adds its own: `channel_closed` to the client, pause and start of publication to the
//! agent when the client leaves and returns. It never looks inside what it relays.

mod link;
mod message;
mod registry;

pub use self::registry::{Ended, SessionReport};
pub(super) use self::{
    link::{Command, Counters, Link},
    message::service_message,
    registry::{NoEntry, PATH, SessionRequest, Sessions, Started},
};
