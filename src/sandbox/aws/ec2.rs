//! EC2: where managed nodes and subnets are.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Answer, error::ApiError, page, xml};
use crate::sandbox::World;

const NAMESPACE: &str = "http://ec2.amazonaws.com/doc/2016-11-15/";

pub(super) fn describe_instances(world: &World, parameters: &Value) -> Result<Answer, ApiError> {
    let wanted = filter(parameters, "instance-id");
    let nodes = world.lock().nodes.clone();
    let nodes: Vec<_> = nodes.into_iter().filter(|node| wanted.contains(&node.id.as_str())).collect();
    let (nodes, next) = page(world, &nodes, parameters.get("MaxResults"), parameters.get("NextToken"))?;
    let reservations = nodes.iter().fold(String::new(), |mut text, node| {
        let _ = write!(
            text,
            "<item><reservationId>r-1</reservationId><instancesSet><item><instanceId>{}</instanceId><instanceState><code>16</code><name>running</name></instanceState><vpcId>{}</vpcId><tagSet><item><key>Name</key><value>{}</value></item></tagSet></item></instancesSet></item>",
            xml(&node.id), xml(&node.vpc), xml(&node.name)
        );
        text
    });
    Ok(response("DescribeInstances", &format!("<reservationSet>{reservations}</reservationSet>"), next))
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
