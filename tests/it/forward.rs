//! Bytes without a protocol: what passes through a forwarded port, and how an error looks to a client that has no words for it.

#![allow(clippy::float_cmp, reason = "counts are whole numbers, which are exact")]

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::Stdio,
};

use rdsgate::admin::model::Status;
use sandbox::{Destination, Options, Sandbox};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
};

use crate::support::{
    admin::Admin,
    clients,
    driver::within,
    gate::{BASTION, CREDENTIALS, Gate, GateOptions, free_port},
    servers::PgServer,
};

const HOST: &str = "web.internal.example";
const PORT: u16 = 8080;

/// A sandbox in which `host` leads to `address`.
async fn sandbox_to(host: &str, port: u16, address: SocketAddr) -> Sandbox {
    let options = Options::default().name(host, port, Destination::Address(address));
    Sandbox::start(options).await.expect("loopback can be listened on")
}

/// `rdsgate forward` to `destination`, on a free port and through one session.
fn options(sandbox: &Sandbox, destination: &str) -> GateOptions {
    GateOptions::bare(sandbox)
        .verb("forward")
        .argument(destination)
        .flag("--listen", "localhost:0")
        .flag("--region", sandbox.region())
        .env("RDSGATE_MAX_SESSIONS", "1")
        .env("RDSGATE_WARM_SESSIONS", "0")
}

/// The usual forward: to [`HOST`] behind the bastion, which is `listener`.
async fn forward(listener: &TcpListener) -> (Sandbox, Gate) {
    let sandbox = sandbox_to(HOST, PORT, listener.local_addr().expect("it is bound")).await;
    let gate = options(&sandbox, &format!("{HOST}:{PORT}")).flag("--bastion", BASTION).start().await;
    (sandbox, gate)
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("loopback can be listened on")
}

async fn client_of(gate: &Gate) -> TcpStream {
    TcpStream::connect(("127.0.0.1", gate.port)).await.expect("rdsgate listens")
}

async fn accepted(listener: &TcpListener) -> TcpStream {
    within("a dial", listener.accept()).await.expect("it is bound").0
}

async fn reads(stream: &mut (impl AsyncRead + Unpin), expected: &[u8]) {
    let mut read = vec![0; expected.len()];
    within("the bytes", stream.read_exact(&mut read)).await.expect("they come");
    assert!(read == expected, "{} bytes differ", expected.len());
}

async fn writes(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    within("room for bytes", stream.write_all(bytes)).await.expect("they are taken");
}

/// The rest of a stream, to its end in order.
async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut rest = Vec::new();
    within("the end", stream.read_to_end(&mut rest)).await.expect("it is in order");
    rest
}

/// Waits for the reset of a connection.
async fn is_reset(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let error = within("a reset", stream.read_to_end(&mut rest)).await.expect_err("it is not closed in order");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "after {} bytes", rest.len());
}

