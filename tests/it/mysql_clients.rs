//! Foreign clients of MySQL and MariaDB through the gate. What each shows is in `tests/clients`; each is a test so that they
//! run at once.

use crate::support::{
    clients::Client,
    gate::{GateOptions, sandbox},
    servers::{Engine, Server},
};

async fn is_content(client: Client, engine: Engine) {
    let server = tokio::task::block_in_place(|| Server::shared_of(engine));
    let sandbox = sandbox(server).await;
    // Some change to another user: who one is must be left to them.
    let gate = GateOptions::new(server, &sandbox).without("--user").start().await;
    // A packet of more than 16 MiB, which is sent in parts, is slow: once is enough for each client.
    let shown = tokio::task::block_in_place(|| match engine {
        Engine::MySql => client.run(gate.door()),
        Engine::MariaDb | Engine::Postgres => client.run_with_row_of(1 << 20, gate.door()),
    });
    println!("{client:?} on {engine:?}: {} things", shown.len());
    assert_eq!(sandbox.violations(), Vec::<String>::new());
    assert_eq!(sandbox.sessions().len(), 1, "all its connections shared one session");
}

macro_rules! clients {
    ($($name:ident: $client:ident),+ $(,)?) => {
        mod on_mysql {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    is_content(Client::$client, Engine::MySql).await;
                }
            )+
        }

        mod on_mariadb {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    is_content(Client::$client, Engine::MariaDb).await;
                }
            )+
        }

        #[test]
        fn no_client_is_forgotten() {
            let tested = [$(Client::$client),+];
            assert!(Client::MYSQL.iter().all(|client| tested.contains(client)));
        }
    };
}

clients! {
    pymysql_is_content: PyMySql,
    mysqlclient_is_content: PythonMysqlclient,
    connector_python_is_content: ConnectorPython,
    asyncmy_is_content: Asyncmy,
    node_mysql2_is_content: MySql2,
    node_mariadb_is_content: MariaDbNode,
    mariadb_connector_j_is_content: MariaDbJava,
    mariadb_command_line_is_content: MariaDbCommand,
    mysql_command_line_is_content: MySqlCommand,
    php_is_content: Php,
}
