//! rdsgate under systemd: the unit of a user, with a `systemctl` of the test's own, and the messages of a process that it runs.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, net::UnixDatagram},
    path::Path,
    process::{Command, Output},
};

use crate::support::{
    admin::Admin,
    driver::Driver,
    gate::{GateOptions, PATIENCE, sandbox},
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
fn systemd_accepts_the_unit() {
    let folder = tempfile::tempdir().expect("there is room");
    let folder = folder.path();
    fake_systemctl(folder, 0);
    let path = format!("{}:/usr/bin:/bin", folder.join("bin").display());
    assert_eq!(service(folder, &path, &["install", "orders"]).status.code(), Some(0));
    let unit = folder.join("config home/systemd/user/rdsgate.service");
    let mut verify = Command::new("systemd-analyze");
    let verify = verify.args(["--user", "verify"]).arg(&unit).env("XDG_RUNTIME_DIR", folder).output();
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
