//! `rdsgate ls`, `rdsgate policy` and databases that are called by a name: the real program against the sandbox's AWS.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use sandbox::{Database, Failure, Identity, Node, Operation, Options, Role, Sandbox, Task};
use tempfile::TempDir;

use crate::support::{
    gate::{BASTION, Gate, GateOptions, sandbox_with},
    program::{Ran, ran_in},
    servers::Server,
    snapshot::snapshot,
};

const ORDERS: &str = "orders.c1abcdefghij.us-east-1.rds.amazonaws.com";

/// A sandbox, and a home with a cache of its own.
struct Scene {
    sandbox: Sandbox,
    home: TempDir,
}

impl Scene {
    async fn new(options: Options) -> Self {
        let sandbox = Sandbox::start(options).await.expect("loopback can be listened on");
        Self { sandbox, home: tempfile::tempdir().expect("there is a folder for temporary files") }
    }

    async fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, &[]).await
    }

    async fn run_with(&self, arguments: &[&str], env: &[(&str, &str)]) -> Ran {
        let given = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let env: Vec<_> = self.sandbox.env().into_iter().chain(given).collect();
        ran_in(self.home.path(), arguments, &env).await
    }

    fn operations(&self) -> Vec<Operation> {
        self.sandbox.calls().iter().map(|call| call.operation).collect()
    }

    fn deny(&self, operations: &[Operation]) {
        let user = Identity::user().access_key;
        assert!(self.sandbox.identity(&user, |user| user.denied.extend(operations)));
    }
}

fn fleet() -> Options {
    let named = |name: &str, hash: &str| format!("{name}.{hash}c1abcdefghij.us-east-1.rds.amazonaws.com");
    let of_cluster = |name, hash| Database::new(&named(name, hash), 5432, "aurora-postgresql");
    let options = Options { page: 2, ..Options::default() }
        .describe(Database::new(ORDERS, 5433, "postgres"))
        .describe(Database { iam: false, ..Database::new(&named("shop", ""), 3306, "mariadb").vpc("vpc-2") })
        .describe(of_cluster("fleet", "cluster-"))
        .describe(of_cluster("fleet-1", "").of("fleet"))
        .describe(Database::new(&named("pooled", "proxy-"), 3306, "MYSQL"))
        .describe(Database::new(&named("ledger", ""), 1521, "oracle-ee"))
        .node(Node::new("i-00000000000000002", "spare").vpc("vpc-3"))
        .node(Node::new("i-00000000000000003", "gone").offline());
    let task = Task { cluster: "tools".into(), id: "0123456789abcdef".into(), vpc: "vpc-2".into(), exec: true };
    Options { tasks: vec![task], ..options }
}

#[tokio::test]
async fn ls_is_a_table_of_every_address_with_the_nodes_beside_it() {
    let scene = Scene::new(fleet()).await;
    let (code, stdout, stderr) = scene.run(&["ls", "--wide"]).await;
    assert_eq!((code, stderr.as_str()), (0, "left out: 1 of other engines (oracle-ee)\n"), "{stdout}");
    assert_eq!(
        stdout,
        "\
NAME     KIND      ENGINE                  IAM  CA                 VPC                    NODES
fleet    writer    aurora-postgresql 15.8  on   rds-ca-rsa2048-g1  vpc-0a1b2c3d4e5f60718  i-0123456789abcdef0
  fleet.cluster-c1abcdefghij.us-east-1.rds.amazonaws.com:5432
fleet    reader    aurora-postgresql 15.8  on   rds-ca-rsa2048-g1  vpc-0a1b2c3d4e5f60718  i-0123456789abcdef0
  fleet.cluster-ro-c1abcdefghij.us-east-1.rds.amazonaws.com:5432
fleet-1  instance  aurora-postgresql 15.8  on   rds-ca-rsa2048-g1  vpc-0a1b2c3d4e5f60718  i-0123456789abcdef0
  fleet-1.c1abcdefghij.us-east-1.rds.amazonaws.com:5432
orders   instance  postgres 15.8           on   rds-ca-rsa2048-g1  vpc-0a1b2c3d4e5f60718  i-0123456789abcdef0
  orders.c1abcdefghij.us-east-1.rds.amazonaws.com:5433
pooled   proxy     mysql                   on   public             vpc-0a1b2c3d4e5f60718  i-0123456789abcdef0
  pooled.proxy-c1abcdefghij.us-east-1.rds.amazonaws.com:3306
shop     instance  mariadb 15.8            off  rds-ca-rsa2048-g1  vpc-2                  tools/app
  shop.c1abcdefghij.us-east-1.rds.amazonaws.com:3306
"
    );
}

