//! Serving one PostgreSQL client: startup, login upstream, relay, the truth at the end.

use tokio::{io::AsyncWriteExt, time::timeout};
use tracing::{debug, info};

use super::{Arrival, Client, FAREWELL_TIMEOUT, Service, facts, farewell, in_time};
use crate::{
    connect::Deadline,
    listen::access::{self, User},
    postgres::{
        self, Accepted, Activity, CancelRequest, ErrorReport, Notice, Startup, Watch,
        error::sqlstate::{ADMIN_SHUTDOWN, CONNECTION_FAILURE},
    },
    proxy::{
        error::{Error, Login},
        names::{self, Configured, Named},
        upstream::Established,
    },
    stream::relay::{End, Reason, Side, Tap, relay},
};

/// Serves one client from its first packet to its end.
pub(super) async fn serve(service: &Service, mut client: Client) {
    let target = &service.upstream.target().name;
    match accept(service, &mut client).await {
        Ok((Accepted::Startup(startup), owner)) => Box::pin(connect(service, client, startup, owner)).await,
        Ok((Accepted::Cancel(request), _)) => cancel(service, &request, client.arrival.limits).await,
        Ok((Accepted::Gone { asked_for_tls: true }, _)) => info!(
            %target, peer = %client.arrival.peer,
            "the client left when it heard that this listener has no TLS of its own; use sslmode=disable or prefer"
        ),
        Ok((Accepted::Gone { asked_for_tls: false }, _)) => debug!(%target, peer = %client.arrival.peer, "port probe"),
        Err(error) => refuse(client, error, service, "").await,
    }
}

/// What the client wants, and whose it is.
async fn accept(service: &Service, client: &mut Client) -> Result<(Accepted, User), Error> {
    let admitted = access::check(client.arrival.peer);
    // A client that is not admitted is heard out all the same: it understands an error only after its startup.
    let accepted = in_time(service, client.arrival.deadline, postgres::accept(&mut client.stream)).await;
    match (admitted, accepted?.map_err(Error::Client)) {
        // Drivers send a CancelRequest and close at once. Whose it was can no longer be told, but its key tells enough.
        (Ok(owner), accepted) => Ok((accepted?, owner)),
        (Err(access::Error::Gone), Ok(cancel @ Accepted::Cancel(_))) => Ok((cancel, User::UNKNOWN)),
        (Err(refused), _) => Err(refused.into()),
    }
}

async fn cancel(service: &Service, request: &CancelRequest, limits: Deadline) {
    let target = &service.upstream.target().name;
    let Some(server) = service.registry.server_for(request) else {
        debug!(%target, "cancel request with a key that was not handed out");
        return;
    };
    match server.cancel(request, limits).await {
        Ok(()) => debug!(%target, "cancel request forwarded"),
        Err(error) => info!(%target, cause = %error.message(), "cancel request could not be forwarded"),
    }
}

async fn connect(service: &Service, mut client: Client, mut startup: Startup, owner: User) {
    let asked = text(&startup, b"user");
    let notice = match apply_configured_names(&mut startup, service, &client, owner) {
        Ok(notice) => notice,
        Err(error) => return refuse(client, error, service, &asked).await,
    };
    let (user, database) = (text(&startup, b"user"), text(&startup, b"database"));
    let established = tokio::select! {
        established = Box::pin(service.upstream.log_in(&startup, client.arrival.limits)) => established.map_err(Error::from),
        () = client.left(&postgres::message::TERMINATE) => Err(Error::ClientLeft),
        () = service.drain.cancelled() => Err(Error::ShuttingDown),
    };
    let Established { mut stream, mut logged_in, facts } = match established {
        Ok(established) => established,
        Err(error) => return refuse(client, error, service, &user).await,
    };
    client.arrival.log_logged_in(service, &user, logged_in.server_version.as_deref(), &facts);
    if let Some(notice) = notice {
        logged_in.add_notice(&notice);
    }
    let registered = logged_in.cancel_key.zip(facts.server.clone());
    let registered = registered.map(|(key, server)| service.registry.register(key, server));

    let mut observer = Observer { watch: Watch::new(), service, arrival: client.arrival };
    observer.watch.on_upstream(&logged_in.greeting);
    let greeted = tokio::select! {
        greeted = client.stream.write_all(&logged_in.greeting) => greeted,
        () = service.abort.cancelled() => return,
    };
    let end = match greeted {
        Ok(()) => {
            let (stop, cut) = (service.drain.cancelled(), service.abort.cancelled());
            relay(&mut client.stream, &mut stream, &mut observer, stop, cut).await
        }
        Err(error) => End { reason: Reason::Broke(Side::Client, error), to_upstream: 0, to_client: 0 },
    };
    // Before anybody hears of the end: the server may give the key to the next connection.
    drop(registered);
    client.arrival.log_end(service, &user, &database, &facts, &end);
    if let Some(words) = last_words(&end.reason, &observer.watch) {
        farewell(&mut client.stream, &words).await;
    }
    // In order, so that the server's log shows no lost connection.
    let _ = timeout(FAREWELL_TIMEOUT, stream.shutdown()).await;
}

