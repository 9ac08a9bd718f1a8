//! The open connections of a target: for each its client, user, database, session and bytes. `/status` shows them; statements and
//! secrets never come here.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::OwnedSemaphorePermit;

use crate::{listen::Peer, telemetry::traffic::Traffic};

/// The interval of the histories in [`Totals`].
pub const HISTORY_INTERVAL: Duration = Duration::from_secs(10);
/// The number of intervals of the histories in [`Totals`]: ten minutes.
const HISTORY_INTERVALS: usize = 60;
/// The rate of a connection is that of the last five whole seconds.
const RATE_INTERVALS: usize = 6;

/// The open connections of one target. Clones share them.
#[derive(Clone)]
pub struct OpenConnections(Arc<Mutex<State>>);

struct State {
    next: u64,
    open: BTreeMap<u64, Arc<Connection>>,
    history: Traffic,
    sent: u64,
    received: u64,
}

/// The room that a client takes until it has logged in.
pub type Entry = [OwnedSemaphorePermit; 2];

/// One open connection.
pub struct Connection {
    id: u64,
    peer: Peer,
    accepted: Instant,
    all: OpenConnections,
    own: Mutex<Own>,
}

struct Own {
    entry: Option<Entry>,
    login: Option<Login>,
    sent: u64,
    received: u64,
    recent: Traffic,
}

/// The login of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The database user.
    pub user: String,
    /// The database; empty where the client named none.
    pub database: String,
    /// The SSM session; `None` on the direct route.
    pub session: Option<Arc<str>>,
}

/// Holds a connection in the list until it is dropped.
pub struct Tracked(Arc<Connection>);

/// One connection at the time of a request.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// A number that no other connection of the target has.
    pub id: u64,
    /// The client.
    pub peer: Peer,
    /// Since it was accepted.
    pub age: Duration,
    /// `None` while it is being connected.
    pub login: Option<Login>,
    /// Bytes from the client to the database.
    pub sent: u64,
    /// Bytes from the database to the client.
    pub received: u64,
    /// Bytes per second from the client to the database.
    pub sent_rate: u64,
    /// Bytes per second from the database to the client.
    pub received_rate: u64,
}

/// The bytes of a target since it is served, those of closed connections included.
#[derive(Debug, Clone)]
pub struct Totals {
    /// From clients to the database.
    pub sent: u64,
    /// From the database to clients.
    pub received: u64,
    /// `sent` in each of the last [`HISTORY_INTERVAL`]s, oldest first; the last one is not over yet.
    pub sent_history: Vec<u64>,
    /// The same of `received`.
    pub received_history: Vec<u64>,
}

impl Default for OpenConnections {
    fn default() -> Self {
        let history = Traffic::new(HISTORY_INTERVALS, HISTORY_INTERVAL, Instant::now());
        Self(Arc::new(Mutex::new(State { next: 1, open: BTreeMap::new(), history, sent: 0, received: 0 })))
    }
}

impl OpenConnections {
    /// Adds an accepted client.
    #[must_use = "the connection leaves the list when this is dropped"]
    pub fn accepted(&self, peer: Peer, accepted: Instant, entry: Option<Entry>) -> Tracked {
        let recent = Traffic::new(RATE_INTERVALS, Duration::from_secs(1), accepted);
        let mut state = self.lock();
        let id = state.next;
        state.next += 1;
        let own = Mutex::new(Own { entry, login: None, sent: 0, received: 0, recent });
        let connection = Arc::new(Connection { id, peer, accepted, all: self.clone(), own });
        state.open.insert(id, Arc::clone(&connection));
        Tracked(connection)
    }

    /// The open connections, oldest first.
    pub fn snapshot(&self, now: Instant) -> Vec<Snapshot> {
        let open: Vec<_> = self.lock().open.values().cloned().collect();
        open.iter().map(|connection| connection.snapshot(now)).collect()
    }

    /// Whether no connection is open.
    pub fn is_empty(&self) -> bool {
        self.lock().open.is_empty()
    }

    /// The bytes of all connections.
    pub fn totals(&self, now: Instant) -> Totals {
        let mut state = self.lock();
        Totals {
            sent: state.sent,
            received: state.received,
            sent_history: state.history.sent.sums(now),
            received_history: state.history.received.sums(now),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Records a login: the first, or another one on the same connection.
    pub fn logged_in(&self, login: Login) {
        let mut own = self.lock();
        own.login = Some(login);
        drop(own.entry.take());
    }

    /// Records another user and database on the same connection.
    pub fn changed_user(&self, user: String, database: String) {
        if let Some(login) = &mut self.lock().login {
            (login.user, login.database) = (user, database);
        }
    }

    /// Counts bytes from the client to the database.
    pub fn sent(&self, bytes: usize) {
        let (bytes, now) = (bytes as u64, Instant::now());
        {
            let mut own = self.lock();
            own.sent += bytes;
            own.recent.sent.add(bytes, now);
        }
        let mut all = self.all.lock();
        all.sent += bytes;
        all.history.sent.add(bytes, now);
    }

    /// Counts bytes from the database to the client.
    pub fn received(&self, bytes: usize) {
        let (bytes, now) = (bytes as u64, Instant::now());
        {
            let mut own = self.lock();
            own.received += bytes;
            own.recent.received.add(bytes, now);
        }
        let mut all = self.all.lock();
        all.received += bytes;
        all.history.received.add(bytes, now);
    }

    fn snapshot(&self, now: Instant) -> Snapshot {
        let mut own = self.lock();
        Snapshot {
            id: self.id,
            peer: self.peer,
            age: now.saturating_duration_since(self.accepted),
            login: own.login.clone(),
            sent: own.sent,
            received: own.received,
            sent_rate: own.recent.sent.rate(now),
            received_rate: own.recent.received.rate(now),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tracked {
    /// The connection.
    pub fn connection(&self) -> Arc<Connection> {
        Arc::clone(&self.0)
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.0.all.lock().open.remove(&self.0.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_is_listed_until_its_end_and_its_bytes_stay_counted() {
        let all = OpenConnections::default();
        let now = Instant::now();
        let first = all.accepted(Peer::Unix { uid: Some(7) }, now, None);
        let second = all.accepted(Peer::Unix { uid: Some(7) }, now, None);
        let session: Option<Arc<str>> = Some("dev-1".into());
        let login = Login { user: "app".into(), database: "shop".into(), session };
        first.connection().logged_in(login.clone());
        first.connection().sent(10);
        first.connection().received(1000);
        let open = all.snapshot(now + Duration::from_secs(3));
        assert_eq!(open.len(), 2);
        assert_eq!((open[0].login.as_ref(), open[0].sent, open[0].received), (Some(&login), 10, 1000));
        assert_eq!((open[0].age.as_secs(), open[0].received_rate, &open[1].login), (3, 200, &None));
        first.connection().changed_user("other".into(), String::new());
        assert_eq!(all.snapshot(now)[0].login.as_ref().map(|login| login.user.as_str()), Some("other"));
        drop(first);
        assert_eq!(all.snapshot(now).len(), 1);
        let totals = all.totals(now);
        assert_eq!((totals.sent, totals.received, totals.received_history.last()), (10, 1000, Some(&1000)));
        drop(second);
    }
}
