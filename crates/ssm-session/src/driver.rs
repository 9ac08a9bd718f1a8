//! The session's one task with a clock and a socket: moves frames between the websocket and the [`Conversation`], pings,
//! notices a dead link, reconnects, and ends the session properly.
//!
//! ```text
//!            ┌────────── pump: websocket ⇄ conversation ◀───────────┐
//!            │ ended                      │ lost: closed, error,    │ resumed: new websocket,
//!            ▼                            ▼ no sign of life         │ unacknowledged messages again
//!   close, TerminateSession ◀── given up ── reconnect ──────────────┘
//! ```
//!
//! Reading and writing are polled together in one task: the agent may stop reading until we read, and the other way round.
//! [`crate::liveness`] decides when a link is to be probed.

mod recovery;

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream};
use tokio::time::{Sleep, sleep_until, timeout};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::recovery::Recovery;
use super::{
    conversation::{Conversation, EndReason},
    idle::IdleWarning,
    liveness::{Liveness, ProbeReason},
    load::Condition,
    session::Link,
    stream::{Phase, Shared},
    tally::Stall,
    websocket::Path,
};
use crate::connect::BoxIo;

/// An open data channel.
pub(crate) type WebSocket = WebSocketStream<BoxIo>;

/// Frames taken from the websocket before it is the senders' turn again.
const INBOUND_BATCH: usize = 64;
/// For the last frames and the close frame of a session that is over.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection that lasted so long was a good one, even if nothing but pongs came.
const STEADY: Duration = Duration::from_secs(10);

/// The runtime's clock, which a test can stop.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// What the machine says of itself.
pub(crate) struct Machine {
    /// The time of day, which goes on while the machine sleeps.
    wall_clock: Box<dyn FnMut() -> SystemTime + Send>,
    /// Whether packets take another way out than when this was asked last.
    network_changed: Box<dyn FnMut() -> bool + Send>,
}

impl Machine {
    /// The real one, with the way that a connection has taken out of it.
    pub(crate) fn with(mut path: Path) -> Self {
        Self { wall_clock: Box::new(SystemTime::now), network_changed: Box::new(move || path.has_changed()) }
    }
}

/// How one websocket's life ended.
#[derive(Debug)]
enum PumpEnd {
    /// The conversation is over.
    Ended,
    /// The websocket is gone, the session may live.
    Lost(Lost),
}

/// A websocket that is gone.
#[derive(Debug)]
struct Lost {
    reason: String,
    /// Anything came over it.
    heard: bool,
    /// It carried messages, or lasted.
    proven: bool,
}

/// Runs a session until it is over. `cancel` asks for its end.
pub(crate) async fn run(
    shared: Arc<Shared>,
    (mut websocket, mut machine): (WebSocket, Machine),
    mut link: Link,
    cancel: CancellationToken,
) {
    let session_id = Arc::clone(link.session_id());
    let mut recovery = Recovery::new();
    let reason = loop {
        shared.lock().connected(now());
        let lost = match pump(&shared, &mut websocket, &mut machine).await {
            PumpEnd::Ended => {
                close(&shared, &mut websocket).await;
                break shared.lock().ended().cloned().unwrap_or(EndReason::Terminated);
            }
            PumpEnd::Lost(lost) => lost,
        };
        let Some(deadline) = lose_connection(&shared, now() + link.resume_for()) else {
            let mut conversation = shared.lock();
            conversation.end(EndReason::NotResumed(lost.reason));
            break conversation.ended().cloned().unwrap_or(EndReason::Terminated);
        };
        info!(session = %session_id, reason = %lost.reason, "connection of the SSM session lost, resuming");
        recovery.lost(&lost, deadline);
        let started = now();
        match recovery.reconnect(&shared, &mut link, &cancel).await {
            Ok(resumed) => (websocket, machine) = resumed,
            Err(reason) => {
                shared.lock().end(reason.clone());
                break reason;
            }
        }
        let after_ms = millis(started.elapsed());
        info!(session = %session_id, after_ms, "SSM session resumed");
    };
    match &reason {
        EndReason::Terminated => {
            debug!(session = %session_id, tally = ?shared.lock().tally(now()), "SSM session terminated");
        }
        reason => {
            warn!(session = %session_id, %reason, "SSM session ended");
        }
    }
    shared.phase.send_replace(Phase::Ended(reason.clone()));
    shared.changed.notify_waiters();
    if !matches!(reason, EndReason::ChannelClosed(_)) {
        link.terminate().await;
    }
}

