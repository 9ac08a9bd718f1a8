//! Aurora DSQL: the real program against a real PostgreSQL that checks tokens of that service, and the sandbox's API.

use sandbox::{Database, Destination, Identity, Operation, Options, Sandbox};
use serde_json::Value;

use crate::support::{
    gate::{BASTION, GateOptions, sandbox},
    program::ran,
    servers::{Options as ServerOptions, Server},
    sni::SniRelay,
};

const ID: &str = "weabcdefghijklmnopqrdqqm2e";

fn public() -> String {
    format!("{ID}.dsql.us-east-1.on.aws")
}

/// A PostgreSQL that takes the tokens for a host of Aurora DSQL, with the roles of a cluster.
fn cluster(host: &str) -> Server {
    let (hosts, region) = (vec![host.into()], Some("us-east-1".into()));
    let server = Server::start(&ServerOptions { hosts, region, ..ServerOptions::default() });
    server.admin("CREATE ROLE admin LOGIN IN ROLE rds_iam");
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn each_user_logs_in_with_the_action_of_its_kind() {
    for host in [public(), format!("{ID}.dsql-fnh4.us-east-1.on.aws")] {
        let server = cluster(&host);
        let sandbox = sandbox(&server).await;
        for user in ["app_user", "admin"] {
            let gate = GateOptions::new(&server, &sandbox).without("--user").flag("--user", user).start().await;
            assert_eq!(gate.query("select current_user").await, user, "{host}: {:?}", server.auth_lines());
        }
        let refused: Vec<String> = server.auth_lines().into_iter().filter(|line| !line.contains(" OK ")).collect();
        assert_eq!(refused, Vec::<String>::new(), "{host}");
    }
}

/// Aurora DSQL tells its clusters apart by this name.
#[tokio::test(flavor = "multi_thread")]
async fn client_hello_through_a_bastion_names_the_cluster() {
    for host in [public(), format!("{ID}.dsql-fnh4.us-east-1.on.aws")] {
        let server = cluster(&host);
        let relay = SniRelay::start(server.addr).await;
        let sandbox = sandbox(&server).await;
        sandbox.name(&host, 5432, Destination::Address(relay.addr));
        let gate = GateOptions::new(&server, &sandbox).start().await;
        assert_eq!(gate.query("select current_user").await, "app_user", "{:?}", server.auth_lines());
        relay.was_asked_for(&host);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusal_names_the_permission_and_the_mapping_of_roles() {
    let server = cluster(&public());
    let sandbox = sandbox(&server).await;
    let gate = GateOptions::new(&server, &sandbox).identity(&Identity::readonly()).start().await;
    let refused = crate::support::refusal::Refusal::of(&gate).await;
    let hint = format!("dsql:DbConnect on arn:aws:dsql:us-east-1:123456789012:cluster/{ID}");
    refused.says("28000", "PAM authentication failed", "Stage: database login.", &hint);
    refused.says("28000", "PAM authentication failed", "Stage: database login.", "AWS IAM GRANT app_user TO");
}

/// Three clusters in pages of two.
async fn clusters() -> Sandbox {
    let named = |id: &str| Database::new(&format!("{id}.dsql.us-east-1.on.aws"), 5432, "aurora-dsql");
    let creating = Database { status: "creating".into(), ..named("aaabcdefghijklmnopqrdqqm2e") };
    let options = Options { page: 2, ..Options::default() }.describe(creating).describe(named(ID));
    let options = options.describe(named("zzabcdefghijklmnopqrdqqm2e"));
    Sandbox::start(options).await.expect("loopback can be listened on")
}

#[tokio::test(flavor = "multi_thread")]
async fn ls_lists_clusters_which_need_no_node() {
    let sandbox = clusters().await;
    let (code, stdout, stderr) = ran(&["ls"], &sandbox.env()).await;
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert_eq!(
        stdout,
        format!(
            "NAME                KIND  ENGINE       IAM  NODES\n\
             aaabcdefghijklmno…  dsql  aurora-dsql  on   not needed\n  \
               rdsgate psql aaabcdefghijklmnopqrdqqm2e --user USER  # creating\n\
             weabcdefghijklmno…  dsql  aurora-dsql  on   not needed\n  \
               rdsgate psql {ID} --user USER\n\
             zzabcdefghijklmno…  dsql  aurora-dsql  on   not needed\n  \
               rdsgate psql zzabcdefghijklmnopqrdqqm2e --user USER\n"
        )
    );
    let user = Identity::user().access_key;
    let denied = [Operation::ListDsqlClusters];
    assert!(sandbox.identity(&user, |user| user.denied.extend(denied)));
    let (code, _, stderr) = ran(&["ls"], &sandbox.env()).await;
    let quiet = "left out: clusters of Aurora DSQL, for want of dsql:ListClusters\nno databases in us-east-1\n";
    assert_eq!((code, stderr.as_str()), (0, quiet));
    // A user with a cluster in a file misses something.
    let folder = tempfile::tempdir().expect("there is room");
    let file = folder.path().join("rdsgate.toml");
    std::fs::write(&file, format!("[targets.cluster]\nhost = '{}'\n", public())).expect("there is room");
    let (code, _, stderr) = ran(&["ls", "--config", &file.display().to_string()], &sandbox.env()).await;
    assert!(code == 0 && stderr.contains("dsql:ListClusters") && stderr.contains("incomplete"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_is_for_the_cluster_whatever_it_is_called_by() {
    let sandbox = clusters().await;
    let arn = format!("arn:aws:dsql:us-east-1:123456789012:cluster/{ID}");
    for target in [ID, &arn, &public()] {
        for (user, action) in [("admin", "dsql:DbConnectAdmin"), ("app", "dsql:DbConnect")] {
            let (code, stdout, stderr) = ran(&["policy", target, "--user", user], &sandbox.env()).await;
            assert_eq!((code, stderr.as_str()), (0, ""), "{target}");
            let policy: Value = serde_json::from_str(&stdout).expect("JSON");
            let statements = policy["Statement"].as_array().expect("a list");
            assert_eq!(statements.len(), 1, "no session is needed: {stdout}");
            assert_eq!(
                (statements[0]["Action"].as_str(), statements[0]["Resource"].as_str()),
                (Some(action), Some(&*arn))
            );
        }
    }
    let (_, sql, _) = ran(&["policy", ID, "--user", "app", "--sql"], &sandbox.env()).await;
    assert!(sql.starts_with("CREATE ROLE \"app\" WITH LOGIN;\nAWS IAM GRANT \"app\" TO 'arn:aws:iam::"), "{sql}");
    let absent = "arn:aws:dsql:us-east-1:123456789012:cluster/ooabcdefghijklmnopqrdqqm2e";
    let (code, _, stderr) = ran(&["policy", absent, "--user", "app"], &sandbox.env()).await;
    assert!(code != 0 && stderr.contains("there is no database"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn token_of_a_cluster_is_made_without_a_call() {
    let sandbox = clusters().await;
    let (code, stdout, stderr) = ran(&["token", &public(), "--user", "admin"], &sandbox.env()).await;
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(stdout.starts_with(&format!("{}/?Action=DbConnectAdmin&X-Amz-Algorithm=", public())), "{stdout}");
    assert!(!stdout.contains("DBUser") && sandbox.calls().is_empty(), "{stdout} {:?}", sandbox.calls());
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_finds_a_healthy_cluster_healthy() {
    let server = cluster(&public());
    let sandbox = sandbox(&server).await;
    let ca = server.ca.display().to_string();
    let arguments = ["doctor", &public(), "--bastion", BASTION, "--user", "admin", "--ca-file", &ca, "--listen", "0"];
    let (code, stdout, stderr) = ran(&[&arguments[..], &["--json"]].concat(), &sandbox.env()).await;
    let report: Value = serde_json::from_str(&stdout).expect("JSON");
    let bad: Vec<&Value> = report["stages"]
        .as_array()
        .expect("a list")
        .iter()
        // The interface endpoint of a cluster is not looked up, so neither are its groups.
        .filter(|stage| stage["check"] != "network")
        .filter(|stage| !["pass", "skip"].contains(&stage["verdict"].as_str().unwrap_or_default()))
        .collect();
    assert!(code == 0 && bad.is_empty(), "{code} {bad:#?} {stderr}");
    assert!(stdout.contains("a cluster of Aurora DSQL in us-east-1") && !stdout.contains("rds_iam"), "{stdout}");
}
