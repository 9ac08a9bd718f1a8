//! The databases of an account as RDS describes them: every address that accepts logins, with its facts.
//!
//! An instance has one address. A cluster has writer, reader and custom addresses, besides those of its members. An RDS Proxy has its
//! own address and additional ones. `rds-db:connect` names a member of a cluster by the cluster ("Creating and using an IAM
//! policy for IAM database access"), and every address of a proxy by the proxy; see [`Database::resource_id`].
//!
//! `describe` makes the calls; this module joins their replies.

mod describe;
mod dsql;

use aws_sdk_rds::types::{
    DbCluster, DbClusterEndpoint, DbInstance, DbProxy, DbProxyEndpoint, IamAuthMode, VpcSecurityGroupMembership,
};
use serde::{Deserialize, Serialize};

use super::Error;
use crate::{
    service::Service,
    target::{Arn, Endpoint, Engine, Host},
};

/// One address that accepts logins. Facts that AWS did not report, or refused, are `None`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// The service.
    pub kind: Service,
    /// The identifier of the instance, cluster, custom endpoint, proxy or proxy endpoint.
    pub id: String,
    /// Its ARN.
    pub arn: Option<String>,
    /// The resource id for `rds-db:connect`: `db-…`, `cluster-…` or `prx-…`.
    pub resource_id: Option<String>,
    /// The status, normally `available`.
    pub status: String,
    /// The engine as RDS names it, such as `postgres` or `aurora-mysql`; for a proxy its family, in lower case.
    pub engine: String,
    /// The engine's version; `None` for a proxy.
    pub version: Option<String>,
    /// The host name; `None` while the database is being created.
    pub host: Option<String>,
    /// The port.
    pub port: Option<u16>,
    /// Whether IAM database authentication is on; for a proxy, whether it accepts IAM logins.
    pub iam: Option<bool>,
    /// The identifier of the certificate authority; `None` for a proxy, whose certificates are public.
    pub ca: Option<String>,
    /// The VPC.
    pub vpc: Option<String>,
    /// Its security groups; for a cluster, those of its members.
    #[serde(default)]
    pub security_groups: Vec<String>,
    /// The cluster or proxy that it belongs to.
    pub parent: Option<String>,
    /// The database user of a proxy that has exactly one.
    pub user: Option<String>,
}

impl Database {
    /// Its protocol; `None` for an unsupported engine.
    pub fn protocol(&self) -> Option<Engine> {
        self.engine.parse().ok()
    }

    /// The address with its port; `None` while there is none, or for an unsupported engine.
    pub fn endpoint(&self) -> Option<Endpoint> {
        let host: Host = self.host.as_deref()?.parse().ok()?;
        Some(Endpoint { host, port: self.port.or_else(|| self.protocol()?.default_port())? })
    }
}

/// The result of a search, and the parts that failed.
#[derive(Debug, Clone, Default)]
pub struct Databases {
    /// The databases, sorted by name.
    pub found: Vec<Database>,
    /// The calls that failed. Their facts are missing.
    pub gaps: Vec<Error>,
}

/// The replies of the calls.
#[derive(Debug, Default)]
struct Described {
    instances: Vec<DbInstance>,
    clusters: Vec<DbCluster>,
    endpoints: Vec<DbClusterEndpoint>,
    proxies: Vec<DbProxy>,
    proxy_endpoints: Vec<DbProxyEndpoint>,
    dsql: Vec<Database>,
    gaps: Vec<Error>,
}

impl Described {
    fn join(self) -> Databases {
        let mut found: Vec<Database> = self.instances.iter().map(|instance| self.instance(instance)).collect();
        found.extend(self.clusters.iter().flat_map(|cluster| self.cluster(cluster)));
        found.extend(self.endpoints.iter().filter_map(|endpoint| self.custom(endpoint)));
        found.extend(self.proxies.iter().map(proxy));
        found.extend(self.proxy_endpoints.iter().map(|endpoint| self.proxy_endpoint(endpoint)));
        found.extend(self.dsql);
        found.sort_by(|a, b| (&a.id, a.kind, &a.host).cmp(&(&b.id, b.kind, &b.host)));
        found.dedup();
        Databases { found, gaps: self.gaps }
    }

