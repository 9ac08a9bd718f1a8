//! rdsgate under systemd: the unit of a user, with a `systemctl` of the test's own, and the messages of a process that it runs.

use std::{
    fs,
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixDatagram, UnixListener},
    },
    path::Path,
    process::{Command, Output},
};

use sandbox::Identity;
use tokio::process;

use crate::support::{
    admin::Admin,
    driver::Driver,
    gate::{BASTION, CREDENTIALS, GateOptions, PATIENCE, Ran, sandbox},
    servers::PgServer,
};

/// Writes down how it is called.
fn fake_systemctl(folder: &Path, status: i32) {
    let program = folder.join("bin/systemctl");
    fs::create_dir_all(folder.join("bin")).expect("there is room");
    let text = format!("#!/bin/sh\necho \"$@\" >> '{}'\nexit {status}\n", folder.join("called").display());
    fs::write(&program, text).expect("there is room");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it is ours");
}

fn service(folder: &Path, path: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rdsgate"))
        .arg("service")
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("PATH", path)
        .env("HOME", folder)
        .env("XDG_CONFIG_HOME", folder.join("config home"))
        .output()
        .expect("cargo built rdsgate")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(target_os = "linux")]
#[test]
fn service_is_written_started_shown_and_removed() {
    let folder = tempfile::tempdir().expect("there is room");
    let folder = folder.path().canonicalize().expect("it is there");
    let path = format!("{}:/usr/bin:/bin", folder.join("bin").display());
    fake_systemctl(&folder, 0);
    let unit = folder.join("config home/systemd/user/rdsgate.service");

    let missing = service(&folder, &path, &["status"]);
    assert_eq!(missing.status.code(), Some(1), "{}", text(&missing.stderr));
    let wrong = service(&folder, &path, &["install", "orders", "--prot", "1"]);
    assert_eq!((wrong.status.code(), unit.exists()), (Some(2), false), "{}", text(&wrong.stderr));

    let installed = service(&folder, &path, &["install", "orders", "--reason", "50% of $HOME"]);
    assert_eq!(installed.status.code(), Some(0), "{}", text(&installed.stderr));
    let written = fs::read_to_string(&unit).expect("it is written");
    let start = format!(
        "ExecStart=\"{}\" \"up\" \"--reload-on-hup\" \"orders\" \"--reason\" \"50%% of $$HOME\"\n",
        env!("CARGO_BIN_EXE_rdsgate")
    );
    for line in [&start, "Type=notify\n", "ExecReload=/bin/kill -HUP $MAINPID\n", "WatchdogSec=30\n"] {
        assert!(written.contains(line), "{line}{written}");
    }
    assert!(written.contains(&format!("WorkingDirectory=-{}\n", folder.display())), "{written}");
    let calls = || fs::read_to_string(folder.join("called")).expect("it was called");
    assert_eq!(calls(), "--user daemon-reload\n--user enable rdsgate.service\n--user restart rdsgate.service\n");

    assert_eq!(service(&folder, &path, &["status"]).status.code(), Some(0));
    let removed = service(&folder, &path, &["remove"]);
    assert_eq!((removed.status.code(), unit.exists()), (Some(0), false), "{}", text(&removed.stderr));
    let last = "--user --no-pager status rdsgate.service\n--user disable --now rdsgate.service\n--user daemon-reload\n";
    assert!(calls().ends_with(last), "{}", calls());

    // The unit of another author stays.
    fs::write(&unit, "[Service]\nExecStart=/bin/true\n").expect("there is room");
    for act in ["install", "remove"] {
        let refused = service(&folder, &path, &[act]);
        assert!(text(&refused.stderr).contains("was not written by rdsgate"), "{}", text(&refused.stderr));
        assert_eq!(refused.status.code(), Some(1));
    }
    assert!(fs::read_to_string(&unit).expect("it stays").contains("/bin/true"));
}

#[cfg(target_os = "linux")]
#[test]
fn commands_are_printed_without_systemctl_and_its_failure_is_one() {
    let folder = tempfile::tempdir().expect("there is room");
    let folder = folder.path();
    fs::create_dir(folder.join("empty")).expect("there is room");
    let printed = service(folder, &folder.join("empty").display().to_string(), &["install"]);
    let commands = "systemctl --user daemon-reload\nsystemctl --user enable rdsgate.service\n\
                    systemctl --user restart rdsgate.service\n";
    assert_eq!((printed.status.code(), text(&printed.stdout).as_str()), (Some(0), commands));
    fake_systemctl(folder, 4);
    let failed = service(folder, &folder.join("bin").display().to_string(), &["install"]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(
        text(&failed.stderr).contains("systemctl --user daemon-reload failed (status 4)"),
        "{}",
        text(&failed.stderr)
    );
}

#[cfg(target_os = "linux")]
#[test]
fn systemd_accepts_the_unit_and_the_socket_of_the_documentation() {
    let folder = tempfile::tempdir().expect("there is room");
    let folder = folder.path();
    fake_systemctl(folder, 0);
    let path = format!("{}:/usr/bin:/bin", folder.join("bin").display());
    assert_eq!(service(folder, &path, &["install", "orders"]).status.code(), Some(0));
    let unit = folder.join("config home/systemd/user/rdsgate.service");
    let documented = include_str!("../../docs/operations.md").split("```ini\n").nth(1).expect("it has one");
    let socket = unit.with_extension("socket");
    fs::write(&socket, documented.split("```").next().unwrap_or_default()).expect("there is room");
    let mut verify = Command::new("systemd-analyze");
    let verify = verify.args(["--user", "verify"]).args([&unit, &socket]).env("XDG_RUNTIME_DIR", folder).output();
    let Ok(verified) = verify else {
        println!("ignored: systemd-analyze is not installed");
        return;
    };
    assert_eq!((verified.status.code(), text(&verified.stderr).as_str()), (Some(0), ""));
}

/// The next message.
fn next(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 256];
    let length = socket.recv(&mut buffer).expect("a message in time");
    text(&buffer[..length])
}

