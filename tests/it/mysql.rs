//! The main job for MySQL and MariaDB: their command line on 127.0.0.1, no password, real servers that demand tokens.

use tokio::{process::Command, time::timeout};

pub(crate) use crate::support::gate::mariadb;
use crate::support::{
    gate::{Gate, PATIENCE, sandbox},
    servers::{Engine, Options, Server},
};

const ENGINES: [Engine; 2] = [Engine::MariaDb, Engine::MySql];

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
        sleeper.args([
            "--no-defaults",
            "--skip-ssl",
            "-h",
            "127.0.0.1",
            "-u",
            "app_user",
            "-P",
            &port,
            "--unbuffered",
            "--batch",
            "-N",
        ]);
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

/// The verdicts of the server's token check on the logins since `before`.
fn verdicts(server: &Server, before: usize) -> Vec<String> {
    server.auth_lines().iter().skip(before).map(|line| line.split(' ').nth(1).unwrap_or_default().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_shows_the_server_one_token() {
    for engine in ENGINES {
        let server = Server::start(&Options { engine, ..Options::default() });
        let sandbox = sandbox(&server).await;
        let gate = Gate::start(&server, &sandbox).await;
        let ran = mariadb(&gate, &["-e", "select database()"]).await;
        assert_eq!((&*ran.stdout, &*ran.stderr), ("appdb", ""), "{engine:?}: {}", gate.log());
        // Two would mean that this version misreads an early token, and is taken for one that does not.
        assert_eq!(verdicts(&server, 0), ["OK"], "{engine:?} {}", server.version);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusal_of_an_early_token_is_retried_once_and_remembered() {
    for engine in ENGINES {
        let server = Server::start(&Options { engine, ..Options::default() });
        let sandbox = sandbox(&server).await;
        let gate = Gate::start(&server, &sandbox).await;
        server.refuse_next_token();
        let ran = mariadb(&gate, &["-e", "select database()"]).await;
        assert_eq!((&*ran.stdout, &*ran.stderr), ("appdb", ""), "{engine:?}: {}", gate.log());
        assert_eq!(verdicts(&server, 0), ["DENY", "OK"], "{engine:?}");

        // From now on the server is asked first, so a refusal is due to something else.
        server.refuse_next_token();
        let ran = mariadb(&gate, &["-e", "select 1"]).await;
        assert!(ran.stderr.starts_with("ERROR 1045 (28000)"), "{engine:?}: {}", ran.stderr);
        assert_eq!(mariadb(&gate, &["-e", "select 1"]).await.stdout, "1", "{engine:?}: {}", gate.log());
        assert_eq!(verdicts(&server, 2), ["DENY", "OK"], "{engine:?}");

        // And a server that has taken an early token refuses the next one for another reason, too.
        let gate = Gate::start(&server, &sandbox).await;
        assert_eq!(mariadb(&gate, &["-e", "select 1"]).await.stdout, "1", "{engine:?}: {}", gate.log());
        server.refuse_next_token();
        let ran = mariadb(&gate, &["-e", "select 1"]).await;
        assert!(ran.stderr.starts_with("ERROR 1045 (28000)"), "{engine:?}: {}", ran.stderr);
        assert_eq!(verdicts(&server, 4), ["OK", "DENY"], "{engine:?}");
    }
}
