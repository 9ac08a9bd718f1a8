//! The cancel keys of the connections that are open: only a key that we handed out is forwarded.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::postgres::{CancelKey, CancelRequest};

/// Keys of one target's open connections. Clones share them.
#[derive(Clone, Default)]
pub struct Registry(Arc<Mutex<Keys>>);

#[derive(Default)]
struct Keys {
    next: u64,
    keys: HashMap<u64, CancelKey>,
}

/// Holds a key in the registry while the connection lives.
pub struct Registered {
    registry: Registry,
    id: u64,
}

impl Registry {
    /// Takes a key that the client is about to hear.
    #[must_use = "the key is forgotten when this is dropped"]
    pub fn register(&self, key: CancelKey) -> Registered {
        let mut keys = self.lock();
        let id = keys.next;
        keys.next += 1;
        keys.keys.insert(id, key);
        Registered { registry: self.clone(), id }
    }

    /// Whether a request carries the key of an open connection. Compares with every key, each in constant time, so that
    /// the time taken says nothing about any of them.
    pub fn knows(&self, request: &CancelRequest) -> bool {
        self.lock().keys.values().fold(false, |known, key| known | request.is_for(key))
    }

    fn lock(&self) -> MutexGuard<'_, Keys> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.registry.lock().keys.remove(&self.id);
    }
}
