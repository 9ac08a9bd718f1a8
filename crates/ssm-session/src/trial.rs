//! Whether data messages larger than usual get through. Sans-IO.
//!
//! Official clients send 1,024 bytes. The agent accepts any size, but the service between the two has undocumented limits, and a
//! message that it drops leaves a gap in the sequence that no other message may fill: the session would be dead, with the data
//! in it. So the first large message carries no data but smux NOPs, which are not missed:
//!
//! ```text
//!   Waiting ── more is queued than usual messages hold, the port takes data ──▶ Running ── acknowledged ──▶ Passed
//!                                                                                  │
//!             2 s without while later ones are,  4 s without, the websocket gone ──┴──▶ Failed
//! ```
//!
//! Until the trial has passed, messages are as large as usual. When it has failed, one NOP takes its place under the same sequence
//! number. The agent may process either of the two, and both have no effect.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::{
    sequence::SequenceNumber,
    smux::frame::{Command, Header, StreamId},
};

/// Bytes of payload in a message of both official sides (plugin [`config.go`] and agent [the same file][agent],
/// StreamDataPayloadSize).
///
/// [`config.go`]: https://github.com/aws/session-manager-plugin/blob/61cf1288c7c66b4cbff922b7ed8a6604b3a3c2ea/src/config/config.go#L27
/// [agent]: https://github.com/aws/amazon-ssm-agent/blob/1c217c89b42de51d4f4063363d8ec1f2eef56055/agent/session/config/config.go#L50
pub(super) const USUAL_PAYLOAD: usize = 1024;
/// Limit for the acknowledgement once a later message has been acknowledged. That shows that this one was dropped, and every
/// message behind it waits at the agent.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// Limit for the acknowledgement if no later message was sent, as when the trial fills the window alone. Far above any round trip,
/// and below the time after which a silent agent counts as unresponsive (see `silence`).
const LONE_TRIAL_TIMEOUT: Duration = Duration::from_secs(4);

/// The largest payload of a message, and the trial that decides it.
#[derive(Debug, Clone)]
pub(super) struct Trial {
    wanted: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No trial was needed yet.
    Waiting,
    /// The trial was sent; its outcome is looked at next at `look`.
    Running { sequence: SequenceNumber, since: Instant, look: Instant },
    /// Large messages get through, or none are wanted.
    Passed,
    /// Large messages do not get through.
    Failed,
}

impl Trial {
    /// A trial for payloads of `wanted` bytes. Sizes up to the usual one need none.
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

    /// A message of `sent` bytes has gone out. Returns the payload of the trial if it is time for it.
    pub(super) fn payload(&self, sent: usize) -> Option<Bytes> {
        // A message that is not full held all queued bytes, so a larger one is of no use yet.
        (self.state == State::Waiting && sent >= USUAL_PAYLOAD).then(|| nops(self.wanted / NOP.len()))
    }

    /// The trial is on its way.
    pub(super) fn start(&mut self, sequence: SequenceNumber, now: Instant) {
        self.state = State::Running { sequence, since: now, look: now + TRIAL_TIMEOUT };
    }

    /// When [`Trial::check`] may decide.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Running { look, .. } => Some(look),
            State::Waiting | State::Passed | State::Failed => None,
        }
    }

    /// Decides by the facts about a message: whether it was acknowledged, and whether a later one was. Returns the sequence number
    /// of a message that has to be replaced by [`NOP`].
    pub(super) fn check(
        &mut self,
        acknowledged: impl Fn(SequenceNumber) -> bool,
        overtaken: impl Fn(SequenceNumber) -> bool,
        now: Instant,
    ) -> Option<SequenceNumber> {
        let State::Running { sequence, since, look } = &mut self.state else { return None };
        if acknowledged(*sequence) {
            self.state = State::Passed;
        } else if now >= *since + LONE_TRIAL_TIMEOUT || now >= *since + TRIAL_TIMEOUT && overtaken(*sequence) {
            return self.fail();
        } else if now >= *look {
            *look = *since + LONE_TRIAL_TIMEOUT;
        }
        None
    }

    /// The websocket is gone, perhaps because of the trial. Returns the same as [`Trial::check`].
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
    fn trial_is_as_large_as_wanted_and_consists_of_nops() {
        assert_eq!(nops(1), NOP);
        for (wanted, length) in [(1025, 1024), (4096, 4096), (65_536, 65_536)] {
            let payload = Trial::new(wanted).payload(1024).unwrap();
            assert_eq!(payload.len(), length);
            assert!(payload.chunks(8).all(|frame| frame == NOP));
        }
    }
}
