//! The agent of one session, faithful to amazon-ssm-agent in what a client can see.
//!
//! ```text
//!  ExpectResponse ──HandshakeResponse──▶ Opening ──10 ms──▶ Open ──▶ end: flag, failure, or the service's word
//!    data: acked, dropped                 data: not acked     data: smux
//! ```
//!
//! Source: `agent/session/datachannel/datachannel.go`, `agent/session/plugins/port/port.go` and `port_mux.go`. Its
//! habits that make clients hang are kept: see each place.

mod input;

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use serde_json::json;
use ssm_session::{
    features::{AgentFeatures, Version},
    payload::{Flag, PayloadType},
    smux::frame::{Command, Header, StreamId},
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior},
};

use super::{
    network::Destination,
    options::AgentOptions,
    reliability::{Receiver, Sender},
    session::{Counters, Ended, Link},
    smux_server::{Bucket, Event, SmuxServer},
    world::World,
};

/// StreamDataPayloadSize (`config.go`).
const PAYLOAD: usize = 1024;
/// ResendSleepInterval (`config.go`).
const RESEND_TICK: Duration = Duration::from_millis(100);
/// One message with its sleep of a millisecond, as measured with the real agent: 875 messages a second.
const PACE: Duration = Duration::from_micros(1143);
/// Between HandshakeComplete and the end of a session whose destination is refused, as measured with the real agent.
const REFUSES_AFTER: Duration = Duration::from_millis(2);
/// Bytes read from databases and not yet sent, before reading stops.
const PENDING: usize = 256 << 10;

/// Starts the agent of a session. It ends with the session, or ends the session.
pub(super) fn spawn(
    world: &Arc<World>,
    id: &str,
    link: &Arc<Link>,
    destination: Destination,
    properties: Vec<(String, String)>,
) {
    let agent = Agent::new(world, link, destination, properties);
    let (world, id, link) = (Arc::clone(world), id.to_string(), Arc::clone(link));
    let (over, dead) = (link.over.clone(), link.agent_dead.clone());
    let tasks = world.tasks.clone();
    tasks.spawn(async move {
        let ended = tokio::select! {
            () = over.cancelled() => return,
            () = dead.cancelled() => None,
            ended = agent.run() => Some(ended),
        };
        let Some(ended) = ended else {
            // The rest of the input is not read, and the service accepts that.
            let mut lost = VecDeque::new();
            loop {
                tokio::select! {
                    () = over.cancelled() => return,
                    () = link.up.take(&mut lost) => lost.clear(),
                }
            }
        };
        let output = match &ended {
            Ended::Failed(text) => text.clone(),
            Ended::ByApi | Ended::ByFlag => String::new(),
        };
        world.sessions.end(&id, ended, &output);
        world.touch();
    });
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    ExpectResponse {
        until: Instant,
    },
    Opening {
        deaf_until: Instant,
        until: Instant,
    },
    Open,
    /// A second HandshakeResponse blocks the reader of the real agent for ever.
    Wedged,
}

struct Agent {
    world: Arc<World>,
    link: Arc<Link>,
    options: AgentOptions,
    features: AgentFeatures,
    properties: Vec<(String, String)>,
    destination: Destination,
    started: Instant,
    phase: Phase,
    random: fastrand::Rng,
    sender: Sender,
    receiver: Receiver,
    smux: SmuxServer,
    bucket: Arc<Bucket>,
    events: mpsc::Receiver<Event>,
    /// Set while the client is there, as far as the agent knows.
    active: bool,
    present: watch::Receiver<bool>,
    inbox: VecDeque<Bytes>,
    /// smux bytes that wait to be cut into messages.
    pending: BytesMut,
    /// Messages to hand to the service at the end of this round.
    out: Vec<Bytes>,
    /// When the next message may be made, if paced.
    next_message: Instant,
    /// When smux sends the next NOP and looks whether anything came, where keep-alive is on.
    keep_alive: Option<(Instant, Instant)>,
}

