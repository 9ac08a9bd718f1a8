//! The facts from which all texts are made.

use std::fmt::Write as _;

use safe_display::printable;
use serde_json::{Value, json};

use crate::{
    aws::rds::Database,
    cli::policy::document::Grant,
    service::Service,
    target::{Partition, Region, Route, Target},
};

/// The start of the names of all that is created.
const PREFIX: &str = "rdsgate-bastion-";
/// The length of the longest name of a role.
const MAX_NAME: usize = 64;
/// The services that the agent of a bastion talks to.
const SERVICES: [&str; 3] = ["ssm", "ssmmessages", "ec2messages"];
/// Stands for the bastion in the policy, since its id is known once it is created.
pub(super) const NEW_BASTION: &str = "i-00000000000000000";
/// The managed policy that lets the agent of a bastion register.
pub(super) const AGENT_POLICY: &str = "AmazonSSMManagedInstanceCore";
/// The parameter that names the image: the smallest Amazon Linux 2023 with an SSM agent, for arm64.
pub(super) const IMAGE: &str = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64";
pub(super) const INSTANCE_TYPE: &str = "t4g.nano";

/// The network around a database, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct Network {
    /// The subnet for the bastion.
    pub(super) subnet: Option<String>,
    /// Whether that subnet has a way to AWS without endpoints.
    pub(super) has_way_out: Option<bool>,
    /// The services that have an interface endpoint already.
    pub(super) endpoints: Vec<String>,
}

/// The resources to be created. Unknown ids are placeholders in capitals.
#[derive(Debug)]
pub(super) struct Plan {
    /// The name of all that is created.
    pub(super) name: String,
    /// The name of the caller's policy.
    pub(super) policy_name: String,
    /// `None` where no target was named.
    pub(super) region: Option<Region>,
    pub(super) account: String,
    pub(super) vpc: String,
    pub(super) subnet: String,
    /// The security group of the database.
    pub(super) database_group: String,
    pub(super) port: u16,
    /// The services that an endpoint is created for.
    pub(super) endpoints: Vec<&'static str>,
    /// The resource whose IAM authentication has to be turned on: `instance` or `cluster`, and its identifier.
    pub(super) without_iam: Option<(&'static str, String)>,
    /// The statements that create the database user.
    pub(super) sql: String,
    /// The caller's policy, with [`NEW_BASTION`] in it; `None` where no target was named.
    pub(super) policy: Option<Value>,
    /// The target as it is typed, and the user.
    pub(super) target: String,
    pub(super) user: String,
}

impl Plan {
    /// Nothing is known.
    pub(super) fn unknown() -> Self {
        Self {
            name: name_of("NAME"),
            policy_name: "rdsgate-NAME".into(),
            region: None,
            account: "ACCOUNT".into(),
            vpc: "VPC_ID".into(),
            subnet: "SUBNET_ID".into(),
            database_group: "DATABASE_SECURITY_GROUP_ID".into(),
            port: 5432,
            endpoints: SERVICES.into(),
            without_iam: None,
            sql: String::new(),
            policy: None,
            target: "TARGET".into(),
            user: "USER".into(),
        }
    }

