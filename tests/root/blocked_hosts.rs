//! No client, no probe and no check of ours makes a server block the bastion: MySQL and MariaDB refuse everybody from an address
//! after `max_connect_errors` handshakes that were broken off, unless it is loopback or names are not resolved.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::{
    namespace::Namespace,
    support::{
        gate::{Gate, GateOptions, PATIENCE, mariadb, sandbox},
        mysql_wire::{PLAIN, PLUGIN_AUTH, Wire},
        servers::{Engine, Options, Server},
    },
};

/// More than `max_connect_errors` of the server below.
const PROBES: usize = 12;

/// Handshakes that the server has seen broken off.
fn broken_off(server: &Server) -> u32 {
    let sql = "select coalesce(sum(count_handshake_errors), 0) from performance_schema.host_cache";
    server.admin(sql).parse().expect("a number")
}

async fn connect(gate: &Gate) -> TcpStream {
    TcpStream::connect(("127.0.0.1", gate.port)).await.expect("rdsgate listens")
}

/// Reads the greeting.
async fn greeted(gate: &Gate) -> TcpStream {
    let mut stream = connect(gate).await;
    let mut header = [0; 4];
    timeout(PATIENCE, stream.read_exact(&mut header)).await.expect("it is greeted").expect("it is greeted");
    let mut greeting = vec![0; usize::from(header[0])];
    stream.read_exact(&mut greeting).await.expect("all of it");
    stream
}

/// Sends something and reads to the end.
async fn say(mut stream: TcpStream, words: &[u8]) {
    let _ = stream.write_all(words).await;
    let _ = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.expect("it ends");
}

/// Clients that connect and do not log in, or not to the end.
async fn probe(gate: &Gate) {
    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    // Capabilities with CLIENT_SSL, and nothing else of interest.
    let ssl_request = [&b"\x20\0\0\x01\x8d\xaa\x0f\0\0\0\0\x01\x2d"[..], &[0; 23]].concat();
    let response =
        [&b"\x3c\0\0\x01\x05\xa2\x08\0\0\0\0\x01\x2d"[..], &[0; 23], b"app_user\0\0mysql_native_password\0"].concat();
    let length = u8::try_from(response.len() - 4).expect("short");
    let response = [&[length][..], response.get(1..).expect("a header")].concat();
    drop(connect(gate).await);
    drop(greeted(gate).await);
    say(connect(gate).await, GET).await;
    say(greeted(gate).await, GET).await;
    say(greeted(gate).await, &ssl_request).await;
    let mut leaves = greeted(gate).await;
    let _ = leaves.write_all(&response).await;
    drop(leaves);
    let refused = Wire::try_through(gate, PLAIN | PLUGIN_AUTH, "legacy_user", "appdb").await;
    assert!(refused.is_err(), "its plugin is not one for tokens");
}

pub(crate) async fn nothing_gets_the_bastion_blocked(engine: Engine) {
    let namespace = Namespace::new();
    let settings = [("max_connect_errors", "10"), ("skip-name-resolve", "OFF")];
    let options = Options {
        engine,
        settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        listen: Some(namespace.address()),
        within: namespace.within(),
        ..Options::default()
    };
    let server = tokio::task::block_in_place(|| Server::start(&options));
    // The server counts, and so this test can fail.
    let mut direct = TcpStream::connect(server.addr).await.expect("it listens");
    direct.read_exact(&mut [0; 4]).await.expect("a greeting");
    drop(direct);
    let counted = async {
        while broken_off(&server) == 0 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, counted).await.expect("a handshake that is broken off is counted");
    server.admin("truncate table performance_schema.host_cache");

    let sandbox = sandbox(&server).await;
    for with_user in [true, false] {
        let options = || {
            let options = GateOptions::new(&server, &sandbox);
            if with_user { options } else { options.without("--user") }
        };
        let mut gate = options().start().await;
        // One says nothing for longer than the server waits.
        let silent = say(greeted(&gate).await, b"");
        let probes = async {
            for _ in 0..PROBES {
                probe(&gate).await;
            }
        };
        tokio::join!(silent, probes);
        let ran = mariadb(&gate, &["-u", "app_user", "-e", "select 42"]).await;
        assert_eq!(ran.stdout, "42", "{engine:?}: {}\n{}", ran.stderr, gate.log());
        probe(&gate).await;
        gate.signal("TERM");
        gate.ended().await;
        assert!(broken_off(&server) <= 1, "{engine:?}, {} broken off:\n{}", broken_off(&server), gate.log());

        for _ in 0..PROBES {
            let checked = options().verb("doctor").run().await;
            assert!(checked.stdout.contains("certificate"), "{}{}", checked.stdout, checked.stderr);
        }
        let ran = options().verb("run").argument("--").argument("true").run().await;
        assert!(ran.status.success(), "{}", ran.stderr);
        assert!(broken_off(&server) <= 1, "{engine:?}: doctor and run count");
    }
    assert_eq!(server.admin("select sum(count_host_blocked_errors) from performance_schema.host_cache"), "0");
}