#[tokio::test(flavor = "multi_thread")]
async fn supervisor_hears_of_start_reload_life_and_stop() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let folder = tempfile::tempdir().expect("there is room");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("there is room");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket has one");
    let options = GateOptions::new(server, &sandbox).flag("--admin", "localhost:0").argument("--reload-on-hup");
    let options = options.env("NOTIFY_SOCKET", &path.display().to_string()).env("WATCHDOG_USEC", "200000");
    let mut gate = options.start().await;
    let next = || {
        let socket = socket.try_clone().expect("a socket can be cloned");
        tokio::task::block_in_place(|| next(&socket))
    };
    let until = |begin: &str| {
        let mut seen = Vec::new();
        loop {
            let message = next();
            if message.starts_with(begin) {
                return message;
            }
            assert!(message == "WATCHDOG=1", "{message} before {begin}, after {seen:?}");
            seen.push(message);
        }
    };
    assert_eq!(until("READY=1"), "READY=1\nSTATUS=Serving 1 of 1 targets");
    assert_eq!(until("WATCHDOG=1"), "WATCHDOG=1");
    gate.signal("HUP");
    assert!(until("RELOADING=1").starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(until("READY=1"), "READY=1\nSTATUS=Serving 1 of 1 targets");
    assert_eq!(until("WATCHDOG=1"), "WATCHDOG=1", "the loops of after the reload answer");
    let client = Driver::connected(&gate, "after the reload").await;
    assert_eq!(client.simple("select 42").await, "42");
    assert!(Admin::of(&gate).status().await.last_reload.is_some_and(|last| last.ok));
    gate.signal("TERM");
    assert_eq!(until("STOPPING=1"), "STOPPING=1\nSTATUS=Draining connections");
    assert_eq!(gate.ended().await.code(), Some(143));
}

/// psql at a folder with a socket, which may wait for the start of its server.
async fn at_socket(folder: &Path) -> Ran {
    let mut psql = process::Command::new("psql");
    psql.args(["-XAt", "-h"]).arg(folder).args(["-U", "app_user", "-c", "select 42", "appdb"]);
    Ran::of(&mut psql, PATIENCE).await
}

#[tokio::test(flavor = "multi_thread")]
async fn passed_port_is_served_and_stays_across_restarts_and_reloads() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let folder = tempfile::tempdir().expect("there is room");
    let file = folder.path().join("own.toml");
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback can be listened on");
    let port = socket.local_addr().expect("it is bound").port();
    let table = |name: &str, listen: &str| {
        format!(
            "[targets.{name}]\nhost = '{}'\nengine = 'postgres'\nlisten = '{listen}'\nbastion = '{BASTION}'\nuser = 'app_user'\n\
             database = 'appdb'\nca_file = '{}'\n",
            server.rds_host,
            server.ca.display(),
        )
    };
    let (orders, other) = (table("orders", &format!("127.0.0.1:{port}")), table("other", "127.0.0.1:0"));
    let write = |text: &str| fs::write(&file, text).expect("there is room");
    write(&[orders.as_str(), &other].concat());
    let start = async || {
        let options = GateOptions::bare(&sandbox).flag("--config", &file.display().to_string());
        let options =
            options.flag("--admin", "localhost:0").argument("--reload-on-hup").env("RDSGATE_WARM_SESSIONS", "0");
        let copy = socket.try_clone().expect("a socket can be cloned");
        let mut gate = options.passing(copy, "rdsgate.socket").spawn();
        assert!(gate.until(|log| log.contains("ready: 2 targets")).await, "{}", gate.log());
        gate.port = port;
        gate
    };
    let mut gate = start().await;
    assert_eq!(gate.query("select 42").await, "42");
    for (text, change) in
        [(other.clone(), "1 removed (orders)"), ([orders.as_str(), &other].concat(), "1 added (orders)")]
    {
        write(&text);
        gate.signal("HUP");
        assert!(gate.until(|log| log.contains(change)).await, "{}", gate.log());
    }
    assert_eq!(gate.query("select 42").await, "42", "it was not lost with its target");
    gate.signal("TERM");
    assert_eq!(gate.ended().await.code(), Some(143));
    // Its client waits until the next process accepts it.
    let waiting = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("the supervisor still listens");
    let gate = start().await;
    assert_eq!(gate.query("select 42").await, "42");
    drop(waiting);
}

