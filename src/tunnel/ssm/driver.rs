//! The session's one task with a clock and a socket: moves frames between the websocket and the [`Conversation`], pings,
//! notices a dead link, reconnects, and ends the session properly.
//!
//! ```text
//!            ┌────────── pump: websocket ⇄ conversation ◀───────────┐
//!            │ ended                      │ lost: closed, error,    │ resumed: new websocket,
//!            ▼                            ▼ nothing heard for 62 s  │ unacknowledged messages again
//!   close, TerminateSession ◀── given up ── reconnect ──────────────┘
//! ```
//!
//! Reading and writing are polled together in one task: the agent may stop reading until we read, and the other way round.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
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

use super::{
    conversation::{Conversation, EndReason},
    load::Condition,
    session::{Link, ResumeError},
    stream::{Phase, Shared},
    tally::Stall,
};
use crate::{backoff::Backoff, stream::BoxIo};

/// An open data channel.
pub(super) type WebSocket = WebSocketStream<BoxIo>;

/// A ping this often keeps middleboxes from cutting an idle connection: the shortest limit seen is 60 s.
const PING_EVERY: Duration = Duration::from_secs(25);
/// Nothing received for this long, though two pings asked for it: the link is dead.
const DEAD_AFTER: Duration = Duration::from_secs(62);
/// Frames taken from the websocket before it is the senders' turn again.
const INBOUND_BATCH: usize = 64;
/// For the last frames and the close frame of a session that is over.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The runtime's clock, which a test can stop.
pub(in crate::tunnel) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// How one websocket's life ended.
#[derive(Debug)]
enum PumpEnd {
    /// The conversation is over.
    Ended,
    /// The websocket is gone, the session may live.
    Lost(String),
}

