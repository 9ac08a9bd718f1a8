//! The texts of a policy, from facts. Names are quoted exactly, whatever stands in them.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::{
    login::Login,
    service::{DatabaseUser, LOOKUP_ACTIONS, Permission},
    target::{InstanceId, PasswordSource, Route, Target},
};

/// The permissions that a policy grants.
pub(in crate::cli) struct Grant<'a> {
    pub(in crate::cli) target: &'a Target,
    /// Twelve digits.
    pub(in crate::cli) account: &'a str,
    /// `db-…`, `cluster-…` or `prx-…`.
    pub(in crate::cli) resource_id: &'a str,
    pub(in crate::cli) user: &'a str,
    /// Also what `rdsgate ls` and a `rdsgate up` without `--bastion` ask for.
    pub(in crate::cli) discovery: bool,
}

impl Grant<'_> {
    /// The policy document.
    pub(in crate::cli) fn policy(&self) -> Value {
        json!({ "Version": "2012-10-17", "Statement": self.statements() })
    }

    /// The policy as a resource of Terraform's.
    pub(in crate::cli) fn terraform(&self) -> String {
        let name = &self.target.name;
        let label: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        format!(
            "resource \"aws_iam_policy\" \"rdsgate_{label}\" {{\n  name        = {}\n  description = {}\n\n  policy = jsonencode({})\n}}\n",
            hcl_string(&format!("rdsgate-{name}")),
            hcl_string(&format!("Log in to {} with rdsgate", self.target.endpoint.host)),
            hcl(&self.policy(), 1),
        )
    }

    fn statements(&self) -> Vec<Value> {
        let (region, account) = (&self.target.region, self.account);
        let aws = region.partition().name();
        let mut statements = Vec::new();
        let roles: Vec<String> = self.target.identity.roles.iter().map(|role| role.as_str().to_owned()).collect();
        if !roles.is_empty() {
            // Each is assumed with the credentials of the one before, which need this for the next one alone.
            statements.push(
                json!({ "Sid": "AssumeRoles", "Effect": "Allow", "Action": "sts:AssumeRole", "Resource": roles }),
            );
        }
        if let Route::Ssm(bastion) | Route::Auto(bastion) = &self.target.route {
            // A session's id begins with the caller's; `${aws:userid}` is IAM's variable, not ours.
            let own_sessions = format!("arn:{aws}:ssm:{region}:{account}:session/${{aws:userid}}-*");
            statements.push(json!({
                "Sid": "StartSession",
                "Effect": "Allow",
                "Action": "ssm:StartSession",
                "Resource": [self.bastion(bastion), self.document()],
                // Without it the right to the node alone would let in by any document.
                "Condition": { "BoolIfExists": { "ssm:SessionDocumentAccessCheck": "true" } },
            }));
            statements.push(json!({
                "Sid": "OwnSessions",
                "Effect": "Allow",
                "Action": ["ssm:ResumeSession", "ssm:TerminateSession", "ssmmessages:OpenDataChannel"],
                "Resource": own_sessions,
            }));
        }
        if Login::of(self.target) == Login::Iam {
            let user =
                DatabaseUser { account: Some(account), resource_id: Some(self.resource_id), name: &literal(self.user) };
            let Permission { action, resource } = self.target.endpoint.permission(region, user);
            statements.push(json!({ "Sid": "Connect", "Effect": "Allow", "Action": action, "Resource": resource }));
        }
        if Login::of(self.target) == Login::Secret {
            statements.extend(self.password());
        }
        if self.discovery {
            let nodes = [
                "ssm:DescribeInstanceInformation",
                "ec2:DescribeInstances",
                "ec2:DescribeSubnets",
                "ecs:ListClusters",
                "ecs:ListTasks",
                "ecs:DescribeTasks",
            ];
            let actions = [LOOKUP_ACTIONS, &nodes].concat();
            statements.push(json!({
                "Sid": "Discover",
                "Effect": "Allow",
                "Action": actions,
                // Most of these cannot be narrowed.
                "Resource": "*",
            }));
        }
        statements
    }

    /// The permissions to fetch the password. AWS appends six random characters to the name of a secret in its ARN.
    fn password(&self) -> Vec<Value> {
        let (region, account) = (&self.target.region, self.account);
        let aws = region.partition().name();
        let named = |name: &str| format!("arn:{aws}:secretsmanager:{region}:{account}:secret:{name}");
        let (secret, is_described) = match &self.target.password {
            PasswordSource::Command(_) => return Vec::new(),
            PasswordSource::Secret(id) if id.region().is_some() => (id.to_string(), false),
            PasswordSource::Secret(id) => (named(&format!("{id}-??????")), false),
            PasswordSource::Rds => (named("rds!*"), true),
        };
        let get = json!({
            "Sid": "Password", "Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": secret,
        });
        let describe = json!({
            "Sid": "FindPassword", "Effect": "Allow",
            "Action": ["rds:DescribeDBInstances", "rds:DescribeDBClusters", "rds:DescribeDBClusterEndpoints"],
            "Resource": "*",
        });
        [Some(get), is_described.then_some(describe)].into_iter().flatten().collect()
    }

    /// The session document's ARN: AWS's belong to no account.
    fn document(&self) -> String {
        let (region, document) = (&self.target.region, self.target.session.document.as_str());
        let aws = region.partition().name();
        match document {
            arn if arn.starts_with("arn:") => arn.into(),
            name if name.starts_with("AWS-") => format!("arn:{aws}:ssm:{region}::document/{name}"),
            name => format!("arn:{aws}:ssm:{region}:{}:document/{name}", self.account),
        }
    }

    /// The node's ARN. A task is named by its cluster: its own id is gone with its next deployment.
    fn bastion(&self, id: &InstanceId) -> String {
        let (region, account) = (&self.target.region, self.account);
        let aws = region.partition().name();
        let id = id.as_str();
        if let Some(task) = id.strip_prefix("ecs:") {
            // CLUSTER_TASK_RUNTIME; of the three only the cluster's name may have an underscore.
            let cluster = task.rsplitn(3, '_').nth(2).unwrap_or_default();
            return format!("arn:{aws}:ecs:{region}:{account}:task/{cluster}/*");
        }
        if id.starts_with("mi-") {
            return format!("arn:{aws}:ssm:{region}:{account}:managed-instance/{id}");
        }
        format!("arn:{aws}:ec2:{region}:{account}:instance/{id}")
    }
}

