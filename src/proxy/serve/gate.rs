//! The password of a listener: how many clients may try it at a time, and what a wrong one costs.
//!
//! A client has a place while it proves itself, and keeps it for [`WRONG_PASSWORD_DELAY`] when it is wrong, before it hears so. The
//! places are those of its user or address: a client never waits for the guesses of another peer.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedRwLockWriteGuard, OwnedSemaphorePermit, RwLock, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    limits::WRONG_PASSWORD_DELAY,
    listen::{Peer, access::User},
    local_password::{LocalPassword, Renewed},
    proxy::error::Error,
};

/// Clients of one peer that prove themselves at a time. More wait, and a client with the password is through at once.
const PLACES: usize = 10;
/// The longest wait of a client for the greeting of the server. Clients give up after ten seconds or more.
const LEARNING_TIMEOUT: Duration = Duration::from_secs(5);

/// Judges the clients of a target by its local password.
pub(super) struct Gate {
    password: Renewed,
    /// The peers that have a client here, with their free places.
    peers: Mutex<HashMap<Whose, Arc<Semaphore>>>,
    /// Held for writing while the greeting of the server is learnt.
    learning: Arc<RwLock<()>>,
}

/// The owner of clients that share their places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Whose {
    User(u32),
    Address(IpAddr),
    Unknown,
}

impl Whose {
    fn of(peer: Peer, owner: User) -> Self {
        match (owner.uid, peer) {
            (Some(uid), _) => Self::User(uid),
            (None, Peer::Tcp { remote, .. }) => Self::Address(match remote.ip().to_canonical() {
                // A host has all of its network's addresses at will.
                IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() >> 64 << 64).into()),
                ip @ IpAddr::V4(_) => ip,
            }),
            (None, Peer::Unix { .. }) => Self::Unknown,
        }
    }
}

impl Gate {
    pub(super) fn new(password: LocalPassword) -> Self {
        Self { password: Renewed::new(password), peers: Mutex::default(), learning: Arc::default() }
    }

    /// The password that counts now.
    pub(super) fn password(&self) -> Arc<LocalPassword> {
        self.password.current()
    }

    /// While this is held, clients wait for the greeting of the server.
    pub(super) fn learning(&self) -> Option<OwnedRwLockWriteGuard<()>> {
        Arc::clone(&self.learning).try_write_owned().ok()
    }

    /// Waits for the greeting of the server if it is being learnt, [`LEARNING_TIMEOUT`] at most.
    pub(super) async fn until_learnt(&self) {
        let _ = timeout(LEARNING_TIMEOUT, self.learning.read()).await;
    }

    /// A place for a client that has not proved itself yet. Waits for one, as long as it takes: the deadline is the caller's.
    pub(super) async fn place(&self, peer: Peer, owner: User) -> OwnedSemaphorePermit {
        let places = {
            let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
            // Each client that waits or has a place holds one, the map the last.
            peers.retain(|_, places| Arc::strong_count(places) > 1);
            let places = peers.entry(Whose::of(peer, owner));
            Arc::clone(places.or_insert_with(|| Arc::new(Semaphore::new(PLACES))))
        };
        places.acquire_owned().await.expect("the semaphore is never closed")
    }

    /// The error for a client without the password, after the delay or when all connections `stop`. The client keeps its place
    /// meanwhile.
    pub(super) async fn refuse(&self, stop: &CancellationToken, peer: Peer, user: &str, given: bool) -> Error {
        tokio::select! {
            () = sleep(WRONG_PASSWORD_DELAY) => {}
            () = stop.cancelled() => {}
        }
        let host = match peer {
            Peer::Tcp { remote, .. } => remote.ip().to_canonical().to_string(),
            Peer::Unix { .. } => "localhost".into(),
        };
        Error::LocalPassword { user: user.to_owned(), host, given }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn gate() -> (tempfile::TempDir, Gate) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        crate::local_password::create(&file, false).unwrap();
        let password = LocalPassword::of_file(&file).unwrap_or_else(|error| panic!("{error}"));
        (folder, Gate::new(password))
    }

    fn from(address: &str) -> Peer {
        Peer::Tcp { remote: address.parse().unwrap(), local: "192.0.2.9:5432".parse().unwrap() }
    }

    #[tokio::test]
    async fn guesses_of_one_peer_do_not_keep_others_out() {
        let (_folder, gate) = gate();
        let mut places = Vec::new();
        for port in 1..=PLACES {
            places.push(gate.place(from(&format!("192.0.2.1:{port}")), User::UNKNOWN).now_or_never().unwrap());
        }
        assert!(gate.place(from("192.0.2.1:99"), User::UNKNOWN).now_or_never().is_none());
        for (peer, owner) in [
            (from("192.0.2.2:1"), User::UNKNOWN),
            (from("192.0.2.1:1"), User { uid: Some(1000), is_own: false }),
            (Peer::Unix { uid: None }, User::UNKNOWN),
        ] {
            assert!(gate.place(peer, owner).now_or_never().is_some(), "{peer}");
        }
        places.pop();
        assert!(gate.place(from("192.0.2.1:99"), User::UNKNOWN).now_or_never().is_some());
        drop(places);
        drop(gate.place(from("192.0.2.3:1"), User::UNKNOWN).await);
        assert_eq!(gate.peers.lock().unwrap().len(), 1, "peers that have gone are forgotten");
    }

    #[test]
    fn addresses_of_one_network_of_ipv6_share_their_places() {
        let whose = |address: &str| Whose::of(from(address), User::UNKNOWN);
        assert_eq!(whose("[2001:db8::1]:1"), whose("[2001:db8::ffff:1]:2"));
        assert_ne!(whose("[2001:db8::1]:1"), whose("[2001:db8:0:1::1]:1"));
        assert_eq!(whose("[::ffff:192.0.2.1]:1"), whose("192.0.2.1:2"));
    }
}