    pub(super) fn of(target: &Target, database: Option<&Database>, account: Option<&str>, network: Network) -> Self {
        let unknown = Self::unknown();
        let user = target.user.clone().unwrap_or(unknown.user);
        let account = account.map_or(unknown.account, str::to_owned);
        let resource_id = database.and_then(|database| database.resource_id.as_deref()).unwrap_or("RESOURCE_ID");
        let with_bastion = NEW_BASTION.parse().map_or(Route::Direct, Route::Ssm);
        let through = Target { route: with_bastion, ..target.clone() };
        let grant = Grant { target: &through, account: &account, resource_id, user: &user, discovery: false };
        let engine = database.map_or("", |database| database.engine.as_str());
        let endpoints = match network.has_way_out {
            Some(true) => Vec::new(),
            Some(false) | None => {
                SERVICES.into_iter().filter(|service| network.endpoints.iter().all(|found| found != service)).collect()
            }
        };
        let name = name_of(&target.name);
        Self {
            policy_name: format!("rdsgate-{}", name.strip_prefix(PREFIX).unwrap_or(&name)),
            name,
            region: Some(target.region.clone()),
            vpc: database.and_then(|database| database.vpc.clone()).unwrap_or(unknown.vpc),
            subnet: network.subnet.unwrap_or(unknown.subnet),
            database_group: database
                .and_then(|database| database.security_groups.first().cloned())
                .unwrap_or(unknown.database_group),
            port: target.endpoint.port,
            endpoints,
            without_iam: database.filter(|database| database.iam == Some(false)).and_then(resource),
            sql: (target.engine.facts().create_user)(engine, &user),
            policy: Some(grant.policy()),
            target: target.name.to_string(),
            account,
            user,
        }
    }

    /// The partition's name in ARNs.
    pub(super) fn partition(&self) -> &'static str {
        self.region.as_ref().map_or(Partition::Aws, Region::partition).name()
    }

    /// Lets EC2 use the role.
    pub(super) fn trust(&self) -> Value {
        let partition = self.region.as_ref().map_or(Partition::Aws, Region::partition);
        let service = if partition == Partition::AwsCn { "ec2.amazonaws.com.cn" } else { "ec2.amazonaws.com" };
        json!({
            "Version": "2012-10-17",
            "Statement": [{ "Effect": "Allow", "Principal": { "Service": service }, "Action": "sts:AssumeRole" }],
        })
    }

    /// The cost of a month, for a comment.
    pub(super) fn cost(&self) -> String {
        let endpoints = self.endpoints.len();
        // 730 hours of 0.0042 and of 0.01 dollars; 8 GiB of 0.08.
        let each = 7.30 * f64::from(u8::try_from(endpoints).unwrap_or(u8::MAX));
        let more = if endpoints == 0 { String::new() } else { format!(", {endpoints} interface endpoints {each:.2}") };
        let all = 3.07 + 0.64 + each;
        format!(
            "about {all:.0} USD a month: {INSTANCE_TYPE} 3.07, 8 GiB of gp3 0.64{more} (list prices of us-east-1, 2026-11)"
        )
    }
}

/// The instance or cluster that RDS turns IAM authentication on for; a proxy has another way.
fn resource(database: &Database) -> Option<(&'static str, String)> {
    match (database.kind, &database.parent) {
        (Service::Proxy | Service::ProxyEndpoint | Service::Dsql, _) => None,
        (Service::Instance, None) => Some(("instance", database.id.clone())),
        (_, None) => Some(("cluster", database.id.clone())),
        (_, Some(cluster)) => Some(("cluster", cluster.clone())),
    }
}

/// Text as comment lines, whatever characters it has.
pub(super) fn comment(text: &str) -> String {
    text.lines().fold(String::new(), |mut all, line| {
        let _ = writeln!(all, "# {}", printable::line(line));
        all
    })
}

/// A name that IAM and EC2 take, whatever the target is called.
fn name_of(target: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' };
    PREFIX.chars().chain(target.chars().map(plain)).take(MAX_NAME).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_and_short_whatever_the_target_is_called() {
        for (target, expected) in
            [("orders", "rdsgate-bastion-orders"), ("a b';\n$(x)\u{e9}", "rdsgate-bastion-a-b-----x--")]
        {
            assert_eq!(name_of(target), expected);
        }
        assert_eq!(name_of(&"x".repeat(200)).len(), MAX_NAME);
    }

    #[test]
    fn cost_counts_endpoints() {
        let mut plan = Plan::unknown();
        assert!(plan.cost().starts_with("about 26 USD a month"), "{}", plan.cost());
        plan.endpoints.clear();
        assert!(plan.cost().starts_with("about 4 USD a month"), "{}", plan.cost());
    }
}