#[tokio::test]
async fn ls_fits_eighty_columns_and_shows_how_to_open_each_database() {
    let scene = Scene::new(fleet()).await;
    let (code, stdout, stderr) = scene.run(&["ls"]).await;
    assert_eq!((code, stderr.as_str()), (0, "left out: 1 of other engines (oracle-ee)\n"), "{stdout}");
    assert_eq!(
        stdout,
        "\
NAME     KIND      ENGINE                  IAM  NODES
fleet    writer    aurora-postgresql 15.8  on   i-0123456789abcdef0
  rdsgate psql fleet --user USER
fleet    reader    aurora-postgresql 15.8  on   i-0123456789abcdef0
  rdsgate psql fleet.cluster-ro-c1abcdefghij.us-east-1.rds.amazonaws.com:5432 \\
    --user USER
fleet-1  instance  aurora-postgresql 15.8  on   i-0123456789abcdef0
  rdsgate psql fleet-1 --user USER
orders   instance  postgres 15.8           on   i-0123456789abcdef0
  rdsgate psql orders --user USER
pooled   proxy     mysql                   on   i-0123456789abcdef0
  rdsgate mysql pooled --user proxied
shop     instance  mariadb 15.8            off  tools/app
  rdsgate mysql shop --user USER  # IAM authentication is off
"
    );
    let (_, stdout, _) = scene.run(&["ls", "--region", "us-east-1"]).await;
    assert!(stdout.contains("\n  rdsgate psql orders --user USER --region us-east-1\n"), "{stdout}");
    let (code, _, stderr) = scene.run(&["ls", "--connect"]).await;
    assert_eq!((code, stderr.lines().next()), (2, Some("error: there is no terminal to choose on")));
}

#[tokio::test]
async fn ls_connect_opens_the_chosen_database() {
    let server = Server::shared();
    let sandbox = sandbox_with(server, |options| options).await;
    let home = tempfile::tempdir().expect("there is a folder for temporary files");
    let mut gate = GateOptions::bare(&sandbox)
        .only(&["--connect"])
        .verb("ls")
        .env("HOME", &home.path().display().to_string())
        .env("RDSGATE_CA_FILE", &server.ca.display().to_string())
        .on_a_terminal()
        .spawn();
    // Ahead of the question, behind which no line ends then.
    gate.types("").await;
    assert!(gate.until(|log| log.contains("  1  orders  instance, postgres")).await, "{}", gate.log());
    assert!(gate.until(|log| log.contains("which one? [1-1, Enter: 1]")).await, "{}", gate.log());
    gate.types("app_user").await;
    gate.types("appdb").await;
    gate.types("\\pset pager off").await;
    gate.types("select 'opened as ' || current_user;").await;
    assert!(gate.until(|log| log.contains("opened as app_user")).await, "{}", gate.log());
    gate.types("\\q").await;
    assert_eq!(gate.ended().await.code(), Some(0), "{}", gate.log());
}

