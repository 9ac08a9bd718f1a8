//! The configuration of a running rdsgate, read again: by SIGHUP where a supervisor runs it, and by `POST /reload`.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use rdsgate::admin::model::Status;
use sandbox::Sandbox;
use tokio::net::TcpStream;

use crate::support::{
    admin::Admin,
    driver::{Driver, error_text},
    gate::{BASTION, Gate, GateOptions, free_port, sandbox},
    servers::PgServer,
};

/// The name of each target, its number of clients, and whether it has no listener.
fn names(status: &Status) -> Vec<(&str, usize, bool)> {
    status.targets.iter().map(|one| (one.name.as_str(), one.clients.len(), one.listeners.is_empty())).collect()
}

/// A table for each target: its name, its local port and further lines.
fn write(file: &Path, server: &PgServer, targets: &[(&str, u16, &str)]) {
    let table = |(name, port, more): &(&str, u16, &str)| {
        format!(
            "[targets.{name}]\nhost = '{}'\nengine = 'postgres'\nlisten = {port}\nbastion = '{BASTION}'\nuser = 'app_user'\n\
             database = 'appdb'\nca_file = '{}'\n{more}\n",
            server.rds_host,
            server.ca.display(),
        )
    };
    std::fs::write(file, targets.iter().map(table).collect::<String>()).expect("there is room");
}

fn options(sandbox: &Sandbox, file: &Path) -> GateOptions {
    GateOptions::bare(sandbox)
        .flag("--config", &file.display().to_string())
        .flag("--admin", "localhost:0")
        .argument("--reload-on-hup")
        .env("RDSGATE_MAX_SESSIONS", "1")
        .env("RDSGATE_WARM_SESSIONS", "0")
}

