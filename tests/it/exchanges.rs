//! The watch of a PostgreSQL connection beside a real server, for messages in any order.

use std::time::Duration;

use database_wire::postgres::{Activity, Watch};
use fastrand::Rng;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::{
    driver::within,
    gate::{Gate, sandbox},
    refusal::startup,
    servers::PgServer,
};

/// Connections, and scripts on each of them.
const SEEDS: u64 = 60;
const SCRIPTS: usize = 8;

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &u32::try_from(body.len() + 4).expect("short").to_be_bytes(), body].concat()
}

/// Something that a client may send while the server does not read a COPY.
fn command(random: &mut Rng) -> Vec<u8> {
    let query = |sql: &str| message(b'Q', format!("{sql}\0").as_bytes());
    let parse = |sql: &str| message(b'P', format!("\0{sql}\0\0\0").as_bytes());
    match random.u8(0..27) {
        0 => query("select 1"),
        1 => query("selec"),
        2 => query(random.choice(["begin", "commit", "rollback"]).expect("one of them")),
        3 => query(""),
        4 => query("select 1; select 1/0; select 2"),
        5 => query("select 1; select 2"),
        6 => query("copy (select 1) to stdout"),
        // FunctionCall of a function that does not exist.
        7 => message(b'F', &[0; 10]),
        8 | 9 => parse("select 1"),
        10 => parse("selec"),
        11 => parse(""),
        12..=14 => message(b'B', &[0; 8]),
        15 => message(b'D', b"P\0"),
        16 => message(b'D', b"S\0"),
        17..=19 => message(b'E', &[0, 0, 0, 0, random.u8(0..2)]),
        20 => message(b'C', b"S\0"),
        21 => message(b'H', b""),
        22..=24 => message(b'S', b""),
        // A COPY, by both protocols; its data comes whether it began or failed.
        25 => [query("copy exchanged from stdin"), copied(random)].concat(),
        _ => {
            let sync = if random.bool() { message(b'S', b"") } else { message(b'H', b"") };
            let execute = [message(b'B', &[0; 8]), message(b'E', &[0; 5]), sync].concat();
            [parse("copy exchanged from stdin"), execute, copied(random), message(b'S', b"")].concat()
        }
    }
}

fn copied(random: &mut Rng) -> Vec<u8> {
    let mut data = Vec::new();
    for _ in 0..random.usize(0..4) {
        data.extend(match random.u8(0..8) {
            0 => message(b'd', b"not a number\n"),
            1 => message(b'H', b""),
            _ => message(b'd', b"1\n"),
        });
    }
    data.extend(if random.bool() { message(b'c', b"") } else { message(b'f', b"no\0") });
    data
}

/// A connection through the gate, with a watch of its own beside it.
struct Connection {
    socket: TcpStream,
    watch: Watch,
    /// Of the server's, not yet a whole message.
    received: Vec<u8>,
}

impl Connection {
    /// With a StartupMessage of protocol 3.0 or 3.2, which an older server negotiates down.
    async fn open(gate: &Gate, minor: u8) -> Self {
        let mut socket = TcpStream::connect(("127.0.0.1", gate.port)).await.expect("rdsgate listens");
        let mut startup = startup(&[]);
        startup[7] = minor;
        socket.write_all(&startup).await.expect("rdsgate reads");
        let mut connection = Self { socket, watch: Watch::new(), received: Vec::new() };
        while connection.next().await.expect("it is let in").0 != b'Z' {}
        connection
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.watch.on_client(bytes);
        // A server that has hung up is found out by reading.
        let _ = self.socket.write_all(bytes).await;
    }

    /// The next message from the server; `None` at the end.
    async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some((&[tag, a, b, c, d], rest)) = self.received.split_first_chunk() {
                let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).expect("32 bits") - 4;
                if let Some(body) = rest.get(..length) {
                    let body = body.to_vec();
                    let message: Vec<u8> = self.received.drain(..length + 5).collect();
                    self.watch.on_upstream(&message);
                    return Some((tag, body));
                }
            }
            let read = within("an answer", self.socket.read_buf(&mut self.received)).await.unwrap_or(0);
            if read == 0 {
                return None;
            }
        }
    }

    /// Takes what the server says within a moment, so that it is sometimes heard before the next command and sometimes not.
    async fn take(&mut self) {
        while let Ok(Some(_)) = timeout(Duration::from_millis(2), self.next()).await {}
    }
}

/// Plays one script; false when the server has broken off.
async fn play(connection: &mut Connection, random: &mut Rng, seed: u64, number: usize) -> bool {
    let mut script = Vec::new();
    for _ in 0..random.usize(0..12) {
        script.extend(command(random));
    }
    let mut rest = &script[..];
    while !rest.is_empty() {
        let (now, later) = rest.split_at(random.usize(1..=rest.len()));
        connection.send(now).await;
        if random.bool() {
            connection.take().await;
        }
        rest = later;
    }
    // Whatever the server is at, it waits for a command after this.
    let marker = format!("marker {seed} {number}");
    let sql = format!("rollback; select '{marker}'\0");
    connection.send(&[message(b'S', b""), message(b'Q', sql.as_bytes())].concat()).await;
    let mut marked = false;
    while let Some((tag, body)) = connection.next().await {
        marked |= tag == b'D' && body.ends_with(marker.as_bytes());
        if tag == b'Z' && marked {
            let shown = script.escape_ascii();
            assert_eq!(connection.watch.state(), Activity::Idle, "seed {seed}, script {number}: {shown}");
            return true;
        }
        assert!(!marked || connection.watch.state() == Activity::Busy, "seed {seed}, script {number}");
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_is_idle_when_a_real_server_has_answered_everything_and_not_before() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let mut gate = Gate::start(server, &sandbox).await;
    let (mut played, mut broken) = (0, 0);
    let mut idle = Vec::new();
    for seed in 0..SEEDS {
        let mut random = Rng::with_seed(seed);
        let mut connection = Connection::open(&gate, if seed % 4 == 0 { 2 } else { 0 }).await;
        connection.send(&message(b'Q', b"create temp table exchanged (n int)\0")).await;
        while connection.next().await.expect("it is created").0 != b'Z' {}
        for number in 0..SCRIPTS {
            if !play(&mut connection, &mut random, seed, number).await {
                broken += 1;
                break;
            }
            played += 1;
        }
        idle.push(connection);
    }
    println!("{played} scripts, {broken} connections that the server ended");
    assert!(played > 200, "{played}");
    // And rdsgate itself has followed them: nothing holds its end.
    gate.signal("TERM");
    let ended = tokio::time::Instant::now();
    gate.ended().await;
    assert!(ended.elapsed() < Duration::from_secs(20), "{:?}: something was taken for busy\n", ended.elapsed());
}
