//! Clients that compress what they exchange with us, whatever goes on between us and the server.

use crate::support::{
    clients::Client,
    gate::{Gate, GateOptions, sandbox},
    mysql_wire::{COMPRESS, PLAIN, PLUGIN_AUTH, Wire},
    servers::{Engine, Server},
};

/// Some packets are larger than one compressed packet of ours, and none is slow.
const BIG: usize = 1 << 20;

async fn compresses(client: Client, engine: Engine, algorithm: &str) {
    let server = tokio::task::block_in_place(|| Server::shared_of(engine));
    let sandbox = sandbox(server).await;
    // Some change to another user.
    let gate = GateOptions::new(server, &sandbox).without("--user").start().await;
    let shown = tokio::task::block_in_place(|| client.run_compressing(algorithm, BIG, gate.door()));
    println!("{client:?} on {engine:?} with {algorithm}: {} things", shown.len());
}

macro_rules! compressing {
    ($($name:ident: $client:ident $engine:ident $algorithm:literal),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                compresses(Client::$client, Engine::$engine, $algorithm).await;
            }
        )+
    };
}

compressing! {
    mysqlclient_compresses_on_mariadb: PythonMysqlclient MariaDb "zlib",
    mysqlclient_compresses_on_mysql: PythonMysqlclient MySql "zlib",
    connector_python_compresses_on_mariadb: ConnectorPython MariaDb "zlib",
    connector_python_compresses_on_mysql: ConnectorPython MySql "zlib",
    node_mysql2_compresses_on_mysql: MySql2 MySql "zlib",
    node_mariadb_compresses_on_mariadb: MariaDbNode MariaDb "zlib",
    connector_j_compresses_on_mariadb: MariaDbJava MariaDb "zlib",
    mariadb_command_line_compresses_on_mariadb: MariaDbCommand MariaDb "zlib",
    mysql_command_line_compresses_with_zlib: MySqlCommand MySql "zlib",
    mysql_command_line_compresses_with_zstd: MySqlCommand MySql "zstd",
    php_compresses_on_mariadb: Php MariaDb "zlib",
    php_compresses_on_mysql: Php MySql "zlib",
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_only_says_that_it_compresses_is_understood() {
    for engine in [Engine::MariaDb, Engine::MySql] {
        let server = tokio::task::block_in_place(|| Server::shared_of(engine));
        let sandbox = sandbox(server).await;
        let gate = Gate::start(server, &sandbox).await;
        let mut wire = Wire::through(&gate, PLAIN | PLUGIN_AUTH | COMPRESS).await;
        // COM_PING, the shortest there is, and a statement.
        assert_eq!(wire.ask(0x0e, b"").await.len(), 1, "{engine:?}");
        assert_eq!(wire.column("select 42").await, ["42"], "{engine:?}");
    }
}