#[tokio::test]
async fn config_init_writes_a_short_file_from_a_few_answers() {
    let scene = Scene::new(fleet()).await;
    let options = || {
        GateOptions::bare(&scene.sandbox)
            .only(&["init"])
            .verb("config")
            .env("HOME", &scene.home.path().display().to_string())
            .env("USER", "alice")
            .in_folder(scene.home.path())
            .on_a_terminal()
    };
    let mut gate = options().spawn();
    assert!(gate.until(|log| log.contains("  4  orders  instance, postgres 15.8, IAM on")).await, "{}", gate.log());
    gate.types("4").await;
    gate.types("").await;
    gate.types("orders_db").await;
    gate.types("n").await;
    assert_eq!(gate.ended().await.code(), Some(0), "{}", gate.log());
    let written = std::fs::read_to_string(scene.home.path().join(".rdsgate.toml")).expect("it was written");
    assert_eq!(
        written,
        format!(
            "# rdsgate up serves these databases. Every key: rdsgate config schema\n[targets.orders]\n\
             host = \"{ORDERS}:5433\"\nuser = \"alice\"\ndatabase = \"orders_db\"\nbastion = \"{BASTION}\"\n"
        )
    );
    assert!(gate.until(|log| log.contains("ok: orders (")).await, "{}", gate.log());
    for said in [
        "wrote .rdsgate.toml",
        "database user (one that logs in with IAM) [alice]:",
        "next: rdsgate up, or rdsgate doctor orders",
    ] {
        gate.says(said).await;
    }

    // Without a region and with several profiles: two questions more, and no further ones.
    std::fs::remove_file(scene.home.path().join(".rdsgate.toml")).expect("it is ours");
    std::fs::create_dir(scene.home.path().join(".aws")).expect("it is ours");
    let Identity { access_key, secret, .. } = Identity::user();
    let keys = format!("aws_access_key_id={access_key}\naws_secret_access_key={}\n", secret.expose());
    std::fs::write(scene.home.path().join(".aws/credentials"), format!("[dev]\n{keys}[prod]\n{keys}"))
        .expect("it is ours");
    let mut gate =
        ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"]
            .into_iter()
            .fold(options(), GateOptions::without_env)
            .spawn();
    assert!(gate.until(|log| log.contains("  2  prod")).await, "{}", gate.log());
    for answer in ["1", "nowhere at all", "us-east-1", "orders"] {
        gate.types(answer).await;
    }
    for answer in ["4", "app_user", "", "n"] {
        gate.types(answer).await;
    }
    assert_eq!(gate.ended().await.code(), Some(0), "{}", gate.log());
    let own = std::fs::read_to_string(scene.home.path().join(".config/rdsgate/config.toml")).expect("it was written");
    assert_eq!(own, "[defaults]\nprofile = \"dev\"\n");
    gate.says("ok: orders (").await;
}

#[tokio::test]
async fn config_init_from_aws_asks_nothing_and_describes_what_can_be_served() {
    let scene = Scene::new(fleet()).await;
    let (code, _, stderr) = scene.run(&["config", "init"]).await;
    assert_eq!(
        (code, stderr.as_str()),
        (
            2,
            "error: config init asks questions, and there is no terminal to ask on\n\
             hint: rdsgate config init --from-aws asks nothing: it describes each database of the account and region\n"
        )
    );
    let (code, stdout, stderr) = scene.run(&["config", "init", "--from-aws", "--user", "app_user"]).await;
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.starts_with("ok: fleet, fleet-ro, orders, pooled ("), "{stdout}");
    let written = std::fs::read_to_string(scene.home.path().join(".rdsgate.toml")).expect("it was written");
    assert!(
        written.contains("\n[targets.orders]\nhost = ") && written.matches("user = \"app_user\"").count() == 4,
        "{written}"
    );
    let (code, _, stderr) = scene.run(&["config", "init", "--from-aws"]).await;
    assert!(code == 1 && stderr.starts_with("error: cannot write .rdsgate.toml: "), "{code} {stderr}");
    let empty = Scene::new(Options::default()).await;
    let (code, _, stderr) = empty.run(&["config", "init", "--from-aws"]).await;
    assert!(code == 1 && stderr.contains("error: no database in us-east-1 accepts IAM logins\n"), "{code} {stderr}");
}

