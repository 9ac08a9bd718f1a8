//! Bulk transfers, also concurrent ones: byte-exact, on one session, and without waiting for a client that does not read.

use std::{future::ready, pin::pin, time::Instant};

use aws_lc_rs::digest::{Context, SHA256};
use futures_util::{StreamExt, TryStreamExt, future::join_all};

use crate::support::{
    driver::{Driver, within},
    gate::{Gate, GateOptions, sandbox},
    rows::Rows,
    servers::PgServer,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_megabytes_arrive_whole_in_both_directions() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let gate = GateOptions::new(server, &sandbox).env("RDSGATE_LOG", "debug").start().await;
    let client = Driver::connected(&gate, "bulk").await;
    let rows = Rows::of_bytes(100_000_000, 1);

    let started = Instant::now();
    rows.copy_in(&client, |_| {}).await;
    println!("in and checked: {:.1} s", started.elapsed().as_secs_f64());
    let started = Instant::now();
    rows.copy_out(&client, |_| {}).await;
    println!("out and checked: {:.1} s", started.elapsed().as_secs_f64());

    assert_eq!(sandbox.sessions().len(), 1);
    assert_eq!(sandbox.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_connections_share_one_session_and_each_gets_its_own_data() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let gate = Gate::start(server, &sandbox).await;

    let clients = join_all((0..50).map(|_| Driver::connected(&gate, "fifty"))).await;
    join_all(clients.iter().enumerate().map(async |(n, client)| {
        for round in 0..5 {
            let text = format!("{n}.{round} ").repeat(4_000);
            let back: String = client.value_with("select $1::text || $1::text", &[&text]).await;
            assert!(back == text.repeat(2), "connection {n} got something else in round {round}");
        }
    }))
    .await;

    let pids: std::collections::BTreeSet<i32> = join_all(clients.iter().map(Driver::pid)).await.into_iter().collect();
    assert_eq!(pids.len(), 50, "each has a server process of its own");
    let [session] = &sandbox.sessions()[..] else { panic!("{:?}", sandbox.sessions()) };
    assert_eq!((session.streams, session.opens), (50, 1));
    assert_eq!(sandbox.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn client_that_stops_reading_blocks_no_other_and_gets_its_data_complete_later() {
    // Below the bound of 64 MiB for what a session holds unread, above what sockets hold.
    const ROWS: u32 = 40_000;
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let gate = Gate::start(server, &sandbox).await;
    let stalled = Driver::connected(&gate, "stalled").await;
    let others = join_all((0..5).map(|_| Driver::connected(&gate, "not stalled"))).await;

    let sql = format!("copy (select n, repeat(md5(n::text), 31) from generate_series(1, {ROWS}) n) to stdout");
    let mut stream = pin!(within("copy", stalled.copy_out(sql.as_str())).await.expect("it starts"));
    let first = within("the first row", stream.next()).await.expect("a row").expect("no error");
    // Everything has left the agent: it waits in rdsgate, in sockets and in the driver.
    within("the agent", sandbox.until(|sessions| sessions[0].sent > u64::from(ROWS / 100 * 97))).await;

    for round in 1..=20 {
        for client in &others {
            let sum: i64 = client.value(&format!("select sum(n) from generate_series(1, {round}00) n")).await;
            assert_eq!(sum, i64::from(round) * 100 * (i64::from(round) * 100 + 1) / 2);
            let (much, digest): (String, String) = {
                let sql = "select t, md5(t) from (select repeat(md5(random()::text), 1000) t) q";
                let row = within("a checked result", client.query_one(sql, &[])).await.expect("no error");
                (row.get(0), row.get(1))
            };
            assert_eq!(much.len(), 32_000);
            assert_eq!(client.value_with::<String>("select md5($1::text)", &[&much]).await, digest);
        }
    }

    let mut seen = Context::new(&SHA256);
    seen.update(&first);
    let rest = stream.try_for_each(|row| {
        seen.update(&row);
        ready(Ok(()))
    });
    within("the rest", rest).await.expect("nothing was lost");
    let sql = format!(
        "select sha256(convert_to(string_agg(n || E'\\t' || repeat(md5(n::text), 31) || E'\\n', '' order by n), 'UTF8')) \
         from generate_series(1, {ROWS}) n"
    );
    assert_eq!(others[0].value::<Vec<u8>>(&sql).await, seen.finish().as_ref());
    assert_eq!(sandbox.sessions().len(), 1);
    assert_eq!(sandbox.violations(), Vec::<String>::new());
}