    fn instance(&self, instance: &DbInstance) -> Database {
        let cluster = instance.db_cluster_identifier.as_deref().and_then(|id| self.cluster_called(id));
        let endpoint = instance.endpoint.as_ref();
        Database {
            kind: Service::Instance,
            id: instance.db_instance_identifier.clone().unwrap_or_default(),
            arn: instance.db_instance_arn.clone(),
            resource_id: match instance.db_cluster_identifier {
                Some(_) => cluster.and_then(|cluster| cluster.db_cluster_resource_id.clone()),
                None => instance.dbi_resource_id.clone(),
            },
            status: instance.db_instance_status.clone().unwrap_or_default(),
            engine: instance.engine.clone().unwrap_or_default(),
            version: instance.engine_version.clone(),
            host: endpoint.and_then(|endpoint| endpoint.address.clone()),
            port: endpoint.and_then(|endpoint| port(endpoint.port)),
            // A member of a cluster repeats the facts of the cluster.
            iam: instance.iam_database_authentication_enabled,
            ca: instance.ca_certificate_identifier.clone(),
            vpc: instance.db_subnet_group.as_ref().and_then(|group| group.vpc_id.clone()),
            security_groups: groups(instance.vpc_security_groups.as_deref()),
            parent: instance.db_cluster_identifier.clone(),
            user: None,
        }
    }

    /// The writer and reader addresses, and custom ones, of which only the name is known.
    fn cluster(&self, cluster: &DbCluster) -> Vec<Database> {
        let member = self.member_of(cluster.db_cluster_identifier.as_deref());
        let base = Database {
            kind: Service::Writer,
            id: cluster.db_cluster_identifier.clone().unwrap_or_default(),
            arn: cluster.db_cluster_arn.clone(),
            resource_id: cluster.db_cluster_resource_id.clone(),
            status: cluster.status.clone().unwrap_or_default(),
            engine: cluster.engine.clone().unwrap_or_default(),
            version: cluster.engine_version.clone(),
            host: cluster.endpoint.clone(),
            port: port(cluster.port),
            iam: cluster.iam_database_authentication_enabled,
            ca: cluster
                .certificate_details
                .as_ref()
                .and_then(|details| details.ca_identifier.clone())
                .or_else(|| member?.ca_certificate_identifier.clone()),
            vpc: member.and_then(|member| member.db_subnet_group.as_ref()?.vpc_id.clone()),
            security_groups: groups(cluster.vpc_security_groups.as_deref()),
            parent: None,
            user: None,
        };
        let of_host = |kind, id: &str, host: &String| Database {
            kind,
            id: id.to_owned(),
            host: Some(host.clone()),
            parent: Some(base.id.clone()),
            ..base.clone()
        };
        let readers = cluster.reader_endpoint.iter().map(|host| of_host(Service::Reader, &base.id, host));
        let described = |host: &&String| self.endpoints.iter().any(|endpoint| endpoint.endpoint.as_ref() == Some(host));
        let custom = cluster.custom_endpoints.iter().flatten().filter(|host| !described(host));
        let custom = custom.map(|host| Database {
            arn: None,
            ..of_host(Service::Custom, host.split('.').next().unwrap_or(host), host)
        });
        [base.clone()].into_iter().chain(readers).chain(custom).collect()
    }

    fn custom(&self, endpoint: &DbClusterEndpoint) -> Option<Database> {
        // The list also contains the cluster's writer and reader, without an identifier.
        let id = endpoint.db_cluster_endpoint_identifier.clone()?;
        let cluster = endpoint.db_cluster_identifier.as_deref().and_then(|id| self.cluster_called(id));
        let writer = cluster.and_then(|cluster| self.cluster(cluster).into_iter().next());
        Some(Database {
            kind: Service::Custom,
            id,
            arn: endpoint.db_cluster_endpoint_arn.clone(),
            resource_id: writer.as_ref().and_then(|writer| writer.resource_id.clone()),
            status: endpoint.status.clone().unwrap_or_default(),
            engine: writer.as_ref().map(|writer| writer.engine.clone()).unwrap_or_default(),
            version: writer.as_ref().and_then(|writer| writer.version.clone()),
            host: endpoint.endpoint.clone(),
            port: writer.as_ref().and_then(|writer| writer.port),
            iam: writer.as_ref().and_then(|writer| writer.iam),
            ca: writer.as_ref().and_then(|writer| writer.ca.clone()),
            vpc: writer.as_ref().and_then(|writer| writer.vpc.clone()),
            security_groups: writer.map(|writer| writer.security_groups).unwrap_or_default(),
            parent: endpoint.db_cluster_identifier.clone(),
            user: None,
        })
    }

