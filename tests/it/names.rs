//! The user and the database of clients that name them, that name none, and that send the names of the operating system.

use mysql_async::{ChangeUserOpts, Conn, Error, prelude::Queryable};
use tokio::process::Command;

use crate::{
    mysql::mariadb,
    support::{
        driver::within,
        gate::{Gate, GateOptions, Ran, sandbox},
        refusal::{Wire, field},
        servers::{Engine, PgServer, Server},
    },
};

/// psql with these arguments for user and database, asking who it is and where.
async fn psql(gate: &Gate, arguments: &[&str], options: Option<&str>) -> Ran {
    let mut psql = Command::new("psql");
    psql.args(["-XAt", "-h", "localhost", "-p", &gate.port.to_string()]).args(arguments);
    psql.args(["-c", "select current_user || ' ' || current_database()"]);
    psql.env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs(options.map(|text| ("PGOPTIONS", text)));
    let output = within("psql", psql.kill_on_drop(true).output()).await.expect("psql is installed");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    Ran { status: output.status, stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_gets_the_user_and_the_database_that_it_names() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let gate = Gate::start(server, &sandbox).await;
    for (arguments, got, noticed) in [
        (&[][..], "app_user appdb", "as user \"app_user\" to database \"appdb\""),
        (&["-d", "postgres"], "app_user postgres", "as user \"app_user\", as configured"),
        (&["-U", "app_user"], "app_user appdb", "to database \"appdb\""),
        (&["-U", "readonly"], "readonly appdb", "to database \"appdb\""),
        (&["-U", "readonly", "-d", "appdb"], "readonly appdb", ""),
        (&["-U", "readonly", "-d", "postgres"], "readonly postgres", ""),
        (&["-U", "app_user", "-d", "appdb"], "app_user appdb", ""),
    ] {
        let ran = psql(&gate, arguments, None).await;
        assert_eq!(ran.stdout, got, "{arguments:?}: {}\n{}", ran.stderr, gate.log());
        assert_eq!(
            ran.stderr.contains("NOTICE:  rdsgate connected you"),
            !noticed.is_empty(),
            "{arguments:?}: {}",
            ran.stderr
        );
        assert!(ran.stderr.contains(noticed), "{arguments:?}: {}", ran.stderr);
    }
    let quiet = psql(&gate, &[], Some("-c client_min_messages=warning")).await;
    assert_eq!((&*quiet.stdout, &*quiet.stderr), ("app_user appdb", ""));
    let absent = psql(&gate, &["-U", "no_such_user"], None).await;
    assert!(absent.stderr.contains("no_such_user"), "{}", absent.stderr);
    assert!(absent.stderr.contains("as the client asks (configured: app_user)"), "{}", absent.stderr);
    gate.says("the client named no user or database of its own").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_user_is_the_only_one_that_postgresql_clients_get() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let gate = GateOptions::new(server, &sandbox).argument("--pin-user").start().await;
    let refused = psql(&gate, &["-U", "readonly"], None).await;
    let message = "this listener serves the database user \"app_user\" only, and the client asks for \"readonly\"";
    assert!(refused.stderr.contains(message), "{}", refused.stderr);
    assert!(refused.stderr.contains("HINT:  Connect as \"app_user\", or remove pin_user"), "{}", refused.stderr);
    let by_hand = Wire::connect(gate.port).await.start(&[("user", "readonly")]).await.refusal().await;
    assert_eq!(field(&by_hand, 'C'), "28000");
    for arguments in [&[][..], &["-U", "app_user"]] {
        assert_eq!(psql(&gate, arguments, None).await.stdout, "app_user appdb", "{}", gate.log());
    }
}

/// mariadb without a user of its own, as the configured user and as another.
async fn mysql_clients_get_what_they_name(engine: Engine) {
    let server = tokio::task::block_in_place(|| Server::shared_of(engine));
    let sandbox = sandbox(server).await;
    let gate = Gate::start(server, &sandbox).await;
    let pinned = GateOptions::new(server, &sandbox).argument("--pin-user").start().await;
    let who = ["-e", "select current_user(), database()"];
    let os_user = std::process::Command::new("id").arg("-un").output().expect("id runs");
    let os_user = String::from_utf8(os_user.stdout).expect("a name");
    for (user, got) in
        [("app_user", "app_user@%"), ("readonly", "readonly@%"), (os_user.trim(), "app_user@%"), ("ODBC", "app_user@%")]
    {
        let ran = mariadb(&gate, &[&["-u", user][..], &who].concat()).await;
        assert_eq!(ran.stdout, format!("{got}\tappdb"), "{engine:?} {user}: {}\n{}", ran.stderr, gate.log());
    }
    let ran = mariadb(&gate, &[&["-D", "information_schema"][..], &who].concat()).await;
    assert_eq!(ran.stdout, "app_user@%\tinformation_schema", "{engine:?}: {}", ran.stderr);
    let refused = mariadb(&pinned, &[&["-u", "readonly"][..], &who].concat()).await;
    assert!(refused.stderr.contains("ERROR 1045 (28000)"), "{engine:?}: {}", refused.stderr);
    assert!(refused.stderr.contains("serves the database user \"app_user\" only"), "{engine:?}: {}", refused.stderr);

    for (gate, changed) in [(&gate, true), (&pinned, false)] {
        let mut connection = within("connect", Conn::new(gate.door().for_mysql_async())).await.expect("ok");
        let change = ChangeUserOpts::default().with_user(Some("readonly".into())).with_db_name(Some("appdb".into()));
        match within("change", connection.change_user(change)).await {
            Ok(()) => {
                let user: Option<String> =
                    within("who", connection.query_first("select current_user()")).await.expect("ok");
                assert_eq!(user.as_deref(), Some("readonly@%"), "{engine:?}");
                assert!(changed, "{engine:?}");
            }
            Err(Error::Server(error)) => {
                assert_eq!((error.code, changed), (1045, false), "{engine:?}: {}", error.message);
            }
            Err(error) => panic!("{engine:?}: {error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_gives_clients_the_user_that_they_name() {
    mysql_clients_get_what_they_name(Engine::MariaDb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_gives_clients_the_user_that_they_name() {
    mysql_clients_get_what_they_name(Engine::MySql).await;
}
