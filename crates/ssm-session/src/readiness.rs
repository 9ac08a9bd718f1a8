//! Whether the agent takes data yet, after its handshake. Sans-IO.
//!
//! HandshakeComplete is not the last step of the agent (3.3.0.0; the code is the same in every version with smux):
//!
//! ```text
//!   HandshakeComplete is sent ─▶ deaf: acknowledges data and throws them away
//!      handshake.complete is set ─▶ opening: leaves the next message unacknowledged, stores and acknowledges later ones
//!         the mux server listens ─▶ ready: passes data on, then acknowledges them
//! ```
//!
//! It sets `handshake.complete` in the statement after the one that sends (agent [`datachannel.go`], PerformHandshake), on another
//! goroutine than the one that reads ([processStreamDataMessage]). Nothing orders the two, so a busy node may be late: of 400
//! sessions on a loaded loopback, 2 lost data that followed at once. While the port opens, the agent looks up its own network and
//! the name of the destination, and starts the mux server; until then [`port.go`], InputStreamMessageHandler, answers
//! ErrHandlerNotReady.
//!
//! No message makes an agent say that it was deaf. But the three times follow each other, and only the second leaves a message
//! behind while a later one is acknowledged. So NOPs go first, which may be lost. One that is overtaken shows that the deaf time is
//! over: data may follow at once, since the agent passes them on after the NOP. If none is overtaken, because the port opened
//! faster than the messages travel, data wait for [`DEAF_TIME`].
//!
//! [`datachannel.go`]: https://github.com/aws/amazon-ssm-agent/blob/1c217c89b42de51d4f4063363d8ec1f2eef56055/agent/session/datachannel/datachannel.go#L1003-L1008
//! [processStreamDataMessage]: https://github.com/aws/amazon-ssm-agent/blob/1c217c89b42de51d4f4063363d8ec1f2eef56055/agent/session/datachannel/datachannel.go#L838-L843
//! [`port.go`]: https://github.com/aws/amazon-ssm-agent/blob/1c217c89b42de51d4f4063363d8ec1f2eef56055/agent/session/plugins/port/port.go#L269-L278

use std::time::{Duration, Instant};

use crate::sequence::SequenceNumber;

/// The time after HandshakeComplete in which an agent may be deaf, if nothing else shows its end. The round trip is a part of it.
pub(super) const DEAF_TIME: Duration = Duration::from_millis(100);
/// Time between the first probe and the next, which shows whether the first was left behind. It doubles from then on.
const PROBE_AGAIN: Duration = Duration::from_millis(1);

/// The wait for an agent that takes data.
#[derive(Debug, Clone)]
pub(super) struct Readiness {
    until: Instant,
    probe_at: Instant,
    pause: Duration,
    probes: Vec<SequenceNumber>,
}

impl Readiness {
    /// HandshakeComplete came at `now`, over a path with this round trip.
    pub(super) fn new(round_trip: Duration, now: Instant) -> Self {
        let until = now + DEAF_TIME.saturating_sub(round_trip);
        Self { until, probe_at: now, pause: PROBE_AGAIN, probes: Vec::new() }
    }

    /// Whether it is time for a NOP.
    pub(super) fn wants_probe(&self, now: Instant) -> bool {
        now >= self.probe_at && now < self.until
    }

    /// A NOP has been queued under this number.
    pub(super) fn on_probe(&mut self, probe: SequenceNumber, now: Instant) {
        self.probes.push(probe);
        self.probe_at = now + self.pause;
        self.pause *= 2;
    }

    /// Whether the agent takes data: a NOP was overtaken, or the time is up.
    pub(super) fn is_over(&self, overtaken: impl Fn(SequenceNumber) -> bool, now: Instant) -> bool {
        now >= self.until || self.probes.iter().any(|probe| overtaken(*probe))
    }

    /// When to look again, with or without data that wait.
    pub(super) fn next_timeout(&self, has_data: bool) -> Instant {
        if has_data { self.probe_at.min(self.until) } else { self.until }
    }
}