impl Agent {
    fn new(world: &Arc<World>, link: &Arc<Link>, destination: Destination, properties: Vec<(String, String)>) -> Self {
        let options = world.lock().agent.clone();
        let (smux, events) = SmuxServer::start(world, link, destination.clone());
        let now = Instant::now();
        Self {
            features: AgentFeatures::of(Version::parse(&options.version)),
            phase: Phase::ExpectResponse { until: now + options.handshake_timeout },
            options,
            world: Arc::clone(world),
            link: Arc::clone(link),
            properties,
            destination,
            started: now,
            random: world.random(),
            sender: Sender::new(world.random()),
            receiver: Receiver::default(),
            bucket: smux.bucket(),
            smux,
            events,
            active: true,
            present: link.present.subscribe(),
            inbox: VecDeque::new(),
            pending: BytesMut::new(),
            out: Vec::new(),
            next_message: now,
            keep_alive: None,
        }
    }

    /// Runs until the agent ends the session.
    async fn run(mut self) -> Ended {
        let mut resend = tokio::time::interval(RESEND_TICK);
        resend.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut events = Vec::new();
        self.request_handshake();
        loop {
            // The real agent's reader handles one message after the other; a full bucket stops it, acks and all.
            while self.bucket.has_tokens()
                && self.phase != Phase::Wedged
                && let Some(frame) = self.inbox.pop_front()
            {
                if let Err(ended) = self.on_frame(&frame) {
                    self.flush();
                    return ended;
                }
            }
            let blocked = self.cut_output();
            self.flush();

            let wedged = self.phase == Phase::Wedged;
            let pulls = self.active && self.pending.len() < PENDING;
            let timer = self.next_timer();
            tokio::select! {
                () = self.link.up.take(&mut self.inbox), if self.inbox.is_empty() && !wedged => {}
                () = self.bucket.refilled(), if !self.inbox.is_empty() && !wedged => {}
                _ = self.events.recv_many(&mut events, 8), if pulls => {
                    for event in events.drain(..) {
                        self.on_event(event);
                    }
                }
                () = self.link.down.room(), if blocked == Blocked::Room => {}
                () = tokio::time::sleep_until(self.next_message), if blocked == Blocked::Pace => {}
                _ = resend.tick() => self.on_resend_tick(),
                () = tokio::time::sleep_until(timer.unwrap_or_else(far)), if timer.is_some() => {
                    if let Err(ended) = self.on_timer() {
                        return ended;
                    }
                }
                // The service lives as long as the session.
                _ = self.present.changed() => self.active = *self.present.borrow_and_update(),
            }
        }
    }

    fn request_handshake(&mut self) {
        let mut properties: serde_json::Map<_, _> =
            self.properties.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        properties.insert("type".into(), json!("LocalPortForwarding"));
        let request = json!({
            "AgentVersion": self.options.version,
            "RequestedClientActions": [{
                "ActionType": "SessionType",
                "ActionParameters": { "SessionType": "Port", "Properties": properties },
            }],
        });
        self.send(PayloadType::HandshakeRequest, request.to_string().into());
    }

    /// Makes a message and sends it, unless the client is away: then retransmission will.
    fn send(&mut self, payload_type: PayloadType, payload: Bytes) {
        let frame = self.sender.message(payload_type, payload, std::time::Instant::now());
        Counters::add(&self.link.counters.sent, 1);
        if self.active {
            self.out.push(frame);
        }
    }

    fn flush(&mut self) {
        if !self.out.is_empty() {
            self.link.down.push(self.out.drain(..));
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Data(stream, data) => {
                let length = u16::try_from(data.len()).expect("a frame's data is at most 32 KiB");
                Header { command: Command::Psh, length, stream }.encode(&mut self.pending);
                self.pending.extend_from_slice(&data);
            }
            Event::Fin(stream) => {
                self.smux.forget(stream);
                Header::control(Command::Fin, stream).encode(&mut self.pending);
            }
            // It does not go through smux, so it overtakes what is pending; it does not say for which stream it is.
            Event::DialFailed => self.send(PayloadType::Flag, Flag::ConnectToPortError.encode()),
        }
    }

