//! Serves a client whose server speaks first: the server's greeting, then the client's response, the login to the database,
//! the relay, and the message at the end.
//!
//! The greeting must be the server's own, because it carries the connection id that `KILL` needs; so the database is
//! dialled before the client has said a word. [`greeted`] sees to it that a client which then leaves costs the server nothing.

mod greeted;
mod proof;
mod refusal;
mod session;

use std::sync::Arc;

use aws_lc_rs::rand;
use database_wire::{
    Encryption,
    mysql::{self, Accepted, Commands, Compressed, Compression, ReplyPosition, Scramble},
};
use tokio::{io::AsyncWriteExt, time::timeout};
use tracing::{debug, info};

pub(super) use self::greeted::keep;
use self::{
    proof::{Proving, Refused},
    refusal::refuse,
    session::Session,
};
use super::{
    arrival::Client,
    observer::Observer,
    refusal::{FAREWELL_TIMEOUT, farewell},
    service::Service,
    startup::{apply_configured_names, text},
};
use crate::{
    engine::{
        self, Follow as _,
        mysql::{Established, Greeted, Mysql, Tap, guards_sessions},
    },
    listen::access,
    login::Login,
    proxy::error::Error,
    stream::{
        BoxIo,
        relay::{End, Reason, Side},
    },
};

/// Serves one client from its first packet to its end.
pub(super) async fn serve(service: &Service, engine: &Mysql, client: Client) {
    Box::pin(connect(service, engine, client)).await;
}

async fn connect(service: &Service, engine: &Mysql, client: Client) {
    let peer = client.arrival.peer;
    let target = service.upstream.target();
    let owner = match service.admit(peer) {
        Ok(owner) => owner,
        Err(error) => return refuse(client, Error::Access(error), service, "", ReplyPosition::GREETING).await,
    };
    let _place = match service.place() {
        Ok(place) => place,
        Err(error) => return refuse(client, error, service, "", ReplyPosition::GREETING).await,
    };
    // A client that has to prove itself is greeted before the server is dialled for it.
    let reached = if let Some(gate) = &service.gate {
        gate.until_learnt().await;
        Proving::begin(service, gate, client, owner).await.map(|(client, proving)| (client, Err(proving)))
    } else {
        let reached = Box::pin(greeted::reach(service, engine, client)).await;
        reached.map(|(client, greeted)| (client, Ok(greeted)))
    };
    let Some((mut client, reached)) = reached else { return };
    let greeting = reached.as_ref().map_or_else(|_| engine.expected_greeting(), |greeted| greeted.greeting.clone());
    let scramble = match Login::of(target) {
        Login::Iam | Login::Secret => new_scramble(),
        // The server judges what the client makes of it.
        Login::Password => greeting.scramble,
    };
    let (accepted, greeted) = match reached {
        Ok(greeted) => Box::pin(greeted::accept(service, engine, &mut client, greeted, &scramble)).await,
        Err(proving) => match Box::pin(proving.finish(service, &mut client, &greeting, &scramble)).await {
            Ok(accepted) => (accepted, None),
            Err(refused) => {
                let Refused { error, user, position } = *refused;
                return refuse(client, error, service, &user, position).await;
            }
        },
    };
    // What becomes of the connection when this client does not log in.
    let keep = async |greeted: Option<Greeted>| {
        if let Some(greeted) = greeted {
            Box::pin(keep(service, engine, greeted)).await;
        }
    };
    let mut login = match accepted {
        Ok(Accepted::Login(login)) => login,
        // Inside TLS it is not offered again.
        Ok(Accepted::Gone { quit: true } | Accepted::Tls) => {
            debug!(target = %target.name, %peer, "the client quit after the greeting");
            drop(client);
            return Box::pin(keep(greeted)).await;
        }
        Ok(Accepted::Gone { quit: false }) => {
            let why = if client.certificate.is_some() {
                "the client left after the TLS handshake; if it does not trust the certificate, run `rdsgate cert`"
            } else if service.encryption(peer) == Encryption::Off {
                "the client left after the greeting: a port probe, or it insists on TLS, which this listener does not offer; use \
                 --ssl-mode=DISABLED (MySQL) or --skip-ssl (MariaDB)"
            } else {
                "the client left after the greeting"
            };
            info!(target = %target.name, %peer, "{why}");
            drop(client);
            return Box::pin(keep(greeted)).await;
        }
        Err(error) => {
            let position = match &error {
                Error::Client(engine::Error::Mysql(error)) => error.position(),
                _ => ReplyPosition::RESPONSE,
            };
            let position = if client.certificate.is_some() { position.behind_ssl_request() } else { position };
            tokio::join!(refuse(client, error, service, "", position), keep(greeted));
            return;
        }
    };
    let arrival = (client.arrival, client.arrival.limits);
    if let Err(error) = apply_configured_names(&mut login.response, service, arrival, owner).await {
        let asked = text(login.response.user());
        tokio::join!(refuse(client, error, service, &asked, login.position()), keep(greeted));
        return;
    }
    let user = text(login.response.user());
    if Login::of(target) == Login::Password {
        // To its end, because a login that is broken off would be counted at the server.
        let logging_in = engine.log_in_client(&service.upstream, greeted, &mut client.stream, &mut login);
        let established = Box::pin(logging_in).await.map_err(|no_answer| service.error_of(no_answer));
        return match established {
            Ok(established) => {
                Box::pin(serve_session(service, client, (established, greeting, scramble), login, owner)).await;
            }
            Err(error) => refuse(client, error, service, &user, login.position()).await,
        };
    }
    // With its own copies, because it may have to outlive the client.
    let (known, response, limits) = (greeting.clone(), login.response.clone(), client.arrival.limits);
    let mut logging_in = Box::pin(async move {
        let greeted = engine.renewed(&service.upstream, greeted, &known, limits).await?;
        Ok(engine.log_in(&service.upstream, greeted, &response).await?)
    });
    let established = tokio::select! {
        established = &mut logging_in => established,
        () = client.left(&mysql::message::QUIT) => Err(Error::ClientLeft),
        () = service.drain.cancelled() => Err(Error::ShuttingDown),
    };
    match established {
        Ok(established) => {
            Box::pin(serve_session(service, client, (established, greeting, scramble), login, owner)).await;
        }
        Err(error @ (Error::ClientLeft | Error::ShuttingDown)) => {
            // A login that is broken off would be counted at the server.
            let finishing = greeted::unless_aborted(service, quit(logging_in));
            tokio::join!(refuse(client, error, service, &user, login.position()), finishing);
        }
        Err(error) => refuse(client, error, service, &user, login.position()).await,
    }
}

