//! Many sessions behind one listener: connections spread over them, and sessions come, go and are replaced unseen.

use std::{
    pin::pin,
    process::Stdio,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, TryStreamExt, future::join_all};
use sandbox::{Destination, Failure, Operation, SessionReport};
use tokio::{io::copy_bidirectional, net::TcpListener, process::Command};

use crate::support::{
    admin::Admin,
    driver::{Driver, error_text, within},
    gate::{BASTION, Gate, GateOptions, PATIENCE, sandbox, sandbox_with},
    servers::{PgOptions, PgServer},
};

/// The name of an Aurora cluster's writer.
const WRITER: &str = "orders.cluster-c1abcdefghij.eu-central-1.rds.amazonaws.com";

fn open(sessions: &[SessionReport]) -> usize {
    sessions.iter().filter(|session| session.ready && session.ended.is_none()).count()
}

async fn spread(server: &PgServer, sandbox: &sandbox::Sandbox) -> Gate {
    GateOptions::new(server, sandbox).usual_sessions().start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_while_one_downloads_finds_another_session_open() {
    let server = PgServer::shared();
    let sandbox = sandbox_with(server, sandbox::Options::paced).await;
    let gate = spread(server, &sandbox).await;
    let bulk = Driver::connected(&gate, "downloads").await;
    let rows = "copy (select repeat('x', 1000) from generate_series(1, 1000000)) to stdout";
    let mut rows = pin!(within("copy", bulk.copy_out(rows)).await.expect("it starts"));
    let download = async {
        while let Some(row) = rows.next().await {
            row.expect("no error");
        }
    };
    let beside = async {
        within("a spare session", sandbox.until(|sessions| open(sessions) == 2)).await;
        let other = Driver::connected(&gate, "beside it").await;
        assert_eq!(other.value::<i32>("select 42").await, 42);
        let streams: Vec<u64> = sandbox.sessions().iter().map(|session| session.streams).collect();
        assert_eq!(streams.iter().sum::<u64>(), 2, "{streams:?}");
        assert_eq!(streams.iter().max(), Some(&1), "{streams:?}");
    };
    tokio::select! {
        () = download => panic!("a gigabyte has come in no time"),
        () = beside => {}
    }
    assert_eq!(sandbox.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_connections_share_the_session_that_is_being_opened() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    sandbox.delay(Operation::StartSession, Duration::from_secs(3));
    let gate = spread(server, &sandbox).await;
    let clients = join_all((0..10).map(|_| Driver::connected(&gate, "one of the first"))).await;
    let streams: Vec<u64> = sandbox.sessions().iter().map(|session| session.streams).collect();
    assert_eq!(streams, [10], "{}", gate.log());
    drop(clients);
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_that_lead_the_same_way_share_their_sessions() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let folder = tempfile::tempdir().expect("there is room");
    let target = |name: &str, more: &str| {
        format!(
            "[targets.{name}]\nhost = '{}'\nbastion = '{BASTION}'\nca_file = '{}'\nlisten = 'localhost:0'\n{more}\n",
            server.rds_host,
            server.ca.display()
        )
    };
    let file = folder.path().join("rdsgate.toml");
    let text = target("first", "") + &target("second", "read_only = true") + &target("apart", "keep_alive = true");
    std::fs::write(&file, text).expect("the folder is ours");
    let mut gate = GateOptions::bare(&sandbox)
        .only(&["--config", &file.display().to_string(), "--admin", "localhost:0"])
        .env("RDSGATE_MAX_SESSIONS", "1")
        .env("RDSGATE_WARM_SESSIONS", "0")
        .start()
        .await;
    let ports = gate.ports();
    assert_eq!(ports.len(), 3, "{}", gate.log());
    for port in ports {
        gate.port = port;
        assert_eq!(gate.query("select 42").await, "42");
    }
    let streams: Vec<u64> = sandbox.sessions().iter().map(|session| session.streams).collect();
    assert_eq!(streams, [2, 1], "{}", gate.log());
    let metrics = Admin::of(&gate).scrape().await;
    for target in ["first", "apart"] {
        assert_eq!(metrics.value("rdsgate_sessions_opened_total", &[("target", target)]).to_string(), "1");
    }
    assert!(!metrics.text.contains("rdsgate_sessions_opened_total{target=\"second\"}"), "{}", metrics.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_answer_was_lost_is_found_and_ended() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    sandbox.fail(Operation::StartSession, Failure::LostAnswer, Some(1));
    let mut gate = Gate::start(server, &sandbox).await;
    assert_eq!(gate.query("select 42").await, "42");
    assert!(gate.until(|log| log.contains("that a lost answer had left behind")).await);
    let sessions = sandbox.sessions();
    let (used, orphans): (Vec<_>, Vec<_>) = sessions.iter().partition(|session| session.opens > 0);
    assert_eq!((used.len(), orphans.len()), (1, 1), "{sessions:?}");
    assert!(used[0].ended.is_none() && orphans[0].ended.is_some(), "{sessions:?}");
    assert_eq!(gate.query("select 43").await, "43");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parallel_dump_uses_several_sessions() {
    let server = PgServer::start(&PgOptions::default());
    server.admin("create schema parts authorization app_user");
    for part in 1..=4 {
        server.admin(&format!(
            "create table parts.p{part} as select n, repeat(md5(n::text), 30) t from generate_series(1, 500) n"
        ));
        server.admin(&format!("alter table parts.p{part} owner to app_user"));
    }
    let sandbox = sandbox_with(&server, sandbox::Options::paced).await;
    let gate = spread(&server, &sandbox).await;
    let folder = tempfile::tempdir().expect("there is room");
    let dump = folder.path().join("dump");
    let output = Command::new("pg_dump")
        .args(["-h", "localhost", "-p", &gate.port.to_string(), "-U", "app_user", "-n", "parts", "-Fd", "-j4", "-f"])
        .arg(&dump)
        .arg("appdb")
        .stdin(Stdio::null())
        .output();
    let output = tokio::time::timeout(PATIENCE * 5, output).await.expect("pg_dump hangs").expect("it is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let restored = std::process::Command::new("pg_restore").args(["-a", "-f", "-"]).arg(&dump).output();
    let restored = restored.expect("it is installed").stdout;
    assert_eq!(String::from_utf8_lossy(&restored).matches('\t').count(), 2000, "every row of the four tables");
    let sessions = sandbox.sessions();
    assert!((2..=4).contains(&sessions.len()), "{sessions:?}");
    assert_eq!(sandbox.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn isolated_connections_have_a_session_each_and_no_more_than_there_may_be() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let gate = GateOptions::new(server, &sandbox)
        .usual_sessions()
        .flag("--isolation", "connection")
        .flag("--max-sessions", "2")
        .start()
        .await;
    let first = Driver::connected(&gate, "isolated").await;
    let second = Driver::connected(&gate, "isolated too").await;
    let streams: Vec<u64> = sandbox.sessions().iter().map(|session| session.streams).collect();
    assert_eq!(streams, [1, 1]);
    let Err(refused) = Driver::connect(&gate, "one too many").await else { panic!("there are two only") };
    let refused = error_text(&refused);
    assert!(refused.starts_with("53300 ") && refused.contains("all 2 are reserved"), "{refused}");
    drop(first);
    // Its session serves the next one as soon as the goodbye has reached the agent.
    let started = Instant::now();
    let third = loop {
        match Driver::connect(&gate, "the next").await {
            Ok(driver) => break driver,
            Err(error) => assert!(started.elapsed() < PATIENCE, "{}", error_text(&error)),
        }
    };
    assert_eq!(sandbox.sessions().len(), 2);
    assert_eq!((second.value::<i32>("select 2").await, third.value::<i32>("select 3").await), (2, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_open_before_the_first_client_and_ends_with_rdsgate() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let mut gate = spread(server, &sandbox).await;
    within("a warm session", sandbox.until(|sessions| open(sessions) == 1)).await;
    assert_eq!(gate.query("select 42").await, "42");
    assert_eq!(sandbox.sessions().len(), 1);
    gate.signal("TERM");
    assert_eq!(gate.ended().await.code(), Some(143));
    assert_eq!(open(&sandbox.sessions()), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bastion_that_is_offline_is_heard_of_before_the_first_client() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    sandbox.bastion(BASTION, false);
    let mut gate = spread(server, &sandbox).await;
    assert!(gate.until(|log| log.contains("connections will fail")).await);
    let log = gate.log();
    let line = log.lines().find(|line| line.contains("connections will fail")).expect("it is there");
    assert!(line.contains("is not connected") && line.contains("AmazonSSMManagedInstanceCore"), "{line}");
    sandbox.bastion(BASTION, true);
    assert_eq!(gate.query("select 42").await, "42");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_without_use_ends_and_the_next_connection_opens_another() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let gate = GateOptions::new(server, &sandbox).usual_sessions().flag("--idle-close", "1s").start().await;
    assert_eq!(gate.query("select 1").await, "1");
    within("its end", sandbox.until(|sessions| open(sessions) == 0)).await;
    assert_eq!(gate.query("select 2").await, "2");
    assert!(sandbox.sessions().len() >= 2, "{:?}", sandbox.sessions());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_moved_is_found_by_a_new_session() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback can be listened on");
    let old = listener.local_addr().expect("it is bound");
    let address = server.addr;
    let old_writer = tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let mut to = tokio::net::TcpStream::connect(address).await.expect("the server listens");
            tokio::spawn(async move { copy_bidirectional(&mut from, &mut to).await });
        }
    });
    sandbox.name(&server.rds_host, 5432, Destination::Address(old));
    let gate = spread(server, &sandbox).await;
    assert_eq!(gate.query("select 1").await, "1");
    old_writer.abort();
    let _ = old_writer.await;
    sandbox.name(&server.rds_host, 5432, Destination::Address(server.addr));

    let started = Instant::now();
    loop {
        let ran = gate.psql("select 2").await;
        if ran.status.success() {
            break;
        }
        assert!(ran.stderr.contains("could not connect to the database"), "{}", ran.stderr);
        assert!(started.elapsed() < PATIENCE, "the agent's old session is used for ever: {}", gate.log());
    }
    assert_eq!(sandbox.sessions().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn writer_that_refuses_writes_is_looked_up_again_and_open_connections_stay() {
    let server = PgServer::start(&PgOptions { hosts: vec![WRITER.into()], ..PgOptions::default() });
    let sandbox = sandbox(&server).await;
    let gate = spread(&server, &sandbox).await;
    let client = Driver::connected(&gate, "on the old writer").await;
    within("set", client.batch_execute("set default_transaction_read_only = on")).await.expect("no error");
    let started = Instant::now();
    while sandbox.sessions().len() == 1 {
        let refused = within("create", client.batch_execute("create table nowhere (n int)")).await;
        assert!(error_text(&refused.expect_err("read only")).starts_with("25006 "));
        assert_eq!(gate.query("select 1").await, "1");
        assert!(started.elapsed() < PATIENCE, "{}", gate.log());
    }
    assert_eq!(client.value::<i32>("select 42").await, 42, "a connection is never moved");
    assert_eq!(sandbox.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_our_own_guard_refuses_is_not_taken_for_a_failover() {
    let server = PgServer::start(&PgOptions { hosts: vec![WRITER.into()], ..PgOptions::default() });
    let sandbox = sandbox(&server).await;
    let gate = GateOptions::new(&server, &sandbox).usual_sessions().argument("--read-only").start().await;
    let client = Driver::connected(&gate, "writes").await;
    let started = Instant::now();
    // Long enough for a session to be old enough to be suspected.
    while started.elapsed() < Duration::from_secs(3) {
        let refused = within("create", client.batch_execute("create table nowhere (n int)")).await;
        assert!(error_text(&refused.expect_err("read only")).starts_with("25006 "));
    }
    assert_eq!(gate.query("select 1").await, "1");
    assert!(!gate.log().contains("the destination may have moved"), "{}", gate.log());
    assert_eq!(sandbox.sessions().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_a_client_holds_up_says_so_and_others_get_another() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let mut gate = GateOptions::new(server, &sandbox).usual_sessions().env("RDSGATE_LOG", "debug").start().await;
    let stalled = Driver::connected(&gate, "reads nothing").await;
    // More than the 64 MiB that a session holds, and what sockets hold.
    let rows = "copy (select repeat('x', 1000) from generate_series(1, 110000)) to stdout";
    let stream = within("copy", stalled.copy_out(rows)).await.expect("it starts");
    assert!(gate.until(|log| log.contains("a client stopped reading")).await);
    let beside = Driver::connected(&gate, "beside it").await;
    assert_eq!(beside.value::<i32>("select 42").await, 42);
    let bytes = within("the rest", stream.try_fold(0, async |sum, row| Ok(sum + row.len()))).await;
    assert_eq!(bytes.expect("nothing was lost"), 110_000 * 1001);
    assert!(gate.until(|log| log.contains("client reading again")).await);
    assert!(sandbox.sessions().len() > 1);
    assert_eq!(sandbox.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_isolated_connections_as_there_may_be_can_come_at_once() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let gate = GateOptions::new(server, &sandbox)
        .usual_sessions()
        .flag("--isolation", "connection")
        .flag("--max-sessions", "8")
        .start()
        .await;
    let clients = join_all((0..8).map(|_| Driver::connected(&gate, "isolated, all at once"))).await;
    let streams: Vec<u64> = sandbox.sessions().iter().map(|session| session.streams).collect();
    assert_eq!(streams, [1; 8], "{}", gate.log());
    drop(clients);
}
