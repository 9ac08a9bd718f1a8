//! The cancel keys of the open connections, each with its server: only a key that we handed out is forwarded, and only to the
//! server that issued it. Process ids and keys are meaningless to any other server, and a name may lead to another one by now.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use database_wire::postgres::{CancelRequest, ReplacedKey};

use crate::connect::Server;

/// Keys of one target's open connections. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Registry(Arc<Mutex<Keys>>);

#[derive(Default)]
struct Keys {
    next: u64,
    keys: HashMap<u64, Entry>,
}

struct Entry {
    key: ReplacedKey,
    server: Server,
    /// A client has sent it.
    sent: bool,
}

/// Holds a key in the registry while the connection lives.
pub(super) struct Registered {
    registry: Registry,
    id: u64,
}

impl Registry {
    /// Takes a key that is about to be sent to the client, with its server.
    #[must_use = "the key is forgotten when this is dropped"]
    pub(super) fn register(&self, key: ReplacedKey, server: Server) -> Registered {
        let mut keys = self.lock();
        let id = keys.next;
        keys.next += 1;
        keys.keys.insert(id, Entry { key, server, sent: false });
        Registered { registry: self.clone(), id }
    }

    /// The server of the open connection whose key the request carries, and the request that it understands; `None` for a key that was
    /// not handed out. Compares with every key, each in constant time, so that the time taken says nothing about any of them.
    pub(super) fn request_for(&self, request: &CancelRequest) -> Option<(Server, CancelRequest)> {
        let mut keys = self.lock();
        let found = keys
            .keys
            .values_mut()
            .fold(None, |found, entry| if request.is_for(&entry.key.given) { Some(entry) } else { found })?;
        found.sent = true;
        Some((found.server.clone(), CancelRequest::new(found.key.servers.clone())))
    }

    fn lock(&self) -> MutexGuard<'_, Keys> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registered {
    /// Forgets the key. Returns whether a client has sent it: then a cancel request may still be on its way to the server.
    pub(super) fn forget(self) -> bool {
        self.registry.lock().keys.remove(&self.id).is_some_and(|entry| entry.sent)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.registry.lock().keys.remove(&self.id);
    }
}
