//! `rdsgate doctor`: the real program against real servers and the sandbox's AWS, with one thing broken at a time.

use std::{process::Stdio, time::Duration};

use rdsgate::sandbox::{Destination, Failure, Identity, Operation, Sandbox, SessionToken};
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpSocket},
    process::Command,
};

use crate::support::{
    gate::{BASTION, PATIENCE, sandbox, sandbox_with},
    servers::{Engine, Options, PgServer, Server, Variant},
};

/// One run of the program.
struct Run<'a> {
    sandbox: &'a Sandbox,
    arguments: Vec<String>,
    env: Vec<(String, String)>,
}

/// What it said.
#[derive(Debug)]
struct Said {
    code: i32,
    stdout: String,
    stderr: String,
}

impl<'a> Run<'a> {
    fn of(server: &Server, sandbox: &'a Sandbox) -> Self {
        let engine = if server.engine == Engine::Postgres { "postgres" } else { "mysql" };
        let ca = server.ca.display().to_string();
        let arguments =
            ["doctor", &server.rds_host, "--engine", engine, "--listen", "localhost:0", "--bastion", BASTION];
        let arguments = arguments.into_iter().chain(["--user", "app_user", "--database", "appdb", "--ca-file", &ca]);
        let arguments = arguments.map(str::to_owned).collect();
        Self { sandbox, arguments, env: sandbox.env() }
    }

    /// Sets a flag, in the place of an earlier value.
    fn flag(mut self, name: &str, value: &str) -> Self {
        if let Some(at) = self.arguments.iter().position(|argument| argument == name) {
            self.arguments.drain(at..at + 2);
        }
        self.arguments.extend([name.into(), value.into()]);
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.into(), value.into()));
        self
    }

    fn without_env(mut self, name: &str) -> Self {
        self.env.retain(|(known, _)| known != name);
        self
    }

    fn identity(mut self, identity: &Identity) -> Self {
        self.env = self.sandbox.env_for(identity);
        self
    }

    async fn text(self) -> Said {
        let secrets = self.secrets();
        let output = Command::new(env!("CARGO_BIN_EXE_rdsgate"))
            .args(&self.arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", "/nonexistent")
            .env("RDSGATE_LOG", "error")
            .envs(self.env)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(PATIENCE, output).await.expect("it ends").expect("cargo built rdsgate");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints UTF-8");
        let code = output.status.code().unwrap_or(-1);
        let said = Said { code, stdout: text(output.stdout), stderr: text(output.stderr) };
        let handed_out = self.sandbox.stream_secrets();
        for secret in secrets.iter().chain(&handed_out).filter(|secret| !secret.is_empty()) {
            assert!(!said.stdout.contains(secret.as_str()), "a secret in a report: {said:?}");
            assert!(!said.stderr.contains(secret.as_str()), "a secret beside a report: {said:?}");
        }
        for mark in ["X-Amz-", "Action=connect", "ws://", "wss://"] {
            assert!(!said.stdout.contains(mark), "{mark}: {said:?}");
        }
        // Whatever happened, no session is left behind.
        let over = self.sandbox.until(|sessions| sessions.iter().all(|session| session.ended.is_some()));
        tokio::time::timeout(PATIENCE, over).await.expect("sessions are terminated");
        said
    }

    fn secrets(&self) -> Vec<String> {
        let names = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
        let secret = self.env.iter().filter(|(name, _)| names.contains(&name.as_str()));
        secret.map(|(_, value)| value.clone()).collect()
    }

    async fn json(mut self) -> Report {
        self.arguments.push("--json".into());
        let said = self.text().await;
        let report = serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"));
        Report { code: said.code, report }
    }
}

#[derive(Debug)]
struct Report {
    code: i32,
    report: Value,
}

impl Report {
    /// The exit code, and that it is the report's own.
    fn exits(&self, code: i32) -> &Self {
        assert_eq!((self.code, &self.report["exit_code"]), (code, &Value::from(code)), "{:#}", self.report);
        self
    }

    fn stage(&self, check: &str) -> &Value {
        let stages = self.report["stages"].as_array().expect("a list");
        stages.iter().find(|stage| stage["check"] == check).unwrap_or_else(|| panic!("{check}: {:#}", self.report))
    }

