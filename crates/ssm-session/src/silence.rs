//! Whether the agent at the far end still answers. Sans-IO.
//!
//! The websocket ends at the service, whose pongs say nothing about the agent: an agent that has died is silent, and so is
//! one whose databases have nothing to say. What tells them apart is that an agent acknowledges every data message once
//! it has processed it (agent `datachannel.go`, processStreamDataMessage). So, while a client may wait for something and
//! everything is acknowledged, a message is sent that carries nothing.
//!
//! ```text
//!   heard ─ 15 s ─▶ asked ─ 5 s ─▶ unresponsive: new connections go elsewhere ─ 60 s after it was heard ─▶ the session ends
//! ```
//!
//! One agent is silent and alive: its reader blocks while 4 MiB wait for a database that does not read
//! ([`crate::smux::mux::Mux::may_block_the_agent`]). Its session is kept for as long as the channel allows.

use std::time::{Duration, Instant};

/// Silence after which the agent is asked, if data have moved since the last question.
const QUESTION_AFTER: Duration = Duration::from_secs(15);
/// The same while a client goes on waiting for an answer, such as that to a slow query.
const QUESTION_EVERY: Duration = Duration::from_mins(1);
/// Silence after which the session ends. An agent that has lost its connection is back within some seconds.
const GIVE_UP_AFTER: Duration = Duration::from_mins(1);
/// The same when the service has said that the agent is away: as long as we try to resume a session ourselves.
const GIVE_UP_AWAY_AFTER: Duration = Duration::from_mins(2);
/// A question must have been unanswered for this long before that.
const UNANSWERED_FOR: Duration = Duration::from_secs(30);

/// A message that waits for its acknowledgement, and what is known meanwhile.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    /// When the agent was heard last.
    pub(super) heard: Instant,
    /// Since when the message waits.
    pub(super) asked: Instant,
    /// See [`super::conversation::Options::unresponsive_after`].
    pub(super) unresponsive_after: Duration,
    /// The agent's port takes data: it acknowledges nothing before, while it looks up the database's name (agent `port.go`,
    /// InputStreamMessageHandler and validateParameters).
    pub(super) port_ready: bool,
    /// The service has said that the agent is away.
    pub(super) away: bool,
    /// The agent may be unable to acknowledge anything, for a database that does not read.
    pub(super) may_be_blocked: bool,
}

impl Question {
    fn unresponsive_at(self) -> Option<Instant> {
        self.port_ready.then(|| self.heard.max(self.asked) + self.unresponsive_after)
    }

    fn gives_up_at(self) -> Option<Instant> {
        let limit = if self.away { GIVE_UP_AWAY_AFTER } else { GIVE_UP_AFTER };
        (!self.may_be_blocked).then(|| (self.heard + limit).max(self.asked + UNANSWERED_FOR))
    }

    /// Whether the session is to end.
    pub(super) fn is_hopeless(self, now: Instant) -> bool {
        self.gives_up_at().is_some_and(|at| now >= at)
    }
}

/// What is known of an agent's silence.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// It was found unresponsive when it had been heard last at this time.
    unresponsive: Option<Instant>,
    /// Data have moved since the last question.
    moved: bool,
}

impl Silence {
    /// Data have moved, either way.
    pub(super) fn on_data(&mut self) {
        self.moved = true;
    }

    /// A question goes out.
    pub(super) fn on_question(&mut self) {
        self.moved = false;
    }

    /// The agent was heard last at `heard`, or could not be heard before.
    pub(super) fn on_heard(&mut self, heard: Instant) {
        self.unresponsive = self.unresponsive.filter(|at| *at == heard);
    }

    /// Whether the agent does not answer just now.
    pub(super) fn is_unresponsive(&self) -> bool {
        self.unresponsive.is_some()
    }

    /// When to ask, given when the agent was `heard` last, whether there are `streams`, and whether a client is `awaiting`
    /// an answer. Connections at rest are asked for once, so that the account's idle timeout goes on counting.
    pub(super) fn question_at(&self, heard: Instant, streams: bool, awaiting: bool) -> Option<Instant> {
        match (streams && self.moved, awaiting) {
            (true, _) => Some(heard + QUESTION_AFTER),
            (false, true) => Some(heard + QUESTION_EVERY),
            (false, false) => None,
        }
    }

    /// When [`Silence::check`] or [`Question::is_hopeless`] says something new.
    pub(super) fn next_timeout(&self, question: Question) -> Option<Instant> {
        let unresponsive = question.unresponsive_at().filter(|_| self.unresponsive.is_none());
        unresponsive.into_iter().chain(question.gives_up_at()).min()
    }

    /// Notes an agent that does not answer.
    pub(super) fn check(&mut self, question: Question, now: Instant) {
        if question.unresponsive_at().is_some_and(|at| now >= at) {
            self.unresponsive = Some(question.heard);
        }
    }
}
