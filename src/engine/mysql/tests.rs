//! A whole connection, wired as the proxy does: a client, our code, a server, and the relay between them.

use database_wire::Encryption;
use database_wire::mysql::{
    Accepted, Commands, Error, LoggedIn, ReplyPosition, Signal, Terms, TokenTiming, accept, accept_change_user,
    change_user, finish, greet, login, read_greeting,
    script::{MARIADB, MARIADB_CLIENT, OK, Peer, scramble},
    ssl_request,
};
use safe_display::Secret;
use tokio::io::{DuplexStream, duplex};

use super::{Mysql, hint};
use crate::{
    engine::Applicant,
    login::Login,
    stream::relay::{Reason, Tap, relay},
    target::UserMapping,
};

const ROOT: Applicant<'_> =
    Applicant { user: "root", is_unnamed: false, login: Login::Iam, permission: "arn", mapping: UserMapping::OfUser };

#[test]
fn greeting_before_the_dial_has_an_id_of_its_own_that_no_server_gives() {
    let mysql = Mysql::default();
    let ids = [(); 3].map(|()| mysql.expected_greeting().connection_id);
    assert!(ids.iter().all(|id| *id > u32::MAX / 2), "{ids:?}");
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2], "{ids:?}");
}

struct Observer(Signal);

impl Tap for Observer {
    fn on_client(&mut self, _: &[u8]) {}

    fn on_upstream(&mut self, _: &[u8]) {}

    fn may_stop(&self) -> bool {
        self.0.is_raised()
    }
}

fn token(user: &[u8]) -> Secret<String> {
    Secret::new(format!("token of {}", String::from_utf8_lossy(user)))
}

/// Serves one client; why it ended.
async fn serve(mut client: DuplexStream, mut upstream: DuplexStream) -> Result<Reason, Error> {
    let scramble = scramble();
    let greeting = read_greeting(&mut upstream).await?;
    greet(&mut client, &greeting, &scramble, Encryption::Off).await?;
    let Accepted::Login(mut session) = accept(&mut client, &greeting, &scramble, Encryption::Off).await? else {
        panic!("gone")
    };
    let terms = Terms { greeting: &greeting, response: &session.response, compression: None };
    ssl_request(&mut upstream, terms).await?;
    // Here would be TLS.
    let token_of = token(session.response.user());
    let logged_in: LoggedIn = login(&mut upstream, terms, &token_of, TokenTiming::Early).await?;
    finish(&mut client, &session, &logged_in.ok).await?;
    let mut commands = Commands::new(client);
    let mut observer = Observer(commands.signal());
    loop {
        let signal = commands.signal();
        let end = relay(&mut commands, &mut upstream, &mut observer, signal.raised(), std::future::pending()).await;
        if !signal.is_raised() {
            return Ok(end.reason);
        }
        let mut client = commands.take_over();
        session = accept_change_user(&mut client, &session.response, &greeting, &scramble).await?;
        match change_user(&mut upstream, &logged_in, &session.response, &token(session.response.user())).await {
            Ok(ok) => finish(&mut client, &session, &ok).await?,
            Err(Error::Refused(refused)) => {
                let told = refused.encode_with(session.position(), hint(&refused, &ROOT).as_deref());
                tokio::io::AsyncWriteExt::write_all(&mut client, &told).await.unwrap();
                return Err(Error::Refused(refused));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Plays a client and a server against each other through us, over wires that hold `capacity` bytes.
async fn play(
    capacity: usize,
    client: impl AsyncFnOnce(&mut Peer),
    server: impl AsyncFnOnce(&mut Peer),
) -> Result<Reason, Error> {
    let (our_client, their_client) = duplex(capacity);
    let (our_upstream, their_upstream) = duplex(capacity);
    let (mut client_peer, mut server_peer) = (Peer(their_client), Peer(their_upstream));
    let (end, (), ()) = tokio::join!(
        serve(our_client, our_upstream),
        async {
            client(&mut client_peer).await;
            drop(client_peer);
        },
        async {
            server(&mut server_peer).await;
            drop(server_peer);
        },
    );
    end
}

/// The server's part up to the first command.
async fn log_in(server: &mut Peer) {
    server.send(MARIADB).await;
    let (sequence, payload) = server.packet().await;
    assert_eq!((sequence, payload.len()), (1, 32));
    let (sequence, payload) = server.packet().await;
    assert!(sequence == 2 && payload.windows(17).any(|window| window == b"token of app_user"));
    server.send_packet(3, OK).await;
}

#[tokio::test]
async fn a_client_queries_changes_its_user_and_leaves() {
    for capacity in [1, 10, 10_000] {
        let client = async |client: &mut Peer| {
            client.packet().await;
            client.send(MARIADB_CLIENT).await;
            client.expect_packet(2, OK).await;
            for user in ["readonly", "root"] {
                client.send_packet(0, b"\x03select 1").await;
                client.expect_packet(1, b"\x01").await;
                let change = [b"\x11", user.as_bytes(), b"\0\0\0\x2d\0mysql_native_password\0\0"].concat();
                client.send_packet(0, &change).await;
                client.expect_packet(1, OK).await;
            }
            client.send_packet(0, b"\x01").await;
            client.expect_end().await;
        };
        let server = async |server: &mut Peer| {
            log_in(server).await;
            for user in ["readonly", "root"] {
                server.expect_packet(0, b"\x03select 1").await;
                server.send_packet(1, b"\x01").await;
                let (sequence, payload) = server.packet().await;
                assert!(sequence == 0 && payload.starts_with(&[b"\x11", user.as_bytes(), b"\0\0\0"].concat()));
                server.send_packet(1, b"\xfemysql_clear_password\0").await;
                server.expect_packet(2, format!("token of {user}\0").as_bytes()).await;
                server.send_packet(3, OK).await;
            }
            server.expect_packet(0, b"\x01").await;
        };
        let end = play(capacity, client, server).await.unwrap();
        assert!(matches!(end, Reason::Closed(_)), "{end:?}");
    }
}

#[tokio::test]
async fn a_refused_change_of_user_ends_the_connection_with_the_servers_word() {
    let client = async |client: &mut Peer| {
        client.packet().await;
        client.send(MARIADB_CLIENT).await;
        client.expect_packet(2, OK).await;
        client.send_packet(0, b"\x11root\0\0\0\x2d\0mysql_native_password\0\0").await;
        let (sequence, payload) = client.packet().await;
        assert!(sequence == 1 && payload.starts_with(b"\xff\x15\x04#28000no\nHint: "));
        client.expect_end().await;
    };
    let server = async |server: &mut Peer| {
        log_in(server).await;
        server.packet().await;
        server.send_packet(1, b"\xff\x15\x04#28000no").await;
    };
    assert!(matches!(play(100, client, server).await, Err(Error::Refused(_))));
}

#[tokio::test]
async fn a_server_that_is_full_says_so_in_place_of_its_greeting() {
    let (mut upstream, theirs) = duplex(100);
    Peer(theirs).send_packet(0, b"\xff\x10\x04Too many connections").await;
    let Error::RefusedBeforeTls(refused) = read_greeting(&mut upstream).await.unwrap_err() else {
        panic!("no refusal")
    };
    let told = refused.encode_with(ReplyPosition::GREETING, hint(&refused, &ROOT).as_deref());
    assert!(told[3..].starts_with(b"\0\xff\x10\x04Too many connections\nHint: "));
}
