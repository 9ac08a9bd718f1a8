//! The network around a bastion, as EC2 and IAM describe it: what its agent needs to reach Systems Manager, and its packets to
//! reach a database.

use std::net::IpAddr;

use super::{Account, Api, Error, nodes::filtered, xml::Element};
use crate::target::InstanceId;

/// An instance of EC2.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Instance {
    /// `running`, `stopped`, …
    pub state: String,
    /// Its VPC.
    pub vpc: Option<String>,
    /// Its subnet.
    pub subnet: Option<String>,
    /// Its security groups.
    pub groups: Vec<String>,
    /// Its private addresses.
    pub addresses: Vec<IpAddr>,
    /// The name of its instance profile.
    pub profile: Option<String>,
}

/// An interface endpoint of a VPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its id.
    pub id: String,
    /// The service: `ssm`, `ssmmessages`, …
    pub service: String,
    /// `available`, `pending`, …
    pub state: String,
    /// Whether the service's usual name leads to it.
    pub has_private_dns: bool,
    /// Its security groups.
    pub groups: Vec<String>,
}

/// A subnet of a VPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// Its id.
    pub id: String,
    /// Whether its default route leads out for an instance without a public address: to a NAT gateway, a transit gateway, an
    /// appliance or a private gateway.
    pub has_way_out: bool,
}

/// A property of a VPC that names depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsAttribute {
    /// Names are resolved at all.
    Support,
    /// Private names of endpoints are resolved.
    Hostnames,
}

impl DnsAttribute {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Support => "enableDnsSupport",
            Self::Hostnames => "enableDnsHostnames",
        }
    }

    /// The option of `aws ec2 modify-vpc-attribute`.
    pub fn option(self) -> &'static str {
        match self {
            Self::Support => "--enable-dns-support",
            Self::Hostnames => "--enable-dns-hostnames",
        }
    }
}

/// The verdict of a network ACL on connections from its subnet to a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AclVerdict {
    /// It lets packets out, and the answers in.
    Open,
    /// It drops packets in this direction, by a rule for all addresses.
    Drops {
        /// The ACL.
        acl: String,
        /// `outbound` or `inbound`.
        direction: &'static str,
        /// The number of the rule; 32767 is the last, which no one can remove.
        rule: u32,
    },
    /// Rules for some addresses decide, or there is no ACL to be seen.
    Unknown,
}

/// The ports to which answers come ("Network ACLs", ephemeral ports of Linux).
const EPHEMERAL: (u16, u16) = (32_768, 60_999);

impl Account {
    /// An instance; `None` if EC2 does not know it.
    ///
    /// # Errors
    /// The errors of every call. Needs `ec2:DescribeInstances`.
    pub async fn instance(&self, id: &InstanceId) -> Result<Option<Instance>, Error> {
        let parameters = filtered("instance-id", &[id.as_str().to_owned()], None);
        let answer = self.query(Api::Ec2, "DescribeInstances", &parameters).await?;
        let instance = answer.items("reservationSet").flat_map(|reservation| reservation.items("instancesSet")).next();
        let text = |instance: &Element, path: &[&str]| instance.text(path).map(str::to_owned);
        Ok(instance.map(|instance| Instance {
            state: text(instance, &["instanceState", "name"]).unwrap_or_default(),
            vpc: text(instance, &["vpcId"]),
            subnet: text(instance, &["subnetId"]),
            groups: texts(instance, "groupSet", "groupId"),
            addresses: instance.text(&["privateIpAddress"]).and_then(|ip| ip.parse().ok()).into_iter().collect(),
            profile: instance
                .text(&["iamInstanceProfile", "arn"])
                .and_then(|arn| arn.rsplit('/').next())
                .map(str::to_owned),
        }))
    }

    /// The subnets of a VPC.
    ///
    /// # Errors
    /// The errors of every call. Needs `ec2:DescribeSubnets` and `ec2:DescribeRouteTables`.
    pub async fn subnets(&self, vpc: &str) -> Result<Vec<Subnet>, Error> {
        let parameters = filtered("vpc-id", &[vpc.to_owned()], None);
        let (subnets, tables) = tokio::try_join!(
            self.query(Api::Ec2, "DescribeSubnets", &parameters),
            self.query(Api::Ec2, "DescribeRouteTables", &parameters),
        )?;
        let tables: Vec<&Element> = tables.items("routeTableSet").collect();
        let associated = |name: &str, value: &str| {
            let is_one = |part: &Element| part.text(&[name]) == Some(value);
            tables.iter().find(|table| table.items("associationSet").any(is_one))
        };
        let found = subnets.items("subnetSet").filter_map(|subnet| {
            let id = subnet.text(&["subnetId"])?.to_owned();
            let table = associated("subnetId", &id).or_else(|| associated("main", "true"));
            let has_way_out = table.is_some_and(|table| table.items("routeSet").any(leads_out));
            Some(Subnet { id, has_way_out })
        });
        Ok(found.collect())
    }