#[tokio::test]
async fn ls_as_json_has_the_documented_keys() {
    let scene = Scene::new(fleet()).await;
    let (code, stdout, _) = scene.run(&["ls", "--json"]).await;
    assert_eq!(code, 0);
    let listed: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    let orders = listed["databases"].as_array().expect("a list").iter().find(|database| database["id"] == "orders");
    assert_eq!(
        orders.expect("it is listed"),
        &serde_json::json!({
            "id": "orders", "kind": "instance", "arn": "arn:aws:rds:us-east-1:123456789012:db:orders",
            "resource_id": "db-ORDERSAAAAAAAAAAAAAAAAAAAA", "status": "available", "engine": "postgres",
            "version": "15.8", "protocol": "postgres", "host": ORDERS, "port": 5433, "iam": true,
            "ca": "rds-ca-rsa2048-g1", "vpc": "vpc-0a1b2c3d4e5f60718", "parent": null, "nodes": [BASTION],
        })
    );
    assert_eq!(listed["region"], "us-east-1");
    let nodes: Vec<_> = listed["nodes"].as_array().expect("a list").iter().map(|node| node["kind"].clone()).collect();
    assert_eq!(nodes, ["ec2", "ec2", "ecs-task"]);
    let documented = include_str!("../../docs/discovery.md");
    for keys in [&listed["databases"][0], &listed["nodes"][0], &listed] {
        for key in keys.as_object().expect("an object").keys() {
            assert!(documented.contains(&format!("`{key}`")), "docs/discovery.md does not explain {key}");
        }
    }
}

#[tokio::test]
async fn ls_goes_on_without_what_it_may_not_see_and_ends_without_databases() {
    let scene = Scene::new(fleet()).await;
    scene.deny(&[Operation::DescribeInstances, Operation::ListClusters, Operation::DescribeDBProxies]);
    scene.sandbox.fail(Operation::DescribeDBInstances, Failure::Throttling, Some(1));
    let (code, stdout, stderr) = scene.run(&["ls"]).await;
    assert_eq!(code, 0);
    assert_eq!(stderr.matches("warning: ").count(), 3, "{stderr}");
    for missing in ["rds:DescribeDBProxies", "ec2:DescribeInstances", "ecs:ListClusters"] {
        assert!(stderr.contains(missing), "{missing}: {stderr}");
    }
    let orders = stdout.lines().find(|line| line.starts_with("orders ")).expect("it is listed");
    assert!(orders.ends_with("  ?"), "{orders}");
    assert!(!stdout.contains("pooled"));

    scene.deny(&[Operation::DescribeDBInstances, Operation::DescribeDBClusters]);
    let (code, stdout, stderr) = scene.run(&["ls"]).await;
    assert_eq!((code, stdout.as_str()), (4, ""));
    assert!(stderr.starts_with("error: DescribeDBInstances: access denied: User: arn:aws:iam"), "{stderr}");
    let (code, _, stderr) = scene.run_with(&["ls"], &[("AWS_ACCESS_KEY_ID", "AKIAUNKNOWN")]).await;
    assert_eq!(code, 3, "{stderr}");
    let (code, _, stderr) = scene.run_with(&["ls"], &[("AWS_REGION", "")]).await;
    assert_eq!((code, stderr.lines().next()), (2, Some("error: the region is unknown")));
    let (code, stdout, stderr) = Scene::new(Options::default()).await.run(&["ls"]).await;
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (0, "", "no databases in us-east-1\n"));
}

