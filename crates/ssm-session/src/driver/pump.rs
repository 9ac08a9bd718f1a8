//! Moves frames between one websocket and the conversation until either ends.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{Sink, Stream};
use tokio::time::{Sleep, sleep_until};
use tokio_tungstenite::tungstenite::{self, Message, protocol::CloseFrame};
use tracing::{debug, info, warn};

use super::lost::{Lost, Proof};
use crate::{
    clock,
    conversation::Conversation,
    idle::IdleWarning,
    liveness::{Liveness, ProbeReason},
    load::Condition,
    machine::Machine,
    stream::{Phase, Shared},
    tally::Stall,
    websocket::WebSocket,
};

/// Frames taken from the websocket before it is the senders' turn again.
const INBOUND_BATCH: usize = 64;
/// A websocket that has lasted this long works, even if only pongs were received.
const STEADY: Duration = Duration::from_secs(10);

/// How one websocket's life ended.
#[derive(Debug)]
pub(super) enum PumpEnd {
    /// The conversation is over.
    Ended,
    /// The websocket is gone, the session may go on.
    Lost(Lost),
}

/// Moves frames until the conversation or the websocket ends.
pub(super) async fn pump(shared: &Shared, websocket: &mut WebSocket, machine: &mut Machine) -> PumpEnd {
    let started = clock::now();
    let liveness = Liveness::new(started, machine.wall_clock());
    let mut pump = Pump {
        shared,
        websocket,
        machine,
        liveness,
        unflushed: false,
        held_back: false,
        proof: Proof::None,
        condition: None,
    };
    let mut timer = pin!(sleep_until(started.into()));
    match poll_fn(|cx| pump.poll(timer.as_mut(), cx)).await {
        Ok(()) => PumpEnd::Ended,
        Err(reason) => {
            let steady = clock::now() >= started + STEADY;
            let proof = if pump.proof == Proof::Heard && steady { Proof::Works } else { pump.proof };
            PumpEnd::Lost(Lost { reason, proof })
        }
    }
}

struct Pump<'a> {
    shared: &'a Shared,
    websocket: &'a mut WebSocket,
    machine: &'a mut Machine,
    liveness: Liveness,
    /// Frames were given to the websocket since its last flush.
    unflushed: bool,
    /// The websocket was not read although it may have frames.
    held_back: bool,
    proof: Proof,
    /// The condition that the pool was notified of last.
    condition: Option<Condition>,
}

impl Pump<'_> {
    /// Ready when the conversation is over, or with the reason why the websocket is lost.
    fn poll(&mut self, mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        self.shared.driver.register(cx.waker());
        // First, since acknowledgements of received messages carry the time of day.
        let wall_clock = self.machine.wall_clock();
        self.shared.lock().set_wall_clock(clock::now(), wall_clock);
        if let Poll::Ready(Err(error)) = self.receive(cx) {
            return Poll::Ready(Err(error));
        }
        loop {
            let now = clock::now();
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

    /// Probes the link if there is a reason to.
    fn probe_if_due(&mut self, now: Instant) {
        let stood_still = self.liveness.stood_still(now, self.machine.wall_clock());
        let network_changed = self.liveness.network_check_due(now) && self.machine.network_changed();
        let reason = if stood_still {
            // Timers that ran through the sleep do not show that the agent is silent.
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

    /// Runs the conversation's timers and passes its news on. Returns whether it is over.
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

    /// Logs that clients which do not read block the session, and that they read again.
    fn note_full(&self, conversation: &mut Conversation, now: Instant) {
        let session = &self.shared.session_id;
        match conversation.note_full(now) {
            Some(Stall::Begun) => {
                let (unread, streams) = (conversation.mux().unread(), conversation.mux().stream_count());
                warn!(%session, unread, streams, "a client stopped reading; every connection on this SSM session is blocked");
            }
            Some(Stall::Over(lasted)) => {
                info!(%session, after_ms = clock::millis(lasted), "client reading again; SSM session unblocked");
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
            // Then the websocket has no waker of ours; the reader that makes room wakes us.
            self.held_back = !self.shared.lock().wants_input();
            if self.held_back {
                return Poll::Pending;
            }
            let message = match ready!(Pin::new(&mut *self.websocket).poll_next(cx)) {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Poll::Ready(Err(error.to_string())),
                None => return Poll::Ready(Err("closed without a close frame".into())),
            };
            let now = clock::now();
            if let Message::Close(frame) = message {
                return Poll::Ready(Err(describe_close(frame)));
            }
            self.proof = self.proof.max(Proof::Heard);
            self.liveness.heard(message.is_pong(), now);
            match message {
                Message::Binary(frame) => self.on_frame(&frame, now),
                Message::Text(text) => self.on_frame(&text.into(), now),
                // Tungstenite replies to pings itself; the pong goes out with the next flush.
                Message::Ping(_) => self.unflushed = true,
                Message::Pong(_) | Message::Close(_) | Message::Frame(_) => {}
            }
        }
        // More frames may be there, but acknowledgements must go out.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn on_frame(&mut self, frame: &Bytes, now: Instant) {
        self.proof = Proof::Works;
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

/// The close frame in words. Its reason is a text of the service, cut to 80 characters.
fn describe_close(frame: Option<CloseFrame>) -> String {
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
