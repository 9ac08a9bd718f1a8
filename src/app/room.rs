//! Room for clients: a listener that has none leaves them in the backlog of the system, where they cost nothing and are not refused.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{platform::limits, proxy::open::Entry};

/// Clients of one listener that have not logged in.
const ARRIVING: usize = 256;
/// The same, of all listeners together. Each holds less than 200 KiB for its first packets.
const ALL_ARRIVING: usize = 1024;
/// Files for everything but clients: listeners, SSM sessions, AWS calls, the log.
const OTHER_FILES: u64 = 64;
/// A client and its connection to the database.
const FILES_PER_CLIENT: u64 = 2;
/// The largest number of clients where files are not limited.
const MAX_CLIENTS: u64 = 1 << 20;

/// Room in the process.
#[derive(Debug, Clone)]
pub(super) struct Rooms {
    clients: Arc<Semaphore>,
    arriving: Arc<Semaphore>,
}

/// The room of one listener.
#[derive(Debug)]
pub(super) struct Hall {
    all: Rooms,
    arriving: Arc<Semaphore>,
}

impl Rooms {
    /// As many clients as the files suffice for that the process may open.
    pub(super) fn of_process() -> Self {
        Self::with_files(limits::open_files())
    }

    fn with_files(files: Option<u64>) -> Self {
        let clients = files.map_or(MAX_CLIENTS, |files| files.saturating_sub(OTHER_FILES) / FILES_PER_CLIENT);
        let clients = usize::try_from(clients.clamp(1, MAX_CLIENTS)).unwrap_or(1);
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self { clients: semaphore(clients), arriving: semaphore(ALL_ARRIVING) }
    }

    /// For another listener.
    pub(super) fn hall(&self) -> Hall {
        Hall { all: self.clone(), arriving: Arc::new(Semaphore::new(ARRIVING)) }
    }
}

impl Hall {
    /// Waits for room for one more client: until its end, and until its login. Cancel safe.
    pub(super) async fn room(&self) -> (OwnedSemaphorePermit, Entry) {
        // The listener's own first, so that one without room takes none from the others.
        let own = permit(&self.arriving).await;
        let arriving = permit(&self.all.arriving).await;
        (permit(&self.all.clients).await, [own, arriving])
    }
}

async fn permit(semaphore: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    Arc::clone(semaphore).acquire_owned().await.expect("the semaphore is never closed")
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::task::unconstrained;

    use super::*;

    #[tokio::test]
    async fn room_is_bounded_by_files_and_until_the_login() {
        let rooms = Rooms::with_files(Some(64 + 2 * 300));
        let (first, second) = (rooms.hall(), rooms.hall());
        let mut clients = Vec::new();
        while let Some((client, entry)) = unconstrained(first.room()).now_or_never() {
            clients.push((client, Some(entry)));
        }
        assert_eq!(clients.len(), ARRIVING, "one listener");
        clients[0].1 = None;
        clients.push(unconstrained(first.room()).now_or_never().map(|(client, entry)| (client, Some(entry))).unwrap());
        while let Some((client, entry)) = unconstrained(second.room()).now_or_never() {
            clients.push((client, Some(entry)));
        }
        assert_eq!(clients.len(), 300, "the process");
        clients.pop();
        assert!(unconstrained(second.room()).now_or_never().is_some());
        assert_eq!(Rooms::with_files(None).clients.available_permits(), 1 << 20);
        assert_eq!(Rooms::with_files(Some(10)).clients.available_permits(), 1);
    }
}