    /// The interface endpoints of a VPC.
    ///
    /// # Errors
    /// The errors of every call. Needs `ec2:DescribeVpcEndpoints`.
    pub async fn interface_endpoints(&self, vpc: &str) -> Result<Vec<Endpoint>, Error> {
        let parameters = filtered("vpc-id", &[vpc.to_owned()], None);
        let answer = self.query(Api::Ec2, "DescribeVpcEndpoints", &parameters).await?;
        let interfaces =
            answer.items("vpcEndpointSet").filter(|endpoint| endpoint.text(&["vpcEndpointType"]) == Some("Interface"));
        let endpoint = |endpoint: &Element| {
            let service = endpoint.text(&["serviceName"])?.rsplit('.').next()?;
            Some(Endpoint {
                id: endpoint.text(&["vpcEndpointId"])?.to_owned(),
                service: service.to_owned(),
                state: endpoint.text(&["state"]).unwrap_or_default().to_owned(),
                has_private_dns: endpoint.text(&["privateDnsEnabled"]) == Some("true"),
                groups: texts(endpoint, "groupSet", "groupId"),
            })
        };
        Ok(interfaces.filter_map(endpoint).collect())
    }

    /// Whether a VPC has this attribute.
    ///
    /// # Errors
    /// The errors of every call. Needs `ec2:DescribeVpcAttribute`.
    pub async fn dns_attribute(&self, vpc: &str, attribute: DnsAttribute) -> Result<bool, Error> {
        let parameters = [("VpcId".into(), vpc.into()), ("Attribute".into(), attribute.as_str().into())];
        let answer = self.query(Api::Ec2, "DescribeVpcAttribute", &parameters).await?;
        Ok(answer.text(&[attribute.as_str(), "value"]) == Some("true"))
    }

    /// Whether an outbound rule of these groups lets TCP out to a port, of whatever address.
    ///
    /// # Errors
    /// The errors of every call. Needs `ec2:DescribeSecurityGroups`.
    pub async fn lets_out(&self, groups: &[String], port: u16) -> Result<bool, Error> {
        let parameters = filtered("group-id", groups, None);
        let answer = self.query(Api::Ec2, "DescribeSecurityGroups", &parameters).await?;
        let mut rules = answer.items("securityGroupInfo").flat_map(|group| group.items("ipPermissionsEgress"));
        Ok(rules.any(|rule| {
            let number = |name: &str| rule.text(&[name]).and_then(|port| port.parse::<u16>().ok());
            match rule.text(&["ipProtocol"]) {
                Some("-1") => true,
                Some("tcp" | "6") => {
                    number("fromPort").zip(number("toPort")).is_none_or(|(first, last)| (first..=last).contains(&port))
                }
                _ => false,
            }
        }))
    }

    /// The verdict of a subnet's network ACL on connections to a port.
    ///
    /// # Errors
    /// The errors of every call. Needs `ec2:DescribeNetworkAcls`.
    pub async fn acl_verdict(&self, subnet: &str, port: u16) -> Result<AclVerdict, Error> {
        let parameters = filtered("association.subnet-id", &[subnet.to_owned()], None);
        let answer = self.query(Api::Ec2, "DescribeNetworkAcls", &parameters).await?;
        let acl = answer.items("networkAclSet").next();
        Ok(acl.map_or(AclVerdict::Unknown, |acl| {
            let id = acl.text(&["networkAclId"]).unwrap_or_default();
            verdict(id, &acl.items("entrySet").filter_map(Entry::of).collect::<Vec<_>>(), port)
        }))
    }

    /// The role of an instance profile, and the names of its managed policies; `None` if the profile has no role.
    ///
    /// # Errors
    /// The errors of every call. Needs `iam:GetInstanceProfile` and `iam:ListAttachedRolePolicies`.
    pub async fn policies_of_profile(&self, profile: &str) -> Result<Option<(String, Vec<String>)>, Error> {
        let parameters = [("InstanceProfileName".into(), profile.into())];
        let answer = self.query(Api::Iam, "GetInstanceProfile", &parameters).await?;
        let profile = answer.child("GetInstanceProfileResult").and_then(|result| result.child("InstanceProfile"));
        let role = profile.and_then(|profile| profile.child("Roles")?.child("member")?.text(&["RoleName"]));
        let Some(role) = role.map(str::to_owned) else { return Ok(None) };
        let parameters = [("RoleName".into(), role.clone())];
        let answer = self.query(Api::Iam, "ListAttachedRolePolicies", &parameters).await?;
        let policies = answer.child("ListAttachedRolePoliciesResult");
        let policies = policies.into_iter().flat_map(|result| result.items("AttachedPolicies"));
        let names = policies.filter_map(|policy| policy.text(&["PolicyName"]).map(str::to_owned)).collect();
        Ok(Some((role, names)))
    }
}

