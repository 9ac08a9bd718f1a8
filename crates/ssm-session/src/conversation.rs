//! One session's protocol without a socket: channel, handshake and streams joined. Sans-IO.
//!
//! ```text
//!   ExpectHandshakeRequest ──▶ ExpectHandshakeComplete ──▶ Open ──▶ Terminating ──▶ Ended
//!            │                          │                   │            │ flag acknowledged, or 2 s
//!            └──────────────────────────┴───────────────────┴────────────┴──▶ Ended: channel_closed, a protocol
//!                                                                              error, resume given up
//! ```
//!
//! Calling contract: after any call, hand on what [`Conversation::poll_transmit`] gives, and call
//! [`Conversation::on_timeout`] at [`Conversation::next_timeout`].

mod answering;
mod end_reason;
mod options;

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

pub use self::{end_reason::EndReason, options::Options};
use crate::{
    channel::{Channel, Event},
    handshake::{self, Agent, HandshakeError},
    idle::{Idle, IdleWarning},
    load::{Availability, Condition, Load, Meter, STALLED_FROM},
    message::DecodeError,
    payload::{Flag, HandshakeComplete, PayloadType},
    readiness::Readiness,
    silence::Silence,
    smux::{
        frame::StreamId,
        mux::{Mux, StreamError},
    },
    tally::{Stall, Stalls, Tally},
    trial::{NOP, Trial},
};

/// Limit for the acknowledgement of the TerminateSession flag. The agent waits as long for its own last acknowledgements (agent
/// [`datachannel.go`], PrepareToCloseChannel).
///
/// [`datachannel.go`]: https://github.com/aws/amazon-ssm-agent/blob/1c217c89b42de51d4f4063363d8ec1f2eef56055/agent/session/datachannel/datachannel.go#L387-L403
const TERMINATE_TIMEOUT: Duration = Duration::from_secs(2);

/// The state of a session: the message or the event that it waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    ExpectHandshakeRequest { until: Instant },
    ExpectHandshakeComplete { until: Instant, agent: Agent },
    Open { agent: Agent },
    Terminating { until: Instant },
    Ended(EndReason),
}

/// The protocol state of one session. See the module for the drawing of its states and the calling contract.
#[derive(Debug)]
pub struct Conversation {
    options: Options,
    state: State,
    channel: Channel,
    mux: Mux,
    meter: Meter,
    stalls: Stalls,
    /// Websockets after the first.
    resumes: u64,
    /// Since when the session has had no stream; `None` while it has one.
    idle_since: Option<Instant>,
    idle: Idle,
    trial: Trial,
    silence: Silence,
    /// Data wait for an agent that takes them. Set by HandshakeComplete, cleared when the wait is over.
    readiness: Option<Readiness>,
    customer_message: Option<String>,
}

impl Conversation {
    /// A session before its websocket is open.
    pub fn new(options: Options, random: fastrand::Rng, now: Instant, wall_clock: SystemTime) -> Self {
        Self {
            state: State::ExpectHandshakeRequest { until: now + options.handshake_timeout },
            channel: Channel::new(&options.channel, random, now, wall_clock),
            mux: Mux::new(options.mux.clone()),
            meter: Meter::new(now),
            stalls: Stalls::default(),
            resumes: 0,
            idle_since: Some(now),
            idle: Idle::new(options.keep_alive, options.idle_timeout, now),
            trial: Trial::new(options.payload_size),
            silence: Silence::default(),
            readiness: None,
            customer_message: None,
            options,
        }
    }

    /// The agent, while the session is open.
    pub fn agent(&self) -> Option<&Agent> {
        match &self.state {
            State::Open { agent } => Some(agent),
            _ => None,
        }
    }

    /// Why the session is over; `None` while it is not.
    pub fn ended(&self) -> Option<&EndReason> {
        match &self.state {
            State::Ended(reason) => Some(reason),
            _ => None,
        }
    }

    /// Whether the session serves new streams, or why not.
    pub fn availability(&self) -> Availability {
        match self.state {
            State::Terminating { .. } | State::Ended(_) => Availability::Over,
            State::Open { .. } if !self.channel.is_connected() => Availability::Restoring,
            State::Open { .. } if self.silence.is_unresponsive() => Availability::Unresponsive,
            State::Open { .. } if self.mux.is_stuck() => Availability::Stuck,
            State::Open { .. } if self.mux.is_full() => Availability::Full,
            State::Open { .. } => Availability::Ready,
            State::ExpectHandshakeRequest { .. } | State::ExpectHandshakeComplete { .. } => Availability::Restoring,
        }
    }

