//! `rdsgate status` and the owners of sessions: what a user learns of running processes, while they run and after one was killed.

use rdsgate::admin::model::{Phase, Status};
use serde_json::Value;

use crate::support::{
    driver::{Driver, within},
    gate::{BASTION, GateOptions, sandbox},
    servers::PgServer,
};

/// The processes that `rdsgate status --json` lists.
async fn processes(options: GateOptions) -> Vec<Value> {
    let ran = options.only(&["--json"]).verb("status").run().await;
    assert_eq!((ran.status.code(), ran.stderr.as_str()), (Some(0), ""), "{}", ran.stdout);
    let value: Value = serde_json::from_str(&ran.stdout).expect("it is JSON");
    value["processes"].as_array().expect("a list").clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn status_shows_each_process_with_its_targets_connections_and_sessions() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let folder = tempfile::tempdir().expect("there is room");
    let runtime = folder.path().display().to_string();
    let options = || GateOptions::new(server, &sandbox).env("XDG_RUNTIME_DIR", &runtime);
    assert_eq!(processes(options()).await, Vec::<Value>::new());
    let ran = options().only(&[]).verb("status").run().await;
    let nothing = "no rdsgate of this user serves a database; rdsgate up or rdsgate psql NAME starts one\n";
    assert_eq!((ran.status.code(), ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "", nothing));

    let mut gate = options().flag("--label", "PRODUCTION").argument("--read-only").start().await;
    let client = Driver::connected(&gate, "shown").await;
    let secret = "select 'a statement that must not be shown', repeat('x', 100000)";
    client.simple(secret).await;
    // Beside it a process that runs a program, which asks for the status itself.
    let command = format!("{} status --json", env!("CARGO_BIN_EXE_rdsgate"));
    let inner =
        options().verb("run").without("--listen").argument("--").argument("sh").argument("-c").argument(&command);
    let ran = inner.run().await;
    assert_eq!((ran.status.code(), ran.stderr.as_str()), (Some(0), ""), "{}", ran.stdout);
    let seen: Value = serde_json::from_str(&ran.stdout).expect("it is JSON");
    let commands: Vec<&str> =
        seen["processes"].as_array().expect("a list").iter().filter_map(|one| one["command"].as_str()).collect();
    assert!(commands.contains(&"up") && commands.contains(&"run") && commands.len() == 2, "{seen}");

    let all = processes(options()).await;
    let [process] = &all[..] else { panic!("{all:?}") };
    let status: Status = serde_json::from_value(process.clone()).expect("the keys are those of /status");
    assert_eq!((status.pid, status.command.as_str(), status.phase), (gate.pid(), "up", Phase::Running));
    let [target] = &status.targets[..] else { panic!("{status:?}") };
    assert_eq!((target.label.as_deref(), target.read_only), (Some("PRODUCTION"), true));
    assert_eq!((target.user.as_deref(), target.database.as_deref()), (Some("app_user"), Some("appdb")));
    let [shown] = &target.clients[..] else { panic!("{target:?}") };
    assert_eq!((shown.user.as_deref(), shown.database.as_deref()), (Some("app_user"), Some("appdb")));
    assert!(shown.received_bytes > 100_000 && shown.sent_bytes > 0 && shown.logged_in, "{shown:?}");
    assert_eq!(target.traffic.received_history.iter().sum::<u64>(), target.traffic.received_bytes);
    let [session] = &target.sessions[..] else { panic!("{target:?}") };
    assert_eq!(shown.session.as_ref(), Some(&session.id));
    let credentials = target.credentials.as_ref().expect("they were needed");
    assert_eq!(credentials.expires_at, None, "{credentials:?}");

    let ran = options().only(&[]).verb("status").run().await;
    for part in
        ["rdsgate up, process ", " PRODUCTION  localhost:", "app_user", "appdb", BASTION, "no expiry", &session.id]
    {
        assert!(ran.stdout.contains(part), "{part} is missing:\n{}", ran.stdout);
    }
    assert!(ran.stdout.lines().all(|line| line.chars().count() <= 80), "{}", ran.stdout);
    let mut secrets = options().secrets();
    secrets.push("must not be shown".into());
    for secret in secrets {
        assert!(!ran.stdout.contains(&secret) && !process.to_string().contains(&secret), "{secret}");
    }

    // A client that keeps reading it with --watch sees one object a line; a reader that leaves ends it.
    let watch = format!("{command} --watch | head -n 2");
    let watched = tokio::process::Command::new("sh")
        .args(["-c", &watch])
        .env("XDG_RUNTIME_DIR", &runtime)
        .kill_on_drop(true)
        .output();
    let watched = within("two lines", watched).await.expect("sh is there");
    assert_eq!(String::from_utf8_lossy(&watched.stdout).lines().count(), 2);

    // A killed process leaves its socket behind, which the next one removes.
    let socket = folder.path().join(format!("rdsgate/{}.sock", gate.pid()));
    gate.signal("KILL");
    gate.ended().await;
    assert!(socket.exists());
    assert_eq!(processes(options()).await, Vec::<Value>::new());
    let next = options().start().await;
    assert!(!socket.exists() && folder.path().join(format!("rdsgate/{}.sock", next.pid())).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_sessions_of_processes_that_ended_here_are_orphans() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let start = async || {
        let gate = GateOptions::new(server, &sandbox).start().await;
        assert_eq!(gate.query("select 1").await, "1");
        gate
    };
    let (kept, mut killed) = (start().await, start().await);
    let killed_pid = killed.pid();
    killed.signal("KILL");
    killed.ended().await;
    let verb = || GateOptions::new(server, &sandbox).verb("sessions").without("--listen");
    let listed = verb().argument("--json").run().await;
    let listed: Value = serde_json::from_str(&listed.stdout).expect("it is JSON");
    let owners: Vec<(&str, u64)> = listed
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| (one["owner"].as_str().expect("a word"), one["process"].as_u64().expect("a number")))
        .collect();
    assert_eq!(owners.len(), 2, "{listed}");
    assert!(
        owners.contains(&("process", kept.pid().into())) && owners.contains(&("orphan", killed_pid.into())),
        "{listed}"
    );
    let orphan = listed.as_array().and_then(|all| all.iter().find(|one| one["owner"] == "orphan")).expect("one");
    let id = orphan["session_id"].as_str().expect("a text");
    let table = verb().run().await;
    assert_eq!(table.stderr, "1 orphan; rdsgate sessions --orphans ends them\n");
    assert!(table.stdout.contains("  orphan\n"), "{}", table.stdout);

    let ran = verb().argument("--orphans").run().await;
    assert_eq!((ran.status.code(), ran.stderr), (Some(0), format!("terminated {id}\n1 session ended\n")));
    assert_eq!(kept.query("select 2").await, "2", "its session is not an orphan");
    let ran = verb().argument("--orphans").run().await;
    assert_eq!((ran.status.code(), ran.stderr.as_str()), (Some(0), "0 sessions ended\n"));
}
