//! Logins with the client's own password, which passes through to the database.

use std::{fs, io::Read as _, io::Seek as _, process::Stdio};

use sandbox::{Operation, Sandbox};
use tokio::{process::Command, time::timeout};

use crate::support::{
    clients::{Client, Door, python},
    gate::{CREDENTIALS, Gate, GateOptions, PATIENCE, Ran, sandbox},
    servers::{Engine, PgOptions, PgServer, Server},
};

/// The password of every user here. It is not in the sources of anything that a process of ours may have in memory.
fn password() -> String {
    ["Tr0ub4dor", "correct", "horse"].join("-")
}

/// Everything that there is to log.
const EVERYTHING: &str = "trace,rdsgate=trace,rustls=trace";

/// Users by their methods, which `tests/servers/pg-run` gives to these names.
const POSTGRES_USERS: [(&str, &str); 3] =
    [("scram_user", "scram-sha-256"), ("md5_user", "md5"), ("plain_user", "scram-sha-256")];

fn postgres() -> &'static PgServer {
    static MADE: std::sync::Once = std::sync::Once::new();
    let server = PgServer::shared();
    MADE.call_once(|| {
        for (user, stored) in POSTGRES_USERS {
            let password = password();
            server.admin(&format!(
                "SET password_encryption = '{stored}'; CREATE ROLE {user} LOGIN PASSWORD '{password}'; \
                 GRANT ALL ON DATABASE appdb TO {user};"
            ));
        }
    });
    server
}

fn options(server: &PgServer, sandbox: &Sandbox) -> GateOptions {
    GateOptions::new(server, sandbox).without("--user").flag("--auth", "password").env("RDSGATE_LOG", EVERYTHING)
}

