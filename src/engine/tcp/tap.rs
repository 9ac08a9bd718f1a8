//! Nothing tells where a reply of an unknown protocol ends.

use crate::{
    engine::Follow,
    stream::relay::{self, Reason},
};

/// A connection whose bytes mean nothing to us.
pub(super) struct Tap;

impl relay::Tap for Tap {
    fn on_client(&mut self, _: &[u8]) {}

    fn on_upstream(&mut self, _: &[u8]) {}

    /// As `ssh -L`: a signal ends the connection between two bytes.
    fn may_stop(&self) -> bool {
        true
    }

    /// A client that has half-closed may wait for a reply.
    fn is_busy(&self) -> bool {
        true
    }
}

impl Follow for Tap {
    fn take_refused_to_write(&mut self) -> bool {
        false
    }

    fn last_words(&self, _: &Reason) -> Option<Vec<u8>> {
        None
    }
}
