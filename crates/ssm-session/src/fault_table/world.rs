//! A conversation in simulated time: a client that writes and reads, the service, and the agent.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    task::{Context, Poll, Waker},
    time::{Duration, Instant, SystemTime},
};

use bytes::{Bytes, BytesMut};

use super::{Cuts, Pace, Row, agent::Agent};
use crate::{
    channel,
    conversation::{Conversation, Options},
    features::{AgentFeatures, Version},
    message::MessageType,
    payload::PayloadType,
    smux::{
        frame::{FrameReader, HEADER, StreamId},
        mux,
    },
};

const TICK: Duration = Duration::from_millis(100);
const RESEND_AFTER: Duration = Duration::from_millis(200);
/// Time between messages of data.
const PACE: Duration = Duration::from_millis(1);
/// Time for which a flooded service takes no messages.
const STALL: Duration = Duration::from_secs(3);
/// Bytes that do not ask for room in the window: the handshake's response and probes of 8 bytes.
const CONTROL: usize = 512;

/// Small limits, so that short conversations reach them, except for gaps and bulk. No dial hangs and no agent is silent for too
/// long here: on a path that loses a third of all messages, an agent may be silent for some seconds.
fn options(row: &Row) -> Options {
    let hour = Duration::from_hours(1);
    let mux = mux::Options { dial_timeout: hour, dial_question: hour, ..mux::Options::default() };
    let patient = Options { mux, unresponsive_after: hour, ..Options::default() };
    if row.pace.is_some() {
        return patient;
    }
    let stored = if row.gap > 0 { channel::Options::default().max_stored_bytes } else { 2000 };
    Options {
        channel: channel::Options { max_window: 2000, max_stored_bytes: stored, ..channel::Options::default() },
        mux: mux::Options { max_unread: 1500, max_unsent: 1000, ..patient.mux },
        payload_size: 512,
        ..patient
    }
}

