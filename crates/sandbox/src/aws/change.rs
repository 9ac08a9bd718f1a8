//! Calls that change what the other calls describe, so that advice given as a command can be followed.

use http::StatusCode;
use serde_json::{Value, json};

use super::{answer::Answer, error::ApiError, protocol::xml};
use crate::{database::Database, operation::Operation, world::World};

/// A version of the agent that AWS-UpdateSSMAgent installs.
const NEW_AGENT: &str = "3.3.987.0";

/// Starts a database, or turns on IAM logins or the export of their log.
pub(super) fn database(world: &World, operation: Operation, parameters: &Value) -> Result<Answer, ApiError> {
    let text = |name: &str| parameters.get(name).and_then(Value::as_str);
    let (key, element, kind) = match operation {
        Operation::ModifyDBProxy => ("DBProxyName", "DBProxy", "proxy"),
        Operation::ModifyDBCluster | Operation::StartDBCluster => ("DBClusterIdentifier", "DBCluster", "cluster"),
        _ => ("DBInstanceIdentifier", "DBInstance", "instance"),
    };
    let id = text(key).unwrap_or_default();
    let mut state = world.lock();
    let meant = |database: &&mut Database| {
        database.host.split('.').next() == Some(id) || database.parent.as_deref() == Some(id)
    };
    let mut found = state.databases.iter_mut().filter(meant).peekable();
    if found.peek().is_none() {
        return Err(ApiError::new(StatusCode::NOT_FOUND, "DBInstanceNotFound", format!("{key} {id} not found.")));
    }
    for database in found {
        let is_iam =
            text("EnableIAMDatabaseAuthentication") == Some("true") || text("DefaultAuthScheme") == Some("IAM_AUTH");
        database.iam |= is_iam;
        if matches!(operation, Operation::StartDBInstance | Operation::StartDBCluster) {
            database.status = "available".into();
        }
    }
    if let Some(log) = text("CloudwatchLogsExportConfiguration.EnableLogTypes.member.1") {
        state.logs.entry(format!("/aws/rds/{kind}/{id}/{log}")).or_default();
    }
    Ok(Answer::new(format!(
        "<{operation}Response xmlns=\"http://rds.amazonaws.com/doc/2014-10-31/\"><{operation}Result><{element}><{key}>{}</{key}></{element}></{operation}Result><ResponseMetadata></ResponseMetadata></{operation}Response>",
        xml(id)
    )))
}

/// Adds an inbound rule that lets a group in.
pub(super) fn authorize_ingress(world: &World, parameters: &Value) -> Result<Answer, ApiError> {
    let text = |name: &str| parameters.get(name).and_then(Value::as_str);
    let port = |name: &str| text(name).and_then(|port| port.parse().ok());
    let (Some(protocol), Some(from), Some(to), Some(source)) = (
        text("IpPermissions.1.IpProtocol"),
        port("IpPermissions.1.FromPort"),
        port("IpPermissions.1.ToPort"),
        text("IpPermissions.1.Groups.1.GroupId"),
    ) else {
        return Err(ApiError::bad("MissingParameter", "a rule has a protocol, ports and a group"));
    };
    let id = text("GroupId").unwrap_or_default();
    let mut state = world.lock();
    let Some(group) = state.security_groups.iter_mut().find(|group| group.id == id) else {
        return Err(ApiError::bad("InvalidGroup.NotFound", format!("The security group '{id}' does not exist")));
    };
    group.ingress.push((protocol.into(), (from, to), vec![source.into()]));
    Ok(of_ec2("AuthorizeSecurityGroupIngress", "<return>true</return>"))
}

/// Starts machines, whose agents connect.
pub(super) fn start_instances(world: &World, parameters: &Value) -> Answer {
    let wanted = |n: usize| parameters.get(format!("InstanceId.{n}")).and_then(Value::as_str);
    let wanted: Vec<&str> = (1..).map_while(wanted).collect();
    for node in world.lock().nodes.iter_mut().filter(|node| wanted.contains(&node.id.as_str())) {
        (node.online, node.stopped) = (true, false);
    }
    let items: String = wanted.iter().map(|id| format!("<item><instanceId>{}</instanceId></item>", xml(id))).collect();
    of_ec2("StartInstances", &format!("<instancesSet>{items}</instancesSet>"))
}

/// Updates the agents, which is all that a command does here.
pub(super) fn send_command(world: &World, parameters: &Value) -> Result<Answer, ApiError> {
    let document = parameters.get("DocumentName").and_then(Value::as_str).unwrap_or_default();
    if document != "AWS-UpdateSSMAgent" {
        return Err(ApiError::bad("InvalidDocument", format!("{document} is not a document here")));
    }
    world.lock().agent.version = NEW_AGENT.into();
    let command = json!({
        "CommandId": "00000000-0000-4000-8000-000000000000", "DocumentName": document, "Status": "Pending",
        "InstanceIds": parameters.get("InstanceIds"),
    });
    Ok(Answer::new(json!({ "Command": command }).to_string()))
}

fn of_ec2(operation: &str, body: &str) -> Answer {
    Answer::new(format!(
        "<{operation}Response xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">{body}</{operation}Response>"
    ))
}