/// Bytes of every value, none of which is like its neighbours.
fn bytes(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(length)
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_pass_both_ways_unchanged_from_both_kinds_of_server() {
    let listener = listener().await;
    let (sandbox, gate) = forward(&listener).await;
    for server_first in [true, false] {
        let mut client = client_of(&gate).await;
        let mut server = accepted(&listener).await;
        let (up, down) = (bytes(300_000, 7), bytes(300_000, 9));
        if server_first {
            writes(&mut server, b"220 ready\r\n").await;
            reads(&mut client, b"220 ready\r\n").await;
        }
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        tokio::join!(
            writes(&mut to_client, &up),
            reads(&mut from_server, &up),
            writes(&mut to_server, &down),
            reads(&mut from_client, &down),
        );
        drop(client);
        assert_eq!(rest(&mut server).await, b"", "the close reaches the server");
    }
    let sessions = sandbox.sessions();
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    assert_eq!(sessions[0].document, "AWS-StartPortForwardingSessionToRemoteHost");
    assert_eq!(sessions[0].properties, [("host", HOST), ("portNumber", "8080")].map(|(a, b)| (a.into(), b.into())));
    gate.says(&format!("forwarding 127.0.0.1:{} -> {HOST}:{PORT}\n", gate.port)).await;
    assert_eq!(sandbox.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn port_of_a_node_itself_needs_no_bastion() {
    let listener = listener().await;
    let sandbox = sandbox_to("localhost", 80, listener.local_addr().expect("it is bound")).await;
    let mut gate = options(&sandbox, &format!("{BASTION}:80")).start().await;
    let mut client = client_of(&gate).await;
    writes(&mut client, b"GET / HTTP/1.0\r\n\r\n").await;
    let mut server = accepted(&listener).await;
    reads(&mut server, b"GET / HTTP/1.0\r\n\r\n").await;
    writes(&mut server, b"HTTP/1.0 200 OK\r\n\r\nthe page").await;
    drop(server);
    assert_eq!(rest(&mut client).await, b"HTTP/1.0 200 OK\r\n\r\nthe page");
    let session = sandbox.sessions().remove(0);
    assert_eq!((session.target.as_str(), session.document.as_str()), (BASTION, "AWS-StartPortForwardingSession"));
    assert_eq!(session.properties, [("portNumber".into(), "80".into())]);
    gate.signal("INT");
    assert_eq!(gate.ended().await.code(), Some(130));
    assert!(sandbox.sessions().iter().all(|session| session.ended.is_some()), "{:?}", sandbox.sessions());
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_dial_is_a_line_of_the_log_with_its_remedy_and_a_reset() {
    const CAUSE: &str = "the bastion could not connect to the server (refused, unreachable";
    let closed = listener().await;
    let (_sandbox, mut gate) = forward(&closed).await;
    drop(closed);
    let mut client = client_of(&gate).await;
    is_reset(&mut client).await;
    assert!(gate.until(|log| log.contains(CAUSE)).await);
    let log = gate.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(CAUSE)).collect();
    assert_eq!(lines.len(), 1, "{log}");
    for part in ["WARN", "lets the bastion in on port 8080", HOST] {
        assert!(lines[0].contains(part), "{part}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn client_that_half_closes_gets_its_whole_reply() {
    let listener = listener().await;
    let (_sandbox, gate) = forward(&listener).await;
    let mut client = client_of(&gate).await;
    writes(&mut client, b"question").await;
    client.shutdown().await.expect("it is open");
    let mut server = accepted(&listener).await;
    reads(&mut server, b"question").await;
    let reply = bytes(200_000, 3);
    writes(&mut server, &reply).await;
    drop(server);
    assert!(rest(&mut client).await == reply);
    // One that has nothing to say and only listens.
    let mut client = client_of(&gate).await;
    client.shutdown().await.expect("it is open");
    let mut server = accepted(&listener).await;
    writes(&mut server, b"SSH-2.0-there\r\n").await;
    drop(server);
    assert_eq!(rest(&mut client).await, b"SSH-2.0-there\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_half_closes_is_closed_by_the_agent_and_its_bytes_all_arrive() {
    let listener = listener().await;
    let (_sandbox, gate) = forward(&listener).await;
    let mut client = client_of(&gate).await;
    let mut server = accepted(&listener).await;
    let reply = bytes(200_000, 5);
    writes(&mut server, &reply).await;
    server.shutdown().await.expect("it is open");
    assert!(rest(&mut client).await == reply);
    drop(client);
    assert_eq!(rest(&mut server).await, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn direct_route_passes_half_closes_and_resets_as_they_are() {
    let listener = listener().await;
    let address = listener.local_addr().expect("it is bound");
    let sandbox = sandbox_to(HOST, PORT, address).await;
    let mut gate = options(&sandbox, &address.to_string()).flag("--via", "direct").start().await;
    let mut client = client_of(&gate).await;
    writes(&mut client, b"all of it").await;
    client.shutdown().await.expect("it is open");
    let mut server = accepted(&listener).await;
    assert_eq!(rest(&mut server).await, b"all of it", "the server hears the half-close");
    writes(&mut server, b"received").await;
    drop(server);
    assert_eq!(rest(&mut client).await, b"received");

    let mut client = client_of(&gate).await;
    let mut server = accepted(&listener).await;
    writes(&mut server, b"part").await;
    reads(&mut client, b"part").await;
    socket2::SockRef::from(&server).set_linger(Some(std::time::Duration::ZERO)).expect("it is open");
    drop(server);
    is_reset(&mut client).await;
    assert!(gate.until(|log| log.contains("Connection reset by peer")).await);
    assert!(sandbox.sessions().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn direct_forward_asks_for_no_region_and_aws_for_nothing() {
    let listener = listener().await;
    let address = listener.local_addr().expect("it is bound");
    let sandbox = sandbox_to(HOST, PORT, address).await;
    let folder = tempfile::tempdir().expect("there is room");
    let runtime = folder.path().display().to_string();
    let bare = ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter().chain(CREDENTIALS);
    let options = options(&sandbox, &address.to_string()).flag("--via", "direct").without("--region");
    let options = bare.fold(options, GateOptions::without_env).env("XDG_RUNTIME_DIR", &runtime);
    let gate = options.start().await;
    let mut client = client_of(&gate).await;
    let mut server = accepted(&listener).await;
    writes(&mut server, b"220 ready\r\n").await;
    reads(&mut client, b"220 ready\r\n").await;
    let status = GateOptions::bare(&sandbox).only(&[]).verb("status").env("XDG_RUNTIME_DIR", &runtime).run().await;
    assert!(status.stdout.contains("\n    route        direct\n"), "{}", status.stdout);
    assert_eq!(sandbox.calls().len(), 0, "{:?}", sandbox.calls());
    // Through a bastion there is no way around it.
    let options = GateOptions::bare(&sandbox).verb("forward").argument("web.internal.example:80");
    let options = options.flag("--bastion", BASTION).without_env("AWS_REGION").without_env("AWS_DEFAULT_REGION");
    let ran = options.run().await;
    assert_eq!(ran.status.code(), Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains("region"), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_loopback_addresses_lead_to_the_server() {
    let listener = listener().await;
    let (_sandbox, gate) = forward(&listener).await;
    for address in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        let mut client = TcpStream::connect((address, gate.port)).await.expect("rdsgate listens on both");
        let mut server = accepted(&listener).await;
        writes(&mut client, b"question").await;
        reads(&mut server, b"question").await;
        writes(&mut server, b"answer").await;
        reads(&mut client, b"answer").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn automatic_route_is_direct_where_the_server_accepts_and_else_the_bastion() {
    let listener = listener().await;
    let address = listener.local_addr().expect("it is bound");
    let sandbox = sandbox_to(HOST, PORT, address).await;
    // The other name is known behind the bastion only.
    for (destination, sessions) in [(address.to_string(), 0), (format!("{HOST}:{PORT}"), 1)] {
        let options = options(&sandbox, &destination).flag("--bastion", BASTION).flag("--via", "auto");
        let gate = options.start().await;
        for _ in 0..2 {
            let mut client = client_of(&gate).await;
            let mut server = accepted(&listener).await;
            writes(&mut server, b"220 ready\r\n").await;
            reads(&mut client, b"220 ready\r\n").await;
        }
        assert_eq!(sandbox.sessions().len(), sessions, "{}", gate.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarded_port_is_in_the_status_and_in_the_metrics() {
    let listener = listener().await;
    let sandbox = sandbox_to(HOST, PORT, listener.local_addr().expect("it is bound")).await;
    let folder = tempfile::tempdir().expect("there is room");
    let runtime = folder.path().display().to_string();
    let options = options(&sandbox, &format!("{HOST}:{PORT}")).flag("--bastion", BASTION);
    let gate = options.flag("--admin", "localhost:0").env("XDG_RUNTIME_DIR", &runtime).start().await;
    let admin = Admin::of(&gate);
    let mut client = client_of(&gate).await;
    writes(&mut client, b"question").await;
    let mut server = accepted(&listener).await;
    reads(&mut server, b"question").await;
    writes(&mut server, b"the answer").await;
    reads(&mut client, b"the answer").await;
    let is_counted = |status: &Status| status.targets[0].traffic.received_bytes == 10;
    let status = admin.until("the answer is counted", is_counted).await;
    let [target] = &status.targets[..] else { panic!("{status:?}") };
    assert_eq!((&*target.engine, &*target.host, target.port), ("tcp", HOST, PORT));
    assert_eq!((&*target.route, target.bastion.as_deref()), ("ssm", Some(BASTION)));
    assert_eq!((&target.user, &target.database, target.region.as_deref()), (&None, &None, Some(sandbox.region())));
    let [shown] = &target.clients[..] else { panic!("{target:?}") };
    assert_eq!((shown.logged_in, &shown.user, &shown.database), (true, &None, &None));
    assert_eq!((shown.sent_bytes, shown.received_bytes), (8, 10));
    assert_eq!(shown.session.as_ref(), target.sessions.first().map(|session| &session.id));

    let ran = GateOptions::bare(&sandbox).only(&[]).verb("status").env("XDG_RUNTIME_DIR", &runtime).run().await;
    let address = format!("  web  localhost:{}  tcp\n    {HOST}:{PORT}\n    route        via {BASTION}, ", gate.port);
    for part in ["rdsgate forward, process ", &address] {
        assert!(ran.stdout.contains(part), "{part} is missing:\n{}", ran.stdout);
    }

    let metrics = admin.scrape().await;
    for (name, labels, value) in [
        ("rdsgate_connections_open", &[("target", "web")][..], 1.0),
        ("rdsgate_connections_accepted_total", &[("target", "web")], 1.0),
        ("rdsgate_relayed_bytes_total", &[("direction", "sent")], 8.0),
        ("rdsgate_relayed_bytes_total", &[("direction", "received")], 10.0),
        ("rdsgate_sessions", &[("condition", "ready")], 1.0),
    ] {
        assert_eq!(metrics.value(name, labels), value, "{name}");
    }
    drop(server);
    assert_eq!(rest(&mut client).await, b"");
    drop(client);
    let metrics = admin.until_none_is_open().await;
    let ended = [("side", "upstream"), ("reason", "closed")];
    assert_eq!(metrics.value("rdsgate_connections_ended_total", &ended), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn ls_lists_the_configured_servers_with_the_command_that_forwards_each() {
    let sandbox = sandbox_to(HOST, PORT, SocketAddr::from(([127, 0, 0, 1], 9))).await;
    let folder = tempfile::tempdir().expect("there is room");
    let file = folder.path().join("rdsgate.toml").display().to_string();
    let text = format!(
        "[targets.web]\nengine = 'tcp'\nhost = '{HOST}:{PORT}'\nbastion = '{BASTION}'\n[targets.node]\nengine = 'tcp'\n\
         host = '{BASTION}'\nport = 80\n[targets.orders]\nhost = 'orders.c1abcdefghij.us-east-1.rds.amazonaws.com'\n"
    );
    std::fs::write(&file, text).expect("there is room");
    let ls = |more: &[&str]| GateOptions::bare(&sandbox).only(&[&["--config", &file], more].concat()).verb("ls").run();
    let ran = ls(&[]).await;
    let expected = format!(
        "SERVER  ADDRESS\nweb     {HOST}:{PORT}\n  rdsgate forward web\nnode    {BASTION}:80\n  rdsgate forward node\n"
    );
    assert_eq!((ran.stdout.as_str(), ran.status.code()), (expected.as_str(), Some(0)), "{}", ran.stderr);
    let ran = ls(&["--json"]).await;
    let seen: serde_json::Value = serde_json::from_str(&ran.stdout).expect("it is JSON");
    let expected = serde_json::json!([
        { "name": "web", "address": format!("{HOST}:{PORT}") },
        { "name": "node", "address": format!("{BASTION}:80") },
    ]);
    assert_eq!(seen["servers"], expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn transfer_survives_cuts_of_the_session_with_every_byte() {
    let listener = listener().await;
    let (sandbox, gate) = forward(&listener).await;
    // What is lost on its way down comes back at one message each 100 ms.
    sandbox.agent(|agent| agent.window = 24);
    let mut client = client_of(&gate).await;
    let mut server = accepted(&listener).await;
    let (up, down) = (bytes(1_500_000, 11), bytes(1_500_000, 13));
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let cuts = async {
        for part in up.chunks(300_000) {
            writes(&mut to_client, part).await;
            sandbox.cut_all();
        }
    };
    tokio::join!(cuts, reads(&mut from_server, &up), writes(&mut to_server, &down), reads(&mut from_client, &down),);
    let sessions = sandbox.sessions();
    assert_eq!(sessions.len(), 1, "it was resumed: {sessions:?}");
    assert_eq!(sandbox.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_of_an_ended_session_is_reset_and_the_next_one_gets_another_session() {
    let listener = listener().await;
    let (sandbox, mut gate) = forward(&listener).await;
    let mut client = client_of(&gate).await;
    let mut server = accepted(&listener).await;
    writes(&mut server, b"the first half").await;
    reads(&mut client, b"the first half").await;
    sandbox.end_all("Session idle timeout");
    is_reset(&mut client).await;
    assert!(gate.until(|log| log.contains("the SSM session ended: Session idle timeout")).await);
    let mut client = client_of(&gate).await;
    let mut server = accepted(&listener).await;
    writes(&mut server, b"again").await;
    reads(&mut client, b"again").await;
    assert_eq!(sandbox.sessions().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn first_packets_of_sql_server_and_oracle_pass_in_both_directions() {
    // TDS 7.4: PRELOGIN of a client that offers encryption, and the server's reply (MS-TDS, 2.2.6.5 and 4.1).
    const PRELOGIN: &[u8] =
        b"\x12\x01\x00\x2f\x00\x00\x01\x00\x00\x00\x1a\x00\x06\x01\x00\x20\x00\x01\x02\x00\x21\x00\x01\x03\x00\x22\
        \x00\x04\x04\x00\x26\x00\x01\xff\x09\x00\x00\x00\x00\x00\x01\x00\xb8\x0d\x00\x00\x01";
    const RESPONSE: &[u8] =
        b"\x04\x01\x00\x2b\x00\x00\x01\x00\x00\x00\x1a\x00\x06\x01\x00\x20\x00\x01\x02\x00\x21\x00\x01\x03\x00\x22\
        \x00\x00\x04\x00\x22\x00\x01\xff\x10\x00\x10\x5f\x00\x00\x01\x00\x00";
    // TNS: CONNECT with its descriptor, which the server wants again (RESEND), and then accepts.
    const DESCRIPTOR: &[u8] =
        b"(DESCRIPTION=(CONNECT_DATA=(SERVICE_NAME=ORCL)(CID=(PROGRAM=sqlplus)(HOST=laptop)(USER=ada)))\
        (ADDRESS=(PROTOCOL=TCP)(HOST=127.0.0.1)(PORT=1521)))";
    const RESEND: &[u8] = b"\x00\x08\x00\x00\x0b\x00\x00\x00";
    const ACCEPT: &[u8] =
        b"\x00\x29\x00\x00\x02\x00\x00\x00\x01\x3e\x00\x00\x00\x00\x01\x00\x00\x00\x00\x29\x41\x41\x00\x00\x00\x00\x00\
        \x00\x00\x00\x00\x00\x00\x00\x20\x00\x00\x20\x00\x00\x00";
    let mut connect = b"\x00\x00\x00\x00\x01\x00\x00\x00\x01\x3e\x01\x2c\x0c\x41\x20\x00\xff\xff\x7f\x08\x00\x00\x01\x00\x00\x00\x00\
        \x4a\x00\x00\x08\x00\x41\x41\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x20\x00\x00\x20\
        \x00\x00\x00\x00\x00\x00\x00\x00\x00"
        .to_vec();
    connect.extend_from_slice(DESCRIPTOR);
    let length = u16::try_from(connect.len()).expect("it is short").to_be_bytes();
    connect[..2].copy_from_slice(&length);
    let listener = listener().await;
    let (_sandbox, gate) = forward(&listener).await;
    for exchange in [vec![(PRELOGIN, RESPONSE)], vec![(&connect[..], RESEND), (&connect[..], ACCEPT)]] {
        let mut client = client_of(&gate).await;
        let mut server = accepted(&listener).await;
        for (request, reply) in exchange {
            writes(&mut client, request).await;
            reads(&mut server, request).await;
            writes(&mut server, reply).await;
            reads(&mut client, reply).await;
        }
        drop(server);
        assert_eq!(rest(&mut client).await, b"", "and not a byte more");
    }
}

/// A program of the servers that `tests/servers/tcp-fetch` unpacks.
pub(crate) fn program(name: &str) -> Command {
    let folder = tokio::task::block_in_place(clients::tcp_servers);
    let mut command = Command::new(folder.join(name));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs a program that must succeed: its output.
async fn output(command: &mut Command) -> String {
    let output = within("a program", command.stdin(Stdio::null()).output()).await.expect("it is installed");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Starts a server that listens on `port`, and waits until it does.
async fn started(mut command: Command, port: u16) -> Child {
    let mut server = command.spawn().expect("it was unpacked");
    within("a server that listens", async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(server.try_wait().expect("it was started").is_none(), "{command:?} has ended");
            tokio::task::yield_now().await;
        }
    })
    .await;
    server
}

/// A forward of a server of this machine on `port`.
async fn forward_of(port: u16) -> (Sandbox, Gate) {
    let sandbox = sandbox_to(HOST, PORT, SocketAddr::from(([127, 0, 0, 1], port))).await;
    let gate = options(&sandbox, &format!("{HOST}:{PORT}")).flag("--bastion", BASTION).start().await;
    (sandbox, gate)
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_answers_through_a_forwarded_port() {
    let port = free_port();
    let mut redis = program("redis-server");
    redis.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &port.to_string()]);
    let _redis = started(redis, port).await;
    let (_sandbox, gate) = forward_of(port).await;
    let folder = tempfile::tempdir().expect("there is room");
    let value = folder.path().join("value");
    let text: String = bytes(1_000_000, 17).iter().map(|byte| char::from(b'a' + byte % 26)).collect();
    std::fs::write(&value, &text).expect("there is room");
    let cli = |arguments: &[&str]| {
        let mut cli = program("redis-cli");
        cli.args(["-h", "127.0.0.1", "-p", &gate.port.to_string()]).args(arguments);
        cli.stdout(Stdio::piped()).stderr(Stdio::piped());
        cli
    };
    assert_eq!(output(&mut cli(&["ping"])).await, "PONG\n");
    let mut set = cli(&["-x", "set", "long"]);
    set.stdin(std::fs::File::open(&value).expect("it was written"));
    let set = within("redis-cli", set.output()).await.expect("it was unpacked");
    assert_eq!(String::from_utf8_lossy(&set.stdout), "OK\n");
    assert_eq!(output(&mut cli(&["get", "long"])).await.trim_end(), text);
}

#[tokio::test(flavor = "multi_thread")]
async fn scp_copies_files_both_ways_through_a_forwarded_sshd() {
    let folder = tempfile::tempdir().expect("there is room");
    let path = |name: &str| folder.path().join(name).display().to_string();
    for key in ["host", "own"] {
        output(program("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &path(key)])).await;
    }
    let port = free_port();
    let settings = format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nPasswordAuthentication no\n\
         KbdInteractiveAuthentication no\nUsePAM no\nPidFile none\nSubsystem sftp internal-sftp\n",
        path("host"),
        path("own.pub"),
    );
    std::fs::write(path("settings"), settings).expect("there is room");
    let mut sshd = program("sshd");
    sshd.args(["-D", "-f", &path("settings")]);
    let _sshd = started(sshd, port).await;
    let (_sandbox, gate) = forward_of(port).await;
    let user = output(Command::new("id").arg("-un")).await;
    let there = |name: &str| format!("{}@127.0.0.1:{}", user.trim(), path(name));
    let content = bytes(3_000_000, 19);
    std::fs::write(path("a"), &content).expect("there is room");
    for (from, to) in [(path("a"), there("b")), (there("b"), path("c"))] {
        let mut scp = program("scp");
        scp.arg("-S").arg(tokio::task::block_in_place(clients::tcp_servers).join("ssh"));
        scp.args(["-q", "-F", "none", "-i", &path("own"), "-P", &gate.port.to_string()]);
        scp.args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes"]);
        output(scp.args([from, to])).await;
    }
    for copy in ["b", "c"] {
        assert!(std::fs::read(path(copy)).expect("it was copied") == content, "{copy}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_verifies_the_real_name_through_a_forwarded_port() {
    let server = PgServer::shared();
    let sandbox = sandbox_to(&server.rds_host, 5432, server.addr).await;
    let gate = options(&sandbox, &format!("{}:5432", server.rds_host)).flag("--bastion", BASTION).start().await;
    let string = format!(
        "host={} port={} user=legacy_user dbname=appdb sslmode=verify-full sslrootcert={} hostaddr=127.0.0.1",
        server.rds_host,
        gate.port,
        server.ca.display()
    );
    let asked = "select current_user, (select ssl from pg_stat_ssl where pid = pg_backend_pid())";
    let mut psql = Command::new("psql");
    psql.arg(&string).args(["-XAtc", asked]).env("PGPASSWORD", "legacypass");
    assert_eq!(output(&mut psql).await, "legacy_user|t\n");
    let mut wrong = Command::new("psql");
    wrong.arg(string.replace(&server.rds_host, "localhost")).env("PGPASSWORD", "legacypass");
    let refused = within("psql", wrong.args(["-XAtc", "select 1"]).output()).await.expect("it is installed");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("does not match host name"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_for_databases_name_the_way_and_others_get_host_and_port() {
    let listener = listener().await;
    let folder = tempfile::tempdir().expect("there is room");
    let file = folder.path().join("rdsgate.toml").display().to_string();
    let address = listener.local_addr().expect("it is bound");
    let text = format!(
        "[targets.web]\nengine = 'tcp'\nhost = '{HOST}:{PORT}'\nbastion = '{BASTION}'\nregion = 'us-east-1'\nlisten = 9090\n"
    );
    std::fs::write(&file, text).expect("there is room");
    let sandbox = sandbox_to(HOST, PORT, address).await;
    let run = |verb: &str, more: &[&str]| {
        let options = GateOptions::bare(&sandbox).only(&[&["web", "--config", &file], more].concat()).verb(verb);
        options.env("XDG_RUNTIME_DIR", &folder.path().display().to_string()).run()
    };
    for program in ["psql", "mysql"] {
        let ran = run(program, &[]).await;
        assert_eq!(ran.status.code(), Some(2));
        assert!(ran.stderr.contains(&format!("{program} cannot talk to web: its engine is tcp")), "{}", ran.stderr);
        assert!(ran.stderr.contains("hint: rdsgate forward web, and beside it "), "{}", ran.stderr);
    }
    assert_eq!(run("env", &[]).await.stdout, "export FORWARD_HOST=127.0.0.1\nexport FORWARD_PORT=9090\n");
    assert_eq!(run("url", &[]).await.stdout, "tcp://127.0.0.1:9090\n");
    let ran = run("url", &["--format", "jdbc"]).await;
    assert_eq!(ran.stderr, "error: the engine \"tcp\" cannot be written as a JDBC URL\n");
    let ran = run("doctor", &["--verbose"]).await;
    assert_eq!(ran.status.code(), Some(0), "{}", ran.stdout);
    for part in ["web.internal.example:8080 accepts connections", "bytes pass as they are"] {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
    let policy = run("policy", &[]).await.stdout;
    let node = format!("instance/{BASTION}");
    assert!(
        policy.contains(&node) && policy.contains("document/AWS-StartPortForwardingSessionToRemoteHost"),
        "{policy}"
    );
    assert!(!policy.contains("rds-db"), "{policy}");
    // The program is a client that reads to the end. Connections of doctor are closed already.
    let serving = async {
        loop {
            let mut server = accepted(&listener).await;
            // Fails on a connection of doctor.
            let _ = server.write_all(b"the page").await;
        }
    };
    let cat = ["--listen", "localhost:0", "--", "bash", "-c", "cat < /dev/tcp/$FORWARD_HOST/$FORWARD_PORT"];
    let ran = tokio::select! {
        ran = run("run", &cat) => ran,
        () = serving => unreachable!("it serves until then"),
    };
    assert_eq!((ran.stdout.as_str(), ran.status.code()), ("the page", Some(0)), "{}", ran.stderr);
}
