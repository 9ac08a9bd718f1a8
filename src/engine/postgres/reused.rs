//! Reused connections: logged in, left by their client with a goodbye, and reset. They wait for the next client that would log in
//! in the same way, with the same startup and the same credentials.
//!
//! A connection whose client did anything unusual ([`Watch::is_unusual`](database_wire::postgres::Watch::is_unusual)), left in
//! another way, or had a query cancelled is not reused; nor is one whose session is not as it was at the login after the reset.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use database_wire::postgres::{self, LoggedIn, Notice, Startup, message::TERMINATE};
use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::oneshot,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{reached::Reached, tap::Tap};
use crate::{
    connect::Attempt,
    engine::client_first::{Established, Reuse},
    login::{Login, Prepared},
    stream::{BoxIo, goodbye::Goodbye},
    target::Target,
};

/// Connections of a target that wait at the same time; more are ended.
const MAX_WAITING: usize = 10;
/// From its login, after which a connection is not reused any more: as long as a login token is valid.
const MAX_AGE: Duration = Duration::from_mins(15);
/// For the reset, and then for the goodbye.
const RESET_TIMEOUT: Duration = Duration::from_secs(5);

/// The connections of one target that wait for another client.
#[derive(Default)]
pub(super) struct Reused(Mutex<State>);

#[derive(Default)]
struct State {
    next: u64,
    /// Oldest first.
    waiting: Vec<(u64, Waiting)>,
}

struct Waiting {
    stream: BoxIo,
    origin: Box<Origin>,
    /// Dropped when the connection is taken.
    _taken: oneshot::Sender<()>,
}

/// How a connection was logged in, and for whom it can be reused.
#[derive(Clone)]
pub(super) struct Origin {
    reused: Arc<Reused>,
    target: Arc<Target>,
    /// As it was sent to the server.
    startup: Startup,
    prepared: Prepared,
    reached: Reached,
    /// With the cancel key of the server.
    logged_in: LoggedIn,
    opened: Instant,
    was_used: bool,
}

impl Reused {
    /// Whether connections of a target are reused at all. A password that the client alone knows has to be proved by each.
    pub(super) fn is_for(target: &Target) -> bool {
        target.reuse.is_some() && Login::of(target) != Login::Password
    }

    /// Of a connection that has just been logged in.
    pub(super) fn origin(
        self: &Arc<Self>,
        target: &Arc<Target>,
        (startup, prepared): (Startup, Prepared),
        reached: Reached,
        logged_in: LoggedIn,
    ) -> Box<Origin> {
        let (reused, target) = (Arc::clone(self), Arc::clone(target));
        let opened = Instant::now();
        Box::new(Origin { reused, target, startup, prepared, reached, logged_in, opened, was_used: false })
    }

    /// The newest connection for a client that would log in so. Connections of other credentials are ended.
    pub(super) fn take(&self, startup: &Startup, prepared: &Prepared) -> Option<(BoxIo, Box<Origin>)> {
        let mut state = self.lock();
        state.waiting.retain(|(_, waiting)| waiting.origin.prepared.is_same(prepared));
        loop {
            let at = state.waiting.iter().rposition(|(_, waiting)| waiting.origin.startup == *startup)?;
            let Waiting { mut stream, mut origin, _taken } = state.waiting.remove(at).1;
            // A server that has said something meanwhile is about to end, or has changed a setting.
            if stream.read(&mut [0]).now_or_never().is_none() {
                origin.was_used = true;
                return Some((stream, origin));
            }
        }
    }

    fn put(&self, stream: BoxIo, origin: Box<Origin>) -> Result<(u64, oneshot::Receiver<()>), BoxIo> {
        let mut state = self.lock();
        if state.waiting.len() >= MAX_WAITING {
            return Err(stream);
        }
        let id = state.next;
        state.next += 1;
        let (taken, is_taken) = oneshot::channel();
        state.waiting.push((id, Waiting { stream, origin, _taken: taken }));
        Ok((id, is_taken))
    }

    fn remove(&self, id: u64) -> Option<BoxIo> {
        let mut state = self.lock();
        let at = state.waiting.iter().position(|(waiting, _)| *waiting == id)?;
        Some(state.waiting.remove(at).1.stream)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Origin {
    /// The connection for a client, with a cancel key of its own.
    pub(super) fn established(
        self: Box<Self>,
        stream: BoxIo,
        notice: Option<&Notice>,
        attempt: Attempt,
    ) -> Box<Established> {
        let mut logged_in = self.logged_in.clone();
        let key = logged_in.replace_cancel_key();
        let goodbye = Goodbye::new(&TERMINATE);
        let mut established = self.reached.clone().established(stream, logged_in, notice, attempt);
        established.cancel = key.zip(self.reached.server.clone());
        established.tap = Box::new(Tap::new(&established.greeting).withholding(Some(goodbye.clone())));
        established.record.reused = self.was_used;
        established.reuse = Some((goodbye, self as Box<dyn Reuse>));
        established
    }

    /// Whether the session is as it was at the login, after a reset.
    async fn reset(&self, stream: &mut BoxIo) -> bool {
        match timeout(RESET_TIMEOUT, postgres::reset(stream, &self.logged_in)).await {
            Ok(Ok(is_same)) => is_same,
            Ok(Err(error)) => {
                debug!(target = %self.target.name, %error, "a connection cannot be reset for another client");
                false
            }
            Err(_) => false,
        }
    }
}

impl Reuse for Origin {
    fn keep(self: Box<Self>, mut stream: BoxIo, stop: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let until = self.opened + MAX_AGE;
            let until = until.min(Instant::now() + self.target.reuse.unwrap_or_default());
            let is_same = tokio::select! {
                is_same = self.reset(&mut stream) => is_same && Instant::now() < until,
                () = stop.cancelled() => false,
            };
            if !is_same {
                return end(stream).await;
            }
            let reused = Arc::clone(&self.reused);
            let target = Arc::clone(&self.target);
            let (id, taken) = match reused.put(stream, self) {
                Ok(waiting) => waiting,
                Err(stream) => return end(stream).await,
            };
            debug!(target = %target.name, "a connection waits for the next client");
            tokio::select! {
                _ = taken => return,
                () = sleep_until(until) => {}
                () = stop.cancelled() => {}
            }
            if let Some(stream) = reused.remove(id) {
                end(stream).await;
            }
        })
    }
}

/// Ends a connection as its client would have.
async fn end(mut stream: BoxIo) {
    let ending = async {
        stream.write_all(&TERMINATE).await?;
        stream.shutdown().await
    };
    let _ = timeout(RESET_TIMEOUT, ending).await;
}
