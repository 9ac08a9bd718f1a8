//! The reliable channel: stream data in order, once each, whatever the service loses, repeats or reorders.
//!
//! Sans-IO: messages come in through [`Channel::on_message`], leave through [`Channel::poll_transmit`], time comes in as
//! `now`. What payloads mean is decided above ([`super::conversation`]).
//!
//! ```text
//!   send ──▶ outgoing (in order, unacknowledged) ──▶ poll_transmit ──▶ websocket
//!                ▲ lost: by later acknowledgements, by timeout, by reconnect
//!   poll_event ◀── delivered ◀── stored (out of order) ◀── on_message ──▶ acks (ahead of everything else)
//! ```
//!
//! Sources: session-manager-plugin `src/datachannel/streaming.go`; amazon-ssm-agent
//! `agent/session/datachannel/datachannel.go`. Faults of theirs that are not repeated here: dropping the oldest message
//! when a buffer is full, never acknowledging a duplicate, ignoring pause_publication, resending only the oldest.
//!
//! Invariants (asserted in debug builds): `in_flight` is the payload of messages sent, not lost and not acknowledged;
//! `outgoing` starts with an unacknowledged message; every stored message is above `expected`.

mod inference;
mod receiving;
mod sending;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use uuid::Uuid;

use super::{
    message::{AgentMessage, DecodeError, MessageType},
    payload::{self, ChannelClosed, PayloadType},
    window::{MAX_BACKED_OFF_RTO, RoundTrip, Window},
};

/// Limits and delays of a channel.
#[derive(Debug, Clone)]
pub struct Options {
    /// Most bytes of payload waiting for acknowledgement. Default 1 MiB: an agent whose destination reads nothing takes 4
    /// MiB of all streams and then stops for all of them, so one stream must not fill that with a single window.
    pub max_window: usize,
    /// Most messages held out of order; beyond them messages are not acknowledged, so the agent sends them again.
    /// Default 100,000, the agent's own (agent `agent/session/config/config.go`, IncomingMessageBufferCapacity).
    pub max_stored_messages: usize,
    /// The same in bytes. Default 128 MiB.
    pub max_stored_bytes: usize,
    /// Without any acknowledgement for this long, while connected and with something unacknowledged, the channel is
    /// given up. Default 5 minutes: a destination that reads nothing stops acknowledgements for legitimate reasons.
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

/// Until the first data message is acknowledged it is resent this often: the agent's port opens some 10 ms after
/// HandshakeComplete and ignores what comes before.
const FIRST_DATA_RTO: Duration = Duration::from_millis(30);
/// During a pause, resend the oldest message this often: that also wakes an agent that missed start_publication.
const PAUSE_PROBE: Duration = Duration::from_secs(5);
/// After a reconnect, acknowledge again what was received last, so many messages and so long before the very last one:
/// those acknowledgements may have died with the socket, and the agent would resend their messages one each 100 ms.
const REACKNOWLEDGED: (usize, Duration) = (2048, Duration::from_secs(2));

/// Acknowledgements waiting for a websocket that takes nothing, at which no more is read from it (2.4 MB of them).
const MAX_WAITING_ACKS: usize = 8192;

/// What the channel has for the layer above.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The next stream data message, in order.
    Payload(PayloadType, Bytes),
    /// The session is over; the text, possibly empty, says why.
    ChannelClosed(String),
    /// Nothing was acknowledged for [`Options::give_up_after`].
    NotAcknowledging,
}

/// Counts of what was odd, for logs and metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages sent again.
    pub retransmitted: u64,
    /// Messages received again.
    pub duplicates: u64,
    /// Messages received ahead of their turn.
    pub out_of_order: u64,
    /// Frames that were no message, or had a wrong digest.
    pub malformed: u64,
    /// Messages left unacknowledged because the store was full.
    pub dropped_full: u64,
}

