//! The questions of relay and proxy to an engine about a connection after its login.

use crate::stream::relay::{self, Reason};

/// Follows a connection from its login to its end.
pub trait Follow: relay::Tap {
    /// Whether the server has refused to write since this was last called: it may no longer be the writer.
    fn take_refused_to_write(&mut self) -> bool;

    /// The message for a client that did not end the connection itself, to be sent before it is closed. `None` where the close
    /// says all, or where a message would end up inside another one.
    fn last_words(&self, reason: &Reason) -> Option<Vec<u8>>;
}
