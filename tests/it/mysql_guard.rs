//! The production guard, and results without columns, whatever a client and a server agree on.

use database_wire::mysql::Activity;

use crate::support::{
    gate::{Gate, GateOptions, sandbox},
    mysql_wire::{COMPRESS, DEPRECATE_EOF, MULTI, OPTIONAL_METADATA, PLAIN, PLUGIN_AUTH, QUERY_ATTRIBUTES, Wire},
    servers::{Engine, Server},
};

const COM_CHANGE_USER: u8 = 0x11;
const COM_STMT_PREPARE: u8 = 0x16;
const COM_STMT_EXECUTE: u8 = 0x17;
const COM_RESET_CONNECTION: u8 = 0x1f;
/// CLIENT_LONG_PASSWORD; where it is not set MariaDB's own capabilities are given.
const MYSQL: u64 = 1;
/// CLIENT_CONNECT_WITH_DB and CLIENT_PROTOCOL_41, which every client here needs; CLIENT_NO_SCHEMA, which forbids to name a
/// table's database; and what this client cannot do: zlib and zstd.
const FIXED: u64 = 1 << 3 | 1 << 9 | 1 << 4 | COMPRESS | 1 << 26;

fn shared(engine: Engine) -> &'static Server {
    tokio::task::block_in_place(|| Server::shared_of(engine))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_holds_with_every_capability_on_and_off() {
    let change = b"app_user\0\0appdb\0\x2d\0";
    let change_with_plugin = [&change[..], b"mysql_native_password\0"].concat();
    for engine in [Engine::MariaDb, Engine::MySql] {
        let server = shared(engine);
        let sandbox = sandbox(server).await;
        let gate = GateOptions::new(server, &sandbox).argument("--read-only").flag("--statement-timeout", "700ms");
        let gate = gate.env("RDSGATE_LOG", "info").start().await;
        let offered = Wire::through(&gate, PLAIN | PLUGIN_AUTH).await.greeting.capabilities.0 & !FIXED;
        let bits: Vec<u64> = (0..64).map(|bit| 1 << bit).filter(|bit| offered & bit != 0).collect();
        let least = PLAIN & (!MYSQL | offered);
        let single = bits.iter().map(|bit| least | bit);
        let without = bits.iter().map(|bit| (least | offered) & !bit);
        for capabilities in [least, least | offered].into_iter().chain(single).chain(without) {
            let what = format!("{engine:?} {capabilities:#x}");
            let change = if capabilities & PLUGIN_AUTH == 0 { &change[..] } else { &change_with_plugin };
            let mut wire = Wire::through(&gate, capabilities).await;
            for then in [None, Some((COM_CHANGE_USER, change)), Some((COM_RESET_CONNECTION, b""))] {
                if let Some((command, argument)) = then {
                    let answer = wire.ask(command, argument).await;
                    assert_eq!(answer[0][0], 0, "{what} {command:#x}: {}", answer[0].escape_ascii());
                }
                let refused = wire.query("create table guard_written (id int)").await;
                assert!(refused[0].starts_with(b"\xff\x00\x07"), "{what} {then:?}: {}", refused[0].escape_ascii());
                let answer = wire.query("select 42").await;
                assert!(answer.iter().any(|payload| payload == b"\x0242"), "{what} {then:?}: {answer:?}");
                assert_eq!(wire.watch.state(), Activity::Idle, "{what} {then:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn results_without_columns_are_followed_as_mysql_sends_them() {
    let server = shared(Engine::MySql);
    let sandbox = sandbox(server).await;
    let gate = Gate::start(server, &sandbox).await;
    for more in [0, DEPRECATE_EOF, QUERY_ATTRIBUTES | DEPRECATE_EOF] {
        let mut wire = Wire::through(&gate, PLAIN | PLUGIN_AUTH | MULTI | OPTIONAL_METADATA | more).await;
        let mut lengths = Vec::new();
        for metadata in ["full", "none", "full"] {
            wire.query(&format!("set resultset_metadata = {metadata}")).await;
            for sql in
                ["select 1, 'a' union all select 2, ''", "select 1 where false", "select 1; do 0; select 2, 3", "selec"]
            {
                lengths.push(wire.query(sql).await.len());
                assert_eq!(wire.watch.state(), Activity::Idle, "{more:#x} {metadata} {sql}");
            }
            wire.ask(COM_STMT_PREPARE, b"select ?, 2").await;
            assert_eq!(wire.watch.state(), Activity::Idle, "{more:#x} {metadata} prepare with a parameter");
            let prepared = wire.ask(COM_STMT_PREPARE, b"select 1, 2 union all select 3, 4").await;
            assert_eq!(wire.watch.state(), Activity::Idle, "{more:#x} {metadata} prepare");
            let number = &prepared[0][1..5];
            for cursor in [0, 1] {
                let execute = [number, &[cursor], &1_u32.to_le_bytes()].concat();
                lengths.push(wire.ask(COM_STMT_EXECUTE, &execute).await.len());
                let expected = if cursor == 0 { Activity::Idle } else { Activity::InTransaction };
                assert_eq!(wire.watch.state(), expected, "{more:#x} {metadata} cursor {cursor}");
            }
            // COM_STMT_FETCH
            wire.ask(0x1c, &[number, &10_u32.to_le_bytes()].concat()).await;
            assert_eq!(wire.watch.state(), Activity::Idle, "{more:#x} {metadata}");
        }
        let [full, none, again] = [0, 1, 2].map(|n| &lengths[n * 6..n * 6 + 6]);
        assert_eq!(full, again);
        assert!(full[0] > none[0], "{lengths:?}: columns were left out");
    }
}
