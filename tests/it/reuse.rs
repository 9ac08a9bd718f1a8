//! Reused connections: the next client gets the connection of one that has left, and nothing that it has left behind.

use std::fmt::Write as _;

use tokio_postgres::NoTls;

use crate::support::{
    admin::Admin,
    driver::{Driver, error_text, until_asleep, until_server_says, within},
    gate::{Gate, GateOptions, sandbox},
    servers::PgServer,
};

/// What a client does, and the question by which the next one would notice it.
const TRACES: [(&str, &str); 18] = [
    ("set work_mem = '77MB'", "show work_mem"),
    ("set search_path = nowhere", "show search_path"),
    ("set time zone 'Asia/Tokyo'", "show timezone"),
    ("set client_encoding = latin1", "show client_encoding"),
    ("set application_name = 'another'", "show application_name"),
    ("set default_transaction_read_only = on", "show transaction_read_only"),
    ("set session characteristics as transaction isolation level serializable", "show transaction_isolation"),
    ("select set_config('statement_timeout', '1234', false)", "show statement_timeout"),
    // PostgreSQL leaves an empty value of a setting that it does not know.
    ("set my.secret = 'secret'", "select coalesce(nullif(current_setting('my.secret', true), ''), 'none')"),
    ("set role left_role", "select current_user, session_user, current_setting('role')"),
    ("set session authorization app_user", "select session_user"),
    ("prepare p as select 1", "select count(*) from pg_prepared_statements"),
    ("create temp table t as select 'secret' as s", "select to_regclass('pg_temp.t') is null"),
    ("create temp sequence s; select nextval('s')", "select to_regclass('pg_temp.s') is null"),
    (
        "select pg_advisory_lock(42)",
        "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()",
    ),
    ("select pg_advisory_lock_shared(1, 2)", "select pg_try_advisory_xact_lock(1, 2)"),
    ("begin; declare c cursor with hold for select 1; commit", "select count(*) from pg_cursors"),
    ("select 1/0", "select 'works'"),
];
/// What a client does so that its connection is not reused.
const ENDS: [&str; 4] = ["begin", "begin; select 1/0", "listen orders", "copy (select 1) to stdout"];

async fn gate(server: &PgServer, sandbox: &sandbox::Sandbox, reuse: &str) -> Gate {
    let options = GateOptions::new(server, sandbox).flag("--reuse", reuse).flag("--admin", "localhost:0");
    options.env("RDSGATE_LOG", "debug").start().await
}

/// Waits until this number of connections have been reset and kept.
async fn until_kept(gate: &mut Gate, count: usize) {
    let kept = |log: &str| log.matches("a connection waits for the next client").count() >= count;
    assert!(gate.until(kept).await, "{}", gate.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn next_client_gets_the_connection_and_no_trace_of_the_last() {
    let server = PgServer::shared();
    server.admin(
        "do $$ begin if not exists (select from pg_roles where rolname = 'left_role') then create role left_role; end if; \
         end $$",
    );
    server.admin("grant left_role to app_user");
    let sandbox = sandbox(server).await;
    let mut gate = gate(server, &sandbox, "10m").await;
    let name = "one after another";
    let fresh = Driver::connected(&gate, name).await;
    let mut expected = Vec::new();
    for (_, question) in TRACES {
        expected.push(fresh.simple(question).await);
    }
    let pid = fresh.pid().await;
    drop(fresh);
    let (mut differences, mut kept) = (String::new(), 1);
    for ((trace, question), expected) in TRACES.into_iter().zip(&expected) {
        until_kept(&mut gate, kept).await;
        let client = Driver::connected(&gate, name).await;
        assert_eq!(client.pid().await, pid, "after {trace}\n{}", gate.log());
        let _ = within(trace, client.simple_query(trace)).await;
        drop(client);
        kept += 1;
        until_kept(&mut gate, kept).await;
        let next = Driver::connected(&gate, name).await;
        assert_eq!(next.pid().await, pid, "after {trace}\n{}", gate.log());
        let answer = next.simple(question).await;
        if answer != *expected {
            writeln!(differences, "{trace}: {question} is {answer}, not {expected}").expect("a string");
        }
        drop(next);
        kept += 1;
    }
    assert!(differences.is_empty(), "{differences}");
    let reused = f64::from(u32::try_from(2 * TRACES.len()).expect("few"));
    Admin::of(&gate).until_metric("rdsgate_connections_reused_total", &[], reused).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_that_was_left_in_an_unusual_state_ends() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let gate = gate(server, &sandbox, "10m").await;
    for unusual in ENDS {
        let client = Driver::connected(&gate, "unusual").await;
        let pid = client.pid().await;
        let _ = within(unusual, client.simple_query(unusual)).await;
        drop(client);
        until_server_says(server, &format!("select count(*) from pg_stat_activity where pid = {pid}"), "0").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_is_for_clients_with_the_same_startup_alone_and_ends_after_its_time() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let mut gate = gate(server, &sandbox, "5s").await;
    let client = Driver::connected(&gate, "of one name").await;
    let pid = client.pid().await;
    drop(client);
    until_kept(&mut gate, 1).await;
    let other = Driver::connected(&gate, "of another name").await;
    assert_ne!(other.pid().await, pid);
    until_server_says(server, &format!("select count(*) from pg_stat_activity where pid = {pid}"), "0").await;
    assert_eq!(other.simple("show application_name").await, "of another name");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_client_has_a_cancel_key_of_its_own() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let mut gate = gate(server, &sandbox, "10m").await;
    let first = Driver::connected(&gate, "keys").await;
    let (pid, old_key) = (first.pid().await, first.cancel_token());
    drop(first);
    until_kept(&mut gate, 1).await;
    let next = Driver::connected(&gate, "keys").await;
    assert_eq!(next.pid().await, pid);
    let sleeping = next.simple_query("select pg_sleep(120)");
    let cancelling = async {
        until_asleep(server, "keys").await;
        within("the old key", old_key.cancel_query(NoTls)).await.expect("an orderly close");
        gate.says("cancel request with a key that was not handed out").await;
        within("the new key", next.cancel_token().cancel_query(NoTls)).await.expect("it is forwarded");
    };
    let (slept, ()) = futures_util::future::join(sleeping, cancelling).await;
    assert_eq!(error_text(&slept.expect_err("it is cancelled")), "57014 canceling statement due to user request");
    drop(next);
    // A cancel request may still be on its way.
    until_server_says(server, &format!("select count(*) from pg_stat_activity where pid = {pid}"), "0").await;
}