#[tokio::test(flavor = "multi_thread")]
async fn passed_unix_socket_is_served_and_its_file_stays() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let folder = tempfile::tempdir().expect("there is room");
    let path = folder.path().join(".s.PGSQL.5432");
    let socket = UnixListener::bind(&path).expect("there is room");
    // A program that rdsgate starts hears nothing of the socket.
    let (home, user) = (tempfile::tempdir().expect("there is room"), Identity::user());
    let own = |name: &str| home.path().join(name).display().to_string();
    let answer = serde_json::json!({
        "Version": 1, "AccessKeyId": user.access_key, "SecretAccessKey": user.secret.expose(),
    });
    fs::write(own("answer"), answer.to_string()).expect("there is room");
    let process = format!("sh -c \"env > {}; cat {}\"", own("environment"), own("answer"));
    fs::write(own("config"), format!("[profile process]\ncredential_process = {process}\n")).expect("there is room");
    let options = GateOptions::new(server, &sandbox).flag("--listen", &path.display().to_string());
    let options = CREDENTIALS.into_iter().fold(options, GateOptions::without_env);
    let options = options.flag("--profile", "process").env("AWS_CONFIG_FILE", &own("config"));
    let mut gate = options.passing(socket.try_clone().expect("a socket can be cloned"), "orders").spawn();
    assert!(gate.until(|log| log.contains("ready: 1 target")).await, "{}", gate.log());
    let ran = at_socket(folder.path()).await;
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("42", ""), "{}", gate.log());
    let environment = fs::read_to_string(own("environment")).expect("it was started");
    assert!(environment.contains("AWS_CONFIG_FILE=") && !environment.contains("LISTEN_"), "{environment}");
    gate.signal("TERM");
    assert_eq!(gate.ended().await.code(), Some(143));
    assert!(path.exists(), "it is the supervisor's");
    let names: Vec<_> =
        fs::read_dir(folder.path()).expect("it is there").flatten().map(|file| file.file_name()).collect();
    assert_eq!(names, [".s.PGSQL.5432"], "nothing is left beside it");
}

#[tokio::test(flavor = "multi_thread")]
async fn socket_that_no_target_has_is_refused_in_words() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let socket = || std::net::TcpListener::bind("127.0.0.1:0").expect("loopback can be listened on");
    let unknown = socket();
    let address = unknown.local_addr().expect("it is bound");
    let ran = GateOptions::new(server, &sandbox).passing(unknown, "rdsgate.socket").run().await;
    assert_eq!(ran.status.code(), Some(2), "{}", ran.stderr);
    let said = format!("the socket {address} was passed (LISTEN_FDS), and no target listens at that address");
    assert!(ran.stderr.contains(&said) && ran.stderr.contains("ListenStream="), "{}", ran.stderr);
    let connected = std::net::TcpStream::connect(socket().local_addr().expect("it is bound"));
    if let Ok(connected) = connected {
        let ran = GateOptions::new(server, &sandbox).passing(connected, "").run().await;
        assert_eq!(ran.status.code(), Some(2), "{}", ran.stderr);
        assert!(ran.stderr.contains("Accept=no"), "{}", ran.stderr);
    }
    // Those of another process, which has left its variables behind, are not touched.
    let options = GateOptions::new(server, &sandbox).env("LISTEN_PID", "1").env("LISTEN_FDS", "1");
    let gate = options.start().await;
    assert_eq!(gate.query("select 42").await, "42");
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn systemd_starts_rdsgate_at_the_first_connection() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let folder = tempfile::tempdir().expect("there is room");
    let path = folder.path().join(".s.PGSQL.5432");
    let command = GateOptions::new(server, &sandbox).flag("--listen", &path.display().to_string()).command();
    let command = command.as_std();
    let mut activate = process::Command::new("systemd-socket-activate");
    activate.arg("-l").arg(&path).arg("--fdname=orders");
    for (name, value) in command.get_envs().filter_map(|(name, value)| Some((name.to_str()?, value?.to_str()?))) {
        activate.args(["-E", &format!("{name}={value}")]);
    }
    activate.arg("--").arg(command.get_program()).args(command.get_args());
    let Ok(mut running) = activate.kill_on_drop(true).stdin(std::process::Stdio::null()).spawn() else {
        println!("ignored: systemd-socket-activate is not installed");
        return;
    };
    let bound = async {
        while !path.exists() {
            assert_eq!(running.try_wait().expect("it is a child"), None, "it ended");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, bound).await.expect("it binds the socket");
    let ran = at_socket(folder.path()).await;
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("42", ""));
    running.kill().await.expect("it runs");
}