/// A time of whole milliseconds, at most `longest`.
fn within(random: &mut fastrand::Rng, longest: Duration) -> Duration {
    let most = longest.as_millis().try_into().expect("a short time");
    Duration::from_millis(if most == 0 { 0 } else { random.u64(0..=most) })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum To {
    Agent,
    Client,
}

/// A client's connection: the bytes to write and the bytes read.
struct Stream {
    id: StreamId,
    up: Vec<u8>,
    written: usize,
    down: Vec<u8>,
    read: Vec<u8>,
}

/// Client, agent and the service between them.
pub(super) struct World {
    row: Row,
    pub(super) now: Instant,
    started: Instant,
    random: fastrand::Rng,
    pub(super) client: Conversation,
    pub(super) agent: Agent,
    pub(super) delay: Duration,
    /// When the service has taken the client's last message.
    taken_at: Instant,
    pub(super) stalls: u32,
    stalled_until: Instant,
    wire: BinaryHeap<Reverse<(Instant, u64, To, Bytes)>>,
    /// Messages that have entered the service.
    carried: u64,
    /// Messages at which the websocket is cut next, by their number; then when it is back.
    cuts: Vec<u64>,
    back_at: Option<Instant>,
    pauses: Vec<Instant>,
    steps: u64,
}

impl World {
    pub(super) fn new(row: Row, seed: u64) -> Self {
        let now = Instant::now();
        let mut random = fastrand::Rng::with_seed(seed);
        let mut client = Conversation::new(options(&row), random.fork(), now, SystemTime::UNIX_EPOCH);
        client.connected(now);
        let features = AgentFeatures::of(Version::parse(row.version));
        let cuts = match row.cuts {
            Cuts::None => vec![],
            Cuts::Each => vec![seed],
            Cuts::Long => vec![random.u64(12..40)],
            Cuts::Two => {
                let first = random.u64(0..40);
                vec![first + random.u64(0..4), first]
            }
        };
        let pauses = (0..row.pauses).map(|_| now + Duration::from_millis(random.u64(0..300))).collect();
        Self {
            agent: Agent {
                features,
                version: row.version,
                deaf: within(&mut random, row.deaf),
                opening: row.opening,
                hears_at: None,
                expected: 0,
                stored: BTreeMap::new(),
                reader: FrameReader::default(),
                received: BTreeMap::new(),
                answers: BTreeMap::new(),
                pending: BytesMut::new(),
                payload: if row.gap > 0 { HEADER + 8 } else { 512 },
                next_message: now,
                outgoing: BTreeMap::new(),
                next: 0,
                next_tick: now,
                dead: false,
            },
            row,
            now,
            started: now,
            delay: Duration::from_millis(random.u64(0..40)),
            taken_at: now,
            stalls: 0,
            stalled_until: now,
            random,
            client,
            wire: BinaryHeap::new(),
            carried: 0,
            cuts,
            back_at: None,
            pauses,
            steps: 0,
        }
    }

    /// The handshake.
    pub(super) fn open(&mut self) {
        let request = self.agent.request_handshake(self.now);
        self.put(To::Client, &request);
        self.until(|world| world.client.agent().is_some() && world.back_at.is_none());
    }

    /// A short conversation from the handshake to the end of its streams.
    pub(super) fn run(&mut self) {
        self.open();
        let mut streams: Vec<Stream> = (0..2)
            .map(|_| {
                let id = self.client.open_stream(self.now).expect("it takes streams");
                let (up, down) = (self.noise(1..3000), self.noise(if self.row.gap > 0 { 1..8 } else { 1..3000 }));
                Stream { id, up, written: 0, down, read: Vec::new() }
            })
            .collect();
        if self.row.gap > 0 {
            streams[0].down = self.noise(8 * (self.row.gap + 50)..8 * (self.row.gap + 51));
        }
        for stream in &streams {
            self.agent.answers.insert(stream.id.0, stream.down.clone());
        }
        self.until(|world| {
            world.talk(&mut streams);
            streams.iter().all(|stream| stream.read.len() == stream.down.len() && stream.written == stream.up.len())
        });
        for stream in &streams {
            assert!(stream.read == stream.down, "{:?} read something else", stream.id);
            self.client.mux().abandon(stream.id);
        }
        self.until(|world| world.client.mux().stream_count() == 0 && world.client.held().unacknowledged == 0);
        for stream in &streams {
            assert!(self.agent.received[&stream.id.0] == (stream.up.clone(), true), "{:?} wrote otherwise", stream.id);
        }
        assert_eq!(self.client.ended(), None);
    }

    fn noise(&mut self, length: std::ops::Range<usize>) -> Vec<u8> {
        let length = self.random.usize(length);
        std::iter::repeat_with(|| self.random.u8(..)).take(length).collect()
    }

    /// Each connection writes and reads some bytes, or pauses.
    fn talk(&mut self, streams: &mut [Stream]) {
        let mut cx = Context::from_waker(Waker::noop());
        for stream in streams {
            if stream.written < stream.up.len() && self.random.bool() {
                let piece = &stream.up[stream.written..];
                let piece = &piece[..self.random.usize(1..=700).min(piece.len())];
                match self.client.mux().poll_write(stream.id, &mut cx, piece) {
                    Poll::Ready(written) => stream.written += written.expect("the stream is open"),
                    Poll::Pending => {}
                }
            }
            if self.random.bool() {
                match self.client.mux().poll_read(stream.id, &mut cx, 700) {
                    Poll::Ready(data) => {
                        stream.read.extend_from_slice(&data.expect("the stream is open"));
                        assert!(stream.down.starts_with(&stream.read), "lost, repeated or out of order");
                    }
                    Poll::Pending => {}
                }
            }
        }
    }

    /// Goes on until `done`. Taking too long is a failure.
    fn until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        while !done(self) {
            self.step();
            self.steps += 1;
            let took = self.now - self.started;
            assert!(took < self.row.within, "no end after {took:?}, {:?}", self.client.tally(self.now));
            assert!(self.steps < 400_000, "a livelock after {took:?}, {:?}", self.client.tally(self.now));
            assert_eq!(self.client.ended(), None);
        }
    }

    /// Advances to the next event, at most by 20 ms.
    pub(super) fn step(&mut self) {
        while self.back_at.is_none()
            && let Some(frame) = self.client.poll_transmit(self.now)
        {
            self.put(To::Agent, &frame);
        }
        self.check_memory();
        let connected = self.back_at.is_none();
        let speaks = connected && !self.agent.dead;
        let next = [
            self.wire.peek().map(|Reverse((at, ..))| *at).filter(|_| connected),
            self.client.next_timeout().filter(|_| connected),
            (speaks && !self.agent.outgoing.is_empty()).then_some(self.agent.next_tick),
            (speaks && !self.agent.pending.is_empty()).then_some(self.agent.next_message),
            self.pauses.iter().min().copied(),
            self.back_at,
        ];
        // Few steps for an outage, in which clients only write until their buffers are full.
        let latest = match self.back_at {
            Some(at) => self.now + (at.saturating_duration_since(self.now) / 4).max(PACE),
            None => self.now + Duration::from_millis(20),
        };
        self.now = next.into_iter().flatten().fold(latest, Instant::min).max(self.now);
        self.deliver();
        self.agent_speaks();
        while let Some(at) = self.pauses.iter().position(|at| *at <= self.now) {
            self.pauses.swap_remove(at);
            if self.back_at.is_none() {
                let pause =
                    Agent::message(MessageType::PausePublication, 0, PayloadType::Output, Bytes::from_static(b"{}"));
                self.wire.push(Reverse((self.now, self.carried, To::Client, pause)));
            }
        }
        if self.back_at.is_some_and(|at| at <= self.now) {
            self.back_at = None;
            self.client.connected(self.now);
        }
        if self.back_at.is_none() {
            self.client.on_timeout(self.now);
        }
    }

    fn deliver(&mut self) {
        let mut kept = Vec::new();
        while let Some(Reverse((at, number, to, frame))) = self.wire.pop() {
            if at > self.now {
                kept.push(Reverse((at, number, to, frame)));
                break;
            }
            match to {
                To::Agent => {
                    for said in self.agent.on_frame(&frame, self.now) {
                        self.put(To::Client, &said);
                    }
                }
                // The websocket is not read, or is not there.
                To::Client if self.back_at.is_some() || !self.client.wants_input() => {
                    let at = self.back_at.unwrap_or(self.now + PACE);
                    kept.push(Reverse((at, number, to, frame)));
                }
                To::Client => self.client.on_frame(&frame, self.now).expect("messages of the agent can be decoded"),
            }
        }
        self.wire.extend(kept);
    }

    /// The agent sends data and repeats messages, unless the client is away.
    fn agent_speaks(&mut self) {
        if self.back_at.is_some() || self.agent.dead {
            return;
        }
        if !self.agent.pending.is_empty() && self.now >= self.agent.next_message {
            self.agent.next_message = self.now + PACE;
            let length = self.agent.payload.min(self.agent.pending.len());
            let payload = self.agent.pending.split_to(length).freeze();
            let frame = self.agent.send(PayloadType::Output, payload, self.now);
            let in_gap = (10..10 + self.row.gap).contains(&usize::try_from(self.agent.next).expect("positive"));
            if !in_gap {
                self.put(To::Client, &frame);
            }
        }
        if self.now >= self.agent.next_tick {
            self.agent.next_tick = self.now + TICK;
            if let Some((frame, sent)) = self.agent.outgoing.values_mut().next()
                && self.now >= *sent + RESEND_AFTER
            {
                *sent = self.now;
                let frame = frame.clone();
                self.put(To::Client, &frame);
            }
        }
    }

    /// Hands a frame to the service, which treats it as the row says.
    fn put(&mut self, to: To, frame: &Bytes) {
        self.carried += 1;
        let row = self.row;
        let applies = !row.acks_only || frame.get(4..15) == Some(b"acknowledge".as_slice());
        let happens = |random: &mut fastrand::Rng, chance| applies && chance > 0.0 && random.f64() < chance;
        let copies = if happens(&mut self.random, row.loss) {
            0
        } else {
            1 + usize::from(happens(&mut self.random, row.duplication))
        };
        for _ in 0..copies {
            let late = if happens(&mut self.random, row.reordering) { self.random.u64(1..40) } else { 0 };
            let taken_at = match (to, row.pace) {
                (To::Agent, Some(pace)) => self.taken_at(pace, frame.len()),
                _ => self.now,
            };
            let at = taken_at + self.delay + Duration::from_millis(late);
            self.wire.push(Reverse((at, self.carried, to, frame.clone())));
        }
        if self.cuts.last().is_some_and(|at| *at <= self.carried) && self.back_at.is_none() {
            self.cuts.pop();
            self.cut();
        }
    }

    /// When a service that keeps this pace has taken a message of this many bytes.
    fn taken_at(&mut self, pace: Pace, bytes: usize) -> Instant {
        let waiting = self.taken_at.saturating_duration_since(self.now);
        if waiting.as_secs_f64() * f64::from(pace.bytes_per_second) > f64::from(pace.most)
            && self.now >= self.stalled_until
        {
            self.stalls += 1;
            self.stalled_until = self.now + STALL;
            self.taken_at += STALL;
        }
        let takes = Duration::from_secs(1) * u32::try_from(bytes).expect("a message") / pace.bytes_per_second;
        self.taken_at = self.taken_at.max(self.now) + takes;
        self.taken_at
    }

    /// The websocket is gone. Messages in the service wait for the next one, or are lost.
    fn cut(&mut self) {
        self.client.disconnected();
        let outage = match self.row.cuts {
            Cuts::Long => self.random.u64(2_000..120_000),
            Cuts::Two => self.random.u64(0..50),
            Cuts::Each | Cuts::None => self.random.u64(0..3_000),
        };
        self.back_at = Some(self.now + Duration::from_millis(outage));
        if self.random.bool() {
            self.wire.clear();
        }
    }

    /// Checks that no more bytes are held than the options allow.
    fn check_memory(&self) {
        let (held, options) = (self.client.held(), options(&self.row));
        // The last payload may begin just below the bound.
        let window = options.channel.max_window + options.payload_size + CONTROL;
        assert!(held.unacknowledged <= window, "{held:?}");
        assert!(held.stored <= options.channel.max_stored_bytes, "{held:?}");
        assert!(held.unsent <= 2 * options.mux.max_unsent, "{held:?}");
        // A message that fills a gap also delivers the messages stored behind it.
        let unread = options.mux.max_unread + options.payload_size + options.channel.max_stored_bytes;
        assert!(held.unread <= unread, "{held:?}");
    }
}
