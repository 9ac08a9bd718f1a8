//! Many clients, and few files.

use std::{collections::BTreeMap, process::Command, time::Instant};

use futures_util::future::join_all;
use mysql_async::{Conn, prelude::Queryable as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_postgres::NoTls;

use crate::{
    local_tls::Bed,
    support::{
        admin::Admin,
        driver::{Driver, error_text, within},
        gate::{GateOptions, mariadb, sandbox},
        refusal::Wire,
        servers::{Engine, PgServer, Server},
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn client_beyond_max_connections_gets_the_servers_error_and_a_cancel_request_passes() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let options = GateOptions::new(server, &sandbox).flag("--max-connections", "1").flag("--admin", "localhost:0");
    let gate = options.start().await;
    let first = Driver::connected(&gate, "the only one").await;
    let refused = Driver::connect(&gate, "one too many").await.err().map(|error| error_text(&error));
    let expected = "53300 sorry, too many clients already: this listener serves 1 at a time (max_connections); close idle \
                    connections, make pools smaller, or raise max_connections";
    assert_eq!(refused.as_deref(), Some(expected));
    let token = first.cancel_token();
    let sleeping = first.batch_execute("select pg_sleep(120)");
    let cancelling = async {
        crate::support::driver::until_asleep(server, "the only one").await;
        within("cancel", token.cancel_query(NoTls)).await.expect("it is forwarded");
    };
    let (slept, ()) = futures_util::future::join(sleeping, cancelling).await;
    assert!(error_text(&slept.expect_err("it is cancelled")).starts_with("57014 "));
    drop(first);
    Admin::of(&gate).until("its end", |status| status.targets.iter().all(|target| target.clients.is_empty())).await;
    assert_eq!(gate.query("select 42").await, "42");
}

#[tokio::test(flavor = "multi_thread")]
async fn client_of_mysql_beyond_max_connections_gets_the_servers_error() {
    let server = Server::shared_of(Engine::MariaDb);
    let sandbox = sandbox(server).await;
    let gate = GateOptions::new(server, &sandbox).flag("--max-connections", "1").start().await;
    let mut first = Conn::new(gate.door().for_mysql_async()).await.expect("it logs in");
    let refused = mariadb(&gate, &["-e", "select 1"]).await.stderr;
    let expected = ["ERROR 1040 ", "sorry, too many clients already", "Hint: Close idle connections"];
    assert!(expected.iter().all(|words| refused.contains(words)), "{refused}");
    within("query", first.query_drop("select 1")).await.expect("the first is served");
}

#[tokio::test(flavor = "multi_thread")]
async fn thousand_clients_at_once_get_in_or_a_clear_error() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let gate = GateOptions::new(server, &sandbox).env("RDSGATE_LOG", "info").start().await;
    let started = Instant::now();
    let client = async |number: usize| {
        let name = format!("one of many {number}");
        match Driver::connect(&gate, &name).await {
            Ok(client) => client.simple("select 'in'").await,
            Err(error) => error_text(&error),
        }
    };
    let ends = join_all((0..1000).map(client)).await;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for end in ends {
        *counts.entry(end).or_default() += 1;
    }
    println!("after {:?}: {counts:#?}", started.elapsed());
    for end in counts.keys() {
        let is_clear = end == "in" || end.starts_with("53300 ") || end.starts_with("08001 ");
        assert!(is_clear, "{end}\n{counts:#?}");
    }
    assert!(counts.contains_key("in"), "{counts:#?}");
    assert_eq!(gate.query("select 42").await, "42");
}

/// Sets the soft limit of open files of a running process.
fn limit_files(pid: u32, files: usize) {
    let limit = format!("--nofile={files}:");
    let set = Command::new("prlimit").args(["--pid", &pid.to_string(), &limit]).status();
    assert!(set.expect("util-linux has it").success());
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn lack_of_files_is_said_once_and_clients_wait() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let mut gate = GateOptions::new(server, &sandbox).start().await;
    assert_eq!(gate.query("select 1").await, "1");
    let numbers = std::fs::read_dir(format!("/proc/{}/fd", gate.pid())).expect("it runs");
    let open = numbers.filter_map(|file| file.ok()?.file_name().to_str()?.parse::<usize>().ok()).count();
    limit_files(gate.pid(), open);
    let mut waiting = Vec::new();
    for _ in 0..20 {
        waiting.push(Wire::connect(gate.port).await);
    }
    let warning = "cannot accept a connection; clients wait until one can be accepted";
    assert!(gate.until(|log| log.contains(warning)).await, "{}", gate.log());
    limit_files(gate.pid(), 1000);
    assert!(gate.until(|log| log.contains("clients are accepted again")).await, "{}", gate.log());
    let mut last = waiting.pop().expect("there are some").start(&[]).await;
    last.until(b'Z').await;
    assert_eq!(gate.log().matches(warning).count(), 1, "one listener of two had clients: {}", gate.log());
    assert_eq!(gate.query("select 42").await, "42");
}

/// The resident memory of a process in bytes.
#[cfg(target_os = "linux")]
fn resident(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux says so");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") * 1024.0
}

/// The figures of docs/operations.md come from this test, which a build without optimisation makes larger rather than smaller.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn memory_of_an_idle_connection_is_bounded_before_and_after_its_login() {
    const MOST: f64 = 512e3;
    let server = PgServer::shared();
    let bed = Bed::with(server, "offer", |options| options.flag("--admin", "localhost:0")).await;
    let admin = Admin::of(&bed.gate);
    // What the first connection of each kind needs once.
    assert_eq!(bed.gate.query("select 42").await, "42");
    drop(log_in(bed.direct_tls(&["postgresql"]).await.expect("a handshake")).await);
    let memory = async |number: usize| {
        admin.until("the clients", |status| status.targets[0].clients.len() == number).await;
        resident(bed.gate.pid())
    };
    let none = memory(0).await;
    // A client that says nothing is cut after ten seconds: those that are there are counted.
    let each_of_silent = async || {
        let there = admin.status().await.targets[0].clients.len();
        (there > 0).then(|| (resident(bed.gate.pid()) - none) / f64::from(u32::try_from(there).expect("a few")))
    };
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(Wire::connect(bed.gate.port).await);
    }
    let in_clear = each_of_silent().await;
    drop(silent);
    memory(0).await;
    let mut encrypted = Vec::new();
    for _ in 0..20 {
        encrypted.push(bed.direct_tls(&["postgresql"]).await.expect("a handshake"));
    }
    let inside_tls = each_of_silent().await;
    drop(encrypted);
    memory(0).await;
    let mut open = Vec::new();
    for _ in 0..40 {
        open.push(log_in(bed.direct_tls(&["postgresql"]).await.expect("a handshake")).await);
    }
    let logged_in = Some((memory(40).await - none) / 40.0);
    let each = [in_clear, inside_tls, logged_in];
    println!("bytes of a connection: silent, silent inside TLS, logged in inside TLS: {each:.0?}");
    assert!(each.iter().flatten().all(|each| *each < MOST), "{each:?}");
    drop(open);
}

/// Logs in inside TLS.
#[cfg(target_os = "linux")]
async fn log_in<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(mut client: S) -> S {
    let startup = b"\0\0\0\x26\0\x03\0\0user\0app_user\0database\0appdb\0\0";
    within("the startup", client.write_all(startup)).await.expect("the gate reads");
    let mut said = Vec::new();
    while !said.ends_with(b"Z\0\0\0\x05I") {
        let read = within("the greeting", client.read_buf(&mut said)).await.expect("the gate writes");
        assert!(read > 0, "{}", said.escape_ascii());
    }
    client
}
