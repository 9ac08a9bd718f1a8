//! Serves a client that speaks first: its startup, the login to the database, the relay, and the message at the end.

use std::{future::pending, io, sync::Arc};

use database_wire::{
    Encryption,
    postgres::{self, CancelRequest},
};
use futures_util::future::BoxFuture;
use tokio::{io::AsyncWriteExt, time::timeout};
use tracing::{debug, info};

use super::{
    arrival::Client,
    gate::Gate,
    observer::Observer,
    refusal::{FAREWELL_TIMEOUT, farewell, refuse},
    service::Service,
    startup::{apply_configured_names, in_time, text},
};
use crate::{
    connect::Deadline,
    engine::{
        ClientFirst, Failure,
        client_first::{Accepted, Connected, Established, Login},
    },
    listen::{
        self,
        access::{self, User},
    },
    login,
    proxy::{error::Error, registry::Registered},
    stream::{
        goodbye::{Goodbye, Withholding},
        relay::{End, Reason, Side, relay},
    },
};

/// Keeps a connection whose client has left, for another client.
pub(super) type Kept = BoxFuture<'static, ()>;

/// Serves one client from its first packet to its end. `kept` receives the task that keeps the connection to the database for
/// another client.
pub(super) async fn serve(service: &Service, engine: &dyn ClientFirst, mut client: Client, kept: &mut Option<Kept>) {
    let target = &service.upstream.target().name;
    match accept(service, engine, &mut client).await {
        Ok((Accepted::Login(login), owner)) => {
            Box::pin(connect(service, engine, client, login, owner, kept)).await;
        }
        Ok((Accepted::Cancel(request), _)) => cancel(service, engine, &request, client.arrival.limits).await,
        Ok((Accepted::Gone { why: Some(why) }, _)) => info!(%target, peer = %client.arrival.peer, "{why}"),
        // Inside TLS it is not offered again.
        Ok((Accepted::Gone { why: None } | Accepted::Tls { .. }, _)) => {
            debug!(%target, peer = %client.arrival.peer, "port probe");
        }
        Err(error) => refuse(client, error, service, "", |failure| engine.reply(failure)).await,
    }
}

/// The wish of the client, and its user.
async fn accept<'e>(
    service: &Service,
    engine: &'e dyn ClientFirst,
    client: &mut Client,
) -> Result<(Accepted<'e>, User), Error> {
    let admitted = service.admit(client.arrival.peer);
    // A client that is not admitted is heard out all the same: it understands an error only after its startup.
    let accepted = in_time(service, client.arrival.deadline, hear(service, engine, client)).await;
    match (admitted, accepted?) {
        // Drivers send a CancelRequest and close at once. Its sender is no longer known, but the key is enough.
        (Ok(owner), accepted) => Ok((accepted?, owner)),
        (Err(access::Error::Gone), Ok(cancel @ Accepted::Cancel(_))) => Ok((cancel, User::UNKNOWN)),
        (Err(refused), _) => Err(refused.into()),
    }
}

/// The wish of the client, inside TLS if it asks for that.
async fn hear<'e>(service: &Service, engine: &'e dyn ClientFirst, client: &mut Client) -> Result<Accepted<'e>, Error> {
    let encryption = service.encryption(client.arrival.peer);
    let login = login::Login::of(service.upstream.target());
    let accepted = engine.accept(&mut client.stream, encryption, login).await.map_err(Error::Client)?;
    let Accepted::Tls { answer, read } = accepted else { return Ok(accepted) };
    let is_direct = answer.is_empty();
    // Nothing that came in clear may be taken for something inside TLS (CVE-2021-23214).
    if !is_direct && client.stream.has_unread() {
        return Err(Error::from_client(postgres::Error::UnencryptedData));
    }
    client.start_tls(service, answer, &read).await?;
    if is_direct && client.stream.alpn_protocol() != Some(postgres::ALPN) {
        return Err(Error::from_client(postgres::Error::NoAlpn));
    }
    engine.accept(&mut client.stream, Encryption::Inside, login).await.map_err(Error::Client)
}

async fn cancel(service: &Service, engine: &dyn ClientFirst, request: &CancelRequest, limits: Deadline) {
    let target = service.upstream.target();
    let (target, remote) = (&target.name, target.remote());
    let Some((server, request)) = service.registry.request_for(request) else {
        debug!(%target, "cancel request with a key that was not handed out");
        return;
    };
    match engine.cancel(&server, &request, limits).await {
        Ok(()) => debug!(%target, "cancel request forwarded"),
        Err(error) => info!(%target, cause = error.message(remote), "cancel request could not be forwarded"),
    }
}

