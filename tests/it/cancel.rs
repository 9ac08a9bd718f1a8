//! Cancelling: a cancel request reaches the very server that gave the key, whatever its name leads to by now; a request
//! without such a key goes nowhere.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use postgres_protocol::message::frontend;
use sandbox::{Destination, Failure, Operation};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_postgres::NoTls;

use crate::support::{
    driver::{Driver, error_text, until_asleep, until_server_says, within},
    gate::{Gate, GateOptions, sandbox},
    servers::{PgOptions, PgServer},
};

/// "Within a second or so", on a machine that runs all other tests meanwhile, and long before the query's own end.
const SOON: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_in_psql_ends_the_query_and_the_connection_stays_usable() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let gate = Gate::start(server, &sandbox).await;
    // A terminal, for only there psql goes on after Ctrl-C.
    let psql = format!("psql -Xn -P pager=off -h localhost -p {} -U app_user appdb", gate.port);
    let mut terminal = tokio::process::Command::new("script");
    terminal.args(["-qec", &psql, "/dev/null"]).env("PGAPPNAME", "ctrl-c").env("LC_ALL", "C.UTF-8").kill_on_drop(true);
    let mut terminal =
        terminal.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script is part of bsdutils");
    let mut keyboard = terminal.stdin.take().expect("piped");
    let typed = "select 'before:' || pg_backend_pid(); select pg_sleep(60);\n";
    keyboard.write_all(typed.as_bytes()).await.expect("it reads");
    until_asleep(server, "ctrl-c").await;

    let interrupted = Instant::now();
    keyboard.write_all(b"\x03").await.expect("it reads");
    until_server_says(server, "select state from pg_stat_activity where application_name = 'ctrl-c'", "idle").await;
    assert!(interrupted.elapsed() < SOON, "{:?}", interrupted.elapsed());
    keyboard.write_all(b"select 'after:' || pg_backend_pid();\n\\q\n").await.expect("it reads");
    let output = within("psql", terminal.wait_with_output()).await.expect("it ends");

    let screen = String::from_utf8_lossy(&output.stdout);
    assert!(screen.contains("ERROR:  canceling statement due to user request"), "{screen}");
    let number = |mark| screen.split(mark).find_map(|rest| rest.split_whitespace().next()?.parse::<u32>().ok());
    assert!(number("before:").is_some(), "{screen}");
    assert_eq!(number("before:"), number("after:"), "{screen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_cancel_request_with_the_key_of_an_open_connection_is_forwarded() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let mut gate = Gate::start(server, &sandbox).await;
    let client = Driver::connected(&gate, "cancel me").await;
    let closed = Driver::connected(&gate, "closed").await;
    let old_key = closed.cancel_token();
    drop(closed);
    assert!(gate.until(|log| log.contains("connection ended")).await);
    let streams = || sandbox.sessions()[0].streams;
    let before = streams();
    let pid = client.pid().await;

    let cancelled = async {
        // Bounded by what the strangers are.
        error_text(&client.batch_execute("select pg_sleep(60)").await.expect_err("it is cancelled"))
    };
    let strangers = async {
        until_asleep(server, "cancel me").await;
        // The right process with a guessed key, and a key that was right once.
        let mut socket = TcpStream::connect(("127.0.0.1", gate.port)).await.expect("the gate is there");
        let mut guess = bytes::BytesMut::new();
        frontend::cancel_request(pid, 42, &mut guess);
        socket.write_all(&guess).await.expect("the gate reads");
        assert_eq!(within("the close", socket.read(&mut [0])).await.expect("an orderly close"), 0);
        within("the old key", old_key.cancel_query(NoTls)).await.expect("an orderly close");
        let refused = |log: &str| log.matches("cancel request with a key that was not handed out").count() == 2;
        assert!(gate.until(refused).await, "{}", gate.log());
        assert_eq!(streams(), before, "nothing was forwarded");

        let asked = Instant::now();
        within("the right key", client.cancel_token().cancel_query(NoTls)).await.expect("it is forwarded");
        asked
    };
    let (answer, asked) = tokio::join!(cancelled, strangers);
    assert_eq!(answer, "57014 canceling statement due to user request");
    assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
    assert_eq!(streams(), before + 1);
    assert_eq!(client.pid().await, pid, "the connection is as usable as before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_request_that_comes_too_late_does_no_harm() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let gate = Gate::start(server, &sandbox).await;
    let client = Driver::connected(&gate, "late").await;
    for _ in 0..3 {
        within("cancel", client.cancel_token().cancel_query(NoTls)).await.expect("it is forwarded");
    }
    // A server process that has not run since then cancels its next command, with or without a proxy.
    if let Err(refused) = within("select", client.batch_execute("select 42")).await {
        assert_eq!(error_text(&refused), "57014 canceling statement due to user request");
    }
    assert_eq!(client.value::<i32>("select 42").await, 42);
}

/// The name of an Aurora cluster's readers, which leads to one of several servers.
const READER: &str = "orders.cluster-ro-c1abcdefghij.eu-central-1.rds.amazonaws.com";

fn reader(port: u16) -> PgServer {
    let hosts = vec![READER.into(), "localhost".into()];
    PgServer::start(&PgOptions { hosts, rds_ports: vec![port], ..PgOptions::default() })
}

/// Sleeps on `server` under this name until a cancel request comes, and cancels.
async fn cancels(client: &Driver, server: &PgServer, name: &str) -> Duration {
    let sleeping =
        async { error_text(&client.batch_execute("select pg_sleep(120)").await.expect_err("it is cancelled")) };
    let cancelling = async {
        until_asleep(server, name).await;
        let asked = Instant::now();
        within("cancel", client.cancel_token().cancel_query(NoTls)).await.expect("it is forwarded");
        asked
    };
    let (answer, asked) = tokio::join!(sleeping, cancelling);
    assert_eq!(answer, "57014 canceling statement due to user request");
    asked.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_reaches_its_own_server_when_sessions_lead_to_several_and_none_is_free() {
    let (first_server, second_server) = (reader(5432), reader(5432));
    let sandbox = sandbox(&first_server).await;
    let options = GateOptions::new(&first_server, &sandbox);
    let gate = options.flag("--isolation", "connection").flag("--max-sessions", "2").start().await;
    let first = Driver::connected(&gate, "on the first").await;
    sandbox.name(READER, 5432, Destination::Address(second_server.addr));
    let second = Driver::connected(&gate, "on the second").await;
    assert!(cancels(&first, &first_server, "on the first").await < SOON);
    assert!(cancels(&second, &second_server, "on the second").await < SOON);
    let streams: Vec<u64> = sandbox.sessions().iter().map(|session| session.streams).collect();
    assert_eq!(streams, [2, 2], "each in the session of its connection: {}", gate.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_on_the_direct_route_reaches_the_address_that_was_dialled() {
    let v4 = TcpListener::bind("127.0.0.1:0").await.expect("loopback can be listened on");
    let port = v4.local_addr().expect("it is bound").port();
    let (first_server, second_server) = (reader(port), reader(port));
    forward(v4, first_server.addr);
    let folder = tempfile::tempdir().expect("there is room");
    let file = folder.path().join("rdsgate.toml");
    let text = format!("[targets.here]\nhost = \"localhost:{port}\"\nregion = \"{}\"\n", first_server.region);
    std::fs::write(&file, text).expect("the folder is ours");
    let sandbox = sandbox(&first_server).await;
    let options = GateOptions::bare(&sandbox).flag("--config", &file.display().to_string());
    let options = options.flag("--via", "direct").flag("--engine", "postgres").flag("--listen", "localhost:0");
    let options = options.flag("--user", "app_user").flag("--database", "appdb");
    let gate = options.flag("--ca-file", &first_server.ca.display().to_string()).start().await;
    let client = Driver::connected(&gate, "direct").await;
    // Another server takes the name's first address.
    forward(TcpListener::bind(("::1", port)).await.expect("the port is free there"), second_server.addr);
    assert!(cancels(&client, &first_server, "direct").await < SOON, "{}", gate.log());
}

/// Takes every connection to another address.
fn forward(listener: TcpListener, to: std::net::SocketAddr) {
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            tokio::spawn(async move { copy_bidirectional(&mut from, &mut TcpStream::connect(to).await?).await });
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_waits_for_its_session_to_be_resumed() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let mut gate = Gate::start(server, &sandbox).await;
    let client = Driver::connected(&gate, "resumed").await;
    let sleeping =
        async { error_text(&client.batch_execute("select pg_sleep(120)").await.expect_err("it is cancelled")) };
    let cancelling = async {
        until_asleep(server, "resumed").await;
        sandbox.fail(Operation::ResumeSession, Failure::Throttling, None);
        sandbox.cut_all();
        assert!(gate.until(|log| log.contains("connection of the SSM session lost, resuming")).await);
        let token = client.cancel_token();
        let cancel = tokio::spawn(async move { token.cancel_query(NoTls).await });
        let calls = || sandbox.calls().iter().filter(|call| call.operation == Operation::ResumeSession).count();
        within("tries to resume", sandbox.until(|_| calls() >= 2)).await;
        sandbox.heal(Operation::ResumeSession);
        within("cancel", cancel).await.expect("no panic").expect("it is forwarded");
    };
    let (answer, ()) = tokio::join!(sleeping, cancelling);
    assert_eq!(answer, "57014 canceling statement due to user request");
    assert_eq!(sandbox.sessions().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_passes_through_a_session_that_a_client_holds_up() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let mut gate = Gate::start(server, &sandbox).await;
    let stalled = Driver::connected(&gate, "reads nothing").await;
    let cancel = stalled.cancel_token();
    // More than the 64 MiB that a session holds and the buffers of sockets, less than those and the 64 MiB beside a cancel request.
    let rows = "copy (select repeat('x', 1000) from generate_series(1, 118000)) to stdout";
    let _stream = within("copy", stalled.copy_out(rows)).await.expect("it starts");
    assert!(gate.until(|log| log.contains("a client stopped reading")).await, "{}", gate.log());
    within("cancel", cancel.cancel_query(NoTls)).await.expect("it is forwarded");
    assert!(gate.until(|log| log.contains("cancel request forwarded")).await, "{}", gate.log());
    assert_eq!(sandbox.sessions().len(), 1);
}