#[tokio::test]
async fn up_by_a_mere_name_serves_the_database_and_asks_once() {
    let server = Server::shared();
    let sandbox = sandbox_with(server, |options| Options { page: 1, ..options }).await;
    let name = server.rds_host.split('.').next().expect("a host has a label");
    let home = tempfile::tempdir().expect("there is a folder for temporary files");
    for round in 0..2 {
        let before = sandbox.calls().len();
        let gate = GateOptions::bare(&sandbox)
            .argument(name)
            .flag("--listen", "localhost:0")
            .flag("--user", "app_user")
            .flag("--database", "appdb")
            .flag("--ca-file", &server.ca.display().to_string())
            .env("HOME", &home.path().display().to_string())
            .start()
            .await;
        assert_eq!(gate.query("SELECT current_user").await, "app_user");
        let asked = |call: &sandbox::Call| format!("{:?}", call.operation).starts_with("Describe");
        let asked = sandbox.calls().iter().skip(before).filter(|call| asked(call)).count();
        assert_eq!(asked > 0, round == 0, "round {round}: {asked} calls");
    }
}

#[tokio::test]
async fn up_asks_nothing_when_all_is_said() {
    let server = Server::shared();
    let sandbox = sandbox_with(server, |options| options).await;
    let gate = Gate::start(server, &sandbox).await;
    assert_eq!(gate.query("SELECT 1").await, "1");
    let needed =
        [Operation::StartSession, Operation::OpenDataChannel, Operation::GetCallerIdentity, Operation::GetDocument];
    let looked_up: Vec<_> = sandbox.calls().into_iter().filter(|call| !needed.contains(&call.operation)).collect();
    assert!(looked_up.is_empty(), "{looked_up:?}");
}

#[tokio::test]
async fn up_says_what_it_cannot_find_or_choose() {
    let scene = Scene::new(fleet().node(Node::new("i-00000000000000004", "bastion-b"))).await;
    let up = async |word: &str| {
        let (code, stdout, stderr) = scene.run(&["up", word, "--listen", "localhost:0"]).await;
        assert_eq!(stdout, "", "{word}");
        (code, stderr)
    };
    assert_eq!(
        up("orders").await,
        (
            2,
            "error: orders could be reached through 2 nodes:\n  \
             i-0123456789abcdef0  bastion  (agent 3.3.987.0, vpc-0a1b2c3d4e5f60718)\n  \
             i-00000000000000004  bastion-b  (agent 3.3.987.0, vpc-0a1b2c3d4e5f60718)\n\
             hint: choose one with --bastion, or bastion in the configuration file\n"
                .into()
        )
    );
    let (code, stderr) = up("nothing").await;
    assert_eq!((code, stderr.lines().next()), (2, Some("error: there is no database nothing in us-east-1")));
    assert!(stderr.contains("hint: run rdsgate ls"), "{stderr}");
    let (code, stderr) = up("ledger").await;
    assert_eq!(
        (code, stderr.as_str()),
        (2, "error: ledger runs oracle-ee: rdsgate serves PostgreSQL, MySQL and MariaDB\n")
    );
    std::fs::write(scene.home.path().join(".rdsgate.toml"), format!("[targets.orders-a]\nhost = '{ORDERS}'"))
        .expect("the folder can be written");
    let (code, stderr) = up("order-a").await;
    assert_eq!((code, stderr.lines().last()), (2, Some("hint: did you mean \"orders-a\"?")));
    scene.deny(&[Operation::DescribeDBInstances, Operation::DescribeDBClusters]);
    let (code, stderr) = up("fleet").await;
    assert!(
        code == 4 && stderr.starts_with("error: cannot look up fleet: DescribeDBInstances: access denied"),
        "{stderr}"
    );
    let (code, _, stderr) = scene.run_with(&["up", "fleet"], &[("AWS_REGION", "")]).await;
    assert_eq!((code, stderr.lines().next()), (2, Some("error: cannot look up fleet: the region is unknown")));
}

