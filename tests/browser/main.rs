//! The page of the admin endpoint, a web site behind a forwarded port, and Adminer, in a browser: Debian's Chromium, driven by
//! playwright-core. Where there is none, the tests report "ignored": libtest decides that when it compiles, hence a harness of its
//! own.

#[path = "../it/support/mod.rs"]
#[allow(dead_code, clippy::indexing_slicing, clippy::format_push_string, reason = "it is shared with `tests/it`")]
mod support;

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

use futures_util::{SinkExt as _, StreamExt as _};
use libtest_mimic::{Arguments, Completion, Trial};
use sandbox::{Destination, Failure, Operation, Options, Sandbox};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    time::timeout,
};

use support::{
    admin::Admin,
    clients,
    driver::{Driver, until_server_says},
    gate::{BASTION, Gate, GateOptions, PATIENCE, free_port, sandbox},
    servers::{Engine, PgServer, Server},
};

/// The oldest major version of Node.js that playwright-core runs on.
const OLDEST_NODE: u32 = 18;

fn main() -> ExitCode {
    let tests = vec![
        test("page_serves_eyes_keyboard_and_screen_reader", page),
        test("browser_opens_a_web_site_behind_a_forwarded_port", forwarded),
        Trial::ignorable_test("adminer_logs_in_with_the_settings_of_its_guide", || match (chromium(), adminer()) {
            (Ok(chromium), Ok(program)) => {
                Runtime::new()?.block_on(logs_in(chromium, program));
                Ok(Completion::Completed)
            }
            (Err(reason), _) | (_, Err(reason)) => Ok(Completion::ignored_with(reason)),
        }),
    ];
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

fn test<F: Future<Output = ()>>(name: &str, run: impl FnOnce(PathBuf) -> F + Send + 'static) -> Trial {
    Trial::ignorable_test(name, || {
        let chromium = match chromium() {
            Ok(path) => path,
            Err(reason) => return Ok(Completion::ignored_with(reason)),
        };
        Runtime::new()?.block_on(run(chromium));
        Ok(Completion::Completed)
    })
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

/// nginx in front of a websocket, a web page of the node itself.
async fn forwarded(chromium: PathBuf) {
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let path = |name: &str| folder.path().join(name);
    let large: Vec<u8> = (0..50_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let digest: String = rdsgate::regular_file::sha256(&large).iter().map(|byte| format!("{byte:02x}")).collect();
    fs::write(path("large"), large).expect("there is room");
    fs::write(path("index.html"), "<title>the page of the node</title>").expect("there is room");
    let echo = TcpListener::bind("127.0.0.1:0").await.expect("loopback can be listened on");
    let (port, echo_port) = (free_port(), echo.local_addr().expect("it is bound").port());
    let settings = format!(
        "daemon off; master_process off; pid {root}/pid; error_log {root}/error.log;\nevents {{}}\nhttp {{\n\
         access_log off; client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3;\n\
         uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5; types {{ text/html html; }}\n\
         server {{ listen 127.0.0.1:{port}; root {root}; add_header X-Requests-On-Connection $connection_requests;\n\
         location /echo {{ proxy_pass http://127.0.0.1:{echo_port}; proxy_http_version 1.1;\n\
         proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; }} }} }}\n",
        root = folder.path().display(),
    );
    fs::write(path("nginx.conf"), settings).expect("there is room");
    tokio::spawn(async move {
        while let Ok((stream, _)) = echo.accept().await {
            let socket = tokio_tungstenite::accept_async(stream).await.expect("nginx passes the handshake on");
            let (mut sink, stream) = socket.split();
            let mut messages = stream.filter(|message| {
                let is_text = message.as_ref().is_ok_and(tokio_tungstenite::tungstenite::Message::is_text);
                std::future::ready(is_text)
            });
            sink.send_all(&mut messages).await.ok();
        }
    });
    let nginx = tokio::task::block_in_place(clients::tcp_servers).join("nginx");
    let mut nginx = tokio::process::Command::new(nginx);
    nginx.arg("-c").arg(path("nginx.conf")).arg("-p").arg(folder.path()).kill_on_drop(true);
    let _nginx = nginx.spawn().expect("it was unpacked");
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let listens = async {
        while TcpStream::connect(address).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, listens).await.expect("nginx listens");

    let options = Options::default().name("localhost", 80, Destination::Address(address));
    let sandbox = Sandbox::start(options).await.expect("loopback can be listened on");
    let node = format!("{BASTION}:80");
    let gate =
        GateOptions::bare(&sandbox).verb("forward").argument(&node).flag("--listen", "localhost:0").start().await;
    let mut browser = tokio::process::Command::new("node");
    browser.arg(clients::source("browser/forward.js")).env("NODE_PATH", clients::npm_packages("browser"));
    browser.arg(format!("http://localhost:{}/", gate.port)).arg(chromium).arg(digest);
    browser.env("HOME", folder.path()).kill_on_drop(true);
    let shown = timeout(PATIENCE, browser.output()).await.expect("the browser is stuck").expect("node is there");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(shown.status.success(), "{}{}\n{}", text(&shown.stdout), text(&shown.stderr), gate.log());
    assert_eq!(text(&shown.stdout), "ok page\nok keep-alive\nok websocket\nok download\n");
    assert_eq!(sandbox.violations(), Vec::<String>::new());
}

/// Adminer as the distribution packs it, a program of one file, unpacked below `target`.
fn adminer() -> Result<PathBuf, String> {
    let folder = clients::installed("adminer", &[], |folder| {
        fs::create_dir_all(folder).expect("target can be written");
        // No root is needed, and nothing of the system is touched.
        let lines = "apt-get download -qq adminer 2>/dev/null && dpkg-deb -x adminer_*.deb .";
        let _ = Command::new("sh").args(["-c", lines]).current_dir(folder).status();
    });
    let program = folder.join("usr/share/adminer/adminer.php");
    if program.is_file() {
        return Ok(program);
    }
    // Another run may find it.
    let _ = fs::remove_dir_all(folder);
    Err("apt has no package adminer to download here".into())
}

async fn logs_in(chromium: PathBuf, program: PathBuf) {
    let server = tokio::task::block_in_place(|| Server::shared_of(Engine::MariaDb));
    let sandbox = sandbox(server).await;
    let gate = Gate::start(server, &sandbox).await;
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let port = free_port();
    let mut php = tokio::process::Command::new("php");
    php.arg("-S").arg(format!("127.0.0.1:{port}")).arg(program).stdout(Stdio::null()).stderr(Stdio::null());
    let _php = php.kill_on_drop(true).spawn().expect("php is there (tests/servers/install test installs it)");
    let listens = async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, listens).await.expect("php listens");

    let mut browser = tokio::process::Command::new("node");
    browser.arg(clients::source("browser/adminer.js")).env("NODE_PATH", clients::npm_packages("browser"));
    browser.arg(format!("http://127.0.0.1:{port}/")).arg(chromium).arg(gate.port.to_string());
    browser.args(std::env::var_os("RDSGATE_SCREENSHOTS"));
    browser.env("HOME", folder.path()).kill_on_drop(true);
    let shown = timeout(PATIENCE, browser.output()).await.expect("the browser is stuck").expect("node is there");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(shown.status.success(), "{}{}\n{}", text(&shown.stdout), text(&shown.stderr), gate.log());
    assert_eq!(text(&shown.stdout), "ok empty password\nok query\n");
}