async fn connect(
    service: &Service,
    engine: &dyn ClientFirst,
    mut client: Client,
    mut login: Box<dyn Login + '_>,
    owner: User,
    kept: &mut Option<Kept>,
) {
    let reply = |failure: Failure<'_>| engine.reply(failure);
    let _place = match service.place() {
        Ok(place) => place,
        Err(error) => return refuse(client, error, service, "", reply).await,
    };
    let asked = text(login.names().user);
    if let Some(gate) = &service.gate
        && let Err(error) = prove(service, gate, &mut client, &*login, owner).await
    {
        return refuse(client, error, service, &asked, reply).await;
    }
    let arrival = (client.arrival, client.arrival.limits);
    let named = tokio::select! {
        named = apply_configured_names(&mut *login, service, arrival, owner) => named,
        () = client.left(engine.goodbye()) => Err(Error::ClientLeft),
        () = service.drain.cancelled() => Err(Error::ShuttingDown),
    };
    if let Err(error) = named {
        return refuse(client, error, service, &asked, reply).await;
    }
    let (user, database) = (text(login.names().user), text(login.names().database));
    let connected = tokio::select! {
        connected = login.connect(&service.upstream, client.arrival.limits) => connected.map_err(Error::from),
        () = client.left(engine.goodbye()) => Err(Error::ClientLeft),
        () = service.drain.cancelled() => Err(Error::ShuttingDown),
    };
    let established = match connected {
        Ok(Connected::Established(established)) => Ok(established),
        Ok(Connected::Asked(asked)) => tokio::select! {
            established = asked.answer(&mut client.stream) => established.map_err(|no_answer| service.error_of(no_answer)),
            () = service.drain.cancelled() => Err(Error::ShuttingDown),
        },
        Err(error) => Err(error),
    };
    let Established { mut stream, greeting, cancel, mut tap, record, reuse } = match established {
        Ok(established) => *established,
        Err(error) => return refuse(client, error, service, &user, reply).await,
    };
    client.arrival.log_logged_in(service, &user, &record);
    client.show_login(&user, &database, &record);
    let registered = cancel.map(|(key, server)| service.registry.register(key, server));

    let connection = Arc::clone(&client.connection);
    let mut observer = Observer { tap: &mut *tap, service, arrival: client.arrival, connection };
    let greeted = tokio::select! {
        greeted = greet(&mut client.stream, &greeting) => greeted,
        () = service.abort.cancelled() => return,
    };
    let mut end = match greeted {
        Ok(()) => {
            let goodbye = reuse.as_ref().map(|(goodbye, _)| goodbye);
            let stop = async {
                tokio::select! {
                    () = service.drain.cancelled() => {}
                    () = said(goodbye) => {}
                }
            };
            let mut withholding = Withholding::new(&mut client.stream, goodbye.cloned());
            relay(&mut withholding, &mut stream, &mut observer, stop, service.abort.cancelled()).await
        }
        Err(error) => End { reason: Reason::Broke(Side::Client, error), to_upstream: 0, to_client: 0 },
    };
    // Before the client learns of the end: the server may give the key to the next connection.
    let cancelled = registered.is_some_and(Registered::forget);
    let is_left = reuse.as_ref().is_some_and(|(goodbye, _)| goodbye.is_said());
    let reuse = reuse.filter(|_| is_left && matches!(end.reason, Reason::Stopped));
    if reuse.is_some() {
        end.reason = Reason::Closed(Side::Client);
    }
    client.arrival.log_end(service, &user, &database, &record, &end);
    if !service.upstream.target().engine.is_database() && !matches!(end.reason, Reason::Closed(_)) {
        client.stream.reset_on_close();
    }
    if let Some(words) = observer.tap.last_words(&end.reason) {
        farewell(&mut client.stream, &words).await;
    }
    match reuse {
        Some((_, reuse)) if !cancelled && !service.drain.is_cancelled() => {
            *kept = Some(reuse.keep(stream, service.drain.clone()));
            return;
        }
        Some(_) => _ = timeout(FAREWELL_TIMEOUT, stream.write_all(engine.goodbye())).await,
        None => {}
    }
    // In order, so that the server's log shows no lost connection.
    let _ = timeout(FAREWELL_TIMEOUT, stream.shutdown()).await;
}

/// Resolves when the goodbye has been withheld; never without one.
async fn said(goodbye: Option<&Goodbye>) {
    match goodbye {
        Some(goodbye) => goodbye.said().await,
        None => pending().await,
    }
}

/// A greeting may be larger than what TLS takes at once.
async fn greet(client: &mut listen::Stream, greeting: &[u8]) -> io::Result<()> {
    client.write_all(greeting).await?;
    client.flush().await
}

/// Lets a client prove that it knows the password of the listener.
async fn prove(
    service: &Service,
    gate: &Gate,
    client: &mut Client,
    login: &dyn Login,
    owner: User,
) -> Result<(), Error> {
    let (peer, deadline) = (client.arrival.peer, client.arrival.deadline);
    let _place = in_time(service, deadline, gate.place(peer, owner)).await?;
    let end_point = client.certificate.as_ref().and_then(|leaf| leaf.server_end_point());
    let password = gate.password();
    let proving = login.prove(&mut client.stream, &password, end_point.as_deref());
    if in_time(service, deadline, proving).await?.map_err(Error::Client)? {
        return Ok(());
    }
    Err(gate.refuse(&service.drain, peer, &text(login.names().user), true).await)
}
