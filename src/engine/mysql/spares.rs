//! Spare connections: greeted connections to a MySQL server without a client. They are kept for the next client.
//!
//! A MySQL server speaks first, so it is dialled before a client has said anything; and it counts each connection that is
//! broken off after its greeting, until it refuses every connection from the bastion's address ([`goodbye`](database_wire::mysql::goodbye)). So a
//! client that leaves (a port probe, one that insists on TLS, one that is too slow) leaves its connection to the next.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use database_wire::mysql::Greeting;

use super::greeted::Greeted;

/// How long a greeted connection may wait: well below the `connect_timeout` of servers, 10 s unless it was changed. A server
/// with a shorter one is noticed ([`Spares::shorten`]).
const LIFETIME: Duration = Duration::from_secs(5);
/// The least that is tried.
const MIN_LIFETIME: Duration = Duration::from_millis(500);
/// Connections of a target that wait at the same time; more are ended at once.
const MAX_WAITING: usize = 4;

/// The spare connections of one target.
#[derive(Default)]
pub(super) struct Spares(Mutex<State>);

pub(super) struct State {
    next: u64,
    /// Oldest first.
    waiting: Vec<(u64, Greeted)>,
    pub(super) lifetime: Duration,
    /// The user of the last login that succeeded.
    pub(super) user: Option<String>,
    /// The greeting of the last connection.
    pub(super) greeting: Option<Greeting>,
    /// A login that was to end a connection has failed: the next ones are ended without TLS and token.
    pub(super) login_fails: bool,
}

impl Default for State {
    fn default() -> Self {
        Self { next: 0, waiting: Vec::new(), lifetime: LIFETIME, user: None, greeting: None, login_fails: false }
    }
}

impl Spares {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client has logged in as this user.
    pub(super) fn logged_in(&self, user: &str) {
        let mut state = self.lock();
        state.login_fails = false;
        if state.user.as_deref() != Some(user) {
            state.user = Some(user.to_owned());
        }
    }

    pub(super) fn put(&self, greeted: Greeted) -> Result<u64, Box<Greeted>> {
        let mut state = self.lock();
        if state.waiting.len() >= MAX_WAITING {
            return Err(Box::new(greeted));
        }
        let id = state.next;
        state.next += 1;
        state.waiting.push((id, greeted));
        Ok(id)
    }

    pub(super) fn take(&self, id: u64) -> Option<Greeted> {
        let mut state = self.lock();
        let at = state.waiting.iter().position(|(waiting, _)| *waiting == id)?;
        Some(state.waiting.remove(at).1)
    }

    /// The newest; half of its lifetime is left for the client to answer in.
    pub(super) fn take_newest(&self) -> Option<Greeted> {
        let mut state = self.lock();
        let (_, newest) = state.waiting.last()?;
        if newest.since.elapsed() > state.lifetime / 2 {
            return None;
        }
        state.waiting.pop().map(|(_, greeted)| greeted)
    }

    /// A server has ended a connection that had waited for `age`: the next ones wait for half of that.
    pub(super) fn shorten(&self, age: Duration) {
        let mut state = self.lock();
        state.lifetime = state.lifetime.min(age / 2).max(MIN_LIFETIME);
    }
}
