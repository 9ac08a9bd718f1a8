//! The channel with a model of the agent, over a model of the service, in simulated time.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use uuid::Uuid;

use super::*;
use crate::samples;

impl Channel {
    /// Payload bytes unacknowledged and stored out of order.
    pub(in super::super) fn held(&self) -> (usize, usize) {
        (self.sender.unacknowledged(), self.receiver.stored().1)
    }
}

/// The faults on the way, in each direction.
#[derive(Debug, Clone, Copy, Default)]
struct Faults {
    loss: f64,
    acks_only: bool,
}

/// The agent's half of the channel as in its `datachannel.go`: an acknowledgement for each message, and the oldest message resent
/// every 100 ms.
struct Agent {
    answers_duplicates: bool,
    ready_at: Instant,
    expected: i64,
    stored: BTreeMap<i64, Bytes>,
    received: Vec<u8>,
    outgoing: BTreeMap<i64, (Bytes, Instant)>,
    next: i64,
    next_tick: Instant,
}

impl Agent {
    fn message(sequence_number: i64, payload: Bytes) -> AgentMessage {
        samples::message(MessageType::OutputStreamData, sequence_number, Some(1), payload)
    }

    fn send(&mut self, payload: Bytes, now: Instant) -> Bytes {
        let frame = Self::message(self.next, payload).encode();
        self.outgoing.insert(self.next, (frame.clone(), now));
        self.next += 1;
        frame
    }

    fn on_message(&mut self, frame: &Bytes, now: Instant) -> Option<Bytes> {
        let message = AgentMessage::decode(frame).unwrap();
        if message.message_type == MessageType::Acknowledge {
            self.outgoing.remove(&payload::acknowledged_sequence_number(&message.payload).unwrap());
            return None;
        }
        let sequence = message.sequence_number;
        if sequence < self.expected {
            if !self.answers_duplicates {
                return None;
            }
        } else if sequence > self.expected {
            self.stored.insert(sequence, message.payload.clone());
        } else if now < self.ready_at {
            return None;
        } else {
            self.received.extend_from_slice(&message.payload);
            self.expected += 1;
            while let Some(payload) = self.stored.remove(&self.expected) {
                self.received.extend_from_slice(&payload);
                self.expected += 1;
            }
        }
        let id = Uuid::from_u128(7);
        Some(payload::acknowledge(MessageType::InputStreamData, message.message_id, sequence, id, 1).encode())
    }

    fn tick(&mut self, now: Instant) -> Option<Bytes> {
        if now < self.next_tick {
            return None;
        }
        self.next_tick = now + Duration::from_millis(100);
        let (frame, sent) = self.outgoing.values_mut().next()?;
        (now >= *sent + Duration::from_millis(200)).then(|| {
            *sent = now;
            frame.clone()
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum To {
    Agent,
    Client,
}

/// Client, agent and the service between them.
struct World {
    now: Instant,
    start: Instant,
    random: fastrand::Rng,
    faults: Faults,
    delay: Duration,
    channel: Channel,
    agent: Agent,
    wire: BinaryHeap<Reverse<(Instant, u64, To, Bytes)>>,
    sent: u64,
    received: Vec<u8>,
    closed: Option<String>,
    not_acknowledging: bool,
    largest_window: usize,
}

impl World {
    fn new(seed: u64, faults: Faults) -> Self {
        Self::with_options(&Options::default(), seed, faults)
    }

    fn with_options(options: &Options, seed: u64, faults: Faults) -> Self {
        let now = Instant::now();
        let mut random = fastrand::Rng::with_seed(seed);
        let mut channel = Channel::new(options, random.fork(), now, SystemTime::now());
        channel.connected(now);
        let agent = Agent {
            answers_duplicates: true,
            ready_at: now + Duration::from_millis(10),
            expected: 0,
            stored: BTreeMap::new(),
            received: Vec::new(),
            outgoing: BTreeMap::new(),
            next: 0,
            next_tick: now,
        };
        Self {
            now,
            start: now,
            delay: Duration::from_millis(random.u64(0..40)),
            random,
            faults,
            channel,
            agent,
            wire: BinaryHeap::new(),
            sent: 0,
            received: Vec::new(),
            closed: None,
            not_acknowledging: false,
            largest_window: 0,
        }
    }

    fn put(&mut self, to: To, frame: &Bytes) {
        let faults = self.faults;
        let applies = !faults.acks_only || frame.starts_with(b"\0\0\0\x74acknowledge");
        if !(applies && self.random.f64() < faults.loss) {
            self.sent += 1;
            self.wire.push(Reverse((self.now + self.delay, self.sent, to, frame.clone())));
        }
    }

    /// Advances to the next event, at most to `until`.
    fn step(&mut self, until: Instant) {
        while let Some(frame) = self.channel.poll_transmit(self.now) {
            self.put(To::Agent, &frame);
        }
        self.largest_window = self.largest_window.max(self.channel.sender.in_flight());
        let next =
            [self.wire.peek().map(|Reverse((at, ..))| *at), self.channel.next_timeout(), Some(self.agent.next_tick)];
        self.now = next.into_iter().flatten().min().map_or(until, |at| at.clamp(self.now, until));
        while let Some(Reverse((at, _, to, frame))) = self.wire.pop() {
            if at > self.now {
                self.wire.push(Reverse((at, 0, to, frame)));
                break;
            }
            match to {
                To::Agent => {
                    if let Some(ack) = self.agent.on_message(&frame, self.now) {
                        self.put(To::Client, &ack);
                    }
                }
                To::Client => {
                    let _ = self.channel.on_message(&frame, self.now);
                }
            }
        }
        if let Some(frame) = self.agent.tick(self.now) {
            self.put(To::Client, &frame);
        }
        self.channel.on_timeout(self.now);
        while let Some(event) = self.channel.poll_event() {
            match event {
                Event::Payload(_, payload) => self.received.extend_from_slice(&payload),
                Event::ChannelClosed(output) => self.closed = Some(output),
                Event::NotAcknowledging => self.not_acknowledging = true,
            }
        }
    }

    fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.step(until);
        }
    }

    /// Sends `up` and `down` in random pieces while time goes on, then waits until both have arrived.
    fn exchange(&mut self, up: &[u8], down: &[u8]) {
        let (mut up_left, mut down_left) = (up, down);
        let limit = self.now + Duration::from_hours(1);
        while self.agent.received != up || self.received != down {
            assert!(
                self.now < limit,
                "stuck: {} of {} up, {} of {} down, {:?}",
                self.agent.received.len(),
                up.len(),
                self.received.len(),
                down.len(),
                self.channel.stats()
            );
            if !up_left.is_empty() && self.channel.has_room() {
                let (piece, rest) = up_left.split_at(self.random.usize(1..=1024).min(up_left.len()));
                self.channel.send(PayloadType::Output, Bytes::copy_from_slice(piece), self.now);
                up_left = rest;
            }
            if !down_left.is_empty() {
                let (piece, rest) = down_left.split_at(self.random.usize(1..=1024).min(down_left.len()));
                let frame = self.agent.send(Bytes::copy_from_slice(piece), self.now);
                self.put(To::Client, &frame);
                down_left = rest;
            }
            self.step(self.now + Duration::from_millis(1));
        }
        assert!(self.largest_window <= 1 << 20);
    }
}

fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..length).map(|_| random.u8(..)).collect()
}

