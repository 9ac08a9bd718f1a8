//! Candidates for a bastion: the managed nodes of Systems Manager, and the ECS tasks with ECS Exec.
//!
//! Systems Manager reports which nodes are online, EC2 their VPC and name. ECS tasks do not appear in a list of managed nodes, but
//! those with `enableExecuteCommand` and a running agent can be reached like one, as
//! `ecs:CLUSTER_TASK_RUNTIME` ("Start a session", StartSession's `Target`).

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, SystemTime},
};

use aws_sdk_ssm::types::{InstanceInformation, ResourceType};
use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Account, Api, Error};
use crate::target::InstanceId;

/// The largest number of pages of one list, far above real accounts.
const PAGES: usize = 200;
/// The largest number of identifiers in one filter of EC2 (200) and in one DescribeTasks (100).
const BATCH: usize = 100;
/// The number of clusters that are searched, and how many of them concurrently.
const CLUSTERS: usize = 200;
const AT_A_TIME: usize = 8;

/// The kind of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeKind {
    /// An EC2 instance.
    Ec2,
    /// A machine outside EC2 with a hybrid activation.
    Hybrid,
    /// A task of ECS.
    EcsTask,
}

/// A possible bastion. Facts that AWS did not report, or refused, are `None`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// The `Target` of StartSession.
    pub id: String,
    /// The kind of node.
    pub kind: NodeKind,
    /// Its `Name` tag, computer name, or the task's group and container.
    pub name: Option<String>,
    /// Whether its agent is connected.
    pub online: bool,
    /// The time of its agent's last ping.
    pub last_ping: Option<SystemTime>,
    /// Its agent's version.
    pub agent: Option<String>,
    /// Its operating system.
    pub platform: Option<String>,
    /// The VPC it is in.
    pub vpc: Option<String>,
}

impl Node {
    /// Its id as a bastion; `None` for an unknown form of id.
    pub fn instance_id(&self) -> Option<InstanceId> {
        self.id.parse().ok()
    }
}

/// The result of a search, and the parts that failed.
#[derive(Debug, Clone, Default)]
pub struct Nodes {
    /// The nodes, sorted by name and id.
    pub found: Vec<Node>,
    /// The calls that failed. Their facts are missing.
    pub gaps: Vec<Error>,
}

impl Nodes {
    fn sorted(mut self) -> Self {
        self.found.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        self
    }
}

impl Account {
    /// The managed nodes, online or not. If EC2 does not report their VPC, that is a gap.
    ///
    /// # Errors
    /// If Systems Manager does not list them.
    pub async fn managed_nodes(&self) -> Result<Nodes, Error> {
        let mut nodes = Nodes { found: self.instance_information(None).await?, gaps: Vec::new() };
        self.add_places(&mut nodes).await;
        Ok(nodes.sorted())
    }

    /// One managed node; `None` if Systems Manager does not know it.
    ///
    /// # Errors
    /// If Systems Manager does not reply.
    pub async fn managed_node(&self, id: &InstanceId) -> Result<Option<Node>, Error> {
        Ok(self.instance_information(Some(id)).await?.pop())
    }

    async fn instance_information(&self, id: Option<&InstanceId>) -> Result<Vec<Node>, Error> {
        const OPERATION: &str = "DescribeInstanceInformation";
        let filter = id.map(|id| {
            use aws_sdk_ssm::types::InstanceInformationStringFilter as Filter;
            Filter::builder().key("InstanceIds").values(id.as_str()).build()
        });
        let filter = filter.transpose().map_err(|_| Error::Incomplete { operation: OPERATION, field: "filter" })?;
        self.call(OPERATION, || async {
            let call =
                self.0.ssm.describe_instance_information().set_filters(filter.clone().map(|filter| vec![filter]));
            let mut pages = call.max_results(50).into_paginator().send();
            let mut nodes = Vec::new();
            for _ in 0..PAGES {
                let Some(page) = pages.next().await else { break };
                let page = page.map_err(|error| self.classify(OPERATION, error))?;
                nodes.extend(page.instance_information_list.unwrap_or_default().into_iter().filter_map(node));
            }
            Ok(nodes)
        })
        .await
    }

    /// VPC and `Name` tag of the EC2 instances among the nodes.
    async fn add_places(&self, nodes: &mut Nodes) {
        let ids: Vec<String> =
            nodes.found.iter().filter(|node| node.kind == NodeKind::Ec2).map(|node| node.id.clone()).collect();
        let mut places = HashMap::new();
        for ids in ids.chunks(BATCH) {
            match self.places(ids).await {
                Ok(found) => places.extend(found),
                Err(error) => {
                    nodes.gaps.push(error);
                    break;
                }
            }
        }
        for node in &mut nodes.found {
            if let Some((vpc, name)) = places.remove(&node.id) {
                node.vpc = vpc;
                node.name = name.or(node.name.take());
            }
        }
    }

