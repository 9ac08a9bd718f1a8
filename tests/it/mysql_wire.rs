//! Parts of the protocols of MySQL and MariaDB that few clients use, packet by packet through the gate: each answer is the server's
//! own, byte for byte.

use database_wire::mysql::{Activity, Capabilities};
use sandbox::Identity;

use crate::support::{
    gate::{Gate, GateOptions, sandbox, with_long_session_token},
    mysql_wire::{
        COM_INIT_DB, COM_QUERY, DEPRECATE_EOF, MULTI, PLAIN, PLUGIN_AUTH, QUERY_ATTRIBUTES, SESSION_TRACK, Wire,
    },
    servers::{Engine, Options, Server},
};

const COM_FIELD_LIST: u8 = 0x04;
const COM_STATISTICS: u8 = 0x09;
const COM_PING: u8 = 0x0e;
const COM_CHANGE_USER: u8 = 0x11;
const COM_BINLOG_DUMP: u8 = 0x12;
const COM_REGISTER_SLAVE: u8 = 0x15;
const COM_STMT_PREPARE: u8 = 0x16;
const COM_STMT_EXECUTE: u8 = 0x17;
const COM_STMT_SEND_LONG_DATA: u8 = 0x18;
const COM_STMT_CLOSE: u8 = 0x19;
const COM_STMT_RESET: u8 = 0x1a;
const COM_SET_OPTION: u8 = 0x1b;
const COM_STMT_FETCH: u8 = 0x1c;
const COM_RESET_CONNECTION: u8 = 0x1f;
const COM_STMT_BULK_EXECUTE: u8 = 0xfa;

const ENGINES: [Engine; 2] = [Engine::MariaDb, Engine::MySql];
/// MARIADB_CLIENT_STMT_BULK_OPERATIONS.
const BULK: u64 = 1 << 34;
/// MARIADB_CLIENT_EXTENDED_METADATA.
const EXTENDED_METADATA: u64 = 1 << 35;
/// MARIADB_CLIENT_CACHE_METADATA.
const CACHE_METADATA: u64 = 1 << 36;
/// Extended capabilities are there when the lowest bit is not set.
const MARIADB: u64 = PLAIN & !1;

/// A statement that was never prepared: the error of the server contains its number.
const NO_STATEMENT: u32 = 70_000;

fn shared(engine: Engine) -> &'static Server {
    tokio::task::block_in_place(|| Server::shared_of(engine))
}

/// Prepares a statement; its number, which is MariaDB's to choose.
async fn prepare(wire: &mut Wire, sql: &str) -> u32 {
    let answer = wire.ask(COM_STMT_PREPARE, sql.as_bytes()).await;
    number(&answer[0]).unwrap_or_else(|| panic!("{}", answer[0].escape_ascii()))
}

/// The number of a statement in the first packet of the answer to COM_STMT_PREPARE.
fn number(payload: &[u8]) -> Option<u32> {
    let [0, number @ ..] = payload else { return None };
    number.first_chunk().copied().map(u32::from_le_bytes)
}

/// Asks, with a statement's place among those that were prepared in the place of its number, both ways.
async fn numbered(wire: &mut Wire, statements: &mut Vec<u32>, command: u8, argument: &[u8]) -> Vec<Vec<u8>> {
    let mut argument = argument.to_vec();
    if let COM_STMT_EXECUTE..=COM_STMT_RESET | COM_STMT_FETCH = command
        && let Some(number) = statements.get(usize::from(argument[0]) - 1)
    {
        argument.splice(..4, number.to_le_bytes());
    }
    let mut answer = wire.ask(command, &argument).await;
    if command == COM_STMT_PREPARE
        && let Some(number) = number(&answer[0])
    {
        statements.push(number);
        answer[0].splice(1..5, 0_u32.to_le_bytes());
    }
    answer
}

/// COM_STMT_EXECUTE without parameters.
fn execute(statement: u32, flags: u8) -> Vec<u8> {
    [&statement.to_le_bytes()[..], &[flags], &1_u32.to_le_bytes()].concat()
}

