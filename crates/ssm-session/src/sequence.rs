//! The positions of stream data messages in one direction of a data channel. Sans-IO.
//!
//! Each side numbers its stream data messages from 0, handshake and flag messages included, and never skips or reuses a
//! number. A retransmission keeps the number of the original. Sources: plugin [`streaming.go`], where `SendInputDataMessage`
//! counts up, and agent [`datachannel.go`], `handleStreamDataMessage`.
//!
//! [`streaming.go`]: https://github.com/aws/session-manager-plugin/blob/61cf1288c7c66b4cbff922b7ed8a6604b3a3c2ea/src/datachannel/streaming.go#L272
//! [`datachannel.go`]: https://github.com/aws/amazon-ssm-agent/blob/1c217c89b42de51d4f4063363d8ec1f2eef56055/agent/session/datachannel/datachannel.go#L687

use std::fmt;

/// The position of a stream data message among those of its sender.
///
/// The wire has a signed 64-bit integer ([`AgentMessage::sequence_number`](crate::message::AgentMessage::sequence_number)).
/// A number below [`SequenceNumber::FIRST`] can only come from a broken peer; it sorts before every message and so counts as a
/// duplicate. The largest number is never reached: at 1,000 messages a second that takes 292 million years. The arithmetic
/// saturates there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceNumber(i64);

impl SequenceNumber {
    /// The number of the first message of each direction.
    pub const FIRST: Self = Self(0);

    /// The number in a message or an acknowledgement. Any value of a peer is accepted.
    pub fn from_wire(number: i64) -> Self {
        Self(number)
    }

    /// The number for the SequenceNumber field of a message.
    pub fn to_wire(self) -> i64 {
        self.0
    }

    /// The number of the message after this one.
    #[must_use]
    pub fn next(self) -> Self {
        self.plus(1)
    }

    /// The number of the message `count` places after this one.
    #[must_use]
    pub fn plus(self, count: usize) -> Self {
        Self(self.0.saturating_add(i64::try_from(count).unwrap_or(i64::MAX)))
    }

    /// How many places this number is after `start`; `None` if it is before it.
    pub fn places_after(self, start: Self) -> Option<usize> {
        usize::try_from(self.0.checked_sub(start.0)?).ok()
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_from_the_start_and_never_backwards() {
        let start = SequenceNumber::FIRST.plus(5);
        assert_eq!(start.places_after(start), Some(0));
        assert_eq!(start.next().places_after(start), Some(1));
        assert_eq!(SequenceNumber::FIRST.places_after(start), None);
    }

    #[test]
    fn numbers_of_a_hostile_peer_do_not_overflow() {
        let (lowest, highest) = (SequenceNumber::from_wire(i64::MIN), SequenceNumber::from_wire(i64::MAX));
        assert_eq!((highest.next(), highest.plus(usize::MAX)), (highest, highest));
        assert_eq!((highest.places_after(lowest), lowest.places_after(highest)), (None, None));
        assert!(lowest < SequenceNumber::FIRST && SequenceNumber::FIRST < highest);
    }
}
