//! Starting, or not: ports that somebody has, and command lines that cannot work. Nothing is half started.

use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};

use tokio::net::TcpSocket;

use crate::support::{
    gate::{GateOptions, sandbox},
    servers::PgServer,
};

/// Runs a rdsgate that is not to get ready: its exit code and all it printed.
pub(crate) async fn ends(options: GateOptions) -> (Option<i32>, String) {
    let mut gate = options.spawn();
    let code = gate.ended().await.code();
    // Until both of its ends are read to the end.
    gate.until(|_| false).await;
    let log = gate.log();
    assert!(!log.contains("ready:"), "{log}");
    (code, log)
}

/// A listener on one loopback address, with its port on the other kept from everybody else, but silent.
fn listener(v6: bool) -> (TcpListener, TcpSocket) {
    loop {
        let other = if v6 { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.expect("loopback has both addresses");
        let localhost = |v6: bool, port: u16| {
            if v6 { (Ipv6Addr::LOCALHOST, port).into() } else { (Ipv4Addr::LOCALHOST, port).into() }
        };
        other.bind(localhost(!v6, 0)).expect("the system chooses a port");
        let port = other.local_addr().expect("it is bound").port();
        let address: std::net::SocketAddr = localhost(v6, port);
        if let Ok(listener) = TcpListener::bind(address) {
            return (listener, other);
        }
    }
}

/// A port outside the system's ephemeral range, so that a free one stays free.
fn quiet_port() -> u16 {
    loop {
        let port = fastrand::u16(10_000..20_000);
        let free = |ip: std::net::IpAddr| TcpListener::bind((ip, port)).is_ok();
        if free(Ipv4Addr::LOCALHOST.into()) && free(Ipv6Addr::LOCALHOST.into()) {
            return port;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_on_either_loopback_address_is_refused_and_its_owner_named() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    for v6 in [false, true] {
        let (taken, _other) = listener(v6);
        let at = taken.local_addr().expect("it is bound");
        for host in ["localhost", "127.0.0.1"] {
            let listen = format!("{host}:{}", at.port());
            let (code, log) = ends(GateOptions::new(server, &sandbox).flag("--listen", &listen)).await;
            assert_eq!(code, Some(1), "{log}");
            let owner = format!("(process {}) listens on {at}", std::process::id());
            assert!(log.contains(&format!("port {} is taken: ", at.port())) && log.contains(&owner), "{log}");
            assert!(log.contains("hint: ") && log.contains("--listen"), "{log}");
            assert!(!log.contains("listening on"), "{log}");
        }
    }
    assert_eq!(sandbox.calls().len(), 0, "{:?}", sandbox.calls());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_targets_the_one_whose_port_is_free_is_served() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let port = quiet_port();
    let taken = TcpListener::bind(("127.0.0.1", port)).expect("it was free");
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let file = folder.path().join("rdsgate.toml");
    let target = |name: &str, listen: String| {
        format!(
            "[targets.{name}]\nhost = \"{}\"\nbastion = \"i-0123456789abcdef0\"\nlisten = \"{listen}\"\n",
            server.rds_host
        )
    };
    let text = target("first", format!("localhost:{port}")) + &target("second", "localhost:0".into());
    std::fs::write(&file, text).expect("the folder is ours");
    let config = || GateOptions::bare(&sandbox).flag("--config", &file.display().to_string());

    // The failure is said before, and the exit status remembers it.
    let mut gate = config().spawn();
    assert!(gate.until(|log| log.contains("ready: 1 of 2 targets")).await, "{}", gate.log());
    let log = gate.log();
    assert!(log.contains(&format!("error: cannot serve first: port {port} is taken: ")), "{log}");
    assert!(log.contains("[second] listening on localhost:"), "{log}");
    gate.signal("INT");
    assert_eq!(gate.ended().await.code(), Some(1));

    // One that is all there is does not start half a service.
    let (code, log) = ends(config().argument("first")).await;
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("cannot serve first") && !log.contains("listening on localhost"), "{log}");
    assert!(!log.contains("postgresql://"), "nothing to copy: {log}");

    drop(taken);
    let mut gate = config().spawn();
    assert!(gate.until(|log| log.contains("ready: 2 targets")).await, "{}", gate.log());
    gate.signal("INT");
    assert_eq!(gate.ended().await.code(), Some(130));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_us_do_not_share_a_port_and_it_is_free_when_one_has_ended() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let listen = format!("localhost:{}", quiet_port());
    let options = || GateOptions::new(server, &sandbox).flag("--listen", &listen);
    let mut first = options().start().await;
    let (code, log) = ends(options()).await;
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("is taken: rdsgate (process "), "{log}");

    first.signal("TERM");
    assert_eq!(first.ended().await.code(), Some(143));
    assert!(TcpStream::connect(("127.0.0.1", first.port)).is_err());
    let gate = options().start().await;
    assert_eq!(gate.query("select 1").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_line_that_cannot_work_ends_with_its_code_and_a_hint() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let usual = || GateOptions::new(server, &sandbox);
    for (options, code, message, hint) in [
        (usual().flag("--listen", "0.0.0.0:0"), 2, "loopback", "hint: "),
        (usual().flag("--listen", "[::]:0"), 2, "loopback", ""),
        (usual().flag("--listen", "192.168.1.1:5432"), 2, "loopback", ""),
        (usual().flag("--listen", "localhost:65536"), 2, "65536", ""),
        (
            usual().flag("--profile", "nosuch"),
            3,
            "there is no AWS profile \"nosuch\"",
            "rdsgate login --profile nosuch",
        ),
        (usual().flag("--bastion", "bastion"), 2, "\"bastion\" is not an SSM managed node", ""),
        (usual().flag("--engine", "oracle"), 2, "unknown engine", "postgres"),
        (usual().flag("--ca-file", "/nonexistent.pem"), 2, "/nonexistent.pem", "PEM"),
        (usual().flag("--connect-timeout", "soon"), 2, "soon", ""),
        (usual().flag("--via", "telegraph"), 2, "telegraph", ""),
        (usual().flag("--config", "/nonexistent.toml"), 2, "/nonexistent.toml", ""),
        (usual().env("RDSGATE_LOG", "chatty"), 2, "\"chatty\" is not a log level", "use error, warn"),
        (usual().env("AWS_CA_BUNDLE", "/nonexistent.pem"), 3, "AWS_CA_BUNDLE", "PEM"),
    ] {
        let (ended, log) = ends(options).await;
        assert_eq!(ended, Some(code), "{message}: {log}");
        assert!(log.contains("error: ") && log.contains(message) && log.contains(hint), "{message}: {log}");
    }
    assert_eq!(sandbox.calls().len(), 0, "{:?}", sandbox.calls());
}