    /// One of a check's findings has this verdict, says this, and has this among its fix or cause.
    fn says(&self, check: &str, verdict: &str, fact: &str, fix: &str) -> &Self {
        let stage = self.stage(check);
        assert_eq!(stage["verdict"], verdict, "{check}: {:#}", self.report);
        let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        let found = stage["findings"].as_array().expect("a list").iter().any(|finding| {
            finding["verdict"] == verdict
                && text(finding, "fact").contains(fact)
                && (text(finding, "fix") + &text(finding, "cause")).contains(fix)
        });
        assert!(found, "{check}, {fact:?}, {fix:?}: {:#}", self.report);
        self
    }

    fn is(&self, verdict: &str, checks: &[&str]) -> &Self {
        for check in checks {
            assert_eq!(self.stage(check)["verdict"], verdict, "{check}: {:#}", self.report);
        }
        self
    }

    /// The first failure is this one.
    fn first_fails(&self, check: &str) -> &Self {
        let stages = self.report["stages"].as_array().expect("a list");
        let first = stages.iter().find(|stage| stage["verdict"] == "fail").map(|stage| stage["check"].clone());
        assert_eq!(first, Some(check.into()), "{:#}", self.report);
        self
    }
}

/// Everything that is asked for beside what a connection needs.
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

/// A key that the sandbox knows and no server.
fn stranger() -> Identity {
    Identity::new("AKIASTRANGEREXAMPLE0", "sTrAnGeR/secret/EXAMPLEKEY", SessionToken::None, "stranger")
}

fn log_group(server: &Server) -> String {
    let id = server.rds_host.split('.').next().expect("a host has a label");
    format!("/aws/rds/instance/{id}/iam-db-auth-error")
}

