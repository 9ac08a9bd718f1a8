//! The view of a person at a terminal: short log lines, the stage of a wait, a word for Ctrl-C.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, net::UnixListener},
    time::Duration,
};

use sandbox::{Destination, Failure, Operation, Role, Sandbox};

use crate::support::{
    gate::{GateOptions, sandbox, sandbox_with},
    servers::{PgServer, Server},
    terminal::on_a_terminal,
};

/// Longer than any test lasts.
const HANGS: Duration = Duration::from_hours(1);

#[tokio::test(flavor = "multi_thread")]
async fn log_on_a_terminal_is_short_and_names_the_target_first() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let mut gate = GateOptions::new(server, &sandbox)
        .flag("--label", "PRODUCTION")
        .env("RDSGATE_LOG", "info")
        .on_a_terminal()
        .start()
        .await;
    assert_eq!(gate.query("select 1").await, "1");
    assert!(gate.until(|log| log.contains(" PRODUCTION: app_user@appdb ended, ")).await, "{}", gate.log());
    let log = gate.log();
    let line = log.lines().find(|line| line.contains("@appdb ended")).expect("it is there").trim_end();
    let (time, rest) = line.split_once(' ').expect("the time is first");
    let is_time = time.len() == 8 && time.chars().all(|c| c.is_ascii_digit() || c == ':');
    assert!(is_time && rest.starts_with("orders PRODUCTION: ") && line.len() <= 80, "{line}");
    // A hint has a line of its own.
    sandbox.fail(Operation::StartSession, Failure::AccessDenied, None);
    let mut failing = GateOptions::new(server, &sandbox)
        .env("RDSGATE_LOG", "info")
        .env("RDSGATE_WARM_SESSIONS", "1")
        .on_a_terminal()
        .spawn();
    assert!(failing.until(|log| log.contains("\n         hint: allow ssm:StartSession")).await, "{}", failing.log());
    assert!(failing.log().contains(" warning: orders: connections will fail: "), "{}", failing.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_stage_is_shown_and_erased_and_ctrl_c_is_answered() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    sandbox.fail(Operation::StartSession, Failure::Throttling, None);
    let mut gate = GateOptions::new(server, &sandbox)
        .verb("psql")
        .without("--listen")
        .env("TERM", "xterm")
        .on_a_terminal()
        .spawn();
    assert!(gate.until(|log| log.contains("opening an SSM session")).await, "the stage is shown: {}", gate.log());
    gate.types("\u{3}").await;
    assert_eq!(gate.ended().await.code(), Some(130), "{}", gate.log());
    assert!(gate.until(|log| log.contains("interrupted")).await, "{}", gate.log());
    let log = gate.log();
    let shown = log.find("opening an SSM session").expect("it was there");
    let (erased, word) = (log.rfind("\u{1b}[K").expect("it is erased"), log.find("interrupted").expect("a word"));
    assert!(shown < erased && erased < word, "{log:?}");

    // Elsewhere than on a terminal there is no such line.
    sandbox.heal(Operation::StartSession);
    let ran = GateOptions::new(server, &sandbox).verb("psql").without("--listen").argument("-c").argument("select 1");
    let ran = ran.env("TERM", "xterm").run().await;
    assert_eq!((ran.status.code(), ran.stderr.as_str()), (Some(0), ""), "{}", ran.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_that_waits_answers_ctrl_c() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    for (arguments, shown) in [
        (&["wait", "nosuch"][..], "waiting for nosuch  "),
        (&["status", "--watch"], "nothing is running"),
        // The question comes after a wait, whose handler of the signal stays.
        (&["ls", "--connect"], "which one? "),
    ] {
        let options = GateOptions::bare(&sandbox).only(&arguments[1..]).verb(arguments[0]);
        let options = options.env("TERM", "xterm").env("XDG_RUNTIME_DIR", &folder.path().display().to_string());
        let (shown, status) = on_a_terminal(options.command(), &[(shown, "\x03")]).await;
        assert_eq!(status, 130, "{arguments:?}: {shown}");
        assert!(shown.ends_with("\ninterrupted\n"), "{arguments:?}: {shown:?}");
    }
}

/// A wait of a command: what makes it long, the line that shows it, the answer to Ctrl-C and the exit code.
struct Wait {
    called: fn(GateOptions, &Server) -> GateOptions,
    planted: fn(&Sandbox, &Server),
    shown: &'static str,
    answer: &'static str,
    exit: i32,
}

const WAIT: Wait =
    Wait { called: |options, _| options, planted: |_, _| {}, shown: "", answer: "\ninterrupted\n", exit: 130 };

/// A command that opens a session for a program.
fn program(options: GateOptions) -> GateOptions {
    options.verb("run").without("--listen")
}

/// A command about a target that has to be looked up.
fn of_name(verb: &str, options: GateOptions, server: &Server) -> GateOptions {
    let name = server.rds_host.split('.').next().expect("a label");
    options.only(&[name, "--user", "app_user"]).verb(verb)
}

fn with_role(options: GateOptions) -> GateOptions {
    options.flag("--role-arn", &Role::new("slow").arn())
}

fn databases_hang(sandbox: &Sandbox, _: &Server) {
    sandbox.delay(Operation::DescribeDBInstances, HANGS);
}

fn database_hangs(sandbox: &Sandbox, server: &Server) {
    sandbox.name(&server.rds_host, 5432, Destination::BlackHole);
}

const WAITS: [Wait; 15] = [
    Wait {
        called: |options, _| with_role(program(options)).argument("--").argument("true"),
        planted: |sandbox, _| sandbox.delay(Operation::AssumeRole, HANGS),
        shown: "AWS credentials  ",
        ..WAIT
    },
    Wait {
        called: |options, _| program(options).argument("--").argument("true"),
        planted: |sandbox, _| sandbox.delay(Operation::StartSession, HANGS),
        shown: "opening an SSM session  ",
        ..WAIT
    },
    Wait {
        called: |options, _| program(options).argument("--").argument("true"),
        planted: database_hangs,
        shown: "waiting for the database  ",
        ..WAIT
    },
    Wait {
        called: |options, _| program(options).argument("--").argument("true"),
        planted: database_hangs,
        shown: "waiting for the database, which may be waking up  ",
        ..WAIT
    },
    Wait {
        called: |options, _| program(options).argument("--").argument("true"),
        planted: |sandbox, _| sandbox.delay(Operation::TerminateSession, HANGS),
        shown: "ending the connections and the SSM session  ",
        answer: " to their idle\n         timeout: sessions 1\n",
        exit: 0,
    },
    Wait {
        called: |options, server| of_name("psql", options, server),
        planted: databases_hang,
        shown: "looking up the database  ",
        ..WAIT
    },
    Wait {
        called: |options, server| of_name("url", options, server),
        planted: databases_hang,
        shown: "looking up the database  ",
        ..WAIT
    },
    Wait {
        called: |options, server| of_name("policy", options, server),
        planted: databases_hang,
        shown: "looking up the database  ",
        ..WAIT
    },
    Wait {
        called: |options, server| of_name("setup", options, server),
        planted: databases_hang,
        shown: "looking up the database  ",
        ..WAIT
    },
    Wait {
        called: |options, _| options.only(&[]).verb("ls"),
        planted: databases_hang,
        shown: "listing databases and nodes  ",
        ..WAIT
    },
    Wait {
        called: |options, _| options.only(&[]).verb("whoami"),
        planted: |sandbox, _| sandbox.delay(Operation::GetCallerIdentity, HANGS),
        shown: "asking AWS for the identity  ",
        ..WAIT
    },
    Wait {
        called: |options, _| with_role(options.only(&[])).verb("login"),
        planted: |sandbox, _| sandbox.delay(Operation::AssumeRole, HANGS),
        shown: "asking AWS for the identity  ",
        ..WAIT
    },
    Wait {
        called: |options, server| {
            with_role(options.only(&[&server.rds_host, "--engine", "postgres", "--user", "app_user"])).verb("token")
        },
        planted: |sandbox, _| sandbox.delay(Operation::AssumeRole, HANGS),
        shown: "AWS credentials  ",
        ..WAIT
    },
    Wait {
        called: |options, _| options.verb("sessions").without("--listen"),
        planted: |sandbox, _| sandbox.delay(Operation::DescribeSessions, HANGS),
        shown: "listing sessions  ",
        ..WAIT
    },
    Wait {
        called: |options, _| options.verb("sessions").without("--listen").flag("--terminate", "dev-0123456789abcdef0"),
        planted: |sandbox, _| sandbox.delay(Operation::TerminateSession, HANGS),
        shown: "ending a session  ",
        ..WAIT
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn every_wait_of_a_command_is_shown_and_answers_ctrl_c() {
    let server = PgServer::shared();
    for Wait { called, planted, shown, answer, exit } in WAITS {
        let sandbox = sandbox_with(server, |options| options.role(Role::new("slow"))).await;
        planted(&sandbox, server);
        let options = called(GateOptions::new(server, &sandbox), server).env("TERM", "xterm").env("NO_COLOR", "1");
        let (text, status) = on_a_terminal(options.command(), &[(shown, "\x03")]).await;
        assert_eq!(status, exit, "{shown}: {text:?}");
        // A session may have to be ended behind it.
        assert!(text.contains(answer), "{shown}: {text:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_shows_that_it_waits_for_a_process_that_does_not_answer() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let own = folder.path().join("rdsgate");
    fs::create_dir(&own).expect("it is ours");
    fs::set_permissions(&own, fs::Permissions::from_mode(0o700)).expect("it is ours");
    let _silent = UnixListener::bind(own.join(format!("{}.sock", std::process::id()))).expect("it is ours");
    let options = GateOptions::bare(&sandbox).verb("status").env("TERM", "xterm");
    let options = options.env("XDG_RUNTIME_DIR", &folder.path().display().to_string());
    let (shown, status) = on_a_terminal(options.command(), &[("asking the running processes  ", "\x03")]).await;
    assert_eq!(status, 130, "{shown}");
    assert!(shown.ends_with("\ninterrupted\n"), "{shown:?}");
}

/// A wait of the clients of `rdsgate up`: whether a client has connected before, what makes it long, the line that shows it.
type ClientWait = (bool, fn(&Sandbox, &Server), &'static str);

#[tokio::test(flavor = "multi_thread")]
async fn every_wait_of_a_client_is_shown_and_ctrl_c_ends_it() {
    let server = PgServer::shared();
    let waits: [ClientWait; 5] = [
        (false, |sandbox, _| sandbox.delay(Operation::AssumeRole, HANGS), ": AWS credentials  "),
        (false, |sandbox, _| sandbox.delay(Operation::StartSession, HANGS), ": opening an SSM session  "),
        (false, database_hangs, ": waiting for the database  "),
        (false, database_hangs, ": waiting for the database, which may be waking up  "),
        (
            true,
            |sandbox, _| {
                sandbox.delay(Operation::ResumeSession, HANGS);
                sandbox.cut_all();
            },
            ": resuming the SSM session  ",
        ),
    ];
    for (connects_before, planted, shown) in waits {
        let sandbox = sandbox_with(server, |options| options.role(Role::new("slow"))).await;
        if !connects_before {
            planted(&sandbox, server);
        }
        let options = GateOptions::new(server, &sandbox).env("TERM", "xterm").env("RDSGATE_LOG", "warn");
        let options = if shown.contains("credentials") { with_role(options) } else { options };
        let mut gate = options.on_a_terminal().start().await;
        if connects_before {
            assert_eq!(gate.query("select 1").await, "1");
            planted(&sandbox, server);
        }
        let mut client = gate.psql_command().args(["-c", "select 1"]).spawn().expect("psql is installed");
        assert!(gate.until(|log| log.contains(shown)).await, "{shown}: {}", gate.log());
        gate.types("\u{3}").await;
        assert!(gate.until(|log| log.contains("stopping\n")).await, "{shown}: {:?}", gate.log());
        assert_eq!(gate.ended().await.code(), Some(130), "{shown}: {}", gate.log());
        client.wait().await.expect("it ends");
    }
}
