//! The session's one task with a clock and a socket: moves frames between the websocket and the conversation, pings, notices
//! a dead link, reconnects, and ends the session properly.
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

mod lost;
mod pump;
mod recovery;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::SinkExt;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::{
    pump::{PumpEnd, pump},
    recovery::Recovery,
};
use crate::{
    clock,
    conversation::EndReason,
    link::Link,
    machine::Machine,
    stream::{Phase, Shared},
    websocket::WebSocket,
};

/// Limit for the last frames and the close frame of a session that is over.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs a session until it is over. `cancel` ends the attempts to resume it.
pub(crate) async fn run(
    shared: Arc<Shared>,
    (mut websocket, mut machine): (WebSocket, Machine),
    mut link: Link,
    cancel: CancellationToken,
) {
    let session_id = Arc::clone(link.session_id());
    let mut recovery = Recovery::new();
    let reason = loop {
        shared.lock().connected(clock::now());
        let lost = match pump(&shared, &mut websocket, &mut machine).await {
            PumpEnd::Ended => {
                close(&shared, &mut websocket).await;
                break shared.lock().ended().cloned().unwrap_or(EndReason::Terminated);
            }
            PumpEnd::Lost(lost) => lost,
        };
        let Some(deadline) = lose_connection(&shared, clock::now() + link.resume_for()) else {
            let mut conversation = shared.lock();
            conversation.end(EndReason::NotResumed(lost.reason));
            break conversation.ended().cloned().unwrap_or(EndReason::Terminated);
        };
        info!(session = %session_id, reason = %lost.reason, "connection of the SSM session lost, resuming");
        recovery.lost(&lost, deadline);
        let started = clock::now();
        match recovery.reconnect(&shared, &mut link, &cancel).await {
            Ok(resumed) => (websocket, machine) = resumed,
            Err(reason) => {
                shared.lock().end(reason.clone());
                break reason;
            }
        }
        info!(session = %session_id, after_ms = clock::millis(started.elapsed()), "SSM session resumed");
    };
    match &reason {
        EndReason::Terminated => {
            debug!(session = %session_id, tally = ?shared.lock().tally(clock::now()), "SSM session terminated");
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

/// Runs the `work` of a session's task. If that panics, the session ends and its streams fail.
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

/// Notes that the websocket is gone. Returns until when the session is worth resuming; `None` if it is over. The phase does not
/// tell: a websocket may be gone before it was ever pumped to [`Phase::Open`].
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

/// Sends the frames that wait, then the close frame.
async fn close(shared: &Shared, websocket: &mut WebSocket) {
    let last_frames = async {
        while let Some(frame) = { shared.lock().poll_transmit(clock::now()) } {
            websocket.feed(Message::Binary(frame)).await?;
        }
        websocket.close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() })).await
    };
    if !matches!(timeout(CLOSE_TIMEOUT, last_frames).await, Ok(Ok(()))) {
        debug!("the websocket did not close cleanly");
    }
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
