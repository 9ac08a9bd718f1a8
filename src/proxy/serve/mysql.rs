//! Serving one MySQL client: the server's greeting first, then the client's response, login upstream, relay.
//!
//! The greeting must be the server's own, because it carries the connection id that `KILL` needs; so the database is
//! dialled before the client has said a word. [`greeted`] sees to it that a client which then leaves costs the server nothing.
//! COM_CHANGE_USER is answered here: the relay stops before it, a fresh token goes upstream, and the relay goes on.

mod greeted;

use tokio::{
    io::AsyncWriteExt,
    time::{Instant, timeout},
};
use tracing::{debug, info};

pub use self::greeted::keep;
use super::{
    Arrival, Client, FAREWELL_TIMEOUT, Observer, STARTUP_TIMEOUT, Service, apply_configured_names, farewell, in_time,
};
use crate::{
    engine::{
        self, Follow as _,
        mysql::{Tap, connection_lost, reply},
    },
    listen::access::{self, User},
    mysql::{self, Accepted, Commands, Compressed, Compression, LoggedIn, Login, ReplyPosition, Scramble},
    proxy::{
        error::{self, Error},
        upstream::{Established, Greeted},
    },
    stream::{
        BoxIo,
        relay::{End, Reason, Side, relay},
    },
};

/// Serves one client from its first packet to its end.
pub(super) async fn serve(service: &Service, client: Client) {
    Box::pin(connect(service, client)).await;
}

async fn connect(service: &Service, client: Client) {
    let peer = client.arrival.peer;
    let target = service.upstream.target();
    let owner = match access::check(peer) {
        Ok(owner) => owner,
        Err(error) => return refuse(client, Error::Access(error), service, "", ReplyPosition::GREETING).await,
    };
    let Some((mut client, greeted)) = Box::pin(greeted::reach(service, client)).await else { return };
    let scramble = Scramble::new(std::array::from_fn(|_| fastrand::u8(..)));
    let greeting = greeted.greeting.clone();
    let (accepted, greeted) = Box::pin(greeted::accept(service, &mut client, greeted, &scramble)).await;
    // What becomes of the connection when this client does not log in.
    let keep = async |greeted: Option<Greeted>| {
        if let Some(greeted) = greeted {
            Box::pin(keep(service, greeted)).await;
        }
    };
    let mut login = match accepted {
        Ok(Accepted::Login(login)) => login,
        Ok(Accepted::Gone { quit: true }) => {
            debug!(target = %target.name, %peer, "the client quit after the greeting");
            drop(client);
            return Box::pin(keep(greeted)).await;
        }
        Ok(Accepted::Gone { quit: false }) => {
            info!(
                target = %target.name, %peer,
                "the client left after the greeting: a port probe, or it insists on TLS, which this listener does not \
                 offer; use --ssl-mode=DISABLED (MySQL) or --skip-ssl (MariaDB)"
            );
            drop(client);
            return Box::pin(keep(greeted)).await;
        }
        Err(error) => {
            let position = match &error {
                Error::Client(engine::Error::Mysql(error)) => error.position(),
                _ => ReplyPosition::RESPONSE,
            };
            tokio::join!(refuse(client, error, service, "", position), keep(greeted));
            return;
        }
    };
    if let Err(error) = apply_configured_names(&mut login.response, service, client.arrival, owner) {
        let asked = text(login.response.user());
        tokio::join!(refuse(client, error, service, &asked, login.position()), keep(greeted));
        return;
    }
    let user = text(login.response.user());
    // With its own copies, because it may have to outlive the client.
    let (known, response, limits) = (greeting.clone(), login.response.clone(), client.arrival.limits);
    let mut logging_in = Box::pin(async move {
        let greeted = greeted::renewed(service, &known, greeted, limits).await?;
        Ok(service.upstream.log_in_mysql(greeted, &response).await?)
    });
    let established = tokio::select! {
        established = &mut logging_in => established,
        () = client.left(&mysql::message::QUIT) => Err(Error::ClientLeft),
        () = service.drain.cancelled() => Err(Error::ShuttingDown),
    };
    let Established { stream, logged_in, facts } = match established {
        Ok(established) => established,
        Err(error @ (Error::ClientLeft | Error::ShuttingDown)) => {
            // A login that is broken off would be counted at the server.
            let finishing = greeted::unless_aborted(service, quit(logging_in));
            tokio::join!(refuse(client, error, service, &user, login.position()), finishing);
            return;
        }
        Err(error) => return refuse(client, error, service, &user, login.position()).await,
    };
    client.arrival.log_logged_in(service, &user, Some(&text(&greeting.version)), &facts);
    let database = text(login.response.database().unwrap_or_default());
    let arrival = client.arrival;
    let finished = mysql::finish(&mut client.stream, &login, &logged_in.ok).await;
    // Behind its OK the client compresses if it chose to.
    let client: BoxIo = match Compression::of_client(&login.response) {
        Some(algorithm) => Box::new(Compressed::for_client(client.stream, algorithm)),
        None => Box::new(client.stream),
    };
    let mut connection = Connection {
        service,
        arrival,
        owner,
        client: Commands::new(client).with_resets(service.upstream.guards_sessions()),
        upstream: stream,
        greeting,
        scramble,
        login,
        logged_in,
        sent: 0,
        received: 0,
    };
    let (capabilities, status) = (connection.login.response.capabilities, connection.logged_in.ok.status);
    let tap = Tap::new(capabilities, status, connection.client.signal());
    let mut observer = Observer { tap, service, arrival };
    let reason = match finished {
        Ok(()) => connection.run(&mut observer).await,
        Err(error) => Reason::Broke(Side::Client, std::io::Error::other(error)),
    };
    let end = End { reason, to_upstream: connection.sent, to_client: connection.received };
    arrival.log_end(service, &user, &database, &facts, &end);
    if let Some(words) = observer.tap.last_words(&end.reason) {
        farewell(&mut connection.client, &words).await;
    }
    // In order, so that the server's log shows no lost connection.
    let _ = timeout(FAREWELL_TIMEOUT, connection.upstream.shutdown()).await;
}