/// psql as this user, who is asked for nothing.
async fn psql(gate: &Gate, user: &str, password: Option<&str>) -> Ran {
    let mut psql = Command::new("psql");
    let port = gate.port.to_string();
    psql.args(["-X", "-At", "-w", "-h", "localhost", "-p", &port, "-U", user, "appdb", "-c", "select current_user"])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("LC_ALL", "C.UTF-8")
        .envs(password.map(|password| ("PGPASSWORD", password)))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(PATIENCE, psql.output()).await.expect("psql hangs").expect("psql is installed");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    Ran { status: output.status, stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// How often the readable memory of a process holds this text.
fn in_memory(pid: u32, text: &str) -> usize {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("it runs, and is ours");
    let mut memory = fs::File::open(format!("/proc/{pid}/mem")).expect("it is ours");
    let readable = maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|rights| rights.starts_with("rw")));
    let mut found = 0;
    for line in readable {
        let (from, to) = line.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
        let [from, to] = [from, to].map(|end| u64::from_str_radix(end, 16).expect("hexadecimal"));
        let mut bytes = vec![0; usize::try_from(to - from).expect("it is mapped")];
        // Some ranges are the kernel's.
        if memory.seek(std::io::SeekFrom::Start(from)).is_ok() && memory.read_exact(&mut bytes).is_ok() {
            found += bytes.windows(text.len()).filter(|window| *window == text.as_bytes()).count();
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_of_postgresql_takes_the_clients_password() {
    let server = postgres();
    let sandbox = sandbox(server).await;
    let gate = options(server, &sandbox).start().await;
    let right = password();
    for (user, _) in POSTGRES_USERS {
        let ran = psql(&gate, user, Some(&right)).await;
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), (user, ""), "{}", gate.log());
        let ran = psql(&gate, user, Some("wrong")).await;
        let refusal = format!("FATAL:  password authentication failed for user \"{user}\"\nDETAIL:");
        assert!(ran.stderr.contains(&refusal) && ran.stderr.contains("HINT:  Check the password"), "{}", ran.stderr);
        let ran = psql(&gate, user, None).await;
        assert!(ran.stderr.contains("fe_sendauth: no password supplied"), "{}", ran.stderr);
    }
    // A member of rds_iam.
    let ran = psql(&gate, "app_user", Some(&right)).await;
    assert!(ran.stderr.contains("leave out --auth password"), "{}", ran.stderr);
    let log = gate.log();
    assert!(log.contains("auth=\"password\"") && !log.contains("token_length"), "{log}");
    assert!(!log.contains(&right), "the password is in the log");
    assert_eq!(in_memory(gate.pid(), &right), 0, "the password is in memory");
    assert!(in_memory(gate.pid(), &server.rds_host) > 0, "the memory can be read");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_token_names_the_password_as_another_way() {
    let server = postgres();
    let sandbox = sandbox(server).await;
    let gate = GateOptions::new(server, &sandbox).without("--user").start().await;
    let ran = psql(&gate, "scram_user", Some(&password())).await;
    assert!(ran.stderr.contains("--auth password"), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn direct_route_with_a_password_asks_aws_for_nothing() {
    let hosts = vec!["db.c1pass.eu-central-1.rds.amazonaws.com".into(), "localhost".into()];
    let server = PgServer::start(&PgOptions { hosts, ..PgOptions::default() });
    server.admin(&format!("CREATE ROLE scram_user LOGIN PASSWORD '{}'", password()));
    let sandbox = sandbox(&server).await;
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let file = folder.path().join("rdsgate.toml");
    let (port, region) = (server.addr.port(), &server.region);
    // One label makes no target on the command line.
    let text = format!(
        "[targets.here]\nhost = 'localhost:{port}'\nengine = 'postgres'\nregion = '{region}'\nvia = 'direct'\n\
         auth = 'password'\nca_file = '{}'\n",
        server.ca.display()
    );
    fs::write(&file, text).expect("the folder is ours");
    let options = GateOptions::bare(&sandbox).flag("--config", &file.display().to_string());
    let options = CREDENTIALS.into_iter().fold(options, GateOptions::without_env);
    let options = options.flag("--listen", "localhost:0").env("AWS_EC2_METADATA_DISABLED", "true");
    let gate = options.start().await;
    let ran = psql(&gate, "scram_user", Some(&password())).await;
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("scram_user", ""), "{}", gate.log());
    let calls: Vec<Operation> = sandbox.calls().iter().map(|call| call.operation).collect();
    assert!(calls.is_empty(), "{calls:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn drivers_of_postgresql_log_in_with_their_password() {
    let server = postgres();
    let sandbox = sandbox(server).await;
    let gate = options(server, &sandbox).start().await;
    let right = password();
    for client in [Client::Psycopg, Client::Asyncpg, Client::Node, Client::Psql] {
        for user in ["scram_user", "md5_user"] {
            let door = Door { user, ..gate.door() };
            let shown = tokio::task::block_in_place(|| client.run_with_password(&right, 1 << 20, door));
            assert!(!shown.is_empty(), "{client:?} as {user}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_goes_as_far_as_the_request_for_a_password() {
    let server = postgres();
    let sandbox = sandbox(server).await;
    let doctor = GateOptions::new(server, &sandbox).without("--listen").verb("doctor").flag("--auth", "password");
    let ran = doctor.flag("--user", "scram_user").run().await;
    assert_eq!(ran.status.code(), Some(0), "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("clients log in with a password of their own"), "{}", ran.stdout);
}

/// A server with users of these plugins.
fn mysql(engine: Engine) -> &'static Server {
    static MADE: [std::sync::Once; 2] = [const { std::sync::Once::new() }; 2];
    let server = Server::shared_of(engine);
    let (made, plugins) = match engine {
        Engine::MySql => {
            (&MADE[0], &[("sha2_user", "caching_sha2_password"), ("other_user", "caching_sha2_password")][..])
        }
        _ => (
            &MADE[1],
            &[
                ("native_user", "mysql_native_password"),
                ("other_user", "mysql_native_password"),
                ("ed_user", "ed25519"),
            ][..],
        ),
    };
    made.call_once(|| {
        for (user, plugin) in plugins {
            let password = password();
            let identified = match engine {
                Engine::MySql => format!("IDENTIFIED WITH {plugin} BY '{password}'"),
                _ => format!("IDENTIFIED VIA {plugin} USING PASSWORD('{password}')"),
            };
            if *plugin == "ed25519" {
                server.admin("INSTALL SONAME 'auth_ed25519'");
            }
            server.admin(&format!("CREATE USER {user} {identified}; GRANT ALL ON appdb.* TO {user};"));
        }
    });
    server
}

/// The engine's own command line as this user.
async fn mysql_cli(server: &Server, gate: &Gate, user: &str, password: &str, more: &[&str]) -> Ran {
    let mut client = Command::new(&server.client);
    let no_tls = if server.engine == Engine::MariaDb { "--skip-ssl" } else { "--ssl-mode=DISABLED" };
    client
        .args([
            "--no-defaults",
            no_tls,
            "-BN",
            "-h",
            "127.0.0.1",
            "-P",
            &gate.port.to_string(),
            "-u",
            user,
            "-D",
            "appdb",
        ])
        .args(["-e", "select substring_index(user(), '@', 1)"])
        .args(more)
        .env("MYSQL_PWD", password)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(PATIENCE, client.output()).await.expect("the client hangs").expect("the script named it");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    Ran { status: output.status, stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_of_mariadb_take_the_clients_password() {
    let server = mysql(Engine::MariaDb);
    let sandbox = sandbox(server).await;
    let gate = options(server, &sandbox).start().await;
    let right = password();
    for user in ["native_user", "ed_user"] {
        let ran = mysql_cli(server, &gate, user, &right, &[]).await;
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), (user, ""), "{}", gate.log());
        let ran = mysql_cli(server, &gate, user, "wrong", &[]).await;
        let refusal = format!("ERROR 1045 (28000): Access denied for user '{user}'@");
        assert!(ran.stderr.contains(&refusal) && ran.stderr.contains("Hint: Check the password"), "{}", ran.stderr);
    }
    assert!(!gate.log().contains(&right), "the password is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn password_that_mysql_does_not_know_yet_is_encrypted_for_a_key_of_ours() {
    let server = mysql(Engine::MySql);
    let sandbox = sandbox(server).await;
    let gate = options(server, &sandbox).start().await;
    let (user, right, key) = ("sha2_user", password(), "--get-server-public-key");
    server.admin("FLUSH PRIVILEGES");
    let ran = mysql_cli(server, &gate, user, &right, &[]).await;
    assert!(ran.stderr.contains("Authentication requires secure connection"), "{}", ran.stderr);
    let ran = mysql_cli(server, &gate, user, "wrong", &[key]).await;
    assert!(ran.stderr.contains("ERROR 1045 (28000): Access denied for user 'sha2_user'@"), "{}", ran.stderr);
    for more in [&[key][..], &[]] {
        let ran = mysql_cli(server, &gate, user, &right, more).await;
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), (user, ""), "{}", gate.log());
    }
    let errors = server.admin("select coalesce(sum(count_handshake_errors), 0) from performance_schema.host_cache");
    assert_eq!(errors, "0", "a client that leaves breaks no handshake off");
    assert!(!gate.log().contains(&right), "the password is in the log");
    assert_eq!(in_memory(gate.pid(), &right), 0, "the password is in memory");
}

#[tokio::test(flavor = "multi_thread")]
async fn drivers_of_mysql_log_in_and_change_their_user_with_a_password() {
    for (engine, user, other) in
        [(Engine::MariaDb, "native_user", "other_user"), (Engine::MySql, "sha2_user", "other_user")]
    {
        let server = mysql(engine);
        let sandbox = sandbox(server).await;
        let gate = options(server, &sandbox).start().await;
        if engine == Engine::MySql {
            // Whom the server knows needs no key, which not every driver asks for.
            for known in [user, other] {
                let ran = mysql_cli(server, &gate, known, &password(), &["--get-server-public-key"]).await;
                assert_eq!(ran.stdout, known, "{}", ran.stderr);
            }
        }
        let output = tokio::task::block_in_place(|| {
            let mut drivers = python("mysql_passwords.py");
            drivers.args(["127.0.0.1", &gate.port.to_string(), "appdb", user, other]).env("MYSQL_PWD", password());
            drivers.output().expect("it is installed")
        });
        let [shown, error] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        assert!(output.status.success() && shown.lines().count() == 8, "{engine}: {shown}{error}\n{}", gate.log());
        assert!(!gate.log().contains(&password()), "the password is in the log");
    }
}
