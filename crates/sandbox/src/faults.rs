//! The faults of messages between client and agent: loss, duplication, reordering and delay, from a seed.
//!
//! A [`Pipe`] carries the messages of one direction of one session. It outlives websockets: what is inside waits while
//! the client is away. [`super::websocket`] cuts the socket itself.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::Notify, time::Instant};

/// The faults that the messages of a session meet. Probabilities are 0 to 1.
///
/// # Defaults
/// Nothing happens, nothing is delayed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// Client to agent.
    pub up: Rates,
    /// Agent to client.
    pub down: Rates,
    /// The delay of each message, in each direction. The order is kept.
    pub delay: Duration,
    /// The pace at which the service takes messages from a client; `None` is without a limit.
    pub pace: Option<Pace>,
    /// The websocket is cut (RST) after this many more messages in either direction, each time it opens, and this many after it is set.
    pub cut_after: Option<u64>,
}

impl Faults {
    /// Faults with these rates in both directions.
    pub fn both(rates: Rates) -> Self {
        Self { up: rates, down: rates, ..Self::default() }
    }

    /// Adds a one-way delay.
    #[must_use]
    pub fn delayed(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }
}

/// The pace at which a service takes messages, and what it makes of a client that does not keep to it.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The rate in bytes of whole messages, headers included.
    pub bytes_per_second: u32,
    /// The number of waiting bytes beyond which the service pauses, and the length of the pause. Nothing is lost.
    pub stall: Option<(usize, Duration)>,
}

/// The probabilities of faults, per message of one direction.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rates {
    /// Probability that a message is lost.
    pub loss: f64,
    /// Probability that a message arrives twice.
    pub duplication: f64,
    /// Probability that a message arrives 1 to 20 ms late, behind later messages.
    pub reordering: f64,
    /// To which messages this happens.
    pub of: Messages,
}

/// A kind of message that faults are confined to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Messages {
    /// All messages.
    #[default]
    All,
    /// Acknowledgements only.
    Acknowledgements,
    /// All messages but acknowledgements.
    Data,
}

impl Messages {
    fn include(self, frame: &[u8]) -> bool {
        // MessageType starts at offset 4.
        let acknowledgement = frame.get(4..15) == Some(b"acknowledge".as_slice());
        match self {
            Self::All => true,
            Self::Acknowledgements => acknowledgement,
            Self::Data => !acknowledgement,
        }
    }
}

/// The longest that a reordered message is held back.
const LATEST: Duration = Duration::from_millis(20);
/// A service that has so much to do anyway is stalled already.
const STALLED: Duration = Duration::from_secs(1);
/// Messages handed over at once: enough to share the cost of a wake-up, few enough to keep both ends busy.
const BATCH: usize = 256;

/// One direction of a session: a queue of messages, each due at some time.
pub(super) struct Pipe {
    state: Mutex<State>,
    readable: Notify,
    writable: Notify,
    limit: usize,
}

struct State {
    rates: Rates,
    delay: Duration,
    pace: Option<Pace>,
    /// When the last message has been taken, at this pace.
    taken_at: Option<Instant>,
    random: fastrand::Rng,
    /// Messages in order, with the time at which they are due; `None` is at once.
    queue: VecDeque<(Option<Instant>, Bytes)>,
    /// Messages held back for reordering. The number makes the key unique.
    late: BTreeMap<(Instant, u64), Bytes>,
    held: u64,
    bytes: usize,
}

impl Pipe {
    /// An empty pipe that asks its writer to wait above `limit` bytes.
    pub(super) fn new(seed: u64, limit: usize) -> Self {
        let state = State {
            rates: Rates::default(),
            delay: Duration::ZERO,
            pace: None,
            taken_at: None,
            random: fastrand::Rng::with_seed(seed),
            queue: VecDeque::new(),
            late: BTreeMap::new(),
            held: 0,
            bytes: 0,
        };
        Self { state: Mutex::new(state), readable: Notify::new(), writable: Notify::new(), limit }
    }

