//! EC2 and IAM: the network around the bastions, and what their role may do.

use std::fmt::Write as _;

use serde_json::Value;

use super::{answer::Answer, error::ApiError, protocol::xml};
use crate::{identity::ACCOUNT, options::AclRule, world::World};

/// The role and the instance profile of every bastion.
pub(super) const ROLE: &str = "bastion";

fn of_ec2(operation: &str, body: &str) -> Answer {
    Answer::new(format!(
        "<{operation}Response xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">{body}</{operation}Response>"
    ))
}

fn of_iam(operation: &str, body: &str) -> Answer {
    Answer::new(format!(
        "<{operation}Response xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\"><{operation}Result>{body}</{operation}Result><ResponseMetadata></ResponseMetadata></{operation}Response>"
    ))
}

pub(super) fn describe_endpoints(world: &World) -> Answer {
    let endpoints = world.lock().vpc.endpoints.clone();
    let items = endpoints.iter().fold(String::new(), |mut text, (service, has_private_dns, groups)| {
        let groups: String =
            groups.iter().map(|group| format!("<item><groupId>{}</groupId></item>", xml(group))).collect();
        let _ = write!(
            text,
            "<item><vpcEndpointId>vpce-{service}</vpcEndpointId><vpcEndpointType>Interface</vpcEndpointType><serviceName>com.amazonaws.{}.{service}</serviceName><state>available</state><privateDnsEnabled>{has_private_dns}</privateDnsEnabled><groupSet>{groups}</groupSet></item>",
            world.region,
        );
        text
    });
    of_ec2("DescribeVpcEndpoints", &format!("<vpcEndpointSet>{items}</vpcEndpointSet>"))
}

pub(super) fn describe_attribute(world: &World, parameters: &Value) -> Answer {
    let vpc = world.lock().vpc.clone();
    let attribute = parameters.get("Attribute").and_then(Value::as_str).unwrap_or_default();
    let value = if attribute == "enableDnsSupport" { vpc.dns_support } else { vpc.dns_hostnames };
    of_ec2(
        "DescribeVpcAttribute",
        &format!("<{attribute}><value>{value}</value></{attribute}>", attribute = xml(attribute)),
    )
}

pub(super) fn modify_attribute(world: &World, parameters: &Value) -> Answer {
    let is_set = |name: &str| parameters.get(format!("{name}.Value")).and_then(Value::as_str) == Some("true");
    let mut state = world.lock();
    state.vpc.dns_support |= is_set("EnableDnsSupport");
    state.vpc.dns_hostnames |= is_set("EnableDnsHostnames");
    of_ec2("ModifyVpcAttribute", "<return>true</return>")
}

pub(super) fn modify_endpoint(world: &World, parameters: &Value) -> Answer {
    let text = |name: &str| parameters.get(name).and_then(Value::as_str).unwrap_or_default();
    let service = text("VpcEndpointId").trim_start_matches("vpce-");
    for endpoint in world.lock().vpc.endpoints.iter_mut().filter(|(known, ..)| known == service) {
        endpoint.1 |= text("PrivateDnsEnabled") == "true";
    }
    of_ec2("ModifyVpcEndpoint", "<return>true</return>")
}

/// The one ACL of every subnet.
pub(super) fn describe_acls(world: &World) -> Answer {
    let rules = world.lock().vpc.acl.clone();
    let entries = rules.iter().fold(String::new(), |mut text, AclRule { number, outbound, allows, ports }| {
        let range = ports.map(|(from, to)| format!("<portRange><from>{from}</from><to>{to}</to></portRange>"));
        let _ = write!(
            text,
            "<item><ruleNumber>{number}</ruleNumber><protocol>{}</protocol><ruleAction>{}</ruleAction><egress>{outbound}</egress><cidrBlock>0.0.0.0/0</cidrBlock>{}</item>",
            if ports.is_some() { "6" } else { "-1" },
            if *allows { "allow" } else { "deny" },
            range.unwrap_or_default(),
        );
        text
    });
    let acl = format!("<item><networkAclId>acl-0a</networkAclId><entrySet>{entries}</entrySet></item>");
    of_ec2("DescribeNetworkAcls", &format!("<networkAclSet>{acl}</networkAclSet>"))
}

pub(super) fn authorize_egress(world: &World, parameters: &Value) -> Result<Answer, ApiError> {
    let text = |name: &str| parameters.get(name).and_then(Value::as_str);
    let port = |name: &str| text(name).and_then(|port| port.parse().ok());
    let (Some(protocol), Some(from), Some(to)) =
        (text("IpPermissions.1.IpProtocol"), port("IpPermissions.1.FromPort"), port("IpPermissions.1.ToPort"))
    else {
        return Err(ApiError::bad("MissingParameter", "a rule has a protocol and ports"));
    };
    let id = text("GroupId").unwrap_or_default();
    let mut state = world.lock();
    let Some(group) = state.security_groups.iter_mut().find(|group| group.id == id) else {
        return Err(ApiError::bad("InvalidGroup.NotFound", format!("The security group '{id}' does not exist")));
    };
    group.egress.push((protocol.into(), (from, to)));
    Ok(of_ec2("AuthorizeSecurityGroupEgress", "<return>true</return>"))
}

pub(super) fn get_instance_profile() -> Answer {
    let role = format!(
        "<member><RoleName>{ROLE}</RoleName><Arn>arn:aws:iam::{ACCOUNT}:role/{ROLE}</Arn><Path>/</Path><RoleId>AROA</RoleId></member>"
    );
    let profile = format!("<InstanceProfileName>{ROLE}</InstanceProfileName><Roles>{role}</Roles>");
    of_iam("GetInstanceProfile", &format!("<InstanceProfile>{profile}</InstanceProfile>"))
}

pub(super) fn list_attached_role_policies(world: &World) -> Answer {
    let policies = world.lock().vpc.policies.clone().unwrap_or_default();
    let members: String = policies
        .iter()
        .map(|policy| {
            let policy = xml(policy);
            format!("<member><PolicyName>{policy}</PolicyName><PolicyArn>arn:aws:iam::aws:policy/{policy}</PolicyArn></member>")
        })
        .collect();
    let list = format!("<AttachedPolicies>{members}</AttachedPolicies><IsTruncated>false</IsTruncated>");
    of_iam("ListAttachedRolePolicies", &list)
}

pub(super) fn attach_role_policy(world: &World, parameters: &Value) -> Answer {
    let arn = parameters.get("PolicyArn").and_then(Value::as_str).unwrap_or_default();
    let name = arn.rsplit('/').next().unwrap_or_default();
    world.lock().vpc.policies.get_or_insert_default().push(name.into());
    of_iam("AttachRolePolicy", "")
}
