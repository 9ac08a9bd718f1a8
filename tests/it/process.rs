//! The life of the process, and what it prints: signals, a stderr that is not read, text of the far side, other projects.

use std::{
    fs,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use safe_display::printable;
use sandbox::{Operation, Sandbox};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    time::timeout,
};

use crate::support::{
    driver::{Driver, error_text, until_asleep},
    gate::{BASTION, Gate, GateOptions, PATIENCE, Ran, sandbox},
    refusal::Wire,
    servers::PgServer,
};

/// Less than any timeout that could end a wait in place of a signal.
const AT_ONCE: Duration = Duration::from_secs(6);

fn none_left(sandbox: &Sandbox) {
    let left: Vec<_> = sandbox.sessions().into_iter().filter(|session| session.ended.is_none()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_that_closes_ends_it_as_sigterm_does() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let mut gate = Gate::start(server, &sandbox).await;
    let idle = Driver::connected(&gate, "idle").await;
    gate.signal("HUP");
    assert_eq!(idle.error_at_end().await, "57P01 terminating connection: rdsgate is shutting down");
    assert_eq!(gate.ended().await.code(), Some(129));
    assert_eq!(sandbox.sessions().len(), 1);
    none_left(&sandbox);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_that_was_ignored_at_the_start_stays_so_for_the_program_too() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let mut gate = GateOptions::new(server, &sandbox).ignoring_hang_ups().start().await;
    gate.signal("HUP");
    assert_eq!(gate.query("select 42").await, "42");
    gate.signal("TERM");
    assert_eq!(gate.ended().await.code(), Some(143));

    let run = |options: GateOptions| {
        let options = options.verb("run").without("--listen").argument("--");
        ["sh", "-c", "kill -HUP $$; echo alive"].iter().fold(options, |options, word| options.argument(word)).run()
    };
    let ran = run(GateOptions::new(server, &sandbox).ignoring_hang_ups()).await;
    assert_eq!((ran.status.code(), ran.stdout.as_str()), (Some(0), "alive\n"), "{}", ran.stderr);
    let ran = run(GateOptions::new(server, &sandbox)).await;
    assert_eq!((ran.status.code(), ran.stdout.as_str()), (Some(129), ""), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_in_their_first_packets_do_not_delay_the_end() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let mut gate = Gate::start(server, &sandbox).await;
    let _silent = Wire::connect(gate.port).await;
    let mut slow = Wire::connect(gate.port).await;
    slow.send(&[0, 0]).await;
    assert_eq!(gate.query("select 42").await, "42", "they are accepted by now");
    let started = Instant::now();
    gate.signal("TERM");
    assert_eq!(gate.ended().await.code(), Some(143));
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_says_what_it_waits_for_and_another_signal_does_not_wait() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    sandbox.delay(Operation::StartSession, Duration::from_secs(20));
    let mut gate = Gate::start(server, &sandbox).await;
    let _client = Wire::connect(gate.port).await.start(&[("application_name", "waits")]).await;
    assert!(gate.until(|log| log.contains("starting an SSM session")).await);
    gate.signal("INT");
    let said = "ending the SSM session, at most 8s; again: leave it to the service";
    assert!(gate.until(|log| log.contains(said)).await, "{}", gate.log());
    let started = Instant::now();
    gate.signal("INT");
    assert_eq!(gate.ended().await.code(), Some(130));
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_connections_that_are_waited_for_are_counted() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let mut gate = GateOptions::new(server, &sandbox).flag("--max-sigterm-delay", "10m").start().await;
    let busy = Driver::connected(&gate, "counted").await;
    let work = async { error_text(&busy.batch_execute("select pg_sleep(120)").await.expect_err("it is cut")) };
    let end = async {
        until_asleep(server, "counted").await;
        gate.signal("TERM");
        assert!(gate.until(|log| log.contains("waiting for 1 busy connection, at most 600s, until ")).await);
        gate.signal("TERM");
        gate.ended().await
    };
    let (heard, ended) = futures_util::future::join(work, end).await;
    assert!(heard.starts_with("57P01 "), "{heard}");
    assert_eq!(ended.code(), Some(143));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stderr_that_is_not_read_stops_neither_the_proxy_nor_its_end() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let mut child = GateOptions::new(server, &sandbox)
        .env("RDSGATE_LOG", "trace")
        .command()
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("cargo built rdsgate");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let mut port = None;
    loop {
        let line = timeout(PATIENCE, lines.next_line()).await.expect("in time").expect("text").expect("it gets ready");
        let listens = line.split_once("listening on localhost:").and_then(|(_, rest)| rest.split(' ').next());
        port = port.or(listens.and_then(|port| port.parse::<u16>().ok()));
        if line.contains("ready:") {
            break;
        }
    }
    let port = port.expect("it listens");
    // More than a pipe holds, in part from one client, whose log lines are of its bytes.
    for _ in 0..60 {
        let mut client = Wire::connect(port).await.start(&[("application_name", "x")]).await;
        let mut byte = [0];
        let read = tokio::io::AsyncReadExt::read_exact(&mut client.0, &mut byte);
        timeout(PATIENCE, read).await.expect("the proxy goes on").expect("it is answered");
    }
    let pid = child.id().expect("it runs").to_string();
    assert!(std::process::Command::new("kill").arg(&pid).status().expect("kill is there").success());
    let ended = timeout(PATIENCE, child.wait()).await.expect("it ends").expect("it was started");
    assert_eq!(ended.code(), Some(143));
    drop(lines);
}

/// Text of a far side that plays with a log or a terminal.
const HOSTILE: &str = "gone\u{1b}[2J\u{1b}]0;title\u{7}\r\nWARN forged line\u{9b}31m \u{202e}txet\u{2066}";

#[tokio::test(flavor = "multi_thread")]
async fn text_of_the_far_side_reaches_no_log_and_no_client_as_it_is() {
    let server = PgServer::shared();
    for format in ["human", "json"] {
        let sandbox = sandbox(server).await;
        let mut gate = GateOptions::new(server, &sandbox).flag("--log-format", format).start().await;
        let client = Driver::connected(&gate, "hostile").await;
        sandbox.end_all(HOSTILE);
        let heard = client.error_at_end().await;
        assert!(heard.starts_with("08006 ") && heard.contains("forged line"), "{heard}");
        assert!(!heard.contains(printable::controls), "{heard:?}");
        assert!(gate.until(|log| log.contains("forged line")).await);
        gate.signal("TERM");
        gate.ended().await;
        let log = gate.log();
        assert!(!log.contains(|c| c != '\n' && printable::controls(c)), "{log:?}");
        assert!(!log.lines().any(|line| line.starts_with("WARN forged")), "{log}");
    }
}

/// Every line is a JSON object with these members, none is anything else.
fn all_json(ran: &Ran) -> Vec<serde_json::Value> {
    let parsed = ran.stderr.lines().map(|line| {
        let object: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(object["timestamp"].is_string() && object["level"].is_string(), "{line}");
        assert!(object["message"].is_string(), "{line}");
        object
    });
    parsed.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_json_log_is_json_in_every_line_whatever_happens() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let usual = || GateOptions::new(server, &sandbox).flag("--log-format", "json");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback can be listened on");
    let port = taken.local_addr().expect("it is bound").port();
    for (what, options, level) in [
        ("usage", usual().argument("--no-such-flag"), "ERROR"),
        (
            "usage, by the environment",
            GateOptions::new(server, &sandbox).argument("--nothing").env("RDSGATE_LOG_FORMAT", "json"),
            "ERROR",
        ),
        ("configuration", usual().flag("--port", "x"), "ERROR"),
        ("a bad level", usual().flag("--log-level", "inof"), "ERROR"),
        ("a port that is taken", usual().flag("--listen", &format!("127.0.0.1:{port}")), "ERROR"),
        ("no such target", usual().verb("url").only(&["nothing"]).flag("--log-format", "json"), "ERROR"),
        ("a check", usual().verb("doctor").flag("--bastion", "i-0000000000000000f"), ""),
        ("a program", usual().verb("run").without("--listen").argument("--").argument("/no/such/program"), "ERROR"),
    ] {
        let ran = options.run().await;
        let lines = all_json(&ran);
        let last = lines.last().map_or("", |line| line["level"].as_str().unwrap_or_default());
        assert!(level.is_empty() || last == level, "{what}: {}", ran.stderr);
        assert_ne!(ran.status.code(), Some(0), "{what}");
    }
    let mut child =
        usual().command().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("cargo built rdsgate");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let mut seen = Vec::new();
    while let Some(line) = timeout(PATIENCE, lines.next_line()).await.expect("in time").expect("it is text") {
        let object: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let message = object["message"].as_str().expect("a message").to_owned();
        if message.starts_with("ready: ") {
            let pid = child.id().expect("it runs").to_string();
            assert!(std::process::Command::new("kill").arg(pid).status().expect("kill is there").success());
        }
        seen.push(message);
    }
    assert!(seen.iter().any(|message| message.contains("] listening on ")), "{seen:?}");
    assert!(seen.iter().any(|message| message.starts_with("ready: ")), "{seen:?}");
}

/// A project whose target `db` is `server` on a free port.
fn project(folder: &Path, server: &PgServer, listen: &str) {
    fs::create_dir_all(folder).expect("the folder is ours");
    let text = format!(
        "[targets.db]\nhost = \"{}\"\nengine = \"postgres\"\nbastion = \"{BASTION}\"\nuser = \"app_user\"\n\
         database = \"appdb\"\nlisten = \"{listen}\"\n",
        server.rds_host
    );
    fs::write(folder.join(".rdsgate.toml"), text).expect("the folder is ours");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_of_one_project_is_not_taken_for_that_of_another() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let root = tempfile::tempdir().expect("there is room for temporary files");
    let [first, second, elsewhere] = ["first", "second", "elsewhere"].map(|name| root.path().join(name));
    fs::create_dir(&elsewhere).expect("the folder is ours");
    project(&first, server, "localhost:0");
    let run_folder = root.path().join("run").display().to_string();
    let verb = |arguments: &[&str], folder: &Path| {
        let mut options = GateOptions::bare(&sandbox).env("XDG_RUNTIME_DIR", &run_folder);
        options = options.verb(arguments[0]);
        let mut command = options.only(&arguments[1..]).command();
        command.current_dir(folder);
        async move {
            let output = timeout(PATIENCE, command.output()).await.expect("in time").expect("it starts");
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            (output.status.code(), text(&output.stdout), text(&output.stderr))
        }
    };
    let mut up = GateOptions::bare(&sandbox).env("XDG_RUNTIME_DIR", &run_folder).only(&["db"]).command();
    let mut up =
        up.current_dir(&first).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("cargo built rdsgate");
    let waited = verb(&["wait", "db", "--timeout", "50s"], &first).await;
    assert_eq!(waited, (Some(0), String::new(), String::new()));
    let (code, url, stderr) = verb(&["url", "db"], &first).await;
    assert_eq!(code, Some(0), "{stderr}");
    let port = url.split([':', '/']).nth(4).and_then(|port| port.parse::<u16>().ok()).expect("a port");

    // The same name and database, described by another file, at the port of the first.
    project(&second, server, &format!("localhost:{port}"));
    for arguments in [&["url", "db"][..], &["env", "db"], &["export", "pgservice", "db"]] {
        let (code, stdout, stderr) = verb(arguments, &second).await;
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{arguments:?}: {stderr}");
        assert!(stderr.starts_with(&format!("error: port {port} is served by process ")), "{arguments:?}: {stderr}");
        assert!(stderr.contains("/first/.rdsgate.toml)"), "{arguments:?}: {stderr}");
    }
    let (code, _, stderr) = verb(&["wait", "db", "--timeout", "0s"], &second).await;
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("serves another one, db (") && stderr.contains("/first/.rdsgate.toml)"), "{stderr}");
    let (code, _, stderr) = verb(&["stop", "db"], &second).await;
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("/first/.rdsgate.toml)"), "{stderr}");
    assert!(up.try_wait().expect("it was started").is_none(), "it goes on");

    // Where no file has the name it means what runs under it.
    let (code, _, stderr) = verb(&["stop", "db"], &elsewhere).await;
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(timeout(PATIENCE, up.wait()).await.expect("it ends").expect("it was started").code(), Some(143));
}
