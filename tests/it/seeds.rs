//! The manual recipe (docs/recipe.md): a test for each of its steps, with the lines that a person types instead.

use sandbox::{Destination, Identity, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    desk::{Desk, UP, forward, target},
    gate::{BASTION, CREDENTIALS, sandbox_with},
    servers::{Engine, PgServer, Server},
};

#[tokio::test(flavor = "multi_thread")]
async fn agent_version_of_the_node_is_checked() {
    let desk = Desk::new(PgServer::shared()).await;
    let report = desk.types("rdsgate doctor orders --verbose").await;
    assert!(report.contains(BASTION) && report.contains("SSM agent 3."), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn role_is_assumed() {
    let server = PgServer::shared();
    let assumed = Identity::temporary();
    let role = Role::new("database-access").gives(assumed.clone());
    let arn = role.arn();
    let desk = Desk::with(sandbox_with(server, |options| options.role(role)).await, server);
    let said = desk.types(&format!("rdsgate psql orders --role-arn {arn} -XAtc 'select 42'")).await;
    assert_eq!(said, "42");
    let started = desk.sandbox.calls().into_iter().find(|call| call.operation == sandbox::Operation::StartSession);
    assert_eq!(started.expect("there was one").access_key, Some(assumed.access_key));
}

#[tokio::test(flavor = "multi_thread")]
async fn session_to_the_database_is_started() {
    let server = PgServer::shared();
    let desk = Desk::new(server).await;
    let said = desk
        .types(&format!("{UP}psql \"host=localhost port=$port user=app_user dbname=appdb\" -XAtc 'select 42'"))
        .await;
    assert_eq!(said, "42");
    let sessions = desk.sandbox.sessions();
    let session = sessions.iter().find(|session| session.streams > 0).expect("there was one");
    let host = ("host".to_owned(), server.rds_host.clone());
    assert_eq!((session.target.as_str(), session.properties.contains(&host)), (BASTION, true), "{session:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_databases_are_served_at_once() {
    let server = PgServer::shared();
    let desk = Desk::new(server).await;
    desk.describe(server, &["orders", "again"].map(|name| target(name, server)).concat());
    let said = desk
        .types(&format!(
            "{UP}for name in orders again; do psql \"$(rdsgate url $name)\" -XAtc \"select '$name'\"; done"
        ))
        .await;
    assert_eq!(said, "orders\nagain");
}

#[tokio::test(flavor = "multi_thread")]
async fn session_in_the_background_ends_by_command() {
    let desk = Desk::new(PgServer::shared()).await;
    let lines = "nohup rdsgate up orders >log 2>&1 </dev/null & rdsgate wait orders\n\
                 psql \"$(rdsgate url orders)\" -XAtc 'select 42'\n\
                 rdsgate stop orders\nwait || true";
    assert_eq!(desk.types(lines).await, "42");
    assert!(desk.sandbox.sessions().iter().all(|session| session.ended.is_some()), "{:?}", desk.sandbox.sessions());
}

#[tokio::test(flavor = "multi_thread")]
async fn client_connects_to_localhost_and_to_its_address() {
    let desk = Desk::new(PgServer::shared()).await;
    let lines = format!(
        "{UP}for host in localhost 127.0.0.1; do psql -h $host -p $port -U app_user appdb -XAtc \"select '$host'\"; done"
    );
    assert_eq!(desk.types(&lines).await, "localhost\n127.0.0.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn token_is_a_password_that_is_not_needed() {
    let desk = Desk::new(PgServer::shared()).await;
    let connect = "psql \"host=localhost port=$port user=app_user dbname=appdb\" -XAtc 'select current_user'";
    // The recipe's line, with the token in PGPASSWORD, and the same without it.
    let lines = format!("{UP}PGPASSWORD=\"$(rdsgate token orders)\" {connect}\n{connect}");
    assert_eq!(desk.types(&lines).await, "app_user\napp_user");
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_connects_without_plugin_certificate_or_token() {
    for engine in [Engine::MariaDb, Engine::MySql] {
        let server = tokio::task::block_in_place(|| Server::shared_of(engine));
        let desk = Desk::new(server).await;
        let lines =
            format!("{UP}mariadb --no-defaults --skip-ssl -h 127.0.0.1 -P $port -u app_user appdb -BNe 'select 42'");
        assert_eq!(desk.types(&lines).await, "42", "{engine}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn session_to_the_node_itself_is_started() {
    let page = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback can be listened on");
    let desk = Desk::new(PgServer::shared()).await;
    desk.sandbox.name("localhost", 80, Destination::Address(page.local_addr().expect("it is bound")));
    let serve = tokio::spawn(async move {
        let (mut client, _) = page.accept().await?;
        client.read_buf(&mut Vec::new()).await?;
        client.write_all(b"HTTP/1.0 200 OK\r\n\r\nthe page").await
    });
    let lines = forward(&format!("{BASTION}:80"))
        + "exec 4<>/dev/tcp/127.0.0.1/$port\nprintf 'GET / HTTP/1.0\\r\\n\\r\\n' >&4\ncat <&4";
    assert!(desk.types(&lines).await.ends_with("the page"));
    serve.await.expect("no panic").expect("the client reads");
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_verifies_the_server_and_sends_a_token_by_itself() {
    let server = PgServer::shared();
    let desk = Desk::new(server).await;
    let connect = format!(
        "PGPASSWORD=\"$(rdsgate token orders)\" psql \"host={} hostaddr=127.0.0.1 port=$port sslmode=verify-full sslrootcert={} \
         user=app_user dbname=appdb\" -XAtc 'select ssl from pg_stat_ssl where pid = pg_backend_pid()'",
        server.rds_host,
        server.ca.display()
    );
    let lines = forward(&format!("{}:5432 --bastion {BASTION}", server.rds_host)) + &connect;
    assert_eq!(desk.types(&lines).await, "t");
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_logs_in_with_a_password() {
    let server = PgServer::shared();
    server.admin("create role recipe login password 'of the recipe'; grant all on database appdb to recipe");
    let desk = Desk::new(server).await;
    let lines = UP.replace("rdsgate up", "rdsgate up orders --auth password --user recipe")
        + "PGPASSWORD='of the recipe' psql -h localhost -p $port -U recipe appdb -XAtc 'select current_user'";
    let lines = lines.replace("rdsgate url orders", "rdsgate url orders --user recipe");
    assert_eq!(desk.types(&lines).await, "recipe");
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_asks_for_a_password() {
    let server = tokio::task::block_in_place(|| Server::shared_of(Engine::MariaDb));
    server.admin("create user recipe@'%' identified by 'of the recipe'; grant all on appdb.* to recipe@'%'");
    let desk = Desk::new(server).await;
    let lines = UP.replace("rdsgate up", "rdsgate up orders --auth password --user recipe")
        + "mariadb --no-defaults --skip-ssl -h 127.0.0.1 -P $port -u recipe -p'of the recipe' appdb -BNe 'select current_user()'";
    let lines = lines.replace("rdsgate url orders", "rdsgate url orders --user recipe");
    assert_eq!(desk.types(&lines).await, "recipe@%");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_cleaned_up() {
    let desk = Desk::new(PgServer::shared()).await;
    let lines = format!(
        "{UP}psql \"$(rdsgate url orders)\" -XAtc 'select 42'\nkill -KILL %1; wait %1 || true\nrdsgate sessions --orphans"
    );
    let said = desk.types_with(&lines, &[]).await;
    assert!(said.stderr.contains("terminated "), "{said:?}");
    assert!(desk.sandbox.sessions().iter().all(|session| session.ended.is_some()), "{:?}", desk.sandbox.sessions());
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_names_the_person_and_the_database() {
    let server = PgServer::shared();
    let desk = Desk::new(server).await;
    let principal =
        "rdsgate psql orders -XAtc \"select application_name from pg_stat_activity where pid = pg_backend_pid()\"";
    let said = desk.types_with(principal, &[("USER", "alice")]).await.stdout;
    let reason = desk.sandbox.sessions().into_iter().find_map(|session| session.reason).expect("there is one");
    assert!(reason.contains(" by alice for ") && reason.contains(&server.rds_host), "{reason}");
    let [key, ..] = CREDENTIALS;
    assert!(!said.is_empty() && !said.contains(key), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_and_sql_are_printed() {
    let desk = Desk::new(PgServer::shared()).await;
    let policy = desk.types("rdsgate policy orders").await;
    assert!(policy.contains("rds-db:connect") && policy.contains("ssm:StartSession"), "{policy}");
    let sql = desk.types("rdsgate policy orders --sql").await;
    assert_eq!(sql, "CREATE USER \"app_user\";\nGRANT rds_iam TO \"app_user\";");
}

#[tokio::test(flavor = "multi_thread")]
async fn bastion_is_described_and_so_is_its_removal() {
    let desk = Desk::new(PgServer::shared()).await;
    for format in ["terraform", "cloudformation", "cli"] {
        let printed = desk.types(&format!("rdsgate setup --format {format}")).await;
        assert!(printed.contains("AmazonSSMManagedInstanceCore"), "{format}: {printed}");
    }
    let removal = desk.types("rdsgate setup --remove").await;
    assert!(removal.contains("terminate-instances"), "{removal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn workbench_gets_its_settings() {
    let server = tokio::task::block_in_place(|| Server::shared_of(Engine::MySql));
    let desk = Desk::new(server).await;
    desk.describe(server, &target("orders", server).replace("localhost:0", "localhost:13306"));
    let settings = desk.types("rdsgate export workbench orders").await;
    for part in ["127.0.0.1", "13306", "app_user"] {
        assert!(settings.contains(&format!(">{part}</value>")), "{part}: {settings}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_every_kind_are_forwarded() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback can be listened on");
    let desk = Desk::new(PgServer::shared()).await;
    let address = listener.local_addr().expect("it is bound");
    desk.sandbox.name("legacy.c1abcdefghij.eu-central-1.rds.amazonaws.com", 1521, Destination::Address(address));
    let serve = tokio::spawn(async move { listener.accept().await?.0.write_all(b"its words").await });
    let lines = forward(&format!("legacy.c1abcdefghij.eu-central-1.rds.amazonaws.com:1521 --bastion {BASTION}"))
        + "cat < /dev/tcp/127.0.0.1/$port";
    assert_eq!(desk.types(&lines).await, "its words");
    serve.await.expect("no panic").expect("the client reads");
}

/// The test of a line of the recipe, or the reason why it has none here.
enum Shown {
    By(&'static [fn()]),
    Elsewhere(&'static str),
}

/// How each line of docs/recipe.md begins.
const LINES: [(&str, Shown); 20] = [
    (
        "install the AWS CLI",
        Shown::Elsewhere("no test here has these programs in its way: the shells run rdsgate alone"),
    ),
    ("make a bastion", Shown::By(&[bastion_is_described_and_so_is_its_removal])),
    ("`aws ssm describe-instance-information", Shown::By(&[agent_version_of_the_node_is_checked])),
    ("write the IAM policy", Shown::By(&[policy_and_sql_are_printed])),
    ("`CREATE USER", Shown::By(&[policy_and_sql_are_printed])),
    (
        "download `global-bundle.pem`",
        Shown::Elsewhere("a real server of RDS has these roots; tests/it/certificates.rs"),
    ),
    ("`127.0.0.1 orders.c1abc…", Shown::By(&[client_connects_to_localhost_and_to_its_address])),
    ("`aws sso login", Shown::Elsewhere("tests/it/logins.rs")),
    ("`aws sts assume-role", Shown::By(&[role_is_assumed])),
    (
        "`aws ssm start-session --document-name AWS-StartPortForwardingSessionToRemoteHost",
        Shown::By(&[session_to_the_database_is_started, servers_of_every_kind_are_forwarded]),
    ),
    (
        "`aws ssm start-session --document-name AWS-StartPortForwardingSession ",
        Shown::By(&[session_to_the_node_itself_is_started]),
    ),
    ("a terminal and a port for each database", Shown::By(&[several_databases_are_served_at_once])),
    ("`… &`, `nohup`", Shown::By(&[session_in_the_background_ends_by_command])),
    ("`export PGPASSWORD", Shown::By(&[token_is_a_password_that_is_not_needed])),
    ("`psql \"host=orders", Shown::By(&[psql_verifies_the_server_and_sends_a_token_by_itself])),
    ("`mysql -h 127.0.0.1 --enable-cleartext-plugin", Shown::By(&[mysql_connects_without_plugin_certificate_or_token])),
    ("`psql … masteruser`", Shown::By(&[psql_logs_in_with_a_password, mysql_asks_for_a_password])),
    ("MySQL Workbench", Shown::By(&[workbench_gets_its_settings])),
    ("`aws ssm describe-sessions", Shown::By(&[sessions_are_cleaned_up])),
    ("look up in CloudTrail", Shown::By(&[audit_names_the_person_and_the_database])),
];

#[test]
fn each_line_of_the_recipe_has_its_test_or_a_reason() {
    let recipe = include_str!("../../docs/recipe.md");
    let is_line =
        |line: &&str| line.starts_with("| ") && !line.starts_with("| the recipe") && !line.starts_with("| ---");
    let lines: Vec<&str> = recipe.lines().filter(is_line).collect();
    assert_eq!(lines.len(), LINES.len(), "{lines:#?}");
    for (line, (begins, shown)) in lines.iter().zip(&LINES) {
        assert!(line.starts_with(&format!("| {begins}")), "{line}");
        assert!(match shown {
            Shown::By(tests) => !tests.is_empty(),
            Shown::Elsewhere(reason) => !reason.is_empty(),
        });
    }
}
