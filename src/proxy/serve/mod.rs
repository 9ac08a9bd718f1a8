//! The life of one connection, from accept to its log line, in two orders: `client_first` and `server_first`. The engine says
//! which is its own, and says and hears what its clients say and hear.

mod arrival;
mod client_first;
mod gate;
mod observer;
mod refusal;
mod server_first;
mod service;
mod startup;

use std::sync::Arc;

use tokio::{
    sync::OwnedRwLockWriteGuard,
    time::{Instant, sleep},
};
use tracing::debug;

pub use self::service::{CurrentService, HeldCredentials, Service, counts};
use self::{
    arrival::{Arrival, Client},
    refusal::FAREWELL_TIMEOUT,
};
use crate::{
    connect::{self, Deadline},
    engine::Order,
    listen::Accepted,
    proxy::open::Entry,
};

/// Serves one client, which was accepted at `accepted`, to its end; writes the connection's log line. It keeps its `entry` until it has
/// logged in.
pub async fn serve(service: &Service, Accepted { stream, peer }: Accepted, accepted: Instant, entry: Entry) {
    let open = service.connections.accepted();
    let arrival = Arrival::new(peer, accepted, service.connect_timeout);
    let tracked = service.open.accepted(peer, accepted.into_std(), Some(entry));
    let client = Client { stream, arrival, certificate: None, connection: tracked.connection() };
    // The engines reply to refused clients; this limits the number of replies at a time.
    let _room = match service.admit(peer) {
        Err(refused) if refused.is_stranger() => match service.strangers.admit() {
            Some(room) => Some(room),
            None => return arrival.log_refused(service, "", &refused.into()),
        },
        _ => None,
    };
    let mut kept = None;
    let serving = async {
        match &service.engine {
            Order::ClientFirst(engine) => client_first::serve(service, &**engine, client, &mut kept).await,
            Order::ServerFirst(engine) => server_first::serve(service, engine, client).await,
        }
    };
    // Each part watches `abort` by itself; this is for one that does not.
    let cut = async {
        service.abort.cancelled().await;
        sleep(FAREWELL_TIMEOUT).await;
    };
    tokio::select! {
        () = serving => {}
        () = cut => {}
    }
    // The client has left.
    drop((open, tracked));
    if let Some(kept) = kept {
        tokio::select! {
            () = kept => {}
            () = service.abort.cancelled() => {}
        }
    }
}

/// Held while the greeting of a server is learnt, for which clients wait.
#[derive(Debug)]
pub struct Learning(#[expect(dead_code, reason = "it is held")] Option<OwnedRwLockWriteGuard<()>>);

impl Learning {
    /// From now on the clients of this service wait, if they have to be greeted before the server is dialled for them.
    pub fn begin(service: &Service) -> Self {
        Self(service.gate.as_ref().and_then(|gate| gate.learning()))
    }
}

/// Hears the greeting of a server that speaks first, where clients have to be greeted before it is dialled for them. The
/// connection is ended in order.
pub async fn learn(service: &Service, _learning: Learning) {
    let (Order::ServerFirst(engine), Some(_)) = (&service.engine, &service.gate) else { return };
    let deadline = Deadline::unattended(Instant::now() + service.connect_timeout);
    let learning = async {
        match engine.greet(&service.upstream, deadline).await {
            Ok(greeted) => engine.retire(&service.upstream, greeted).await,
            Err(error) => {
                let target = service.upstream.target();
                let (target, cause) = (&target.name, error.message(target.remote()));
                debug!(%target, cause, "the greeting of the database server is not known yet");
            }
        }
    };
    tokio::select! {
        () = learning => {}
        () = service.abort.cancelled() => {}
    }
}

/// Goes to the database as far as it is possible without a client, before `deadline`. Afterwards the route has what the first
/// client needs. The work that is returned keeps the connection for that client, where the server minds one that is broken off.
///
/// # Errors
/// [`connect::Error`], by step.
pub async fn reach(
    service: &Arc<Service>,
    deadline: Deadline,
) -> Result<Option<impl Future<Output = ()> + Send + use<>>, connect::Error> {
    match &service.engine {
        Order::ClientFirst(engine) => engine.reach(&service.upstream, deadline).await.map(|()| None),
        Order::ServerFirst(engine) => {
            let greeted = engine.greet(&service.upstream, deadline).await?;
            let (service, engine) = (Arc::clone(service), Arc::clone(engine));
            Ok(Some(async move { server_first::keep(&service, &engine, greeted).await }))
        }
    }
}
