//! The link between one agent and the websockets of its client, which come and go.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::faults::{Faults, Pipe};

/// Bytes on their way to a client before the agent has to wait: what socket buffers of a real path hold.
const DOWN_LIMIT: usize = 1 << 20;
/// Bytes on their way to an agent before the client's socket is no longer read.
const UP_LIMIT: usize = 16 << 20;

/// The connection between an agent and the present websocket of its client.
pub(crate) struct Link {
    /// Client to agent.
    pub(crate) up: Pipe,
    /// Agent to client.
    pub(crate) down: Pipe,
    /// Whether the client has a websocket. The agent sees changes as pause and start of publication.
    pub(crate) present: watch::Sender<bool>,
    /// The session is over.
    pub(crate) over: CancellationToken,
    /// The agent has died without a word, which the service does not notice.
    pub(crate) agent_dead: CancellationToken,
    pub(crate) counters: Counters,
    /// The handshake is complete.
    pub(crate) ready: AtomicBool,
    /// Messages until each websocket is cut; `u64::MAX` is never.
    pub(crate) cut_after: AtomicU64,
    /// Messages until this websocket is cut.
    pub(crate) left: AtomicU64,
    violations: Mutex<Vec<String>>,
    attached: Mutex<Option<Attachment>>,
}

/// The websocket that a session has at the moment.
struct Attachment {
    number: u64,
    commands: mpsc::UnboundedSender<Command>,
}

/// Counts of the events of a session, for assertions.
#[derive(Default)]
pub(crate) struct Counters {
    /// Websockets that opened.
    pub(crate) opens: AtomicU64,
    /// Stream data messages from the client, first time and duplicates.
    pub(crate) received: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    /// Stream data messages of the agent, first time and again.
    pub(crate) sent: AtomicU64,
    pub(crate) resent: AtomicU64,
    /// Streams opened, dials failed.
    pub(crate) streams: AtomicU64,
    pub(crate) failed_dials: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}

/// An order to the websocket that is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    /// RST.
    Cut,
    /// Close frame 1000 "Bye", as about hourly at AWS.
    Bye,
    /// Swallow everything from now on.
    GoDeaf,
    /// Another websocket has taken over.
    Replaced,
}

impl Link {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            up: Pipe::new(seed, UP_LIMIT),
            down: Pipe::new(seed.wrapping_add(1), DOWN_LIMIT),
            present: watch::Sender::new(false),
            over: CancellationToken::new(),
            agent_dead: CancellationToken::new(),
            counters: Counters::default(),
            ready: AtomicBool::new(false),
            cut_after: AtomicU64::new(u64::MAX),
            left: AtomicU64::new(u64::MAX),
            violations: Mutex::default(),
            attached: Mutex::default(),
        }
    }

    /// Applies faults to both directions of a session.
    pub(crate) fn set_faults(&self, faults: Faults) {
        self.up.set(faults.up, faults.delay, faults.pace);
        self.down.set(faults.down, faults.delay, None);
        let cut_after = faults.cut_after.unwrap_or(u64::MAX);
        self.cut_after.store(cut_after, Ordering::Relaxed);
        self.left.store(cut_after, Ordering::Relaxed);
    }

    /// Notes that the client broke a rule of the protocol.
    pub(crate) fn violation(&self, what: impl Into<String>) {
        let mut violations = self.violations.lock().unwrap_or_else(PoisonError::into_inner);
        // A client that breaks one rule a thousand times is known well enough.
        if violations.len() < 100 {
            violations.push(what.into());
        }
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.violations.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives an order to the websocket, if there is one.
    pub(crate) fn command(&self, command: Command) {
        if let Some(attached) = &*self.attachment() {
            // A websocket that has just ended needs no orders.
            let _ = attached.commands.send(command);
        }
    }

    /// Makes a new websocket the session's, in place of any older one. Gives its number and its orders.
    pub(crate) fn attach(&self) -> (u64, mpsc::UnboundedReceiver<Command>) {
        let (commands, orders) = mpsc::unbounded_channel();
        self.command(Command::Replaced);
        self.left.store(self.cut_after.load(Ordering::Relaxed), Ordering::Relaxed);
        let number = self.counters.opens.fetch_add(1, Ordering::Relaxed);
        *self.attachment() = Some(Attachment { number, commands });
        self.present.send_replace(true);
        (number, orders)
    }

    /// The websocket of this number has ended; the session is without one unless another took over.
    pub(crate) fn detach(&self, number: u64) -> bool {
        let mut attached = self.attachment();
        let ours = attached.as_ref().is_some_and(|attachment| attachment.number == number);
        if ours {
            *attached = None;
            self.present.send_replace(false);
        }
        ours
    }

    fn attachment(&self) -> MutexGuard<'_, Option<Attachment>> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
