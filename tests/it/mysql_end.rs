//! The end of rdsgate as MySQL's and MariaDB's clients meet it: nothing is cut that the protocol says is going on.

use database_wire::mysql::Activity;

use crate::support::{
    gate::{Gate, GateOptions, sandbox},
    mysql_wire::{COM_QUERY, DEPRECATE_EOF, PLAIN, PLUGIN_AUTH, Wire},
    servers::{Engine, Server},
};

const ENGINES: [Engine; 2] = [Engine::MariaDb, Engine::MySql];

fn shared(engine: Engine) -> &'static Server {
    tokio::task::block_in_place(|| Server::shared_of(engine))
}

/// A row too large for the server's buffers, and another one after the given number of seconds.
async fn two_rows(gate: &Gate, capabilities: u64, seconds: u32) -> Wire {
    let mut wire = Wire::through(gate, capabilities).await;
    let sql = format!(
        "select n, repeat('r', 100000), sleep(if(n = 2, {seconds}, 0)) from (select 1 n union all select 2) two"
    );
    wire.send(COM_QUERY, sql.as_bytes()).await;
    while wire.packet().await.1.len() < 100_000 {}
    assert_eq!(wire.watch.state(), Activity::Busy);
    wire
}

/// That nothing more comes: drivers take a close for a lost connection, and no error so surely.
async fn is_closed(wire: Wire) {
    assert_eq!(wire.rest().await.escape_ascii().to_string(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_idle_clients_and_lets_queries_and_transactions_finish() {
    for engine in ENGINES {
        let server = shared(engine);
        let sandbox = sandbox(server).await;
        let mut gate = GateOptions::new(server, &sandbox).flag("--max-sigterm-delay", "10m").start().await;
        let mut idle = Wire::through(&gate, PLAIN | PLUGIN_AUTH).await;
        assert_eq!(idle.column("select 42").await, ["42"]);
        let mut in_transaction = Wire::through(&gate, PLAIN | PLUGIN_AUTH).await;
        in_transaction.query("begin").await;
        in_transaction.query("select table_name from information_schema.tables").await;
        assert_eq!(in_transaction.watch.state(), Activity::InTransaction);
        let mut running = Vec::new();
        for capabilities in [PLAIN | PLUGIN_AUTH, PLAIN | PLUGIN_AUTH | DEPRECATE_EOF] {
            running.push(two_rows(&gate, capabilities, 2).await);
        }

        gate.signal("TERM");
        is_closed(idle).await;
        for mut wire in running {
            assert_eq!(wire.packet().await.1.first(), Some(&1), "{engine:?}: the second row");
            wire.packet().await;
            assert_eq!(wire.watch.state(), Activity::Idle);
            is_closed(wire).await;
        }
        assert_eq!(in_transaction.column("select 42").await, ["42"], "{engine:?}");
        in_transaction.query("commit").await;
        is_closed(in_transaction).await;
        assert_eq!(gate.ended().await.code(), Some(143));
        assert!(sandbox.sessions().iter().all(|session| session.ended.is_some()), "{:?}", sandbox.sessions());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cut_after_the_longest_delay_is_closed_or_hears_so_in_place_of_an_answer() {
    for engine in ENGINES {
        let server = shared(engine);
        let sandbox = sandbox(server).await;
        let mut gate = GateOptions::new(server, &sandbox).flag("--max-sigterm-delay", "1s").start().await;
        let cut = two_rows(&gate, PLAIN | PLUGIN_AUTH | DEPRECATE_EOF, 120).await;
        let mut waiting = Wire::through(&gate, PLAIN | PLUGIN_AUTH).await;
        waiting.send(COM_QUERY, b"select sleep(120)").await;
        gate.signal("TERM");
        is_closed(cut).await;
        let told = String::from_utf8_lossy(&waiting.rest().await).into_owned();
        assert!(
            told.contains("#08S01Lost connection to MySQL server") && told.contains("rdsgate is shutting down"),
            "{engine:?}: {told}"
        );
        assert_eq!(gate.ended().await.code(), Some(143));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_cut_off_inside_a_row_finds_no_words_of_ours_there() {
    for engine in ENGINES {
        let server = shared(engine);
        let sandbox = sandbox(server).await;
        let mut gate = GateOptions::new(server, &sandbox).flag("--max-sigterm-delay", "0s").start().await;
        let mut wire = Wire::through(&gate, PLAIN | PLUGIN_AUTH | DEPRECATE_EOF).await;
        wire.send(COM_QUERY, b"select repeat('r', 15000000)").await;
        // The number of columns, and the one.
        for _ in 0..2 {
            wire.packet().await;
        }
        gate.signal("TERM");
        gate.ended().await;
        let rest = wire.rest().await;
        assert!(rest.len() < 15_000_000, "{engine:?}: the row was not cut");
        // Behind its header and its length there is nothing but the row.
        assert!(
            rest.iter().skip(8).all(|byte| *byte == b'r'),
            "{engine:?}: {}",
            rest[rest.len() - 200..].escape_ascii()
        );
    }
}
