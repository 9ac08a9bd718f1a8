//! The main job for MySQL and MariaDB: their command line on 127.0.0.1, no password, real servers that demand tokens.

use rdsgate::sandbox::{Destination, Failure, Operation};
use tokio::{process::Command, time::timeout};

use crate::support::{
    gate::{Gate, GateOptions, PATIENCE, Ran, sandbox, sandbox_with},
    servers::{Engine, Options, Server},
};

const ENGINES: [Engine; 2] = [Engine::MariaDb, Engine::MySql];

/// MariaDB's command line, as a user would type it.
pub(crate) async fn mariadb(gate: &Gate, arguments: &[&str]) -> Ran {
    let mut client = Command::new("mariadb");
    client
        .args(["--no-defaults", "--batch", "--skip-column-names", "-h", "127.0.0.1", "-u", "whoever"])
        .args(["-P", &gate.port.to_string()])
        .args(arguments)
        .env("LC_ALL", "C.UTF-8")
        .kill_on_drop(true);
    let output = timeout(PATIENCE, client.output()).await.expect("mariadb hangs").expect("mariadb is installed");
    Ran {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).trim_end().to_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).trim_end().to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_mysql_or_mariadb_is_reached_without_a_password() {
    for engine in ENGINES {
        let server = Server::shared_of(engine);
        let sandbox = sandbox(server).await;
        let mut gate = Gate::start(server, &sandbox).await;
        let ran = mariadb(&gate, &["-e", "select current_user(), database(), version()"]).await;
        assert_eq!(ran.stderr, "", "{engine:?}: {}", gate.log());
        assert!(ran.stdout.starts_with("app_user@%\tappdb\t"), "{engine:?}: {}", ran.stdout);
        // Any password is as good as none: the door is the user's own.
        let tls = mariadb(&gate, &["-pwhatever", "-e", "show session status like 'Ssl_version'"]).await;
        assert_eq!(tls.stdout, "Ssl_version\tTLSv1.3", "{engine:?}: {}", tls.stderr);

        gate.signal("TERM");
        assert_eq!(gate.ended().await.code(), Some(143));
        assert_eq!(sandbox.sessions().len(), 1, "{engine:?}: all connections shared one session");
        assert!(sandbox.sessions().iter().all(|session| session.ended.is_some()), "{:?}", sandbox.sessions());
        assert_eq!(sandbox.violations(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_client_insists_on_and_whatever_its_password_it_is_let_in() {
    for engine in ENGINES {
        let server = Server::shared_of(engine);
        let sandbox = sandbox(server).await;
        let gate = Gate::start(server, &sandbox).await;
        for plugin in ["mysql_native_password", "caching_sha2_password", "mysql_clear_password", "dialog"] {
            for password in ["--skip-password", "--password=whatever"] {
                let ran = mariadb(&gate, &[&format!("--default-auth={plugin}"), password, "-e", "select 42"]).await;
                assert_eq!((&*ran.stdout, &*ran.stderr), ("42", ""), "{engine:?} {plugin} {password}: {}", gate.log());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_before_the_login_is_an_err_packet_with_cause_and_hint() {
    let server = Server::shared_of(Engine::MariaDb);
    let told = async |options: GateOptions, code: &str, words: &[&str]| {
        let gate = options.start().await;
        let ran = mariadb(&gate, &["-e", "select 1"]).await;
        // Before TLS the client says first that nobody vouches for what comes.
        assert!(!ran.status.success() && ran.stderr.contains(code), "{code}: {}", ran.stderr);
        for word in words {
            assert!(ran.stderr.contains(word), "{word:?} is missing: {}", ran.stderr);
        }
    };

    let sandbox = sandbox(server).await;
    let usual = || GateOptions::new(server, &sandbox);
    let keyless = usual().without_env("AWS_ACCESS_KEY_ID").without_env("AWS_SECRET_ACCESS_KEY");
    told(keyless, "1045", &["no AWS credentials were found", "Hint: "]).await;
    told(usual().flag("--user", "nobody"), "1045", &["Access denied for user 'nobody'", "Hint: ", "rds-db"]).await;
    told(usual().flag("--database", "nosuch"), "1044", &["nosuch", "GRANT"]).await;
    told(
        usual().flag("--bastion", "i-0fedcba9876543210"),
        "1105",
        &["Can't connect to MySQL server on", "is not connected", "Hint: "],
    )
    .await;
    sandbox.fail(Operation::StartSession, Failure::AccessDenied, None);
    told(usual(), "1105", &["access denied", "ssm:StartSession"]).await;

    let nowhere = sandbox_with(server, |options| options.name(&server.rds_host, 3306, Destination::Unresolvable)).await;
    told(GateOptions::new(server, &nowhere), "1105", &["the SSM session ended: lookup", "Hint: "]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_says_so_itself() {
    let settings = vec![("max_connections".to_owned(), "10".to_owned())];
    let server = Server::start(&Options { engine: Engine::MariaDb, settings, ..Options::default() });
    let sandbox = sandbox(&server).await;
    let gate = Gate::start(&server, &sandbox).await;
    // One more than the limit is kept for administrators.
    let mut sleepers = Vec::new();
    loop {
        assert!(sleepers.len() < 20, "the server takes any number");
        let mut sleeper = Command::new("mariadb");
        let port = gate.port.to_string();
        sleeper.args(["--no-defaults", "-h", "127.0.0.1", "-u", "x", "-P", &port, "--unbuffered", "--batch", "-N"]);
        sleeper.args(["-e", "select 'in'; select sleep(60)"]).kill_on_drop(true);
        let mut child = sleeper
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("mariadb is installed");
        let mut word = [0; 2];
        let stdout = child.stdout.as_mut().expect("piped");
        let came_in = timeout(PATIENCE, tokio::io::AsyncReadExt::read_exact(stdout, &mut word)).await;
        if came_in.expect("mariadb hangs").is_ok() {
            sleepers.push(child);
            continue;
        }
        let output = child.wait_with_output().await.expect("it has ended");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains("1040") && told.contains("Too many connections"), "{told}");
        break;
    }
    assert!(sleepers.len() >= 10, "{}", sleepers.len());
}
