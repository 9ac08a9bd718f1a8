//! The database engines: a folder for each, with the same verbs in the same files. It holds what rdsgate knows of an engine
//! beyond its protocol, which is in the crate `database-wire`.
//!
//! | file | verb |
//! |---|---|
//! | `accept` | hear the client: as whom it wants to log in |
//! | `client` | programs and drivers, and how each is told an address |
//! | `connect` | log in to the server over the encrypted stream, guard the session |
//! | `reply` | tell the client about a failure in the words of its protocol |
//! | `tap` | follow the bytes after the login: busy, idle, over; and what the client hears at the end |
//! | `hint` | what to do about a refused login |
//!
//! It knows no route, no AWS and no configuration.

mod client;
mod error;
mod facts;
mod failure;
pub mod mysql;
mod names;
pub mod postgres;

use crate::stream::relay::{self, Reason};

pub use self::{
    client::{Address, Client, Variables},
    error::Error,
    facts::Facts,
    failure::{Failure, Kind},
    names::{Names, Replaced, Request},
};

/// For an answer that does not look like the database's.
pub const NO_DATABASE_HINT: &str =
    "Check that host and port are those of the database's endpoint, and that it is available.";

/// Follows a connection from its login to its end.
pub trait Follow: relay::Tap {
    /// Whether the server has refused to write since this was last called: it may no longer be the writer.
    fn take_refused_to_write(&mut self) -> bool;

    /// The message for a client that did not end the connection itself, to be sent before it is closed. `None` where the close
    /// says all, or where a message would end up inside another one.
    fn last_words(&self, reason: &Reason) -> Option<Vec<u8>>;
}