/// The OK of a login without the proof that MariaDB 11.4 and later add inside TLS, in the place of the text: `\x01` and a SHA-256
/// in hexadecimal digits, which says that the server knows the password and has this certificate.
fn without_proof(ok: &[u8]) -> Vec<u8> {
    const PROOF: usize = 1 + 64;
    let Some((head, [length, text @ ..])) = ok.split_at_checked(7) else { return ok.to_vec() };
    match text.split_at_checked(PROOF) {
        Some(([1, digits @ ..], rest)) if usize::from(*length) == PROOF && digits.iter().all(u8::is_ascii_hexdigit) => {
            // An empty text stands there only if something follows it.
            let text: &[u8] = if rest.is_empty() { b"" } else { b"\0" };
            [head, text, rest].concat()
        }
        _ => ok.to_vec(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_servers_own_byte_for_byte() {
    let fetch = [NO_STATEMENT.to_le_bytes(), 2_u32.to_le_bytes()].concat();
    let long_data = [&1_u32.to_le_bytes()[..], &0_u16.to_le_bytes(), b"long data"].concat();
    let with_parameter = [&execute(1, 0)[..], b"\0\x01\xfc\0"].concat();
    let conversation: &[(u8, &[u8])] = &[
        (COM_PING, b""),
        (COM_QUERY, "select 1, 'ä', null union all select 2, '', repeat('x', 70000)".as_bytes()),
        (COM_QUERY, b"select 1; set @a = 2; select @a where false; select 3"),
        (COM_QUERY, b"select 1; selec"),
        (COM_QUERY, b"call nothing()"),
        (COM_QUERY, b""),
        // What is tracked: schema, variables, state, transactions.
        (COM_INIT_DB, b"appdb"),
        (COM_QUERY, b"use information_schema"),
        (COM_QUERY, b"set session_track_state_change = on"),
        (COM_QUERY, b"set session_track_system_variables = 'sql_mode,lc_time_names,autocommit'"),
        (COM_QUERY, b"set sql_mode = 'ansi', lc_time_names = 'de_DE'"),
        (COM_QUERY, b"set session_track_transaction_info = 'characteristics'"),
        (COM_QUERY, b"start transaction read only"),
        (COM_QUERY, b"select 1"),
        (COM_QUERY, b"commit"),
        (COM_QUERY, b"set autocommit = 0"),
        (COM_RESET_CONNECTION, b""),
        // Statement 1, with a parameter that comes in parts; 2 without; others that are none.
        (COM_STMT_PREPARE, b"select ?, 42, null"),
        (COM_STMT_SEND_LONG_DATA, &long_data),
        (COM_STMT_EXECUTE, &with_parameter),
        (COM_STMT_RESET, &1_u32.to_le_bytes()),
        (COM_STMT_CLOSE, &1_u32.to_le_bytes()),
        (COM_STMT_PREPARE, b"set @a = 1"),
        (COM_STMT_EXECUTE, &execute(2, 0)),
        (COM_STMT_PREPARE, b"selec"),
        (COM_STMT_EXECUTE, &execute(NO_STATEMENT, 0)),
        (COM_STMT_FETCH, &fetch),
        (COM_SET_OPTION, &[1, 0]),
        (COM_QUERY, b"select 1; select 2"),
        (COM_SET_OPTION, &[0, 0]),
        (COM_FIELD_LIST, b"nothing\0%"),
        // There is no such command.
        (0x7f, b""),
    ];
    for engine in ENGINES {
        let server = shared(engine);
        let sandbox = sandbox(server).await;
        let gate = Gate::start(server, &sandbox).await;
        let mut sets = vec![
            PLAIN,
            PLAIN | MULTI | PLUGIN_AUTH,
            PLAIN | MULTI | PLUGIN_AUTH | SESSION_TRACK,
            PLAIN | MULTI | PLUGIN_AUTH | SESSION_TRACK | DEPRECATE_EOF,
        ];
        if engine == Engine::MariaDb {
            sets.push(MARIADB | MULTI | PLUGIN_AUTH | SESSION_TRACK | DEPRECATE_EOF | BULK | EXTENDED_METADATA);
            sets.push(MARIADB | MULTI | PLUGIN_AUTH | CACHE_METADATA);
        }
        for capabilities in sets {
            let mut through = Wire::through(&gate, capabilities).await;
            // Past the gate MySQL insists on a plugin.
            let mut past = Wire::past(server, capabilities | PLUGIN_AUTH).await;
            let escaped = |payload: &[u8]| payload.escape_ascii().to_string();
            let login = without_proof(&through.login);
            assert_eq!(escaped(&login), escaped(&past.login), "{engine:?} {capabilities:#x}");
            let mut statements = [Vec::new(), Vec::new()];
            for (command, argument) in conversation {
                let what = format!("{engine:?} {capabilities:#x} {command:#x} {}", argument.escape_ascii());
                let mut answers = Vec::new();
                for (wire, statements) in [&mut through, &mut past].into_iter().zip(&mut statements) {
                    answers.push(numbered(wire, statements, *command, argument).await);
                }
                let [came, expected]: [Vec<_>; 2] =
                    [0, 1].map(|n: usize| answers[n].iter().map(|payload| escaped(payload)).collect());
                assert_eq!(came, expected, "{what}");
                assert_eq!(through.watch.state(), past.watch.state(), "{what}");
            }
            assert!(through.ask(COM_STATISTICS, b"").await[0].starts_with(b"Uptime: "));
            assert_eq!(through.watch.state(), Activity::Idle);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requested_session_state_changes_reach_the_client() {
    // SESSION_TRACK_SYSTEM_VARIABLES, _SCHEMA, _GTIDS, as the first byte of an entry with its length behind it.
    let gtid = vec![("gtid_mode".into(), "ON".into()), ("enforce_gtid_consistency".into(), "ON".into())];
    let mysql = tokio::task::block_in_place(|| {
        Server::start(&Options { engine: Engine::MySql, settings: gtid, ..Options::default() })
    });
    for (server, ask, of_server, told) in [
        (&mysql, "set session_track_gtids = 'own_gtid'", "select @@server_uuid", &b"\x03"[..]),
        (
            shared(Engine::MariaDb),
            "set session_track_system_variables = 'autocommit,last_gtid'",
            "select '0-1-'",
            b"\x09last_gtid",
        ),
    ] {
        let sandbox = sandbox(server).await;
        let gate = Gate::start(server, &sandbox).await;
        let mut wire = Wire::through(&gate, PLAIN | PLUGIN_AUTH | SESSION_TRACK | DEPRECATE_EOF).await;
        let contains = |answer: &[Vec<u8>], part: &[u8]| {
            let [ok] = answer else { panic!("{answer:?}") };
            assert!(ok.windows(part.len()).any(|window| window == part), "{}", ok.escape_ascii());
        };
        contains(&wire.query("use appdb").await, b"\x01\x06\x05appdb");
        contains(&wire.query("set autocommit = 1").await, b"\x0aautocommit\x02ON");
        let prefix = server.admin(of_server);
        wire.query(ask).await;
        let own = format!("tracked_{}", wire.greeting.connection_id);
        let made = wire.query(&format!("create table {own} (id int)")).await;
        contains(&made, told);
        contains(&made, prefix.as_bytes());
        contains(&wire.query(&format!("drop table {own}")).await, prefix.as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn query_attributes_arrive() {
    let server = shared(Engine::MySql);
    let sandbox = sandbox(server).await;
    let gate = Gate::start(server, &sandbox).await;
    let mut wire = Wire::through(&gate, PLAIN | PLUGIN_AUTH | QUERY_ATTRIBUTES | DEPRECATE_EOF).await;
    // One attribute, a MYSQL_TYPE_STRING, in one set; its value follows. Then none.
    let sql = b"select mysql_query_attribute_string('trace')";
    let with = [b"\x01\x01\0\x01\xfe\0\x05trace\x0800-4bf92", &sql[..]].concat();
    let without = [b"\0\x01", &sql[..]].concat();
    for (argument, row) in [(&with, &b"\x0800-4bf92"[..]), (&without, b"\xfb")] {
        let answer = wire.ask(COM_QUERY, argument).await;
        assert_eq!(answer[answer.len() - 2].escape_ascii().to_string(), row.escape_ascii().to_string());
    }
    // The same with a prepared statement: PARAMETER_COUNT_AVAILABLE, and an attribute in the place of a parameter.
    let statement = prepare(&mut wire, "select mysql_query_attribute_string('trace')").await;
    let with = [&execute(statement, 8)[..], b"\x01\0\x01\xfe\0\x05trace\x0800-4bf92"].concat();
    let answer = wire.ask(COM_STMT_EXECUTE, &with).await;
    assert_eq!(answer[answer.len() - 2].escape_ascii().to_string(), r"\x00\x00\x0800-4bf92");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_is_read_row_by_row_and_keeps_the_connection_from_being_idle() {
    for engine in ENGINES {
        let server = shared(engine);
        let sandbox = sandbox(server).await;
        let gate = Gate::start(server, &sandbox).await;
        for capabilities in [PLAIN | PLUGIN_AUTH, PLAIN | PLUGIN_AUTH | DEPRECATE_EOF] {
            let mut wire = Wire::through(&gate, capabilities).await;
            let statement = prepare(&mut wire, "select 1 union all select 2 union all select 3").await;
            // CURSOR_TYPE_READ_ONLY
            let open = execute(statement, 1);
            let fetch = [statement.to_le_bytes(), 2_u32.to_le_bytes()].concat();
            for _ in 0..2 {
                let answer = wire.ask(COM_STMT_EXECUTE, &open).await;
                assert!(!answer.iter().any(|payload| payload[0] == 0), "no rows yet: {answer:?}");
                assert_eq!(wire.watch.state(), Activity::InTransaction);
                assert_eq!(wire.ask(COM_STMT_FETCH, &fetch).await.len(), 3, "two rows");
                assert_eq!(wire.watch.state(), Activity::InTransaction);
                assert_eq!(wire.ask(COM_STMT_FETCH, &fetch).await.len(), 2, "the last");
                assert_eq!(wire.watch.state(), Activity::Idle, "{engine:?}");
            }
            wire.ask(COM_STMT_EXECUTE, &open).await;
            assert_eq!(wire.watch.state(), Activity::InTransaction);
            wire.ask(COM_STMT_CLOSE, &statement.to_le_bytes()).await;
            assert_eq!(wire.watch.state(), Activity::Idle);
            assert_eq!(wire.column("select 42").await, ["42"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadbs_bulk_and_cached_metadata_are_what_they_are_without_us() {
    let server = shared(Engine::MariaDb);
    let sandbox = sandbox(server).await;
    let gate = Gate::start(server, &sandbox).await;
    for capabilities in [MARIADB, MARIADB | DEPRECATE_EOF] {
        let mut wire = Wire::through(&gate, capabilities | PLUGIN_AUTH | BULK | CACHE_METADATA).await;
        let eof = usize::from(capabilities & DEPRECATE_EOF == 0);
        wire.query("create temporary table bulk (id int, text varchar(20))").await;
        let insert = prepare(&mut wire, "insert into bulk values (?, ?)").await;
        // SEND_TYPES_TO_SERVER; MYSQL_TYPE_LONG and MYSQL_TYPE_VAR_STRING; then rows, each value behind its indicator.
        let mut rows = [&insert.to_le_bytes()[..], &128_u16.to_le_bytes(), &[3, 0, 0xfd, 0]].concat();
        for n in 0..1000_u32 {
            rows.extend([&[0][..], &n.to_le_bytes(), b"\0\x03abc"].concat());
        }
        let answer = wire.ask(COM_STMT_BULK_EXECUTE, &rows).await;
        assert!(answer[0].starts_with(b"\0\xfc\xe8\x03"), "a thousand rows: {}", answer[0].escape_ascii());
        assert_eq!(wire.column("select sum(id) from bulk where text = 'abc'").await, ["499500"]);

        // The columns come with the statement, and not again with its results: one row behind the head, and its end. MariaDB
        // 10.5 cannot do that.
        let is_cached = wire.greeting.capabilities.contains(Capabilities(CACHE_METADATA));
        let expected = if is_cached { (3 + eof, &[2, 0][..]) } else { (5 + eof, &[2][..]) };
        let select = prepare(&mut wire, "select 1, 'eins'").await;
        for _ in 0..3 {
            let answer = wire.ask(COM_STMT_EXECUTE, &execute(select, 0)).await;
            assert_eq!((answer.len(), &answer[0][..]), expected, "{answer:?}");
            assert_eq!(wire.watch.state(), Activity::Idle);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_binary_log_is_followed_as_it_grows() {
    for (engine, status, checksum) in [
        (Engine::MariaDb, "show master status", "set @master_binlog_checksum = @@global.binlog_checksum"),
        (Engine::MySql, "show binary log status", "set @source_binlog_checksum = @@global.binlog_checksum"),
    ] {
        let server = shared(engine);
        let sandbox = sandbox(server).await;
        let gate = Gate::start(server, &sandbox).await;
        let mut replica = Wire::through(&gate, PLAIN | PLUGIN_AUTH).await;
        let mut client = Wire::through(&gate, PLAIN | PLUGIN_AUTH).await;
        let row = client.query(status).await;
        let row =
            row.iter().find(|payload| payload.starts_with(b"\x0d") || payload.starts_with(b"\x0c")).expect("a row");
        let (file, rest) = row[1..].split_at(row[0].into());
        let position: u32 = String::from_utf8_lossy(&rest[1..=rest[0].into()]).parse().expect("a position");
        replica.query(checksum).await;
        // Two with the same number would push each other out.
        let number = fastrand::u32(1 << 16..);
        let register = [&number.to_le_bytes()[..], &[0; 3], &[0; 2], &[0; 8]].concat();
        assert_eq!(replica.ask(COM_REGISTER_SLAVE, &register).await[0][0], 0, "{engine:?}");
        let dump = [&position.to_le_bytes()[..], &[0; 2], &number.to_le_bytes(), file].concat();
        replica.send(COM_BINLOG_DUMP, &dump).await;

        let own = format!("followed_{}", client.greeting.connection_id);
        client.query(&format!("create table {own} (id int)")).await;
        client.query(&format!("drop table {own}")).await;
        let mut seen = 0;
        while seen < 2 {
            let (_, event) = replica.packet().await;
            assert_eq!(event[0], 0, "{engine:?}: {}", event.escape_ascii());
            seen += usize::from(event.windows(own.len()).any(|window| window == own.as_bytes()));
            assert_eq!(replica.watch.state(), Activity::Idle, "between events");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_all_ages_and_databases_that_are_not_there() {
    for engine in ENGINES {
        let server = shared(engine);
        let sandbox = sandbox(server).await;
        let gate = Gate::start(server, &sandbox).await;
        // Without named plugins, as before 5.5; and with a password that is a C string, as before 4.1.1.
        for capabilities in [PLAIN, PLAIN & !(1 << 15)] {
            let mut wire = Wire::through(&gate, capabilities).await;
            assert_eq!(wire.column("select current_user()").await, ["app_user@%"], "{engine:?} {capabilities:#x}");
            let [id] = &wire.column("select connection_id()").await[..] else { panic!("one row") };
            assert_eq!(*id, wire.greeting.connection_id.to_string());
            let refused =
                Wire::try_through(&gate, capabilities, "app_user", "absent").await.err().expect("it is not there");
            assert!(refused.starts_with(b"\xff\x19\x04#42000Unknown database 'absent'"), "{}", refused.escape_ascii());
            let refused =
                Wire::try_through(&gate, capabilities, "app_user", "mysql").await.err().expect("it is not for us");
            assert!(refused.starts_with(b"\xff\x14\x04#42000Access denied"), "{}", refused.escape_ascii());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_user_waits_for_its_turn_and_ends_the_connection_when_it_is_refused() {
    let change = |user: &str| [user.as_bytes(), b"\0\0appdb\0\x2d\0mysql_native_password\0"].concat();
    for engine in ENGINES {
        let server = shared(engine);
        let sandbox = sandbox(server).await;
        let gate = GateOptions::new(server, &sandbox).without("--user").start().await;
        let mut wire = Wire::through(&gate, PLAIN | PLUGIN_AUTH | DEPRECATE_EOF).await;
        assert_eq!(wire.ask(COM_CHANGE_USER, &change("readonly")).await.len(), 1);
        assert_eq!(wire.column("select current_user()").await, ["readonly@%"], "{engine:?}");
        // Sent ahead of the answer to a query that takes a while.
        wire.send(COM_QUERY, b"select sleep(1)").await;
        wire.send(COM_CHANGE_USER, &change("app_user")).await;
        let mut answers = Vec::new();
        while !wire.watch.is_answered() {
            answers.push(wire.packet().await);
        }
        let [.., slept, _, changed] = &answers[..] else { panic!("{answers:?}") };
        assert!(slept.1 == b"\x010" && changed.0 == 1 && changed.1[0] == 0, "{answers:?}");
        assert_eq!(wire.column("select current_user()").await, ["app_user@%"], "{engine:?}");

        // Whom MySQL does not know it asks for some password.
        let refused = wire.ask(COM_CHANGE_USER, &change("nobody")).await;
        assert!(refused[0].starts_with(b"\xff\x15\x04#28000"), "{}", refused[0].escape_ascii());
        assert_eq!(wire.rest().await, b"", "it is closed");

        // A policy that has rds-db:connect for readonly alone: the server says no.
        let identity = Identity::readonly();
        let options = GateOptions::new(server, &sandbox).without("--user");
        let options = options.without_env("AWS_ACCESS_KEY_ID").without_env("AWS_SECRET_ACCESS_KEY");
        let env = identity.env();
        let options = env.iter().fold(options, |options, (name, value)| options.env(name, value));
        let gate = options.start().await;
        let wire = Wire::try_through(&gate, PLAIN | PLUGIN_AUTH, "readonly", "appdb").await;
        let mut wire = wire.unwrap_or_else(|error| panic!("{}\n{}", error.escape_ascii(), gate.log()));
        let refused = wire.ask(COM_CHANGE_USER, &change("app_user")).await;
        let words = b"\xff\x15\x04#28000Access denied for user 'app_user'@'127.0.0.1'";
        assert!(refused[0].starts_with(words), "{}", refused[0].escape_ascii());
        assert!(String::from_utf8_lossy(&refused[0]).contains("\nHint: "), "{}", refused[0].escape_ascii());
        assert_eq!(wire.rest().await, b"", "it is closed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_of_more_than_sixteen_megabytes_pass_compressed_both_ways() {
    const LONG: usize = 17 << 20;
    let server = shared(Engine::MariaDb);
    let sandbox = sandbox(server).await;
    let gate = GateOptions::new(server, &sandbox).env("RDSGATE_LOG", "debug").start().await;
    let mut wire = Wire::through(&gate, PLAIN | PLUGIN_AUTH | DEPRECATE_EOF).await;
    let answer = wire.query(&format!("select repeat('r', {LONG})")).await;
    let row = answer.iter().find(|payload| payload.len() > LONG).expect("the row");
    // Its length takes nine bytes.
    assert!(row[9..].iter().all(|byte| *byte == b'r'));
    let long = format!("select length('{}')", "w".repeat(LONG));
    assert_eq!(wire.column(&long).await, [LONG.to_string()]);
    assert_eq!(wire.watch.state(), Activity::Idle);
}

#[tokio::test(flavor = "multi_thread")]
async fn compression_is_what_was_asked_for_and_nothing_where_the_server_has_none() {
    let settings = vec![("protocol_compression_algorithms".into(), "uncompressed".into())];
    let without = tokio::task::block_in_place(|| {
        Server::start(&Options { engine: Engine::MySql, settings, ..Options::default() })
    });
    for (server, wanted, expected) in [
        (shared(Engine::MySql), "auto", "ON"),
        (shared(Engine::MySql), "zlib", "ON"),
        (shared(Engine::MySql), "off", "OFF"),
        (shared(Engine::MariaDb), "auto", "ON"),
        // It has no zstd.
        (shared(Engine::MariaDb), "zstd", "OFF"),
        (&without, "auto", "OFF"),
        (&without, "zlib", "OFF"),
        (&without, "zstd", "OFF"),
    ] {
        let sandbox = sandbox(server).await;
        let mut gate = GateOptions::new(server, &sandbox).flag("--compress", wanted).start().await;
        let mut wire = Wire::through(&gate, PLAIN | PLUGIN_AUTH).await;
        let answer = wire.query("show session status like 'compression'").await;
        let value = [&[u8::try_from(expected.len()).expect("short")][..], expected.as_bytes()].concat();
        assert!(answer.iter().any(|row| row.ends_with(&value)), "{:?} {wanted}: {answer:?}", server.engine);
        let words = format!("does not offer {wanted} compression");
        if expected == "OFF" && ["zlib", "zstd"].contains(&wanted) {
            assert!(gate.until(|log| log.contains(&words)).await, "{:?} {wanted}: it is said", server.engine);
        } else {
            assert!(!gate.log().contains(&words), "{:?} {wanted}", server.engine);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_token_of_two_thousand_bytes_fits_and_is_in_no_log() {
    for engine in ENGINES {
        let server = shared(engine);
        let (_sandbox, options, identity) = with_long_session_token(server).await;
        let mut gate = options.without("--user").start().await;
        let mut wire = Wire::through(&gate, PLAIN | PLUGIN_AUTH).await;
        assert_eq!(wire.column("select current_user()").await, ["app_user@%"], "{engine:?}");
        let change = b"app_user\0\0appdb\0\x2d\0mysql_native_password\0";
        assert_eq!(wire.ask(COM_CHANGE_USER, change).await[0][0], 0, "{engine:?}: with the switch as well");
        let refused = wire.ask(COM_CHANGE_USER, b"nobody\0\0appdb\0\x2d\0mysql_native_password\0").await;
        assert_eq!(refused[0][0], 0xff, "{engine:?}");
        assert!(gate.until(|log| log.contains("logged in") && log.contains("COM_CHANGE_USER refused")).await);
        let log = gate.log();
        for secret in [identity.secret.expose(), "X-Amz-Signature", "IQoJb3Jp"] {
            assert!(!log.contains(secret), "{engine:?}: {secret} is in the log");
        }
    }
}
