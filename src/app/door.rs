//! A bound socket of a target, and the task that accepts its clients. A reload hands it to another target, or to the same one with
//! other settings, without closing it.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tracing::{info, warn};

use super::{
    current::Current,
    room::{Hall, Rooms},
};
use crate::{
    listen::{Address, Listener, Local},
    proxy::serve::serve,
};

/// The pause after a failed accept, which mostly means that file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A question to an accept loop, which answers it while it accepts clients.
pub(super) type Ping = oneshot::Sender<()>;

/// A bound socket that takes clients. They are refused from the time that this is dropped.
pub(super) struct Door {
    /// The address that was configured.
    pub(super) address: Address,
    /// The address that is bound.
    pub(super) local: Local,
    current: watch::Sender<Arc<Current>>,
    pings: mpsc::Sender<Ping>,
    stop: DropGuard,
    accepting: JoinHandle<()>,
}

impl Door {
    /// Takes clients of `current` until `stop`. Connections become tasks of `tasks`.
    pub(super) fn open(
        (address, local): (Address, Local),
        listener: Listener,
        current: &Arc<Current>,
        rooms: &Rooms,
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) -> Self {
        let current = watch::Sender::new(Arc::clone(current));
        let (pings, pinged) = mpsc::channel(1);
        let stop = stop.child_token();
        let (stopped, serving, connections) = (stop.clone(), current.subscribe(), tasks.clone());
        let hall = rooms.hall();
        let accepting = tasks.spawn(async move {
            tokio::select! {
                () = accept(&listener, &hall, &serving, pinged, &connections) => {}
                () = stopped.cancelled() => {}
            }
        });
        Self { address, local, current, pings, stop: stop.drop_guard(), accepting }
    }

    /// The same socket as part of another configured address.
    pub(super) fn at(self, address: &Address) -> Self {
        Self { address: address.clone(), ..self }
    }

    /// Serves `current` to the clients that come from now on.
    pub(super) fn lead_to(&self, current: &Arc<Current>) {
        self.current.send_replace(Arc::clone(current));
    }

    /// Asks its accept loop whether it is alive.
    pub(super) fn pings(&self) -> mpsc::Sender<Ping> {
        self.pings.clone()
    }

    /// Stops to listen, and waits until the address is free.
    pub(super) async fn close(self) {
        drop(self.stop);
        // It ends by itself, and its panic has been reported.
        let _ = self.accepting.await;
    }
}

async fn accept(
    listener: &Listener,
    hall: &Hall,
    current: &watch::Receiver<Arc<Current>>,
    mut pings: mpsc::Receiver<Ping>,
    tasks: &TaskTracker,
) {
    let mut exhausted = false;
    loop {
        let accepted = tokio::select! {
            accepted = async {
                let room = hall.room().await;
                listener.accept().await.map(|client| (client, room))
            } => accepted,
            Some(ping) = pings.recv() => {
                // The watchdog may have given up.
                let _ = ping.send(());
                continue;
            }
        };
        match accepted {
            Ok((client, (room, entry))) => {
                if std::mem::take(&mut exhausted) {
                    info!("clients are accepted again");
                }
                let (current, accepted) = (Arc::clone(&current.borrow()), Instant::now());
                tasks.spawn(async move {
                    let service = current.service().await;
                    Box::pin(serve(&service, client, accepted, entry)).await;
                    drop(room);
                });
            }
            Err(cause) => {
                if !std::mem::replace(&mut exhausted, true) {
                    warn!(%cause, "cannot accept a connection; clients wait until one can be accepted");
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