async fn connected(gate: &mut Gate, port: u16, name: &str) -> Driver {
    gate.port = port;
    Driver::connected(gate, name).await
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_adds_removes_and_changes_targets_and_leaves_connections_alone() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let folder = tempfile::tempdir().expect("there is room");
    let file = folder.path().join("own.toml");
    let [stays, changes, goes, comes] = [(); 4].map(|()| free_port());
    write(&file, server, &[("stays", stays, ""), ("changes", changes, ""), ("goes", goes, "")]);
    let mut gate = options(&sandbox, &file).start().await;
    let admin = Admin::of(&gate);
    let mut open = Vec::new();
    for (port, name) in [(stays, "stays"), (changes, "changes"), (goes, "goes")] {
        open.push(connected(&mut gate, port, name).await);
    }

    // Clients that come at every moment of the reload find a listener.
    let (ended, tries) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let coming = [stays, changes].map(|port| {
        let (ended, tries) = (Arc::clone(&ended), Arc::clone(&tries));
        tokio::spawn(async move {
            while !ended.load(Ordering::Relaxed) {
                TcpStream::connect(("127.0.0.1", port)).await.expect("a listener");
                tries.fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    write(&file, server, &[("comes", comes, ""), ("changes", changes, "read_only = true"), ("stays", stays, "")]);
    gate.signal("HUP");
    let reloaded = gate.until(|log| log.contains("configuration reloaded")).await;
    assert!(reloaded, "{}", gate.log());
    ended.store(true, Ordering::Relaxed);
    for coming in coming {
        coming.await.expect("no connect was refused");
    }
    assert!(tries.load(Ordering::Relaxed) > 0, "clients came");

    for client in &open {
        assert_eq!(
            client.simple("show default_transaction_read_only").await,
            "off",
            "open connections stay as they are"
        );
    }
    let refused = TcpStream::connect(("127.0.0.1", goes)).await.expect_err("it is removed");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    let new = connected(&mut gate, changes, "new at changes").await;
    assert_eq!(new.simple("show default_transaction_read_only").await, "on");
    assert_eq!(connected(&mut gate, comes, "new at comes").await.simple("select 42").await, "42");
    let status = admin.until("clients", |status| names(status).contains(&("comes", 0, false))).await;
    let listed = names(&status);
    assert_eq!(listed.last(), Some(&("goes", 1, true)), "{listed:?}");
    assert_eq!(listed.iter().map(|(name, ..)| *name).collect::<Vec<_>>(), ["comes", "changes", "stays", "goes"]);
    let last = status.last_reload.expect("there was one");
    let expected = "1 added (comes), 1 removed (goes), 1 changed (changes), 1 unchanged";
    assert_eq!((last.ok, last.message.as_str()), (true, expected));

    open.pop();
    admin.until("the end of the last connection", |status| status.targets.len() == 3).await;
    assert_eq!(sandbox.sessions().len(), 1, "the targets go on with their session");
    gate.signal("TERM");
    assert_eq!(gate.ended().await.code(), Some(143));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_file_keeps_the_old_configuration_and_says_why() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let folder = tempfile::tempdir().expect("there is room");
    let file = folder.path().join("own.toml");
    let port = free_port();
    write(&file, server, &[("orders", port, "")]);
    let runtime = folder.path().display().to_string();
    let mut gate = options(&sandbox, &file).env("XDG_RUNTIME_DIR", &runtime).start().await;
    let admin = Admin::of(&gate);
    let Admin::Tcp(number) = &admin else { panic!("{admin:?}") };
    let post = |headers: &str| format!("POST /reload HTTP/1.1\r\nHost: localhost:{number}\r\n{headers}\r\n");

    let answer = admin.ask(&post("")).await.expect("an answer");
    assert_eq!((answer.status, answer.body.as_str()), (200, "reloaded: 1 unchanged\n"));
    for headers in ["Origin: http://evil.example\r\n", "Referer: http://localhost/\r\n", "Sec-Fetch-Site: none\r\n"] {
        assert_eq!(admin.ask(&post(headers)).await.expect("an answer").status, 403, "{headers}");
    }
    assert_eq!(admin.get("/reload").await.status, 405);

    // A key of the file is wrong, and then the address of its only target is taken.
    write(&file, server, &[("orders", port, "databse = 'x'")]);
    let answer = admin.ask(&post("")).await.expect("an answer");
    assert_eq!(answer.status, 422, "{answer:?}");
    assert!(answer.body.starts_with("not reloaded: ") && answer.body.contains("databse"), "{}", answer.body);
    assert!(answer.body.contains("\nhint: "), "{}", answer.body);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback can be listened on");
    let other = taken.local_addr().expect("it is bound").port();
    write(&file, server, &[("billing", other, "")]);
    gate.signal("HUP");
    assert!(gate.until(|log| log.contains("cannot serve billing")).await, "{}", gate.log());
    let client = connected(&mut gate, port, "served as before").await;
    assert_eq!(client.simple("select 42").await, "42");
    let last = admin.until("the result", |status| status.last_reload.as_ref().is_some_and(|last| !last.ok)).await;
    let last = last.last_reload.expect("there was one");
    assert!(last.message.contains("cannot serve billing") && last.hint.is_some(), "{last:?}");

    let ran = GateOptions::bare(&sandbox).only(&[]).verb("status").env("XDG_RUNTIME_DIR", &runtime).run().await;
    assert!(ran.stdout.contains("\n  reload failed ") && ran.stdout.contains("cannot serve billing"), "{}", ran.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn target_that_cannot_be_served_stops_neither_start_nor_reload() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let folder = tempfile::tempdir().expect("there is room");
    let file = folder.path().join("own.toml");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback can be listened on");
    let (port, other) = (free_port(), taken.local_addr().expect("it is bound").port());
    write(&file, server, &[("orders", port, ""), ("billing", other, "")]);
    let mut gate = options(&sandbox, &file).start().await;
    assert!(gate.log().contains("ready: 1 of 2 targets"), "{}", gate.log());
    let admin = Admin::of(&gate);
    let Admin::Tcp(number) = &admin else { panic!("{admin:?}") };
    let reload = async || {
        let request = format!("POST /reload HTTP/1.1\r\nHost: localhost:{number}\r\n\r\n");
        let answer = admin.ask(&request).await.expect("an answer");
        (answer.status, answer.body)
    };
    let why = format!("; cannot serve billing: port {other} is taken: ");

    write(&file, server, &[("orders", port, "read_only = true"), ("billing", other, "")]);
    let (status, body) = reload().await;
    assert!(body.starts_with(&format!("reloaded in part: 1 changed (orders), 0 unchanged{why}")), "{body}");
    assert!(status == 422 && body.contains("\nhint: "), "{body}");
    let last = admin.status().await.last_reload.expect("there was one");
    assert_eq!((last.ok, last.in_part), (false, true), "{last:?}");
    let client = connected(&mut gate, port, "with the new settings").await;
    assert_eq!(client.simple("show default_transaction_read_only").await, "on");

    // One that is served goes on as it was.
    let second = free_port();
    write(&file, server, &[("orders", other, ""), ("more", second, "")]);
    let (_, body) = reload().await;
    let changes = "reloaded in part: 1 added (more), 1 unchanged; cannot serve orders: ";
    assert!(body.starts_with(changes) && body.contains(" (it is served as before)\n"), "{body}");
    let client = connected(&mut gate, port, "with the settings of before").await;
    assert_eq!(client.simple("show default_transaction_read_only").await, "on");
    // Unless another target has its address now.
    write(&file, server, &[("orders", other, ""), ("more", port, "")]);
    let (_, body) = reload().await;
    assert!(body.starts_with("reloaded in part: 1 removed (orders), 1 changed (more), 0 unchanged; "), "{body}");

    drop(taken);
    write(&file, server, &[("orders", port, ""), ("billing", other, "")]);
    let reloaded = reload().await;
    assert_eq!(reloaded.0, 200, "{reloaded:?}");
    assert_eq!(connected(&mut gate, other, "at last").await.simple("select 42").await, "42");
    gate.signal("TERM");
    assert_eq!(gate.ended().await.code(), Some(143), "nothing is wrong any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_turns_readiness_off_before_the_listeners_close() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let options = GateOptions::new(server, &sandbox).flag("--admin", "localhost:0").flag("--min-sigterm-delay", "1h");
    let mut gate = options.start().await;
    let admin = Admin::of(&gate);
    assert_eq!(admin.get("/readyz").await.status, 200);
    gate.signal("TERM");
    assert!(gate.until(|log| log.contains("new clients are accepted for 3600s (--min-sigterm-delay)")).await);
    assert_eq!(admin.get("/readyz").await.status, 503);
    let late = Driver::connected(&gate, "a client of a balancer that has not looked yet").await;
    assert_eq!(late.simple("select 42").await, "42");
    gate.signal("TERM");
    assert_eq!(late.error_at_end().await, "57P01 terminating connection: rdsgate is shutting down");
    assert_eq!(gate.ended().await.code(), Some(143));
    let refused = Driver::connect(&gate, "too late").await.err().map(|error| error_text(&error));
    assert!(refused.is_some(), "a new connection was served");
}
