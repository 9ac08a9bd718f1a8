//! Ways to the database: every kind of managed node and document, private endpoints, proxies, direct and automatic routes.

use std::{
    fs,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use sandbox::{Destination, Operation, Options, Oversize, Sandbox, SessionReport, WebSocketSignature};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    process::Command,
};

use crate::support::{
    driver::{Driver, within},
    gate::{BASTION, Gate, GateOptions, sandbox, sandbox_with},
    refusal::Refusal,
    rows::Rows,
    servers::{Engine, Options as ServerOptions, PgServer, Server},
};

const NODE: &str = "mi-0123456789abcdef0";
const TASK: &str = "ecs:cluster_0123abc_0123abc-456";

/// The only session.
fn session(sandbox: &Sandbox) -> SessionReport {
    let mut sessions = sandbox.sessions();
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    sessions.remove(0)
}

/// The properties of a session, names and values.
fn properties(session: &SessionReport) -> Vec<(&str, &str)> {
    session.properties.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_node_serves_a_database_behind_it_and_the_session_says_for_whom() {
    let server = PgServer::shared();
    for node in [BASTION, NODE, TASK] {
        let sandbox = sandbox_with(server, |options| options.bastion(NODE).bastion(TASK)).await;
        let options = GateOptions::new(server, &sandbox).flag("--bastion", node).env("USER", "alice");
        let gate = options.start().await;
        assert_eq!(gate.query("select 42").await, "42");
        let session = session(&sandbox);
        assert_eq!(
            (session.target.as_str(), session.document.as_str()),
            (node, "AWS-StartPortForwardingSessionToRemoteHost")
        );
        assert_eq!(properties(&session), [("host", server.rds_host.as_str()), ("portNumber", "5432")]);
        let reason = session.reason.expect("there is one");
        assert!(
            reason.starts_with("rdsgate/") && reason.contains(" by alice for ") && reason.contains(&server.rds_host),
            "{reason}"
        );
        assert_eq!(sandbox.violations(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_on_the_node_itself_is_still_verified_by_its_own_name() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let document = "AWS-StartPortForwardingSession";
    let gate =
        GateOptions::new(server, &sandbox).flag("--document", document).flag("--reason", "ticket 42").start().await;
    let refusal = Refusal::of(&gate).await;
    let (message, hint) = ("the bastion could not connect to the database", "something listens on its port 5432");
    refusal.says("08001", message, "Stage: database answer.", hint);

    sandbox.name("localhost", 5432, Destination::Address(server.addr));
    let gate =
        GateOptions::new(server, &sandbox).flag("--document", document).flag("--reason", "ticket 42").start().await;
    assert_eq!(gate.query("select 42").await, "42");
    let last = sandbox
        .sessions()
        .into_iter()
        .find(|session| session.streams > 0 && session.failed_dials == 0)
        .expect("it works");
    assert_eq!(last.document, document);
    assert!(last.reason.as_deref().is_some_and(|reason| reason.starts_with("ticket 42 #")), "{last:?}");
    assert_eq!(properties(&last), [("portNumber", "5432")]);
    gate.says(&format!("host={}", server.rds_host)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_of_ones_own_gets_the_parameters_that_it_takes() {
    let server = PgServer::shared();
    let host = server.rds_host.as_str();
    for (takes, fixed, given) in [
        (&["host", "portNumber"][..], &[][..], None),
        (&["portNumber"], &[("host", host)], Some("portNumber")),
        (&[], &[("host", host), ("portNumber", "5432")], Some("none")),
        (&["stage", "portNumber"], &[("host", host)], Some("portNumber, stage=dev")),
    ] {
        let sandbox = sandbox_with(server, |options| options.document("Corp-Databases", takes, fixed)).await;
        let mut options = GateOptions::new(server, &sandbox).flag("--document", "Corp-Databases");
        if let Some(given) = given {
            options = options.flag("--document-parameters", given);
        }
        let gate = options.start().await;
        assert_eq!(gate.query("select 42").await, "42", "{given:?}");
        let session = session(&sandbox);
        let mut properties = properties(&session);
        properties.sort_unstable();
        let mut expected = vec![("host", host), ("portNumber", "5432")];
        expected.extend(takes.contains(&"stage").then_some(("stage", "dev")));
        assert_eq!(properties, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn session_that_leads_elsewhere_is_refused_before_a_byte_is_sent() {
    let server = PgServer::shared();
    let host = server.rds_host.as_str();
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.expect("loopback can be listened on");
    let address = elsewhere.local_addr().expect("it is bound");
    for (document, takes, fixed, given, said) in [
        ("Corp", &["portNumber"][..], &[("host", "evil.example")][..], "portNumber", "would dial evil.example:5432"),
        ("Corp", &["host"], &[("portNumber", "5433")], "host", "5433 instead of"),
        ("Corp", &["portNumber"], &[], "portNumber", "does not say which address"),
        ("Corp", &[], &[], "none", "does not say which address"),
        (
            "AWS-StartPortForwardingSessionToRemoteHost",
            &[],
            &[],
            "host=evil.example,portNumber",
            "would dial evil.example:5432",
        ),
    ] {
        let leads = Destination::Address(address);
        let sandbox = sandbox_with(server, |options| {
            let names = [("evil.example", 5432), (host, 5433), ("localhost", 5432), ("localhost", 80)];
            let options =
                names.into_iter().fold(options, |options, (name, port)| options.name(name, port, leads.clone()));
            if document == "Corp" { options.document(document, takes, fixed) } else { options }
        })
        .await;
        let options = GateOptions::new(server, &sandbox).flag("--document", document);
        let gate = options.flag("--document-parameters", given).start().await;
        let refusal = Refusal::of(&gate).await;
        assert!(refusal.detail.contains(said) || refusal.message.contains(said), "{refusal:#?}");
        assert!(refusal.hint.contains("--document-parameters"), "{refusal:#?}");
        let sessions = sandbox.sessions();
        assert!(!sessions.is_empty() && sessions.iter().all(|session| session.streams == 0), "{sessions:?}");
        assert!(!gate.log().contains("logged in"), "{}", gate.log());
    }
    // The agents connected to nothing, so that nothing waits to be accepted.
    let accepted = tokio::time::timeout(std::time::Duration::from_millis(1), elsewhere.accept()).await;
    assert!(accepted.is_err(), "{accepted:?}");
}

/// A proxy that takes every CONNECT to the same place and notes where it was to go.
struct Proxy {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback can be listened on");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let noted = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let noted = Arc::clone(&noted);
                tokio::spawn(async move { Self::serve(client, to, &noted).await });
            }
        });
        Self { url, asked }
    }

    async fn serve(mut client: TcpStream, to: SocketAddr, asked: &Mutex<Vec<String>>) -> std::io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let destination = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).unwrap_or("no CONNECT");
        asked.lock().expect("no holder panics").push(destination.to_owned());
        let mut server = TcpStream::connect(to).await?;
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
        copy_bidirectional(&mut client, &mut server).await.map(drop)
    }

    /// Where clients asked to go, each place once.
    fn asked(&self) -> Vec<String> {
        let mut asked = self.asked.lock().expect("no holder panics").clone();
        asked.sort_unstable();
        asked.dedup();
        asked
    }
}

/// A sandbox under AWS's own names, which only a proxy leads to: nothing in the environment moves an endpoint.
async fn behind_proxy(server: &PgServer, more: &[&str]) -> (Sandbox, Proxy) {
    let sandbox = sandbox_with(server, |options| options.public(more)).await;
    let proxy = Proxy::start(sandbox.address()).await;
    (sandbox, proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn api_and_websocket_go_through_the_proxy_of_the_environment() {
    let server = PgServer::shared();
    let (sandbox, proxy) = behind_proxy(server, &[]).await;
    let gate = GateOptions::new(server, &sandbox).env("HTTPS_PROXY", &proxy.url).start().await;
    assert_eq!(gate.query("select 42").await, "42");
    let name = |service: &str| format!("{service}.{}.amazonaws.com:443", server.region);
    let asked = proxy.asked();
    assert!(asked.contains(&name("ssm")) && asked.contains(&name("ssmmessages")), "{asked:?}");
    assert_eq!(sandbox.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_endpoint_takes_the_websocket_and_is_verified_by_its_name() {
    let server = PgServer::shared();
    let (sandbox, proxy) = behind_proxy(server, &["messages.corp.example"]).await;
    let through = |endpoint: &str| {
        let options = GateOptions::new(server, &sandbox).env("HTTPS_PROXY", &proxy.url);
        options.flag("--ssmmessages-endpoint", endpoint)
    };
    let gate = through("https://messages.corp.example").start().await;
    assert_eq!(gate.query("select 42").await, "42");
    let asked = proxy.asked();
    assert!(asked.contains(&"messages.corp.example:443".into()), "{asked:?}");
    assert!(!asked.iter().any(|place| place.starts_with("ssmmessages.")), "{asked:?}");
    // The signature was for the name that was dialled, or the sandbox would have refused it.
    let opened = sandbox.calls().into_iter().find(|call| call.operation == Operation::OpenDataChannel);
    assert_eq!(opened.expect("it was opened").error, None);

    let gate = through("imposter.example:8443").start().await;
    let refusal = Refusal::of(&gate).await;
    refusal.says("08001", "TLS to imposter.example failed", "Stage: route to the database.", "AWS_CA_BUNDLE");
    assert!(proxy.asked().contains(&"imposter.example:8443".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn automatic_is_direct_where_that_works() {
    let options = ServerOptions {
        hosts: vec!["db.c1auto.eu-central-1.rds.amazonaws.com".into(), "localhost".into()],
        ..ServerOptions::default()
    };
    let server = PgServer::start(&options);
    let sandbox = sandbox(&server).await;
    let mut gate = automatic(&server, &sandbox, "localhost", server.addr.port()).await;
    gate.says("direct or via i-0123…").await;
    assert_eq!(gate.query("select 42").await, "42");
    assert!(gate.until(|log| log.contains("the database is reached directly")).await);
    assert_eq!(sandbox.sessions().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn automatic_goes_through_the_bastion_where_direct_does_not_work_and_remembers_that() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    // Its name is known behind the bastion only.
    let gate = automatic(server, &sandbox, &server.rds_host, 5432).await;
    for _ in 0..3 {
        assert_eq!(gate.query("select 42").await, "42");
    }
    let log = gate.log();
    assert_eq!(log.matches("not reached directly, going through the bastion").count(), 1, "{log}");
    assert_eq!(log.matches("not reached directly").count(), 1, "not tried again: {log}");
    assert_eq!(session(&sandbox).streams, 3);
}

/// A listener on loopback that accepts every connection, as a VPN client or an address translator does, and says nothing or
/// closes at once.
async fn accepts_everything(closes: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback can be listened on");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            kept.extend((!closes).then_some(connection));
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn automatic_does_not_believe_a_connection_on_which_the_database_says_nothing() {
    for closes in [true, false] {
        let port = accepts_everything(closes).await;
        let hosts = vec!["localhost".into()];
        let server = PgServer::start(&ServerOptions { hosts, rds_ports: vec![port], ..ServerOptions::default() });
        let sandbox = sandbox(&server).await;
        sandbox.name("localhost", port, Destination::Address(server.addr));
        let mut gate = automatic(&server, &sandbox, "localhost", port).await;
        assert_eq!(gate.query("select 42").await, "42", "{}", gate.log());
        assert!(gate.until(|log| log.contains("not reached directly, going through the bastion")).await);
        assert_eq!(session(&sandbox).streams, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_wakes_up_may_use_the_connect_timeout() {
    // Longer than a client without hope waits; the clock's own tests are in simulated time.
    const WAKES_AFTER: std::time::Duration = std::time::Duration::from_secs(11);
    let server = PgServer::shared();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback can be listened on");
    let asleep = listener.local_addr().expect("it is bound");
    let address = server.addr;
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                tokio::time::sleep(WAKES_AFTER).await;
                copy_bidirectional(&mut client, &mut TcpStream::connect(address).await?).await
            });
        }
    });
    let sandbox = sandbox(server).await;
    sandbox.name(&server.rds_host, 5432, Destination::Address(asleep));
    let gate = Gate::start(server, &sandbox).await;
    assert_eq!(gate.query("select 42").await, "42", "{}", gate.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn automatic_compression_is_for_the_way_that_was_taken() {
    let hosts = vec!["db.c1auto.eu-central-1.rds.amazonaws.com".into(), "localhost".into()];
    let server = Server::start(&ServerOptions { engine: Engine::MariaDb, hosts, ..ServerOptions::default() });
    let sandbox = sandbox(&server).await;
    for (host, port, compression) in
        [("localhost", server.addr.port(), "compression=None"), (server.rds_host.as_str(), 3306, "compression=Some(")]
    {
        let gate = automatic(&server, &sandbox, host, port).await;
        let mut client = Command::new("mariadb");
        client.args([
            "--no-defaults",
            "--skip-ssl",
            "--batch",
            "--skip-column-names",
            "-h",
            "127.0.0.1",
            "-u",
            "app_user",
        ]);
        client.args(["-P", &gate.port.to_string(), "-e", "select 42"]).kill_on_drop(true);
        let ran = within("mariadb", client.output()).await.expect("it is installed");
        assert_eq!(String::from_utf8_lossy(&ran.stdout).trim(), "42", "{}", gate.log());
        gate.says(compression).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_the_client_asked_for_is_not_called_broken_on_either_route() {
    const CLIENTS: usize = 20;
    let hosts = vec!["db.c1auto.eu-central-1.rds.amazonaws.com".into(), "localhost".into()];
    let server = Server::start(&ServerOptions { engine: Engine::MariaDb, hosts, ..ServerOptions::default() });
    let sandbox = sandbox(&server).await;
    for (host, port) in [("localhost", server.addr.port()), (server.rds_host.as_str(), 3306)] {
        let mut gate = automatic(&server, &sandbox, host, port).await;
        for _ in 0..CLIENTS {
            let mut client = Command::new("mariadb");
            client.args(["--no-defaults", "-h", "127.0.0.1", "-u", "app_user", "-e", "select 42"]);
            let ran = within("mariadb", client.args(["-P", &gate.port.to_string()]).kill_on_drop(true).output()).await;
            assert!(ran.expect("it is installed").status.success(), "{}", gate.log());
        }
        let ended = |log: &str| -> Vec<String> {
            log.lines().filter(|line| line.contains("connection ended")).map(str::to_owned).collect()
        };
        // Equal lines are counted in one, after some seconds.
        let times = |line: &String| -> usize {
            let Some((_, repeated)) = line.split_once("repeated=") else { return 1 };
            let digits = repeated.trim_start_matches('"').split(' ').next();
            digits.and_then(|digits| digits.parse().ok()).expect("a number")
        };
        let count = |log: &str| ended(log).iter().map(times).sum::<usize>();
        assert!(gate.until(|log| count(log) == CLIENTS).await, "{}", gate.log());
        let log = gate.log();
        let others: Vec<_> = ended(&log).into_iter().filter(|line| !line.contains("reason=\"closed\"")).collect();
        assert_eq!(others, Vec::<String>::new(), "{host}");
    }
}

/// A gate that tries `host` and `port` directly before it goes through the bastion.
async fn automatic(server: &Server, sandbox: &Sandbox, host: &str, port: u16) -> Gate {
    let engine = if server.engine == Engine::Postgres { "postgres" } else { "mysql" };
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let file = folder.path().join("rdsgate.toml");
    // One label makes no target on the command line.
    let text =
        format!("[targets.here]\nhost = \"{host}:{port}\"\nengine = \"{engine}\"\nregion = \"{}\"\n", server.region);
    fs::write(&file, text).expect("the folder is ours");
    GateOptions::bare(sandbox)
        .flag("--config", &file.display().to_string())
        .flag("--listen", "localhost:0")
        .flag("--bastion", BASTION)
        .flag("--via", "auto")
        .flag("--user", "app_user")
        .flag("--database", "appdb")
        .flag("--ca-file", &server.ca.display().to_string())
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn larger_messages_carry_an_upload_where_the_service_takes_them_and_do_no_harm_where_it_does_not() {
    let server = PgServer::shared();
    for (limit, fewer) in [(None, true), (Some((1024, Oversize::Drop)), false), (Some((1024, Oversize::Close)), false)]
    {
        let sandbox = sandbox_with(server, |options| Options { largest_payload: limit, ..options }).await;
        let gate = GateOptions::new(server, &sandbox)
            .flag("--payload-size", "16384")
            .env("RDSGATE_LOG", "debug")
            .start()
            .await;
        let client = Driver::connected(&gate, "large").await;
        Rows::of_bytes(4_000_000, 3).copy_in(&client, |_| {}).await;
        let session = session(&sandbox);
        assert_eq!(session.received < 2_000, fewer, "{limit:?}: {session:?}");
        let opens = if matches!(limit, Some((_, Oversize::Close))) { 2 } else { 1 };
        assert_eq!(session.opens, opens, "{limit:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_timeout_of_the_account_is_fetched_once_and_only_if_not_configured() {
    let server = PgServer::shared();
    let sandbox =
        sandbox_with(server, |options| Options { idle_timeout: Some(std::time::Duration::from_mins(45)), ..options })
            .await;
    let asked = || sandbox.calls().iter().filter(|call| call.operation == Operation::GetDocument).count();
    let mut gate: Gate = GateOptions::new(server, &sandbox).start().await;
    assert_eq!(gate.query("select 42").await, "42");
    assert!(gate.until(|log| log.contains("idle_timeout_s=2700")).await, "{}", gate.log());
    assert_eq!(asked(), 1);
    for flag in ["--idle-timeout=45m", "--keep-alive"] {
        let mut gate = GateOptions::new(server, &sandbox).argument(flag).start().await;
        assert_eq!(gate.query("select 42").await, "42");
        gate.signal("TERM");
        gate.ended().await;
    }
    assert_eq!(asked(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_reads_a_plus_sign_as_itself_is_found_out_once() {
    let server = PgServer::shared();
    for (wanted, refused) in [(WebSocketSignature::Required, 0), (WebSocketSignature::LiteralPlus, 1)] {
        let sandbox = sandbox_with(server, |mut options| {
            options.websocket_signature = wanted;
            options
        })
        .await;
        let gate = Gate::start(server, &sandbox).await;
        assert_eq!(gate.query("select 42").await, "42");
        sandbox.cut_all();
        assert_eq!(gate.query("select 43").await, "43");
        let opened = sandbox.calls().into_iter().filter(|call| call.operation == Operation::OpenDataChannel);
        let (failed, good): (Vec<_>, Vec<_>) = opened.partition(|call| call.error.is_some());
        assert_eq!((failed.len(), good.len()), (refused, 2), "{wanted:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_refuses_signatures_is_asked_without_only_where_that_is_configured() {
    let server = PgServer::shared();
    let sandbox = sandbox_with(server, |mut options| {
        options.websocket_signature = WebSocketSignature::Unsigned;
        options
    })
    .await;
    let gate = Gate::start(server, &sandbox).await;
    Refusal::of(&gate).await.says("28000", "refused the data channel: HTTP 403", "Stage: route to the database.", "");
    let gate = GateOptions::new(server, &sandbox).env("RDSGATE_UNSIGNED_STREAM", "true").start().await;
    assert_eq!(gate.query("select 42").await, "42");
}