/// Runs the `work` of a session's task. When that ends without having ended the session, by a panic, its streams learn it.
pub(crate) async fn supervise(shared: Arc<Shared>, work: impl Future<Output = ()>) {
    struct Guard(Arc<Shared>);
    impl Drop for Guard {
        fn drop(&mut self) {
            let mut conversation = self.0.lock();
            if conversation.ended().is_none() {
                conversation.end(EndReason::Failed);
                drop(conversation);
                self.0.phase.send_replace(Phase::Ended(EndReason::Failed));
                self.0.changed.notify_waiters();
            }
        }
    }
    let _guard = Guard(shared);
    work.await;
}

/// Notes that the websocket is gone. Says until when the session is worth resuming; `None` when there is nothing to keep.
/// The phase cannot tell: a websocket may be gone before it was ever pumped to [`Phase::Open`].
fn lose_connection(shared: &Shared, deadline: Instant) -> Option<Instant> {
    let mut conversation = shared.lock();
    conversation.disconnected();
    let until = conversation.worth_resuming_until(deadline);
    drop(conversation);
    if until.is_some() {
        shared.phase.send_replace(Phase::Waiting);
        shared.changed.notify_waiters();
    }
    until
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Sends what is still to be sent, then the close frame.
async fn close(shared: &Shared, websocket: &mut WebSocket) {
    let farewell = async {
        while let Some(frame) = { shared.lock().poll_transmit(now()) } {
            websocket.feed(Message::Binary(frame)).await?;
        }
        websocket.close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() })).await
    };
    if !matches!(timeout(CLOSE_TIMEOUT, farewell).await, Ok(Ok(()))) {
        debug!("the websocket did not close cleanly");
    }
}

/// Moves frames until the conversation or the websocket ends.
async fn pump(shared: &Shared, websocket: &mut WebSocket, machine: &mut Machine) -> PumpEnd {
    let started = now();
    let liveness = Liveness::new(started, (machine.wall_clock)());
    let mut pump = Pump {
        shared,
        websocket,
        machine,
        liveness,
        unflushed: false,
        held_back: false,
        heard: false,
        carried: false,
        condition: None,
    };
    let mut timer = pin!(sleep_until(started.into()));
    match poll_fn(|cx| pump.poll(timer.as_mut(), cx)).await {
        Ok(()) => PumpEnd::Ended,
        Err(reason) => {
            let proven = pump.carried || pump.heard && now() >= started + STEADY;
            PumpEnd::Lost(Lost { reason, heard: pump.heard, proven })
        }
    }
}

struct Pump<'a> {
    shared: &'a Shared,
    websocket: &'a mut WebSocket,
    machine: &'a mut Machine,
    liveness: Liveness,
    unflushed: bool,
    /// The websocket was not read though it may have something.
    held_back: bool,
    /// Anything was received, a message was.
    heard: bool,
    carried: bool,
    /// As the pool knows it.
    condition: Option<Condition>,
}

