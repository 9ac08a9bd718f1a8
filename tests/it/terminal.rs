//! What a person at a terminal sees: short log lines, the stage of a wait, a word for Ctrl-C.

use sandbox::{Failure, Operation};

use crate::support::{
    gate::{GateOptions, sandbox},
    servers::PgServer,
    terminal::on_a_terminal,
};

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