/// A name that IAM takes as it is: `*`, `?` and `$` stand for themselves only as `${*}`, `${?}` and `${$}` ("Policy
/// variables", special characters).
fn literal(name: &str) -> String {
    name.chars().fold(String::new(), |mut text, c| {
        match c {
            '*' | '?' | '$' => text.extend(['$', '{', c, '}']),
            c => text.push(c),
        }
        text
    })
}

/// A value in HCL, which has JSON's but for its strings.
pub(in crate::cli) fn hcl(value: &Value, depth: usize) -> String {
    let indent = "  ".repeat(depth + 1);
    let end = "  ".repeat(depth);
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().fold(String::new(), |mut text, (name, value)| {
                // A name with a colon has to be quoted.
                let plain = name.chars().all(|c| c.is_ascii_alphanumeric());
                let name = if plain { name.clone() } else { hcl_string(name) };
                let _ = writeln!(text, "{indent}{name} = {}", hcl(value, depth + 1));
                text
            });
            format!("{{\n{fields}{end}}}")
        }
        Value::Array(items) => {
            let items = items.iter().fold(String::new(), |mut text, item| {
                let _ = writeln!(text, "{indent}{},", hcl(item, depth + 1));
                text
            });
            format!("[\n{items}{end}]")
        }
        Value::String(text) => hcl_string(text),
        other => other.to_string(),
    }
}

