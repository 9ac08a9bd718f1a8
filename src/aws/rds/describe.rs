//! The five Describe calls, all pages of them, for a whole account or for one name; beside them those of Aurora DSQL.

use aws_sdk_rds::types::{DbCluster, DbClusterEndpoint, DbInstance, DbProxy, DbProxyEndpoint, Filter};
use aws_smithy_async::future::pagination_stream::PaginationStream;
use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use super::{Database, Databases, Described, dsql::is_cluster_id};
use crate::{
    aws::{Account, Error},
    service::{Describe, Service},
    target::{Arn, Host},
};

/// The largest list that is read, far above the quotas of an account ("Quotas in Amazon RDS").
const LIMIT: usize = 10_000;

impl Account {
    /// Every database of the account in its region. A call that AWS denies is a gap.
    ///
    /// # Errors
    /// If neither instances nor clusters can be listed, or if the credentials are invalid.
    pub async fn databases(&self) -> Result<Databases, Error> {
        Ok(self.describe(None).await?.join())
    }

    /// The databases with this identifier: an instance, a cluster's writer, a custom endpoint, a proxy or one of its
    /// endpoints. Several may share it.
    ///
    /// # Errors
    /// As for [`Account::databases`].
    pub async fn databases_called(&self, id: &str) -> Result<Databases, Error> {
        let mut described = self.describe(Some(id)).await?;
        self.add_parents(&mut described).await?;
        let mut databases = described.join();
        databases.found.retain(|database| database.id == id && database.kind != Service::Reader);
        Ok(databases)
    }

    /// The database that an ARN names; a cluster's is its writer.
    ///
    /// # Errors
    /// The errors of every call.
    pub async fn database_with_arn(&self, arn: &Arn) -> Result<Option<Database>, Error> {
        let mut described = Described::default();
        match arn.service().describe() {
            Describe::Instances => described.instances = self.db_instances(Some(arn.name()), None).await?,
            Describe::Clusters => described.clusters = self.db_clusters(Some(arn.name())).await?,
            Describe::ClusterEndpoints => described.endpoints = self.db_cluster_endpoints(Some(arn.name())).await?,
            // The ARNs of proxies and their endpoints contain a resource id, which these calls do not accept.
            Describe::Proxies => described.proxies = self.db_proxies(None).await?,
            Describe::ProxyEndpoints => described.proxy_endpoints = self.db_proxy_endpoints(None).await?,
            Describe::DsqlClusters => described.dsql = none_if_unknown(self.dsql_cluster(arn.name()).await)?,
        }
        self.add_parents(&mut described).await?;
        Ok(described.join().found.into_iter().find(|database| database.arn.as_deref() == Some(arn.as_str())))
    }

    /// The database with this endpoint name. The name determines the service, and so the call that lists it.
    ///
    /// # Errors
    /// The errors of every call.
    pub async fn database_at(&self, host: &Host) -> Result<Option<Database>, Error> {
        let id = host.as_str().split('.').next();
        let mut described = Described::default();
        match host.service().unwrap_or(Service::Instance).describe() {
            Describe::Instances => described.instances = self.db_instances(id, None).await?,
            Describe::Clusters => described.clusters = self.db_clusters(id).await?,
            Describe::ClusterEndpoints => described.endpoints = self.db_cluster_endpoints(id).await?,
            Describe::Proxies => described.proxies = self.db_proxies(id).await?,
            Describe::ProxyEndpoints => described.proxy_endpoints = self.db_proxy_endpoints(id).await?,
            Describe::DsqlClusters => {
                let mut found = none_if_unknown(self.dsql_cluster(id.unwrap_or_default()).await)?;
                // A cluster has a name for each of its endpoints.
                for database in &mut found {
                    database.host = Some(host.to_string());
                }
                described.dsql = found;
            }
        }
        self.add_parents(&mut described).await?;
        let at = |database: &Database| {
            database.host.as_deref().is_some_and(|found| found.eq_ignore_ascii_case(host.as_str()))
        };
        Ok(described.join().found.into_iter().find(at))
    }

