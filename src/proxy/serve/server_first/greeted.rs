//! From accept to the client's response: a connection to the server for the client, and what becomes of it when the client
//! does not log in.
//!
//! Once the server has been reached, nothing here drops a connection before its login: the server would count that
//! against the bastion ([`mysql::goodbye`](database_wire::mysql::goodbye)).

use std::{
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
};

use database_wire::{
    Encryption,
    mysql::{self, Accepted, Greeting, ReplyPosition, Scramble, message},
};
use tokio::time::sleep_until;

use super::refusal::refuse;
use crate::{
    engine::mysql::{Greeted, Mysql},
    login::Login,
    proxy::{
        error::Error,
        serve::{arrival::Client, service::Service, startup::in_time},
    },
};

/// Keeps an unused connection for the next client of the target, and ends it in order when none comes.
pub(in crate::proxy::serve) async fn keep(service: &Service, engine: &Mysql, greeted: Greeted) {
    let keeping = engine.keep_spare(&service.upstream, greeted, service.drain.cancelled());
    Box::pin(unless_aborted(service, keeping)).await;
}

/// Does `work` in the background, until everything must end at once.
pub(super) async fn unless_aborted(service: &Service, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        () = service.abort.cancelled() => {}
    }
}

/// A greeted connection for this client: one that waits for a client, or a new one. Hands the client back with it; `None` when
/// it was refused, or has left.
pub(super) async fn reach(service: &Service, engine: &Mysql, mut client: Client) -> Option<(Client, Greeted)> {
    let limits = client.arrival.limits;
    if let Some(spare) = engine.spare(&service.upstream, limits) {
        return Some((client, spare));
    }
    let reached = AtomicBool::new(false);
    let mut greeting = pin!(engine.greet_noting(&service.upstream, limits, &reached));
    let interrupted = tokio::select! {
        greeted = &mut greeting => match greeted {
            Ok(greeted) => return Some((client, greeted)),
            Err(error) => {
                refuse(client, error.into(), service, "", ReplyPosition::GREETING).await;
                return None;
            }
        },
        error = no_client_of_mysql(&mut client) => error,
        () = service.drain.cancelled() => Error::ShuttingDown,
    };
    let rest = async {
        if reached.load(Ordering::Relaxed)
            && let Ok(greeted) = greeting.await
        {
            engine.keep_spare(&service.upstream, greeted, service.drain.cancelled()).await;
        }
    };
    tokio::join!(refuse(client, interrupted, service, "", ReplyPosition::GREETING), unless_aborted(service, rest));
    None
}

/// Resolves when a client that was not greeted yet leaves or says something, which no client of MySQL does.
async fn no_client_of_mysql(client: &mut Client) -> Error {
    let mut said = [0; message::QUIT.len()];
    match client.stream.peek(&mut said).await {
        Ok(n) if n > 0 && said != message::QUIT => Error::from_client(mysql::Error::SpokeFirst),
        Ok(_) | Err(_) => Error::ClientLeft,
    }
}

/// Greets the client and reads its response. The connection is returned unless it had to be ended because the client took too
/// long.
pub(super) async fn accept(
    service: &Service,
    engine: &Mysql,
    client: &mut Client,
    greeted: Greeted,
    scramble: &Scramble,
) -> (Result<Accepted, Error>, Option<Greeted>) {
    let greeting = greeted.greeting.clone();
    let until = engine.retires_at(&greeted);
    let deadline = client.arrival.deadline;
    let conversation = async {
        let encryption = service.encryption(client.arrival.peer);
        mysql::greet(&mut client.stream, &greeting, scramble, encryption).await.map_err(Error::from_client)?;
        let accepted = match hear(service, client, &greeting, scramble, encryption).await? {
            Accepted::Tls => {
                client.start_tls(service, &[], &[]).await?;
                hear(service, client, &greeting, scramble, Encryption::Inside).await?
            }
            accepted => accepted,
        };
        Ok(accepted)
    };
    let mut accepting = pin!(async { in_time(service, deadline, conversation).await? });
    tokio::select! {
        accepted = &mut accepting => (accepted, Some(greeted)),
        () = sleep_until(until) => {
            let retiring = engine.retire(&service.upstream, greeted);
            let (accepted, ()) = tokio::join!(accepting, unless_aborted(service, retiring));
            (accepted, None)
        }
    }
}

/// The client's response to the greeting.
async fn hear(
    service: &Service,
    client: &mut Client,
    greeting: &Greeting,
    scramble: &Scramble,
    encryption: Encryption,
) -> Result<Accepted, Error> {
    let accepted = match Login::of(service.upstream.target()) {
        Login::Password => mysql::accept_answer(&mut client.stream, greeting, encryption).await,
        Login::Iam | Login::Secret => mysql::accept(&mut client.stream, greeting, scramble, encryption).await,
    };
    accepted.map_err(Error::from_client)
}
