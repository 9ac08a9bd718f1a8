//! RDS: descriptions of the databases that the sandbox was told about.

use serde_json::Value;

use super::{Answer, error::ApiError, xml};
use crate::sandbox::{World, identity::ACCOUNT};

const NAMESPACE: &str = "http://rds.amazonaws.com/doc/2014-10-31/";

/// A database as DescribeDBInstances or DescribeDBClusters shows it.
#[derive(Debug, Clone)]
pub struct Database {
    /// The endpoint's host name, whose first label is the identifier; a second label starting with `cluster-` makes
    /// it a cluster.
    pub host: String,
    /// The endpoint's port.
    pub port: u16,
    /// `postgres`, `aurora-postgresql`, …
    pub engine: String,
    /// Whether IAM database authentication is on.
    pub iam: bool,
}

impl Database {
    fn identifier(&self) -> &str {
        self.host.split('.').next().unwrap_or_default()
    }

    fn is_cluster(&self) -> bool {
        self.host.split('.').nth(1).is_some_and(|label| label.starts_with("cluster-"))
    }
}

pub(super) fn describe_instances(world: &World, parameters: &Value) -> Result<Answer, ApiError> {
    let found = select(world, parameters, "DBInstanceIdentifier", false)?;
    let members: String = found
        .iter()
        .map(|database| {
            let (id, host, engine) = (xml(database.identifier()), xml(&database.host), xml(&database.engine));
            format!(
                "<DBInstance><DBInstanceIdentifier>{id}</DBInstanceIdentifier><DBInstanceClass>db.t4g.micro</DBInstanceClass><Engine>{engine}</Engine><DBInstanceStatus>available</DBInstanceStatus><MasterUsername>master</MasterUsername><Endpoint><Address>{host}</Address><Port>{}</Port><HostedZoneId>Z1RLNUO7B9Q6NB</HostedZoneId></Endpoint><EngineVersion>15.8</EngineVersion><PubliclyAccessible>false</PubliclyAccessible><DbiResourceId>{}</DbiResourceId><CACertificateIdentifier>rds-ca-rsa2048-g1</CACertificateIdentifier><DBInstanceArn>arn:aws:rds:{}:{ACCOUNT}:db:{id}</DBInstanceArn><IAMDatabaseAuthenticationEnabled>{}</IAMDatabaseAuthenticationEnabled></DBInstance>",
                database.port, resource_id("db", database), world.region, database.iam,
            )
        })
        .collect();
    Ok(Answer::new(format!(
        "<DescribeDBInstancesResponse xmlns=\"{NAMESPACE}\"><DescribeDBInstancesResult><DBInstances>{members}</DBInstances></DescribeDBInstancesResult><ResponseMetadata></ResponseMetadata></DescribeDBInstancesResponse>"
    )))
}

pub(super) fn describe_clusters(world: &World, parameters: &Value) -> Result<Answer, ApiError> {
    let found = select(world, parameters, "DBClusterIdentifier", true)?;
    let members: String = found
        .iter()
        .map(|database| {
            let (id, host, engine) = (xml(database.identifier()), xml(&database.host), xml(&database.engine));
            format!(
                "<DBCluster><DBClusterIdentifier>{id}</DBClusterIdentifier><Status>available</Status><Engine>{engine}</Engine><Endpoint>{host}</Endpoint><ReaderEndpoint>{}</ReaderEndpoint><Port>{}</Port><DbClusterResourceId>{}</DbClusterResourceId><DBClusterArn>arn:aws:rds:{}:{ACCOUNT}:cluster:{id}</DBClusterArn><IAMDatabaseAuthenticationEnabled>{}</IAMDatabaseAuthenticationEnabled></DBCluster>",
                host.replacen(".cluster-", ".cluster-ro-", 1), database.port, resource_id("cluster", database), world.region, database.iam,
            )
        })
        .collect();
    Ok(Answer::new(format!(
        "<DescribeDBClustersResponse xmlns=\"{NAMESPACE}\"><DescribeDBClustersResult><DBClusters>{members}</DBClusters></DescribeDBClustersResult><ResponseMetadata></ResponseMetadata></DescribeDBClustersResponse>"
    )))
}

fn select(world: &World, parameters: &Value, key: &str, clusters: bool) -> Result<Vec<Database>, ApiError> {
    let wanted = parameters.get(key).and_then(Value::as_str);
    let found: Vec<Database> = world
        .lock()
        .databases
        .iter()
        .filter(|database| database.is_cluster() == clusters)
        .filter(|database| wanted.is_none_or(|id| database.identifier() == id))
        .cloned()
        .collect();
    match wanted {
        Some(id) if found.is_empty() => {
            let (code, what) =
                if clusters { ("DBClusterNotFoundFault", "DBCluster") } else { ("DBInstanceNotFound", "DBInstance") };
            Err(ApiError::new(http::StatusCode::NOT_FOUND, code, format!("{what} {id} not found.")))
        }
        _ => Ok(found),
    }
}

/// Stable and shaped like the real ones: the policies for `rds-db:connect` name it.
fn resource_id(prefix: &str, database: &Database) -> String {
    let tag: String = database.identifier().to_ascii_uppercase().chars().filter(char::is_ascii_alphanumeric).collect();
    format!("{prefix}-{tag:A<26.26}")
}