/// The report with what changes from run to run replaced.
fn steady(report: &str) -> String {
    let line = |line: &str| -> String {
        if let Some(head) = line.strip_suffix(" ms") {
            return format!("{} N ms\n", head.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end());
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
async fn a_target_that_works_has_every_fact_told() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let said = Run::of(server, &sandbox).text().await;
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:?}");
    assert_eq!(
        steady(&said.stdout),
        "\
ok       configuration N ms
         postgres at orders.c1abcdefghij.eu-central-1.rds.amazonaws.com:5432 via
         i-0123456789abcdef0, user app_user, database appdb
ok       AWS credentials and their end N ms
         from AWS_ACCESS_KEY_ID in the environment; they do not expire
ok       who AWS says we are N ms
         arn:aws:iam::123456789012:user/dev
ok       this machine's clock against AWS's N ms
         right, to some seconds
ok       endpoint name and region N ms
         orders.c1abcdefghij.eu-central-1.rds.amazonaws.com: an instance in eu-central-1
ok       the database, as RDS describes it N ms
         orders, instance: postgres 15.8, certificate of rds-ca-rsa2048-g1, resource id
         db-ORDERSAAAAAAAAAAAAAAAAAAAA
         IAM database authentication is on
ok       IAM permission rds-db:connect N ms
         arn:aws:rds-db:eu-central-1:123456789012:dbuser:db-ORDERSAAAAAAAAAAAAAAAAAAAA/app_user is
         allowed to arn:aws:iam::123456789012:user/dev
         why: a simulation sees the policies of the user or role and its boundary; not those of a
         session, and how it takes service control policies into account is not known here
ok       the bastion, as Systems Manager describes it N ms
         i-0123456789abcdef0 is online
         SSM agent 3.3.987.0
ok       SSM session N ms
         SESSION on i-0123456789abcdef0
ok       connection to the database's port N ms
         orders.c1abcdefghij.eu-central-1.rds.amazonaws.com:5432 answers
ok       certificate of the database N ms
         TLSv1.3, good for orders.c1abcdefghij.eu-central-1.rds.amazonaws.com
         orders.c1abcdefghij.eu-central-1.rds.amazonaws.com for
         orders.c1abcdefghij.eu-central-1.rds.amazonaws.com, issued by TEST ONLY Subordinate CA
         RSA2048 G1.A.1, from TIME to TIME
         TEST ONLY Subordinate CA RSA2048 G1.A.1, issued by TEST ONLY Root CA RSA2048 G1, from
         TIME to TIME
         the authority is the one that RDS names: rds-ca-rsa2048-g1
ok       login token N ms
         360 characters, good until TIME
ok       login N ms
         as app_user
ok       query N ms
         VERSION answers as app_user
ok       database user for IAM logins N ms
         app_user is a member of rds_iam
ok       the database's log of IAM logins N ms
         not read: the login succeeded
ok       local port N ms
         the system chooses a free one on 127.0.0.1 and ::1
orders.c1abcdefghij.eu-central-1.rds.amazonaws.com: nothing failed
"
    );
    assert!(said.stdout.lines().all(|line| line.chars().count() <= 100), "{}", said.stdout);
    assert_eq!(sandbox.violations(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mysql_server_is_asked_for_the_plugin_of_the_user() {
    let server = Server::shared_of(Engine::MariaDb);
    let sandbox = sandbox_with(server, |mut options| {
        options.databases[0].engine = "mariadb".into();
        options
    })
    .await;
    let report = Run::of(server, &sandbox).json().await;
    report.exits(0).says("query", "pass", " answers as app_user@%", "").is("pass", &["certificate", "login"]);
    // Debian's MariaDB has no AWSAuthenticationPlugin, so that the test's servers let users in by PAM.
    report.says("user", "warn", "app_user@% has pam", "IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS'");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_report_as_json_has_the_documented_keys() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let Report { report, .. } = Run::of(server, &sandbox).json().await;
    assert_eq!(report["endpoint"], format!("{}:5432", server.rds_host));
    assert_eq!((&report["engine"], &report["region"]), (&"postgres".into(), &server.region.as_str().into()));
    let documented = include_str!("../../docs/operations.md");
    let stages = report["stages"].as_array().expect("a list");
    for keys in [&report, &stages[0], &stages[0]["findings"][0]] {
        for key in keys.as_object().expect("an object").keys() {
            assert!(documented.contains(&format!("`{key}`")), "docs/operations.md does not explain {key}");
        }
    }
    let readme = include_str!("../../README.md");
    for check in stages.iter().filter_map(|stage| stage["check"].as_str()) {
        assert!(readme.contains(&format!("| `{check}` |")), "README.md does not explain {check}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_the_examination_and_its_session() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    sandbox.name(&server.rds_host, 5432, Destination::BlackHole);
    let run = Run::of(server, &sandbox);
    let mut child = Command::new(env!("CARGO_BIN_EXE_rdsgate"))
        .args(&run.arguments)
        .env_clear()
        .env("HOME", "/nonexistent")
        .envs(run.env)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("cargo built rdsgate");
    let dials = sandbox.until(|sessions| sessions.iter().any(|session| session.ended.is_none() && session.opens > 0));
    tokio::time::timeout(PATIENCE, dials).await.expect("a session opens");
    let pid = child.id().expect("still running").to_string();
    let sent = std::process::Command::new("kill").args(["-s", "TERM", &pid]).status();
    assert!(sent.expect("kill is there").success());
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.expect("it ends").expect("it was started");
    assert_eq!(status.code(), Some(143));
    let over = sandbox.until(|sessions| sessions.iter().all(|session| session.ended.is_some()));
    tokio::time::timeout(PATIENCE, over).await.expect("the session is terminated");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_are_missing_or_over_are_the_first_failure_and_the_rest_goes_on() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let none = Run::of(server, &sandbox).without_env("AWS_ACCESS_KEY_ID").without_env("AWS_SECRET_ACCESS_KEY");
    let report = none.json().await;
    report.exits(3).first_fails("credentials").says(
        "credentials",
        "fail",
        "no AWS credentials were found",
        "--profile",
    );
    report.is("pass", &["configuration", "clock", "endpoint", "port"]);
    report.is("unknown", &["identity", "database", "permission", "bastion", "session", "dial", "certificate", "token"]);
    report.is("unknown", &["login", "query", "user", "log"]);

    let over = Run::of(server, &sandbox)
        .identity(&Identity::temporary())
        .env("AWS_CREDENTIAL_EXPIRATION", "2026-01-02T03:04:05Z");
    let report = over.json().await;
    let expired = "the AWS credentials expired on 2026-01-02T03:04:05Z";
    report.exits(3).first_fails("credentials").says("credentials", "fail", expired, "renew the credentials");

    let report = Run::of(server, &sandbox).flag("--profile", "nobody").json().await;
    report.exits(3).says("credentials", "fail", "there is no AWS profile", "aws configure sso");
    report.is("pass", &["endpoint", "port"]);

    let unknown = Identity::new("AKIAUNKNOWNEXAMPLE00", "nobody/knows", SessionToken::None, "nobody");
    let report = Run::of(server, &sandbox).identity(&unknown).json().await;
    report.exits(3).first_fails("identity").says("identity", "fail", "AWS refused the credentials", "renew");
    report
        .says("session", "fail", "AWS refused the credentials", "renew")
        .is("pass", &["credentials", "clock", "token"]);
    assert_eq!(sandbox.sessions().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_contradicts_is_a_report_of_one_check() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let report = Run::of(server, &sandbox).flag("--region", "us-west-2").json().await;
    report.exits(2).first_fails("configuration").says("configuration", "fail", "us-west-2", "");
    assert_eq!(report.report["stages"].as_array().map(Vec::len), Some(1));
    assert_eq!(sandbox.calls().len(), 0);
    let said = Run::of(server, &sandbox).flag("--region", "us-west-2").text().await;
    assert!(said.stdout.starts_with("FAIL     configuration "), "{said:?}");
    assert_eq!(said.code, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_wrong_is_told_by_how_much() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    sandbox.clock_ahead(Duration::from_mins(2));
    let report = Run::of(server, &sandbox).json().await;
    report.exits(0).says("clock", "warn", "s behind AWS's", "timedatectl");
    sandbox.clock_ahead(Duration::from_mins(20));
    let report = Run::of(server, &sandbox).json().await;
    report.exits(1).first_fails("clock").says("clock", "fail", "s behind AWS's", "timedatectl");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bastion_that_is_offline_too_old_or_not_ours_is_named() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    sandbox.bastion(BASTION, false);
    let report = Run::of(server, &sandbox).json().await;
    report.exits(4).first_fails("bastion").says("bastion", "fail", "is not connected", "amazon-ssm-agent");
    report.says("session", "fail", "is not connected to Systems Manager", "AmazonSSMManagedInstanceCore");
    report.is("pass", &["token", "port"]).is("unknown", &["dial", "certificate", "login", "log"]);
    sandbox.bastion(BASTION, true);

    let report = Run::of(server, &sandbox).flag("--bastion", "i-0fedcba9876543210").json().await;
    report.exits(4).says("bastion", "fail", "does not know i-0fedcba9876543210", "rdsgate ls");

    sandbox.agent(|agent| agent.version = "3.0.196.0".into());
    let report = Run::of(server, &sandbox).json().await;
    report.exits(4).first_fails("bastion").says("bastion", "fail", "SSM agent 3.0.196.0", "AWS-UpdateSSMAgent");
    report.says("session", "fail", "version 3.0.196.0", "AWS-UpdateSSMAgent");
    sandbox.agent(|agent| agent.version = "3.3.987.0".into());

    sandbox.fail(Operation::StartSession, Failure::AccessDenied, None);
    let report = Run::of(server, &sandbox).json().await;
    report.exits(4).first_fails("session").says("session", "fail", "access denied", "rdsgate policy ");
    report.is("pass", &["bastion", "token", "port"]).is("unknown", &["dial", "certificate", "login"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dial_that_is_refused_or_hangs_names_the_security_group() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    // Bound but not listening: the port is ours and refuses.
    let socket = TcpSocket::new_v4().expect("there is IPv4");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("the system chooses a port");
    sandbox.name(&server.rds_host, 5432, Destination::Address(socket.local_addr().expect("it is bound")));
    let report = Run::of(server, &sandbox).json().await;
    report.exits(4).first_fails("dial");
    report.says("dial", "fail", "could not connect to the database", "authorize-security-group-ingress");
    report.says("dial", "fail", "", "security group of the database").is("pass", &["session", "token", "port"]);

    sandbox.name(&server.rds_host, 5432, Destination::BlackHole);
    let report = Run::of(server, &sandbox).json().await;
    report.exits(4).first_fails("dial").says("dial", "fail", "within 10 s", "authorize-security-group-ingress");
    assert!(report.stage("dial")["milliseconds"].as_u64().is_some_and(|took| took >= 9000), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_refused_is_described() {
    let server = Server::start(&Options { certificate: Some(Variant::Expired), ..Options::default() });
    let sandbox = sandbox(&server).await;
    let report = Run::of(&server, &sandbox).json().await;
    report.exits(5).first_fails("certificate").says("certificate", "fail", "expired", "--ca-certificate-identifier");
    report.is("pass", &["dial", "token", "port"]).is("unknown", &["login", "user"]);

    server.certificate(Variant::OtherCa);
    let report = Run::of(&server, &sandbox).json().await;
    report.exits(5).first_fails("certificate").says("certificate", "fail", "SOMEBODY ELSE", "bundle.pem");
    let findings = report.stage("certificate")["findings"].to_string();
    assert!(findings.contains("RDS names the authority rds-ca-rsa2048-g1"), "{findings}");
    assert!(findings.contains(&format!("for {}", server.rds_host)), "{findings}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_database_lacks_is_told_with_the_statement_that_helps() {
    let server = PgServer::shared();
    let off = sandbox_with(server, |mut options| {
        options.databases[0].iam = false;
        options
    })
    .await;
    let report = Run::of(server, &off).json().await;
    report.exits(5).first_fails("database");
    report.says("database", "fail", "IAM database authentication is off", "--enable-iam-database-authentication");
    // The test's server does not know that it is off.
    report.is("pass", &["session", "dial", "certificate", "login", "query", "user"]);

    let sandbox = sandbox(server).await;
    let report = Run::of(server, &sandbox).flag("--user", "legacy_user").json().await;
    report.exits(5).first_fails("login").says("login", "fail", "SCRAM-SHA-256", "GRANT rds_iam TO legacy_user;");
    report.says("log", "unknown", "is not exported", "--cloudwatch-logs-export-configuration");

    let report = Run::of(server, &sandbox).identity(&Identity::readonly()).json().await;
    let resource = "dbuser:db-";
    report.exits(4).first_fails("permission").says("permission", "fail", resource, r#""Action":"rds-db:connect""#);
    report.says("login", "fail", "PAM authentication failed", "rds-db:connect on arn:aws:rds-db:");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_comes_with_the_databases_own_log() {
    let server = PgServer::shared();
    let sandbox = sandbox_with(server, |options| options.identity(stranger())).await;
    let group = log_group(server);
    sandbox.log(&group, None);
    let report = Run::of(server, &sandbox).identity(&stranger()).json().await;
    report.exits(5).first_fails("login").says(
        "login",
        "fail",
        "PAM authentication failed",
        "GRANT rds_iam TO app_user;",
    );
    report.says("log", "unknown", "nothing in", "").is("pass", &["permission", "certificate", "token"]);
    let entry = "Failed to authenticate the connection request for user app_user because the provided token is malformed \
                 or otherwise invalid. (Status Code: 400, Error Code: InvalidToken)";
    sandbox.log(&group, Some(entry));
    let report = Run::of(server, &sandbox).identity(&stranger()).json().await;
    report.exits(5).says("log", "warn", "InvalidToken: ", "endpoint's own name");
    assert!(!report.report.to_string().contains("Failed to authenticate"), "{report:?}");

    let maria = Server::shared_of(Engine::MariaDb);
    let sandbox = sandbox_with(maria, |mut options| {
        options.databases[0].engine = "mariadb".into();
        options.identity(stranger())
    })
    .await;
    let report = Run::of(maria, &sandbox).identity(&stranger()).json().await;
    let statement = "CREATE USER 'app_user' IDENTIFIED WITH AWSAuthenticationPlugin";
    report.exits(5).first_fails("login").says("login", "fail", "Access denied for user", statement);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_failures_are_all_told_and_the_first_decides() {
    let server = PgServer::shared();
    let sandbox = sandbox_with(server, |mut options| {
        options.databases[0].iam = false;
        options
    })
    .await;
    sandbox.bastion(BASTION, false);
    let other = TcpListener::bind("127.0.0.1:0").await.expect("loopback can be listened on");
    let port = other.local_addr().expect("it is bound").port().to_string();
    let report = Run::of(server, &sandbox).flag("--listen", &port).json().await;
    report.exits(5).first_fails("database").is("fail", &["database", "bastion", "session", "port"]);
    report.says("port", "fail", &format!("127.0.0.1:{port} is taken by "), "--listen");
    let said = Run::of(server, &sandbox).flag("--listen", &port).text().await;
    assert!(said.stdout.ends_with(": 4 failed; exit code 5\n"), "{said:?}");

    sandbox.bastion(BASTION, true);
    let healthy = sandbox_with(server, |options| options).await;
    Run::of(server, &healthy).flag("--listen", &port).json().await.exits(1).first_fails("port");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_asked_is_unknown_and_keeps_nothing_from_working() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    deny(&sandbox, &ASKED[1..]);
    let report = Run::of(server, &sandbox).json().await;
    report.exits(0).is("unknown", &["database", "permission", "bastion"]).is("pass", &["login", "query", "user"]);
    report.says("permission", "unknown", "dbuser:<DbiResourceId>/app_user", "");
    report.says("bastion", "unknown", "access denied", "ssm:DescribeInstanceInformation");

    let seen = sandbox_with(server, |options| options).await;
    deny(&seen, &[Operation::SimulatePrincipalPolicy]);
    let report = Run::of(server, &seen).json().await;
    report.exits(0).says("permission", "unknown", "dbuser:db-", "iam:SimulatePrincipalPolicy");
}
