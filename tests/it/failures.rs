//! The messages that a psql user reads when something between the proxy and ReadyForQuery fails, where that takes more than a row of
//! `failure_table`.

use std::{
    fs,
    net::SocketAddr,
    process::Stdio,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use sandbox::{Destination, Ended, Failure, Faults, Identity, Operation, Options, Rates, Sandbox};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket},
    time::timeout,
};

use crate::support::{
    driver::{Driver, error_text},
    gate::{BASTION, Gate, GateOptions, PATIENCE, sandbox, sandbox_with},
    refusal::{Refusal, Wire, field, fields},
    report::Report,
    servers::{PgOptions, PgServer},
};

async fn works(gate: &Gate) {
    assert_eq!(gate.query("select current_user").await, "app_user");
}

fn started(sandbox: &Sandbox) -> usize {
    sandbox.calls().iter().filter(|call| call.operation == Operation::StartSession).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_aws_throttles_now_and_then_is_made_again() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let gate = Gate::start(server, &sandbox).await;
    let before = started(&sandbox);
    sandbox.fail(Operation::StartSession, Failure::Throttling, Some(2));
    works(&gate).await;
    assert_eq!(started(&sandbox), before + 3, "throttled twice and then served");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_rds_says_of_the_database_comes_with_the_failure_and_is_asked_for_once() {
    let server = PgServer::shared();
    let sandbox = sandbox_with(server, |mut options| {
        options.databases[0].iam = false;
        options
    })
    .await;
    let gate = GateOptions::new(server, &sandbox).identity(&Identity::readonly()).start().await;
    let failed = "PAM authentication failed for user \"app_user\"";
    for _ in 0..2 {
        let refusal = Refusal::of(&gate).await;
        refusal.says("28000", failed, "IAM principal: ", "IAM database authentication is disabled on ");
        refusal.says("28000", failed, "", "iam-db-auth-error");
    }
    let asked = |operation| sandbox.calls().iter().filter(|call| call.operation == operation).count();
    assert_eq!((asked(Operation::DescribeDBInstances), asked(Operation::GetCallerIdentity)), (1, 1));

    let stopped = sandbox_with(server, |mut options| {
        options.databases[0].status = "stopped".into();
        options.name(&server.rds_host, 5432, Destination::Address(SocketAddr::from(([127, 0, 0, 1], 1))))
    })
    .await;
    // Without permission for RDS the error has the facts that are known anyway.
    assert!(stopped.identity(&Identity::user().access_key, |user| {
        user.denied.insert(Operation::DescribeDBInstances);
    }));
    let gate = Gate::start(server, &stopped).await;
    let refusal = Refusal::of(&gate).await;
    refusal.says("08001", "", "Stage: database answer.", "Or check that the security group");
    refusal.within(8);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_refused_dial_the_session_serves_on() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    // Bound but not listening: the port is ours and refuses.
    let socket = TcpSocket::new_v4().expect("there is IPv4");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("the system chooses a port");
    sandbox.name(&server.rds_host, 5432, Destination::Address(socket.local_addr().expect("it is bound")));
    let gate = Gate::start(server, &sandbox).await;
    let refusal = Refusal::of(&gate).await;
    refusal.says("08001", "the bastion could not connect", "", "");

    let listener = socket.listen(16).expect("it is bound");
    let address = server.addr;
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let mut to = tokio::net::TcpStream::connect(address).await.expect("the server listens");
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut from, &mut to).await });
        }
    });
    works(&gate).await;
    assert_eq!(sandbox.sessions().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_channel_that_is_closed_as_soon_as_it_opens_is_opened_until_it_stays() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let gate = Gate::start(server, &sandbox).await;
    let mut open = Wire::connect(gate.port).await.start(&[]).await;
    open.until(b'Z').await;
    sandbox.bye_after(Some(Duration::ZERO));
    sandbox.bye_all();
    patient(sandbox.until(|sessions| sessions.iter().any(|session| session.opens > 4 || session.ended.is_some())))
        .await;
    sandbox.bye_after(None);
    open.send(b"Q\0\0\0\x0dselect 1\0").await;
    open.until(b'D').await;
    assert_eq!(sandbox.sessions().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_does_not_let_sessions_be_ended_shows_in_the_log_and_nowhere_else() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let deny = |identity: &mut Identity| assert!(identity.denied.insert(Operation::TerminateSession));
    assert!(sandbox.identity(&Identity::user().access_key, deny));
    let mut gate = Gate::start(server, &sandbox).await;
    works(&gate).await;
    gate.signal("TERM");
    assert_eq!(gate.ended().await.code(), Some(143));
    let said = "TerminateSession failed; the session ends by its idle timeout";
    assert!(gate.until(|log| log.contains(said)).await, "{}", gate.log());
    gate.says("not authorized to perform: ssm:TerminateSession").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_the_service_ends_tells_idle_clients_and_new_ones_get_another() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let mut gate = Gate::start(server, &sandbox).await;
    let mut idle = Wire::connect(gate.port).await.start(&[]).await;
    idle.until(b'Z').await;
    let mut psql = gate.psql_command();
    let mut psql =
        psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it is installed");
    let mut stdin = psql.stdin.take().expect("piped");
    stdin.write_all(b"select 'here';\n").await.expect("psql reads");
    let mut here = [0; 5];
    let stdout = psql.stdout.as_mut().expect("piped");
    patient(stdout.read_exact(&mut here)).await.expect("an answer");

    sandbox.end_all("Session terminated: idle for 20 minutes");

    let told = fields(&idle.until(b'E').await);
    assert_eq!((field(&told, 'S'), field(&told, 'C')), ("FATAL", "08006"));
    let message = "the SSM session ended: Session terminated: idle for 20 minutes";
    assert!(field(&told, 'M').contains(message), "{told:?}");
    assert!(field(&told, 'H').contains("Connect again"), "{told:?}");
    assert_eq!(idle.rest().await, b"");
    assert!(gate.until(|log| log.matches("connection ended").count() == 2).await);
    stdin.write_all(b"select 'gone';\n").await.expect("psql reads");
    drop(stdin);
    let output = patient(psql.wait_with_output()).await.expect("it ends");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("FATAL") && stderr.contains(message), "{stderr}");
    works(&gate).await;
    assert_eq!(sandbox.sessions().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_the_database_ends_hears_the_databases_own_words() {
    let server = PgServer::start(&PgOptions::default());
    let sandbox = sandbox(&server).await;
    let gate = Gate::start(&server, &sandbox).await;
    let mut idle = Wire::connect(gate.port).await.start(&[]).await;
    idle.until(b'Z').await;
    let mut busy = Wire::connect(gate.port).await.start(&[]).await;
    busy.until(b'Z').await;
    busy.send(b"Q\0\0\0\x18select pg_sleep(60)\0").await;
    let running = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'";
    let since = Instant::now();
    while server.admin(running) != "1" {
        assert!(since.elapsed() < PATIENCE, "the query does not run");
    }
    server.admin("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app_user'");
    for mut client in [idle, busy] {
        let told = fields(&client.until(b'E').await);
        assert_eq!((field(&told, 'S'), field(&told, 'C')), ("FATAL", "57P01"), "{told:?}");
        assert_eq!(field(&told, 'M'), "terminating connection due to administrator command");
        assert_eq!(client.rest().await, b"");
    }
    works(&gate).await;
    assert_eq!(sandbox.sessions().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_database_is_reported_by_name() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let gate = Gate::start(server, &sandbox).await;
    let refusal = Refusal::in_database(&gate, "nosuch").await;
    let message = "database \"nosuch\" does not exist";
    refusal.says("3D000", message, "Stage: database login.", "Name a database that exists");
    works(&gate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_another_region_is_refused_with_the_region_in_the_detail() {
    let hosts = vec!["orders.internal.example".to_owned()];
    let server = PgServer::start(&PgOptions { hosts, region: Some("eu-west-1".into()), ..PgOptions::default() });
    let sandbox = sandbox_with(&server, |options| options.region("eu-central-1")).await;
    let gate = GateOptions::new(&server, &sandbox).flag("--region", "eu-central-1").start().await;
    let refusal = Refusal::of(&gate).await;
    refusal.says("28000", "PAM authentication failed", "Region: eu-central-1.", "arn:aws:rds-db:eu-central-1:");
    refusal.is_soon();
    let doctor = GateOptions::new(&server, &sandbox).flag("--region", "eu-central-1");
    let report = Report::of(doctor, &sandbox).await;
    report.exits(5).first_fails("login").says("endpoint", "warn", "is not an RDS endpoint name", "a CNAME of it");
    let seen = server.auth_lines();
    assert!(seen.iter().all(|line| line.contains("region eu-central-1")), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_free_connections_says_so_until_one_is_free() {
    let settings = vec![("max_connections".into(), "4".into()), ("superuser_reserved_connections".into(), "3".into())];
    let server = PgServer::start(&PgOptions { settings, ..PgOptions::default() });
    let sandbox = sandbox(&server).await;
    let gate = Gate::start(&server, &sandbox).await;
    let mut only = Wire::connect(gate.port).await.start(&[]).await;
    only.until(b'Z').await;
    let refusal = Refusal::of(&gate).await;
    refusal.says("53300", "onnection", "Stage: database login.", "out of connections");
    refusal.is_soon();
    let report = Report::of(GateOptions::new(&server, &sandbox), &sandbox).await;
    report.exits(5).first_fails("login").says("login", "fail", "onnection", "out of connections");
    only.send(b"X\0\0\0\x04").await;
    assert_eq!(only.rest().await, b"");
    works(&gate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_gets_no_token() {
    let server = PgServer::start(&PgOptions { trust: true, ..PgOptions::default() });
    let real = PgServer::shared();
    let sandbox = sandbox(real).await;
    sandbox.name(&real.rds_host, 5432, Destination::Address(server.addr));
    let gate = Gate::start(real, &sandbox).await;
    let refusal = Refusal::of(&gate).await;
    refusal.says("08001", "refuses TLS, and a token must not travel without", &real.rds_host, "RDS always offers TLS");
    refusal.is_soon();
    let report = Report::of(GateOptions::new(real, &sandbox), &sandbox).await;
    report
        .exits(5)
        .first_fails("dial")
        .says("dial", "fail", "refuses TLS", "")
        .is("unknown", &["certificate", "login"]);
}

/// A server that reads an SSLRequest, says `answer` and hangs up, or waits until the client does.
async fn fake(answer: Vec<u8>, hangs_up: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback can be listened on");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let answered = async {
                client.read_exact(&mut [0; 8]).await?;
                client.write_all(&answer).await?;
                if hangs_up { client.shutdown().await } else { client.read_to_end(&mut Vec::new()).await.map(drop) }
            };
            // A client that has left early is none to complain about.
            let _ = timeout(PATIENCE, answered).await;
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn what_answers_in_the_place_of_a_database_is_described() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let error = b"SFATAL\0C53300\0Msorry, too many clients already\0\0";
    let error = [b"E", &u32::try_from(error.len() + 4).expect("short").to_be_bytes()[..], error].concat();
    for (at, (answer, sqlstate, message, stage, hint)) in [
        (
            &b""[..],
            "08006",
            "log in to the database: the connection was closed while",
            "database answer",
            "host and port",
        ),
        (b"HTTP/1.1 400 Bad Request", "08P01", "unexpected message 'H'", "database answer", "host and port"),
        (&error, "08004", "before TLS: FATAL 53300: sorry", "database answer", "out of connections"),
        (b"S", "08006", "closed the connection during the TLS handshake", "TLS", ""),
        (b"SHTTP/1.1 400 Bad Request", "08004", "the TLS handshake failed", "TLS", "host and port"),
    ]
    .into_iter()
    .enumerate()
    {
        let port = 6000 + u16::try_from(at).expect("few");
        sandbox.name(&server.rds_host, port, Destination::Address(fake(answer.to_vec(), answer.len() < 2).await));
        let gate = GateOptions::new(server, &sandbox).flag("--port", &port.to_string()).start().await;
        let refusal = Refusal::of(&gate).await;
        refusal.says(sqlstate, message, &format!("Stage: {stage}."), hint);
        refusal.is_soon();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_route_that_leads_nowhere_suggests_a_bastion() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let silent = TcpSocket::new_v4().expect("there is IPv4");
    silent.bind("127.0.0.1:0".parse().expect("an address")).expect("the system chooses a port");
    let port = silent.local_addr().expect("it is bound").port().to_string();
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let file = folder.path().join("rdsgate.toml");
    let text = format!(
        "[targets.here]\nhost = \"localhost\"\nport = {port}\nregion = \"{}\"\nvia = \"direct\"\n",
        server.region
    );
    fs::write(&file, text).expect("the folder is ours");
    let options = GateOptions::bare(&sandbox).flag("--config", &file.display().to_string());
    let gate = options.flag("--listen", "localhost:0").start().await;
    let refusal = Refusal::of(&gate).await;
    refusal.says("08001", "cannot connect to localhost:", "Stage: route to the database.", "use --bastion");
    refusal.is_soon();
    // Who we are, for the database to hear; nothing about sessions.
    let asks_who = |operation| operation == Operation::GetCallerIdentity;
    assert!(sandbox.calls().iter().all(|call| asks_who(call.operation)), "{:?}", sandbox.calls());
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_timeout_bounds_all_of_connecting() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let gate = GateOptions::new(server, &sandbox).flag("--connect-timeout", "1s").start().await;
    sandbox.delay(Operation::StartSession, Duration::from_secs(20));
    let refusal = Refusal::of(&gate).await;
    refusal.says("08001", "no connection within 1s (--connect-timeout)", "Stage: route to the database.", "SSM agent");
    refusal.within(15);
    assert!(refusal.took >= Duration::from_millis(900), "{refusal:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_psql_that_is_interrupted_while_it_connects_leaves_nothing_hanging() {
    let server = PgServer::shared();
    let deaf = Faults { up: Rates { loss: 1.0, ..Rates::default() }, ..Faults::default() };
    let sandbox = sandbox_with(server, |options| Options { faults: deaf, ..options }).await;
    let mut gate = Gate::start(server, &sandbox).await;
    let mut psql = gate.psql_command().args(["-c", "select 1"]).stderr(Stdio::null()).spawn().expect("it is installed");
    patient(sandbox.until(|sessions| sessions.iter().any(|session| session.connected))).await;
    let pid = psql.id().expect("it connects").to_string();
    assert!(std::process::Command::new("kill").args(["-s", "INT", &pid]).status().expect("kill is there").success());
    assert!(!patient(psql.wait()).await.expect("it ends").success());
    assert!(gate.until(|log| log.contains("the client left while it was being connected")).await);
    // The session that was being opened for it serves the next one.
    sandbox.faults(Faults::default());
    works(&gate).await;
    assert_eq!(sandbox.sessions().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_being_connected_hears_that_the_proxy_stops_and_its_session_is_terminated() {
    let server = PgServer::shared();
    let deaf = Faults { up: Rates { loss: 1.0, ..Rates::default() }, ..Faults::default() };
    let sandbox = sandbox_with(server, |options| Options { faults: deaf, ..options }).await;
    let mut gate = Gate::start(server, &sandbox).await;
    let client = Wire::connect(gate.port).await.start(&[]).await;
    patient(sandbox.until(|sessions| sessions.iter().any(|session| session.connected))).await;
    let since = Instant::now();
    gate.signal("TERM");
    let told = client.refusal().await;
    assert_eq!((field(&told, 'C'), field(&told, 'M')), ("57P03", "rdsgate is shutting down"));
    assert_eq!(gate.ended().await.code(), Some(143));
    assert!(since.elapsed() < Duration::from_secs(20), "{}", gate.log());
    let sessions = sandbox.sessions();
    assert!(sessions.iter().all(|session| session.ended == Some(Ended::ByApi)), "{sessions:?}");
}

async fn patient<T>(work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, work).await.expect("it takes too long")
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_in_front_of_a_bastion_that_is_not_there_share_a_few_attempts() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    sandbox.bastion(BASTION, false);
    let gate = Gate::start(server, &sandbox).await;
    let before = started(&sandbox);
    let until = Instant::now() + Duration::from_secs(6);
    let client = async || {
        let mut refused = 0;
        while Instant::now() < until {
            let Err(error) = Driver::connect(&gate, "impatient").await else { panic!("there is no bastion") };
            assert!(error_text(&error).contains("is not connected to Systems Manager"), "{}", error_text(&error));
            refused += 1;
        }
        refused
    };
    let refused: u32 = join_all((0..5).map(|_| client())).await.into_iter().sum();
    let calls = started(&sandbox) - before;
    println!("{refused} connections refused after {calls} calls");
    assert!(refused >= 10 && calls <= 6, "{refused} connections, {calls} calls");
    sandbox.bastion(BASTION, true);
    works(&gate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_dial_behind_a_slow_session_is_still_named_as_the_cause() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let gate = Gate::start(server, &sandbox).await;
    sandbox.name(&server.rds_host, 5432, Destination::BlackHole);
    // Of the 9 s that an explanation may take, fewer are left then than the 8 s of a dial.
    sandbox.delay(Operation::StartSession, Duration::from_secs(2));
    let refusal = Refusal::of(&gate).await;
    refusal.says("08001", "the bastion did not reach the database within", "Stage: database answer.", "security group");
}
