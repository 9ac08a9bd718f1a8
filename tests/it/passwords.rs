//! Logins with the client's own password, which passes through to the database.

use std::{fs, process::Stdio};

use sandbox::{Operation, Sandbox};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::Command,
    time::timeout,
};

use crate::support::{
    clients::{Client, Door, java, node, python},
    driver::within,
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
    assert_eq!(gate.in_memory(&right), Vec::<String>::new(), "the password is in memory");
    assert!(!gate.in_memory(&server.rds_host).is_empty(), "the memory can be read");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_token_names_the_password_as_another_way() {
    let server = postgres();
    let sandbox = sandbox(server).await;
    let gate = GateOptions::new(server, &sandbox).without("--user").start().await;
    let ran = psql(&gate, "scram_user", Some(&password())).await;
    assert!(ran.stderr.contains("--auth password"), "{}", ran.stderr);
}

/// Without a session and without credentials, to a server that is called localhost.
async fn direct(server: &Server, sandbox: &Sandbox, engine: &str) -> (Gate, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let file = folder.path().join("rdsgate.toml");
    let (port, region) = (server.addr.port(), &server.region);
    // One label makes no target on the command line.
    let text = format!(
        "[targets.here]\nhost = 'localhost:{port}'\nengine = '{engine}'\nregion = '{region}'\nvia = 'direct'\n\
         auth = 'password'\nca_file = '{}'\n",
        server.ca.display()
    );
    fs::write(&file, text).expect("the folder is ours");
    let options = GateOptions::bare(sandbox).flag("--config", &file.display().to_string());
    let options = CREDENTIALS.into_iter().fold(options, GateOptions::without_env);
    let options = options.flag("--listen", "localhost:0").env("AWS_EC2_METADATA_DISABLED", "true");
    (options.start().await, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn direct_route_with_a_password_asks_aws_for_nothing() {
    let hosts = vec!["db.c1pass.eu-central-1.rds.amazonaws.com".into(), "localhost".into()];
    let server = PgServer::start(&PgOptions { hosts, ..PgOptions::default() });
    server.admin(&format!("CREATE ROLE scram_user LOGIN PASSWORD '{}'", password()));
    let sandbox = sandbox(&server).await;
    let (gate, _folder) = direct(&server, &sandbox, "postgres").await;
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

/// What a program of `tests/clients` shows that logs in with [`password`] and, later, with a wrong one.
fn shown_by(program: &mut std::process::Command, gate: &Gate) -> usize {
    let output =
        tokio::task::block_in_place(|| program.env("PASSWORD", password()).env("MYSQL_PWD", password()).output());
    let output = output.expect("it is installed");
    let [shown, error] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{program:?}: {shown}{error}\n{}", gate.log());
    assert!(!gate.log().contains(&password()), "the password is in the log");
    shown.lines().filter(|line| line.starts_with("ok ")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn node_and_java_log_in_to_postgresql_with_scram_and_with_md5() {
    let server = postgres();
    let sandbox = sandbox(server).await;
    let gate = options(server, &sandbox).start().await;
    let port = gate.port.to_string();
    for user in ["scram_user", "md5_user"] {
        let arguments = ["postgres", "localhost", &port, "appdb", user];
        assert_eq!(shown_by(node("passwords.js").args(arguments), &gate), 6, "{user}");
        let url = format!("jdbc:postgresql://localhost:{port}/appdb");
        let arguments = [&url, user, "select current_user", "28P01"];
        assert_eq!(shown_by(java("Passwords.java").args(arguments), &gate), 3, "{user}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replication_passes_with_a_password() {
    let settings = [("wal_level", "logical"), ("max_wal_senders", "4"), ("max_replication_slots", "2")];
    let settings = settings.map(|(name, value)| (name.into(), value.into())).into();
    let server = PgServer::start(&PgOptions { settings, ..PgOptions::default() });
    server.admin(&format!(
        "CREATE ROLE scram_user LOGIN REPLICATION PASSWORD '{}'; CREATE TABLE followed (id int)",
        password()
    ));
    let sandbox = sandbox(&server).await;
    let gate = options(&server, &sandbox).start().await;
    let port = gate.port.to_string();
    let run = async |program: &str, more: &[&str]| {
        let mut command = Command::new(server.client.with_file_name(program));
        command.args(["-w", "-h", "localhost", "-p", &port, "-U", "scram_user"]).args(more);
        command.env("PGPASSWORD", password()).kill_on_drop(true);
        let output = timeout(PATIENCE, command.output()).await.expect("it ends").expect("it is beside the server");
        assert!(output.status.success(), "{program}: {output:?}\n{}", gate.log());
        output.stdout
    };
    let system = server.admin("select system_identifier from pg_control_system()");
    for mode in ["database", "true"] {
        let database = format!("dbname=appdb replication={mode}");
        let shown = run("psql", &["-XAt", "-d", &database, "-c", "IDENTIFY_SYSTEM"]).await;
        assert!(String::from_utf8_lossy(&shown).starts_with(&format!("{system}|1|")), "{shown:?}");
    }
    let backup = run("pg_basebackup", &["-D", "-", "-F", "tar", "-X", "none", "-c", "fast"]).await;
    assert!(backup.starts_with(b"backup_label\0"), "{} bytes", backup.len());

    let slot = ["-d", "appdb", "--slot", "own"];
    run("pg_recvlogical", &[&slot[..], &["--create-slot", "-P", "test_decoding"]].concat()).await;
    server.admin("INSERT INTO followed SELECT generate_series(1, 3000)");
    let end = server.admin("select pg_current_wal_insert_lsn()");
    let changes = run("pg_recvlogical", &[&slot[..], &["--start", "-f", "-", "--endpos", &end]].concat()).await;
    let changes = String::from_utf8_lossy(&changes);
    assert_eq!(changes.matches("table public.followed: INSERT: id[integer]:").count(), 3000);
    run("pg_recvlogical", &[&slot[..], &["--drop-slot"]].concat()).await;
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
            if *plugin == "ed25519" {
                server.admin("INSTALL SONAME 'auth_ed25519'");
            }
            strangers(server, plugin, [user]);
        }
    });
    server
}

/// The engine's own command line as this user.
async fn mysql_cli(server: &Server, gate: &Gate, user: &str, password: &str, more: &[&str]) -> Ran {
    run_client(Command::new(&server.client), server, gate, (user, password), more).await
}

async fn run_client(
    mut client: Command,
    server: &Server,
    gate: &Gate,
    (user, password): (&str, &str),
    more: &[&str],
) -> Ran {
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
    assert_eq!(gate.in_memory(&right), Vec::<String>::new(), "the password is in memory");
}

/// With the server's own client, because the one of this machine may be older.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "parsec needs MariaDB 11.6 or newer: make matrix ROWS=maria-11.8"]
async fn parsec_of_mariadb_takes_the_clients_password() {
    let root = std::env::var("RDSGATE_MARIA_ROOT").expect("the matrix sets it");
    let server = mysql(Engine::MariaDb);
    let numbers: Vec<u32> = server.version.split('.').filter_map(|number| number.parse().ok()).collect();
    if numbers < vec![11, 6] {
        return;
    }
    server.admin("INSTALL SONAME 'auth_parsec'");
    let [user] = strangers(server, "parsec", ["parsec_user"]);
    let sandbox = sandbox(server).await;
    let gate = options(server, &sandbox).start().await;
    let run = async |password: &str| {
        let mut client = Command::new("chroot");
        client.args([&root, "mariadb"]);
        run_client(client, server, &gate, (user, password), &[]).await
    };
    let ran = run(&password()).await;
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), (user, ""), "{}", gate.log());
    assert!(run("wrong").await.stderr.contains("ERROR 1045 (28000): Access denied for user 'parsec_user'@"));
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
    assert_eq!(gate.in_memory(&right), Vec::<String>::new(), "the password is in memory");
}

#[tokio::test(flavor = "multi_thread")]
async fn client_that_falls_silent_breaks_no_handshake_of_mysql_off() {
    let server = Server::start(&PgOptions { engine: Engine::MySql, ..PgOptions::default() });
    let [user] = strangers(&server, "caching_sha2_password", ["silent_user"]);
    let sandbox = sandbox(&server).await;
    let mut gate = options(&server, &sandbox).flag("--connect-timeout", "6s").start().await;
    let mut client = TcpStream::connect(("127.0.0.1", gate.port)).await.expect("rdsgate listens");
    let mut header = [0; 4];
    within("the greeting", client.read_exact(&mut header)).await.expect("it comes");
    let mut greeting = vec![0; usize::from(header[0])];
    client.read_exact(&mut greeting).await.expect("it is whole");
    let capabilities: u32 = 1 | 1 << 9 | 1 << 15 | 1 << 19;
    let response = [
        &capabilities.to_le_bytes()[..],
        &[0, 0, 0, 64, 45],
        &[0; 23],
        user.as_bytes(),
        b"\0\x20",
        &[7; 32],
        b"caching_sha2_password\0",
    ];
    let response = response.concat();
    let length = u8::try_from(response.len()).expect("it is short");
    client.write_all(&[&[length, 0, 0, 1], &response[..]].concat()).await.expect("rdsgate reads");
    // The server asks for the whole password.
    let mut asked = [0; 6];
    within("the request", client.read_exact(&mut asked)).await.expect("it comes");
    assert_eq!(asked, [2, 0, 0, 2, 1, 4]);
    assert!(gate.until(|log| log.contains("connection refused")).await);
    assert!(gate.log().contains("client startup took longer than"), "{}", gate.log());
    let log = fs::read_to_string(&server.server_log).expect("the server logs");
    assert!(log.contains("Access denied for user 'silent_user'") && !log.contains("Aborted connection"), "{log}");
    let ran = mysql_cli(&server, &gate, user, &password(), &["--get-server-public-key"]).await;
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), (user, ""), "{}", gate.log());
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
        let arguments = ["127.0.0.1", &gate.port.to_string(), "appdb", user, other];
        let mut drivers = tokio::task::block_in_place(|| python("mysql_passwords.py"));
        assert_eq!(shown_by(drivers.args(arguments), &gate), 9, "{engine}");
    }
}

