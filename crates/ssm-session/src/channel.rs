//! The reliable channel: stream data in order, once each, whatever the service loses, repeats or reorders.
//!
//! Sans-IO: messages come in through [`Channel::on_message`] and leave through [`Channel::poll_transmit`]; time comes in as
//! `now`. The meaning of the payloads belongs to the layer above ([`crate::conversation`]).
//!
//! ```text
//!   send ──▶ Sender: outbox (in order, unacknowledged) ──▶ poll_transmit ──▶ websocket
//!                       ▲ lost: shown by later acknowledgements, a timeout, a reconnect
//!   poll_event ◀── Receiver: delivered ◀── stored (out of order) ◀── on_message ──▶ acks (before everything else)
//! ```
//!
//! Sources: plugin [`streaming.go`] (HandleOutputMessage, ProcessAcknowledgedMessage, ResendStreamDataMessageScheduler) and
//! agent [`datachannel.go`] (handleStreamDataMessage and the functions after it). Their faults that are not repeated here:
//! the plugin drops its oldest message when a buffer is full, never acknowledges a duplicate and ignores pause_publication;
//! both resend only the oldest message.
//!
//! [`streaming.go`]: https://github.com/aws/session-manager-plugin/blob/61cf1288c7c66b4cbff922b7ed8a6604b3a3c2ea/src/datachannel/streaming.go#L608
//! [`datachannel.go`]: https://github.com/aws/amazon-ssm-agent/blob/1c217c89b42de51d4f4063363d8ec1f2eef56055/agent/session/datachannel/datachannel.go#L687

mod inference;
mod outbox;
mod receiver;
mod sender;
mod stamps;

use std::{
    collections::VecDeque,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;

use self::{
    receiver::{Receiver, StoreLimits},
    sender::Sender,
    stamps::Stamps,
};
use crate::{
    message::{AgentMessage, DecodeError, MessageType},
    payload::{self, ChannelClosed, PayloadType},
    sequence::SequenceNumber,
};

/// Limits and delays of a channel.
#[derive(Debug, Clone)]
pub struct Options {
    /// Most bytes of payload waiting for acknowledgement. Default 1 MiB: an agent whose destination does not read takes 4 MiB
    /// of all streams and then stops for all of them, so one stream must not fill that with a single window.
    pub max_window: usize,
    /// Most messages stored out of order; beyond them messages are not acknowledged, so the agent sends them again. Default
    /// 100,000, as in the agent ([`config.go`], IncomingMessageBufferCapacity).
    ///
    /// [`config.go`]: https://github.com/aws/amazon-ssm-agent/blob/1c217c89b42de51d4f4063363d8ec1f2eef56055/agent/session/config/config.go#L52
    pub max_stored_messages: usize,
    /// Most bytes of payload stored out of order. Default 128 MiB.
    pub max_stored_bytes: usize,
    /// The channel is given up when it is connected, has unacknowledged messages, and has received no acknowledgement for this
    /// long. Default 5 minutes, as long as the plugin resends a message ([`config.go`], ResendMaxAttempt): a destination that
    /// does not read stops acknowledgements for legitimate reasons.
    ///
    /// [`config.go`]: https://github.com/aws/session-manager-plugin/blob/61cf1288c7c66b4cbff922b7ed8a6604b3a3c2ea/src/config/config.go#L26
    pub give_up_after: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_window: 1 << 20,
            max_stored_messages: 100_000,
            max_stored_bytes: 128 << 20,
            give_up_after: Duration::from_mins(5),
        }
    }
}

/// How long a pause lasts without a message of the agent or start_publication. Then the oldest message goes out again, which
/// also wakes an agent that missed the end of the pause: it resumes on any stream data (agent [`datachannel.go`],
/// handleStreamDataMessage).
///
/// [`datachannel.go`]: https://github.com/aws/amazon-ssm-agent/blob/1c217c89b42de51d4f4063363d8ec1f2eef56055/agent/session/datachannel/datachannel.go#L691
const PAUSE_PROBE: Duration = Duration::from_secs(5);

/// An event for the layer above.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The next stream data message, in order.
    Payload(PayloadType, Bytes),
    /// The session is over. The text, possibly empty, is the reason given by the agent or the service.
    ChannelClosed(String),
    /// No acknowledgement has come for [`Options::give_up_after`].
    NotAcknowledging,
}

/// Anomalies of a channel since it was opened, for logs and metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages sent again.
    pub retransmitted: u64,
    /// Messages received again.
    pub duplicates: u64,
    /// Messages received before their predecessors.
    pub out_of_order: u64,
    /// Frames that are not a message, or have a wrong digest.
    pub malformed: u64,
    /// Messages left unacknowledged because the store was full.
    pub dropped_full: u64,
}