#[tokio::test]
async fn on_a_terminal_a_choice_is_asked() {
    let server = Server::shared();
    let sandbox = sandbox_with(server, |options| options.node(Node::new("i-0fedcba9876543210", "spare"))).await;
    let home = tempfile::tempdir().expect("there is a folder for temporary files");
    let mut gate = GateOptions::new(server, &sandbox)
        .without("--bastion")
        .env("HOME", &home.path().display().to_string())
        .on_a_terminal()
        .spawn();
    assert!(gate.until(|log| log.contains("  2  i-0fedcba9876543210  spare  (agent ")).await, "{}", gate.log());
    gate.says("orders can be reached through 2 nodes:").await;
    gate.types("3").await;
    gate.types("2").await;
    assert!(gate.until(|log| log.contains("ready: 1 target")).await, "{}", gate.log());
    gate.says("(postgres, via i-0fed…, verify-full)").await;
}

#[tokio::test]
async fn one_target_that_is_not_found_does_not_stop_the_others_and_shows_in_the_exit_status() {
    let server = Server::shared();
    let sandbox = sandbox_with(server, |options| options).await;
    let home = tempfile::tempdir().expect("there is a folder for temporary files");
    for (missing, code) in [("nosuch", 2), ("orders", 130)] {
        let mut gate = GateOptions::bare(&sandbox)
            .only(&["orders", missing, "--user", "app_user", "--database", "appdb", "--listen", "localhost:0"])
            .flag("--ca-file", &server.ca.display().to_string())
            .env("HOME", &home.path().display().to_string())
            .start()
            .await;
        assert_eq!(gate.query("SELECT current_user").await, "app_user");
        let told = gate.log().contains("error: there is no database nosuch in eu-central-1\nhint: run rdsgate ls");
        assert_eq!(told, missing == "nosuch", "{}", gate.log());
        gate.signal("INT");
        assert_eq!(gate.ended().await.code(), Some(code), "{}", gate.log());
    }
}

#[tokio::test]
async fn ls_looks_with_a_roles_eyes() {
    let role = Role::new("reader").external_id("partner/7").gives(Identity::temporary());
    let arn = role.arn();
    let scene = Scene::new(fleet().role(role)).await;
    let with = ["ls", "--json", "--role-arn", &arn, "--external-id", "partner/7", "--session-name", "night"];
    let (code, stdout, stderr) = scene.run(&with).await;
    assert!(code == 0 && stdout.contains(ORDERS), "{stderr}");
    let calls = scene.sandbox.calls();
    let assumed = calls.iter().find(|call| call.operation == Operation::AssumeRole).expect("it was assumed");
    assert_eq!(assumed.parameters["RoleSessionName"], "night");
    let asked = calls.iter().find(|call| call.operation == Operation::DescribeDBInstances).expect("it was asked");
    assert_eq!(asked.access_key, Some(Identity::temporary().access_key));
    let (code, _, stderr) = scene.run(&["ls", "--role-arn", &arn]).await;
    assert!(code == 3 && stderr.contains("the role may require --external-id"), "{code}: {stderr}");
}

#[tokio::test]
async fn an_alias_in_the_file_stands_for_the_rds_name() {
    let server = Server::shared();
    let sandbox = sandbox_with(server, |options| options).await;
    let home = tempfile::tempdir().expect("there is a folder for temporary files");
    let file = home.path().join("gate.toml");
    let text = format!(
        "[targets.orders]\nhost = 'db.internal.example'\nengine = 'postgres'\nbastion = '{BASTION}'\nuser = 'app_user'\n\
         database = 'appdb'\nlisten = 0\nca_file = '{}'",
        server.ca.display()
    );
    std::fs::write(&file, text).expect("the folder can be written");
    let gate = GateOptions::bare(&sandbox)
        .flag("--config", &file.display().to_string())
        .env("HOME", &home.path().display().to_string())
        .env("RDSGATE_DNS", &alias_server("db.internal.example", &server.rds_host).to_string())
        .start()
        .await;
    assert_eq!(gate.query("SELECT current_user").await, "app_user");
    assert!(!gate.log().contains("means nothing"), "{}", gate.log());
}

