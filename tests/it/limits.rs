//! Many clients, and few files.

use std::{collections::BTreeMap, process::Command, time::Instant};

use futures_util::future::join_all;
use mysql_async::{Conn, prelude::Queryable as _};
use tokio_postgres::NoTls;

use crate::support::{
    admin::Admin,
    driver::{Driver, error_text, within},
    gate::{GateOptions, mariadb, sandbox},
    refusal::Wire,
    servers::{Engine, PgServer, Server},
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
