//! RDS: descriptions of the databases of the sandbox.

use std::fmt::Write as _;

use serde_json::Value;

use super::{
    answer::{Answer, page},
    error::ApiError,
    protocol::xml,
    secrets,
};
use crate::{
    database::{Database, Kind},
    identity::ACCOUNT,
    world::World,
};

const NAMESPACE: &str = "http://rds.amazonaws.com/doc/2014-10-31/";

pub(super) fn describe_instances(world: &World, parameters: &Value) -> Result<Answer, ApiError> {
    let mut found = select(world, parameters, Kind::Instance, ("DBInstanceIdentifier", "DBInstanceNotFound"))?;
    if parameters.get("Filters.Filter.1.Name").and_then(Value::as_str) == Some("db-cluster-id") {
        let cluster = parameters.get("Filters.Filter.1.Values.Value.1").and_then(Value::as_str);
        found.retain(|database| database.parent.as_deref() == cluster);
    }
    let member = |database: &Database| {
        let (id, host, engine) = (xml(database.identifier()), xml(&database.host), xml(&database.engine));
        let cluster = element("DBClusterIdentifier", database.parent.as_deref());
        // What is being created has no address yet.
        let endpoint = match database.status.as_str() {
            "creating" => String::new(),
            _ => format!(
                "<Endpoint><Address>{host}</Address><Port>{}</Port><HostedZoneId>Z1RLNUO7B9Q6NB</HostedZoneId></Endpoint>",
                database.port
            ),
        };
        format!(
            "<DBInstance><DBInstanceIdentifier>{id}</DBInstanceIdentifier><DBInstanceClass>db.t4g.micro</DBInstanceClass><Engine>{engine}</Engine><DBInstanceStatus>{}</DBInstanceStatus><MasterUsername>master</MasterUsername>{endpoint}{}<VpcSecurityGroups>{}</VpcSecurityGroups><DBSubnetGroup><DBSubnetGroupName>default</DBSubnetGroupName><VpcId>{}</VpcId></DBSubnetGroup><EngineVersion>{}</EngineVersion>{cluster}<PubliclyAccessible>false</PubliclyAccessible><DbiResourceId>{}</DbiResourceId><CACertificateIdentifier>{}</CACertificateIdentifier><DBInstanceArn>arn:aws:rds:{}:{ACCOUNT}:db:{id}</DBInstanceArn><IAMDatabaseAuthenticationEnabled>{}</IAMDatabaseAuthenticationEnabled></DBInstance>",
            xml(&database.status),
            master_secret(world, database),
            memberships(database),
            xml(&database.vpc),
            xml(&database.version),
            database.resource_id("db"),
            xml(&database.ca),
            world.region,
            database.iam,
        )
    };
    listed(world, parameters, ("DescribeDBInstances", "DBInstances"), &found, member)
}

pub(super) fn describe_clusters(world: &World, parameters: &Value) -> Result<Answer, ApiError> {
    let found = select(world, parameters, Kind::Cluster, ("DBClusterIdentifier", "DBClusterNotFoundFault"))?;
    let all = world.lock().databases.clone();
    let member = |database: &Database| {
        let (id, host, engine) = (xml(database.identifier()), xml(&database.host), xml(&database.engine));
        let of_it = |kind| {
            let own = Some(database.identifier());
            all.iter().filter(move |part| part.kind() == kind && part.parent.as_deref() == own)
        };
        let members = of_it(Kind::Instance).fold(String::new(), |mut text, member| {
            let _ = write!(text, "<DBClusterMember><DBInstanceIdentifier>{}</DBInstanceIdentifier><IsClusterWriter>{}</IsClusterWriter></DBClusterMember>", xml(member.identifier()), text.is_empty());
            text
        });
        let custom = of_it(Kind::ClusterEndpoint).map(|part| format!("<member>{}</member>", xml(&part.host)));
        format!(
            "<DBCluster><DBClusterIdentifier>{id}</DBClusterIdentifier><Status>{}</Status><Engine>{engine}</Engine><EngineVersion>{}</EngineVersion>{}<Endpoint>{host}</Endpoint><ReaderEndpoint>{}</ReaderEndpoint><CustomEndpoints>{}</CustomEndpoints><DBClusterMembers>{members}</DBClusterMembers><VpcSecurityGroups>{}</VpcSecurityGroups><Port>{}</Port><DbClusterResourceId>{}</DbClusterResourceId><DBClusterArn>arn:aws:rds:{}:{ACCOUNT}:cluster:{id}</DBClusterArn><IAMDatabaseAuthenticationEnabled>{}</IAMDatabaseAuthenticationEnabled></DBCluster>",
            xml(&database.status),
            xml(&database.version),
            master_secret(world, database),
            host.replacen(".cluster-", ".cluster-ro-", 1),
            custom.collect::<String>(),
            memberships(database),
            database.port,
            database.resource_id("cluster"),
            world.region,
            database.iam,
        )
    };
    listed(world, parameters, ("DescribeDBClusters", "DBClusters"), &found, member)
}