impl Pump<'_> {
    /// Ready when the conversation is over, or with the reason why the websocket is lost.
    fn poll(&mut self, mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        self.shared.driver.register(cx.waker());
        // First, since what is received is acknowledged with the time of day.
        let wall_clock = (self.machine.wall_clock)();
        self.shared.lock().set_wall_clock(now(), wall_clock);
        if let Poll::Ready(Err(error)) = self.receive(cx) {
            return Poll::Ready(Err(error));
        }
        loop {
            let now = now();
            self.probe_if_due(now);
            if self.advance(now) {
                return Poll::Ready(Ok(()));
            }
            if let Some(dead) = self.liveness.dead(now) {
                return Poll::Ready(Err(dead));
            }
            if let Poll::Ready(Err(error)) = self.transmit(now, cx) {
                return Poll::Ready(Err(error.to_string()));
            }
            if self.held_back && self.shared.lock().wants_input() {
                cx.waker().wake_by_ref();
            }
            let deadline = self.next_timeout();
            timer.as_mut().reset(deadline.into());
            ready!(timer.as_mut().poll(cx));
        }
    }

    /// Looks for a reason to probe the link.
    fn probe_if_due(&mut self, now: Instant) {
        let stood_still = self.liveness.stood_still(now, (self.machine.wall_clock)());
        let network_changed = self.liveness.network_check_due(now) && (self.machine.network_changed)();
        let reason = if stood_still {
            // What timers say that ran through the sleep says nothing about the agent.
            self.shared.lock().reading_paused(now);
            ProbeReason::ClockJump
        } else if network_changed {
            ProbeReason::NetworkChanged
        } else {
            let waits_since = self.shared.lock().waits_since();
            if !self.liveness.is_unanswered(waits_since, now) {
                return;
            }
            ProbeReason::Unanswered
        };
        debug!(%reason, "probing the data channel");
        self.liveness.start_probe(reason, now);
    }

    /// The conversation's timers, and whether it is over.
    fn advance(&mut self, now: Instant) -> bool {
        let shared = self.shared;
        let phase = {
            let mut conversation = shared.lock();
            self.note_full(&mut conversation, now);
            if conversation.is_full() {
                conversation.reading_paused(now);
                self.liveness.reading_paused(now);
            }
            if conversation.next_timeout().is_some_and(|at| now >= at) {
                conversation.on_timeout(now);
            }
            if conversation.ended().is_some() {
                return true;
            }
            if let Some(text) = conversation.take_customer_message() {
                info!(%text, "message from the administrators of the AWS account");
            }
            if let Some(IdleWarning { timeout, left, streams }) = conversation.take_idle_warning() {
                let advice = conversation.keep_alive_advice().map(|advice| format!("; {advice}")).unwrap_or_default();
                warn!(
                    streams,
                    idle_timeout_s = timeout.as_secs(),
                    left_s = left.as_secs(),
                    "AWS ends this SSM session and its connections as idle unless one of them sends something{advice}"
                );
            }
            let condition = Some(conversation.condition(now));
            if self.condition != condition {
                self.condition = condition;
                shared.changed.notify_waiters();
            }
            if conversation.agent().is_some() { Phase::Open } else { Phase::Waiting }
        };
        self.shared.phase.send_if_modified(|known| {
            let changed = *known != phase;
            *known = phase;
            changed
        });
        false
    }

    /// A session that is held up by clients that do not read says so, once.
    fn note_full(&self, conversation: &mut Conversation, now: Instant) {
        let session = &self.shared.session_id;
        match conversation.note_full(now) {
            Some(Stall::Begun) => {
                let (unread, streams) = (conversation.mux().unread(), conversation.mux().stream_count());
                warn!(%session, unread, streams, "a client stopped reading; every connection on this SSM session is blocked");
            }
            Some(Stall::Over(lasted)) => {
                info!(%session, after_ms = millis(lasted), "client reading again; SSM session unblocked");
            }
            None => {}
        }
    }

    fn next_timeout(&self) -> Instant {
        let conversation = self.shared.lock();
        let own = self.liveness.next_timeout(conversation.waits_since());
        conversation.next_timeout().map_or(own, |at| at.min(own))
    }

    /// Takes frames while there are some. Ready only when the websocket is gone.
    fn receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        for _ in 0..INBOUND_BATCH {
            // Then no waker is left with the websocket; who makes room wakes us.
            self.held_back = !self.shared.lock().wants_input();
            if self.held_back {
                return Poll::Pending;
            }
            let message = match ready!(Pin::new(&mut *self.websocket).poll_next(cx)) {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Poll::Ready(Err(error.to_string())),
                None => return Poll::Ready(Err("closed without a close frame".into())),
            };
            let now = now();
            if let Message::Close(frame) = message {
                return Poll::Ready(Err(describe_close(frame)));
            }
            self.heard = true;
            self.liveness.heard(message.is_pong(), now);
            match message {
                Message::Binary(frame) => self.on_frame(&frame, now),
                Message::Text(text) => self.on_frame(&text.into(), now),
                // Tungstenite answers pings itself; the answer goes out with the next flush.
                Message::Ping(_) => self.unflushed = true,
                Message::Pong(_) | Message::Close(_) | Message::Frame(_) => {}
            }
        }
        // More may be there, but acknowledgements must go out.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn on_frame(&mut self, frame: &Bytes, now: Instant) {
        self.carried = true;
        if let Err(cause) = self.shared.lock().on_frame(frame, now) {
            debug!(%cause, "dropped a frame of the data channel");
        }
    }

    /// Gives the websocket all it takes. Ready only with an error.
    fn transmit(&mut self, now: Instant, cx: &mut Context<'_>) -> Poll<Result<(), tungstenite::Error>> {
        self.liveness.blocked(true);
        let mut websocket = Pin::new(&mut *self.websocket);
        loop {
            ready!(websocket.as_mut().poll_ready(cx))?;
            let message = if self.liveness.may_ping(now) {
                Message::Ping(Bytes::from_static(b"keepalive"))
            } else if let Some(frame) = self.shared.lock().poll_transmit(now) {
                Message::Binary(frame)
            } else {
                break;
            };
            websocket.as_mut().start_send(message)?;
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(websocket.as_mut().poll_flush(cx))?;
            self.unflushed = false;
        }
        self.liveness.blocked(false);
        Poll::Pending
    }
}

fn describe_close(frame: Option<CloseFrame>) -> String {
    // The reason is the service's text: shown, but not at any length.
    frame.map_or_else(
        || "closed by AWS".into(),
        |frame| {
            format!(
                "closed by AWS with {} {:?}",
                u16::from(frame.code),
                frame.reason.chars().take(80).collect::<String>()
            )
        },
    )
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
