//! The clusters of Aurora DSQL, as its API describes them ("Aurora DSQL API Reference", ListClusters and GetCluster).

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;
use tokio::time::timeout;

use super::Database;
use crate::{
    aws::{Account, Api, Error},
    service::Service,
    target::{Host, Region},
};

/// A list of clusters is not waited for any longer beside those of RDS: the service is not in every region, and a network
/// without a way to the internet may not have one to its API.
const LIST_TIMEOUT: Duration = Duration::from_secs(3);
/// The largest number of pages that are read, far above the quota of clusters of a region.
const PAGES: usize = 50;
/// The length of the identifier of a cluster: 26 lower-case letters and digits.
const ID_LENGTH: usize = 26;

/// Whether a text has the form of the identifier of a cluster.
pub(super) fn is_cluster_id(text: &str) -> bool {
    text.len() == ID_LENGTH && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

impl Account {
    /// Every cluster in the region; none where the API is not there, or does not reply in time.
    ///
    /// # Errors
    /// If AWS refuses the call.
    pub(super) async fn dsql_clusters(&self) -> Result<Vec<Database>, Error> {
        match timeout(LIST_TIMEOUT, self.list_dsql_clusters()).await {
            Err(_) | Ok(Err(Error::Transport { .. } | Error::Timeout { .. })) => Ok(Vec::new()),
            Ok(listed) => listed,
        }
    }

    async fn list_dsql_clusters(&self) -> Result<Vec<Database>, Error> {
        let mut summaries = Vec::new();
        let mut token: Option<String> = None;
        for _ in 0..PAGES {
            let query: Vec<_> = token.iter().map(|token| ("next-token", token.as_str())).collect();
            let page = self.rest(Api::Dsql, "ListClusters", "cluster", &query).await?;
            summaries.extend(page.get("clusters").and_then(Value::as_array).into_iter().flatten().cloned());
            let next = text(&page, "nextToken").map(str::to_owned);
            if next.is_none() || next == token {
                break;
            }
            token = next;
        }
        let described = summaries.into_iter().map(|summary| async move {
            let id = text(&summary, "identifier").filter(|id| is_cluster_id(id))?;
            // Where only the list is allowed, the status is unknown.
            let details = self.rest(Api::Dsql, "GetCluster", &format!("cluster/{id}"), &[]).await;
            Some(database(id, details.as_ref().unwrap_or(&summary), self.region()))
        });
        Ok(join_all(described).await.into_iter().flatten().collect())
    }

    /// The cluster with this identifier.
    ///
    /// # Errors
    /// The errors of every call; [`Error::BadRequest`] if there is none.
    pub(super) async fn dsql_cluster(&self, id: &str) -> Result<Vec<Database>, Error> {
        if !is_cluster_id(id) {
            return Ok(Vec::new());
        }
        let described = self.rest(Api::Dsql, "GetCluster", &format!("cluster/{id}"), &[]).await?;
        Ok(vec![database(id, &described, self.region())])
    }
}

fn text<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object.get(name)?.as_str()
}

fn database(id: &str, described: &Value, region: &Region) -> Database {
    let is_endpoint = |host: &String| {
        host.parse::<Host>()
            .is_ok_and(|host| host.service() == Some(Service::Dsql) && host.region().as_ref() == Some(region))
    };
    Database {
        kind: Service::Dsql,
        id: id.to_owned(),
        arn: text(described, "arn").map(str::to_owned),
        resource_id: Some(id.to_owned()),
        status: match text(described, "status") {
            // A cluster that scaled down wakes at the next connection ("Cluster status").
            Some("ACTIVE" | "IDLE" | "INACTIVE" | "UPDATING") => "available".to_owned(),
            status => status.unwrap_or_default().to_ascii_lowercase(),
        },
        engine: "aurora-dsql".into(),
        version: None,
        host: text(described, "endpoint")
            .map(str::to_owned)
            .filter(is_endpoint)
            .or_else(|| Some(format!("{id}.dsql.{region}.on.aws"))),
        port: Service::Dsql.port(),
        iam: Some(true),
        ca: None,
        vpc: None,
        security_groups: Vec::new(),
        parent: None,
        user: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cluster_is_described_with_the_name_that_its_certificate_has() {
        let id = "weabcdefghijklmnopqrdqqm2e";
        let region = "eu-central-1".parse().unwrap();
        let public = format!("{id}.dsql.eu-central-1.on.aws");
        for (described, host, status) in [
            (json!({"endpoint": public, "status": "IDLE"}), &public, "available"),
            (json!({"endpoint": "elsewhere.example", "status": "PENDING_SETUP"}), &public, "pending_setup"),
            (json!({"endpoint": format!("{id}.dsql.us-east-1.on.aws")}), &public, ""),
        ] {
            let found = database(id, &described, &region);
            assert_eq!((found.host.as_ref(), found.status.as_str()), (Some(host), status), "{described}");
            assert_eq!(found.endpoint().map(|endpoint| endpoint.port), Some(5432));
        }
        assert!(
            !is_cluster_id("orders") && !is_cluster_id(&"A".repeat(26)) && !is_cluster_id("../../../../../../../../aa")
        );
    }
}
