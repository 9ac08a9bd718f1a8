//! `rdsgate setup`: what it prints is applied to an emulation of AWS that others wrote, read by a parser of Terraform's language,
//! and by the linter of CloudFormation.

use std::{
    collections::BTreeSet,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::{
    moto::{Moto, rdsgate},
    support::{clients, program::ran},
};

/// A name that a shell runs as a command unless it is quoted.
const USER: &str = "it's \"$(touch taken)`touch taken`${aws:x}";

fn env(moto: &Moto) -> Vec<(String, String)> {
    let pairs = [
        ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", &moto.url),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// Runs a shell script with AWS's command line in its path. Version 1 asks the real RDS whatever `AWS_ENDPOINT_URL` says, so that it gets
/// the flag.
fn sh(script: &str, folder: &Path, env: &[(String, String)]) -> String {
    let script = format!("aws() {{ command aws --endpoint-url \"$AWS_ENDPOINT_URL\" \"$@\"; }}\n{script}");
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("sh")
        .args(["-c", &script])
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .env("AWS_PAGER", "")
        .env("PATH", format!("{}:{path}", clients::aws_programs().display()))
        .envs(env.iter().cloned())
        .stdin(Stdio::null())
        .output()
        .expect("there is a shell");
    let Output { status, stdout, stderr } = output;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the AWS CLI prints UTF-8");
    let (stdout, stderr) = (text(stdout), text(stderr));
    assert!(status.success(), "{status}\n{stdout}{stderr}");
    stdout
}

/// All that the commands create or change.
const INVENTORY: &str = "
aws ec2 describe-security-groups --query 'SecurityGroups[].[GroupId,GroupName,IpPermissions]' --output json
aws ec2 describe-vpc-endpoints --query 'VpcEndpoints[?State!=`deleted`].VpcEndpointId' --output json
aws ec2 describe-instances --filters Name=instance-state-name,Values=pending,running,stopping,stopped --query 'Reservations[].Instances[].InstanceId'
aws iam list-roles --query 'Roles[].RoleName'
aws iam list-instance-profiles --query 'InstanceProfiles[].InstanceProfileName'
aws iam list-policies --scope Local --query 'Policies[].PolicyName'
";

/// Whether the database takes IAM logins.
const IAM: &str = "aws rds describe-db-instances --db-instance-identifier billing --query 'DBInstances[0].IAMDatabaseAuthenticationEnabled' --output text";

#[tokio::test(flavor = "multi_thread")]
async fn commands_create_a_bastion_that_doctor_accepts_and_take_all_of_it_away() {
    let moto = Moto::start().await;
    let env = env(&moto);
    let folder = tempfile::tempdir().expect("there is a folder for temporary files");
    let apply = |script: String| {
        let (folder, env) = (folder.path().to_owned(), env.clone());
        tokio::task::spawn_blocking(move || sh(&script, &folder, &env))
    };
    let before = apply(INVENTORY.into()).await.expect("it does not panic");
    assert_eq!(apply(IAM.into()).await.expect("it does not panic"), "False\n");
    let create = rdsgate(&["setup", "billing", "--user", USER], &env).await;
    assert!(!create.contains("_ID") && create.contains("USD a month"), "all is known: {create}");
    let printed = apply(create.clone()).await.expect("it does not panic");
    let bastion = printed.trim_end().strip_prefix("bastion: ").expect("its last line").to_owned();
    assert_eq!(apply(IAM.into()).await.expect("it does not panic"), "True\n", "{create}");

    let (_, output, _) =
        ran(&["doctor", "billing", "--bastion", &bastion, "--user", USER, "--listen", "0", "--json"], &env).await;
    let report: Value = serde_json::from_str(&output).expect("JSON");
    let stages = report["stages"].as_array().expect("a list");
    // moto keeps no groups of an instance that was started without a public address, so the rule is looked at below.
    for check in ["credentials", "identity", "database"] {
        let stage = stages.iter().find(|stage| stage["check"] == check).expect("it is made");
        assert_eq!(stage["verdict"], "pass", "{stage:#}");
    }
    let facts = "
aws ec2 describe-instances --instance-ids BASTION --query 'Reservations[0].Instances[0].[KeyName,PublicIpAddress,InstanceType]' --output text
aws ec2 describe-vpc-endpoints --query 'sort(VpcEndpoints[].ServiceName)' --output text
aws iam list-attached-role-policies --role-name rdsgate-bastion-billing --query 'AttachedPolicies[].PolicyName' --output text
aws ec2 describe-security-groups --filters Name=group-name,Values=rdsgate-bastion-billing --query 'SecurityGroups[0].[length(IpPermissions),IpPermissionsEgress[].FromPort,GroupId]' --output json
aws ec2 describe-security-groups --filters Name=group-name,Values=database --query 'SecurityGroups[0].IpPermissions[?FromPort==`5432`].UserIdGroupPairs[].GroupId' --output text
";
    let facts = apply(facts.replace("BASTION", &bastion)).await.expect("it does not panic");
    let mut lines = facts.lines();
    assert_eq!(lines.next(), Some("None\tNone\tt4g.nano"), "{facts}");
    let services = ["ec2messages", "ssm", "ssmmessages"].map(|service| format!("com.amazonaws.us-east-1.{service}"));
    assert_eq!(lines.next(), Some(&*services.join("\t")), "{facts}");
    assert_eq!(lines.next(), Some("AmazonSSMManagedInstanceCore"), "{facts}");
    let mut lines: Vec<&str> = lines.collect();
    let let_in = lines.pop().unwrap_or_default();
    let group: Value = serde_json::from_str(&lines.concat()).expect("JSON");
    assert!(let_in.contains(group[2].as_str().expect("an id")), "{facts}");
    let ports: BTreeSet<u64> = group[1].as_array().expect("a list").iter().filter_map(Value::as_u64).collect();
    assert_eq!((group[0].as_u64(), ports), (Some(0), BTreeSet::from([443, 5432])), "{facts}");

    let remove = rdsgate(&["setup", "billing", "--user", USER, "--remove"], &env).await;
    apply(remove).await.expect("it does not panic");
    assert_eq!(apply(INVENTORY.into()).await.expect("it does not panic"), before);
    assert!(!folder.path().join("taken").exists(), "a name was run as a command: {create}");
}

/// The text in a format.
async fn printed(moto: &Moto, arguments: &[&str]) -> String {
    rdsgate(&[&["setup"], arguments].concat(), &env(moto)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn terraform_is_read_by_a_parser_of_its_language() {
    let moto = Moto::start().await;
    for arguments in [&["orders", "--user", USER][..], &[][..]] {
        let text = printed(&moto, &[arguments, &["--format", "terraform"]].concat()).await;
        let folder = tempfile::tempdir().expect("there is a folder for temporary files");
        let file = folder.path().join("main.tf");
        std::fs::write(&file, &text).expect("it is ours");
        let output = tokio::task::spawn_blocking(move || {
            let program = "import hcl2, json, sys\nprint(json.dumps(hcl2.load(open(sys.argv[1]))))";
            Command::new(clients::template_programs().join("python"))
                .args(["-c", program])
                .arg(&file)
                .output()
                .expect("python was installed")
        });
        let output = output.await.expect("it does not panic");
        assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
        let parsed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let kinds: BTreeSet<String> = parsed["resource"]
            .as_array()
            .expect("a list")
            .iter()
            .flat_map(|resource| resource.as_object().expect("an object").keys())
            .map(|kind| kind.trim_matches('"').to_owned())
            .collect();
        for kind in ["aws_instance", "aws_iam_role", "aws_security_group", "aws_vpc_endpoint"] {
            assert!(kinds.contains(kind), "{kind}: {kinds:?}");
        }
        assert_eq!(kinds.contains("aws_iam_policy"), !arguments.is_empty());
        let mut code = text.lines().filter(|line| !line.starts_with('#'));
        assert!(code.all(|line| !line.contains("${aws:x}")), "{text}");
    }
}

/// The names that a template refers to.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(name) = fields.get("Ref").and_then(Value::as_str) {
                found.insert(name.to_owned());
            }
            if let Some(name) = fields.get("Fn::GetAtt").and_then(|parts| parts[0].as_str()) {
                found.insert(name.to_owned());
            }
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cloudformation_passes_its_linter_and_refers_to_what_it_creates() {
    let moto = Moto::start().await;
    for arguments in [&["orders", "--user", USER][..], &[][..]] {
        let text = printed(&moto, &[arguments, &["--format", "cloudformation"]].concat()).await;
        let template: Value = serde_json::from_str(&text).expect("JSON");
        let resources = template["Resources"].as_object().expect("an object");
        let mut found = BTreeSet::new();
        references(&template["Resources"], &mut found);
        references(&template["Outputs"], &mut found);
        for name in &found {
            assert!(resources.contains_key(name) || template["Parameters"][name].is_object(), "{name}: {text}");
        }
        assert!(found.contains("Bastion") && found.contains("BastionGroup"), "{found:?}");
        for (id, resource) in resources {
            assert!(id.chars().all(|c| c.is_ascii_alphanumeric()), "{id}");
            assert!(resource["Type"].as_str().is_some_and(|kind| kind.starts_with("AWS::")), "{resource}");
        }
        // The linter takes no placeholders.
        if !arguments.is_empty() {
            let folder = tempfile::tempdir().expect("there is a folder for temporary files");
            let file = folder.path().join("template.json");
            std::fs::write(&file, &text).expect("it is ours");
            let output = tokio::task::spawn_blocking(move || {
                let mut lint = Command::new(clients::template_programs().join("cfn-lint"));
                lint.args(["--regions", "us-east-1", "--"]).arg(&file).output().expect("it was installed")
            });
            let output = output.await.expect("it does not panic");
            assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stdout));
        }
        let policy = resources.get("CallerPolicy").map(ToString::to_string);
        assert_eq!(policy.is_some(), !arguments.is_empty());
        assert!(!text.contains("i-00000000000000000"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_target_all_ids_are_placeholders() {
    let moto = Moto::start().await;
    let text = printed(&moto, &[]).await;
    for word in ["vpc=VPC_ID", "subnet=SUBNET_ID", "database_group=DATABASE_SECURITY_GROUP_ID", "${AWS_REGION:?"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let public = "weabcdefghijklmnopqrdqqm2e.dsql.us-east-1.on.aws";
    let (code, _, stderr) = ran(&["setup", public, "--user", "admin"], &env(&moto)).await;
    assert!(code != 0 && stderr.contains("needs no bastion"), "{stderr}");
}
