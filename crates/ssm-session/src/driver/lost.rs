//! The loss of a websocket.

/// A websocket that is gone, while its session may go on.
#[derive(Debug)]
pub(super) struct Lost {
    /// Why, for the log.
    pub(super) reason: String,
    pub(super) proof: Proof,
}

/// How far a websocket has shown that it works, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Proof {
    /// Nothing was received.
    None,
    /// Something was received: the service is there.
    Heard,
    /// A message was received, or the websocket has lasted: it is a good one.
    Works,
}
