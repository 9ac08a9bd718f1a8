//! Beginnings and ends: signals, clients that leave, servers that restart, sessions that go, credentials that rotate.

use std::{io, net::SocketAddr, process::Stdio, time::Duration};

use futures_util::future::{self, join_all};
use postgres_protocol::message::frontend;
use sandbox::{Failure, Identity, Operation, Sandbox};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::support::{
    driver::{Driver, error_text, until_asleep, until_server_says, within},
    gate::{Gate, GateOptions, sandbox, sandbox_with, with_long_session_token},
    refusal::Wire,
    servers::{PgOptions, PgServer},
};

/// Calls that were answered without an error.
fn calls(sandbox: &Sandbox, operation: Operation) -> usize {
    sandbox.calls().iter().filter(|call| call.operation == operation && call.error.is_none()).count()
}

/// Nothing is left behind: for every session that was started TerminateSession was called, by name.
fn all_terminated(sandbox: &Sandbox) {
    let terminated: Vec<_> = sandbox
        .calls()
        .into_iter()
        .filter(|call| call.operation == Operation::TerminateSession && call.error.is_none())
        .filter_map(|call| call.session_id)
        .collect();
    for session in sandbox.sessions() {
        assert!(session.ended.is_some(), "{session:?}");
        assert!(terminated.contains(&session.id), "{session:?} {terminated:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_tells_idle_clients_and_terminates_the_session() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let mut gate = Gate::start(server, &sandbox).await;
    let clients = [Driver::connected(&gate, "idle 1").await, Driver::connected(&gate, "idle 2").await];
    assert_eq!(clients[0].simple("select 42").await, "42");
    gate.signal("TERM");
    for client in clients {
        assert_eq!(client.error_at_end().await, "57P01 terminating connection: rdsgate is shutting down");
    }
    assert_eq!(gate.ended().await.code(), Some(143));
    assert_eq!(sandbox.sessions().len(), 1);
    all_terminated(&sandbox);
    until_server_says(server, "select count(*) from pg_stat_activity where application_name like 'idle _'", "0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_cut_off_inside_a_row_finds_no_words_of_ours_there() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let mut gate = GateOptions::new(server, &sandbox).flag("--max-sigterm-delay", "0s").start().await;
    let mut wire = Wire::connect(gate.port).await.start(&[]).await;
    wire.until(b'Z').await;
    let mut query = bytes::BytesMut::new();
    frontend::query("select repeat('r', 60000000)", &mut query).expect("no NUL");
    wire.send(&query).await;
    wire.until(b'T').await;
    // A row with one column, which no buffer on the way holds.
    let mut head = [0; 11];
    within("the row's head", wire.0.read_exact(&mut head)).await.expect("it comes");
    assert_eq!(head[0], b'D');
    gate.signal("TERM");
    gate.ended().await;
    let rest = wire.rest().await;
    assert!(rest.len() < 60_000_000, "the row was not cut");
    assert!(rest.iter().all(|byte| *byte == b'r'), "{}", rest[rest.len() - 200..].escape_ascii());
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_busy_clients_finish() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let mut gate = Gate::start(server, &sandbox).await;
    let busy = Driver::connected(&gate, "finishing").await;
    let in_transaction = Driver::connected(&gate, "in transaction").await;
    within("begin", in_transaction.batch_execute("begin")).await.expect("no error");

    let work = busy.simple("select 'done' from pg_sleep(5)");
    let end = async {
        until_asleep(server, "finishing").await;
        gate.signal("INT");
        assert!(gate.until(|log| log.contains("stopping: no new connections")).await);
        let refused = Driver::connect(&gate, "too late").await.err().map(|error| error_text(&error));
        assert!(refused.is_some(), "a new connection was served");
        // The rest of a transaction is as welcome as its beginning.
        assert_eq!(in_transaction.simple("select 42").await, "42");
        within("commit", in_transaction.batch_execute("commit")).await.expect("no error");
    };
    let (done, ()) = future::join(work, end).await;
    assert_eq!(done, "done");
    for client in [busy, in_transaction] {
        assert_eq!(client.error_at_end().await, "57P01 terminating connection: rdsgate is shutting down");
    }
    assert_eq!(gate.ended().await.code(), Some(130));
    all_terminated(&sandbox);
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_clients_are_cut_after_the_longest_delay_or_a_second_signal() {
    let server = PgServer::shared();
    for (name, delay, signals, code) in [
        ("delay", "1s", &["TERM"][..], 143),
        ("second signal", "10m", &["INT", "INT"], 130),
        ("mixed", "10m", &["INT", "TERM"], 130),
    ] {
        let sandbox = sandbox(server).await;
        let mut gate = GateOptions::new(server, &sandbox).flag("--max-sigterm-delay", delay).start().await;
        let busy = Driver::connected(&gate, name).await;
        let work = async { error_text(&busy.batch_execute("select pg_sleep(120)").await.expect_err("it is cut")) };
        let end = async {
            until_asleep(server, name).await;
            for signal in signals {
                gate.signal(signal);
                assert!(gate.until(|log| log.contains("stopping: no new connections")).await);
            }
            gate.ended().await
        };
        let (heard, ended) = future::join(work, end).await;
        assert!(heard.starts_with("57P01 "), "{name}: {heard}");
        assert_eq!(ended.code(), Some(code), "{name}");
        all_terminated(&sandbox);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_killed_while_its_result_comes_leaves_nothing_behind() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let mut gate = Gate::start(server, &sandbox).await;
    let mut psql = gate.psql_command();
    // More than all buffers on the way hold, and psql's output is not read.
    psql.args(["-c", "copy (select repeat('x', 1000) from generate_series(1, 1000000)) to stdout"]);
    let mut psql = psql.env("PGAPPNAME", "killed").stdout(Stdio::piped()).spawn().expect("psql is installed");
    within("the result", sandbox.until(|sessions| sessions.first().is_some_and(|s| s.sent > 10_000))).await;
    psql.start_kill().expect("it runs");
    assert!(gate.until(|log| log.contains("connection ended")).await);
    until_server_says(server, "select count(*) from pg_stat_activity where application_name = 'killed'", "0").await;
    assert_eq!(gate.query("select 42").await, "42");
    assert_eq!(sandbox.sessions().len(), 1);
    assert_eq!(sandbox.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_killed_while_its_query_runs_is_gone_when_the_query_is() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let mut gate = Gate::start(server, &sandbox).await;
    let mut psql = gate.psql_command();
    psql.args(["-c", "select pg_sleep(5)"]).env("PGAPPNAME", "killed asleep");
    let mut psql = psql.spawn().expect("psql is installed");
    until_asleep(server, "killed asleep").await;
    psql.start_kill().expect("it runs");
    assert!(gate.until(|log| log.contains("connection ended")).await);
    let sql = "select count(*) from pg_stat_activity where application_name = 'killed asleep'";
    until_server_says(server, sql, "0").await;
    assert_eq!(gate.query("select 42").await, "42");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_closes_its_half_still_gets_its_answer() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let mut gate = Gate::start(server, &sandbox).await;
    let mut client = Wire::connect(gate.port).await.start(&[("application_name", "half")]).await;
    let mut query = bytes::BytesMut::new();
    frontend::query("select repeat('answer ', 100000) from pg_sleep(5)", &mut query).expect("no NUL");
    client.send(&query).await;
    until_asleep(server, "half").await;
    client.0.shutdown().await.expect("it is open");
    let answer = client.rest().await;
    let answer = String::from_utf8_lossy(&answer);
    assert_eq!(answer.matches("answer ").count(), 100_000);
    assert!(answer.contains("SELECT 1"), "to the end");
    assert!(gate.until(|log| log.contains("connection ended")).await);
}

/// Leads to whichever server there is at the moment, at an address that stays.
struct Doorway {
    address: SocketAddr,
    leads_to: watch::Sender<SocketAddr>,
}

impl Doorway {
    async fn open(to: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (leads_to, destination) = watch::channel(to);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let to = *destination.borrow();
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(to).await?;
                    copy_bidirectional(&mut near, &mut far).await
                });
            }
        });
        Ok(Self { address, leads_to })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_tells_its_clients_and_the_next_connection_works() {
    let start = || {
        tokio::task::block_in_place(|| PgServer::start(&PgOptions { rds_ports: vec![5432], ..PgOptions::default() }))
    };
    let server = start();
    let doorway = Doorway::open(server.addr).await.expect("loopback can be listened on");
    let options = sandbox::Options::default().region(&server.region);
    let options = options.database(&server.rds_host, 5432, doorway.address);
    let sandbox = Sandbox::start(options).await.expect("loopback can be listened on");
    let gate = Gate::start(&server, &sandbox).await;
    let idle = Driver::connected(&gate, "idle").await;

    tokio::task::block_in_place(|| drop(server));
    assert_eq!(idle.error_at_end().await, "57P01 terminating connection due to administrator command");
    let again = start();
    doorway.leads_to.send_replace(again.addr);
    assert_eq!(Driver::connected(&gate, "again").await.value::<i32>("select 42").await, 42);
    assert_eq!(sandbox.sessions().len(), 1, "the session had no part in it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_process_that_is_terminated_says_so_itself() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let gate = Gate::start(server, &sandbox).await;
    let client = Driver::connected(&gate, "terminated").await;
    let pid = client.pid().await;
    assert_eq!(server.admin(&format!("select pg_terminate_backend({pid})")), "t");
    assert_eq!(client.error_at_end().await, "57P01 terminating connection due to administrator command");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_the_service_ends_tells_idle_and_busy_clients_and_the_next_gets_another() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let gate = Gate::start(server, &sandbox).await;
    let idle = Driver::connected(&gate, "idle when it ends").await;
    let busy = Driver::connected(&gate, "busy when it ends").await;
    let work = async { error_text(&busy.batch_execute("select pg_sleep(60)").await.expect_err("it is cut")) };
    let end = async {
        until_asleep(server, "busy when it ends").await;
        sandbox.end_all("Session idle timeout");
    };
    let (heard, ()) = future::join(work, end).await;
    for heard in [heard, idle.error_at_end().await] {
        assert!(heard.starts_with("08006 ") && heard.contains("Session idle timeout"), "{heard}");
    }
    assert_eq!(gate.query("select 42").await, "42");
    assert_eq!(sandbox.sessions().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_cannot_be_resumed_is_said_to_be_lost_and_the_next_connection_works() {
    let server = PgServer::shared();
    for failure in [Failure::DoesNotExist, Failure::EmptyToken] {
        let sandbox = sandbox(server).await;
        let gate = Gate::start(server, &sandbox).await;
        let client = Driver::connected(&gate, "not resumed").await;
        sandbox.fail(Operation::ResumeSession, failure.clone(), None);
        sandbox.cut_all();
        let heard = client.error_at_end().await;
        assert!(heard.starts_with("08006 "), "{failure:?}: {heard}");
        assert_eq!(gate.query("select 42").await, "42");
        assert_eq!(sandbox.sessions().len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_client_does_not_notice_the_hourly_bye_nor_a_cut() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let gate = Gate::start(server, &sandbox).await;
    let client = Driver::connected(&gate, "idle").await;
    let pid = client.pid().await;
    for opens in 2..6 {
        if opens % 2 == 0 {
            sandbox.bye_all();
        } else {
            sandbox.cut_all();
        }
        within("resuming", sandbox.until(|sessions| sessions[0].opens == opens && sessions[0].connected)).await;
        assert_eq!(client.pid().await, pid);
    }
    assert_eq!(calls(&sandbox, Operation::StartSession), 1);
    assert_eq!(sandbox.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_first_connections_at_once_make_one_session() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    sandbox.delay(Operation::StartSession, Duration::from_millis(500));
    let gate = Gate::start(server, &sandbox).await;
    let clients = join_all((0..10).map(|_| Driver::connected(&gate, "first"))).await;
    for client in &clients {
        assert_eq!(client.value::<i32>("select 42").await, 42);
    }
    assert_eq!(calls(&sandbox, Operation::StartSession), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_its_client_did_not_wait_for_serves_the_next_one() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    sandbox.delay(Operation::StartSession, Duration::from_secs(4));
    let mut gate = Gate::start(server, &sandbox).await;
    let client = Wire::connect(gate.port).await.start(&[("application_name", "impatient")]).await;
    assert!(gate.until(|log| log.contains("starting an SSM session")).await);
    drop(client);
    assert!(gate.until(|log| log.contains("no connection")).await);
    assert_eq!(calls(&sandbox, Operation::StartSession), 0, "it left before the answer");
    assert_eq!(gate.query("select 42").await, "42");
    assert_eq!(calls(&sandbox, Operation::StartSession), 1);
    gate.signal("TERM");
    assert_eq!(gate.ended().await.code(), Some(143));
    all_terminated(&sandbox);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_being_started_when_the_end_comes_is_terminated() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    sandbox.delay(Operation::StartSession, Duration::from_secs(4));
    let mut gate = Gate::start(server, &sandbox).await;
    let client = Wire::connect(gate.port).await.start(&[("application_name", "unlucky")]).await;
    assert!(gate.until(|log| log.contains("starting an SSM session")).await);
    gate.signal("TERM");
    let heard = client.refusal().await;
    assert!(heard.contains(&('C', "57P03".into())), "{heard:?}");
    assert_eq!(gate.ended().await.code(), Some(143));
    assert_eq!(sandbox.sessions().len(), 1);
    all_terminated(&sandbox);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_token_of_two_thousand_bytes_fits_everywhere() {
    let server = PgServer::shared();
    let (sandbox, options, identity) = with_long_session_token(server).await;
    let gate = options.start().await;
    assert_eq!(gate.query("select current_user").await, "app_user");
    assert!(sandbox.calls().iter().all(|call| call.access_key.as_ref() == Some(&identity.access_key)));
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_rotate_are_used_from_then_on() {
    let server = PgServer::shared();
    let names = ["ASIAROTATEDEXAMPLE01", "ASIAROTATEDEXAMPLE02", "ASIAROTATEDEXAMPLE03"];
    let identities: Vec<_> = names
        .iter()
        .map(|name| {
            let mut identity = Identity::temporary_with(format!("session token of {name}"));
            identity.access_key = (*name).into();
            server.add_key(&format!("{name} {} *", identity.secret.expose()));
            identity
        })
        .collect();
    let known = identities.clone();
    let sandbox = sandbox_with(server, |options| known.into_iter().fold(options, sandbox::Options::identity)).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (config, answer) = (folder.path().join("config"), folder.path().join("answer"));
    let process = format!("[profile rotating]\ncredential_process = cat {}\n", answer.display());
    std::fs::write(&config, process).expect("it can be written");
    // Less than five minutes are left: each use of them has the next ones fetched.
    let issue = |n: usize| {
        let expires = std::time::SystemTime::now() + Duration::from_mins(2);
        let expires: aws_smithy_types::DateTime = expires.into();
        let json = serde_json::json!({
            "Version": 1, "AccessKeyId": names[n], "SecretAccessKey": identities[n].secret.expose(),
            "SessionToken": format!("session token of {}", names[n]),
            "Expiration": expires.fmt(aws_smithy_types::date_time::Format::DateTime).expect("a date"),
        });
        let new = folder.path().join("new");
        std::fs::write(&new, json.to_string()).and_then(|()| std::fs::rename(new, &answer)).expect("it can be written");
    };
    issue(0);
    let mut gate = GateOptions::new(server, &sandbox)
        .without_env("AWS_ACCESS_KEY_ID")
        .without_env("AWS_SECRET_ACCESS_KEY")
        .env("AWS_CONFIG_FILE", &config.display().to_string())
        .flag("--profile", "rotating")
        .start()
        .await;
    let used = |key: &str| sandbox.calls().iter().filter(|call| call.access_key.as_deref() == Some(key)).count();
    let client = Driver::connected(&gate, "rotating").await;
    let pid = client.pid().await;
    assert!(used(names[0]) >= 2 && used(names[1]) == 0, "{:?}", sandbox.calls());

    // AWS refuses the old ones from now on: every caller gets the new ones and goes on.
    issue(1);
    sandbox.identity(names[0], |identity| identity.expired = true);
    sandbox.cut_all();
    assert_eq!(client.pid().await, pid, "the connection lives on");
    assert!(used(names[1]) >= 2, "{:?}", sandbox.calls());

    issue(2);
    sandbox.identity(names[1], |identity| identity.expired = true);
    sandbox.end_all("maximum duration");
    let heard = client.error_at_end().await;
    assert!(heard.starts_with("08006 "), "{heard}");
    assert_eq!(gate.query("select current_user").await, "app_user");
    assert!(used(names[2]) >= 2, "{:?}", sandbox.calls());

    gate.signal("TERM");
    assert_eq!(gate.ended().await.code(), Some(143));
    let left: Vec<_> = sandbox.sessions().into_iter().filter(|session| session.ended.is_none()).collect();
    assert!(left.is_empty(), "{left:?}");
}
