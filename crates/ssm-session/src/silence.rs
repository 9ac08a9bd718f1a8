//! Whether the agent at the far end still answers. Sans-IO.
//!
//! The websocket ends at the service, whose pongs say nothing about the agent: an agent that has died is silent, and so is one
//! whose destinations send nothing. But a live agent acknowledges every data message once it has processed it (agent
//! [`datachannel.go`], handleStreamDataMessage). So a probe is sent, a message without content, while a client may wait for a
//! reply and every message is acknowledged.
//!
//! ```text
//!   heard ─ 15 s ─▶ probed ─ 5 s ─▶ unresponsive: new connections get ─ 60 s after it was heard ─▶ the session ends
//!                                   another session
//! ```
//!
//! An agent can be silent and alive: its reader blocks while 4 MiB wait for a destination that does not read
//! ([`crate::smux::mux::Mux::may_block_the_agent`]). Its session is kept for as long as the channel allows.
//!
//! [`datachannel.go`]: https://github.com/aws/amazon-ssm-agent/blob/1c217c89b42de51d4f4063363d8ec1f2eef56055/agent/session/datachannel/datachannel.go#L691-L710

use std::time::{Duration, Instant};

/// Silence after which the agent is probed, if data have moved since the last probe.
const PROBE_AFTER: Duration = Duration::from_secs(15);
/// Time between probes while a client goes on waiting for a reply, such as the one to a slow request.
const PROBE_EVERY: Duration = Duration::from_mins(1);
/// Silence after which the session ends. An agent that has lost its connection is back within some seconds.
const GIVE_UP_AFTER: Duration = Duration::from_mins(1);
/// Silence after which the session ends if the service has said that the agent is away: as long as a client by default tries to
/// resume a session.
const GIVE_UP_AWAY_AFTER: Duration = Duration::from_mins(2);
/// The least time for which a message must be unanswered before the session ends.
const UNANSWERED_FOR: Duration = Duration::from_secs(30);

/// A message that waits for its acknowledgement, and the facts about the agent meanwhile.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unanswered {
    /// When the agent was heard last.
    pub(super) heard: Instant,
    /// When the message was first sent on this connection.
    pub(super) sent: Instant,
    /// See [`super::conversation::Options::unresponsive_after`].
    pub(super) unresponsive_after: Duration,
    /// The agent's port takes data. Before that the agent acknowledges none, while it looks up the name of the destination (agent
    /// [`port.go`], InputStreamMessageHandler and validateParameters).
    ///
    /// [`port.go`]: https://github.com/aws/amazon-ssm-agent/blob/1c217c89b42de51d4f4063363d8ec1f2eef56055/agent/session/plugins/port/port.go#L269-L335
    pub(super) port_ready: bool,
    /// The service has said that the agent is away.
    pub(super) away: bool,
    /// The agent may be unable to acknowledge any message, because a destination does not read.
    pub(super) may_be_blocked: bool,
}

impl Unanswered {
    fn unresponsive_at(self) -> Option<Instant> {
        self.port_ready.then(|| self.heard.max(self.sent) + self.unresponsive_after)
    }

    fn gives_up_at(self) -> Option<Instant> {
        let limit = if self.away { GIVE_UP_AWAY_AFTER } else { GIVE_UP_AFTER };
        (!self.may_be_blocked).then(|| (self.heard + limit).max(self.sent + UNANSWERED_FOR))
    }

    /// Whether the session is to end.
    pub(super) fn is_hopeless(self, now: Instant) -> bool {
        self.gives_up_at().is_some_and(|at| now >= at)
    }
}

/// The silence of an agent, as far as it has consequences.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// The agent is unresponsive, and was heard last at this time. Cleared when it is heard again.
    unresponsive: Option<Instant>,
    /// Data have moved since the last probe.
    moved: bool,
}

impl Silence {
    /// Data have moved, either way.
    pub(super) fn on_data(&mut self) {
        self.moved = true;
    }

    /// A probe goes out.
    pub(super) fn on_probe(&mut self) {
        self.moved = false;
    }

    /// The agent was heard last at `heard`, or could not be heard before.
    pub(super) fn on_heard(&mut self, heard: Instant) {
        self.unresponsive = self.unresponsive.filter(|at| *at == heard);
    }

    /// Whether the agent does not answer at present.
    pub(super) fn is_unresponsive(&self) -> bool {
        self.unresponsive.is_some()
    }

    /// When to probe an agent that was last `heard` then, in a session with or without `streams`, and with or without a client
    /// that is `awaiting` a reply. For connections at rest there is one probe only, so that the account's idle timeout goes on
    /// counting.
    pub(super) fn probe_at(&self, heard: Instant, streams: bool, awaiting: bool) -> Option<Instant> {
        match (streams && self.moved, awaiting) {
            (true, _) => Some(heard + PROBE_AFTER),
            (false, true) => Some(heard + PROBE_EVERY),
            (false, false) => None,
        }
    }

    /// When the result of [`Silence::check`] or [`Unanswered::is_hopeless`] changes.
    pub(super) fn next_timeout(&self, message: Unanswered) -> Option<Instant> {
        let unresponsive = message.unresponsive_at().filter(|_| self.unresponsive.is_none());
        unresponsive.into_iter().chain(message.gives_up_at()).min()
    }

    /// Notes whether the agent does not answer.
    pub(super) fn check(&mut self, message: Unanswered, now: Instant) {
        if message.unresponsive_at().is_some_and(|at| now >= at) {
            self.unresponsive = Some(message.heard);
        }
    }
}
