//! `rdsgate doctor`: the real program against real servers and the sandbox's AWS. What it finds when something is broken is in
//! `failure_table`.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use sandbox::{Destination, Identity, Node, Operation, Sandbox, SecurityGroup};
use tokio::{io::AsyncReadExt as _, net::TcpListener};

use crate::support::{
    gate::{BASTION, CREDENTIALS, GateOptions, PATIENCE, sandbox, sandbox_with},
    refusal::Refusal,
    report::{Report, examined},
    servers::{Engine, Options, PgServer, Server},
    terminal::{on_a_terminal, screen},
};

/// The lookups beyond those of a connection.
const ASKED: [Operation; 5] = [
    Operation::GetCallerIdentity,
    Operation::DescribeDBInstances,
    Operation::SimulatePrincipalPolicy,
    Operation::DescribeInstanceInformation,
    Operation::FilterLogEvents,
];

fn deny(sandbox: &Sandbox, operations: &[Operation]) {
    assert!(sandbox.identity(&Identity::user().access_key, |user| user.denied.extend(operations)));
}

/// The report without the values that differ from run to run.
fn steady(report: &str) -> String {
    let line = |line: &str| -> String {
        if let Some(head) = line.strip_suffix(" ms)") {
            return format!("{}N ms)\n", head.trim_end_matches(|c: char| c.is_ascii_digit()));
        }
        if line.contains(" answers as ") {
            return format!("         VERSION answers as{}\n", line.split(" answers as").nth(1).unwrap_or_default());
        }
        let line = line.split(", last heard of ").next().unwrap_or_default();
        let word = |word: &str| match word {
            word if word.len() == 20 && word.ends_with('Z') && word.contains('T') => "TIME".to_owned(),
            word if word.starts_with("dev-") => "SESSION".to_owned(),
            word => word.to_owned(),
        };
        line.split(' ').map(word).collect::<Vec<_>>().join(" ") + "\n"
    };
    report.lines().map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn report_on_a_working_target_has_every_fact() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let said = examined(GateOptions::new(server, &sandbox).argument("--verbose"), &sandbox).await;
    assert_eq!((said.status.code(), said.stderr.as_str()), (Some(0), ""), "{said:?}");
    assert_eq!(
        steady(&said.stdout),
        "\
ok       configuration (N ms)
         postgres at orders.c1abcdefghij.eu-central-1.rds.amazonaws.com:5432 via
         i-0123456789abcdef0, user app_user, database appdb
ok       AWS credentials and expiry (N ms)
         from AWS_ACCESS_KEY_ID in the environment; they do not expire
ok       IAM principal (N ms)
         arn:aws:iam::123456789012:user/dev
ok       local clock, compared with AWS (N ms)
         in sync with AWS (within 30 s)
ok       discovery (N ms)
         not needed: configuration is complete
ok       endpoint name and region (N ms)
         orders.c1abcdefghij.eu-central-1.rds.amazonaws.com: an instance in
         eu-central-1
ok       database in RDS (N ms)
         orders, instance: postgres 15.8, certificate of rds-ca-rsa2048-g1,
         resource id db-ORDERSAAAAAAAAAAAAAAAAAAAA
         IAM database authentication is on
ok       IAM permission rds-db:connect (N ms)
         arn:aws:rds-db:eu-central-1:123456789012:dbuser:db-ORDERSAAAAAAAAAAAAAAAAAAAA/app_user
         is allowed to arn:aws:iam::123456789012:user/dev
         why: the simulation covers the policies and the permissions boundary of
         the user or role; it does not cover session policies, and may not cover
         service control policies
ok       bastion in Systems Manager (N ms)
         i-0123456789abcdef0 is online
         SSM agent 3.3.987.0
ok       security groups, bastion to database (N ms)
         sg-0d0000000000da7a0 lets sg-0b0000000000ba570 in on port 5432
ok       SSM session (N ms)
         SESSION on i-0123456789abcdef0
ok       connection to the database port (N ms)
         orders.c1abcdefghij.eu-central-1.rds.amazonaws.com:5432 answers
ok       network around the bastion (N ms)
         not needed: no bastion is offline, and no dial hangs
ok       database certificate (N ms)
         TLSv1.3, valid for orders.c1abcdefghij.eu-central-1.rds.amazonaws.com
         orders.c1abcdefghij.eu-central-1.rds.amazonaws.com for
         orders.c1abcdefghij.eu-central-1.rds.amazonaws.com, issued by TEST ONLY
         Subordinate CA RSA2048 G1.A.1, from TIME to
         TIME
         TEST ONLY Subordinate CA RSA2048 G1.A.1, issued by TEST ONLY Root CA
         RSA2048 G1, from TIME to TIME
         issued by the authority that RDS names: rds-ca-rsa2048-g1
ok       login token (N ms)
         360 characters, valid until TIME
ok       login (N ms)
         as app_user
ok       query (N ms)
         VERSION answers as app_user
ok       IAM login of the database user (N ms)
         app_user is a member of rds_iam
ok       IAM login log of the database (N ms)
         not read: the login succeeded
ok       local port (N ms)
         the system chooses a free one on 127.0.0.1 and ::1
ok       end of the SSM session (N ms)
         SESSION is terminated
orders.c1abcdefghij.eu-central-1.rds.amazonaws.com: nothing failed
"
    );
    // A word that is longer has a line of its own.
    let fits = |line: &str| line.chars().count() <= 80 || line.trim_start().split(' ').count() == 1;
    assert!(said.stdout.lines().all(fits), "{}", said.stdout);
    assert_eq!(sandbox.violations(), [""; 0]);
}

