//! Programs beside a proxy of their own, and a proxy that other commands know of.

use std::process::Stdio;

use sandbox::{Destination, Operation, Sandbox};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    time::timeout,
};

use crate::support::{
    clients::mysql_programs,
    gate::{BASTION, GateOptions, PATIENCE, sandbox},
    servers::{Engine, PgServer, Server},
    snapshot::{masked, snapshot},
    terminal::on_a_terminal,
};

/// `rdsgate run … -- command`.
fn run(server: &Server, sandbox: &Sandbox, command: &[&str]) -> GateOptions {
    let options = GateOptions::new(server, sandbox).verb("run").without("--listen").argument("--");
    command.iter().fold(options, |options, word| options.argument(word))
}

fn all_ended(sandbox: &Sandbox) -> bool {
    let terminated = sandbox.calls().iter().any(|call| call.operation == Operation::TerminateSession);
    terminated && sandbox.sessions().iter().all(|session| session.ended.is_some())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_has_the_database_and_its_output_to_itself() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let sql = "select current_user || ' in ' || current_database()";
    let ran = run(server, &sandbox, &["psql", "-XAt", "-c", sql]).run().await;
    assert_eq!((ran.status.code(), ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "app_user in appdb\n", ""));
    assert!(all_ended(&sandbox), "{:?}", sandbox.sessions());
    assert_eq!(sandbox.sessions().len(), 1, "{:?}", sandbox.sessions());

    // What would lead elsewhere is not passed on, and what is needed is there.
    let script = "echo \"$PGHOST $PGUSER $PGDATABASE $PGSSLMODE [$PGSERVICE$PGHOSTADDR] $KEPT\"; \
                  test \"$DATABASE_URL\" = \"postgresql://app_user@localhost:$PGPORT/appdb?sslmode=disable\"";
    let ran = run(server, &sandbox, &["sh", "-c", script])
        .env("PGSERVICE", "elsewhere")
        .env("PGHOSTADDR", "192.0.2.1")
        .env("KEPT", "kept")
        .run()
        .await;
    assert_eq!(
        (ran.status.code(), ran.stdout.as_str(), ran.stderr.as_str()),
        (Some(0), "localhost app_user appdb disable [] kept\n", "")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_status_is_the_commands() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    for (command, code, said) in [
        (&["sh", "-c", "exit 7"][..], 7, ""),
        (&["sh", "-c", "kill -TERM $$"], 143, ""),
        (&["sh", "-c", "kill -KILL $$"], 137, ""),
        (
            &["no-such-program"],
            127,
            "error: cannot run no-such-program: No such file or directory (os error 2)\n\
             hint: install no-such-program, or add its folder to PATH\n",
        ),
        (&["/etc/passwd"], 126, "error: cannot run /etc/passwd: Permission denied (os error 13)\n"),
    ] {
        let ran = run(server, &sandbox, command).run().await;
        assert_eq!(
            (ran.status.code(), ran.stdout.as_str(), ran.stderr.as_str()),
            (Some(code), "", said),
            "{command:?}"
        );
    }
    assert!(all_ended(&sandbox), "{:?}", sandbox.sessions());
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_are_passed_on_and_the_session_is_ended() {
    let server = PgServer::shared();
    for signal in ["TERM", "INT", "HUP"] {
        let sandbox = sandbox(server).await;
        let script = format!("trap 'echo got; exit 3' {signal}; echo ready; while :; do sleep 0.05; done");
        let mut child = run(server, &sandbox, &["sh", "-c", &script])
            .env("RDSGATE_LOG", "debug")
            .command()
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("cargo built rdsgate");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut next = async || timeout(PATIENCE, lines.next_line()).await.expect("in time").expect("it is text");
        assert_eq!(next().await.as_deref(), Some("ready"), "{signal}");
        let pid = child.id().expect("it runs").to_string();
        let sent = std::process::Command::new("kill").args(["-s", signal, &pid]).status().expect("kill is there");
        assert!(sent.success());
        assert_eq!(next().await.as_deref(), Some("got"), "{signal}");
        let ended = timeout(PATIENCE, child.wait_with_output()).await.expect("in time").expect("it was started");
        let log = String::from_utf8_lossy(&ended.stderr);
        assert_eq!((ended.status.code(), log.matches("passed on").count()), (Some(3), 1), "{signal}: {log}");
        assert!(all_ended(&sandbox), "{signal}: {:?}", sandbox.sessions());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_is_the_commands_and_reaches_it_once() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let script = "trap 'echo got' INT; echo ready; until read answer; do :; done; echo \"<$answer>\"; exit 4";
    let command = run(server, &sandbox, &["sh", "-c", script]).env("RDSGATE_LOG", "debug").command();
    let (shown, status) = on_a_terminal(command, &[("ready", "\x03"), ("got", "more\n")]).await;
    assert!(shown.contains("<more>") && status == 4, "{status}: {shown}");
    assert!(!shown.contains("passed on"), "{shown}");
    assert!(all_ended(&sandbox), "{:?}", sandbox.sessions());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_asked_for_confirmation() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let guarded = || {
        let options = GateOptions::new(server, &sandbox).verb("run").without("--listen");
        let options = options.argument("--confirm").flag("--label", "PRODUCTION").argument("--");
        let options = options.env("NO_COLOR", "1");
        ["sh", "-c", "echo it ran"].iter().fold(options, |options, word| options.argument(word)).command()
    };
    let name = server.rds_host.split('.').next().expect("a label");
    let question = format!("serve {name} PRODUCTION? [y/N] ");
    let (shown, status) = on_a_terminal(guarded(), &[(&question, "y\n")]).await;
    assert_eq!((shown, status), (format!("{question}y\nit ran\n"), 0));
    let (shown, status) = on_a_terminal(guarded(), &[(&question, "\n")]).await;
    assert_eq!((shown, status), (format!("{question}\nerror: {name} PRODUCTION was not confirmed\n"), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_way_the_command_does_not_run() {
    let server = PgServer::shared();
    let host = server.rds_host.clone();
    let sandbox = sandbox(server).await;
    // Bound, so that no other program is there, but not listening.
    let socket = tokio::net::TcpSocket::new_v4().expect("there is IPv4");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("the system chooses a port");
    sandbox.name(&host, 5432, Destination::Address(socket.local_addr().expect("it is bound")));
    let ran = run(server, &sandbox, &["echo", "it ran"]).run().await;
    assert_eq!((ran.status.code(), ran.stdout.as_str()), (Some(4), ""), "{}", ran.stderr);
    let name = host.split('.').next().expect("a label");
    let said = format!("error: {name}: cannot reach the database: the bastion could not connect to the database");
    assert!(
        ran.stderr.starts_with(&said) && ran.stderr.contains("\nhint: Check that the security group"),
        "{}",
        ran.stderr
    );
    assert_eq!(ran.stderr.lines().count(), 2, "{}", ran.stderr);
    assert!(all_ended(&sandbox), "{:?}", sandbox.sessions());

    // And with one it does; what stands behind -- is its own.
    sandbox.name(&host, 5432, Destination::Address(server.addr));
    let ran = run(server, &sandbox, &["echo", "it ran"]).flag("--profile", "nosuch").run().await;
    let expected = "it ran --profile nosuch\n";
    assert_eq!((ran.status.code(), ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), expected, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_and_mysql_are_run_with_the_right_arguments() {
    let server = PgServer::shared();
    let pg = sandbox(server).await;
    let psql = GateOptions::new(server, &pg).verb("psql").without("--listen");
    let ran = psql.argument("-XAt").argument("-c").argument("select current_database()").run().await;
    assert_eq!((ran.status.code(), ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "appdb\n", ""));
    // libpq alone would ask for a database named like the user, which is seldom there.
    for (own, database) in [(&[][..], "postgres\n"), (&["-d", "appdb"], "appdb\n")] {
        let bare = GateOptions::new(server, &pg).verb("psql").without("--listen").without("--database");
        let query = ["-XAt", "-c", "select current_database()"].iter().chain(own);
        let ran = query.fold(bare, |options, word| options.argument(word)).run().await;
        assert_eq!((ran.status.code(), ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), database, ""));
    }

    let server = Server::shared_of(Engine::MariaDb);
    let maria = sandbox(server).await;
    let mysql = GateOptions::new(server, &maria).verb("mysql").without("--listen");
    let mysql = ["--no-defaults", "--batch", "--skip-column-names", "-e", "select database(), current_user()"]
        .iter()
        .fold(mysql, |options, word| options.argument(word));
    let ran = mysql.run().await;
    assert_eq!((ran.status.code(), ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "appdb\tapp_user@%\n", ""));
    assert!(all_ended(&pg) && all_ended(&maria));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_files_and_variables_say_of_tls_keeps_neither_psql_nor_mysql_away() {
    let home = tempfile::tempdir().expect("there is a folder for such files");
    let at_home = home.path().display().to_string();
    let services = home.path().join("services");
    std::fs::write(&services, "[elsewhere]\nhost=192.0.2.1\nsslmode=verify-full\ngssencmode=require\n")
        .expect("written");
    let server = PgServer::shared();
    let pg = sandbox(server).await;
    let psql = GateOptions::new(server, &pg).verb("psql").without("--listen").env("HOME", &at_home);
    let psql = [
        ("PGSERVICEFILE", &*services.display().to_string()),
        ("PGSERVICE", "elsewhere"),
        ("PGSSLMODE", "verify-full"),
        ("PGREQUIRESSL", "1"),
        ("PGSSLROOTCERT", "/nowhere/root.pem"),
        ("PGSSLNEGOTIATION", "direct"),
        ("PGSSLCERTMODE", "require"),
        ("PGGSSENCMODE", "require"),
        ("PGREQUIREAUTH", "scram-sha-256"),
        ("PGCHANNELBINDING", "require"),
    ]
    .into_iter()
    .fold(psql, |options, (name, value)| options.env(name, value));
    let ran = psql.argument("-XAt").argument("-c").argument("select current_database()").run().await;
    assert_eq!((ran.status.code(), ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "appdb\n", ""));

    // MariaDB's client, and MySQL's own, which is not on this machine's path.
    let path = std::env::var("PATH").unwrap_or_default();
    let own = format!("{}:{path}", tokio::task::block_in_place(mysql_programs).display());
    for (engine, path, options) in [
        (Engine::MariaDb, &path, "ssl\nssl-verify-server-cert\ncompress\n"),
        (Engine::MySql, &own, "ssl-mode=VERIFY_IDENTITY\nssl-ca=/nowhere/root.pem\ncompression-algorithms=zstd\n"),
    ] {
        let options = format!("[client]\nprotocol=socket\nhost=192.0.2.1\nport=1\n{options}");
        std::fs::write(home.path().join(".my.cnf"), options).expect("written");
        let server = tokio::task::block_in_place(|| Server::shared_of(engine));
        let sandbox = sandbox(server).await;
        let mysql = GateOptions::new(server, &sandbox).verb("mysql").without("--listen");
        let mysql = mysql.env("HOME", &at_home).env("PATH", path);
        let mysql = ["--batch", "--skip-column-names", "-e", "select current_user()"]
            .iter()
            .fold(mysql, |options, word| options.argument(word));
        let ran = mysql.run().await;
        assert_eq!((ran.status.code(), ran.stdout.as_str()), (Some(0), "app_user@%\n"), "{engine:?}: {}", ran.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_commands_know_of_a_running_up() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let run_folder = folder.path().display().to_string();
    let usual = || GateOptions::new(server, &sandbox).env("XDG_RUNTIME_DIR", &run_folder);
    let name = server.rds_host.split('.').next().expect("a label");
    let verb = |verb: &str| GateOptions::bare(&sandbox).verb(verb).env("XDG_RUNTIME_DIR", &run_folder);

    // It may come before what it waits for.
    let waiting = tokio::spawn(verb("wait").argument(name).argument("--timeout=50s").run());
    let mut gate = usual().start().await;
    let ran = waiting.await.expect("no panic");
    assert_eq!((ran.status.code(), ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "", ""));
    // No client was accepted for that.
    for trace in ["logged in", "the client left", "port probe", "no connection"] {
        assert!(!gate.log().contains(trace), "{trace}: {}", gate.log());
    }

    let url = usual().verb("url").run().await;
    let expected = format!("postgresql://app_user@localhost:{}/appdb?sslmode=disable\n", gate.port);
    assert_eq!((url.status.code(), url.stdout, url.stderr.as_str()), (Some(0), expected, ""));

    let unknown = verb("stop").argument("other").run().await;
    assert_eq!(unknown.status.code(), Some(1), "{}", unknown.stderr);
    let second = usual().start().await;
    let which = verb("stop").run().await;
    assert_eq!(which.status.code(), Some(1));
    assert!(which.stderr.starts_with("error: several rdsgate up are running: process "), "{}", which.stderr);
    drop(second);

    let ran = verb("stop").argument(name).run().await;
    assert_eq!(gate.ended().await.code(), Some(143));
    assert_eq!((ran.status.code(), ran.stdout.as_str()), (Some(0), ""), "{}", ran.stderr);
    assert!(
        ran.stderr.starts_with("stopped process ") && ran.stderr.ends_with(&format!(": {name}\n")),
        "{}",
        ran.stderr
    );
    assert_eq!(verb("stop").run().await.status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_and_terminated() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    // Three, which is more than the sandbox tells of on one page.
    let mut gates = Vec::new();
    for _ in 0..3 {
        let gate = GateOptions::new(server, &sandbox).start().await;
        assert_eq!(gate.query("select 1").await, "1");
        gates.push(gate);
    }
    let verb = || GateOptions::new(server, &sandbox).verb("sessions").without("--listen");
    let listed = verb().argument("--json").run().await;
    assert_eq!((listed.status.code(), listed.stderr.as_str()), (Some(0), ""));
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout).expect("it is JSON");
    let ids: Vec<&str> =
        listed.as_array().expect("a list").iter().filter_map(|one| one["session_id"].as_str()).collect();
    assert_eq!(ids.len(), 3, "{listed}");
    assert_eq!(listed[0]["target"], BASTION);
    let reason = listed[0]["reason"].as_str().expect("a text");
    assert!(reason.starts_with(concat!("rdsgate/", env!("CARGO_PKG_VERSION"), " for orders.")), "{reason}");

    let table = verb().run().await;
    let lines: Vec<&str> = table.stdout.lines().collect();
    assert_eq!(lines.len(), 7, "{}", table.stdout);
    let changes = |word: &str| match word {
        word if word.starts_with("dev-") => Some("SESSION"),
        word if word.len() == 20 && word.ends_with('Z') => Some("TIME"),
        // Behind the reason is the mark of one start.
        word if word.starts_with("rdsgate/") => Some("PROGRAM"),
        word if word.starts_with(['#', '@']) => Some("MARK"),
        word if word.parse::<u32>().is_ok() => Some("PID"),
        word if word.strip_suffix(['s', 'm']).is_some_and(|age| age.parse::<u32>().is_ok()) => Some("N"),
        _ => None,
    };
    // The column is as wide as the longest age.
    let table_masked = masked(&table.stdout, changes).replace("N   pid", "N  pid");
    snapshot("sessions", 0, &table_masked, &table.stderr);

    let one = verb().flag("--terminate", ids[0]).run().await;
    assert_eq!((one.status.code(), one.stdout.as_str(), one.stderr), (Some(0), "", format!("terminated {}\n", ids[0])));
    let rest = verb().argument("--all-mine").run().await;
    let said = format!("terminated {}\nterminated {}\n2 sessions ended\n", ids[1], ids[2]);
    assert_eq!((rest.status.code(), rest.stdout.as_str(), rest.stderr), (Some(0), "", said));
    let none = verb().argument("--json").run().await;
    assert_eq!((none.status.code(), none.stdout.as_str()), (Some(0), "[]\n"));
    let none = verb().run().await;
    let said = (none.stdout.as_str(), none.stderr.as_str());
    assert_eq!((none.status.code(), said), (Some(0), ("", "no open SSM sessions of rdsgate\n")));
}

#[tokio::test(flavor = "multi_thread")]
async fn up_says_where_it_listens_and_what_to_type() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let mut child = GateOptions::new(server, &sandbox)
        .env("RDSGATE_LOG", "warn")
        .command()
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("cargo built rdsgate");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let mut stderr = String::new();
    while !stderr.contains("ready:") {
        let line = timeout(PATIENCE, lines.next_line()).await.expect("in time").expect("it is text");
        stderr += &(line.expect("it gets ready") + "\n");
    }
    let pid = child.id().expect("it runs").to_string();
    assert!(std::process::Command::new("kill").args(["-s", "INT", &pid]).status().expect("kill is there").success());
    while let Some(line) = timeout(PATIENCE, lines.next_line()).await.expect("in time").expect("it is text") {
        stderr += &(line + "\n");
    }
    let ended = timeout(PATIENCE, child.wait_with_output()).await.expect("in time").expect("it was started");
    let port = stderr.split("localhost:").nth(1).and_then(|rest| rest.split(' ').next()).expect("a port").to_owned();
    let mask = |text: &str| text.replace(&port, "PORT");
    let stdout = String::from_utf8_lossy(&ended.stdout);
    snapshot("up", ended.status.code().unwrap_or(-1), &mask(&stdout), &mask(&stderr));
}
