//! Database proxies that differ from the servers behind them.

use std::time::{Duration, Instant};

use sandbox::{
    DatabaseServer, Destination,
    front::{Backend, Front, Reads},
    pki::{Authority, Key, Variant},
};

use crate::{
    mysql::mariadb,
    support::{
        gate::{GateOptions, sandbox},
        servers::{Engine, Options, PgServer, Server},
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_drops_an_early_password_is_asked_again_at_once_and_remembered() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let authority = Authority::new().expect("keys can be made");
    let ca_file = tempfile::NamedTempFile::new().expect("there is room for temporary files");
    std::fs::write(ca_file.path(), authority.root_pem()).expect("it is ours");
    let leaf = authority.leaf(&server.rds_host, Variant::Good, Key::EcdsaP256).expect("a certificate can be made");
    let database =
        DatabaseServer { host: server.rds_host.clone(), port: server.engine.rds_port(), region: server.region.clone() };
    let socket = server.socket_dir.join(format!(".s.PGSQL.{}", server.addr.port()));
    let front = Front::start(&sandbox, database, &leaf, Backend::Unix(socket), Reads::StartupAlone).await;
    let front = front.expect("loopback can be listened on");
    sandbox.name(&server.rds_host, server.engine.rds_port(), Destination::Address(front.address));
    let gate =
        GateOptions::new(server, &sandbox).flag("--ca-file", &ca_file.path().display().to_string()).start().await;

    let learned = "logging in one message after the other from now on";
    assert_eq!(gate.query("select current_user").await, "app_user");
    gate.says(learned).await;
    let started = Instant::now();
    assert_eq!(gate.query("select current_user").await, "app_user");
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}\n{}", started.elapsed(), gate.log());
    assert_eq!(gate.log().matches(learned).count(), 1, "{}", gate.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mysql_server_without_compression_is_spoken_to_without() {
    let settings = vec![("protocol_compression_algorithms".to_owned(), "uncompressed".to_owned())];
    let server = tokio::task::block_in_place(|| {
        Server::start(&Options { engine: Engine::MySql, settings, ..Options::default() })
    });
    let sandbox = sandbox(&server).await;
    for compress in ["auto", "zlib", "zstd"] {
        let gate = GateOptions::new(&server, &sandbox).flag("--compress", compress).start().await;
        let ran = mariadb(&gate, &["-e", "select current_user()"]).await;
        assert_eq!(ran.stdout, "app_user@%", "{compress}: {}\n{}", ran.stderr, gate.log());
    }
}
