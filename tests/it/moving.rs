//! Names that move or lead back: aliases that lead to another database while they are served, and a hosts file that leads a
//! direct dial to rdsgate itself.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::Path,
    sync::{Arc, Mutex},
};

use sandbox::{Destination, Sandbox};

use crate::support::{
    driver::Driver,
    gate::{BASTION, Gate, GateOptions, free_port, sandbox},
    servers::{PgOptions, PgServer},
};

const ALIAS: &str = "db.internal.example";
const OLD: &str = "old.cluster-c1abcdefghij.eu-central-1.rds.amazonaws.com";
const NEW: &str = "new.cluster-c1abcdefghij.eu-central-1.rds.amazonaws.com";

/// A name server on loopback that knows one alias, or says that there is none. Its thread goes on until the process ends.
struct NameServer {
    address: SocketAddr,
    target: Arc<Mutex<Option<String>>>,
}

impl NameServer {
    fn start(target: &str) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback can be listened on");
        let address = socket.local_addr().expect("it is bound");
        let target = Arc::new(Mutex::new(Some(target.to_owned())));
        let known = Arc::clone(&target);
        std::thread::spawn(move || {
            let mut question = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut question) {
                let question = &question[..length];
                let target = known.lock().expect("no holder panics").clone();
                let target = target.filter(|_| question[12..].starts_with(&wire(ALIAS)));
                let record = target.map(|target| {
                    let rdata = wire(&target);
                    let length = u16::try_from(rdata.len()).expect("short").to_be_bytes();
                    // To be kept for an hour: what a cache in between may do, rdsgate may not.
                    [&[0xc0, 12, 0, 5, 0, 1, 0, 0, 0x0e, 0x10][..], &length, &rdata].concat()
                });
                let head = [question[0], question[1], 0x81, 0x80, 0, 1, 0, u8::from(record.is_some()), 0, 0, 0, 0];
                let _ = socket.send_to(&[&head[..], &question[12..], &record.unwrap_or_default()].concat(), from);
            }
        });
        Self { address, target }
    }

    fn leads_to(&self, target: Option<&str>) {
        *self.target.lock().expect("no holder panics") = target.map(str::to_owned);
    }
}

fn wire(name: &str) -> Vec<u8> {
    let labels =
        name.split('.').flat_map(|label| [&[u8::try_from(label.len()).expect("short")], label.as_bytes()].concat());
    labels.chain([0]).collect()
}

/// A gate for the alias, with a cache of its own in `home`.
fn alias_gate(sandbox: &Sandbox, server: &PgServer, names: &NameServer, home: &Path) -> GateOptions {
    GateOptions::bare(sandbox)
        .argument(ALIAS)
        .flag("--engine", "postgres")
        .flag("--bastion", BASTION)
        .flag("--user", "app_user")
        .flag("--database", "appdb")
        .flag("--listen", "localhost:0")
        .flag("--ca-file", &server.ca.display().to_string())
        .env("HOME", &home.display().to_string())
        .env("RDSGATE_DNS", &names.address.to_string())
}

