//! Pools of real drivers whose connections break under them: each takes our last words for a lost connection.

use std::process::Stdio;

use sandbox::Sandbox;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
};

use crate::support::{
    clients,
    driver::{until_server_says, within},
    gate::{Gate, GateOptions, sandbox},
    servers::PgServer,
};

/// The event that breaks the connections.
#[derive(Debug, Clone, Copy)]
enum Break {
    /// The session through which they go ends.
    Session,
    /// rdsgate ends and is started again on the same port.
    Restart,
}

struct Scene<'a> {
    server: &'a PgServer,
    sandbox: &'a Sandbox,
    gate: Gate,
    how: Break,
}

impl Scene<'_> {
    async fn start_gate(server: &PgServer, sandbox: &Sandbox, port: u16) -> Gate {
        let listen = format!("localhost:{port}");
        GateOptions::new(server, sandbox).flag("--listen", &listen).flag("--max-sigterm-delay", "0s").start().await
    }

    /// Breaks every connection; afterwards new ones can be made again once [`restore`](Self::restore) has run.
    async fn break_connections(&mut self) {
        match self.how {
            Break::Session => {
                let ended = |log: &str| log.matches("connection ended").count();
                let before = ended(&self.gate.log());
                self.sandbox.end_all("Session idle timeout");
                assert!(self.gate.until(|log| ended(log) > before).await, "{}", self.gate.log());
            }
            Break::Restart => {
                self.gate.signal("TERM");
                self.gate.ended().await;
            }
        }
    }

    async fn restore(&mut self) {
        if matches!(self.how, Break::Restart) {
            self.gate = Self::start_gate(self.server, self.sandbox, self.gate.port).await;
        }
    }

    /// Runs a program of `tests/clients`, and does what it waits for.
    async fn run(&mut self, mut program: Command) {
        let door = self.gate.door();
        program.args([door.host, &door.port.to_string(), door.database, door.user]);
        let mut child =
            program.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("it starts");
        let mut input = child.stdin.take().expect("piped");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut shown = 0;
        while let Some(line) = within("a line", lines.next_line()).await.expect("text") {
            match line.split_once(' ') {
                Some(("idle", _)) => {
                    self.break_connections().await;
                    self.restore().await;
                    input.write_all(b"\n").await.expect("it reads");
                }
                Some(("busy", mark)) => {
                    let runs = format!(
                        "select count(*) from pg_stat_activity where query like 'select pg_sleep(120), ''{mark}''%'"
                    );
                    until_server_says(self.server, &runs, "1").await;
                    self.break_connections().await;
                }
                Some(("again", _)) => {
                    self.restore().await;
                    input.write_all(b"\n").await.expect("it reads");
                }
                Some(("ok", _)) => shown += 1,
                _ => panic!("{line}"),
            }
        }
        let status = within("its end", child.wait()).await.expect("it was started");
        assert!(status.success() && shown > 3, "{program:?}: {status}\n{}", self.gate.log());
    }
}

async fn pools_connect_again(how: Break) {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let gate = Scene::start_gate(server, &sandbox, 0).await;
    let mut scene = Scene { server, sandbox: &sandbox, gate, how };
    for program in clients::RECONNECTING {
        let command = tokio::task::block_in_place(|| program.command());
        scene.run(command.into()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pools_connect_again_after_their_session_has_ended() {
    pools_connect_again(Break::Session).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pools_connect_again_after_a_restart() {
    pools_connect_again(Break::Restart).await;
}
