//! The reaction of drivers and pools to a lost connection to a MySQL or MariaDB server.

use std::process::Stdio;

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
    time::timeout,
};

use crate::support::{
    clients::python,
    gate::{Gate, PATIENCE, sandbox},
    mysql_wire::{COM_QUERY, PLAIN, PLUGIN_AUTH, Wire},
    servers::{Engine, Server},
};

const ENGINES: [Engine; 2] = [Engine::MariaDb, Engine::MySql];

fn shared(engine: Engine) -> &'static Server {
    tokio::task::block_in_place(|| Server::shared_of(engine))
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlalchemy_reconnects_by_pre_ping_however_its_connection_was_lost() {
    for engine in ENGINES {
        let server = shared(engine);
        let sandbox = sandbox(server).await;
        let gate = Gate::start(server, &sandbox).await;
        let door = gate.door();
        let mut program = Command::from(tokio::task::block_in_place(|| python("mysql_lost.py")));
        program.args(["127.0.0.1", &door.port.to_string(), door.database, door.user]);
        program.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = program.spawn().expect("it was installed");
        let mut words = child.stdin.take().expect("piped");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut cuts = 0;
        while let Some(line) = timeout(PATIENCE * 3, lines.next_line()).await.expect("it hangs").expect("it is UTF-8") {
            println!("{engine:?}: {line}");
            if line == "cut" {
                sandbox.end_all("Session idle timeout");
                words.write_all(b"\n").await.expect("it reads");
                cuts += 1;
            }
        }
        let status = timeout(PATIENCE, child.wait()).await.expect("it ends").expect("it was started");
        assert!(status.success(), "{engine:?}: see above\n{}", gate.log());
        assert_eq!(cuts, 6);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_command_without_an_answer_is_answered_by_us() {
    for engine in ENGINES {
        let server = shared(engine);
        let sandbox = sandbox(server).await;
        let gate = Gate::start(server, &sandbox).await;
        let mut idle = Wire::through(&gate, PLAIN | PLUGIN_AUTH).await;
        assert_eq!(idle.column("select 42").await, ["42"]);
        let mut waiting = Wire::through(&gate, PLAIN | PLUGIN_AUTH).await;
        waiting.send(COM_QUERY, b"select sleep(600)").await;
        let mut reading = Wire::through(&gate, PLAIN | PLUGIN_AUTH).await;
        let sql = "select n, repeat('r', 100000), sleep(if(n = 2, 600, 0)) from (select 1 n union all select 2) two";
        reading.send(COM_QUERY, sql.as_bytes()).await;
        while reading.packet().await.1.len() < 100_000 {}
        // It has arrived, for what was sent before it has.
        assert_eq!(idle.column("select 43").await, ["43"]);

        sandbox.end_all("Session idle timeout");
        assert_eq!(idle.rest().await, b"", "{engine:?}: an idle client is closed");
        assert_eq!(reading.rest().await, b"", "{engine:?}: and one that has part of an answer");
        let told = waiting.rest().await;
        // ER_CONNECTION_KILLED in words that pools take for a lost connection, as packet number 1.
        assert!(
            told.get(3..).is_some_and(|told| told.starts_with(b"\x01\xff\x87\x07#08S01Lost connection")),
            "{engine:?}: {}",
            told.escape_ascii()
        );
    }
}