    /// Uses a filter, because with `InstanceId.N` a terminated instance would make the whole call fail.
    async fn places(&self, ids: &[String]) -> Result<HashMap<String, (Option<String>, Option<String>)>, Error> {
        const OPERATION: &str = "DescribeInstances";
        let mut places = HashMap::new();
        let mut token = None;
        for _ in 0..PAGES {
            let parameters = filtered("instance-id", ids, token.as_deref());
            let answer = self.query(Api::Ec2, OPERATION, &parameters).await?;
            for instance in answer.items("reservationSet").flat_map(|reservation| reservation.items("instancesSet")) {
                let Some(id) = instance.text(&["instanceId"]) else { continue };
                let tag = instance.items("tagSet").find(|tag| tag.text(&["key"]) == Some("Name"));
                let name = tag.and_then(|tag| tag.text(&["value"])).map(str::to_owned);
                places.insert(id.to_owned(), (instance.text(&["vpcId"]).map(str::to_owned), name));
            }
            token = answer.text(&["nextToken"]).map(str::to_owned);
            if token.is_none() {
                break;
            }
        }
        Ok(places)
    }

    /// The running ECS tasks with ECS Exec. Parts without permission are gaps.
    pub async fn ecs_tasks(&self) -> Nodes {
        let mut nodes = Nodes::default();
        let clusters = match self.ecs_list("ListClusters", json!({}), "clusterArns").await {
            Ok(clusters) => clusters,
            Err(error) => return Nodes { gaps: vec![error], ..nodes },
        };
        let answers = stream::iter(clusters.into_iter().take(CLUSTERS))
            .map(async |cluster| self.tasks_of(&cluster).await)
            .buffer_unordered(AT_A_TIME);
        let answers: Vec<_> = answers.collect().await;
        let mut subnets = BTreeMap::new();
        for answer in answers {
            match answer {
                Ok(tasks) => {
                    for (node, subnet) in tasks {
                        subnets.extend(subnet.map(|subnet| (node.id.clone(), subnet)));
                        nodes.found.push(node);
                    }
                }
                Err(error) => nodes.gaps.push(error),
            }
        }
        let mut wanted: Vec<String> = subnets.values().cloned().collect();
        wanted.sort();
        wanted.dedup();
        match self.vpcs_of_subnets(&wanted).await {
            Ok(vpcs) => {
                for node in &mut nodes.found {
                    node.vpc = subnets.get(&node.id).and_then(|subnet| vpcs.get(subnet)).cloned();
                }
            }
            Err(error) => nodes.gaps.push(error),
        }
        nodes.sorted()
    }

    /// A cluster's tasks, each with the subnet of its network interface.
    async fn tasks_of(&self, cluster: &str) -> Result<Vec<(Node, Option<String>)>, Error> {
        let tasks = json!({ "cluster": cluster, "desiredStatus": "RUNNING" });
        let tasks = self.ecs_list("ListTasks", tasks, "taskArns").await?;
        let mut found = Vec::new();
        for tasks in tasks.chunks(BATCH) {
            let input = json!({ "cluster": cluster, "tasks": tasks });
            let answer = self.json(Api::Ecs, "DescribeTasks", &input).await?;
            found.extend(list(&answer, "tasks").iter().filter_map(task));
        }
        Ok(found)
    }

    async fn ecs_list(&self, operation: &'static str, input: Value, key: &str) -> Result<Vec<String>, Error> {
        let (mut input, mut all) = (input, Vec::new());
        for _ in 0..PAGES {
            let answer = self.json(Api::Ecs, operation, &input).await?;
            all.extend(list(&answer, key).iter().filter_map(Value::as_str).map(str::to_owned));
            match (answer.get("nextToken").and_then(Value::as_str), input.as_object_mut()) {
                (Some(token), Some(input)) => input.insert("nextToken".into(), token.into()),
                _ => break,
            };
        }
        Ok(all)
    }

    async fn vpcs_of_subnets(&self, subnets: &[String]) -> Result<HashMap<String, String>, Error> {
        let mut vpcs = HashMap::new();
        for subnets in subnets.chunks(BATCH) {
            let answer = self.query(Api::Ec2, "DescribeSubnets", &filtered("subnet-id", subnets, None)).await?;
            let pair = |subnet: &super::xml::Element| {
                Some((subnet.text(&["subnetId"])?.to_owned(), subnet.text(&["vpcId"])?.to_owned()))
            };
            vpcs.extend(answer.items("subnetSet").filter_map(pair));
        }
        Ok(vpcs)
    }
}