/// The way to the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// No websocket is open.
    Disconnected,
    /// Messages may be sent.
    Open,
    /// The service has asked for a pause: only acknowledgements are sent.
    Paused { since: Instant },
}

/// The state of both directions. Survives reconnects.
#[derive(Debug)]
pub struct Channel {
    stamps: Stamps,
    link: Link,
    sender: Sender,
    receiver: Receiver,
    events: VecDeque<Event>,
    malformed: u64,
    /// When the agent's last message came: an acknowledgement or stream data.
    agent_heard_at: Instant,
    /// pause_publication came after that: the service says that the agent is away.
    peer_away: bool,
}

impl Channel {
    /// A channel before its first message, not connected.
    pub fn new(options: &Options, random: fastrand::Rng, now: Instant, wall_clock: SystemTime) -> Self {
        let limits = StoreLimits { messages: options.max_stored_messages, bytes: options.max_stored_bytes };
        Self {
            stamps: Stamps::new(random, now, wall_clock),
            link: Link::Disconnected,
            sender: Sender::new(options.max_window, options.give_up_after, now),
            receiver: Receiver::new(limits),
            events: VecDeque::new(),
            malformed: 0,
            agent_heard_at: now,
            peer_away: false,
        }
    }

    /// Corrects the time of day that messages carry from `now` on.
    pub fn set_wall_clock(&mut self, now: Instant, wall_clock: SystemTime) {
        self.stamps.set_wall_clock(now, wall_clock);
    }

    /// Anomalies since the start.
    pub fn stats(&self) -> Stats {
        let arrivals = self.receiver.arrivals();
        Stats {
            retransmitted: self.sender.retransmitted(),
            duplicates: arrivals.duplicates,
            out_of_order: arrivals.out_of_order,
            malformed: self.malformed,
            dropped_full: arrivals.dropped_full,
        }
    }

    /// Whether the websocket takes no acknowledgements, so that reading more messages would only add to those that wait.
    pub fn is_clogged(&self) -> bool {
        self.receiver.is_clogged()
    }

    /// Whether a websocket is open.
    pub fn is_connected(&self) -> bool {
        self.link != Link::Disconnected
    }

    /// Whether every message has been acknowledged.
    pub fn is_drained(&self) -> bool {
        self.sender.is_drained()
    }

    /// The shortest time that an acknowledgement has taken; zero before the first.
    pub fn round_trip(&self) -> Duration {
        self.sender.round_trip()
    }

    /// Whether the agent's port is known to take data.
    pub fn is_port_ready(&self) -> bool {
        self.sender.is_port_ready()
    }

    /// Whether the agent may acknowledge data that it throws away. Then an acknowledgement does not show that its port takes
    /// data. At first it is not expected to.
    pub(crate) fn set_discards_data(&mut self, discards: bool) {
        self.sender.set_discards_data(discards);
    }

    /// Whether a message that was sent has been acknowledged.
    pub fn is_acknowledged(&self, sequence: SequenceNumber) -> bool {
        self.sender.is_acknowledged(sequence)
    }

    /// Whether a message after this one has been acknowledged, and this one has not.
    pub fn is_overtaken(&self, sequence: SequenceNumber) -> bool {
        self.sender.is_overtaken(sequence)
    }

    /// Since when the oldest message waits for its acknowledgement on this connection.
    pub fn waits_since(&self) -> Option<Instant> {
        self.sender.waits_since()
    }

    /// When the agent's last message came, or since when one could have come.
    pub fn agent_heard_at(&self) -> Instant {
        self.agent_heard_at
    }

    /// Whether the service has said since then that the agent is away.
    pub fn is_peer_away(&self) -> bool {
        self.peer_away
    }

    /// A websocket is open and its first frame is sent: everything unacknowledged goes out again, in order.
    pub fn connected(&mut self, now: Instant) {
        self.link = Link::Open;
        self.agent_heard_at = now;
        self.sender.on_connected(now);
        self.receiver.on_connected(&mut self.stamps, now);
    }

    /// The websocket is gone. Nothing is transmitted until [`Channel::connected`].
    pub fn disconnected(&mut self) {
        self.link = Link::Disconnected;
        self.receiver.on_disconnected();
    }

    /// The agent could not be heard before `now`, so its silence until then does not count.
    pub fn restart_give_up(&mut self, now: Instant) {
        self.agent_heard_at = now;
        self.sender.restart_give_up(now);
    }

