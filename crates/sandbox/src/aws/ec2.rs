//! EC2: where managed nodes and subnets are, and what security groups let in.

use std::fmt::Write as _;

use serde_json::Value;

use super::{
    answer::{Answer, page},
    error::ApiError,
    protocol::xml,
    vpc::ROLE,
};
use crate::{identity::ACCOUNT, world::World};

const NAMESPACE: &str = "http://ec2.amazonaws.com/doc/2016-11-15/";

pub(super) fn describe_instances(world: &World, parameters: &Value) -> Result<Answer, ApiError> {
    let wanted = filter(parameters, "instance-id");
    let state = world.lock();
    let (nodes, has_profile) = (state.nodes.clone(), state.vpc.policies.is_some());
    drop(state);
    let profile = if has_profile {
        format!("<iamInstanceProfile><arn>arn:aws:iam::{ACCOUNT}:instance-profile/{ROLE}</arn></iamInstanceProfile>")
    } else {
        String::new()
    };
    let nodes: Vec<_> = nodes.into_iter().filter(|node| wanted.contains(&node.id.as_str())).collect();
    let (nodes, next) = page(world, &nodes, parameters.get("MaxResults"), parameters.get("NextToken"))?;
    let reservations = nodes.iter().fold(String::new(), |mut text, node| {
        let _ = write!(
            text,
            "<item><reservationId>r-1</reservationId><instancesSet><item><instanceId>{}</instanceId><instanceState><name>{}</name></instanceState><privateIpAddress>10.0.0.7</privateIpAddress><vpcId>{}</vpcId><subnetId>subnet-0a</subnetId>{profile}<groupSet>{}</groupSet><tagSet><item><key>Name</key><value>{}</value></item></tagSet></item></instancesSet></item>",
            xml(&node.id), if node.stopped { "stopped" } else { "running" }, xml(&node.vpc), items(&node.groups, "groupId"), xml(&node.name)
        );
        text
    });
    Ok(response("DescribeInstances", &format!("<reservationSet>{reservations}</reservationSet>"), next))
}

pub(super) fn describe_security_groups(world: &World, parameters: &Value) -> Result<Answer, ApiError> {
    let wanted = filter(parameters, "group-id");
    let groups = world.lock().security_groups.clone();
    let groups: Vec<_> = groups.into_iter().filter(|group| wanted.contains(&group.id.as_str())).collect();
    let (groups, next) = page(world, &groups, parameters.get("MaxResults"), parameters.get("NextToken"))?;
    let groups = groups.iter().fold(String::new(), |mut text, group| {
        let rules = group.ingress.iter().fold(String::new(), |mut text, (protocol, (first, last), from)| {
            let of = |kind: fn(&str) -> bool, name| {
                items(&from.iter().filter(|from| kind(from)).cloned().collect::<Vec<_>>(), name)
            };
            let ports = if protocol == "-1" { String::new() } else { format!("<fromPort>{first}</fromPort><toPort>{last}</toPort>") };
            let _ = write!(
                text,
                "<item><ipProtocol>{protocol}</ipProtocol>{ports}<groups>{}</groups><ipRanges>{}</ipRanges><ipv6Ranges>{}</ipv6Ranges><prefixListIds>{}</prefixListIds></item>",
                of(|from| from.starts_with("sg-"), "groupId"),
                of(|from| from.contains('.'), "cidrIp"),
                of(|from| from.contains(':'), "cidrIpv6"),
                of(|from| from.starts_with("pl-"), "prefixListId"),
            );
            text
        });
        let egress = group.egress.iter().fold(String::new(), |mut text, (protocol, (first, last))| {
            let _ = write!(
                text,
                "<item><ipProtocol>{protocol}</ipProtocol><fromPort>{first}</fromPort><toPort>{last}</toPort><ipRanges><item><cidrIp>0.0.0.0/0</cidrIp></item></ipRanges></item>"
            );
            text
        });
        let _ = write!(
            text,
            "<item><groupId>{}</groupId><ipPermissions>{rules}</ipPermissions><ipPermissionsEgress>{egress}</ipPermissionsEgress></item>",
            xml(&group.id)
        );
        text
    });
    Ok(response("DescribeSecurityGroups", &format!("<securityGroupInfo>{groups}</securityGroupInfo>"), next))
}

fn items(texts: &[String], name: &str) -> String {
    texts.iter().map(|text| format!("<item><{name}>{}</{name}></item>", xml(text))).collect()
}

/// A subnet is named for its VPC: `subnet-1` is in `vpc-1`.
pub(super) fn describe_subnets(world: &World, parameters: &Value) -> Result<Answer, ApiError> {
    let wanted = filter(parameters, "subnet-id");
    let (subnets, next) = page(world, &wanted, parameters.get("MaxResults"), parameters.get("NextToken"))?;
    let subnets = subnets.iter().fold(String::new(), |mut text, subnet| {
        let vpc = subnet.replacen("subnet-", "vpc-", 1);
        let _ = write!(text, "<item><subnetId>{}</subnetId><vpcId>{}</vpcId></item>", xml(subnet), xml(&vpc));
        text
    });
    Ok(response("DescribeSubnets", &format!("<subnetSet>{subnets}</subnetSet>"), next))
}

/// The values of the one filter with this name.
fn filter<'a>(parameters: &'a Value, name: &str) -> Vec<&'a str> {
    if parameters.get("Filter.1.Name").and_then(Value::as_str) != Some(name) {
        return Vec::new();
    }
    let value = |n: usize| parameters.get(format!("Filter.1.Value.{n}")).and_then(Value::as_str);
    (1..).map_while(value).collect()
}

fn response(operation: &str, list: &str, next: Option<String>) -> Answer {
    let next = next.map(|token| format!("<nextToken>{token}</nextToken>")).unwrap_or_default();
    Answer::new(format!("<{operation}Response xmlns=\"{NAMESPACE}\">{list}{next}</{operation}Response>"))
}