#[test]
fn clean_path_needs_no_retransmission_after_the_port_opened() {
    for seed in 0..20 {
        let mut world = World::new(seed, Faults::default());
        world.agent.ready_at = world.now;
        world.delay = Duration::from_millis(5);
        world.exchange(&bytes(seed, 200_000), &bytes(!seed, 20_000));
        assert_eq!(world.channel.stats(), Stats::default(), "seed {seed}");
    }
}

#[test]
fn first_message_ignored_by_the_opening_port_arrives_within_50_ms() {
    let mut world = World::new(1, Faults::default());
    world.delay = Duration::from_millis(1);
    world.exchange(b"SSLRequest", b"");
    assert!(world.now - world.start < Duration::from_millis(50), "{:?}", world.now - world.start);
}

#[test]
fn loss_of_one_percent_is_repaired_without_waiting_for_timeouts() {
    let mut world = World::new(3, Faults { loss: 0.01, ..Faults::default() });
    world.delay = Duration::from_millis(20);
    world.exchange(&bytes(3, 2_000_000), b"");
    let elapsed = world.now - world.start;
    assert!(elapsed < Duration::from_secs(10), "{elapsed:?}");
}

#[test]
fn delivery_is_inferred_for_agents_that_never_repeat_an_acknowledgement() {
    for seed in 0..50 {
        let mut world = World::new(seed, Faults { loss: 0.1, acks_only: true });
        world.agent.answers_duplicates = false;
        world.channel.infer_delivery();
        world.exchange(&bytes(seed, 20_000), b"an answer shows that the port is open");
        let limit = world.now + Duration::from_mins(10);
        while !world.channel.is_drained() {
            assert!(world.now < limit, "seed {seed}: never drained");
            if world.channel.wants_probe(world.now) {
                world.channel.send(PayloadType::Output, Bytes::from_static(b"nop"), world.now);
            }
            world.step(limit);
        }
        assert!(!world.not_acknowledging);
    }
}

#[test]
fn last_acknowledgements_are_repeated_after_a_reconnect() {
    let mut world = World::new(5, Faults::default());
    world.delay = Duration::from_millis(20);
    for piece in bytes(5, 100_000).chunks(1000) {
        let frame = world.agent.send(Bytes::copy_from_slice(piece), world.now);
        world.put(To::Client, &frame);
    }
    world.run_for(Duration::from_millis(21));
    assert_eq!(world.received.len(), 100_000);
    world.wire.clear();
    world.channel.disconnected();
    assert_eq!(world.agent.outgoing.len(), 100, "every acknowledgement was lost with the socket");
    world.channel.connected(world.now);
    world.run_for(Duration::from_millis(60));
    assert_eq!(world.agent.outgoing.len(), 0);
}