/// The form of a Describe call of EC2 with one filter.
pub(super) fn filtered(name: &str, values: &[String], token: Option<&str>) -> Vec<(String, String)> {
    let mut form = vec![("Filter.1.Name".to_owned(), name.to_owned())];
    form.extend(values.iter().zip(1..).map(|(value, n)| (format!("Filter.1.Value.{n}"), value.clone())));
    form.push(("MaxResults".into(), BATCH.to_string()));
    form.extend(token.map(|token| ("NextToken".into(), token.to_owned())));
    form
}

fn list<'a>(answer: &'a Value, key: &str) -> &'a [Value] {
    answer.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn node(information: InstanceInformation) -> Option<Node> {
    let id = information.instance_id?;
    let kind = match information.resource_type {
        Some(ResourceType::Ec2Instance) => NodeKind::Ec2,
        _ if id.starts_with("i-") => NodeKind::Ec2,
        _ => NodeKind::Hybrid,
    };
    let platform = [information.platform_name, information.platform_version];
    let platform = platform.into_iter().flatten().collect::<Vec<_>>().join(" ");
    Some(Node {
        id,
        kind,
        // A hybrid node is named by its activation, an instance by its Name tag in EC2.
        name: information.name.or(information.computer_name).filter(|name| !name.is_empty()),
        online: information.ping_status.is_some_and(|status| status == aws_sdk_ssm::types::PingStatus::Online),
        last_ping: information.last_ping_date_time.and_then(|at| at.try_into().ok()),
        agent: information.agent_version,
        platform: Some(platform).filter(|platform| !platform.is_empty()),
        vpc: None,
    })
}

/// A task with ECS Exec, and the subnet of its network interface. Of several containers the first is used, because they share the
/// task's network.
fn task(task: &Value) -> Option<(Node, Option<String>)> {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    if task.get("enableExecuteCommand").and_then(Value::as_bool) != Some(true) {
        return None;
    }
    let container = list(task, "containers").iter().find(|container| {
        let agent = |agent: &&Value| text(agent, "name").as_deref() == Some("ExecuteCommandAgent");
        let agent = list(container, "managedAgents").iter().find(agent);
        agent.and_then(|agent| text(agent, "lastStatus")).as_deref() == Some("RUNNING")
    })?;
    // arn:aws:ecs:REGION:ACCOUNT:task/CLUSTER/TASK
    let arn = text(task, "taskArn")?;
    let (cluster, task_id) = arn.split_once(":task/")?.1.split_once('/')?;
    let group = text(task, "group").unwrap_or_default();
    let group = group.split_once(':').map_or(group.as_str(), |(_, name)| name);
    let details = list(task, "attachments").iter().flat_map(|attachment| list(attachment, "details"));
    let mut subnets = details.filter(|detail| text(detail, "name").as_deref() == Some("subnetId"));
    let subnet = subnets.find_map(|detail| text(detail, "value"));
    let node = Node {
        id: format!("ecs:{cluster}_{task_id}_{}", text(container, "runtimeId")?),
        kind: NodeKind::EcsTask,
        name: Some(format!("{group}/{}", text(container, "name")?)),
        online: true,
        last_ping: None,
        agent: None,
        platform: text(task, "platformFamily"),
        vpc: None,
    };
    Some((node, subnet))
}

/// The time since a node's last ping, for people.
pub fn ago(since: Duration) -> String {
    match since.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s ago"),
        seconds @ 120..=7199 => format!("{} min ago", seconds / 60),
        seconds @ 7200..=172_799 => format!("{} h ago", seconds / 3600),
        seconds => format!("{} days ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_shown_in_a_fitting_unit() {
        for (seconds, text) in
            [(0, "0 s ago"), (119, "119 s ago"), (120, "2 min ago"), (7200, "2 h ago"), (500_000, "5 days ago")]
        {
            assert_eq!(ago(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_task_without_an_agent_or_with_a_shape_of_its_own_is_none() {
        let whole = json!({
            "taskArn": "arn:aws:ecs:eu-central-1:123456789012:task/tools/0123", "enableExecuteCommand": true,
            "containers": [{
                "name": "app", "runtimeId": "0123-4567",
                "managedAgents": [{ "name": "ExecuteCommandAgent", "lastStatus": "RUNNING" }],
            }],
        });
        let (node, subnet) = task(&whole).unwrap();
        assert_eq!((node.id.as_str(), subnet), ("ecs:tools_0123_0123-4567", None));
        let mut pending = whole.clone();
        pending["containers"][0]["managedAgents"][0]["lastStatus"] = "PENDING".into();
        let mut old = whole.clone();
        old["taskArn"] = "arn:aws:ecs:eu-central-1:123456789012:task/0123".into();
        let mut off = whole;
        off["enableExecuteCommand"] = false.into();
        for broken in
            [pending, old, off, json!({}), json!([]), json!({ "enableExecuteCommand": true, "containers": 7 })]
        {
            assert_eq!(task(&broken), None, "{broken}");
        }
    }
}