/// A report on a terminal of 80 columns and 24 rows.
fn on_a_smart_terminal(options: GateOptions) -> tokio::process::Command {
    options.verb("doctor").env("RDSGATE_LOG", "error").env("TERM", "xterm-256color").env("LC_ALL", "C.UTF-8").command()
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_appear_when_they_start_and_are_settled_in_place() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    // Far slower than the first sign has to be.
    for operation in [Operation::GetCallerIdentity, Operation::StartSession] {
        sandbox.delay(operation, Duration::from_millis(700));
    }
    let (shown, status) = on_a_terminal(on_a_smart_terminal(GateOptions::new(server, &sandbox)), &[]).await;
    assert_eq!(status, 0, "{shown}");
    let at = |words: &str| shown.find(words).unwrap_or_else(|| panic!("{words:?} is missing: {shown}"));
    let settled = at("ok\u{1b}[0m       SSM session: ");
    assert!(at(" SSM session  0 s") < settled, "the check is there before its result: {shown}");
    assert!(at(" IAM principal  0 s") < at("ok\u{1b}[0m       IAM principal: "), "{shown}");
    let screen = screen(&shown);
    let rows: Vec<&str> = screen.iter().map(|row| row.trim_end()).filter(|row| !row.is_empty()).collect();
    assert_eq!(rows.len(), 20, "one row a check that was needed, and one that says it all: {rows:#?}");
    assert!(rows.len() <= 24 && rows.iter().all(|row| row.chars().count() <= 80), "{rows:#?}");
    assert!(rows[..19].iter().all(|row| row.starts_with("ok       ")), "nothing of a spinner is left: {rows:#?}");
    assert_eq!(rows[19], format!("{}: nothing failed", server.rds_host));

    // The same without colours and without lines that change.
    for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let mut command = on_a_smart_terminal(GateOptions::new(server, &sandbox));
        command.env(name, value);
        let (shown, _) = on_a_terminal(command, &[]).await;
        assert!(!shown.contains("\u{1b}[3"), "no colours: {shown}");
        assert!(name == "NO_COLOR" || !shown.contains('\u{1b}') && !shown.contains('\r'), "plain lines: {shown}");
    }
    let said = examined(GateOptions::new(server, &sandbox).env("TERM", "xterm-256color"), &sandbox).await;
    assert!(said.stdout.starts_with("ok       configuration: ") && !said.stdout.contains('\u{1b}'), "{said:?}");
    assert_eq!(said.stderr, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_run_prints_what_was_found() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    sandbox.name(&server.rds_host, 5432, Destination::BlackHole);
    let command = on_a_smart_terminal(GateOptions::new(server, &sandbox).env("NO_COLOR", "1"));
    let (shown, status) = on_a_terminal(command, &[("connection to the database port  1 s", "\x03")]).await;
    assert_eq!(status, 130, "{shown}");
    let rows = screen(&shown);
    let row =
        |words: &str| rows.iter().position(|row| row.contains(words)).unwrap_or_else(|| panic!("{words}: {rows:#?}"));
    row("stopping: the SSM session is being ended");
    row("ok       SSM session: ");
    row("ok       end of the SSM session: ");
    assert!(row("unknown  not checked, because the run was stopped before: dial, ") < rows.len() - 2);
    row(": stopped; nothing failed so far (exit code 130)");
    let over = sandbox.until(|sessions| sessions.iter().all(|session| session.ended.is_some()));
    tokio::time::timeout(PATIENCE, over).await.expect("the session is terminated");
}

