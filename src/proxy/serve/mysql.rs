//! Serving one MySQL client: the server's greeting first, then the client's response, login upstream, relay.
//!
//! The greeting must be the server's own, because it carries the connection id that `KILL` needs; so the database is
//! dialled before the client has said a word.

use tokio::{io::AsyncWriteExt, time::timeout};
use tracing::debug;

use super::{Client, FAREWELL_TIMEOUT, Service, in_time};
use crate::{
    mysql::{self, Accepted, ErrorReport, HandshakeResponse, Scramble, Turn, error::code},
    proxy::{
        access,
        error::{Error, Login},
        upstream::Established,
    },
    stream::relay::{End, Reason, Side, Tap, relay},
    target::Target,
};

/// Serves one client from its first packet to its end.
pub(super) async fn serve(service: &Service, client: Client) {
    Box::pin(connect(service, client)).await;
}

async fn connect(service: &Service, mut client: Client) {
    let target = service.upstream.target();
    let greeted = match access::check_peer(client.peer, client.local) {
        Err(error) => Err(Error::Access(error)),
        Ok(()) => tokio::select! {
            greeted = service.upstream.greet_mysql(client.deadline) => greeted,
            () = client.left() => Err(Error::ClientLeft),
            () = service.drain.cancelled() => Err(Error::ShuttingDown),
        },
    };
    let greeted = match greeted {
        Ok(greeted) => greeted,
        Err(error) => {
            let error = error.or_connect_timeout(client.deadline, service.connect_timeout);
            return refuse(client, &error, service, "", Turn::GREETING).await;
        }
    };
    let mut login = match accept(&mut client, &greeted.greeting).await {
        Ok(Accepted::Login(login)) => login,
        Ok(Accepted::Gone) => {
            debug!(target = %target.name, peer = %client.peer, "the client left after the greeting");
            return;
        }
        Err(error) => {
            let turn = if let Error::MysqlClient(error) = &error { error.turn() } else { Turn::RESPONSE };
            return refuse(client, &error, service, "", turn).await;
        }
    };
    if let Err(error) = for_target(&mut login.response, target) {
        return refuse(client, &Error::MysqlClient(error), service, "", login.turn()).await;
    }
    let user = String::from_utf8_lossy(login.response.user()).into_owned();
    let database = String::from_utf8_lossy(login.response.database().unwrap_or_default()).into_owned();
    let version = String::from_utf8_lossy(&greeted.greeting.version).into_owned();
    let established = tokio::select! {
        established = service.upstream.log_in_mysql(greeted, &login.response) => established,
        () = client.left() => Err(Error::ClientLeft),
        () = service.drain.cancelled() => Err(Error::ShuttingDown),
    };
    let Established { mut stream, logged_in, facts } = match established {
        Ok(established) => established,
        Err(error) => {
            let error = error.or_connect_timeout(client.deadline, service.connect_timeout);
            return refuse(client, &error, service, &user, login.turn()).await;
        }
    };
    client.log_logged_in(service, &user, Some(&version), &facts);
    let end = match mysql::finish(&mut client.stream, &login, &logged_in.ok).await {
        Ok(()) => {
            let (stop, cut) = (service.drain.cancelled(), service.abort.cancelled());
            relay(&mut client.stream, &mut stream, &mut Observer, stop, cut).await
        }
        Err(error) => {
            let cause = std::io::Error::other(error);
            End { reason: Reason::Broke(Side::Client, cause), to_upstream: 0, to_client: 0 }
        }
    };
    client.log_end(service, &user, &database, &facts, &end);
    let _ = timeout(FAREWELL_TIMEOUT, stream.shutdown()).await;
}

async fn accept(client: &mut Client, greeting: &mysql::Greeting) -> Result<Accepted, Error> {
    let scramble = Scramble::new(std::array::from_fn(|_| fastrand::u8(..)));
    let conversation = async {
        mysql::greet(&mut client.stream, greeting, &scramble).await?;
        mysql::accept(&mut client.stream, greeting, &scramble).await
    };
    in_time(client.deadline, conversation).await?.map_err(Error::MysqlClient)
}

/// The client's response with what the configuration decides.
fn for_target(response: &mut HandshakeResponse, target: &Target) -> Result<(), mysql::Error> {
    if let Some(user) = &target.user {
        response.set_user(user.as_bytes())?;
    }
    match &target.database {
        Some(database) if response.database().is_none() => response.set_database(database.as_bytes()),
        _ => Ok(()),
    }
}

/// Tells the client why it is not connected, and the log.
async fn refuse(mut client: Client, error: &Error, service: &Service, user: &str, turn: Turn) {
    client.log_refused(service, user, error);
    let principal = match error {
        Error::MysqlLogin(_) => service.upstream.principal().await,
        _ => None,
    };
    let login = Login { user, principal: principal.as_ref() };
    if let Some(response) = error.mysql_response(service.upstream.target(), &login, turn) {
        client.farewell(&response).await;
    }
}

/// The tap of a MySQL connection.
struct Observer;

impl Tap for Observer {
    fn on_client(&mut self, bytes: &[u8]) -> usize {
        bytes.len()
    }

    fn on_upstream(&mut self, _: &[u8]) {}

    fn may_stop(&self) -> bool {
        false
    }
}

/// What a client hears that waits for nothing while the proxy stops.
#[expect(dead_code, reason = "said by the drain")]
fn shutdown_words() -> Vec<u8> {
    let (code, sqlstate) = code::SERVER_SHUTDOWN;
    let message = "rdsgate is shutting down".into();
    ErrorReport { code, sqlstate, message, detail: None, hint: None }.encode(Turn::GREETING)
}