    /// The ARN of the secret with the master user's password, which RDS keeps with the cluster if there is one. `None` if RDS does not
    /// manage the password.
    ///
    /// # Errors
    /// The errors of every call.
    pub(in crate::aws) async fn master_secret_arn(&self, host: &Host) -> Result<Option<String>, Error> {
        let id = host.as_str().split('.').next();
        let cluster = match host.service().map(Service::describe) {
            Some(Describe::Instances) => {
                let Some(instance) = self.db_instances(id, None).await?.pop() else { return Ok(None) };
                if let Some(secret) = instance.master_user_secret {
                    return Ok(secret.secret_arn);
                }
                instance.db_cluster_identifier
            }
            Some(Describe::Clusters) => id.map(str::to_owned),
            Some(Describe::ClusterEndpoints) => {
                self.db_cluster_endpoints(id).await?.pop().and_then(|endpoint| endpoint.db_cluster_identifier)
            }
            // The users of a proxy are in its own secrets; Aurora DSQL has no passwords.
            Some(Describe::Proxies | Describe::ProxyEndpoints | Describe::DsqlClusters) | None => None,
        };
        let Some(cluster) = cluster else { return Ok(None) };
        let cluster = self.db_clusters(Some(&cluster)).await?.pop();
        Ok(cluster.and_then(|cluster| cluster.master_user_secret?.secret_arn))
    }

    /// Makes all calls concurrently, for all databases or for one identifier.
    async fn describe(&self, id: Option<&str>) -> Result<Described, Error> {
        let dsql = async {
            match id {
                None => self.dsql_clusters().await,
                Some(id) if is_cluster_id(id) => none_if_unknown(self.dsql_cluster(id).await),
                Some(_) => Ok(Vec::new()),
            }
        };
        let (instances, clusters, endpoints, proxies, proxy_endpoints, dsql) = tokio::join!(
            // The SDK's futures are big.
            Box::pin(self.db_instances(id, None)),
            Box::pin(self.db_clusters(id)),
            Box::pin(self.db_cluster_endpoints(id)),
            Box::pin(self.db_proxies(id)),
            Box::pin(self.db_proxy_endpoints(id)),
            Box::pin(dsql),
        );
        if let (Err(error), Err(_)) = (&instances, &clusters) {
            return Err(error.clone());
        }
        let mut described = Described::default();
        described.instances = described.part(instances)?;
        described.clusters = described.part(clusters)?;
        described.endpoints = described.part(endpoints)?;
        described.proxies = described.part(proxies)?;
        described.proxy_endpoints = described.part(proxy_endpoints)?;
        described.dsql = described.part(dsql)?;
        Ok(described)
    }

    /// Adds the facts that only the cluster or proxy of a database has, or only the members of a cluster.
    async fn add_parents(&self, described: &mut Described) -> Result<(), Error> {
        let instances = described.instances.iter().filter_map(|instance| instance.db_cluster_identifier.clone());
        let endpoints = described.endpoints.iter().filter_map(|endpoint| endpoint.db_cluster_identifier.clone());
        let mut wanted: Vec<String> = instances.chain(endpoints).collect();
        wanted.dedup();
        for cluster in &wanted {
            let known = |found: &DbCluster| found.db_cluster_identifier.as_ref() == Some(cluster);
            if !described.clusters.iter().any(known) {
                let clusters = self.db_clusters(Some(cluster)).await;
                let clusters = described.part(clusters)?;
                described.clusters.extend(clusters);
            }
        }
        let clusters: Vec<String> =
            described.clusters.iter().filter_map(|cluster| cluster.db_cluster_identifier.clone()).collect();
        for cluster in &clusters {
            if described.member_of(Some(cluster)).is_none() {
                let members = self.db_instances(None, Some(cluster)).await;
                let members = described.part(members)?;
                described.instances.extend(members);
            }
        }
        let proxies: Vec<String> =
            described.proxy_endpoints.iter().filter_map(|endpoint| endpoint.db_proxy_name.clone()).collect();
        for proxy in &proxies {
            if !described.proxies.iter().any(|found| found.db_proxy_name.as_ref() == Some(proxy)) {
                let proxies = self.db_proxies(Some(proxy)).await;
                let proxies = described.part(proxies)?;
                described.proxies.extend(proxies);
            }
        }
        Ok(())
    }