#[derive(Debug)]
struct Outgoing {
    frame: Bytes,
    payload: usize,
    is_output: bool,
    first_sent: Option<Instant>,
    last_sent: Option<Instant>,
    transmissions: u32,
    in_flight: bool,
    /// Since when it has been sent on this connection, and how often.
    on_this_connection: Option<(Instant, u32)>,
    /// When the retransmissions were enough to infer delivery, see `inference`.
    suspected: Option<Instant>,
}

/// The state of both directions. Survives reconnects.
#[derive(Debug)]
pub struct Channel {
    options: Options,
    random: fastrand::Rng,
    /// Where `now` was when the wall clock said this many milliseconds.
    epoch: (Instant, u64),
    connected: bool,
    paused_since: Option<Instant>,
    stats: Stats,

    expected: i64,
    stored: BTreeMap<i64, (PayloadType, Bytes)>,
    stored_bytes: usize,
    events: VecDeque<Event>,
    acks: VecDeque<Bytes>,
    recently_received: VecDeque<(Instant, i64, Uuid)>,

    /// The sequence number of the first entry of `outgoing`.
    base: i64,
    outgoing: VecDeque<Option<Outgoing>>,
    /// The first number never sent.
    next_unsent: i64,
    lost: BTreeSet<i64>,
    /// Transmissions in the order they were made; entries of acknowledged or resent messages are stale.
    sent_order: VecDeque<(Instant, i64)>,
    newest_acked_send: Option<Instant>,
    /// When a message went out for the first time, last.
    newest_send: Option<Instant>,
    in_flight: usize,
    round_trip: RoundTrip,
    window: Window,
    timeouts_in_a_row: u32,
    last_progress: Instant,
    /// When the agent's last message came: an acknowledgement or stream data.
    agent_heard_at: Instant,
    /// pause_publication came after it: the service knows that the agent is away.
    peer_away: bool,
    /// The agent's port takes data: it has sent some, or acknowledged a data message that was the oldest. (Later
    /// messages are acknowledged before that, as out of order.)
    port_ready: bool,
    /// See [`Channel::infer_delivery`].
    infers_delivery: bool,
}

impl Channel {
    /// A channel before its first message, not connected.
    pub fn new(options: Options, random: fastrand::Rng, now: Instant, wall_clock: SystemTime) -> Self {
        let window = Window::new(options.max_window);
        Self {
            options,
            random,
            epoch: (now, millis_since_epoch(wall_clock)),
            connected: false,
            paused_since: None,
            stats: Stats::default(),
            expected: 0,
            stored: BTreeMap::new(),
            stored_bytes: 0,
            events: VecDeque::new(),
            acks: VecDeque::new(),
            recently_received: VecDeque::new(),
            base: 0,
            outgoing: VecDeque::new(),
            next_unsent: 0,
            lost: BTreeSet::new(),
            sent_order: VecDeque::new(),
            newest_acked_send: None,
            newest_send: None,
            in_flight: 0,
            round_trip: RoundTrip::new(),
            window,
            timeouts_in_a_row: 0,
            last_progress: now,
            agent_heard_at: now,
            peer_away: false,
            port_ready: false,
            infers_delivery: false,
        }
    }

    /// The time of day at `now`, for messages from now on.
    pub fn set_wall_clock(&mut self, now: Instant, wall_clock: SystemTime) {
        self.epoch = (now, millis_since_epoch(wall_clock));
    }

    /// Counts since the start.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Whether acknowledgements cannot get out, so that reading more would only pile up more of them.
    pub fn is_clogged(&self) -> bool {
        self.acks.len() >= MAX_WAITING_ACKS
    }

    /// Whether there is a websocket.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// Whether everything sent was acknowledged.
    pub fn is_drained(&self) -> bool {
        self.outgoing.is_empty()
    }

    /// Since when the oldest message waits for its acknowledgement on this connection.
    pub fn waits_since(&self) -> Option<Instant> {
        let (since, _) = self.entry(self.base)?.on_this_connection?;
        Some(since)
    }

