//! Unix sockets: who finds them, beside which addresses they are served, and what becomes of their files.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use tokio::process::Command;

use crate::{
    ports::ends,
    support::{
        clients::{Client, Door},
        gate::{Gate, GateOptions, PATIENCE, Ran, sandbox},
        servers::{Engine, PgServer, Server},
    },
};

const POSTGRES: &str = ".s.PGSQL.5432";

/// A folder as the configuration names one, with a slash at its end.
fn slashed(folder: &Path) -> String {
    format!("{}/", folder.display())
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).permissions().mode()
        & 0o777
}

/// What a program prints that must succeed.
async fn printed(command: &mut Command) -> String {
    let ran = Ran::of(command, PATIENCE).await;
    assert!(ran.status.success(), "{ran:?}");
    ran.stdout
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_clients_are_content_at_a_folder_beside_a_port() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let folder = tempfile::tempdir().expect("there is room");
    let sockets = folder.path().join("made-by-rdsgate");
    let listen = format!("localhost:0,{}", slashed(&sockets));
    let mut gate = GateOptions::new(server, &sandbox).flag("--listen", &listen).start().await;
    assert!(gate.log().contains(&format!(" and unix:{}", sockets.join(POSTGRES).display())), "{}", gate.log());
    assert_eq!((mode(&sockets), mode(&sockets.join(POSTGRES))), (0o700, 0o600));
    let door = Door { host: sockets.to_str().expect("Unicode"), port: 5432, ..gate.door() };
    for client in [Client::Psql, Client::Psycopg, Client::Asyncpg, Client::Node] {
        let shown = tokio::task::block_in_place(|| client.run(door));
        println!("{client:?}: {} things", shown.len());
    }
    assert_eq!(gate.query("select 1").await, "1", "the port is served beside it");
    gate.signal("TERM");
    assert_eq!(gate.ended().await.code(), Some(143));
    assert_eq!(fs::read_dir(&sockets).expect("it is there").count(), 0, "socket and lock are removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_clients_are_content_at_a_path() {
    for engine in [Engine::MySql, Engine::MariaDb] {
        let server = tokio::task::block_in_place(|| Server::shared_of(engine));
        let sandbox = sandbox(server).await;
        let folder = tempfile::tempdir().expect("there is room");
        let path = folder.path().join("of mine.sock");
        let listen = format!("localhost:0,{}", path.display());
        let gate = GateOptions::new(server, &sandbox).without("--user").flag("--listen", &listen).start().await;
        let socket = path.to_str().expect("Unicode");
        let door = Door { host: socket, ..gate.door() };
        for client in [Client::PyMySql, Client::MySql2] {
            let shown = tokio::task::block_in_place(|| client.run_with_row_of(1 << 20, door));
            println!("{client:?} on {engine:?}: {} things", shown.len());
        }
        let mut mariadb = Command::new("mariadb");
        mariadb.args(["--no-defaults", "--skip-ssl", "-BN", "-S", socket, "-u", "app_user", "-e", "select 42"]);
        assert_eq!(printed(&mut mariadb).await, "42", "{}", gate.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_lead_to_the_socket_that_is_configured_first() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let runtime = tempfile::tempdir().expect("there is room");
    let runtime = runtime.path().to_str().expect("Unicode");
    let options =
        || GateOptions::new(server, &sandbox).env("XDG_RUNTIME_DIR", runtime).flag("--listen", "unix,localhost:0");
    let folder = format!("{runtime}/rdsgate");
    let mut gate = options().spawn();
    assert!(gate.until(|log| log.contains("ready:")).await, "{}", gate.log());
    let log = gate.log();
    assert!(log.contains(&format!("listening on unix:{folder}/{POSTGRES} and localhost:")), "{log}");
    assert!(log.contains(&format!("psql -h {folder} -p 5432 -U app_user appdb\n")), "{log}");
    let url = options().verb("url").run().await;
    let encoded = folder.replace('/', "%2F");
    assert_eq!(url.stdout, format!("postgresql://app_user@/appdb?host={encoded}&sslmode=disable\n"), "{}", url.stderr);
    // The running proxy's port, though the system has chosen it.
    let jdbc = options().verb("url").flag("--format", "jdbc").run().await;
    assert!(jdbc.stdout.starts_with("jdbc:postgresql://localhost:"), "{jdbc:?}");
    let status = options().only(&["--json"]).verb("status").run().await;
    assert!(status.stdout.contains(&format!("unix:{folder}/{POSTGRES}")), "{status:?}");
    let program = GateOptions::new(server, &sandbox)
        .verb("run")
        .flag("--listen", &slashed(&PathBuf::from(runtime).join("another")))
        .argument("--")
        .argument("psql")
        .argument("-XAtc")
        .argument("select 'through ' || current_user");
    let ran = program.run().await;
    assert_eq!(ran.stdout, "through app_user\n", "{}", ran.stderr);
    let alone = options().verb("url").env("XDG_RUNTIME_DIR", "/nowhere").flag("--listen", "/nowhere/");
    let ran = alone.flag("--format", "jdbc").run().await;
    assert!(
        ran.stderr.contains("the unix socket \"/nowhere/.s.PGSQL.5432\" cannot be written as a JDBC URL"),
        "{ran:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_targets_have_two_sockets() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let runtime = tempfile::tempdir().expect("there is room");
    let target = |name: &str| {
        format!(
            "[targets.{name}]\nhost = '{}'\nbastion = '{}'\nuser = 'app_user'\ndatabase = 'appdb'\nca_file = '{}'\n",
            server.rds_host,
            crate::support::gate::BASTION,
            server.ca.display()
        )
    };
    let file = runtime.path().join("rdsgate.toml");
    let text = format!("[defaults]\nlisten = ['unix']\n{}{}", target("orders"), target("billing"));
    fs::write(&file, text).expect("there is room");
    let options = GateOptions::bare(&sandbox)
        .flag("--config", file.to_str().expect("Unicode"))
        .env("XDG_RUNTIME_DIR", runtime.path().to_str().expect("Unicode"));
    let mut gate = options.spawn();
    assert!(gate.until(|log| log.contains("ready: 2 targets")).await, "{}", gate.log());
    for folder in ["rdsgate", "rdsgate/billing"] {
        let mut psql = Command::new("psql");
        psql.args(["-XAtc", "select 42", "-U", "app_user", "appdb", "-h"]).arg(runtime.path().join(folder));
        assert_eq!(printed(&mut psql).await, "42", "{}", gate.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_socket_is_replaced_and_a_foreign_file_stays() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let folder = tempfile::tempdir().expect("there is room");
    let path = folder.path().join(POSTGRES);
    let listen = format!("localhost:0,{}", path.display());
    let options = || GateOptions::new(server, &sandbox).flag("--listen", &listen);
    let mut killed: Gate = options().start().await;
    killed.signal("KILL");
    killed.ended().await;
    assert!(path.exists(), "it could not clean up");
    let mut gate = options().start().await;
    let (code, log) = ends(options()).await;
    let taken = format!("{} is taken: a program answers there: rdsgate (process {})", path.display(), gate.pid());
    assert!(code == Some(1) && log.contains(&taken), "{code:?} {log}");
    gate.signal("TERM");
    gate.ended().await;
    fs::write(&path, "precious").expect("there is room");
    let (code, log) = ends(options()).await;
    assert!(code == Some(1) && log.contains("exists already, and rdsgate did not create it"), "{code:?} {log}");
    assert_eq!(fs::read_to_string(&path).expect("it is there"), "precious");
}

#[tokio::test(flavor = "multi_thread")]
async fn socket_that_cannot_be_safe_or_found_is_refused_in_words() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let folder = tempfile::tempdir().expect("there is room");
    let open = folder.path().join("open");
    fs::create_dir(&open).expect("there is room");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o1777)).expect("it is ours");
    let long = folder.path().join("x".repeat(100));
    for (listen, code, message, hint) in [
        (slashed(&open), 1, "is writable by other users", "use one with mode 0700"),
        (slashed(&long), 1, "the path of a unix socket has at most 107 bytes", "choose a shorter path"),
        (
            format!("{}/mine.sock", folder.path().display()),
            2,
            "programs look for .s.PGSQL.5432 in a folder",
            "end it in /",
        ),
        ("unix/mine.sock".to_owned(), 2, "is not a local address", "unix, or an absolute path"),
        (format!("localhost:0,{0},{0}", slashed(&folder.path().join("twice"))), 1, "is taken", "choose another path"),
    ] {
        let (status, log) = ends(GateOptions::new(server, &sandbox).flag("--listen", &listen)).await;
        assert!(status == Some(code) && log.contains(message) && log.contains(hint), "{listen}: {status:?} {log}");
    }
}