    async fn db_instances(&self, id: Option<&str>, cluster: Option<&str>) -> Result<Vec<DbInstance>, Error> {
        const OPERATION: &str = "DescribeDBInstances";
        let of_cluster = cluster.map(|id| vec![Filter::builder().name("db-cluster-id").values(id).build()]);
        let listed = self.call(OPERATION, || async {
            let call = self.0.rds.describe_db_instances().set_db_instance_identifier(id.map(Into::into));
            let items = call.set_filters(of_cluster.clone()).into_paginator().items().send();
            all(items).await.map_err(|error| self.classify(OPERATION, error))
        });
        none_if_unknown(listed.await)
    }

    async fn db_clusters(&self, id: Option<&str>) -> Result<Vec<DbCluster>, Error> {
        const OPERATION: &str = "DescribeDBClusters";
        let listed = self.call(OPERATION, || async {
            let call = self.0.rds.describe_db_clusters().set_db_cluster_identifier(id.map(Into::into));
            all(call.into_paginator().items().send()).await.map_err(|error| self.classify(OPERATION, error))
        });
        none_if_unknown(listed.await)
    }

    async fn db_cluster_endpoints(&self, id: Option<&str>) -> Result<Vec<DbClusterEndpoint>, Error> {
        const OPERATION: &str = "DescribeDBClusterEndpoints";
        let listed = self.call(OPERATION, || async {
            let call =
                self.0.rds.describe_db_cluster_endpoints().set_db_cluster_endpoint_identifier(id.map(Into::into));
            all(call.into_paginator().items().send()).await.map_err(|error| self.classify(OPERATION, error))
        });
        none_if_unknown(listed.await)
    }

    async fn db_proxies(&self, name: Option<&str>) -> Result<Vec<DbProxy>, Error> {
        const OPERATION: &str = "DescribeDBProxies";
        let listed = self.call(OPERATION, || async {
            let call = self.0.rds.describe_db_proxies().set_db_proxy_name(name.map(Into::into));
            all(call.into_paginator().items().send()).await.map_err(|error| self.classify(OPERATION, error))
        });
        none_if_unknown(listed.await)
    }

    async fn db_proxy_endpoints(&self, name: Option<&str>) -> Result<Vec<DbProxyEndpoint>, Error> {
        const OPERATION: &str = "DescribeDBProxyEndpoints";
        let listed = self.call(OPERATION, || async {
            let call = self.0.rds.describe_db_proxy_endpoints().set_db_proxy_endpoint_name(name.map(Into::into));
            all(call.into_paginator().items().send()).await.map_err(|error| self.classify(OPERATION, error))
        });
        none_if_unknown(listed.await)
    }
}

impl Described {
    /// The result of one call, or a gap.
    fn part<T>(&mut self, answer: Result<Vec<T>, Error>) -> Result<Vec<T>, Error> {
        match answer {
            Err(error) if !error.concerns_credentials() => {
                self.gaps.push(error);
                Ok(Vec::new())
            }
            answer => answer,
        }
    }
}

/// All items of all pages. The paginator stops at a repeated token.
async fn all<T, E>(
    mut items: PaginationStream<Result<T, SdkError<E, HttpResponse>>>,
) -> Result<Vec<T>, SdkError<E, HttpResponse>>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let mut all = Vec::new();
    while let Some(item) = items.next().await {
        all.push(item?);
        if all.len() == LIMIT {
            break;
        }
    }
    Ok(all)
}

/// An unknown name, or one that is invalid for the kind, gives an empty list.
fn none_if_unknown<T>(listed: Result<Vec<T>, Error>) -> Result<Vec<T>, Error> {
    match listed {
        Err(Error::BadRequest { code, .. }) if code.contains("NotFound") || code == "InvalidParameterValue" => {
            Ok(Vec::new())
        }
        listed => listed,
    }
}