    /// When the agent's last message came, or since when one could have come.
    pub fn agent_heard_at(&self) -> Instant {
        self.agent_heard_at
    }

    /// Whether the service has said, since then, that the agent is away.
    pub fn is_peer_away(&self) -> bool {
        self.peer_away
    }

    /// A websocket is open and its first frame is sent: everything unacknowledged goes out again, in order.
    pub fn connected(&mut self, now: Instant) {
        self.connected = true;
        self.paused_since = None;
        self.timeouts_in_a_row = 0;
        self.restart_give_up(now);
        self.newest_acked_send = None;
        self.sent_order.clear();
        self.in_flight = 0;
        self.window.restart();
        self.round_trip.restart();
        self.lost.clear();
        for (sequence, entry) in (self.base..).zip(&mut self.outgoing) {
            if let Some(entry) = entry {
                entry.in_flight = false;
                (entry.on_this_connection, entry.suspected) = (None, None);
                if sequence < self.next_unsent {
                    self.lost.insert(sequence);
                }
            }
        }
        if let Some(&(last, ..)) = self.recently_received.back() {
            let received = mem::take(&mut self.recently_received);
            for &(at, sequence, id) in &received {
                if at + REACKNOWLEDGED.1 >= last {
                    self.acknowledge(sequence, id, now);
                }
            }
            self.recently_received = received;
        }
    }

    /// Nothing of the agent could be heard until now.
    pub fn restart_give_up(&mut self, now: Instant) {
        (self.last_progress, self.agent_heard_at) = (now, now);
    }

    fn on_agent(&mut self, now: Instant) {
        (self.agent_heard_at, self.peer_away) = (now, false);
        self.paused_since = None;
    }

    /// The websocket is gone; nothing is transmitted until [`Channel::connected`].
    pub fn disconnected(&mut self) {
        self.connected = false;
        self.acks.clear();
    }

    /// Takes one frame from the websocket. Malformed ones are counted and dropped: a retransmission heals them.
    ///
    /// # Errors
    /// What was wrong with the frame, for the debug log.
    pub fn on_message(&mut self, frame: &Bytes, now: Instant) -> Result<(), DecodeError> {
        let message = AgentMessage::decode(frame).inspect_err(|_| self.stats.malformed += 1)?;
        match message.message_type {
            MessageType::OutputStreamData => {
                self.on_agent(now);
                self.on_stream_data(&message, now);
            }
            MessageType::Acknowledge => {
                self.on_agent(now);
                match payload::acknowledged_sequence_number(&message.payload) {
                    Ok(sequence) => self.on_acknowledge(sequence, now),
                    Err(_) => self.stats.malformed += 1,
                }
            }
            MessageType::ChannelClosed => {
                self.events.push_back(Event::ChannelClosed(ChannelClosed::decode(&message.payload).output));
            }
            MessageType::PausePublication => {
                self.peer_away = true;
                if self.paused_since.is_none() {
                    self.paused_since = Some(now);
                    self.window.lost(&self.round_trip, now);
                }
            }
            MessageType::StartPublication => (self.paused_since, self.peer_away) = (None, false),
            MessageType::InputStreamData | MessageType::Unknown => {}
        }
        self.assert_invariants();
        Ok(())
    }

