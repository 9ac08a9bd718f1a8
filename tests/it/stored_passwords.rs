//! Logins with a password of Secrets Manager or of a command, at real servers of each engine.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use mysql_async::{ChangeUserOpts, Conn, prelude::Queryable as _};
use sandbox::{Database, Failure, Operation, Sandbox, StoredSecret};
use tokio::{sync::Notify, time::timeout};

use crate::support::{
    driver::within,
    gate::{Gate, GateOptions, PATIENCE, Ran, mariadb, sandbox, sandbox_with},
    refusal::Refusal,
    servers::{Engine, Options, Server},
};

const SECRET: &str = "prod/orders";
const PASSWORD: &str = "Hu$h \"quoted\" \\ pässwörd";

/// A gate that logs in with the secret, as the user in it.
fn options(server: &Server, sandbox: &Sandbox) -> GateOptions {
    GateOptions::new(server, sandbox).without("--user").flag("--secret", SECRET)
}

/// Runs a statement as a client that names `user`, or its default.
async fn ask(server: &Server, gate: &Gate, sql: &str) -> Ran {
    if server.engine == Engine::Postgres { gate.psql(sql).await } else { mariadb(gate, &["-e", sql]).await }
}

fn fetches(sandbox: &Sandbox) -> usize {
    sandbox.calls().iter().filter(|call| call.operation == Operation::GetSecretValue).count()
}

/// Makes a user with a password; `how` is what the engine says of its form.
/// Users for each form in which a server asks for a password, with the method or plugin of each.
const FORMS: [(Engine, &[(&str, &str)]); 3] = [
    (Engine::Postgres, &[("scram_user", "scram-sha-256"), ("md5_user", "md5"), ("plain_user", "scram-sha-256")]),
    (Engine::MariaDb, &[("native_user", "mysql_native_password"), ("ed_user", "ed25519")]),
    (Engine::MySql, &[("sha2_user", "caching_sha2_password"), ("sha256_user", "sha256_password")]),
];

/// A server of its own that knows the plugins of [`FORMS`].
fn server_of(engine: Engine) -> Server {
    let server = Server::start(&Options { engine, ..Options::default() });
    if engine == Engine::MariaDb {
        server.admin("install soname 'auth_ed25519'");
    }
    server
}