/// Waits for the second in which logins share one answer of the name server.
async fn until_moved(gate: &Gate, to: &str) {
    let moved = format!("to={to}");
    let started = std::time::Instant::now();
    while !gate.log().contains(&moved) {
        assert!(started.elapsed() < std::time::Duration::from_mins(1), "{}", gate.log());
        gate.psql("select 1").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_connections_follow_an_alias_that_moves_and_open_ones_stay() {
    let start = |host: &str| PgServer::start(&PgOptions { hosts: vec![host.into()], ..PgOptions::default() });
    let (old, new) = (start(OLD), start(NEW));
    let sandbox = sandbox(&old).await;
    sandbox.name(NEW, 5432, Destination::Address(new.addr));
    let names = NameServer::start(OLD);
    let home = tempfile::tempdir().expect("there is room");
    let gate = alias_gate(&sandbox, &old, &names, home.path()).start().await;
    let client = Driver::connected(&gate, "on the old one").await;
    let old_port = client.simple("show port").await;

    names.leads_to(Some(NEW));
    until_moved(&gate, NEW).await;
    let moved = Driver::connected(&gate, "on the new one").await;
    assert_ne!(moved.simple("show port").await, old_port, "{}", gate.log());
    assert_eq!(client.simple("show port").await, old_port, "a connection is never moved");
    // A process that starts now has the cache of the first one.
    let second = alias_gate(&sandbox, &old, &names, home.path()).start().await;
    assert_ne!(second.query("show port").await, old_port, "{}", second.log());

    names.leads_to(Some(OLD));
    until_moved(&gate, OLD).await;
    assert_eq!(gate.query("show port").await, old_port);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_that_leads_to_no_database_any_more_is_an_error_until_it_does() {
    let server = PgServer::start(&PgOptions { hosts: vec![OLD.into()], ..PgOptions::default() });
    let sandbox = sandbox(&server).await;
    let names = NameServer::start(OLD);
    let home = tempfile::tempdir().expect("there is room");
    let gate = alias_gate(&sandbox, &server, &names, home.path()).start().await;
    assert_eq!(gate.query("select 42").await, "42");
    names.leads_to(None);
    let started = std::time::Instant::now();
    let refused = loop {
        let ran = gate.psql("select 1").await;
        if !ran.status.success() {
            break ran.stderr;
        }
        assert!(started.elapsed() < std::time::Duration::from_mins(1), "{}", gate.log());
    };
    assert!(refused.contains(&format!("{ALIAS} is no longer an alias of an RDS endpoint")), "{refused}");
    names.leads_to(Some(OLD));
    until_moved(&gate, OLD).await;
    assert_eq!(gate.query("select 42").await, "42");
}

/// A gate that takes the database to be on this machine, on `port`.
fn here(sandbox: &Sandbox, server: &PgServer, port: u16, folder: &Path) -> GateOptions {
    let file = folder.join("rdsgate.toml");
    let text = format!("[targets.here]\nhost = \"localhost:{port}\"\nregion = \"{}\"\n", server.region);
    std::fs::write(&file, text).expect("the folder is ours");
    GateOptions::bare(sandbox)
        .flag("--config", &file.display().to_string())
        .flag("--engine", "postgres")
        .flag("--user", "app_user")
        .flag("--database", "appdb")
        .flag("--ca-file", &server.ca.display().to_string())
        .env("XDG_RUNTIME_DIR", &folder.display().to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dial_that_would_come_back_to_rdsgate_is_an_error_and_auto_takes_the_bastion() {
    let port = free_port();
    let hosts = vec!["localhost".into()];
    let server = PgServer::start(&PgOptions { hosts, rds_ports: vec![port], ..PgOptions::default() });
    let sandbox = sandbox(&server).await;
    sandbox.name("localhost", port, Destination::Address(server.addr));
    let folder = tempfile::tempdir().expect("there is room");
    let listen = format!("localhost:{port}");
    let gate = here(&sandbox, &server, port, folder.path()).flag("--via", "direct").flag("--listen", &listen).start();
    let mut gate = gate.await;
    let refused = gate.psql("select 1").await.stderr;
    assert!(refused.contains(", where this rdsgate itself listens (line "), "{refused}");
    assert!(refused.contains("of /etc/hosts, `") && refused.contains("HINT:  Remove line "), "{refused}");
    assert!(gate.until(|log| log.contains("connection refused")).await, "{}", gate.log());
    let log = gate.log();
    let refusals = log.lines().filter(|line| line.contains("connection refused") && line.contains("stage=")).count();
    assert_eq!(refusals, 1, "one connection, not one in another: {log}");

    // Another process knows of the first one by its record.
    let other = here(&sandbox, &server, port, folder.path()).flag("--via", "direct").flag("--listen", "localhost:0");
    let other = other.start().await;
    let refused = other.psql("select 1").await.stderr;
    assert!(refused.contains(", where another rdsgate (process "), "{refused}");

    let auto = here(&sandbox, &server, port, folder.path()).flag("--via", "auto").flag("--bastion", BASTION);
    let auto = auto.flag("--listen", "localhost:0").start().await;
    assert_eq!(auto.query("select 42").await, "42");
    assert_eq!(sandbox.sessions().len(), 1, "{}", auto.log());
}
