//! Clients that prove to rdsgate that they know its local password, before anything happens upstream.

use std::path::{Path, PathBuf};

use sandbox::Sandbox;
use tokio::process::Command;

use crate::support::{
    clients::{Client, npm_packages, python},
    gate::{Gate, GateOptions, PATIENCE, Ran, sandbox},
    servers::{Engine, PgServer, Server},
};

/// The hint for a client without the local password, which may be anyone.
const HINT: &str =
    "Use rdsgate's local password, not the database's. The user that runs rdsgate finds it with: rdsgate password.";

/// A local password in a file of its own.
struct Local {
    folder: tempfile::TempDir,
    file: PathBuf,
    password: String,
}

impl Local {
    /// Made by the program, as a user would make it.
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("there is room for temporary files");
        let file = folder.path().join("password");
        let made = password_command(&file, &[]).await;
        assert_eq!(made.stdout, file.display().to_string(), "{}", made.stderr);
        let shown = password_command(&file, &["--show"]).await;
        assert_eq!((shown.stdout.len(), shown.stderr.as_str()), (32, ""));
        assert!(!made.stderr.contains(&shown.stdout));
        Self { folder, file, password: shown.stdout }
    }

    fn folder(&self) -> String {
        self.folder.path().display().to_string()
    }

    fn gate(&self, server: &Server, sandbox: &Sandbox) -> GateOptions {
        GateOptions::new(server, sandbox).flag("--local-password-file", &self.file.display().to_string())
    }
}

async fn password_command(file: &Path, more: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rdsgate"));
    command.args(["password", "--file"]).arg(file).args(more);
    Ran::of(&mut command, PATIENCE).await
}

