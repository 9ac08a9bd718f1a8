//! Serving one MySQL client: the server's greeting first, then the client's response, login upstream, relay.
//!
//! The greeting must be the server's own, because it carries the connection id that `KILL` needs; so the database is
//! dialled before the client has said a word. [`greeted`] sees to it that a client which then leaves costs the server nothing.
//! COM_CHANGE_USER is answered here: the relay stops before it, a fresh token goes upstream, and the relay goes on.

mod greeted;
mod last_words;

use tokio::{
    io::AsyncWriteExt,
    time::{Instant, timeout},
};
use tracing::{debug, info};

pub use self::greeted::keep;
use self::last_words::{last_words, lost_in_command};
use super::{Arrival, Client, FAREWELL_TIMEOUT, STARTUP_TIMEOUT, Service, facts, farewell, in_time};
use crate::{
    listen::access::{self, User},
    mysql::{
        self, Accepted, Activity, Commands, Compressed, Compression, HandshakeResponse, LoggedIn, Login, Scramble,
        Signal, Turn, Watch,
    },
    proxy::{
        error::{self, Error},
        names::{Configured, Named},
        upstream::{Established, Greeted},
    },
    stream::{
        BoxIo,
        relay::{End, Reason, Side, Tap, relay},
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
        Err(error) => return refuse(client, Error::Access(error), service, "", Turn::GREETING).await,
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
            let turn = if let Error::MysqlClient(error) = &error { error.turn() } else { Turn::RESPONSE };
            tokio::join!(refuse(client, error, service, "", turn), keep(greeted));
            return;
        }
    };
    if let Err(error) = apply_configured_names(&mut login.response, service, client.arrival, owner) {
        let asked = text(login.response.user());
        tokio::join!(refuse(client, error, service, &asked, login.turn()), keep(greeted));
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
            tokio::join!(refuse(client, error, service, &user, login.turn()), finishing);
            return;
        }
        Err(error) => return refuse(client, error, service, &user, login.turn()).await,
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
    let watch = Watch::new(connection.login.response.capabilities, connection.logged_in.ok.status);
    let mut observer = Observer { watch, change_user: connection.client.signal(), service, arrival };
    let reason = match finished {
        Ok(()) => connection.run(&mut observer).await,
        Err(error) => Reason::Broke(Side::Client, std::io::Error::other(error)),
    };
    let end = End { reason, to_upstream: connection.sent, to_client: connection.received };
    arrival.log_end(service, &user, &database, &facts, &end);
    if let Some(words) = last_words(&end.reason, &observer.watch) {
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

/// Puts the configured user and database where the client named none.
fn apply_configured_names(
    response: &mut HandshakeResponse,
    service: &Service,
    arrival: Arrival,
    owner: User,
) -> Result<(), Error> {
    let (user, database) = (response.user().to_vec(), response.database().unwrap_or_default().to_vec());
    let sent = Named { user: &user, database: &database };
    let configured = Configured::for_client(service.upstream.target(), sent, owner)?;
    arrival.log_replaced(service, sent, configured);
    if let Some(user) = configured.user {
        response.set_user(user.as_bytes()).map_err(Error::MysqlClient)?;
    }
    if let Some(database) = configured.database {
        response.set_database(database.as_bytes()).map_err(Error::MysqlClient)?;
    }
    Ok(())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Tells the client why it is not connected, and the log.
async fn refuse(mut client: Client, error: Error, service: &Service, user: &str, turn: Turn) {
    let error = error.or_connect_timeout(client.arrival.deadline, service.connect_timeout);
    client.arrival.log_refused(service, user, &error);
    let facts = facts(service, &error, client.arrival.limits).await;
    let login = error::Login { user, facts: &facts };
    if let Some(response) = error.mysql_response(service.upstream.target(), &login, turn) {
        farewell(&mut client.stream, &response).await;
    }
}

/// What a client hears that has logged in before.
async fn err_packet(error: &Error, service: &Service, user: &str, turn: Turn) -> Option<Vec<u8>> {
    let facts = service.upstream.facts(error).await;
    let login = error::Login { user, facts: &facts };
    error.mysql_response(service.upstream.target(), &login, turn)
}

/// What a client hears of a command of its that could not be carried out here.
async fn refusal_of_command(error: &Error, service: &Service, user: &str, turn: Turn) -> Option<Vec<u8>> {
    match lost_in_command(error, turn) {
        Some(words) => Some(words),
        None => err_packet(error, service, user, turn).await,
    }
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
    async fn run(&mut self, observer: &mut Observer<'_>) -> Reason {
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
                        Ok(status) => observer.watch.logged_in_anew(status),
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
            in_time(self.service, Instant::now() + STARTUP_TIMEOUT, reading).await?.map_err(Error::MysqlClient)?;
            let ok = self.service.upstream.reset_mysql(&mut self.upstream, &self.greeting, &self.logged_in).await?;
            mysql::command::answer(&mut taken, &ok).await.map_err(Error::MysqlClient)?;
            Ok(ok.status)
        };
        match reset.await {
            Ok(status) => Ok(status),
            Err(error) => {
                let error: Error = error;
                debug!(%target, cause = error.message(), "COM_RESET_CONNECTION refused");
                if let Some(response) = refusal_of_command(&error, self.service, "", Turn::COMMAND).await {
                    farewell(&mut self.client, &response).await;
                }
                Err(Reason::Closed(Side::Upstream))
            }
        }
    }

    /// Answers a COM_CHANGE_USER; the new status. As the server does, the connection ends when it is refused.
    async fn change_user(&mut self) -> Result<u16, Reason> {
        let mut turn = Turn::COMMAND;
        let mut user = String::new();
        match self.try_change_user(&mut turn, &mut user).await {
            Ok(status) => Ok(status),
            Err(error) => {
                let (target, cause) = (&self.service.upstream.target().name, error.message());
                debug!(%target, user, cause, "COM_CHANGE_USER refused");
                if let Some(response) = refusal_of_command(&error, self.service, &user, turn).await {
                    farewell(&mut self.client, &response).await;
                }
                Err(Reason::Closed(Side::Upstream))
            }
        }
    }

    async fn try_change_user(&mut self, turn: &mut Turn, user: &mut String) -> Result<u16, Error> {
        let mut taken = self.client.take_over();
        let deadline = Instant::now() + STARTUP_TIMEOUT;
        let reading = mysql::accept_change_user(&mut taken, &self.login.response, &self.greeting, &self.scramble);
        let mut login = in_time(self.service, deadline, reading).await?.map_err(Error::MysqlClient)?;
        (*turn, *user) = (login.turn(), text(login.response.user()));
        apply_configured_names(&mut login.response, self.service, self.arrival, self.owner)?;
        *user = text(login.response.user());
        let (upstream, greeting) = (&self.service.upstream, &self.greeting);
        let changing = upstream.change_user_mysql(&mut self.upstream, greeting, &self.logged_in, &login.response);
        let ok = changing.await?;
        mysql::finish(&mut taken, &login, &ok).await.map_err(Error::MysqlClient)?;
        drop(taken);
        self.login = login;
        Ok(ok.status)
    }
}

/// The tap of a MySQL connection.
struct Observer<'a> {
    watch: Watch,
    change_user: Signal,
    service: &'a Service,
    arrival: Arrival,
}