pub(super) fn describe_cluster_endpoints(world: &World, parameters: &Value) -> Result<Answer, ApiError> {
    // Unlike the others, RDS answers an unknown identifier with an empty list.
    let wanted = parameters.get("DBClusterEndpointIdentifier").and_then(Value::as_str);
    let mut found = of_kind(world, Kind::ClusterEndpoint);
    found.retain(|database| wanted.is_none_or(|id| database.identifier() == id));
    let member = |database: &Database| {
        let id = xml(database.identifier());
        format!(
            "<DBClusterEndpointList><DBClusterEndpointIdentifier>{id}</DBClusterEndpointIdentifier>{}<Endpoint>{}</Endpoint><Status>{}</Status><EndpointType>CUSTOM</EndpointType><CustomEndpointType>ANY</CustomEndpointType><DBClusterEndpointArn>arn:aws:rds:{}:{ACCOUNT}:cluster-endpoint:{id}</DBClusterEndpointArn></DBClusterEndpointList>",
            element("DBClusterIdentifier", database.parent.as_deref()),
            xml(&database.host),
            xml(&database.status),
            world.region,
        )
    };
    listed(world, parameters, ("DescribeDBClusterEndpoints", "DBClusterEndpoints"), &found, member)
}

pub(super) fn describe_proxies(world: &World, parameters: &Value) -> Result<Answer, ApiError> {
    let found = select(world, parameters, Kind::Proxy, ("DBProxyName", "DBProxyNotFoundFault"))?;
    let member = |database: &Database| {
        let name = xml(database.identifier());
        let auth = if database.iam { "REQUIRED" } else { "DISABLED" };
        format!(
            "<member><DBProxyName>{name}</DBProxyName><DBProxyArn>arn:aws:rds:{}:{ACCOUNT}:db-proxy:{}</DBProxyArn><Status>{}</Status><EngineFamily>{}</EngineFamily><VpcId>{}</VpcId><VpcSecurityGroupIds>{}</VpcSecurityGroupIds><Auth><member><UserName>proxied</UserName><AuthScheme>SECRETS</AuthScheme><IAMAuth>{auth}</IAMAuth></member></Auth><Endpoint>{}</Endpoint><RequireTLS>true</RequireTLS></member>",
            world.region,
            database.resource_id("prx").to_ascii_lowercase(),
            xml(&database.status),
            xml(&database.engine),
            xml(&database.vpc),
            group_ids(database),
            xml(&database.host),
        )
    };
    listed(world, parameters, ("DescribeDBProxies", "DBProxies"), &found, member)
}

pub(super) fn describe_proxy_endpoints(world: &World, parameters: &Value) -> Result<Answer, ApiError> {
    let key = ("DBProxyEndpointName", "DBProxyEndpointNotFoundFault");
    let found = select(world, parameters, Kind::ProxyEndpoint, key)?;
    let member = |database: &Database| {
        format!(
            "<member><DBProxyEndpointName>{}</DBProxyEndpointName><DBProxyEndpointArn>arn:aws:rds:{}:{ACCOUNT}:db-proxy-endpoint:{}</DBProxyEndpointArn>{}<Status>{}</Status><VpcId>{}</VpcId><VpcSecurityGroupIds>{}</VpcSecurityGroupIds><Endpoint>{}</Endpoint><TargetRole>READ_ONLY</TargetRole><IsDefault>false</IsDefault></member>",
            xml(database.identifier()),
            world.region,
            database.resource_id("prx-endpoint").to_ascii_lowercase(),
            element("DBProxyName", database.parent.as_deref()),
            xml(&database.status),
            xml(&database.vpc),
            group_ids(database),
            xml(&database.host),
        )
    };
    listed(world, parameters, ("DescribeDBProxyEndpoints", "DBProxyEndpoints"), &found, member)
}

fn master_secret(world: &World, database: &Database) -> String {
    let Some(name) = &database.master_secret else { return String::new() };
    format!(
        "<MasterUserSecret><SecretArn>{}</SecretArn><SecretStatus>active</SecretStatus></MasterUserSecret>",
        secrets::arn(world, name)
    )
}

fn memberships(database: &Database) -> String {
    let group = |group: &String| {
        format!(
            "<VpcSecurityGroupMembership><VpcSecurityGroupId>{}</VpcSecurityGroupId><Status>active</Status></VpcSecurityGroupMembership>",
            xml(group)
        )
    };
    database.groups.iter().map(group).collect()
}

fn group_ids(database: &Database) -> String {
    database.groups.iter().map(|group| format!("<member>{}</member>", xml(group))).collect()
}

fn element(name: &str, text: Option<&str>) -> String {
    text.map(|text| format!("<{name}>{}</{name}>", xml(text))).unwrap_or_default()
}

/// One page of at most `MaxRecords` items, from `Marker` on.
fn listed(
    world: &World,
    parameters: &Value,
    (operation, list): (&str, &str),
    found: &[Database],
    member: impl Fn(&Database) -> String,
) -> Result<Answer, ApiError> {
    let (found, next) = page(world, found, parameters.get("MaxRecords"), parameters.get("Marker"))?;
    let members: String = found.iter().map(member).collect();
    let marker = element("Marker", next.as_deref());
    Ok(Answer::new(format!(
        "<{operation}Response xmlns=\"{NAMESPACE}\"><{operation}Result><{list}>{members}</{list}>{marker}</{operation}Result><ResponseMetadata></ResponseMetadata></{operation}Response>"
    )))
}

fn of_kind(world: &World, kind: Kind) -> Vec<Database> {
    world.lock().databases.iter().filter(|database| database.kind() == kind).cloned().collect()
}

fn select(
    world: &World,
    parameters: &Value,
    kind: Kind,
    (key, fault): (&str, &'static str),
) -> Result<Vec<Database>, ApiError> {
    let mut found = of_kind(world, kind);
    let Some(wanted) = parameters.get(key).and_then(Value::as_str) else { return Ok(found) };
    found.retain(|database| database.identifier() == wanted);
    if found.is_empty() {
        return Err(ApiError::new(http::StatusCode::NOT_FOUND, fault, format!("{key} {wanted} not found.")));
    }
    Ok(found)
}
