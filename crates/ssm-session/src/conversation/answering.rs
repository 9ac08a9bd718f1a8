//! A conversation with an agent that does not answer: when to probe it, and the consequences of its silence.

use std::time::Instant;

use super::{Conversation, EndReason};
use crate::{silence::Unanswered, smux::mux::StreamError};

impl Conversation {
    /// When the agent is to be probed by a NOP, which it must acknowledge.
    pub(super) fn probe_at(&self) -> Option<Instant> {
        // A message that is not acknowledged yet serves as a probe.
        let may_probe = self.agent().is_some() && self.channel.is_connected() && self.channel.is_drained();
        let (heard, streams) = (self.channel.agent_heard_at(), self.mux.stream_count() > 0);
        self.silence.probe_at(heard, streams, self.mux.is_awaiting()).filter(|_| may_probe)
    }

    /// When the agent's silence has its next consequence.
    pub(super) fn silence_at(&self) -> Option<Instant> {
        let unanswered = self.unanswered().and_then(|message| self.silence.next_timeout(message));
        self.probe_at().into_iter().chain(unanswered).min()
    }

    fn unanswered(&self) -> Option<Unanswered> {
        let sent = self.agent().and_then(|_| self.channel.waits_since())?;
        let may_be_blocked = self.mux.may_block_the_agent();
        Some(Unanswered {
            heard: self.channel.agent_heard_at(),
            sent,
            unresponsive_after: self.options.unresponsive_after,
            port_ready: self.channel.is_port_ready(),
            away: self.channel.is_peer_away(),
            may_be_blocked,
        })
    }

    /// Takes the consequences of an agent that does not answer: new connections get another session, then the session ends.
    pub(super) fn check_silence(&mut self, now: Instant) {
        let Some(message) = self.unanswered() else { return };
        self.silence.check(message, now);
        if self.silence.is_unresponsive() {
            self.mux.fail_unacknowledged(&StreamError::AgentSilent);
        }
        if message.is_hopeless(now) {
            self.end(EndReason::AgentSilent(now.saturating_duration_since(message.heard)));
        }
    }
}