    /// The facts whose change the pool is notified of.
    pub fn condition(&mut self, now: Instant) -> Condition {
        Condition {
            availability: self.availability(),
            bulk: self.meter.is_bulk(now),
            stalled: self.mux.unread() >= STALLED_FROM,
            idle: self.mux.stream_count() == 0,
        }
    }

    /// The facts by which the pool chooses among sessions.
    pub fn load(&mut self, now: Instant) -> Load {
        Load {
            condition: self.condition(now),
            streams: self.mux.stream_count(),
            active: self.mux.active_count(now),
            dialling: self.mux.is_dialling(now),
            quiet: self.meter.is_quiet(now),
            idle_since: self.idle_since,
        }
    }

    /// Takes the text of the account's administrators for the user, to be shown once.
    pub fn take_customer_message(&mut self) -> Option<String> {
        self.customer_message.take()
    }

    /// How a user of the program turns keep-alive on, see [`Options::keep_alive_advice`].
    pub fn keep_alive_advice(&self) -> Option<&str> {
        self.options.keep_alive_advice.as_deref()
    }

    /// Takes the warning that the account's idle timeout is about to end the session. There is one for each time without input.
    pub fn take_idle_warning(&mut self) -> Option<IdleWarning> {
        self.idle.take_warning()
    }

    /// Sets the account's idle timeout, once it is known.
    pub fn set_idle_timeout(&mut self, idle_timeout: Duration) {
        self.idle.set_timeout(idle_timeout);
    }

    /// The streams of the session.
    pub fn mux(&mut self) -> &mut Mux {
        &mut self.mux
    }

    /// Counts since the session was opened.
    pub fn tally(&self, now: Instant) -> Tally {
        let (stalls, stalled) = self.stalls.so_far(now);
        Tally { channel: self.channel.stats(), resumes: self.resumes, stalls, stalled }
    }

    /// Notes whether [`Conversation::is_full`]. Returns the beginning and the end of each time in which it is.
    pub fn note_full(&mut self, now: Instant) -> Option<Stall> {
        self.stalls.note(self.mux.is_full(), now)
    }

    /// Whether clients have left so much unread that the websocket must not be read.
    pub fn is_full(&self) -> bool {
        self.mux.is_full()
    }

    /// Whether the websocket may be read.
    pub fn wants_input(&self) -> bool {
        !self.mux.is_full() && !self.channel.is_clogged()
    }

    /// The websocket was not read until `now`, or the machine slept: the silence so far does not show that the agent is gone.
    pub fn reading_paused(&mut self, now: Instant) {
        self.channel.restart_give_up(now);
        self.silence.on_heard(now);
        self.mux.restart_dials(now);
    }

    /// Corrects the time of day that messages carry. The clock behind `now` stands still while the machine sleeps.
    pub fn set_wall_clock(&mut self, now: Instant, wall_clock: SystemTime) {
        self.channel.set_wall_clock(now, wall_clock);
    }

    /// A websocket is open and its first frame is sent.
    pub fn connected(&mut self, now: Instant) {
        self.resumes += u64::from(self.agent().is_some());
        // A large message may be the reason why the old websocket was closed.
        if let Some(sequence) = self.trial.fail() {
            self.channel.replace(sequence, NOP, now);
        }
        // ResumeSession restarts the idle timeout:
        // https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_ResumeSession.html
        self.idle.on_input(now);
        self.channel.connected(now);
        self.silence.on_heard(now);
        self.mux.restart_dials(now);
    }

    /// The websocket is gone. A session that is terminating is over then.
    pub fn disconnected(&mut self) {
        self.channel.disconnected();
        if matches!(self.state, State::Terminating { .. }) {
            self.end(EndReason::Terminated);
        }
    }

    /// Until when a lost connection is worth resuming, at most `deadline`; `None` if the session is over. A session that is not
    /// open yet has only the rest of its handshake timeout.
    pub fn worth_resuming_until(&self, deadline: Instant) -> Option<Instant> {
        match &self.state {
            State::ExpectHandshakeRequest { until } | State::ExpectHandshakeComplete { until, .. } => {
                Some(deadline.min(*until))
            }
            State::Open { .. } => Some(deadline),
            State::Terminating { .. } | State::Ended(_) => None,
        }
    }

    /// Since when the oldest message waits for its acknowledgement on this connection.
    pub fn waits_since(&self) -> Option<Instant> {
        self.channel.waits_since()
    }