impl Tap for Observer<'_> {
    fn on_client(&mut self, bytes: &[u8]) {
        self.service.connections.sent(bytes.len());
        self.watch.on_client(bytes);
    }

    fn on_upstream(&mut self, bytes: &[u8]) {
        self.service.connections.received(bytes.len());
        self.watch.on_upstream(bytes);
        if self.watch.take_refused_to_write() {
            self.service.upstream.on_refused_to_write();
        }
    }

    /// A new login waits for the answers to what came before it, the end for a transaction too.
    fn may_stop(&self) -> bool {
        if self.change_user.is_raised() { self.watch.is_answered() } else { self.watch.state() == Activity::Idle }
    }

    fn is_busy(&self) -> bool {
        self.watch.state() == Activity::Busy
    }

    fn client_is_gone(&self) -> bool {
        self.arrival.client_is_gone()
    }

    fn is_over(&self) -> bool {
        self.watch.is_over()
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, io};

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;
    use crate::mysql::Capabilities;

    /// Follows what has gone to the client, as an [`Observer`] does.
    struct Follows(Watch);

    impl Tap for Follows {
        fn on_client(&mut self, bytes: &[u8]) {
            self.0.on_client(bytes);
        }

        fn on_upstream(&mut self, bytes: &[u8]) {
            self.0.on_upstream(bytes);
        }

        fn may_stop(&self) -> bool {
            false
        }
    }

    fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
        let [a, b, c, ..] = u32::try_from(payload.len()).unwrap().to_le_bytes();
        [&[a, b, c, sequence][..], payload].concat()
    }

    /// What a client has heard that reads nothing until its connection has ended, having room for `room` bytes of `answer`.
    async fn heard(answer: &[u8], room: usize, broken: bool) -> Vec<u8> {
        // With a whole budget of steps: without one, a wire says that it is not ready.
        tokio::task::yield_now().await;
        let (mut client, mut inner_client) = duplex(room);
        let (mut inner_upstream, mut upstream) = duplex(answer.len());
        let mut tap = Follows(Watch::new(Capabilities::PROTOCOL_41, 2));
        tap.0.on_client(&packet(0, b"\x03select"));
        upstream.write_all(answer).await.unwrap();
        let mut end = relay(&mut inner_client, &mut inner_upstream, &mut tap, pending(), async {}).await;
        if broken {
            end.reason = Reason::Broke(Side::Upstream, io::ErrorKind::ConnectionReset.into());
        }
        let words = last_words(&end.reason, &tap.0);
        let mut heard = Vec::new();
        let speak = async {
            if let Some(words) = words {
                farewell(&mut inner_client, &words).await;
            }
            drop(inner_client);
        };
        tokio::join!(speak, async { client.read_to_end(&mut heard).await.unwrap() });
        heard
    }

    #[tokio::test]
    async fn a_client_never_finds_our_words_inside_a_packet() {
        let column = b"\x03def\0\0\0\x011\0\x0c\x3f\0\x01\0\0\0\x08\x81\0\0\0\0";
        let packets = [
            packet(1, b"\x01"),
            packet(2, column),
            packet(3, b"\xfe\0\0\x02\0"),
            packet(4, &[&b"\x50"[..], &[b'x'; 80]].concat()),
            packet(5, b"\x01x"),
            packet(6, b"\xfe\0\0\x02\0"),
        ];
        let answer = packets.concat();
        for broken in [false, true] {
            for room in 1..answer.len() {
                let heard = heard(&answer, room, broken).await;
                let (written, behind) = heard.split_at(room);
                assert_eq!(written, &answer[..room]);
                assert!(behind.is_empty(), "cut at {room}");
            }
        }
    }
}