fn create_user(server: &Server, user: &str, how: &str, password: &str) {
    let password = password.replace('\\', if server.engine == Engine::Postgres { "\\" } else { "\\\\" });
    match server.engine {
        Engine::Postgres => {
            server.admin(&format!("set password_encryption = '{how}'; create role {user} login password '{password}'"));
        }
        Engine::MariaDb => {
            server.admin(&format!(
                "create user {user} identified via {how} using password('{password}'); grant all on appdb.* to {user}"
            ));
        }
        Engine::MySql => {
            server.admin(&format!(
                "create user {user} identified with {how} by '{password}'; grant all on appdb.* to {user}"
            ));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn password_of_a_secret_serves_each_form_that_servers_ask_for() {
    for (engine, users) in FORMS {
        let server = server_of(engine);
        for (user, how) in users {
            create_user(&server, user, how, PASSWORD);
            let sandbox = sandbox(&server).await;
            sandbox.set_secret(SECRET, StoredSecret::login(user, PASSWORD));
            let mut gate = options(&server, &sandbox).start().await;
            gate.user = (*user).into();
            // Twice: caching_sha2_password asks for the password the first time, and knows it the second time.
            for _ in 0..2 {
                let ran = ask(&server, &gate, "select current_user").await;
                assert!(ran.stdout.starts_with(user), "{engine} {how}: {}\n{}", ran.stderr, gate.log());
            }
            assert_eq!(fetches(&sandbox), 1, "{engine} {how}");
            let log = gate.log();
            assert!(log.contains("auth=\"secret\"") && !log.contains("Hu$h") && !log.contains("pässwörd"), "{log}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn password_of_a_secret_is_in_memory_once() {
    // Found in no other place than those of a value that was fetched.
    let password = ["Tr0ub4dor", "stored", "staple"].join("-");
    for (engine, users) in FORMS {
        let server = server_of(engine);
        for (user, how) in users {
            create_user(&server, user, how, &password);
            let sandbox = sandbox(&server).await;
            sandbox.set_secret(SECRET, StoredSecret::login(user, &password));
            let mut gate = options(&server, &sandbox).start().await;
            gate.user = (*user).into();
            for _ in 0..3 {
                let ran = ask(&server, &gate, "select 42").await;
                assert_eq!(ran.stdout, "42", "{engine} {how}: {}\n{}", ran.stderr, gate.log());
            }
            let until = Instant::now() + PATIENCE;
            loop {
                // The buffer of the HTTP client is overwritten soon after the reply.
                let places = gate.in_memory(&password);
                if places.len() == 1 {
                    break;
                }
                assert!(Instant::now() < until, "{engine} {how}: beside the kept value there are {places:#?}");
            }
            assert!(!gate.log().contains(&password), "{engine} {how}: the password is in the log");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn change_of_user_logs_in_with_the_secret_again_and_as_its_user_alone() {
    for (engine, how) in [(Engine::MariaDb, "mysql_native_password"), (Engine::MySql, "caching_sha2_password")] {
        let server = Server::start(&Options { engine, ..Options::default() });
        create_user(&server, "changed_user", how, PASSWORD);
        let sandbox = sandbox(&server).await;
        sandbox.set_secret(SECRET, StoredSecret::login("changed_user", PASSWORD));
        let mut gate = options(&server, &sandbox).start().await;
        gate.user = "changed_user".into();
        let mut connection = Conn::new(gate.door().for_mysql_async()).await.expect("it logs in");
        within("mark", connection.query_drop("set @mark = 1")).await.expect("ok");
        within("change user", connection.change_user(ChangeUserOpts::default())).await.expect("ok");
        let (user, mark): (String, Option<u8>) =
            within("query", connection.query_first("select current_user(), @mark")).await.expect("ok").expect("a row");
        assert_eq!((user.as_str(), mark), ("changed_user@%", None), "{engine}");
        let other = ChangeUserOpts::default().with_user(Some("legacy_user".into()));
        let refused = within("refused", connection.change_user(other)).await.expect_err("another user");
        assert!(refused.to_string().contains("serves the database user \"changed_user\" only"), "{engine}: {refused}");
        assert_eq!(fetches(&sandbox), 1, "{engine}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn client_without_a_name_gets_the_user_of_the_secret_and_another_name_is_refused() {
    let server = Server::shared();
    let sandbox = sandbox(server).await;
    sandbox.set_secret(SECRET, StoredSecret::login("legacy_user", "legacypass"));
    let mut gate = options(server, &sandbox).start().await;
    let own = std::process::Command::new("id").arg("-un").output().expect("id is there").stdout;
    gate.user = String::from_utf8_lossy(&own).trim().to_owned();
    assert_eq!(gate.query("select current_user").await, "legacy_user");
    gate.user = "readonly".into();
    let refusal = Refusal::of_psql(gate.psql_command()).await;
    refusal.contains("this listener serves the database user \"legacy_user\" only", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_share_one_fetch() {
    let server = Server::shared();
    let sandbox = sandbox(server).await;
    sandbox.set_secret(SECRET, StoredSecret::login("legacy_user", "legacypass"));
    let gate = options(server, &sandbox).flag("--user", "legacy_user").start().await;
    let asked = futures_util::future::join_all((0..20).map(|_| gate.psql("select 1"))).await;
    assert!(asked.iter().all(|ran| ran.stdout == "1"), "{}", gate.log());
    assert_eq!(fetches(&sandbox), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn secret_of_the_master_user_and_password_command_are_sources_too() {
    let server = Server::shared();
    let host = server.rds_host.clone();
    let sandbox = sandbox_with(server, |mut options| {
        for database in options.databases.iter_mut().filter(|database: &&mut Database| database.host == host) {
            database.master_secret = Some("rds!db-1".into());
        }
        options
    })
    .await;
    sandbox.set_secret("rds!db-1", StoredSecret::login("legacy_user", "legacypass"));
    let mut gate = options(server, &sandbox).flag("--secret", "rds").start().await;
    gate.user = "legacy_user".into();
    assert_eq!(gate.query("select current_user").await, "legacy_user");
    assert_eq!(fetches(&sandbox), 1);

    let gate = options(server, &sandbox)
        .without("--secret")
        .flag("--password-command", "echo legacypass")
        .flag("--user", "legacy_user")
        .start()
        .await;
    assert_eq!(gate.query("select current_user").await, "legacy_user");
    assert!(!gate.log().contains("legacypass"), "{}", gate.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn secret_that_cannot_be_used_is_explained() {
    let server = Server::shared();
    let sandbox = sandbox(server).await;
    let mut gate = options(server, &sandbox).start().await;
    gate.user = "legacy_user".into();
    let refusal = async || Refusal::of_psql(gate.psql_command()).await;
    refusal().await.contains("the secret prod/orders: it does not exist in", "--secret, the profile and the region");
    sandbox.set_secret(SECRET, StoredSecret::new("{\"username\":\"legacy_user\"}"));
    refusal().await.contains("its JSON object has no key `password`", "--secret, the profile and the region");
    sandbox.set_secret(SECRET, StoredSecret { binary: true, ..StoredSecret::new("aGk=") });
    refusal().await.contains("it is binary, not text", "--secret, the profile and the region");
    sandbox.fail(Operation::GetSecretValue, Failure::AccessDenied, None);
    refusal().await.contains("access denied", "secretsmanager:GetSecretValue on the secret in the IAM policy");
    sandbox.heal(Operation::GetSecretValue);
    sandbox.set_secret(SECRET, StoredSecret::login("legacy_user", "legacypass"));
    assert_eq!(gate.query("select current_user").await, "legacy_user");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_password_is_sent_to_the_server_once() {
    let server = Server::start(&Options::default());
    let sandbox = sandbox(&server).await;
    sandbox.set_secret(SECRET, StoredSecret::login("legacy_user", "wrong"));
    let mut gate = options(&server, &sandbox).start().await;
    gate.user = "legacy_user".into();
    let first = Refusal::of_psql(gate.psql_command()).await;
    first.contains("password authentication failed for user \"legacy_user\"", "Compare the secret");
    for _ in 0..3 {
        let next = Refusal::of_psql(gate.psql_command()).await;
        next.contains(
            "the database refused the password from the secret prod/orders a moment ago",
            "Compare the secret",
        );
    }
    let log = std::fs::read_to_string(&server.server_log).expect("the server logs");
    assert_eq!(log.matches("password authentication failed for user \"legacy_user\"").count(), 1, "{log}");
    // A new value is used at once.
    sandbox.set_secret(SECRET, StoredSecret::login("legacy_user", "legacypass"));
    assert_eq!(gate.query("select current_user").await, "legacy_user");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_fails_while_the_secret_is_rotated() {
    for engine in [Engine::Postgres, Engine::MySql] {
        let server = Server::start(&Options { engine, ..Options::default() });
        let how = if engine == Engine::Postgres { "scram-sha-256" } else { "caching_sha2_password" };
        create_user(&server, "rotated", how, "first");
        let alter = |password: &str| {
            server.admin(&match engine {
                Engine::Postgres => format!("alter role rotated password '{password}'"),
                _ => format!("alter user rotated identified by '{password}'"),
            })
        };
        let sandbox = sandbox(&server).await;
        sandbox.set_secret(SECRET, StoredSecret::login("rotated", "first"));
        let mut gate = options(&server, &sandbox).usual_sessions().start().await;
        gate.user = "rotated".into();
        let (stop, answered, progress) = (AtomicBool::new(false), AtomicUsize::new(0), Arc::new(Notify::new()));
        let client = async || {
            while !stop.load(Ordering::Relaxed) {
                let ran = ask(&server, &gate, "select 42").await;
                assert_eq!(ran.stdout, "42", "{engine}: {}\n{}", ran.stderr, gate.log());
                answered.fetch_add(1, Ordering::Relaxed);
                progress.notify_one();
            }
        };
        let more = async |logins: usize| {
            let until = answered.load(Ordering::Relaxed) + logins;
            while answered.load(Ordering::Relaxed) < until {
                timeout(PATIENCE, progress.notified()).await.expect("clients connect");
            }
        };
        let rotation = async {
            for password in ["second", "third"] {
                more(6).await;
                assert!(sandbox.change_secret(SECRET, |secret| secret.begin_rotation("rotated", password)));
                more(6).await;
                alter(password);
                more(12).await;
                assert!(sandbox.change_secret(SECRET, StoredSecret::finish_rotation));
                more(6).await;
            }
            stop.store(true, Ordering::Relaxed);
        };
        tokio::join!(client(), client(), client(), rotation);
        // Each rotation costs two calls, and at most two rounds of them for each client that meets the refusal.
        assert!(fetches(&sandbox) <= 1 + 2 * 3 * 4, "{engine}: {}", fetches(&sandbox));
        assert!(!gate.log().contains("second\"") && !gate.log().contains("third\""));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_logs_in_with_the_secret() {
    let server = Server::shared();
    let sandbox = sandbox(server).await;
    sandbox.set_secret(SECRET, StoredSecret::login("legacy_user", "legacypass"));
    let doctor = || options(server, &sandbox).verb("doctor").without("--listen");
    let ran = doctor().run().await;
    assert!(ran.stdout.contains("as legacy_user"), "{}\n{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("the password from the secret prod/orders"), "{}", ran.stdout);
    sandbox.set_secret(SECRET, StoredSecret::login("legacy_user", "wrong-password"));
    let ran = doctor().run().await;
    let said = ran.stdout + &ran.stderr;
    assert!(said.contains("is not that of the user") && !said.contains("wrong-password"), "{said}");
    sandbox.fail(Operation::GetSecretValue, Failure::AccessDenied, None);
    let ran = doctor().run().await;
    assert!((ran.stdout + &ran.stderr).contains("secretsmanager:GetSecretValue"));
}