/// Runs a session until it is over. `cancel` asks for its end.
pub(super) async fn run(shared: Arc<Shared>, mut websocket: WebSocket, mut link: Link, cancel: CancellationToken) {
    let session_id = Arc::clone(link.session_id());
    let reason = loop {
        shared.lock().connected(now());
        let lost = match pump(&shared, &mut websocket).await {
            PumpEnd::Ended => {
                close(&shared, &mut websocket).await;
                break shared.lock().ended().cloned().unwrap_or(EndReason::Terminated);
            }
            PumpEnd::Lost(lost) => lost,
        };
        if !lose_connection(&shared) {
            shared.lock().end(EndReason::NotResumed(lost));
            break shared.lock().ended().cloned().unwrap_or(EndReason::Terminated);
        }
        info!(session = %session_id, reason = %lost, "connection of the SSM session lost, resuming");
        let started = now();
        match reconnect(&mut link, &cancel).await {
            Ok(resumed) => websocket = resumed,
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

/// Notes that the websocket is gone; says whether the session is worth resuming. One that was never open has nothing to
/// keep. The phase cannot tell: a websocket may be gone before it was ever pumped to [`Phase::Open`].
fn lose_connection(shared: &Shared) -> bool {
    let mut conversation = shared.lock();
    conversation.disconnected();
    let was_open = conversation.agent().is_some();
    drop(conversation);
    shared.phase.send_replace(Phase::Waiting);
    shared.changed.notify_waiters();
    was_open
}

/// Asks for the session again until it is there, or known to be gone, or the time is over.
async fn reconnect(link: &mut Link, cancel: &CancellationToken) -> Result<WebSocket, EndReason> {
    let deadline = now() + link.resume_for();
    let mut backoff = Backoff::default();
    let mut random = fastrand::Rng::new();
    loop {
        let attempt = tokio::select! {
            () = cancel.cancelled() => return Err(EndReason::Terminated),
            attempt = link.resume() => attempt,
        };
        let error = match attempt {
            Ok(websocket) => return Ok(websocket),
            Err(ResumeError::Gone(error)) => return Err(EndReason::NotResumed(chain(&error))),
            Err(ResumeError::Failed(error)) => error,
        };
        debug!(session = %link.session_id(), cause = %chain(&error), "resuming failed, trying again");
        let delay = backoff.next_delay(&mut random);
        if now() + delay >= deadline {
            return Err(EndReason::NotResumed(chain(&error)));
        }
        tokio::select! {
            () = cancel.cancelled() => return Err(EndReason::Terminated),
            () = tokio::time::sleep(delay) => {}
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// An error with its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
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
        debug!("the websocket did not close in order");
    }
}

/// Moves frames until the conversation or the websocket ends.
async fn pump(shared: &Shared, websocket: &mut WebSocket) -> PumpEnd {
    let start = now();
    let mut pump = Pump {
        shared,
        websocket,
        ping_at: start + PING_EVERY,
        heard_at: start,
        unflushed: false,
        held_back: false,
        condition: None,
    };
    let mut timer = pin!(sleep_until(start.into()));
    poll_fn(|cx| pump.poll(timer.as_mut(), cx)).await
}

struct Pump<'a> {
    shared: &'a Shared,
    websocket: &'a mut WebSocket,
    ping_at: Instant,
    heard_at: Instant,
    unflushed: bool,
    /// The websocket was not read though it may have something.
    held_back: bool,
    /// As the pool knows it.
    condition: Option<Condition>,
}

impl Pump<'_> {
    fn poll(&mut self, mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<PumpEnd> {
        self.shared.driver.register(cx.waker());
        if let Poll::Ready(Err(error)) = self.receive(cx) {
            return Poll::Ready(PumpEnd::Lost(error));
        }
        loop {
            let now = now();
            if let Some(ended) = self.check(now) {
                return Poll::Ready(ended);
            }
            if let Poll::Ready(Err(error)) = self.transmit(now, cx) {
                return Poll::Ready(PumpEnd::Lost(error.to_string()));
            }
            if self.held_back && self.shared.lock().wants_input() {
                cx.waker().wake_by_ref();
            }
            let deadline = self.next_timeout();
            timer.as_mut().reset(deadline.into());
            ready!(timer.as_mut().poll(cx));
        }
    }

    /// Timers, and whether it is over.
    fn check(&mut self, now: Instant) -> Option<PumpEnd> {
        let shared = self.shared;
        let phase = {
            let mut conversation = shared.lock();
            self.note_full(&mut conversation, now);
            if conversation.is_full() {
                conversation.not_listening(now);
                self.heard_at = now;
            }
            if conversation.next_timeout().is_some_and(|at| now >= at) {
                conversation.on_timeout(now);
            }
            if conversation.ended().is_some() {
                return Some(PumpEnd::Ended);
            }
            if let Some(text) = conversation.take_customer_message() {
                info!(%text, "message of the session's owner");
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
        (now >= self.heard_at + DEAD_AFTER)
            .then(|| PumpEnd::Lost(format!("nothing was received for {} s", DEAD_AFTER.as_secs())))
    }

    /// A session that is held up by clients that do not read says so, once.
    fn note_full(&self, conversation: &mut Conversation, now: Instant) {
        let session = &self.shared.session_id;
        match conversation.note_full(now) {
            Some(Stall::Begun) => {
                let (unread, streams) = (conversation.mux().unread(), conversation.mux().stream_count());
                warn!(%session, unread, streams, "a client does not read: all connections of the SSM session wait");
            }
            Some(Stall::Over(lasted)) => {
                info!(%session, after_ms = millis(lasted), "the clients read again, the SSM session goes on");
            }
            None => {}
        }
    }

    fn next_timeout(&self) -> Instant {
        let own = self.ping_at.min(self.heard_at + DEAD_AFTER);
        self.shared.lock().next_timeout().map_or(own, |at| at.min(own))
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
            self.heard_at = now;
            match message {
                Message::Binary(frame) => self.on_frame(&frame, now),
                Message::Text(text) => self.on_frame(&text.into(), now),
                Message::Close(frame) => return Poll::Ready(Err(describe_close(frame))),
                // Tungstenite answers pings itself; the answer goes out with the next flush.
                Message::Ping(_) => self.unflushed = true,
                Message::Pong(_) | Message::Frame(_) => {}
            }
        }
        // More may be there, but acknowledgements must go out.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn on_frame(&self, frame: &Bytes, now: Instant) {
        if let Err(cause) = self.shared.lock().on_frame(frame, now) {
            debug!(%cause, "dropped a frame of the data channel");
        }
    }

    /// Gives the websocket all it takes. Ready only with an error.
    fn transmit(&mut self, now: Instant, cx: &mut Context<'_>) -> Poll<Result<(), tungstenite::Error>> {
        let mut websocket = Pin::new(&mut *self.websocket);
        loop {
            ready!(websocket.as_mut().poll_ready(cx))?;
            let message = if now >= self.ping_at {
                self.ping_at = now + PING_EVERY;
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