#[tokio::test(flavor = "multi_thread")]
async fn session_that_cannot_be_terminated_is_a_failure() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    deny(&sandbox, &[Operation::TerminateSession]);
    let report = Report::of(GateOptions::new(server, &sandbox), &sandbox).await;
    report.exits(4).first_fails("end").is("pass", &["login", "query", "user"]);
    report.says("end", "fail", "TerminateSession: access denied", "allow ssm:TerminateSession");
}

#[tokio::test(flavor = "multi_thread")]
async fn login_that_was_not_tested_is_not_a_success() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let report = Report::alone(GateOptions::new(server, &sandbox).without("--user"), &sandbox).await;
    report.exits(2).first_fails("login").is("pass", &["session", "dial", "certificate", "port"]);
    report.says("login", "fail", "not tested: no database user is set", "--user USER");
    assert_eq!(report.report["summary"]["check"], "login");
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_user_check_reports_the_plugin() {
    // Debian's MariaDB has no AWSAuthenticationPlugin, so that the test's servers let users in by PAM.
    for (engine, verdict, fact, fix) in [
        (Engine::MariaDb, "warn", "app_user@% has pam", "IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS'"),
        (Engine::MySql, "pass", "app_user@% has AWSAuthenticationPlugin", ""),
    ] {
        let server = Server::shared_of(engine);
        let sandbox = sandbox(server).await;
        let report = Report::alone(GateOptions::new(server, &sandbox), &sandbox).await;
        report.exits(0).says("query", "pass", " answers as app_user@%", "").says("user", verdict, fact, fix);
        report.is("pass", &["database", "permission", "session", "dial", "certificate", "login", "log", "port"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn direct_route_needs_no_bastion() {
    let options = Options { hosts: vec!["localhost".into()], ..Options::default() };
    let server = tokio::task::block_in_place(|| Server::start(&options));
    let port = server.addr.port();
    let sandbox = sandbox_with(&server, |mut options| {
        options.databases[0].port = port;
        options
    })
    .await;
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let file = folder.path().join("rdsgate.toml");
    // One label makes no target on the command line.
    let text = format!("[targets.here]\nhost = 'localhost:{port}'\nregion = '{}'\nuser = 'app_user'\n", server.region);
    std::fs::write(&file, text).expect("the folder is ours");
    let here = || {
        let arguments = ["here", "--via", "direct", "--config", &file.display().to_string()].map(str::to_owned);
        let arguments = arguments.iter().map(String::as_str).collect::<Vec<_>>();
        GateOptions::bare(&sandbox).only(&arguments).flag("--ca-file", &server.ca.display().to_string())
    };
    let report = Report::alone(here().flag("--listen", "0"), &sandbox).await;
    report.exits(0).says("bastion", "pass", "not needed: the route is direct", "");
    report
        .says("endpoint", "warn", "localhost is not an RDS endpoint name", "rdsgate ls")
        .is("pass", &["network", "session"]);
    report.says("dial", "pass", &format!("localhost:{port} answers"), "").is("pass", &["certificate", "login", "user"]);
    assert_eq!(sandbox.sessions().len(), 0);

    let report = Report::alone(here().flag("--listen", "0").flag("--port", "1"), &sandbox).await;
    report.exits(5).first_fails("database").says("dial", "fail", "cannot connect to localhost:1", "use --bastion");
    report.is("unknown", &["certificate", "login"]).is("pass", &["session", "token", "port"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rds_proxy_has_facts_of_its_own() {
    let host = "pooled.proxy-c1abcdefghij.eu-central-1.rds.amazonaws.com";
    let options = Options { hosts: vec![host.into()], ..Options::default() };
    let server = tokio::task::block_in_place(|| Server::start(&options));
    let proxy = |iam| {
        sandbox_with(&server, move |mut options| {
            options.databases[0].engine = "POSTGRESQL".into();
            options.databases[0].iam = iam;
            options
        })
    };
    let sandbox = proxy(true).await;
    let report = Report::alone(GateOptions::new(&server, &sandbox), &sandbox).await;
    report.exits(0).says("endpoint", "pass", "an RDS Proxy in eu-central-1", "");
    report.says(
        "database",
        "pass",
        "pooled, proxy: postgresql, certificate of a public authority, resource id prx-",
        "",
    );
    report.says("permission", "pass", "dbuser:prx-pooledaaaaaaaaaaaaaaaaaaaa/app_user is allowed", "");
    report.says("user", "pass", "the RDS Proxy takes the token", "").is("pass", &["network", "certificate", "login"]);

    let sandbox = proxy(false).await;
    let report = Report::alone(GateOptions::new(&server, &sandbox).identity(&Identity::readonly()), &sandbox).await;
    let fix = "aws rds modify-db-proxy --db-proxy-name pooled --default-auth-scheme IAM_AUTH";
    report.exits(5).first_fails("database").says("database", "fail", "IAM database authentication is off", fix);
    report.says("login", "fail", "PAM authentication failed", "").says("log", "unknown", "/aws/rds/proxy", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_discovery_does_not_stop_the_other_checks() {
    let server = PgServer::shared();
    let sandbox = sandbox_with(server, |options| options.node(Node::new("i-0fedcba9876543210", "other"))).await;
    // What has been found is remembered in a home.
    let homes = tempfile::tempdir().expect("there is room for temporary files");
    let named = |name: &str| {
        let home = tempfile::tempdir_in(homes.path()).expect("there is room for temporary files").keep();
        let options = GateOptions::bare(&sandbox).only(&[name, "--user", "app_user", "--listen", "0"]);
        options.flag("--ca-file", &server.ca.display().to_string()).env("HOME", &home.display().to_string())
    };
    // Two bastions, and no person to choose.
    let report = Report::alone(named("orders"), &sandbox).await;
    report.exits(2).first_fails("discovery");
    report.says("discovery", "fail", "orders could be reached through 2 nodes:\ni-0123456789abcdef0", "--bastion");
    report.is("pass", &["credentials", "identity", "clock", "endpoint", "database", "permission", "token", "port"]);
    report.is("unknown", &["bastion", "network", "session", "dial", "certificate", "login", "query", "user", "log"]);
    assert_eq!(report.report["endpoint"], format!("{}:5432", server.rds_host));

    let report = Report::alone(named("nosuch").flag("--bastion", BASTION), &sandbox).await;
    report.exits(2).first_fails("discovery");
    report.says("discovery", "fail", "there is no database nosuch in eu-central-1", "rdsgate ls");
    report.is("pass", &["configuration", "credentials", "identity", "clock", "bastion"]);
    report
        .is("unknown", &["endpoint", "database", "permission", "network", "session", "token", "login", "log", "port"]);
    assert!(report.report["endpoint"].is_null());

    deny(&sandbox, &[Operation::DescribeDBInstances, Operation::DescribeDBClusters]);
    let report = Report::alone(named("orders"), &sandbox).await;
    report.exits(4).says("discovery", "fail", "cannot look up orders: DescribeDBInstances: access denied", "--bastion");

    let nobody = CREDENTIALS.into_iter().fold(named("orders"), GateOptions::without_env);
    let report = Report::alone(nobody, &sandbox).await;
    report.exits(3).first_fails("credentials").says("discovery", "fail", "no AWS credentials were found", "--profile");

    // Without a region there is no endpoint to ask.
    let report = Report::alone(named("orders").without_env("AWS_REGION"), &sandbox).await;
    report.exits(2).says("configuration", "fail", "cannot look up orders: the region is unknown", "--region");
    assert_eq!(sandbox.sessions().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn json_report_has_the_documented_keys() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let Report { report, .. } = Report::alone(GateOptions::new(server, &sandbox), &sandbox).await;
    assert_eq!(report["endpoint"], format!("{}:5432", server.rds_host));
    assert_eq!((&report["engine"], &report["region"]), (&"postgres".into(), &server.region.as_str().into()));
    let documented = include_str!("../../docs/doctor.md");
    let stages = report["stages"].as_array().expect("a list");
    for keys in [&report, &report["summary"], &stages[0], &stages[0]["findings"][0]] {
        for key in keys.as_object().expect("an object").keys() {
            assert!(documented.contains(&format!("`{key}`")), "docs/doctor.md does not explain {key}");
        }
    }
    for check in stages.iter().filter_map(|stage| stage["check"].as_str()) {
        assert!(documented.contains(&format!("| `{check}` |")), "docs/doctor.md does not explain {check}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signal_ends_the_checks_and_their_session() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    sandbox.name(&server.rds_host, 5432, Destination::BlackHole);
    let mut doctor = GateOptions::new(server, &sandbox).verb("doctor").command();
    let mut child = doctor.stdout(Stdio::piped()).spawn().expect("cargo built rdsgate");
    let dials = sandbox.until(|sessions| sessions.iter().any(|session| session.ended.is_none() && session.opens > 0));
    tokio::time::timeout(PATIENCE, dials).await.expect("a session opens");
    let pid = child.id().expect("still running").to_string();
    let sent = std::process::Command::new("kill").args(["-s", "TERM", &pid]).status();
    assert!(sent.expect("kill is there").success());
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.expect("it ends").expect("it was started");
    assert_eq!(status.code(), Some(143));
    let mut printed = String::new();
    let mut stdout = child.stdout.take().expect("piped");
    stdout.read_to_string(&mut printed).await.expect("it is text");
    assert!(printed.starts_with("ok       configuration: "), "{printed}");
    let ended = ["dev-", "the one that was being opened is given up"];
    let ended = ended.iter().any(|how| printed.contains(&format!("ok       end of the SSM session: {how}")));
    assert!(ended && printed.contains("stopped; nothing failed so far"), "{printed}");
    let over = sandbox.until(|sessions| sessions.iter().all(|session| session.ended.is_some()));
    tokio::time::timeout(PATIENCE, over).await.expect("the session is terminated");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_credentials_fail_first_and_the_other_checks_continue() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let none = CREDENTIALS.into_iter().fold(GateOptions::new(server, &sandbox), GateOptions::without_env);
    let report = Report::alone(none, &sandbox).await;
    report.exits(3).first_fails("credentials").is("pass", &["configuration", "clock", "endpoint", "port"]);
    report.is("unknown", &["identity", "database", "permission", "bastion", "session", "dial", "certificate", "token"]);
    report.is("unknown", &["login", "query", "user", "log"]);

    let report = Report::alone(GateOptions::new(server, &sandbox).flag("--profile", "nobody"), &sandbox).await;
    report.exits(3).says("credentials", "fail", "there is no AWS profile", "rdsgate login --profile nobody");
    report.is("pass", &["endpoint", "port"]);
    assert_eq!(sandbox.sessions().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_configuration_gives_a_report_of_one_check() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let report = Report::alone(GateOptions::new(server, &sandbox).flag("--rotate-after", "1s"), &sandbox).await;
    report.exits(2).first_fails("configuration").says("configuration", "fail", "--rotate-after", "");
    assert_eq!(report.report["stages"].as_array().map(Vec::len), Some(1));
    assert_eq!(sandbox.calls().len(), 0);
    let said = examined(GateOptions::new(server, &sandbox).flag("--rotate-after", "1s"), &sandbox).await;
    assert!(said.stdout.starts_with("FAIL     configuration: "), "{said:?}");
    assert_eq!(said.status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn region_contradicting_the_endpoint_name_is_a_warning() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let report = Report::alone(GateOptions::new(server, &sandbox).flag("--region", "us-west-2"), &sandbox).await;
    report.says("configuration", "warn", "us-west-2", "remove the region");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_clock_is_reported_with_its_skew() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    sandbox.clock_ahead(Duration::from_mins(2));
    let report = Report::alone(GateOptions::new(server, &sandbox), &sandbox).await;
    report.exits(0).says("clock", "warn", "s behind AWS", "timedatectl");
    sandbox.clock_ahead(Duration::from_mins(20));
    let report = Report::alone(GateOptions::new(server, &sandbox), &sandbox).await;
    report.exits(1).first_fails("clock").says("clock", "fail", "s behind AWS", "timedatectl");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_failures_are_reported_and_the_first_decides_the_exit_code() {
    let server = PgServer::shared();
    let sandbox = sandbox_with(server, |mut options| {
        options.databases[0].iam = false;
        options
    })
    .await;
    sandbox.bastion(BASTION, false);
    let other = TcpListener::bind("127.0.0.1:0").await.expect("loopback can be listened on");
    let port = other.local_addr().expect("it is bound").port().to_string();
    let report = Report::alone(GateOptions::new(server, &sandbox).flag("--listen", &port), &sandbox).await;
    report.exits(5).first_fails("database").is("fail", &["database", "bastion", "session", "port"]);
    report.says("port", "fail", &format!("127.0.0.1:{port} is taken by "), "--listen");
    let said = examined(GateOptions::new(server, &sandbox).flag("--listen", &port), &sandbox).await;
    let name = server.rds_host.split('.').next().expect("a label");
    let fix = format!(
        "aws rds modify-db-instance --db-instance-identifier {name} --enable-iam-database-authentication \
         --apply-immediately --region {}",
        server.region
    );
    let end = format!(
        "FAIL     database in RDS: IAM database authentication is off\n         why: no token is accepted\n         \
         fix: {fix}\n{name}: IAM database authentication is off (exit code 5)\nfix: {fix}\n",
    );
    assert!(said.stdout.ends_with(&end), "{said:?}");

    sandbox.bastion(BASTION, true);
    let healthy = sandbox_with(server, |options| options).await;
    Report::alone(GateOptions::new(server, &healthy).flag("--listen", &port), &healthy)
        .await
        .exits(1)
        .first_fails("port");
}

#[tokio::test(flavor = "multi_thread")]
async fn denied_lookups_are_unknown_and_not_failures() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    deny(&sandbox, &ASKED[1..]);
    let report = Report::alone(GateOptions::new(server, &sandbox), &sandbox).await;
    report
        .exits(0)
        .is("unknown", &["database", "permission", "bastion", "network"])
        .is("pass", &["login", "query", "user"]);
    report.says("permission", "unknown", "dbuser:<DbiResourceId>/app_user", "");
    report.says("bastion", "unknown", "access denied", "ssm:DescribeInstanceInformation");

    let seen = sandbox_with(server, |options| options).await;
    deny(&seen, &[Operation::SimulatePrincipalPolicy, Operation::DescribeSecurityGroups]);
    let report = Report::alone(GateOptions::new(server, &seen), &seen).await;
    report.says("network", "unknown", "access denied", "ec2:DescribeSecurityGroups");
    report.exits(0).says("permission", "unknown", "dbuser:db-", "iam:SimulatePrincipalPolicy");
}

#[tokio::test(flavor = "multi_thread")]
async fn security_group_rules_admit_by_group_network_or_prefix_list() {
    let server = PgServer::shared();
    for (protocol, from, verdict, fact) in [
        ("tcp", "sg-0b0000000000ba570", "pass", "sg-0d0000000000da7a0 lets sg-0b0000000000ba570 in on port 5432"),
        ("-1", "10.0.0.0/28", "pass", "lets 10.0.0.0/28 in"),
        ("tcp", "pl-0123", "unknown", "depends on pl-0123"),
        (
            "tcp",
            "10.0.0.16/28",
            "warn",
            "no rule of sg-0d0000000000da7a0 lets i-0123456789abcdef0 (sg-0b0000000000ba570) in",
        ),
        ("udp", "10.0.0.0/28", "warn", "no rule"),
    ] {
        let group = SecurityGroup::new("sg-0d0000000000da7a0", protocol, (5000, 6000), &[from]);
        let sandbox = sandbox_with(server, |mut options| {
            options.security_groups = vec![group];
            options
        })
        .await;
        let report = Report::alone(GateOptions::new(server, &sandbox), &sandbox).await;
        report.exits(0).says("network", verdict, fact, "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_discovery_prints_what_was_found() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    sandbox.delay(Operation::DescribeDBInstances, PATIENCE);
    let name = server.rds_host.split('.').next().expect("a label");
    let options = GateOptions::new(server, &sandbox).only(&[name, "--user", "app_user"]).env("NO_COLOR", "1");
    let (shown, status) = on_a_terminal(on_a_smart_terminal(options), &[("discovery  1 s", "\x03")]).await;
    assert_eq!(status, 130, "{shown}");
    let rows = screen(&shown);
    let row = |words: &str| rows.iter().any(|row| row.starts_with(words));
    assert!(row("interrupted"), "{rows:#?}");
    assert!(row(&format!("ok       configuration: {name} in {}", server.region)), "{rows:#?}");
    assert!(row("unknown  discovery: interrupted"), "{rows:#?}");
    assert!(row(&format!("{name}: stopped; nothing failed so far (exit code 130)")), "{rows:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn role_that_does_not_exist_is_to_be_created() {
    let server = Server::start(&Options::default());
    // A server that asks for a proof does not tell that there is no such role. This one lets everybody in.
    let (hba, loaded) = (server.admin("show hba_file"), server.admin("select pg_conf_load_time()"));
    server.admin(&format!("copy (values ('local all all trust'), ('hostssl all all all trust')) to '{hba}'"));
    server.admin("select pg_reload_conf()");
    let until = Instant::now() + PATIENCE;
    while server.admin("select pg_conf_load_time()") == loaded {
        assert!(Instant::now() < until, "the server reads its files again");
    }
    let (error, statements) = ("role \"nosuch\" does not exist", "CREATE USER nosuch; GRANT rds_iam TO nosuch;");
    let sandbox = sandbox(&server).await;
    let as_nosuch = || GateOptions::new(&server, &sandbox).flag("--user", "nosuch");
    let ran = as_nosuch().verb("doctor").without("--listen").run().await;
    let said = ran.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains(error) && said.contains(statements), "{said}");
    let gate = as_nosuch().start().await;
    Refusal::of(&gate).await.says("28000", error, "Stage: database login.", statements);
}