/// Finishes a login that nobody waits for any more, and ends the connection.
async fn quit(logging_in: impl Future<Output = Result<Established<LoggedIn, BoxIo>, Error>>) {
    if let Ok(mut established) = logging_in.await {
        let _ = mysql::goodbye::quit(&mut established.stream).await;
        let _ = timeout(FAREWELL_TIMEOUT, established.stream.shutdown()).await;
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Writes to the log and to the client why it is not connected.
async fn refuse(client: Client, error: Error, service: &Service, user: &str, position: ReplyPosition) {
    super::refuse(client, error, service, user, |failure| reply(failure, position)).await;
}

/// The message for a client whose command could not be carried out here.
async fn refusal_of_command(error: &Error, service: &Service, user: &str, position: ReplyPosition) -> Option<Vec<u8>> {
    if error.is_lost_connection() {
        return Some(connection_lost(&error.message(), position));
    }
    let facts = service.upstream.facts(error).await;
    let login = error::Login { user, facts: &facts };
    reply(error.failure(service.upstream.target(), &login)?, position)
}

/// A connection that is logged in.
struct Connection<'a> {
    service: &'a Service,
    arrival: Arrival,
    owner: User,
    client: Commands<BoxIo>,
    upstream: BoxIo,
    greeting: mysql::Greeting,
    scramble: Scramble,
    /// The last login: the first, or that of a COM_CHANGE_USER.
    login: Login,
    logged_in: LoggedIn,
    sent: u64,
    received: u64,
}

impl Connection<'_> {
    /// Relays until the end, and logs in anew whenever the client asks for it.
    async fn run(&mut self, observer: &mut Observer<'_, Tap>) -> Reason {
        loop {
            let change_user = self.client.signal();
            let stop = async {
                tokio::select! {
                    () = change_user.raised() => {}
                    () = self.service.drain.cancelled() => {}
                }
            };
            let cut = self.service.abort.cancelled();
            let end = relay(&mut self.client, &mut self.upstream, observer, stop, cut).await;
            self.sent += end.to_upstream;
            self.received += end.to_client;
            match end.reason {
                Reason::Stopped if change_user.is_raised() => {
                    let taken_over = if self.client.is_reset() { self.reset().await } else { self.change_user().await };
                    match taken_over {
                        Ok(status) => observer.tap.logged_in_again(status),
                        Err(ended) => return ended,
                    }
                }
                reason => return reason,
            }
        }
    }

    /// Answers a COM_RESET_CONNECTION, after which the session must be guarded again; the new status.
    async fn reset(&mut self) -> Result<u16, Reason> {
        let target = &self.service.upstream.target().name;
        let reset = async {
            let mut taken = self.client.take_over();
            let reading = mysql::command::accept_reset_connection(&mut taken);
            in_time(self.service, Instant::now() + STARTUP_TIMEOUT, reading).await?.map_err(Error::from_client)?;
            let ok = self.service.upstream.reset_mysql(&mut self.upstream, &self.greeting, &self.logged_in).await?;
            mysql::command::answer(&mut taken, &ok).await.map_err(Error::from_client)?;
            Ok(ok.status)
        };
        match reset.await {
            Ok(status) => Ok(status),
            Err(error) => {
                let error: Error = error;
                debug!(%target, cause = error.message(), "COM_RESET_CONNECTION refused");
                if let Some(response) = refusal_of_command(&error, self.service, "", ReplyPosition::COMMAND).await {
                    farewell(&mut self.client, &response).await;
                }
                Err(Reason::Closed(Side::Upstream))
            }
        }
    }

    /// Answers a COM_CHANGE_USER; the new status. As the server does, the connection ends when it is refused.
    async fn change_user(&mut self) -> Result<u16, Reason> {
        let mut position = ReplyPosition::COMMAND;
        let mut user = String::new();
        match self.try_change_user(&mut position, &mut user).await {
            Ok(status) => Ok(status),
            Err(error) => {
                let (target, cause) = (&self.service.upstream.target().name, error.message());
                debug!(%target, user, cause, "COM_CHANGE_USER refused");
                if let Some(response) = refusal_of_command(&error, self.service, &user, position).await {
                    farewell(&mut self.client, &response).await;
                }
                Err(Reason::Closed(Side::Upstream))
            }
        }
    }

    async fn try_change_user(&mut self, position: &mut ReplyPosition, user: &mut String) -> Result<u16, Error> {
        let mut taken = self.client.take_over();
        let deadline = Instant::now() + STARTUP_TIMEOUT;
        let reading = mysql::accept_change_user(&mut taken, &self.login.response, &self.greeting, &self.scramble);
        let mut login = in_time(self.service, deadline, reading).await?.map_err(Error::from_client)?;
        (*position, *user) = (login.position(), text(login.response.user()));
        apply_configured_names(&mut login.response, self.service, self.arrival, self.owner)?;
        *user = text(login.response.user());
        let (upstream, greeting) = (&self.service.upstream, &self.greeting);
        let changing = upstream.change_user_mysql(&mut self.upstream, greeting, &self.logged_in, &login.response);
        let ok = changing.await?;
        mysql::finish(&mut taken, &login, &ok).await.map_err(Error::from_client)?;
        drop(taken);
        self.login = login;
        Ok(ok.status)
    }
}
