//! What an agent that does not answer means to its conversation: when to ask it, and what follows from silence.

use std::time::Instant;

use super::{Conversation, EndReason};
use crate::{silence::Question, smux::mux::StreamError};

impl Conversation {
    /// When the agent is to be asked whether it is there, by a NOP, which it must acknowledge.
    pub(super) fn question_at(&self) -> Option<Instant> {
        // What is not acknowledged yet is a question.
        let may_ask = self.agent().is_some() && self.channel.is_connected() && self.channel.is_drained();
        let (heard, streams) = (self.channel.agent_heard_at(), self.mux.stream_count() > 0);
        self.silence.question_at(heard, streams, self.mux.is_awaiting()).filter(|_| may_ask)
    }

    /// When the agent's silence has its next consequence.
    pub(super) fn silence_at(&self) -> Option<Instant> {
        let unanswered = self.unanswered().and_then(|question| self.silence.next_timeout(question));
        self.question_at().into_iter().chain(unanswered).min()
    }

    fn unanswered(&self) -> Option<Question> {
        let asked = self.agent().and_then(|_| self.channel.waits_since())?;
        let may_be_blocked = self.mux.may_block_the_agent();
        Some(Question {
            heard: self.channel.agent_heard_at(),
            asked,
            unresponsive_after: self.options.unresponsive_after,
            port_ready: self.channel.is_port_ready(),
            away: self.channel.is_peer_away(),
            may_be_blocked,
        })
    }

    /// Draws the consequences of an agent that does not answer: new connections go elsewhere, then the session ends.
    pub(super) fn check_silence(&mut self, now: Instant) {
        let Some(question) = self.unanswered() else { return };
        self.silence.check(question, now);
        if self.silence.is_unresponsive() {
            self.mux.fail_unacknowledged(&StreamError::AgentSilent);
        }
        if question.is_hopeless(now) {
            self.end(EndReason::AgentSilent(now.saturating_duration_since(question.heard)));
        }
    }
}