/// Puts the configured user and database where the client named none; what to tell it.
fn apply_configured_names(
    startup: &mut Startup,
    service: &Service,
    client: &Client,
    owner: User,
) -> Result<Option<Notice>, Error> {
    let (user, database) = (startup.get(b"user"), startup.get(b"database"));
    let (user, database) = (user.unwrap_or_default().to_vec(), database.unwrap_or_default().to_vec());
    let sent = Named { user: &user, database: &database };
    let configured = Configured::for_client(service.upstream.target(), sent, owner)?;
    client.arrival.log_replaced(service, sent, configured);
    for (parameter, value) in [(&b"user"[..], configured.user), (b"database", configured.database)] {
        if let Some(value) = value {
            startup.set(parameter, value.as_bytes()).map_err(Error::Client)?;
        }
    }
    let wanted = names::wants_notices(startup.setting("client_min_messages").as_deref());
    Ok(configured.notice(sent).filter(|_| wanted))
}

fn text(startup: &Startup, name: &[u8]) -> String {
    String::from_utf8_lossy(startup.get(name).unwrap_or_default()).into_owned()
}

/// Tells the client why it is not connected, and the log.
async fn refuse(mut client: Client, error: Error, service: &Service, user: &str) {
    let error = error.or_connect_timeout(client.arrival.deadline, service.connect_timeout);
    client.arrival.log_refused(service, user, &error);
    let facts = facts(service, &error, client.arrival.limits).await;
    let login = Login { user, facts: &facts };
    if let Some(response) = error.response(service.upstream.target(), &login) {
        farewell(&mut client.stream, &response).await;
    }
}

/// What the client hears of an end that is not its own: an error that drivers and their pools take for a lost connection, as
/// they take PostgreSQL's own when it shuts down (the table of their rules is in the tests).
fn last_words(reason: &Reason, watch: &Watch) -> Option<Vec<u8>> {
    let (sqlstate, message, hint) = match reason {
        Reason::Stopped | Reason::Cut => {
            (ADMIN_SHUTDOWN, "terminating connection: rdsgate is shutting down".into(), None)
        }
        Reason::Broke(Side::Upstream, cause) => (
            CONNECTION_FAILURE,
            format!("terminating connection: the connection to the database was lost: {cause}"),
            Some("Connect again. A transaction that was open is rolled back.".into()),
        ),
        Reason::Closed(_) | Reason::Broke(Side::Client, _) => return None,
    };
    // In the middle of a message an error would be read as its rest, and behind the server's own nobody looks for another.
    watch.may_add_error().then(|| ErrorReport { sqlstate, message, detail: None, hint }.encode())
}