#[tokio::test]
async fn policy_prints_the_policy_and_the_sql_for_what_was_found() {
    let scene = Scene::new(fleet()).await;
    for (name, more) in [
        ("policy", &[][..]),
        ("policy-terraform", &["--format", "terraform"]),
        ("policy-discovery", &["--discovery"]),
        ("policy-sql", &["--sql"]),
    ] {
        let (code, stdout, stderr) = scene.run(&[&["policy", "orders", "--user", "app_user"], more].concat()).await;
        snapshot(name, code, &stdout, &stderr);
    }
    let (code, stdout, stderr) = scene.run(&["policy", "orders", "--user", "app_user"]).await;
    assert_eq!((code, stderr.as_str()), (0, ""));
    let policy: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    let resources: Vec<_> = policy["Statement"].as_array().expect("a list").iter().map(|s| &s["Resource"]).collect();
    assert_eq!(resources[0][0], format!("arn:aws:ec2:us-east-1:123456789012:instance/{BASTION}"));
    assert_eq!(*resources[2], "arn:aws:rds-db:us-east-1:123456789012:dbuser:db-ORDERSAAAAAAAAAAAAAAAAAAAA/app_user");
    for (arguments, part) in [
        (&["fleet-1", "--user", "u"][..], "dbuser:cluster-FLEETAAAAAAAAAAAAAAAAAAAAA/u\""),
        (&["pooled"], "dbuser:prx-pooledaaaaaaaaaaaaaaaaaaaa/proxied\""),
        (&["orders", "--user", "u", "--format", "terraform"], "resource \"aws_iam_policy\" \"rdsgate_orders\" {\n"),
        (&["orders", "--user", "u", "--discovery"], "\"rds:DescribeDBInstances\""),
        (&["orders", "--user", "u", "--sql"], "CREATE USER \"u\";\nGRANT rds_iam TO \"u\";\n"),
        (&["pooled", "--sql"], "CREATE USER 'proxied'@'%' IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS'"),
    ] {
        let (code, stdout, stderr) = scene.run(&[&["policy"], arguments].concat()).await;
        assert!(code == 0 && stdout.contains(part), "{arguments:?}: {stdout}{stderr}");
    }
    let (code, stdout, stderr) = scene.run(&["policy", "shop", "--user", "u", "--via", "direct", "--sql"]).await;
    assert_eq!(
        (code, stdout.as_str()),
        (0, "CREATE USER 'u'@'%' IDENTIFIED VIA AWSAuthenticationPlugin USING 'RDS' REQUIRE SSL;\n")
    );
    assert!(
        stderr.starts_with("warning: IAM authentication is off on shop\nhint: aws rds modify-db-instance"),
        "{stderr}"
    );
    let (code, _, stderr) = scene.run(&["policy", "orders"]).await;
    assert_eq!((code, stderr.lines().next()), (2, Some("error: for which database user?")));
    assert!(!scene.operations().contains(&Operation::StartSession), "it changes nothing");
}

/// A name server on loopback that knows one alias. Its thread goes on until the process ends.
fn alias_server(alias: &'static str, target: &str) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback can be listened on");
    let address = socket.local_addr().expect("it is bound");
    let target = target.to_owned();
    let wire = |name: &str| -> Vec<u8> {
        let labels =
            name.split('.').flat_map(|label| [&[u8::try_from(label.len()).expect("short")], label.as_bytes()].concat());
        labels.chain([0]).collect()
    };
    std::thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            let question = &question[..length];
            let known = question[12..].starts_with(&wire(alias));
            let head = [question[0], question[1], 0x81, 0x80, 0, 1, 0, u8::from(known), 0, 0, 0, 0];
            let rdata = wire(&target);
            let length = u16::try_from(rdata.len()).expect("short").to_be_bytes();
            let record = [&[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60][..], &length, &rdata].concat();
            let record = if known { record } else { Vec::new() };
            let _ = socket.send_to(&[&head[..], &question[12..], &record].concat(), from);
        }
    });
    address
}