/// Whether a route is a default one that serves instances without a public address.
fn leads_out(route: &Element) -> bool {
    const WAYS: [&str; 4] = ["natGatewayId", "transitGatewayId", "networkInterfaceId", "instanceId"];
    let has = |name: &&str| route.text(&[*name]).is_some_and(|id| !id.is_empty());
    let gateway = route.text(&["gatewayId"]).unwrap_or_default();
    route.text(&["destinationCidrBlock"]) == Some("0.0.0.0/0")
        && route.text(&["state"]) != Some("blackhole")
        && (WAYS.iter().any(has) || gateway.starts_with("vgw-"))
}

fn texts(element: &Element, list: &str, name: &str) -> Vec<String> {
    element.items(list).filter_map(|item| item.text(&[name]).map(str::to_owned)).collect()
}

/// A rule of a network ACL.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    rule: u32,
    is_outbound: bool,
    /// "-1" means every protocol; 6 is TCP.
    protocol: String,
    allows: bool,
    /// Whether it is for all addresses of IPv4.
    is_for_all: bool,
    ports: Option<(u16, u16)>,
}

impl Entry {
    fn of(entry: &Element) -> Option<Self> {
        let port = |name| entry.text(&["portRange", name]).and_then(|port| port.parse().ok());
        Some(Self {
            rule: entry.text(&["ruleNumber"])?.parse().ok()?,
            is_outbound: entry.text(&["egress"]) == Some("true"),
            protocol: entry.text(&["protocol"])?.to_owned(),
            allows: entry.text(&["ruleAction"]) == Some("allow"),
            is_for_all: entry.text(&["cidrBlock"]) == Some("0.0.0.0/0"),
            ports: port("from").zip(port("to")),
        })
    }

    /// Whether it is about TCP to all of these ports.
    fn covers(&self, (first, last): (u16, u16)) -> bool {
        let of_ports = |(from, to): (u16, u16)| from <= first && last <= to;
        self.protocol == "-1" || self.protocol == "6" && self.ports.is_none_or(of_ports)
    }
}

fn verdict(acl: &str, entries: &[Entry], port: u16) -> AclVerdict {
    for (is_outbound, direction, ports) in [(true, "outbound", (port, port)), (false, "inbound", EPHEMERAL)] {
        let mut rules: Vec<&Entry> =
            entries.iter().filter(|entry| entry.is_outbound == is_outbound && entry.covers(ports)).collect();
        rules.sort_by_key(|entry| entry.rule);
        match rules.first() {
            Some(first) if !first.is_for_all => return AclVerdict::Unknown,
            Some(first) if first.allows => {}
            Some(first) => return AclVerdict::Drops { acl: acl.into(), direction, rule: first.rule },
            None => return AclVerdict::Unknown,
        }
    }
    AclVerdict::Open
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_default_route_for_private_addresses_leads_out() {
        for (route, expected) in [
            ("<destinationCidrBlock>0.0.0.0/0</destinationCidrBlock><natGatewayId>nat-1</natGatewayId>", true),
            ("<destinationCidrBlock>0.0.0.0/0</destinationCidrBlock><gatewayId>vgw-1</gatewayId>", true),
            ("<destinationCidrBlock>0.0.0.0/0</destinationCidrBlock><gatewayId>igw-1</gatewayId>", false),
            ("<destinationCidrBlock>10.0.0.0/8</destinationCidrBlock><natGatewayId>nat-1</natGatewayId>", false),
            ("<destinationCidrBlock>10.0.0.0/16</destinationCidrBlock><gatewayId>local</gatewayId>", false),
        ] {
            let element = Element::parse(&format!("<item>{route}<state>active</state></item>")).unwrap();
            assert_eq!(leads_out(&element), expected, "{route}");
        }
    }

    #[test]
    fn first_rule_of_an_acl_decides_in_each_direction() {
        let entry = |rule, is_outbound, allows, ports| Entry {
            rule,
            is_outbound,
            protocol: "6".into(),
            allows,
            is_for_all: true,
            ports,
        };
        let last = |is_outbound| Entry { protocol: "-1".into(), ..entry(32_767, is_outbound, false, None) };
        let both = [last(true), last(false)];
        let drops = |direction, rule| AclVerdict::Drops { acl: "acl-1".into(), direction, rule };
        for (rules, expected) in [
            (vec![entry(100, true, true, None), entry(100, false, true, None)], AclVerdict::Open),
            (vec![entry(100, true, true, Some((443, 443)))], drops("outbound", 32_767)),
            (vec![entry(100, true, true, Some((5432, 5432)))], drops("inbound", 32_767)),
            (vec![entry(100, true, true, None), entry(90, true, false, Some((5000, 6000)))], drops("outbound", 90)),
            (vec![Entry { is_for_all: false, ..entry(100, true, true, None) }], AclVerdict::Unknown),
            (vec![entry(100, true, true, None), entry(100, false, true, Some((1024, 65_535)))], AclVerdict::Open),
        ] {
            let entries = [rules, both.to_vec()].concat();
            assert_eq!(verdict("acl-1", &entries, 5432), expected, "{entries:?}");
        }
        assert_eq!(verdict("acl-1", &[], 5432), AclVerdict::Unknown);
    }
}