    fn proxy_endpoint(&self, endpoint: &DbProxyEndpoint) -> Database {
        let of = |found: &&DbProxy| found.db_proxy_name == endpoint.db_proxy_name;
        let parent = self.proxies.iter().find(of).map(proxy);
        Database {
            kind: Service::ProxyEndpoint,
            id: endpoint.db_proxy_endpoint_name.clone().unwrap_or_default(),
            arn: endpoint.db_proxy_endpoint_arn.clone(),
            resource_id: parent.as_ref().and_then(|proxy| proxy.resource_id.clone()),
            status: endpoint.status.as_ref().map(|status| status.as_str().to_owned()).unwrap_or_default(),
            engine: parent.as_ref().map(|proxy| proxy.engine.clone()).unwrap_or_default(),
            version: None,
            host: endpoint.endpoint.clone(),
            port: parent.as_ref().and_then(|proxy| proxy.port),
            iam: parent.as_ref().and_then(|proxy| proxy.iam),
            ca: None,
            vpc: endpoint.vpc_id.clone(),
            security_groups: endpoint.vpc_security_group_ids.clone().unwrap_or_default(),
            parent: endpoint.db_proxy_name.clone(),
            user: parent.and_then(|proxy| proxy.user),
        }
    }

    fn cluster_called(&self, id: &str) -> Option<&DbCluster> {
        self.clusters.iter().find(|cluster| cluster.db_cluster_identifier.as_deref() == Some(id))
    }

    fn member_of(&self, cluster: Option<&str>) -> Option<&DbInstance> {
        self.instances.iter().find(|instance| cluster.is_some() && instance.db_cluster_identifier.as_deref() == cluster)
    }
}

fn proxy(proxy: &DbProxy) -> Database {
    let auth = proxy.auth.as_deref().unwrap_or_default();
    let by_secret = auth.iter().any(|auth| auth.iam_auth.as_ref().is_some_and(|mode| *mode != IamAuthMode::Disabled));
    let users: Vec<&String> = auth.iter().filter_map(|auth| auth.user_name.as_ref()).collect();
    let engine = proxy.engine_family.as_deref().unwrap_or_default().to_ascii_lowercase();
    Database {
        kind: Service::Proxy,
        id: proxy.db_proxy_name.clone().unwrap_or_default(),
        // The name is chosen by the user and may be reused; the ARN ends with the resource id.
        resource_id: proxy.db_proxy_arn.as_deref().and_then(|arn| Some(arn.parse::<Arn>().ok()?.name().to_owned())),
        arn: proxy.db_proxy_arn.clone(),
        status: proxy.status.as_ref().map(|status| status.as_str().to_owned()).unwrap_or_default(),
        version: None,
        host: proxy.endpoint.clone(),
        // A proxy listens on its engine's default port ("RDS Proxy", limits), which RDS does not report.
        port: engine.parse::<Engine>().ok().and_then(Engine::default_port),
        engine,
        iam: Some(by_secret || proxy.default_auth_scheme.as_deref() == Some("IAM_AUTH")),
        ca: None,
        vpc: proxy.vpc_id.clone(),
        security_groups: proxy.vpc_security_group_ids.clone().unwrap_or_default(),
        parent: None,
        user: match users.as_slice() {
            [user] if auth.len() == 1 => Some((*user).clone()),
            _ => None,
        },
    }
}

fn groups(memberships: Option<&[VpcSecurityGroupMembership]>) -> Vec<String> {
    memberships.unwrap_or_default().iter().filter_map(|group| group.vpc_security_group_id.clone()).collect()
}

fn port(port: Option<i32>) -> Option<u16> {
    port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0)
}