    pub(super) fn set(&self, rates: Rates, delay: Duration, pace: Option<Pace>) {
        let mut state = self.lock();
        (state.rates, state.delay, state.pace) = (rates, delay, pace);
    }

    /// Puts messages in, suffering the faults. Never waits; see [`Pipe::room`].
    pub(super) fn push(&self, messages: impl IntoIterator<Item = Bytes>) {
        let mut state = self.lock();
        for message in messages {
            state.push(message);
        }
        drop(state);
        self.readable.notify_one();
    }

    /// Puts in a message of the service itself, which suffers no faults.
    pub(super) fn push_intact(&self, message: Bytes) {
        let mut state = self.lock();
        let due = state.due(0);
        state.enqueue(due, message);
        drop(state);
        self.readable.notify_one();
    }

    /// Whether the pipe is below its limit.
    pub(super) fn has_room(&self) -> bool {
        self.lock().bytes < self.limit
    }

    /// Waits until [`Pipe::has_room`]. Cancel safe; one waiter at a time.
    pub(super) async fn room(&self) {
        while !self.has_room() {
            self.writable.notified().await;
        }
    }

    /// Waits for messages that are due and appends a batch of them. Cancel safe; one reader at a time.
    pub(super) async fn take(&self, into: &mut VecDeque<Bytes>) {
        loop {
            match self.take_now(into) {
                Taken::Some => return,
                Taken::NotYet(due) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(due) => {}
                        () = self.readable.notified() => {}
                    }
                }
                Taken::Empty => self.readable.notified().await,
            }
        }
    }

    /// Appends a batch of what is due.
    pub(super) fn take_now(&self, into: &mut VecDeque<Bytes>) -> Taken {
        let mut state = self.lock();
        let at_once = state.delay.is_zero() && state.pace.is_none() && state.late.is_empty();
        let now = if at_once { None } else { Some(Instant::now()) };
        let before = into.len();
        while into.len() - before < BATCH
            && let Some(message) = state.pop(now)
        {
            into.push_back(message);
        }
        if into.len() > before {
            drop(state);
            self.writable.notify_one();
            return Taken::Some;
        }
        let next = state.queue.front().and_then(|(due, _)| *due);
        let late = state.late.keys().next().map(|(due, _)| *due);
        next.into_iter().chain(late).min().map_or(Taken::Empty, Taken::NotYet)
    }

    /// Forgets everything inside.
    pub(super) fn clear(&self) {
        let mut state = self.lock();
        state.queue.clear();
        state.late.clear();
        state.bytes = 0;
        drop(state);
        self.writable.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The result of [`Pipe::take_now`].
pub(super) enum Taken {
    Some,
    NotYet(Instant),
    Empty,
}

impl State {
    fn push(&mut self, message: Bytes) {
        let rates = if self.rates.of.include(&message) { self.rates } else { Rates::default() };
        if self.happens(rates.loss) {
            return;
        }
        let due = self.due(message.len());
        if self.happens(rates.duplication) {
            self.enqueue(due, message.clone());
        }
        if self.happens(rates.reordering) {
            let late = LATEST.mul_f64(self.random.f64()).max(Duration::from_millis(1));
            self.bytes += message.len();
            self.held += 1;
            self.late.insert((due.unwrap_or_else(Instant::now) + late, self.held), message);
        } else {
            self.enqueue(due, message);
        }
    }

    fn enqueue(&mut self, due: Option<Instant>, message: Bytes) {
        self.bytes += message.len();
        self.queue.push_back((due, message));
    }

    fn due(&mut self, length: usize) -> Option<Instant> {
        if self.delay.is_zero() && self.pace.is_none() {
            return None;
        }
        let now = Instant::now();
        let Some(Pace { bytes_per_second, stall }) = self.pace else { return Some(now + self.delay) };
        let takes = Duration::from_secs(1) * u32::try_from(length).unwrap_or(u32::MAX) / bytes_per_second.max(1);
        let idle_since = self.taken_at.filter(|at| *at > now).unwrap_or(now);
        let stalls = stall.filter(|(most, _)| self.bytes > *most && idle_since < now + STALLED);
        let taken_at = idle_since + takes + stalls.map_or(Duration::ZERO, |(_, time)| time);
        self.taken_at = Some(taken_at);
        Some(taken_at + self.delay)
    }

    /// Draws only where something may happen, so that a fault-free direction does not move the seed.
    fn happens(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.random.f64() < probability
    }

    fn pop(&mut self, now: Option<Instant>) -> Option<Bytes> {
        let is_due = |due: Instant| due <= now.unwrap_or_else(Instant::now);
        let message = match self.late.first_entry() {
            Some(entry) if is_due(entry.key().0) => entry.remove(),
            _ => match self.queue.front() {
                Some((None, _)) => self.queue.pop_front()?.1,
                Some((Some(due), _)) if is_due(*due) => self.queue.pop_front()?.1,
                _ => return None,
            },
        };
        self.bytes -= message.len();
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(count: u32) -> Vec<Bytes> {
        (0..count).map(|n| Bytes::copy_from_slice(&n.to_be_bytes())).collect()
    }

    async fn drained(pipe: &Pipe) -> Vec<u32> {
        let mut all = VecDeque::new();
        while tokio::time::timeout(Duration::from_secs(1), pipe.take(&mut all)).await.is_ok() {}
        all.iter().map(|b| u32::from_be_bytes(b[..].try_into().unwrap())).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn without_faults_everything_arrives_in_order() {
        let pipe = Pipe::new(1, 1 << 20);
        pipe.push(numbered(1000));
        assert_eq!(drained(&pipe).await, (0..1000).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_keeps_the_order_and_is_as_long_as_asked() {
        let pipe = Pipe::new(1, 1 << 20);
        pipe.set(Rates::default(), Duration::from_millis(20), None);
        let start = Instant::now();
        pipe.push(numbered(3));
        let mut got = VecDeque::new();
        pipe.take(&mut got).await;
        assert!(start.elapsed() >= Duration::from_millis(20) && start.elapsed() < Duration::from_millis(25));
        assert_eq!(got.len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn faults_happen_about_as_often_as_asked_and_the_same_for_the_same_seed() {
        let rates = Rates { loss: 0.1, duplication: 0.1, reordering: 0.1, of: Messages::All };
        let run = async |seed| {
            let pipe = Pipe::new(seed, 1 << 20);
            pipe.set(rates, Duration::ZERO, None);
            pipe.push(numbered(10_000));
            drained(&pipe).await
        };
        let got = run(7).await;
        let distinct: std::collections::BTreeSet<_> = got.iter().collect();
        assert!((8_800..9_200).contains(&distinct.len()), "about a tenth is lost: {}", distinct.len());
        assert!((800..1_100).contains(&(got.len() - distinct.len())), "about a tenth of the rest comes twice");
        assert!(got.windows(2).filter(|w| w[0] > w[1]).count() > 300, "some overtake others");
        let sorted = |mut all: Vec<u32>| {
            all.sort_unstable();
            all
        };
        assert_eq!(sorted(got.clone()), sorted(run(7).await));
        assert_ne!(sorted(got), sorted(run(8).await));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pace_is_kept_and_a_flood_stalls_the_service_once() {
        let took = async |stall| {
            let pipe = Pipe::new(1, 1 << 20);
            pipe.set(Rates::default(), Duration::ZERO, Some(Pace { bytes_per_second: 40, stall }));
            let start = Instant::now();
            pipe.push(numbered(20));
            let (mut got, mut last) = (VecDeque::new(), start);
            while got.len() < 20 {
                pipe.take(&mut got).await;
                last = Instant::now();
            }
            (last - start).as_secs_f64().round()
        };
        assert!((took(None).await - 2.0).abs() < 0.1, "80 bytes");
        assert!((took(Some((30, Duration::from_secs(5)))).await - 7.0).abs() < 0.1);
    }

    #[tokio::test]
    async fn a_full_pipe_has_room_again_once_read() {
        let pipe = Pipe::new(1, 8);
        pipe.push(numbered(2));
        assert!(!pipe.has_room());
        let mut got = VecDeque::new();
        pipe.take(&mut got).await;
        pipe.room().await;
    }
}
