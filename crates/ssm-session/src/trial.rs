//! Whether data messages larger than usual get through. Sans-IO.
//!
//! Official clients send 1,024 bytes. The agent takes any size, but the service between the two has limits that nobody has
//! documented, and a message that it swallows leaves a gap in the sequence that no other message may fill: the session is
//! dead then, with the data in it. So the first large message is one that nobody misses, full of smux NOPs:
//!
//! ```text
//!   Waiting ── more is queued than usual messages hold, the port takes data ──▶ Running ── acknowledged ──▶ Passed
//!                                                                                  │
//!             2 s without while later ones are,  4 s without, the websocket gone ──┴──▶ Failed
//! ```
//!
//! Until it has passed messages are as large as usual. When it has failed one NOP takes its place under the same sequence
//! number, which means the same to an agent whichever of the two it gets.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::{
    sequence::SequenceNumber,
    smux::frame::{Command, Header, StreamId},
};

/// What both official sides send (plugin and agent `config.go`, StreamDataPayloadSize).
pub(super) const USUAL_PAYLOAD: usize = 1024;
/// Time for the acknowledgement once a later message has been acknowledged, which says that this one was swallowed: then
/// everything behind it waits at the agent.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for it when nothing came later, as when it fills the window alone. Far above any way there and back, and below the
/// time after which an agent that acknowledges nothing counts as unresponsive (see `silence`).
const LONGEST: Duration = Duration::from_secs(4);

/// How large messages may be.
#[derive(Debug, Clone)]
pub(super) struct Trial {
    wanted: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Running { sequence: SequenceNumber, since: Instant, look: Instant },
    Passed,
    Failed,
}

impl Trial {
    /// Sizes up to the usual one need no trial.
    pub(super) fn new(wanted: usize) -> Self {
        Self { wanted, state: if wanted <= USUAL_PAYLOAD { State::Passed } else { State::Waiting } }
    }

    /// Most bytes in the next message.
    pub(super) fn payload_size(&self) -> usize {
        match self.state {
            State::Passed => self.wanted,
            State::Waiting | State::Running { .. } | State::Failed => USUAL_PAYLOAD.min(self.wanted),
        }
    }

    /// A message of `sent` bytes has gone out; the payload to try, if it is time to.
    pub(super) fn payload(&self, sent: usize) -> Option<Bytes> {
        // One that is not full was all there was: larger ones would not have been.
        (self.state == State::Waiting && sent >= USUAL_PAYLOAD).then(|| nops(self.wanted / NOP.len()))
    }

    /// The payload is on its way.
    pub(super) fn start(&mut self, sequence: SequenceNumber, now: Instant) {
        self.state = State::Running { sequence, since: now, look: now + TRIAL_TIMEOUT };
    }

    /// When [`Trial::check`] has something to decide.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Running { look, .. } => Some(look),
            State::Waiting | State::Passed | State::Failed => None,
        }
    }

    /// Decides, given what is known of a message: whether it was acknowledged, and whether a later one was. Gives the
    /// sequence number of a message that has to be replaced by [`NOP`].
    pub(super) fn check(
        &mut self,
        acknowledged: impl Fn(SequenceNumber) -> bool,
        overtaken: impl Fn(SequenceNumber) -> bool,
        now: Instant,
    ) -> Option<SequenceNumber> {
        let State::Running { sequence, since, look } = &mut self.state else { return None };
        if acknowledged(*sequence) {
            self.state = State::Passed;
        } else if now >= *since + LONGEST || now >= *since + TRIAL_TIMEOUT && overtaken(*sequence) {
            return self.fail();
        } else if now >= *look {
            *look = *since + LONGEST;
        }
        None
    }

    /// The websocket is gone, perhaps because of the message. Gives what [`Trial::check`] gives.
    pub(super) fn fail(&mut self) -> Option<SequenceNumber> {
        let State::Running { sequence, .. } = self.state else { return None };
        self.state = State::Failed;
        Some(sequence)
    }
}

/// A smux NOP: the smallest data message there is.
pub(super) const NOP: Bytes = Bytes::from_static(&[1, 3, 0, 0, 0, 0, 0, 0]);

fn nops(count: usize) -> Bytes {
    let mut payload = BytesMut::with_capacity(count * NOP.len());
    for _ in 0..count {
        Header::control(Command::Nop, StreamId::NONE).encode(&mut payload);
    }
    payload.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_and_smaller_sizes_are_not_tried() {
        for size in [256, 1024] {
            let trial = Trial::new(size);
            assert_eq!((trial.payload_size(), trial.payload(size), trial.next_timeout()), (size, None, None));
        }
    }

    #[test]
    fn the_trial_is_as_large_as_what_it_is_for_and_means_nothing() {
        assert_eq!(nops(1), NOP);
        for (wanted, length) in [(1025, 1024), (4096, 4096), (65_536, 65_536)] {
            let payload = Trial::new(wanted).payload(1024).unwrap();
            assert_eq!(payload.len(), length);
            assert!(payload.chunks(8).all(|frame| frame == NOP));
        }
    }
}