/// Serves a client that is logged in to the database.
async fn serve_session(
    service: &Service,
    mut client: Client,
    (established, greeting, scramble): (Established, mysql::Greeting, Scramble),
    login: mysql::Login,
    owner: access::User,
) {
    let Established { stream, logged_in, record } = established;
    let user = text(login.response.user());
    client.arrival.log_logged_in(service, &user, &record);
    let database = text(login.response.database().unwrap_or_default());
    client.show_login(&user, &database, &record);
    let (arrival, connection) = (client.arrival, Arc::clone(&client.connection));
    let finished = mysql::finish(&mut client.stream, &login, &logged_in.ok).await;
    // Behind its OK the client compresses if it chose to.
    let client: BoxIo = match Compression::of_client(&login.response) {
        Some(algorithm) => Box::new(Compressed::for_client(client.stream, algorithm)),
        None => Box::new(client.stream),
    };
    let mut session = Session {
        service,
        arrival,
        connection: Arc::clone(&connection),
        owner,
        client: Commands::new(client).with_resets(guards_sessions(service.upstream.target())),
        upstream: stream,
        greeting,
        scramble,
        login,
        logged_in,
        sent: 0,
        received: 0,
    };
    let (capabilities, status) = (session.login.response.capabilities, session.logged_in.ok.status);
    let mut tap = Tap::new(capabilities, status, session.client.signal());
    let mut observer = Observer { tap: &mut tap, service, arrival, connection };
    let reason = match finished {
        Ok(()) => session.run(&mut observer).await,
        Err(error) => Reason::Broke(Side::Client, std::io::Error::other(error)),
    };
    let end = End { reason, to_upstream: session.sent, to_client: session.received };
    arrival.log_end(service, &user, &database, &record, &end);
    if let Some(words) = observer.tap.last_words(&end.reason) {
        farewell(&mut session.client, &words).await;
    }
    // In order, so that the server's log shows no lost connection.
    let _ = timeout(FAREWELL_TIMEOUT, session.upstream.shutdown()).await;
}

/// Finishes a login whose client has left, and ends the connection.
async fn quit(logging_in: impl Future<Output = Result<Established, Error>>) {
    if let Ok(mut established) = logging_in.await {
        let _ = mysql::goodbye::quit(&mut established.stream).await;
        let _ = timeout(FAREWELL_TIMEOUT, established.stream.shutdown()).await;
    }
}

/// A scramble that no client can foresee.
fn new_scramble() -> Scramble {
    let mut random = [0; 20];
    rand::fill(&mut random).expect("the system has random numbers");
    Scramble::new(random)
}