/// psql with this password, which asks for none.
async fn psql(gate: &Gate, password: Option<&str>) -> Ran {
    let mut psql = gate.psql_command();
    psql.args(["-w", "-c", "select current_user"]).envs(password.map(|password| ("PGPASSWORD", password)));
    Ran::of(&mut psql, PATIENCE).await
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_postgresql_prove_that_they_know_the_local_password() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let local = Local::new().await;
    let mut gate = local.gate(server, &sandbox).start().await;
    let none = psql(&gate, None).await;
    assert!(none.stderr.contains("fe_sendauth: no password supplied"), "{}", none.stderr);
    for wrong in [&local.password[1..], "x", &"x".repeat(1000)] {
        let refused = psql(&gate, Some(wrong)).await;
        let message = "FATAL:  password authentication failed for user \"app_user\"; use rdsgate's local password";
        assert!(refused.stderr.contains(message) && refused.stderr.ends_with(HINT), "{}", refused.stderr);
        let tells = refused.stderr.contains("DETAIL") || refused.stderr.contains(&local.folder());
        assert!(!tells, "a client without the password learns nothing: {}", refused.stderr);
    }
    assert_eq!(sandbox.sessions().len(), 0, "nothing was done for them");
    let right = psql(&gate, Some(&local.password)).await;
    assert_eq!((right.stdout.as_str(), right.stderr.as_str()), ("app_user", ""), "{}", gate.log());
    let said = |log: &str| log.contains("password authentication failed for user") && log.contains("user=\"app_user\"");
    assert!(gate.until(said).await, "{}", gate.log());
    let log = gate.log();
    assert!(!log.contains(&local.password) && !log.contains(&local.password[1..]), "a password is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn renewed_password_is_taken_without_a_restart() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let local = Local::new().await;
    let mut gate = local.gate(server, &sandbox).start().await;
    assert_eq!(psql(&gate, Some(&local.password)).await.stdout, "app_user");
    let renewed = password_command(&local.file, &["--renew", "--show"]).await;
    assert_eq!(renewed.stdout.len(), 32, "{}", renewed.stderr);
    let refused = psql(&gate, Some(&local.password)).await;
    assert!(refused.stderr.contains("password authentication failed"), "{}", refused.stderr);
    assert_eq!(psql(&gate, Some(&renewed.stdout)).await.stdout, "app_user", "{}", gate.log());
    assert!(gate.until(|log| log.contains("the local password was read again")).await, "{}", gate.log());
    std::fs::write(&local.file, "short").expect("it is ours");
    assert_eq!(psql(&gate, Some(&renewed.stdout)).await.stdout, "app_user", "the last one stays valid");
    assert!(gate.until(|log| log.contains("the last one stays valid")).await, "{}", gate.log());
    let log = gate.log();
    assert!(!log.contains(&local.password) && !log.contains(&renewed.stdout), "a password is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn drivers_of_postgresql_work_with_the_local_password() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let local = Local::new().await;
    let gate = local.gate(server, &sandbox).start().await;
    for client in [Client::Psycopg, Client::Asyncpg, Client::Node, Client::Java, Client::Psql] {
        let run = || client.run_with_password(&local.password, 1 << 20, gate.door());
        assert!(!tokio::task::block_in_place(run).is_empty(), "{client:?}");
    }
    assert_eq!(sandbox.violations(), Vec::<String>::new());
}

/// The command line of the engine with this password.
async fn mysql(server: &Server, gate: &Gate, password: Option<&str>) -> Ran {
    let mut client = Command::new(&server.client);
    let no_tls = if server.engine == Engine::MariaDb { "--skip-ssl" } else { "--ssl-mode=DISABLED" };
    let port = gate.port.to_string();
    client
        .args(["--no-defaults", no_tls, "-BN", "-h", "127.0.0.1", "-P", &port, "-u", "app_user", "-D", "appdb"])
        .args(["-e", "select substring_index(user(), '@', 1)"])
        .envs(password.map(|password| ("MYSQL_PWD", password)));
    Ran::of(&mut client, PATIENCE).await
}

/// mysql2 of npm.
async fn mysql2(gate: &Gate, password: &str) -> Ran {
    let modules = tokio::task::block_in_place(|| npm_packages("node"));
    let script = "const mysql = require('mysql2/promise'); (async () => { const db = await mysql.createConnection({ \
                  host: '127.0.0.1', port: Number(process.argv[1]), user: 'app_user', password: process.argv[2], \
                  database: 'appdb' }); const [[row]] = await db.query('select 42 as n'); const id = db.connection.threadId; \
                  const killed = await db.query(`kill query ${id}`).catch(error => error.code); \
                  console.log(row.n, id > 4e9, killed); await db.changeUser({ user: 'readonly', password: process.argv[2] }); await db.end(); })()\
                  .catch(error => { console.error(error.code); process.exit(1); })";
    let mut node = Command::new("node");
    node.env("NODE_PATH", modules).args(["-e", script, &gate.port.to_string(), password]);
    Ran::of(&mut node, PATIENCE).await
}

async fn clients_of_mysql(engine: Engine) {
    let server = tokio::task::block_in_place(|| Server::shared_of(engine));
    let sandbox = sandbox(server).await;
    let local = Local::new().await;
    let mut gate = local.gate(server, &sandbox).start().await;
    assert!(gate.until(|log| log.contains("ended an unused spare connection")).await, "it has heard the greeting");
    let streams = || sandbox.sessions().iter().map(|session| session.streams).sum::<u64>();
    let before = streams();
    for (wrong, given) in [(None, "NO"), (Some("x"), "YES"), (Some(&local.password[1..]), "YES")] {
        let refused = mysql(server, &gate, wrong).await;
        let message =
            format!("ERROR 1045 (28000): Access denied for user 'app_user'@'127.0.0.1' (using password: {given})");
        assert!(refused.stderr.contains(&message) && refused.stderr.contains(HINT), "{}", refused.stderr);
        assert!(!refused.stderr.contains(&local.folder()), "it learns nothing else: {}", refused.stderr);
    }
    assert_eq!(mysql2(&gate, "wrong").await.stderr, "ER_ACCESS_DENIED_ERROR");
    assert_eq!(streams(), before, "nothing was done for them");
    let right = mysql(server, &gate, Some(&local.password)).await;
    assert_eq!((right.stdout.as_str(), right.stderr.as_str()), ("app_user", ""), "{}", gate.log());
    let right = mysql2(&gate, &local.password).await;
    let expected = "42 true ER_NO_SUCH_THREAD";
    assert_eq!((right.stdout.as_str(), right.stderr.as_str()), (expected, ""), "{}", gate.log());
    let output = tokio::task::block_in_place(|| {
        let mut drivers = python("mysql_passwords.py");
        drivers.args(["127.0.0.1", &gate.port.to_string(), "appdb", "app_user", "readonly"]);
        drivers.env("MYSQL_PWD", &local.password).output().expect("it is installed")
    });
    let [shown, error] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success() && shown.lines().count() == 9, "{engine}: {shown}{error}\n{}", gate.log());
    if engine == Engine::MySql {
        let errors = server.admin("select coalesce(sum(count_handshake_errors), 0) from performance_schema.host_cache");
        assert_eq!(errors, "0", "no handshake was broken off");
    }
    assert!(!gate.log().contains(&local.password), "the password is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_mysql_prove_that_they_know_the_local_password() {
    clients_of_mysql(Engine::MySql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_mariadb_prove_that_they_know_the_local_password() {
    clients_of_mysql(Engine::MariaDb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn program_beside_rdsgate_needs_no_local_password_or_is_given_it() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let local = Local::new().await;
    let options = || local.gate(server, &sandbox).verb("psql");
    for options in [options().without("--listen"), options()] {
        let ran = options.argument("--").argument("-XAt").argument("-wc").argument("select 42").run().await;
        assert_eq!(ran.stdout, "42\n", "{}", ran.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn address_that_takes_a_password_is_refused_before_credentials_are_missed() {
    let mut up = Command::new(env!("CARGO_BIN_EXE_rdsgate"));
    up.args(["up", "orders-db", "--listen", "0.0.0.0:0", "--region", "eu-central-1"]);
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    up.env_clear().env("HOME", "/proc/nonexistent").env("AWS_EC2_METADATA_DISABLED", "true").current_dir(folder.path());
    let ran = Ran::of(&mut up, PATIENCE).await;
    let said = "listens on 0.0.0.0:0, which is not a loopback address";
    assert!(ran.stderr.contains(said) && !ran.stderr.contains("credentials"), "{}", ran.stderr);
    assert_eq!(ran.status.code(), Some(2), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn file_that_others_can_read_keeps_the_target_from_being_served() {
    use std::os::unix::fs::PermissionsExt as _;
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let local = Local::new().await;
    std::fs::set_permissions(&local.file, std::fs::Permissions::from_mode(0o644)).expect("it is ours");
    let ran = local.gate(server, &sandbox).run().await;
    assert_eq!(ran.status.code(), Some(2), "{}", ran.stderr);
    let path = local.file.display();
    let said = format!("the local password in {path} is not secret: others have access to the file (mode 0644)");
    assert!(ran.stderr.contains(&said) && ran.stderr.contains(&format!("chmod 600 {path}")), "{}", ran.stderr);
    let before = password_command(&local.file, &["--renew"]).await;
    assert!(before.status.success(), "{}", before.stderr);
    assert_ne!(password_command(&local.file, &["--show"]).await.stdout, local.password);
}
