//! The network around the bastion, looked at when the bastion is offline or a dial hangs: what the recipes for Session Manager ask
//! for. A part that AWS does not let us see is unknown.

use super::{
    network::ingress,
    report::{Check, Finding, Verdict},
    run::{Rules, Run, VPC_TIMEOUT},
    subject::Subject,
    words::NO_CREDENTIALS,
};
use crate::{
    aws::{
        Account, Error,
        network::{Admission, Place},
        vpc::{AclVerdict, DnsAttribute, Endpoint, Instance},
    },
    target::InstanceId,
};

/// The services that agents talk to ("Verify or create an IAM role", "Create VPC endpoints": Systems Manager).
const SERVICES: [&str; 3] = ["ssm", "ssmmessages", "ec2messages"];
/// The policy that lets an agent register.
const POLICY: &str = "AmazonSSMManagedInstanceCore";
/// The port of AWS's endpoints.
const HTTPS: u16 = 443;

/// Why the network is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The bastion's agent is not connected to Systems Manager.
    Offline,
    /// The dial to this port of the database got no answer.
    Hangs(u16),
}

/// Reports that there is no reason to look.
pub(super) fn not_needed(run: &Run) {
    run.note(Check::Vpc, Finding::pass("not needed: no bastion is offline, and no dial hangs"));
}

/// Looks at the network, if there is a reason.
pub(super) async fn check(
    run: &Run,
    subject: &Subject,
    account: Option<&Account>,
    trouble: Option<Trouble>,
    rules: &Rules,
) {
    let Some(account) = account else { return run.skip(Check::Vpc, NO_CREDENTIALS) };
    let Some(trouble) = trouble else { return not_needed(run) };
    let Ok(Some(id)) = subject.extent.bastion() else {
        return run.note(Check::Vpc, Finding::pass("not needed: no bastion is used"));
    };
    if !id.as_str().starts_with("i-") {
        return run.skip(Check::Vpc, "the bastion is not an EC2 instance");
    }
    let look = Look { subject, account, id };
    let work = async {
        let findings = match account.instance(id).await {
            Err(error) => vec![Finding::of_call(Verdict::Unknown, &error)],
            Ok(None) => vec![Finding::unknown(format!("EC2 does not know {id}"))],
            Ok(Some(instance)) => match trouble {
                Trouble::Offline => look.at_agent(&instance).await,
                Trouble::Hangs(port) => look.at_way(&instance, port, rules).await,
            },
        };
        (findings, None::<()>)
    };
    Box::pin(run.check(Check::Vpc, VPC_TIMEOUT, work)).await;
}

struct Look<'a> {
    subject: &'a Subject,
    account: &'a Account,
    id: &'a InstanceId,
}