    /// transferDataToMgs: reads at most 1,024 bytes, sends them, and sleeps if paced. Says what it waits for.
    fn cut_output(&mut self) -> Blocked {
        if !self.active || self.pending.is_empty() {
            return Blocked::No;
        }
        if !self.link.down.has_room() {
            return Blocked::Room;
        }
        let now = Instant::now();
        // Timers are a millisecond coarse: what they are late is caught up, but not what idleness left.
        self.next_message = self.next_message.max(now.checked_sub(4 * PACE).unwrap_or(now));
        for _ in 0..PENDING / PAYLOAD {
            if self.pending.is_empty() {
                return Blocked::No;
            }
            if self.options.paced {
                if self.next_message > now {
                    return Blocked::Pace;
                }
                self.next_message += PACE;
            } else if self.sender.outstanding() >= self.options.window {
                return Blocked::Acknowledgements;
            }
            let payload = self.pending.split_to(PAYLOAD.min(self.pending.len())).freeze();
            self.send(PayloadType::Output, payload);
        }
        Blocked::Room
    }

    /// ResendStreamDataMessageScheduler: nothing while the client is away.
    fn on_resend_tick(&mut self) {
        if self.active {
            let frames = self.sender.resend(std::time::Instant::now(), self.options.resends);
            Counters::add(&self.link.counters.resent, frames.len() as u64);
            self.out.extend(frames);
        }
    }

    fn next_timer(&self) -> Option<Instant> {
        match self.phase {
            Phase::ExpectResponse { until } | Phase::Opening { until, .. } => Some(until),
            Phase::Open => self.keep_alive.map(|(nop, look)| nop.min(look)),
            Phase::Wedged => None,
        }
    }

    fn on_timer(&mut self) -> Result<(), Ended> {
        let now = Instant::now();
        match self.phase {
            Phase::ExpectResponse { until } if now >= until => Err(Ended::Failed(
                "Handshake timed out. Please ensure that you have the latest version of the session manager plugin."
                    .into(),
            )),
            Phase::Opening { until, .. } if now >= until => {
                if let Some(text) = self.refusal() {
                    return Err(Ended::Failed(text));
                }
                self.phase = Phase::Open;
                self.link.ready.store(true, Ordering::Relaxed);
                self.world.touch();
                Ok(())
            }
            Phase::Open => self.on_keep_alive(now),
            Phase::ExpectResponse { .. } | Phase::Opening { .. } | Phase::Wedged => Ok(()),
        }
    }

    /// The reason for refusing the destination (`port.go`, validateParameters), which is the last message of the session.
    fn refusal(&self) -> Option<String> {
        let host = self.properties.iter().find(|(name, _)| name == "host").map(|(_, host)| host.as_str());
        let host = host.unwrap_or_default();
        match self.destination {
            Destination::Forbidden => Some(format!("Forwarding to IP address {host} is forbidden.")),
            Destination::Unresolvable => Some(format!("lookup {host} on 10.0.0.2:53: no such host")),
            Destination::Refused(words) => Some(words.to_owned()),
            Destination::Address(_) | Destination::BlackHole => None,
        }
    }

    /// smux keepalive: a NOP each interval; when nothing at all came for a whole timeout, the session ends.
    fn on_keep_alive(&mut self, now: Instant) -> Result<(), Ended> {
        let Some((nop, look)) = &mut self.keep_alive else { return Ok(()) };
        if now >= *nop {
            *nop = now + self.options.keep_alive_interval;
            Header::control(Command::Nop, StreamId(0)).encode(&mut self.pending);
        }
        if now >= *look {
            *look = now + self.options.keep_alive_timeout;
            if !self.smux.heard() && self.bucket.has_tokens() {
                return Err(Ended::Failed("Session ended: smux keep-alive timed out".into()));
            }
        }
        Ok(())
    }
}

/// The obstacle for the next message of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blocked {
    No,
    Room,
    Pace,
    Acknowledgements,
}

fn far() -> Instant {
    Instant::now() + Duration::from_hours(1)
}
