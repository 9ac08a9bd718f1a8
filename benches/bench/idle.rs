//! The cost of an idle process.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    time::Duration,
};

use sandbox::{
    DatabaseServer, Destination,
    front::{Backend, Front, Reads},
    pki::{Authority, Key, Variant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::{
    Table,
    bed::{BASTION, Bed, Gate},
};

const CONNECTIONS: usize = 1000;
const HOST: &str = "idle.c1abcdefghij.eu-central-1.rds.amazonaws.com";
/// AuthenticationOk, BackendKeyData, ReadyForQuery.
const GREETING: &[u8] = b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\x01\0\0\0\x02Z\0\0\0\x05I";
/// Until memory that was needed for a moment has been given back, as far as it will be.
const SETTLE: Duration = Duration::from_secs(2);

pub(crate) fn idle(bed: &Bed, table: &mut Table) {
    allow_files();
    let ca_file = bed.scratch.path().join("idle.pem");
    serve(bed, &ca_file);
    let mut command = Command::new(env!("CARGO_BIN_EXE_rdsgate"));
    let gate =
        Gate::start(command.args(["up", HOST, "--bastion", BASTION]).env("RDSGATE_CA_FILE", &ca_file), &bed.sandbox);
    std::thread::sleep(SETTLE);
    table.row(
        "resident memory without a connection, MB",
        format!("{:.1}", gate.resident() / 1e6),
        "",
        "stunnel and pgbouncer 8.7; goal 15",
    );
    let mut connections = vec![connect(gate.address())];
    std::thread::sleep(SETTLE);
    let one = gate.resident();
    connections.extend((0..CONNECTIONS).map(|_| connect(gate.address())));
    std::thread::sleep(SETTLE);
    let each = (gate.resident() - one) / CONNECTIONS as f64;
    table.row("memory of an idle connection among 1,000, kB", format!("{:.1}", each / 1e3), "", "");
    let before = gate.cpu();
    std::thread::sleep(Duration::from_secs(5));
    table.row("CPU of 1,000 idle connections, % of a core", format!("{:.1}", (gate.cpu() - before) * 20.0), "", "");
}

/// A database that says no more than a greeting: a thousand real ones would be measured, not rdsgate.
fn serve(bed: &Bed, ca_file: &Path) {
    bed.runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback can be listened on");
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut buffer = [0; 1024];
                    let _ = client.read(&mut buffer).await;
                    let _ = client.write_all(GREETING).await;
                    let _ = client.read(&mut buffer).await;
                });
            }
        });
        let authority = Authority::new().expect("certificates can be made");
        std::fs::write(ca_file, authority.root_pem()).expect("the scratch folder can be written");
        let leaf = authority.leaf(HOST, Variant::Good, Key::Rsa2048).expect("certificates can be made");
        let server = DatabaseServer { host: HOST.into(), port: 5432, region: bed.server.region.clone() };
        let front =
            Front::start(&bed.sandbox, server, &leaf, Backend::Tcp(address), Reads::InOrder).await.expect("loopback");
        bed.sandbox.name(HOST, 5432, Destination::Address(front.address));
    });
}

/// A client that is logged in.
fn connect(address: SocketAddr) -> TcpStream {
    let mut client = TcpStream::connect(address).expect("rdsgate listens");
    client.set_read_timeout(Some(Duration::from_secs(30))).expect("a TCP socket");
    let parameters = b"user\0app_user\0database\0appdb\0\0";
    let length = u32::try_from(parameters.len() + 8).expect("a few bytes");
    let packet = [&length.to_be_bytes()[..], &196_608_u32.to_be_bytes(), parameters].concat();
    client.write_all(&packet).expect("rdsgate reads");
    let mut greeting = vec![0; GREETING.len()];
    client.read_exact(&mut greeting).expect("it logs in");
    assert_eq!(greeting, GREETING, "{}", String::from_utf8_lossy(&greeting));
    client
}

/// Each connection is five sockets of ours; rdsgate inherits the limit.
fn allow_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}
