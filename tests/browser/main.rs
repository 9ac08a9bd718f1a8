//! The page of the admin endpoint in a browser: Debian's Chromium, driven by playwright-core. Where there is none, the test reports
//! "ignored": libtest decides that when it compiles, hence a harness of its own.

#[path = "../it/support/mod.rs"]
#[allow(dead_code, clippy::indexing_slicing, clippy::format_push_string, reason = "it is shared with `tests/it`")]
mod support;

use std::{
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

use libtest_mimic::{Arguments, Completion, Trial};
use sandbox::{Failure, Operation};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    runtime::Runtime,
    time::timeout,
};

use support::{
    admin::Admin,
    clients,
    driver::{Driver, until_server_says},
    gate::{GateOptions, PATIENCE, sandbox},
    servers::PgServer,
};

/// The oldest major version of Node.js that playwright-core runs on.
const OLDEST_NODE: u32 = 18;

fn main() -> ExitCode {
    let test = Trial::ignorable_test("page_serves_eyes_keyboard_and_screen_reader", || {
        let chromium = match chromium() {
            Ok(path) => path,
            Err(reason) => return Ok(Completion::ignored_with(reason)),
        };
        Runtime::new()?.block_on(page(chromium));
        Ok(Completion::Completed)
    });
    libtest_mimic::run(&Arguments::from_args(), vec![test]).exit_code()
}

/// The browser, or the reason why the test cannot run here.
fn chromium() -> Result<PathBuf, String> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders).map(|folder| folder.join("chromium")).find(|path| path.is_file());
    let path = found.ok_or("there is no chromium in PATH (Debian's package chromium)")?;
    let node = Command::new("node").arg("--version").output();
    let version = node.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let major = version.trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major < OLDEST_NODE) {
        return Err(format!("playwright-core needs Node.js {OLDEST_NODE}, and here is {}", version.trim()));
    }
    Ok(path)
}

async fn page(chromium: PathBuf) {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let mut gate =
        GateOptions::new(server, &sandbox).flag("--admin", "localhost:0").flag("--label", "PRODUCTION").start().await;
    let Admin::Tcp(port) = Admin::of(&gate) else { panic!("a port") };

    let mut browser = tokio::process::Command::new("node");
    browser.arg(clients::source("browser/page.js")).env("NODE_PATH", clients::npm_packages("browser"));
    browser.arg(format!("http://localhost:{port}/")).arg(chromium);
    // For the eyes of a person: RDSGATE_SCREENSHOTS=FOLDER.
    browser.args(std::env::var_os("RDSGATE_SCREENSHOTS"));
    browser.env("HOME", folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut browser = browser.kill_on_drop(true).spawn().expect("node is there");
    let mut answers = browser.stdin.take().expect("piped");
    let mut lines = BufReader::new(browser.stdout.take().expect("piped")).lines();
    let mut errors = browser.stderr.take().expect("piped");

    let mut client = None;
    let mut shown = Vec::new();
    while let Some(line) = timeout(PATIENCE, lines.next_line()).await.expect("the browser is stuck").expect("text") {
        let Some(word) = line.strip_prefix("do ") else {
            shown.extend(line.strip_prefix("ok ").map(str::to_owned));
            continue;
        };
        match word {
            "connect" => {
                let connected = Driver::connected(&gate, "on the page").await;
                assert_eq!(connected.simple("select repeat('x', 3000000)").await.len(), 3_000_000);
                client = Some(connected);
            }
            "disconnect" => client = None,
            "break" => {
                sandbox.fail(Operation::StartSession, Failure::AccessDenied, None);
                sandbox.end_all("Session idle timeout");
                while gate.psql("select 1").await.status.success() {}
            }
            "mend" => {
                sandbox.heal(Operation::StartSession);
                assert_eq!(gate.query("select 42").await, "42");
            }
            "drain" => {
                let busy = Driver::connected(&gate, "busy on the page").await;
                tokio::spawn(async move { busy.batch_execute("select pg_sleep(601)").await });
                // By the statement: the principal, which is known by now, is part of the application's name.
                let asleep = "select wait_event from pg_stat_activity where query = 'select pg_sleep(601)'";
                until_server_says(server, asleep, "PgSleep").await;
                gate.signal("TERM");
            }
            "end" => {
                gate.signal("TERM");
                assert_eq!(gate.ended().await.code(), Some(143));
            }
            other => panic!("{other} is not a step"),
        }
        answers.write_all(b"\n").await.expect("it reads");
    }
    drop(client);
    let mut error = String::new();
    errors.read_to_string(&mut error).await.expect("text");
    let status = timeout(PATIENCE, browser.wait()).await.expect("the browser does not end").expect("it was started");
    assert!(status.success(), "after {shown:?}: {error}\n{}", gate.log());
    assert!(shown.len() >= 10, "{shown:?}");
}