/// A string of HCL's: escapes like JSON's, and `${` and `%{` doubled, which would be templates ("Strings and Templates").
pub(in crate::cli) fn hcl_string(text: &str) -> String {
    let mut quoted = String::from("\"");
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '$' | '%' if characters.peek() == Some(&'{') => quoted.extend([c, c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::{Compress, Endpoint, Engine};

    fn target(host: &str, bastion: Option<&str>) -> Target {
        let host: crate::target::Host = host.parse().unwrap();
        Target {
            name: "orders".into(),
            engine: Engine::Postgres,
            region: host.region().unwrap(),
            pooling: crate::target::default_pooling(crate::target::Isolation::Shared, &host),
            endpoint: Endpoint { host, port: 5432 },
            user: None,
            database: None,
            auth: crate::target::Auth::Iam,
            password: PasswordSource::default(),
            route: bastion.map_or(Route::Direct, |id| Route::Ssm(id.parse().unwrap())),
            identity: crate::target::Identity::default(),
            alias: None,
            session: crate::target::SessionSettings::default(),
            guard: crate::target::Guard::default(),
            ca_file: None,
            compress: Compress::Auto,
            listen: Vec::new(),
            socket: crate::target::SocketAccess::PRIVATE,
            allow_users: Vec::new(),
            local_password_file: None,
            local_tls: crate::target::LocalTls::default(),
            max_connections: None,
            reuse: None,
            max_logins_per_second: 180,
        }
    }

    #[test]
    fn policy_names_the_document_of_the_target() {
        let mut target = target("orders.c1abcdefghij.eu-central-1.rds.amazonaws.com", Some("i-0123456789abcdef0"));
        for (document, arn) in [
            ("AWS-StartPortForwardingSession", "arn:aws:ssm:eu-central-1::document/AWS-StartPortForwardingSession"),
            ("ToTheDatabase", "arn:aws:ssm:eu-central-1:123456789012:document/ToTheDatabase"),
            ("arn:aws:ssm:eu-central-1:210987654321:document/X", "arn:aws:ssm:eu-central-1:210987654321:document/X"),
        ] {
            target.session.document = document.parse().unwrap();
            assert_eq!(grant(&target, "db-X", "u").document(), arn);
        }
        target.route = Route::Auto("i-0123456789abcdef0".parse().unwrap());
        assert!(grant(&target, "db-X", "u").policy().to_string().contains("ssm:StartSession"));
    }

    fn grant<'a>(target: &'a Target, resource_id: &'a str, user: &'a str) -> Grant<'a> {
        Grant { target, account: "123456789012", resource_id, user, discovery: false }
    }

    #[test]
    fn policy_names_exactly_this_database_user_and_node() {
        let target = target("orders.c1abcdefghij.eu-central-1.rds.amazonaws.com", Some("i-0123456789abcdef0"));
        let policy = grant(&target, "db-ABC", "app_user").policy();
        assert_eq!(
            policy,
            json!({
                "Version": "2012-10-17",
                "Statement": [
                    {
                        "Sid": "StartSession", "Effect": "Allow", "Action": "ssm:StartSession",
                        "Resource": [
                            "arn:aws:ec2:eu-central-1:123456789012:instance/i-0123456789abcdef0",
                            "arn:aws:ssm:eu-central-1::document/AWS-StartPortForwardingSessionToRemoteHost",
                        ],
                        "Condition": { "BoolIfExists": { "ssm:SessionDocumentAccessCheck": "true" } },
                    },
                    {
                        "Sid": "OwnSessions", "Effect": "Allow",
                        "Action": ["ssm:ResumeSession", "ssm:TerminateSession", "ssmmessages:OpenDataChannel"],
                        "Resource": "arn:aws:ssm:eu-central-1:123456789012:session/${aws:userid}-*",
                    },
                    {
                        "Sid": "Connect", "Effect": "Allow", "Action": "rds-db:connect",
                        "Resource": "arn:aws:rds-db:eu-central-1:123456789012:dbuser:db-ABC/app_user",
                    },
                ],
            })
        );
    }

    #[test]
    fn policy_of_a_login_with_a_secret_names_the_secret() {
        let mut target = target("a.c1.eu-west-1.rds.amazonaws.com", None);
        target.auth = crate::target::Auth::Secret;
        let arn = "arn:aws:secretsmanager:us-east-1:210987654321:secret:x-a1b2c3";
        for (secret, resource, described) in [
            ("prod/orders", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/orders-??????", false),
            (arn, arn, false),
            ("rds", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:rds!*", true),
        ] {
            target.password = secret.parse().unwrap();
            let policy = grant(&target, "db-A", "").policy();
            let statement = &policy["Statement"][0];
            let expected = (&"secretsmanager:GetSecretValue".into(), &resource.into());
            assert_eq!((&statement["Action"], &statement["Resource"]), expected);
            let text = policy.to_string();
            assert_eq!((text.contains("rds:DescribeDBInstances"), text.contains("rds-db:connect")), (described, false));
        }
    }

    #[test]
    fn every_partition_route_and_resource_has_its_arns() {
        for (host, bastion, resource_id, expected) in [
            (
                "a.cluster-c1abcdefghij.cn-north-1.rds.amazonaws.com.cn",
                Some("mi-0123456789abcdef0"),
                "cluster-ABC",
                &[
                    "arn:aws-cn:ssm:cn-north-1:123456789012:managed-instance/mi-0123456789abcdef0",
                    "arn:aws-cn:ssm:cn-north-1::document/AWS-StartPortForwardingSessionToRemoteHost",
                    "arn:aws-cn:ssm:cn-north-1:123456789012:session/${aws:userid}-*",
                    "arn:aws-cn:rds-db:cn-north-1:123456789012:dbuser:cluster-ABC/u",
                ][..],
            ),
            (
                "a.proxy-c1abcdefghij.us-gov-west-1.rds.amazonaws.com",
                Some("ecs:my_cluster_0123456789abcdef_0123456789abcdef-456"),
                "prx-0abc",
                &[
                    "arn:aws-us-gov:ecs:us-gov-west-1:123456789012:task/my_cluster/*",
                    "arn:aws-us-gov:rds-db:us-gov-west-1:123456789012:dbuser:prx-0abc/u",
                ],
            ),
            (
                "a.c1.eu-west-1.rds.amazonaws.com",
                None,
                "db-A",
                &["arn:aws:rds-db:eu-west-1:123456789012:dbuser:db-A/u"],
            ),
        ] {
            let target = target(host, bastion);
            let policy = grant(&target, resource_id, "u").policy().to_string();
            for arn in expected {
                assert!(policy.contains(&format!("\"{arn}\"")), "{arn}: {policy}");
            }
            assert_eq!(policy.contains("ssm:"), bastion.is_some(), "no session on the direct way: {policy}");
        }
    }

    #[test]
    fn user_name_is_quoted_for_iam_json_and_terraform() {
        let target = target("a.c1.eu-west-1.rds.amazonaws.com", None);
        let grant = grant(&target, "db-A", "a*\"\\?${b}%{c}");
        let policy: Value = serde_json::from_str(&format!("{:#}", grant.policy())).unwrap();
        let arn = "arn:aws:rds-db:eu-west-1:123456789012:dbuser:db-A/a${*}\"\\${?}${$}{b}%{c}";
        assert_eq!(policy["Statement"][0]["Resource"], arn);
        let line = "        Resource = \"arn:aws:rds-db:eu-west-1:123456789012:dbuser:db-A/a$${*}\\\"\\\\$${?}$${$}{b}%%{c}\"\n";
        assert!(grant.terraform().contains(line), "{}", grant.terraform());
    }

    #[test]
    fn terraform_has_the_policy_as_an_expression() {
        let target = target("orders.c1.eu-west-1.rds.amazonaws.com", Some("i-0123456789abcdef0"));
        let text = grant(&target, "db-A", "u").terraform();
        for part in [
            "resource \"aws_iam_policy\" \"rdsgate_orders\" {\n  name        = \"rdsgate-orders\"\n",
            "  policy = jsonencode({\n    Statement = [\n      {\n        Action = \"ssm:StartSession\"\n",
            "          BoolIfExists = {\n            \"ssm:SessionDocumentAccessCheck\" = \"true\"\n",
            "session/$${aws:userid}-*\"\n",
            "    Version = \"2012-10-17\"\n  })\n}\n",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn roles_of_a_chain_may_be_assumed() {
        let mut target = target("a.c1.eu-west-1.rds.amazonaws.com", None);
        let roles = ["arn:aws:iam::123456789012:role/a", "arn:aws:iam::210987654321:role/b"];
        target.identity.roles = roles.iter().map(|role| role.parse().unwrap()).collect();
        let policy = grant(&target, "db-A", "u").policy();
        assert_eq!(policy["Statement"][0]["Action"], "sts:AssumeRole");
        assert_eq!(policy["Statement"][0]["Resource"], json!(roles));
    }

    #[test]
    fn looking_things_up_is_allowed_only_when_asked_for() {
        let target = target("a.c1.eu-west-1.rds.amazonaws.com", None);
        let mut grant = grant(&target, "db-A", "u");
        assert!(!grant.policy().to_string().contains("Describe"));
        grant.discovery = true;
        let policy = grant.policy();
        assert_eq!(
            (&policy["Statement"][1]["Sid"], &policy["Statement"][1]["Resource"]),
            (&"Discover".into(), &"*".into())
        );
    }
}
