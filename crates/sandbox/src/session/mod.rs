//! The message service between client and agent: sessions, their tokens, and the websocket of the data channel.
//!
//! ```text
//!            ┌──────────── Session ────────────┐
//! websocket ─┤─▶ up: Pipe ───────────▶ agent   │   a websocket comes and goes; pipes and agent stay
//!  (client) ─┤◀─ down: Pipe ◀───────── task    │
//!            └─────────────────────────────────┘
//! ```
//!
//! It relays whole messages and adds its own: `channel_closed` to the client, pause and start of publication to the
//! agent when the client leaves and returns. It never looks inside what it relays.

pub(super) mod registry;
mod websocket;

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use self::registry::{Ended, SessionReport};
pub(super) use self::{
    registry::{SessionRequest, Sessions, Started},
    websocket::upgrade,
};
use super::faults::Pipe;

/// Where data channels live (amazon-ssm-agent `agent/session/config/config.go`).
pub(super) const PATH: &str = "/v1/data-channel/";
/// Bytes on their way to a client before the agent has to wait: what socket buffers of a real path hold.
const DOWN_LIMIT: usize = 1 << 20;
/// Bytes on their way to an agent before the client's socket is no longer read.
const UP_LIMIT: usize = 16 << 20;

/// What connects one agent with whichever websocket its client has at the moment.
pub(super) struct Link {
    /// Client to agent.
    pub(super) up: Pipe,
    /// Agent to client.
    pub(super) down: Pipe,
    /// Whether the client is there; the agent sees changes as pause and start of publication.
    pub(super) present: watch::Sender<bool>,
    /// The session is over.
    pub(super) over: CancellationToken,
    /// The agent has died without a word, which the service does not notice.
    pub(super) agent_dead: CancellationToken,
    pub(super) counters: Counters,
    /// The handshake is complete.
    pub(super) ready: AtomicBool,
    /// Messages until each websocket is cut, and until this one is; `u64::MAX` is never.
    pub(super) cut_after: AtomicU64,
    left: AtomicU64,
    violations: Mutex<Vec<String>>,
    attached: Mutex<Option<Attachment>>,
}

/// The websocket that a session has at the moment.
struct Attachment {
    number: u64,
    commands: mpsc::UnboundedSender<Command>,
}

/// What happened on a session, for assertions.
#[derive(Default)]
pub(super) struct Counters {
    /// Websockets that opened.
    pub(super) opens: AtomicU64,
    /// Stream data messages from the client, first time and duplicates.
    pub(super) received: AtomicU64,
    pub(super) duplicates: AtomicU64,
    /// Stream data messages of the agent, first time and again.
    pub(super) sent: AtomicU64,
    pub(super) resent: AtomicU64,
    /// Streams opened, dials failed.
    pub(super) streams: AtomicU64,
    pub(super) failed_dials: AtomicU64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}

/// An order to the websocket that is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
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
    fn new(seed: u64) -> Self {
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

    /// Notes that the client broke a rule of the protocol.
    pub(super) fn violation(&self, what: impl Into<String>) {
        let mut violations = self.violations.lock().unwrap_or_else(PoisonError::into_inner);
        // A client that breaks one rule a thousand times is known well enough.
        if violations.len() < 100 {
            violations.push(what.into());
        }
    }

    pub(super) fn violations(&self) -> Vec<String> {
        self.violations.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives an order to the websocket, if there is one.
    pub(super) fn command(&self, command: Command) {
        if let Some(attached) = &*self.attachment() {
            // A websocket that has just ended needs no orders.
            let _ = attached.commands.send(command);
        }
    }

    /// Makes a new websocket the session's, in place of any older one. Gives its number and its orders.
    fn attach(&self) -> (u64, mpsc::UnboundedReceiver<Command>) {
        let (commands, orders) = mpsc::unbounded_channel();
        self.command(Command::Replaced);
        self.left.store(self.cut_after.load(Ordering::Relaxed), Ordering::Relaxed);
        let number = self.counters.opens.fetch_add(1, Ordering::Relaxed);
        *self.attachment() = Some(Attachment { number, commands });
        self.present.send_replace(true);
        (number, orders)
    }

    /// The websocket of this number has ended; the session is without one unless another took over.
    fn detach(&self, number: u64) -> bool {
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

/// The message that tells a client that its session is over.
///
/// Its layout is the service's own: HeaderLength 112, no PayloadType, NUL padding. Made by hand, for no codec of ours
/// should agree with itself here.
fn channel_closed(session_id: &str, output: &str, created_date: u64) -> Bytes {
    let message_id = Uuid::new_v4();
    let payload = json!({
        "MessageId": message_id.to_string(), "CreatedDate": created_date.to_string(), "DestinationId": "client",
        "SessionId": session_id, "MessageType": "channel_closed", "SchemaVersion": 1, "Output": output,
    })
    .to_string();
    service_message("channel_closed", &payload, created_date)
}

/// A message as the service makes it.
pub(super) fn service_message(message_type: &str, payload: &str, created_date: u64) -> Bytes {
    let mut frame = BytesMut::with_capacity(116 + payload.len());
    frame.put_u32(112);
    frame.put_slice(message_type.as_bytes());
    frame.put_bytes(0, 32_usize.saturating_sub(message_type.len()));
    frame.put_u32(1);
    frame.put_u64(created_date);
    frame.put_i64(0);
    frame.put_u64(0);
    frame.put_u128(Uuid::new_v4().as_u128().rotate_left(64));
    frame.put_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, payload.as_bytes()).as_ref());
    frame.put_u32(u32::try_from(payload.len()).unwrap_or(0));
    frame.put_slice(payload.as_bytes());
    frame.freeze()
}
