//! ECS: clusters and their running tasks.

use serde_json::{Value, json};

use super::{
    answer::{Answer, page},
    error::ApiError,
};
use crate::{identity::ACCOUNT, options::Task, world::World};

pub(super) fn list_clusters(world: &World, parameters: &Value) -> Result<Answer, ApiError> {
    let mut clusters: Vec<String> = world.lock().tasks.iter().map(|task| task.cluster.clone()).collect();
    clusters.dedup();
    let arns: Vec<String> = clusters.iter().map(|cluster| arn(world, "cluster", cluster)).collect();
    list(world, parameters, "clusterArns", &arns)
}

pub(super) fn list_tasks(world: &World, parameters: &Value) -> Result<Answer, ApiError> {
    let tasks = tasks_of(world, parameters);
    let arns: Vec<String> = tasks.iter().map(|task| task_arn(world, task)).collect();
    list(world, parameters, "taskArns", &arns)
}

pub(super) fn describe_tasks(world: &World, parameters: &Value) -> Answer {
    let wanted = parameters.get("tasks").and_then(Value::as_array).cloned().unwrap_or_default();
    let tasks: Vec<Value> = tasks_of(world, parameters)
        .iter()
        .filter(|task| wanted.contains(&task_arn(world, task).into()))
        .map(|task| {
            json!({
                "taskArn": task_arn(world, task), "clusterArn": arn(world, "cluster", &task.cluster),
                "group": "service:tools", "lastStatus": "RUNNING", "platformFamily": "Linux",
                "enableExecuteCommand": task.exec,
                "attachments": [{
                    "type": "ElasticNetworkInterface",
                    "details": [{ "name": "subnetId", "value": task.vpc.replacen("vpc-", "subnet-", 1) }],
                }],
                "containers": [
                    { "name": "log", "runtimeId": format!("{}-0", task.id) },
                    {
                        "name": "app", "runtimeId": task.runtime_id(),
                        "managedAgents": [{ "name": "ExecuteCommandAgent", "lastStatus": "RUNNING" }],
                    },
                ],
            })
        })
        .collect();
    Answer::new(json!({ "tasks": tasks, "failures": [] }).to_string())
}

fn tasks_of(world: &World, parameters: &Value) -> Vec<Task> {
    let cluster = parameters.get("cluster").and_then(Value::as_str).unwrap_or_default();
    let of = |task: &&Task| cluster == task.cluster || cluster == arn(world, "cluster", &task.cluster);
    world.lock().tasks.iter().filter(of).cloned().collect()
}

fn arn(world: &World, kind: &str, name: &str) -> String {
    format!("arn:aws:ecs:{}:{ACCOUNT}:{kind}/{name}", world.region)
}

fn task_arn(world: &World, task: &Task) -> String {
    arn(world, "task", &format!("{}/{}", task.cluster, task.id))
}

fn list(world: &World, parameters: &Value, key: &str, all: &[String]) -> Result<Answer, ApiError> {
    let (arns, next) = page(world, all, parameters.get("maxResults"), parameters.get("nextToken"))?;
    Ok(Answer::new(json!({ key: arns, "nextToken": next }).to_string()))
}
