//! Aurora DSQL: its clusters.

use http::StatusCode;
use serde_json::{Value, json};

use super::{
    answer::{Answer, page},
    error::ApiError,
};
use crate::{
    database::{Database, Kind},
    identity::ACCOUNT,
    operation::Operation,
    world::World,
};

/// The operation of a path, and its parameters.
pub(super) fn recognise(path: &str, query: serde_json::Map<String, Value>) -> Option<(Operation, Value)> {
    match path.strip_prefix("/cluster")? {
        "" => Some((Operation::ListDsqlClusters, query.into())),
        id => Some((Operation::GetDsqlCluster, json!({ "identifier": id.strip_prefix('/')? }))),
    }
}

pub(super) fn list_clusters(world: &World, parameters: &Value) -> Result<Answer, ApiError> {
    let all = clusters(world);
    let (clusters, next) = page(world, &all, parameters.get("max-results"), parameters.get("next-token"))?;
    let summary = |id: &str| json!({ "identifier": id, "arn": arn(world, id) });
    let clusters: Vec<Value> = clusters.iter().map(|cluster| summary(cluster.identifier())).collect();
    Ok(Answer::new(json!({ "clusters": clusters, "nextToken": next }).to_string()))
}

pub(super) fn get_cluster(world: &World, parameters: &Value) -> Result<Answer, ApiError> {
    let wanted = parameters.get("identifier").and_then(Value::as_str).unwrap_or_default();
    let Some(cluster) = clusters(world).into_iter().find(|cluster| cluster.identifier() == wanted) else {
        let message = format!("cluster {wanted} not found");
        return Err(ApiError::new(StatusCode::NOT_FOUND, "ResourceNotFoundException", message));
    };
    let (id, region) = (cluster.identifier(), &world.region);
    let status = if cluster.status == "available" { "ACTIVE".into() } else { cluster.status.to_ascii_uppercase() };
    let described = json!({
        "identifier": id, "arn": arn(world, id), "status": status, "creationTime": 1_733_270_400,
        "deletionProtectionEnabled": true, "endpoint": format!("{id}.dsql.{region}.on.aws"),
    });
    Ok(Answer::new(described.to_string()))
}

fn arn(world: &World, id: &str) -> String {
    format!("arn:aws:dsql:{}:{ACCOUNT}:cluster/{id}", world.region)
}

fn clusters(world: &World) -> Vec<Database> {
    world.lock().databases.iter().filter(|database| database.kind() == Kind::DsqlCluster).cloned().collect()
}
