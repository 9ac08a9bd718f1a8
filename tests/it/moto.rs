//! The sandbox's AWS side beside `moto`, which others wrote: the same program asks both the same, and reads from both the same
//! kind of facts. moto emulates STS, RDS and EC2; it knows no RDS addresses of the real form, and no agents.

use std::{collections::BTreeSet, process::Stdio};

use sandbox::{Database, Options, Sandbox};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::support::{
    clients,
    gate::{BASTION, PATIENCE},
    program::ran,
};

/// moto in a process of its own, with two instances, of which `billing` has no IAM authentication, one cluster with a member, and one
/// EC2 instance that may reach `orders`.
pub(crate) struct Moto {
    /// Killed when dropped.
    _child: Child,
    pub(crate) url: String,
    /// The EC2 instance's id.
    bastion: String,
}

impl Moto {
    pub(crate) async fn start() -> Self {
        let program = clients::source("python/moto_account.py");
        let python = tokio::task::spawn_blocking(clients::moto_python).await.expect("pip works");
        let mut child = Command::new(python)
            .arg(program)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("python was installed");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let ready = async {
            while let Some(line) = lines.next_line().await.expect("moto writes text") {
                if let Some((url, bastion)) = line.strip_prefix("ready ").and_then(|rest| rest.split_once(' ')) {
                    return (url.to_owned(), bastion.to_owned());
                }
            }
            panic!("moto ended before it was ready");
        };
        let (url, bastion) = tokio::time::timeout(PATIENCE * 2, ready).await.expect("moto gets ready");
        Self { _child: child, url, bastion }
    }
}

/// The output of `rdsgate`, which must succeed.
pub(crate) async fn rdsgate(arguments: &[&str], env: &[(String, String)]) -> String {
    let (code, stdout, stderr) = ran(arguments, env).await;
    assert_eq!(code, 0, "{arguments:?}: {stderr}");
    stdout
}

/// The keys that are known, and of which form: what an emulation makes up is its own affair.
fn shape(value: &Value) -> BTreeSet<(String, String)> {
    let form = |value: &Value| match value {
        Value::String(text) => {
            let head: String = text.chars().take_while(char::is_ascii_alphabetic).collect();
            // Identifiers begin alike, names of things do not.
            let known =
                ["db", "cluster", "arn", "vpc", "available", "postgres", "aurora", "rds"].contains(&head.as_str());
            if known { head } else { "text".into() }
        }
        Value::Null => "null".into(),
        Value::Bool(_) => "bool".into(),
        Value::Number(_) => "number".into(),
        Value::Array(_) => "list".into(),
        Value::Object(_) => "object".into(),
    };
    value.as_object().expect("an object").iter().map(|(key, value)| (key.clone(), form(value))).collect()
}

fn of_kind<'a>(listed: &'a Value, id: &str, kind: &str) -> &'a Value {
    let all = listed["databases"].as_array().expect("a list");
    let found = all.iter().find(|database| database["id"] == id && database["kind"] == kind);
    found.unwrap_or_else(|| panic!("{id} ({kind}) is not in {listed:#}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sandbox_and_moto_are_read_alike() {
    let moto = Moto::start().await;
    let named = |name: &str, hash: &str| format!("{name}.{hash}c1abcdefghij.us-east-1.rds.amazonaws.com");
    let sandbox = Sandbox::start(
        Options::default()
            .describe(Database::new(&named("orders", ""), 5432, "postgres"))
            .describe(Database::new(&named("fleet", "cluster-"), 5432, "aurora-postgresql"))
            .describe(Database::new(&named("fleet-1", ""), 5432, "aurora-postgresql").of("fleet")),
    )
    .await
    .expect("loopback can be listened on");
    let ours = sandbox.env();
    let theirs: Vec<(String, String)> = ours
        .iter()
        .map(|(name, value)| {
            let value = if name == "AWS_ENDPOINT_URL" { moto.url.clone() } else { value.clone() };
            (name.clone(), value)
        })
        .collect();

    let [ours_listed, theirs_listed] =
        [rdsgate(&["ls", "--json"], &ours).await, rdsgate(&["ls", "--json"], &theirs).await]
            .map(|text| serde_json::from_str::<Value>(&text).expect("JSON"));
    for (id, kind) in [("orders", "instance"), ("fleet", "writer"), ("fleet", "reader"), ("fleet-1", "instance")] {
        let (ours, theirs) = (of_kind(&ours_listed, id, kind), of_kind(&theirs_listed, id, kind));
        assert_eq!(shape(ours), shape(theirs), "{id} ({kind})\nsandbox: {ours:#}\nmoto: {theirs:#}");
    }
    // GetCallerIdentity and the lookup by identifier.
    for env in [&ours, &theirs] {
        let policy = rdsgate(&["policy", "orders", "--via", "direct", "--user", "u"], env).await;
        assert!(policy.contains(":123456789012:dbuser:db-") && policy.contains("/u\""), "{policy}");
    }
    // Security groups of the database and of an instance, and the rule between them. Without agents no session can start.
    for (env, bastion) in [(&ours, BASTION), (&theirs, moto.bastion.as_str())] {
        let (_, output, _) =
            ran(&["doctor", "orders", "--bastion", bastion, "--user", "u", "--listen", "0", "--json"], env).await;
        let report: Value = serde_json::from_str(&output).expect("JSON");
        let stages = report["stages"].as_array().expect("a list");
        let network = stages.iter().find(|stage| stage["check"] == "network").expect("it is examined");
        let fact = network["findings"][0]["fact"].as_str().expect("a text");
        let words: Vec<&str> = fact.split(' ').collect();
        let ["sg", "sg"] = [words[0], words[2]].map(|group| group.get(..2).unwrap_or_default()) else {
            panic!("{bastion}: {network}")
        };
        assert_eq!(
            (network["verdict"].as_str(), &words[3..]),
            (Some("pass"), &["in", "on", "port", "5432"][..]),
            "{network}"
        );
    }
    // moto has ended with the test when this is dropped.
    drop(moto);
}