    /// Takes one frame of the websocket.
    ///
    /// # Errors
    /// [`DecodeError`], for the debug log: the frame was dropped, and the session goes on.
    pub fn on_frame(&mut self, frame: &Bytes, now: Instant) -> Result<(), DecodeError> {
        self.channel.on_message(frame, now)?;
        self.silence.on_heard(self.channel.agent_heard_at());
        self.handle_events(now);
        Ok(())
    }

    /// The next frame for the websocket.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Bytes> {
        self.idle_since = (self.mux.stream_count() == 0).then(|| self.idle_since.unwrap_or(now));
        self.check_readiness(now);
        if self.readiness.is_none() && matches!(self.state, State::Open { .. } | State::Terminating { .. }) {
            while self.mux.has_output() && self.channel.has_room() {
                let Some(payload) = self.mux.poll_output(self.trial.payload_size(), now) else { break };
                let length = payload.len();
                self.meter.moved(length, now);
                let sequence = self.channel.send(PayloadType::Output, payload, now);
                self.mux.on_sent(sequence);
                self.idle.on_input(now);
                self.silence.on_data();
                if self.channel.is_port_ready()
                    && let Some(payload) = self.trial.payload(length)
                {
                    let sequence = self.channel.send(PayloadType::Output, payload, now);
                    self.trial.start(sequence, now);
                }
            }
        }
        self.channel.poll_transmit(now)
    }

    /// When [`Conversation::on_timeout`] has to be called.
    pub fn next_timeout(&self) -> Option<Instant> {
        let own = match &self.state {
            State::ExpectHandshakeRequest { until }
            | State::ExpectHandshakeComplete { until, .. }
            | State::Terminating { until } => Some(*until),
            State::Open { .. } => None,
            State::Ended(_) => return None,
        };
        let connected = self.channel.is_connected();
        let trial = self.trial.next_timeout().filter(|_| connected);
        let silence = self.silence_at().filter(|_| connected);
        let readiness = self.readiness.as_ref().map(|readiness| readiness.next_timeout(self.mux.has_output()));
        let due = [self.keep_alive_at(), self.idle_warning_at(), trial, readiness, silence];
        let below = [self.channel.next_timeout(), self.mux.next_timeout()];
        due.into_iter().chain(below).chain([own]).flatten().min()
    }

    /// Does what is due at `now`.
    pub fn on_timeout(&mut self, now: Instant) {
        self.check_readiness(now);
        self.channel.on_timeout(now);
        self.mux.on_timeout(now);
        self.handle_events(now);
        match &self.state {
            State::ExpectHandshakeRequest { until } | State::ExpectHandshakeComplete { until, .. } if now >= *until => {
                self.end(EndReason::HandshakeTimeout(self.options.handshake_timeout));
            }
            State::Open { .. } => {
                let probes = self.probe_at().is_some_and(|at| now >= at);
                if probes || self.channel.wants_probe(now) || self.keep_alive_at().is_some_and(|at| now >= at) {
                    self.channel.send(PayloadType::Output, NOP, now);
                    self.idle.on_input(now);
                    self.silence.on_probe();
                }
                self.idle.check(self.mux.stream_count(), now);
                self.check_silence(now);
            }
            State::Terminating { until } if now >= *until => self.end(EndReason::Terminated),
            _ => {}
        }
    }

    /// Opens a stream; the agent dials when its SYN arrives. `None` unless the session is [`Availability::Ready`].
    pub fn open_stream(&mut self, now: Instant) -> Option<StreamId> {
        if self.availability() != Availability::Ready {
            return None;
        }
        self.idle_since = None;
        self.mux.open(now)
    }

    /// Opens a stream in any session that is open: also while its connection is lost, while it is full, and while a dial hangs.
    /// For few and short streams. `None` if the session is not open.
    pub fn open_urgent_stream(&mut self, now: Instant) -> Option<StreamId> {
        self.agent()?;
        self.idle_since = None;
        self.mux.open_urgent(now)
    }

    /// When the next NOP is due that keeps the session from the idle timeout.
    fn keep_alive_at(&self) -> Option<Instant> {
        let old_agent = !self.agent()?.features.keep_alive_off();
        self.idle.keep_alive_at(old_agent, self.mux.stream_count(), self.channel.is_drained())
    }

    /// When the warning about the account's idle timeout is due.
    fn idle_warning_at(&self) -> Option<Instant> {
        self.agent().and_then(|_| self.idle.warning_at(self.mux.stream_count()))
    }

    /// Ends the session: sends the agent a flag and waits up to 2 s for its acknowledgement.
    pub fn terminate(&mut self, now: Instant) {
        match &self.state {
            State::Open { agent } if agent.features.terminate_flag() => {
                // Once only: the agent passes the flag on over an unbuffered channel, where a second one would block it.
                self.channel.send(PayloadType::Flag, Flag::TerminateSession.encode(), now);
                self.state = State::Terminating { until: now + TERMINATE_TIMEOUT };
            }
            State::Terminating { .. } | State::Ended(_) => {}
            _ => self.end(EndReason::Terminated),
        }
    }

    /// The session is over: its streams fail with the reason.
    pub fn end(&mut self, reason: EndReason) {
        if self.ended().is_none() {
            self.mux.end(StreamError::SessionEnded(reason.to_string()));
            self.state = State::Ended(reason);
        }
    }

    fn handle_events(&mut self, now: Instant) {
        let channel = &self.channel;
        let (acknowledged, overtaken) = (|it| channel.is_acknowledged(it), |it| channel.is_overtaken(it));
        if let Some(sequence) = self.trial.check(acknowledged, overtaken, now) {
            self.channel.replace(sequence, NOP, now);
        }
        self.check_readiness(now);
        let channel = &self.channel;
        self.mux.on_acknowledged(|it| channel.is_acknowledged(it), now);
        while let Some(event) = self.channel.poll_event() {
            match event {
                Event::Payload(payload_type, payload) => self.on_payload(payload_type, payload, now),
                // We requested this close; report it as a normal end.
                Event::ChannelClosed(_) if matches!(self.state, State::Terminating { .. }) => {
                    self.end(EndReason::Terminated);
                }
                Event::ChannelClosed(output) => self.end(EndReason::ChannelClosed(output)),
                Event::NotAcknowledging => self.end(EndReason::NotAcknowledging),
            }
        }
        if matches!(self.state, State::Terminating { .. }) && self.channel.is_drained() {
            self.end(EndReason::Terminated);
        }
    }

    /// Finds out whether the agent takes data, once there are data for it.
    fn check_readiness(&mut self, now: Instant) {
        let Some(readiness) = &mut self.readiness else { return };
        if readiness.is_over(|it| self.channel.is_overtaken(it), now) {
            self.readiness = None;
            self.channel.set_discards_data(false);
        } else if self.mux.has_output() && readiness.wants_probe(now) {
            readiness.on_probe(self.channel.send(PayloadType::Output, NOP, now), now);
        }
    }

    fn on_payload(&mut self, payload_type: PayloadType, payload: Bytes, now: Instant) {
        match (payload_type, &self.state) {
            (PayloadType::HandshakeRequest, State::ExpectHandshakeRequest { until }) => {
                let until = *until;
                let (response, outcome) = handshake::respond(&payload);
                let response = serde_json::to_vec(&response).expect("strings and numbers always serialize");
                self.channel.send(PayloadType::HandshakeResponse, response.into(), now);
                match outcome {
                    Ok(agent) => self.state = State::ExpectHandshakeComplete { until, agent },
                    Err(error) => self.end(EndReason::Handshake(error)),
                }
            }
            (PayloadType::HandshakeComplete, State::ExpectHandshakeComplete { agent, .. }) => {
                let agent = agent.clone();
                let complete: HandshakeComplete = serde_json::from_slice(&payload).unwrap_or_default();
                self.customer_message = Some(complete.customer_message).filter(|text| !text.is_empty());
                if !agent.features.acknowledges_duplicates() {
                    self.channel.infer_delivery();
                }
                self.idle.on_input(now);
                self.idle_since = Some(now);
                self.channel.set_discards_data(true);
                self.readiness = Some(Readiness::new(self.channel.round_trip(), now));
                self.state = State::Open { agent };
            }
            (PayloadType::Output, State::ExpectHandshakeRequest { .. } | State::ExpectHandshakeComplete { .. }) => {
                self.end(EndReason::Handshake(HandshakeError::NoHandshake));
            }
            (PayloadType::Output, State::Open { .. } | State::Terminating { .. }) => {
                self.meter.moved(payload.len(), now);
                self.silence.on_data();
                if let Err(error) = self.mux.on_input(payload, now) {
                    self.end(EndReason::Smux(error));
                }
            }
            (PayloadType::Flag, State::Open { .. }) if Flag::decode(&payload) == Some(Flag::ConnectToPortError) => {
                self.mux.on_dial_failed();
            }
            // The channel has acknowledged it. A Port session does not act on it.
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "conversation_tests.rs"]
mod tests;
