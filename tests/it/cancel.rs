//! Cancelling: what a user asks for reaches the server, what nobody was given a key for does not.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use postgres_protocol::message::frontend;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_postgres::NoTls;

use crate::support::{
    driver::{Driver, told, until_asleep, until_server_says, within},
    gate::{Gate, sandbox},
    servers::PgServer,
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
        told(&client.batch_execute("select pg_sleep(60)").await.expect_err("it is cancelled"))
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
    assert_eq!(client.value::<i32>("select 42").await, 42);
}