/// A message of the service itself.
fn service(message_type: MessageType) -> Bytes {
    AgentMessage { message_type, ..Agent::message(0, Bytes::from_static(b"{}")) }.encode()
}

#[test]
fn pause_ends_by_start_publication_by_a_message_or_by_a_probe() {
    let mut world = World::new(9, Faults::default());
    let now = world.now;
    world.channel.on_message(&service(MessageType::PausePublication), now).unwrap();
    assert!(!world.channel.has_room());
    world.channel.send(PayloadType::Output, Bytes::from_static(b"a"), now);
    assert_eq!(world.channel.poll_transmit(now), None);
    world.channel.on_message(&service(MessageType::StartPublication), now).unwrap();
    assert!(world.channel.poll_transmit(now).is_some());

    world.channel.on_message(&service(MessageType::PausePublication), now).unwrap();
    world.channel.send(PayloadType::Output, Bytes::from_static(b"b"), now);
    world.channel.on_message(&Agent::message(0, Bytes::from_static(b"x")).encode(), now).unwrap();
    assert!(world.channel.poll_transmit(now).is_some(), "the acknowledgement");
    assert!(world.channel.poll_transmit(now).is_some(), "the message: any message of the agent ends the pause");

    world.channel.on_message(&service(MessageType::PausePublication), now).unwrap();
    assert_eq!(world.channel.poll_transmit(now), None);
    let probe = world.channel.next_timeout().unwrap();
    assert_eq!(probe, now + PAUSE_PROBE);
    world.channel.on_timeout(probe);
    assert!(world.channel.poll_transmit(probe).is_some(), "the oldest message, again");
}

#[test]
fn pause_ends_by_itself_when_no_message_waits_in_the_channel() {
    let now = Instant::now();
    let mut channel = Channel::new(&Options::default(), fastrand::Rng::with_seed(1), now, SystemTime::now());
    channel.connected(now);
    channel.on_message(&service(MessageType::PausePublication), now).unwrap();
    assert!(!channel.has_room());
    let probe = channel.next_timeout().expect("bytes that wait above must not wait for ever");
    assert_eq!(probe, now + PAUSE_PROBE);
    channel.on_timeout(probe);
    assert!(channel.has_room());
    assert_eq!(channel.next_timeout(), None);
}

#[test]
fn gap_of_ten_thousand_messages_is_stored_and_later_messages_are_not_acknowledged() {
    let options = Options { max_stored_messages: 10_000, ..Options::default() };
    let mut world = World::with_options(&options, 2, Faults::default());
    let now = world.now;
    for sequence in 1..=10_001 {
        world.channel.on_message(&Agent::message(sequence, Bytes::from_static(b"x")).encode(), now).unwrap();
    }
    let stats = world.channel.stats();
    assert_eq!((stats.out_of_order, stats.dropped_full), (10_000, 1));
    assert_eq!(world.channel.receiver.waiting_acks(), 10_000);
    world.channel.on_message(&Agent::message(0, Bytes::from_static(b"y")).encode(), now).unwrap();
    let mut delivered = 0;
    while let Some(Event::Payload(..)) = world.channel.poll_event() {
        delivered += 1;
    }
    assert_eq!(delivered, 10_001);
    assert_eq!(world.channel.receiver.stored(), (0, 0));
}

#[test]
fn unacknowledged_messages_are_given_up_after_five_minutes_and_an_idle_channel_never_is() {
    let mut world = World::new(4, Faults { loss: 1.0, ..Faults::default() });
    world.run_for(Duration::from_hours(1));
    assert!(!world.not_acknowledging, "nothing to acknowledge");
    world.channel.send(PayloadType::Output, Bytes::from_static(b"a"), world.now);
    world.run_for(Duration::from_secs(299));
    assert!(!world.not_acknowledging);
    assert!(world.channel.stats().retransmitted > 100, "a retransmission each two seconds at least");
    world.run_for(Duration::from_secs(2));
    assert!(world.not_acknowledging);
}

#[test]
fn channel_closed_and_broken_frames_are_told_apart() {
    let mut world = World::new(6, Faults::default());
    assert!(world.channel.on_message(&Bytes::from_static(b"garbage"), world.now).is_err());
    assert_eq!(world.channel.stats().malformed, 1);
    let closed = AgentMessage {
        message_type: MessageType::ChannelClosed,
        ..Agent::message(0, Bytes::from_static(br#"{"Output":"idle"}"#))
    };
    world.channel.on_message(&closed.encode(), world.now).unwrap();
    assert_eq!(world.channel.poll_event(), Some(Event::ChannelClosed("idle".into())));
}