    /// The next event for the layer above.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next frame for the websocket: acknowledgements, then what was lost, then what is new.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Bytes> {
        if !self.connected {
            return None;
        }
        if let Some(ack) = self.acks.pop_front() {
            return Some(ack);
        }
        if self.paused_since.is_some() {
            return None;
        }
        let has_unsent = self.next_unsent < self.end();
        let proves = has_unsent && self.wants_proof(now);
        let sequence = match self.lost.first() {
            Some(&sequence) if !proves => sequence,
            _ if has_unsent => self.next_unsent,
            _ => return None,
        };
        // The oldest message goes out whatever the window says: the timer is its own, and all else may wait for it. So does
        // what can prove it delivered.
        if sequence != self.base && !proves && self.in_flight >= self.window.size() {
            return None;
        }
        self.lost.remove(&sequence);
        let frame = self.transmit(sequence, now);
        self.assert_invariants();
        frame
    }

    /// When [`Channel::on_timeout`] wants to be called.
    pub fn next_timeout(&self) -> Option<Instant> {
        if !self.connected {
            return None;
        }
        // A pause has its end even when nothing waits here: what waits above is not handed down meanwhile.
        let next = match self.paused_since {
            Some(since) => Some(since + PAUSE_PROBE),
            None => self.head_in_flight_since().map(|sent| sent + self.timeout()),
        };
        let give_up = (!self.outgoing.is_empty()).then(|| self.last_progress + self.options.give_up_after);
        next.into_iter().chain(give_up).min()
    }

    /// Does what is due at `now`.
    pub fn on_timeout(&mut self, now: Instant) {
        if !self.connected {
            return;
        }
        if !self.outgoing.is_empty() && now >= self.last_progress + self.options.give_up_after {
            self.events.push_back(Event::NotAcknowledging);
            self.last_progress = now;
            return;
        }
        if let Some(since) = self.paused_since {
            if now >= since + PAUSE_PROBE {
                self.paused_since = None;
                self.mark_lost(self.base);
            }
            return;
        }
        let timeout = self.timeout();
        if self.head_in_flight_since().is_none_or(|sent| now < sent + timeout) {
            return;
        }
        // Only the lowest unacknowledged message: when the agent is merely blocked, more would be waste; when more is
        // lost, its acknowledgement shows that (see `detect_losses`).
        if self.port_ready {
            self.timeouts_in_a_row += 1;
            self.window.lost(&self.round_trip, now);
        }
        self.mark_lost(self.base);
        if self.infers_delivery {
            self.mark_overdue(timeout, now);
        }
        self.assert_invariants();
    }

    fn end(&self) -> i64 {
        self.base.saturating_add(i64::try_from(self.outgoing.len()).unwrap_or(i64::MAX))
    }

    fn index(&self, sequence: i64) -> Option<usize> {
        usize::try_from(sequence.checked_sub(self.base)?).ok()
    }

    fn entry(&self, sequence: i64) -> Option<&Outgoing> {
        self.outgoing.get(self.index(sequence)?)?.as_ref()
    }

    fn entry_mut(&mut self, sequence: i64) -> Option<&mut Outgoing> {
        let index = self.index(sequence)?;
        self.outgoing.get_mut(index)?.as_mut()
    }

    fn timeout(&self) -> Duration {
        if !self.port_ready && self.entry(self.base).is_some_and(|head| head.is_output) {
            return FIRST_DATA_RTO;
        }
        let doubled = self.round_trip.timeout() * 2_u32.saturating_pow(self.timeouts_in_a_row.min(4));
        doubled.min(MAX_BACKED_OFF_RTO)
    }

    fn created_date(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.epoch.0).as_millis();
        self.epoch.1.saturating_add(u64::try_from(elapsed).unwrap_or(0))
    }

    /// Names only need to be unique within a session, so a fast generator will do.
    fn message_id(&mut self) -> Uuid {
        uuid::Builder::from_random_bytes(self.random.u128(..).to_ne_bytes()).into_uuid()
    }

    fn assert_invariants(&self) {
        debug_assert!(!matches!(self.outgoing.front(), Some(None)), "outgoing starts with an unacknowledged message");
        debug_assert!(self.stored.keys().next().is_none_or(|&first| first > self.expected));
        debug_assert!(self.base <= self.next_unsent && self.next_unsent <= self.end());
    }
}

/// As messages carry it, where 0 is not allowed.
fn millis_since_epoch(wall_clock: SystemTime) -> u64 {
    let millis = wall_clock.duration_since(SystemTime::UNIX_EPOCH).map_or(1, |since| since.as_millis().max(1));
    u64::try_from(millis).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "channel_tests.rs"]
mod tests;