impl Look<'_> {
    /// The conditions that an agent needs.
    async fn at_agent(&self, instance: &Instance) -> Vec<Finding> {
        let id = self.id;
        if instance.state != "running" {
            let finding = Finding::warn(format!("EC2 says that {id} is {}", instance.state));
            return vec![match instance.state.as_str() {
                "stopped" => finding.paste(self.subject.aws(&format!("ec2 start-instances --instance-ids {id}"))),
                _ => finding,
            }];
        }
        let vpc = instance.vpc.as_deref().unwrap_or_default();
        let (profile, endpoints, support, hostnames, egress, acl) = tokio::join!(
            self.profile(instance),
            self.account.interface_endpoints(vpc),
            self.account.dns_attribute(vpc, DnsAttribute::Support),
            self.account.dns_attribute(vpc, DnsAttribute::Hostnames),
            self.egress(instance, HTTPS),
            self.acl(instance, HTTPS),
        );
        let mut findings = vec![Finding::pass(format!("EC2 says that {id} is running")), profile];
        match endpoints {
            Ok(endpoints) => findings.extend(self.endpoints(vpc, instance, &endpoints).await),
            Err(error) => findings.push(Finding::of_call(Verdict::Unknown, &error)),
        }
        findings.push(self.dns(vpc, DnsAttribute::Support, support));
        findings.push(self.dns(vpc, DnsAttribute::Hostnames, hostnames));
        findings.extend([egress, acl]);
        findings
    }

    /// The conditions that packets to the database need.
    async fn at_way(&self, instance: &Instance, port: u16, rules: &Rules) -> Vec<Finding> {
        let (egress, acl) = tokio::join!(self.egress(instance, port), self.acl(instance, port));
        let mut findings = vec![egress, acl];
        if *rules == Rules::Open {
            findings.push(Finding::pass("the security groups of the database let the bastion in"));
        }
        findings
    }

    async fn profile(&self, instance: &Instance) -> Finding {
        let id = self.id;
        let Some(profile) = &instance.profile else {
            return Finding::warn(format!("{id} has no instance profile"))
                .because("its agent has no permission to register with Systems Manager")
                .fix(format!("attach an instance profile to {id} whose role has the policy {POLICY}"));
        };
        match self.account.policies_of_profile(profile).await {
            Err(error) => Finding::of_call(Verdict::Unknown, &error),
            Ok(None) => Finding::warn(format!("the instance profile {profile} of {id} has no role"))
                .fix(format!("add a role with the policy {POLICY} to the instance profile {profile}")),
            Ok(Some((role, policies))) if policies.iter().any(|policy| policy == POLICY) => {
                Finding::pass(format!("the role {role} of {id} has {POLICY}"))
            }
            Ok(Some((role, _))) => {
                let partition = self.subject.extent.region().partition().name();
                let arn = format!("arn:{partition}:iam::aws:policy/{POLICY}");
                Finding::warn(format!("the role {role} of {id} has no policy {POLICY}"))
                    .because("another policy of the role may have the same permissions")
                    .paste(self.subject.aws(&format!("iam attach-role-policy --role-name {role} --policy-arn {arn}")))
            }
        }
    }

    async fn endpoints(&self, vpc: &str, instance: &Instance, endpoints: &[Endpoint]) -> Vec<Finding> {
        let of = |service: &str| endpoints.iter().find(|endpoint| endpoint.service == service);
        if SERVICES.iter().all(|service| of(service).is_none()) {
            return vec![
                Finding::unknown(format!("{vpc} has no interface endpoints for {}", SERVICES.join(", ")))
                    .because("without them, the agent needs a way to the internet, such as a NAT gateway"),
            ];
        }
        let mut findings = Vec::new();
        for service in SERVICES {
            findings.push(match of(service) {
                None => {
                    let name = format!("com.amazonaws.{}.{service}", self.subject.extent.region());
                    Finding::warn(format!("{vpc} has no interface endpoint for {service}"))
                        .fix(format!("create an interface endpoint for {name} in {vpc}, with private DNS"))
                }
                Some(endpoint) if endpoint.state != "available" => {
                    Finding::warn(format!("the interface endpoint for {service} is {}", endpoint.state))
                }
                Some(endpoint) if !endpoint.has_private_dns => {
                    Finding::warn(format!("the interface endpoint for {service} has no private DNS"))
                        .because("the agent asks for the usual name of the service")
                        .paste(self.subject.aws(&format!(
                            "ec2 modify-vpc-endpoint --vpc-endpoint-id {} --private-dns-enabled",
                            endpoint.id
                        )))
                }
                Some(endpoint) => self.endpoint_rules(service, instance, endpoint).await,
            });
        }
        findings
    }

    /// Whether the groups of an endpoint let the bastion in.
    async fn endpoint_rules(&self, service: &str, instance: &Instance, endpoint: &Endpoint) -> Finding {
        let place = Place { groups: instance.groups.clone(), addresses: instance.addresses.clone() };
        match self.account.admission(&endpoint.groups, &place, HTTPS).await {
            Err(error) => Finding::of_call(Verdict::Unknown, &error),
            Ok(Admission::Admitted { group, from }) => {
                Finding::pass(format!("interface endpoint for {service}: {group} lets {from} in on port {HTTPS}"))
            }
            Ok(Admission::Perhaps { list }) => Finding::unknown(format!(
                "whether the interface endpoint for {service} lets the bastion in: {list} decides"
            )),
            Ok(Admission::Refused) => {
                let groups = endpoint.groups.join(", ");
                let finding =
                    Finding::warn(format!("no rule of {groups} lets {} in on port {HTTPS}, to {service}", self.id));
                match (endpoint.groups.first(), instance.groups.first()) {
                    (Some(group), Some(bastion)) => finding.paste(ingress(self.subject, (group, bastion), HTTPS)),
                    _ => finding,
                }
            }
        }
    }

    fn dns(&self, vpc: &str, attribute: DnsAttribute, value: Result<bool, Error>) -> Finding {
        let name = attribute.as_str();
        match value {
            Err(error) => Finding::of_call(Verdict::Unknown, &error),
            Ok(true) => Finding::pass(format!("{name} of {vpc} is on")),
            Ok(false) => Finding::warn(format!("{name} of {vpc} is off"))
                .because("the private names of interface endpoints are not resolved")
                .paste(self.subject.aws(&format!("ec2 modify-vpc-attribute --vpc-id {vpc} {}", attribute.option()))),
        }
    }

    async fn egress(&self, instance: &Instance, port: u16) -> Finding {
        let groups = instance.groups.join(", ");
        match self.account.lets_out(&instance.groups, port).await {
            Err(error) => Finding::of_call(Verdict::Unknown, &error),
            Ok(true) => Finding::pass(format!("{groups} lets port {port} out")),
            Ok(false) => {
                let finding = Finding::warn(format!("no outbound rule of {groups} lets port {port} out"));
                match instance.groups.first() {
                    Some(group) => finding.paste(self.subject.aws(&format!(
                        "ec2 authorize-security-group-egress --group-id {group} --protocol tcp --port {port} --cidr 0.0.0.0/0"
                    ))),
                    None => finding,
                }
            }
        }
    }

    async fn acl(&self, instance: &Instance, port: u16) -> Finding {
        let Some(subnet) = &instance.subnet else { return Finding::unknown("the subnet of the bastion") };
        match self.account.acl_verdict(subnet, port).await {
            Err(error) => Finding::of_call(Verdict::Unknown, &error),
            Ok(AclVerdict::Open) => {
                Finding::pass(format!("the network ACL of {subnet} lets port {port} out, and answers in"))
            }
            Ok(AclVerdict::Unknown) => {
                Finding::unknown(format!("whether the network ACL of {subnet} lets port {port} out"))
            }
            Ok(AclVerdict::Drops { acl, direction, rule }) => {
                let ports =
                    if direction == "outbound" { port.to_string() } else { "32768 to 60999, for answers".into() };
                Finding::warn(format!("rule {rule} of {acl} drops {direction} packets of {subnet}")).fix(format!(
                    "add an {direction} rule to {acl}, with a number below {rule}, that allows TCP on port {ports}"
                ))
            }
        }
    }
}