/// The tap of a PostgreSQL connection.
struct Observer<'a> {
    watch: Watch,
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

    fn may_stop(&self) -> bool {
        self.watch.state() == Activity::Idle && self.watch.at_boundary()
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

    use tokio::io::{AsyncReadExt, duplex};

    use super::*;

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

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        [&[tag][..], &u32::try_from(body.len() + 4).unwrap().to_be_bytes(), body].concat()
    }

    /// The tags and bodies of the messages, and what is left behind the last whole one.
    fn parse(mut bytes: &[u8]) -> (Vec<(u8, Vec<u8>)>, Vec<u8>) {
        let mut messages = Vec::new();
        while let Some((&[tag, a, b, c, d], rest)) = bytes.split_first_chunk() {
            let body = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap() - 4;
            let Some((body, rest)) = rest.split_at_checked(body) else { break };
            messages.push((tag, body.to_vec()));
            bytes = rest;
        }
        (messages, bytes.to_vec())
    }

    /// What a client has heard that reads nothing until its connection has ended at `end`, having room for `room` bytes of
    /// `answer`.
    async fn heard(answer: &[u8], room: usize, broken: bool) -> Vec<u8> {
        // With a whole budget of steps: without one, a wire says that it is not ready.
        tokio::task::yield_now().await;
        let (mut client, mut inner_client) = duplex(room);
        let (mut inner_upstream, mut upstream) = duplex(answer.len());
        let mut tap = Follows(Watch::new());
        tap.0.on_upstream(&message(b'Z', b"I"));
        tap.0.on_client(&message(b'Q', b"select\0"));
        upstream.write_all(answer).await.unwrap();
        let mut end = relay(&mut inner_client, &mut inner_upstream, &mut tap, pending(), async {}).await;
        assert!(matches!(end.reason, Reason::Cut), "{:?}", end.reason);
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

    /// The first line of the message, and the SQLSTATE, of an ErrorResponse with severity FATAL.
    fn told(reason: &Reason) -> (String, String) {
        let words = last_words(reason, &Watch::new()).unwrap();
        let (messages, rest) = parse(&words);
        assert!(rest.is_empty());
        let [(b'E', body)] = &messages[..] else { panic!("{messages:?}") };
        let body = String::from_utf8(body.clone()).unwrap();
        let field = |code| body.split('\0').find_map(|field| field.strip_prefix(code)).unwrap_or_default().to_owned();
        assert_eq!(field('V'), "FATAL", "pgx closes by the severity");
        (field('M').lines().next().unwrap_or_default().to_owned(), field('C'))
    }

    #[test]
    fn drivers_and_pools_take_our_last_words_for_a_lost_connection() {
        type Rule = fn(&str, &str) -> bool;
        // Those that go by the end of the connection alone (libpq, psycopg, asyncpg, pg, pgjdbc, and SQLAlchemy over them) have
        // no row; tests/it/reconnects.rs runs them.
        let rules: [(&str, Rule); 2] = [
            // PGDialect_psycopg2.is_disconnect: known words in the first line, without a quote before them.
            ("SQLAlchemy over psycopg2", |message, _| {
                message.find("terminating connection").is_some_and(|at| !message[..at].contains('"'))
            }),
            // ProxyConnection.checkException: class 08, and ERROR_STATES.
            ("HikariCP", |_, state| state.starts_with("08") || ["57P01", "57P02", "57P03"].contains(&state)),
        ];
        let lost = io::Error::other("the SSM session ended");
        for reason in [Reason::Stopped, Reason::Cut, Reason::Broke(Side::Upstream, lost)] {
            let (message, state) = told(&reason);
            for (driver, is_lost) in rules {
                assert!(is_lost(&message, &state), "{driver}: {state} {message}");
            }
        }
    }

    #[tokio::test]
    async fn a_client_never_finds_our_words_inside_a_message() {
        let answer =
            [message(b'T', &[7; 30]), message(b'D', &[b'x'; 90]), message(b'D', b""), message(b'C', b"SELECT 2\0")];
        let ends: Vec<usize> = answer
            .iter()
            .scan(0, |end, message| {
                *end += message.len();
                Some(*end)
            })
            .collect();
        let answer = answer.concat();
        for broken in [false, true] {
            for room in 1..answer.len() {
                let heard = heard(&answer, room, broken).await;
                let (written, behind) = heard.split_at(room);
                assert_eq!(written, &answer[..room]);
                let (messages, rest) = parse(behind);
                assert!(rest.is_empty(), "cut at {room}");
                assert_eq!(messages.len(), usize::from(ends.contains(&room)), "cut at {room}");
                assert!(messages.iter().all(|(tag, _)| *tag == b'E'), "cut at {room}");
            }
        }
    }
}
