//! Health, metrics and status of the real program, while it works, while it fails and while it ends.

#![allow(clippy::float_cmp, reason = "counts are whole numbers, which are exact")]

use std::{fs, os::unix::fs::PermissionsExt as _};

use futures_util::TryStreamExt;
use rdsgate::admin::model::{Condition, Phase, Status};
use sandbox::{Failure, Operation};

use crate::{
    mysql::mariadb,
    ports::ends,
    support::{
        admin::{Admin, Metrics},
        driver::{Driver, until_asleep, within},
        gate::{BASTION, Gate, GateOptions, sandbox},
        servers::{Engine, PgServer, Server},
    },
};

async fn with_admin(options: GateOptions) -> (Gate, Admin) {
    let gate = options.flag("--admin", "localhost:0").start().await;
    let admin = Admin::of(&gate);
    (gate, admin)
}

/// The sessions of the one target that are so.
fn so(status: &Status, condition: Condition) -> usize {
    status.targets[0].sessions.iter().filter(|session| session.condition == condition).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn address_on_a_network_tells_of_the_process_alone() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let gate = GateOptions::new(server, &sandbox).flag("--admin", "0.0.0.0:0").start().await;
    let admin = Admin::of(&gate);
    for (path, status) in [("/readyz", 200), ("/healthz", 200), ("/metrics", 200), ("/", 403), ("/status", 403)] {
        // Probes name the address of the pod.
        let answer = admin.ask(&format!("GET {path} HTTP/1.1\r\nHost: 10.0.0.7:9090\r\n\r\n")).await;
        let answer = answer.expect("it listens");
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert!(!answer.body.contains(&server.rds_host) && !answer.body.contains("app_user"), "{path}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn query_is_counted_from_accept_to_end_without_facts_about_its_client() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let (gate, admin) = with_admin(GateOptions::new(server, &sandbox)).await;
    let before = admin.scrape().await;
    let closed = [("side", "client"), ("reason", "closed")];
    for (name, labels) in [
        ("rdsgate_connections_accepted_total", &[][..]),
        ("rdsgate_connections_ended_total", &closed),
        ("rdsgate_connections_refused_total", &[("stage", "login")]),
        ("rdsgate_connect_duration_seconds_count", &[]),
        ("rdsgate_relayed_bytes_total", &[("direction", "received")]),
        ("rdsgate_sessions", &[("condition", "ready")]),
        ("rdsgate_sessions_opened_total", &[]),
    ] {
        assert_eq!(before.value(name, labels), 0.0, "{name}");
    }
    assert_eq!(before.value("rdsgate_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), 1.0);

    let client = Driver::connected(&gate, "counted").await;
    assert_eq!(client.simple("select repeat('x', 100000)").await.len(), 100_000);
    // Before the end of the connection, which may be far away. The client may have read what is counted a moment later.
    let received = [("direction", "received")];
    let during = admin.until_metric("rdsgate_relayed_bytes_total", &received, 100_000.0).await;
    assert_eq!(during.value("rdsgate_connections_open", &[]), 1.0);
    assert!(during.value("rdsgate_relayed_bytes_total", &[("direction", "sent")]) >= 30.0);
    let status = admin.status().await;
    let [target] = &status.targets[..] else { panic!("{status:#?}") };
    assert_eq!((status.phase, status.version.as_str()), (Phase::Running, env!("CARGO_PKG_VERSION")));
    assert_eq!((target.engine.as_str(), target.host.as_str(), target.port), ("postgres", &*server.rds_host, 5432));
    assert_eq!((target.route.as_str(), target.bastion.as_deref()), ("ssm", Some(BASTION)));
    assert!(target.listeners.contains(&format!("127.0.0.1:{}", gate.port)), "{target:?}");
    assert_eq!((target.connections, target.sessions_opening), (1, 0));
    let [session] = &target.sessions[..] else { panic!("{target:?}") };
    assert_eq!((session.id.as_str(), session.streams), (&*sandbox.sessions()[0].id, 1));
    assert_eq!(session.condition, Condition::Ready);

    drop(client);
    admin.until_metric("rdsgate_connections_ended_total", &closed, 1.0).await;
    // It counts as open until its last words are said.
    let after = within("its last words", admin.until_none_is_open()).await;
    for (name, labels, value) in [
        ("rdsgate_connections_accepted_total", &[][..], 1.0),
        ("rdsgate_connect_duration_seconds_count", &[], 1.0),
        ("rdsgate_connect_stage_duration_seconds_count", &[("stage", "route")], 1.0),
        ("rdsgate_connect_stage_duration_seconds_count", &[("stage", "login")], 1.0),
        ("rdsgate_sessions", &[("condition", "ready")], 1.0),
        ("rdsgate_sessions_opened_total", &[], 1.0),
        ("rdsgate_sessions_failed_total", &[], 0.0),
    ] {
        assert_eq!(after.value(name, labels), value, "{name}");
    }
    let told = ["app_user", "appdb", "counted", BASTION, &sandbox.sessions()[0].id, &server.rds_host];
    for secret in told {
        assert!(!after.text.contains(secret), "{secret} in {}", after.text);
    }
    assert!(after.label_values().len() < 40, "labels are words of the program: {:?}", after.label_values());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_in_the_documentation_and_the_other_way_round() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let (_gate, admin) = with_admin(GateOptions::new(server, &sandbox)).await;
    // As one would write them in a query: with the suffix that the format gives them.
    let told = admin.scrape().await.families.into_iter().map(|(name, kind)| match kind.as_str() {
        "counter" => format!("{name}_total"),
        "info" => format!("{name}_info"),
        _ => name,
    });
    let mut told: Vec<String> = told.collect();
    let documentation = include_str!("../../docs/operations.md");
    let mut documented: Vec<String> = documentation
        .lines()
        .filter_map(|line| line.strip_prefix("| `rdsgate_")?.split_once('`'))
        .map(|(name, _)| format!("rdsgate_{name}"))
        .collect();
    told.sort();
    documented.sort();
    assert_eq!(told, documented);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_login_is_counted_by_its_stage() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let (gate, admin) = with_admin(GateOptions::new(server, &sandbox).flag("--user", "nobody_here")).await;
    assert!(!gate.psql("select 1").await.status.success());
    let metrics = admin.until_metric("rdsgate_connections_refused_total", &[("stage", "login")], 1.0).await;
    for stage in ["client", "credentials", "route", "database", "tls"] {
        assert_eq!(metrics.value("rdsgate_connections_refused_total", &[("stage", stage)]), 0.0, "{stage}");
    }
    assert_eq!(metrics.value("rdsgate_connect_duration_seconds_count", &[]), 0.0);
    assert!(!metrics.text.contains("nobody_here"), "{}", metrics.text);

    let (gate, admin) = with_admin(GateOptions::new(server, &sandbox)).await;
    sandbox.fail(Operation::StartSession, Failure::AccessDenied, None);
    assert!(!gate.psql("select 1").await.status.success());
    let metrics = admin.until_metric("rdsgate_connections_refused_total", &[("stage", "route")], 1.0).await;
    assert_eq!(metrics.value("rdsgate_sessions_failed_total", &[]), 1.0);
    assert_eq!(metrics.value("rdsgate_sessions_opened_total", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_seen_while_it_lasts_and_stays_counted_when_its_session_is_gone() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let (gate, admin) = with_admin(GateOptions::new(server, &sandbox)).await;
    let client = Driver::connected(&gate, "outage").await;
    sandbox.fail(Operation::ResumeSession, Failure::InternalServerError, None);
    sandbox.cut_all();
    admin.until("restoring", |status| so(status, Condition::Restoring) == 1).await;
    let metrics = admin.scrape().await;
    assert_eq!(metrics.value("rdsgate_sessions", &[("condition", "restoring")]), 1.0);
    assert_eq!(metrics.value("rdsgate_sessions", &[("condition", "ready")]), 0.0);
    assert_eq!(metrics.value("rdsgate_session_resumes_total", &[]), 0.0);
    sandbox.heal(Operation::ResumeSession);
    assert_eq!(client.value::<i32>("select 42").await, 42);
    admin.until("ready", |status| so(status, Condition::Ready) == 1).await;
    let metrics = admin.scrape().await;
    assert_eq!(metrics.value("rdsgate_session_resumes_total", &[]), 1.0);

    sandbox.end_all("Session idle timeout");
    assert!(client.error_at_end().await.starts_with("08006 "));
    admin.until("gone", |status| status.targets[0].sessions.is_empty()).await;
    assert_eq!(gate.query("select 42").await, "42");
    let metrics = admin.scrape().await;
    assert_eq!(metrics.value("rdsgate_session_resumes_total", &[]), 1.0, "what happened has happened");
    assert_eq!(metrics.value("rdsgate_sessions_opened_total", &[]), 2.0);
    assert_eq!(metrics.value("rdsgate_connections_ended_total", &[("side", "upstream"), ("reason", "broken")]), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_shows_in_the_state_of_its_session() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let (gate, admin) = with_admin(GateOptions::new(server, &sandbox).env("RDSGATE_LOG", "info")).await;
    let stalled = Driver::connected(&gate, "reads nothing").await;
    // More than the 64 MiB that a session holds, and what sockets hold.
    let rows = "copy (select repeat('x', 1000) from generate_series(1, 110000)) to stdout";
    let stream = within("copy", stalled.copy_out(rows)).await.expect("it starts");
    let status = admin.until("full", |status| so(status, Condition::Full) == 1).await;
    assert!(status.targets[0].sessions[0].unread_bytes >= 60 << 20, "{status:#?}");
    let during = admin.scrape().await;
    assert_eq!(during.value("rdsgate_sessions", &[("condition", "full")]), 1.0);
    assert!(during.value("rdsgate_session_unread_bytes", &[]) >= f64::from(60 << 20));
    assert_eq!(during.value("rdsgate_session_stalls_total", &[]), 1.0);
    let later = admin.scrape().await;
    let seconds = |metrics: &Metrics| metrics.value("rdsgate_session_stalled_seconds_total", &[]);
    assert!(seconds(&later) > seconds(&during), "it counts while it lasts");

    let bytes = within("the rest", stream.try_fold(0, async |sum, row| Ok(sum + row.len()))).await;
    assert_eq!(bytes.expect("nothing was lost"), 110_000 * 1001);
    let status = admin.until("read", |status| so(status, Condition::Ready) == 1).await;
    assert_eq!(status.targets[0].sessions[0].unread_bytes, 0);
    let after = admin.scrape().await;
    assert_eq!(after.value("rdsgate_session_unread_bytes", &[]), 0.0);
    let stalled = seconds(&after);
    assert!(stalled >= seconds(&later));
    assert_eq!(seconds(&admin.scrape().await), stalled, "it is over");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_mysql_are_counted_too() {
    let server = tokio::task::block_in_place(|| Server::shared_of(Engine::MariaDb));
    let sandbox = sandbox(server).await;
    let (gate, admin) = with_admin(GateOptions::new(server, &sandbox)).await;
    let ran = mariadb(&gate, &["-e", "select repeat('x', 10000)"]).await;
    assert_eq!(ran.stderr, "", "{}", gate.log());
    let closed = [("side", "client"), ("reason", "closed")];
    let metrics = admin.until_metric("rdsgate_connections_ended_total", &closed, 1.0).await;
    assert_eq!(metrics.value("rdsgate_connect_duration_seconds_count", &[]), 1.0);
    assert!(metrics.value("rdsgate_relayed_bytes_total", &[("direction", "received")]) >= 10_000.0);
    assert!(metrics.value("rdsgate_relayed_bytes_total", &[("direction", "sent")]) > 0.0);
    within("its last words", admin.until_none_is_open()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_draining_until_the_endpoint_closes() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    // Not a port, which could be somebody else's by the time that we have gone.
    let folder = tempfile::tempdir().expect("there is room");
    let address = format!("unix:{}", folder.path().join("admin.sock").display());
    let mut gate = GateOptions::new(server, &sandbox).flag("--admin", &address).start().await;
    let admin = Admin::of(&gate);
    for path in ["/healthz", "/readyz"] {
        let answer = admin.get(path).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"), "{path}");
    }
    let busy = Driver::connected(&gate, "busy while draining").await;
    let end = async {
        until_asleep(server, "busy while draining").await;
        gate.signal("TERM");
        admin.until("draining", |status| status.phase == Phase::Draining).await;
        for path in ["/healthz", "/readyz"] {
            let answer = admin.get(path).await;
            assert_eq!((answer.status, answer.body.as_str()), (503, "draining"), "{path}");
        }
        assert_eq!(admin.scrape().await.value("rdsgate_connections_open", &[]), 1.0, "metrics go on");
        gate.signal("TERM");
        assert_eq!(gate.ended().await.code(), Some(143));
    };
    let (cut, ()) = tokio::join!(busy.batch_execute("select pg_sleep(600)"), end);
    assert!(cut.is_err());
    assert!(admin.ask("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_or_not_allowed_or_too_long_is_answered_so() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let (_gate, admin) = with_admin(GateOptions::new(server, &sandbox)).await;
    let long = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        ("HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        ("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", 405),
        ("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: cors\r\n\r\n", 403),
        ("GET /status HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: same-site\r\n\r\n", 403),
        ("GET /index.html HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        ("GET /metrics/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        ("POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", 405),
        ("DELETE /status HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        ("GET /status HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403),
        ("GET /status HTTP/1.0\r\n\r\n", 200),
        ("GET /healthz?x=y HTTP/1.1\r\nHost: [::1]:9090\r\n\r\n", 200),
    ] {
        let answer = admin.ask(request).await.unwrap_or_else(|error| panic!("{request}: {error}"));
        assert_eq!(answer.status, status, "{request}: {answer:?}");
    }
    // Refused with a 431, or cut off before the answer can be read.
    assert!(admin.ask(&long).await.is_ok_and(|answer| answer.status == 431) || admin.ask(&long).await.is_err());
    // Who says nothing does not keep others out.
    let Admin::Tcp(port) = admin else { panic!("a port") };
    let mut silent = Vec::new();
    for _ in 0..10 {
        silent.push(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("the kernel has room"));
    }
    assert_eq!(admin.get("/healthz").await.status, 200);
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_is_for_our_user_alone_and_goes_with_the_process() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let folder = tempfile::tempdir().expect("there is room");
    let path = folder.path().join("admin.sock");
    let address = format!("unix:{}", path.display());
    let options = || GateOptions::new(server, &sandbox).flag("--admin", &address);

    let mut killed = options().start().await;
    killed.signal("KILL");
    killed.ended().await;
    assert!(path.exists(), "it could not clean up");

    let mut gate = options().start().await;
    assert_eq!(fs::symlink_metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
    let admin = Admin::of(&gate);
    assert_eq!(admin.get("/healthz").await.status, 200);
    assert_eq!(admin.status().await.phase, Phase::Running);

    let (code, log) = ends(options()).await;
    assert!(code == Some(1) && log.contains("is taken: a program answers there"), "{code:?} {log}");
    assert_eq!(admin.get("/healthz").await.status, 200, "the first one is still there");
    gate.signal("TERM");
    assert_eq!(gate.ended().await.code(), Some(143));
    assert!(!path.exists());

    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o1777)).expect("it is ours");
    let (code, log) = ends(options()).await;
    assert!(code == Some(1) && log.contains("is writable by other users"), "{code:?} {log}");
    assert!(log.contains("hint: use one with mode 0700"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_address_that_cannot_be_is_an_error_at_the_start() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let (_gate, admin) = with_admin(GateOptions::new(server, &sandbox)).await;
    let Admin::Tcp(port) = admin else { panic!("a port") };
    let (code, log) = ends(GateOptions::new(server, &sandbox).flag("--admin", &port.to_string())).await;
    assert!(code == Some(1) && log.contains(&format!("port {port} is taken: rdsgate (process ")), "{code:?} {log}");
    assert!(log.contains("hint: ") && log.contains("--admin"), "{log}");
    let (code, log) = ends(GateOptions::new(server, &sandbox).flag("--admin", "db.example:9090")).await;
    assert!(code == Some(2) && log.contains("invalid --admin: \"db.example:9090\" is not an admin address"), "{log}");
    assert_eq!(sandbox.calls().len(), 0, "{:?}", sandbox.calls());
}

#[tokio::test(flavor = "multi_thread")]
async fn page_shows_connections_and_describes_a_failure_in_the_words_of_the_client() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let (gate, admin) = with_admin(GateOptions::new(server, &sandbox)).await;
    let client = Driver::connected(&gate, "on the page").await;
    let page = admin.get("/").await;
    for wanted in
        ["content-type: text/html", "content-security-policy: default-src 'none'; style-src 'sha256-", "nosniff"]
    {
        assert!(page.head.contains(wanted), "{wanted}: {}", page.head);
    }
    let command = format!("psql -h localhost -p {} -U app_user appdb</code>", gate.port);
    for wanted in
        [&*command, "Running. The target is ready.", "data-column=\"Database\">appdb</td>", &sandbox.sessions()[0].id]
    {
        assert!(page.body.contains(wanted), "{wanted}: {}", page.body);
    }
    let head = admin.ask("HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("it answers");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    drop(client);

    sandbox.fail(Operation::StartSession, Failure::AccessDenied, None);
    sandbox.end_all("Session idle timeout");
    let status = admin.until("gone", |status| status.targets[0].sessions.is_empty()).await;
    assert_eq!(status.targets[0].last_failure, None);
    let refused = gate.psql("select 1").await;
    assert!(!refused.status.success());
    let status = admin.status().await;
    let failure = status.targets[0].last_failure.as_ref().expect("the target is broken");
    assert!(refused.stderr.contains(&failure.message), "{failure:?} is not in {}", refused.stderr);
    assert!(
        failure.hint.as_ref().is_some_and(|hint| refused.stderr.contains(hint.trim_end_matches('.'))),
        "{failure:?}"
    );
    assert_eq!((failure.over, failure.user.as_deref()), (false, Some("app_user")));
    let page = admin.get("/").await;
    for wanted in ["Problem with ", "The last connection of the user &#34;app_user&#34; failed", "What to do:"] {
        assert!(page.body.contains(wanted), "{wanted}: {}", page.body);
    }
    sandbox.heal(Operation::StartSession);
    assert_eq!(gate.query("select 42").await, "42");
    assert!(admin.status().await.targets[0].last_failure.as_ref().is_some_and(|failure| failure.over));
    let page = admin.get("/").await;
    assert!(page.body.contains("logins have succeeded since"), "{}", page.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_a_client_sends_are_text_on_the_page() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let hostile = "<script>alert(1)</script>\"'";
    let (gate, admin) = with_admin(GateOptions::new(server, &sandbox).flag("--user", hostile)).await;
    assert!(!gate.psql("select 1").await.status.success());
    let page = admin.get("/").await;
    assert!(page.body.contains("The last connection of the user &#34;&#60;script&#62;alert(1)"), "{}", page.body);
    assert_eq!(page.body.matches("<script").count(), 1, "{}", page.body);
}