/// Users of this plugin whose passwords the server has not seen yet, so that MySQL asks for all of it once.
fn strangers<const N: usize>(server: &Server, plugin: &str, names: [&'static str; N]) -> [&'static str; N] {
    for user in names {
        let password = password();
        let identified = match server.engine {
            Engine::MySql => format!("IDENTIFIED WITH {plugin} BY '{password}'"),
            _ => format!("IDENTIFIED VIA {plugin} USING PASSWORD('{password}')"),
        };
        server.admin(&format!("CREATE USER {user} {identified}; GRANT ALL ON appdb.* TO {user};"));
    }
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn node_and_java_log_in_to_mysql_with_a_password_that_it_has_not_seen() {
    let server = mysql(Engine::MySql);
    let sandbox = sandbox(server).await;
    let gate = options(server, &sandbox).start().await;
    let port = gate.port.to_string();
    let [user, other, of_java] = strangers(server, "caching_sha2_password", ["new_user", "newer_user", "java_user"]);
    let arguments = ["mysql", "127.0.0.1", &port, "appdb", user, other];
    assert_eq!(shown_by(node("passwords.js").args(arguments), &gate), 8);
    let url = format!("jdbc:mysql://127.0.0.1:{port}/appdb?permitMysqlScheme&allowPublicKeyRetrieval=true");
    let arguments = [&url, of_java, "select substring_index(user(), '@', 1)", "28000"];
    assert_eq!(shown_by(java("Passwords.java").args(arguments), &gate), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn node_and_java_log_in_to_mariadb_with_its_plugins() {
    let server = mysql(Engine::MariaDb);
    let sandbox = sandbox(server).await;
    let gate = options(server, &sandbox).start().await;
    let port = gate.port.to_string();
    let arguments = ["mysql", "127.0.0.1", &port, "appdb", "native_user", "other_user"];
    assert_eq!(shown_by(node("passwords.js").args(arguments), &gate), 10);
    let arguments = ["ed25519", "127.0.0.1", &port, "appdb", "ed_user"];
    assert_eq!(shown_by(node("passwords.js").args(arguments), &gate), 3);
    for user in ["native_user", "ed_user"] {
        let url = format!("jdbc:mariadb://127.0.0.1:{port}/appdb");
        let arguments = [&url, user, "select substring_index(user(), '@', 1)", "28000"];
        assert_eq!(shown_by(java("Passwords.java").args(arguments), &gate), 3, "{user}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn direct_route_to_mysql_takes_a_password_and_asks_aws_for_nothing() {
    for (engine, plugin) in [(Engine::MySql, "caching_sha2_password"), (Engine::MariaDb, "mysql_native_password")] {
        let hosts = vec!["db.c1pass.eu-central-1.rds.amazonaws.com".into(), "localhost".into()];
        let server = Server::start(&PgOptions { engine, hosts, ..PgOptions::default() });
        let [user] = strangers(&server, plugin, ["here_user"]);
        let sandbox = sandbox(&server).await;
        let (gate, _folder) = direct(&server, &sandbox, "mysql").await;
        let more = if engine == Engine::MySql { &["--get-server-public-key"][..] } else { &[] };
        let ran = mysql_cli(&server, &gate, user, &password(), more).await;
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), (user, ""), "{}", gate.log());
        assert_eq!(sandbox.calls().len(), 0, "{:?}", sandbox.calls());
    }
}