    /// Takes one frame from the websocket. Malformed ones are counted and dropped; a retransmission repairs the loss.
    ///
    /// # Errors
    /// [`DecodeError`], for the debug log: the frame is not a message.
    pub fn on_message(&mut self, frame: &Bytes, now: Instant) -> Result<(), DecodeError> {
        let message = AgentMessage::decode(frame).inspect_err(|_| self.malformed += 1)?;
        match message.message_type {
            MessageType::OutputStreamData => {
                self.on_agent(now);
                self.on_stream_data(&message, now);
            }
            MessageType::Acknowledge => {
                self.on_agent(now);
                match payload::acknowledged_sequence_number(&message.payload) {
                    Ok(number) => self.sender.on_acknowledge(SequenceNumber::from_wire(number), now),
                    Err(_) => self.malformed += 1,
                }
            }
            MessageType::ChannelClosed => {
                self.events.push_back(Event::ChannelClosed(ChannelClosed::decode(&message.payload).output));
            }
            MessageType::PausePublication => {
                self.peer_away = true;
                if self.link == Link::Open {
                    self.link = Link::Paused { since: now };
                    self.sender.on_pause(now);
                }
            }
            MessageType::StartPublication => {
                self.peer_away = false;
                self.end_pause();
            }
            MessageType::InputStreamData | MessageType::Unknown => {}
        }
        Ok(())
    }

    /// The next event for the layer above.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether a new stream data message would be sent at once. Ask before making one: bytes that wait above can still be
    /// joined with later ones, a message that waits here cannot.
    pub fn has_room(&self) -> bool {
        self.link == Link::Open && self.sender.has_room()
    }

    /// Takes one stream data payload, which must not be empty, for transmission in order. Returns its sequence number.
    pub fn send(&mut self, payload_type: PayloadType, payload: Bytes, now: Instant) -> SequenceNumber {
        self.sender.send(payload_type, payload, &mut self.stamps, now)
    }

    /// Puts another Output payload in the place of one that is not acknowledged, and sends it again. The agent may process
    /// either of them, so both must have the same meaning.
    pub fn replace(&mut self, sequence: SequenceNumber, payload: Bytes, now: Instant) {
        self.sender.replace(sequence, payload, &mut self.stamps, now);
    }

    /// The agent never acknowledges a duplicate (versions before 3.2.1041.0): the channel infers what a lost acknowledgement
    /// would have said.
    pub fn infer_delivery(&mut self) {
        self.sender.infer_delivery();
    }

    /// Whether a message without effect has to be sent, whose acknowledgement proves that an earlier message was delivered.
    /// Only after [`Channel::infer_delivery`].
    pub fn wants_probe(&self, now: Instant) -> bool {
        self.sender.wants_probe(now)
    }

    /// The next frame for the websocket: acknowledgements, then lost messages, then new ones.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Bytes> {
        match self.link {
            Link::Disconnected => None,
            Link::Paused { .. } => self.receiver.poll_ack(),
            Link::Open => self.receiver.poll_ack().or_else(|| self.sender.poll_transmit(now)),
        }
    }

    /// When [`Channel::on_timeout`] has to be called.
    pub fn next_timeout(&self) -> Option<Instant> {
        let next = match self.link {
            Link::Disconnected => return None,
            // A pause ends even when no message waits here: meanwhile none is handed down.
            Link::Paused { since } => Some(since + PAUSE_PROBE),
            Link::Open => self.sender.resend_at(),
        };
        next.into_iter().chain(self.sender.give_up_at()).min()
    }

    /// Does what is due at `now`.
    pub fn on_timeout(&mut self, now: Instant) {
        if self.is_connected() && self.sender.give_up_at().is_some_and(|at| now >= at) {
            self.events.push_back(Event::NotAcknowledging);
            self.sender.restart_give_up(now);
            return;
        }
        match self.link {
            Link::Disconnected => {}
            Link::Paused { since } if now < since + PAUSE_PROBE => {}
            Link::Paused { .. } => {
                self.link = Link::Open;
                self.sender.on_pause_probe();
            }
            Link::Open => self.sender.on_timeout(now),
        }
    }

    /// A message of the agent came, so it is there.
    fn on_agent(&mut self, now: Instant) {
        (self.agent_heard_at, self.peer_away) = (now, false);
        self.end_pause();
    }

    fn end_pause(&mut self) {
        if let Link::Paused { .. } = self.link {
            self.link = Link::Open;
        }
    }

    fn on_stream_data(&mut self, message: &AgentMessage, now: Instant) {
        self.receiver.on_stream_data(message, &mut self.stamps, now);
        while let Some((payload_type, payload)) = self.receiver.poll_delivered() {
            if payload_type == PayloadType::Output {
                self.sender.on_data();
            }
            self.events.push_back(Event::Payload(payload_type, payload));
        }
    }
}

#[cfg(test)]
#[path = "channel_tests.rs"]
mod tests;
