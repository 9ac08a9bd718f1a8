//! The kind of AWS endpoint of a database, and all that depends on the kind: the forms of its names, the login token, the IAM
//! permission, the API that describes it, the roots of its certificate.
//!
//! | question | answer |
//! | --- | --- |
//! | which service does this host name belong to, in which region? | [`Name::parse`], a table of forms |
//! | what is signed for a login? | [`Service::token`] |
//! | what must the IAM policy allow? | [`Service::permission`] |
//! | which Describe call lists it? | [`Service::describe`] |
//! | which roots may sign its certificate? | [`Name::anchors`], [`Region::root_bundle`] |
//!
//! A new service is a variant of [`Service`], its rows in `name`, and an arm in each match here; the compiler lists the
//! rest. This module opens no socket and makes no call.

mod anchors;
mod name;
mod partition;
mod permission;
mod region;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::{
    anchors::{Anchors, RootBundle},
    name::Name,
    partition::Partition,
    permission::{DatabaseUser, Permission},
    region::{InvalidRegion, Region},
};

/// The kind of AWS endpoint that a name leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// One database instance.
    Instance,
    /// The writer of a cluster, in Aurora or Multi-AZ.
    Writer,
    /// Any reader of a cluster.
    Reader,
    /// The members of a custom endpoint of a cluster.
    Custom,
    /// An RDS Proxy.
    Proxy,
    /// An additional endpoint of an RDS Proxy.
    ProxyEndpoint,
    /// The routers of a shard group, in Aurora Limitless.
    ShardGroup,
    /// The writer of an Aurora global database, in any region.
    GlobalWriter,
    /// A cluster of Aurora DSQL, which speaks PostgreSQL's protocol.
    Dsql,
}

/// The permissions to list databases, of every service.
pub const LOOKUP_ACTIONS: &[&str] = &[
    "rds:DescribeDBInstances",
    "rds:DescribeDBClusters",
    "rds:DescribeDBClusterEndpoints",
    "rds:DescribeDBProxies",
    "rds:DescribeDBProxyEndpoints",
    "dsql:ListClusters",
    "dsql:GetCluster",
];

/// The request that a login token is a presigned form of: `GET /?Action=ACTION&USER=…`, or without a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenRequest {
    /// The name of the service in the signature.
    pub signing_name: &'static str,
    /// The value of the parameter `Action`.
    pub action: &'static str,
    /// The parameter that holds the database user, if the token names one.
    pub user_parameter: Option<&'static str>,
    /// Whether the host is signed with its port.
    pub has_port: bool,
}

/// The call that lists an endpoint: of RDS, or of the service that is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Describe {
    /// DescribeDBInstances.
    Instances,
    /// DescribeDBClusters.
    Clusters,
    /// DescribeDBClusterEndpoints.
    ClusterEndpoints,
    /// DescribeDBProxies.
    Proxies,
    /// DescribeDBProxyEndpoints.
    ProxyEndpoints,
    /// ListClusters and GetCluster of Aurora DSQL.
    DsqlClusters,
}

/// The way in which a database ties its users to IAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserMapping {
    /// The user says so itself: a member of rds_iam, or one of AWSAuthenticationPlugin.
    OfUser,
    /// A statement maps IAM roles to the user: `AWS IAM GRANT` of Aurora DSQL.
    ByGrant,
}

/// The user of Aurora DSQL that every cluster has, with an IAM action of its own.
const DSQL_ADMIN: &str = "admin";

impl Service {
    /// The service and the name in an ARN, from the ARN's third field and from those after the account; a cluster's ARN leads
    /// to its writer ("Amazon Resource Names in Amazon RDS"; "Resource types defined by Amazon Aurora DSQL").
    pub fn of_arn<'a>(service: &str, resource: &[&'a str]) -> Option<(Self, &'a str)> {
        Some(match (service, resource) {
            ("rds", ["db", name]) => (Self::Instance, name),
            ("rds", ["cluster", name]) => (Self::Writer, name),
            ("rds", ["cluster-endpoint", name]) => (Self::Custom, name),
            ("rds", ["db-proxy", name]) => (Self::Proxy, name),
            ("rds", ["db-proxy-endpoint", name]) => (Self::ProxyEndpoint, name),
            ("dsql", [resource]) => (Self::Dsql, resource.strip_prefix("cluster/")?),
            _ => return None,
        })
    }

    /// The name in tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Instance => "instance",
            Self::Writer => "writer",
            Self::Reader => "reader",
            Self::Custom => "custom",
            Self::Proxy => "proxy",
            Self::ProxyEndpoint => "proxy-endpoint",
            Self::ShardGroup => "shard-group",
            Self::GlobalWriter => "global-writer",
            Self::Dsql => "dsql",
        }
    }

    /// The name in a sentence, with its article.
    pub fn description(self) -> &'static str {
        match self {
            Self::Instance => "an instance",
            Self::Writer => "a cluster's writer",
            Self::Reader => "an Aurora cluster's readers",
            Self::Custom => "a custom endpoint of an Aurora cluster",
            Self::Proxy => "an RDS Proxy",
            Self::ProxyEndpoint => "an additional endpoint of an RDS Proxy",
            Self::ShardGroup => "a shard group of Aurora Limitless",
            Self::GlobalWriter => "the writer of an Aurora global database",
            Self::Dsql => "a cluster of Aurora DSQL",
        }
    }

    /// The product of AWS that describes it.
    pub fn product(self) -> &'static str {
        if self == Self::Dsql { "Aurora DSQL" } else { "RDS" }
    }

    /// Whether the name moves from one instance to another.
    pub fn moves(self) -> bool {
        match self {
            Self::Instance | Self::Proxy | Self::ProxyEndpoint | Self::Dsql => false,
            Self::Writer | Self::Reader | Self::Custom | Self::ShardGroup | Self::GlobalWriter => true,
        }
    }

    /// Whether the name leads to the one instance that accepts writes.
    pub fn is_writer(self) -> bool {
        matches!(self, Self::Writer | Self::GlobalWriter)
    }

    /// Whether an RDS Proxy answers, which logs in to the database by itself.
    pub fn is_proxy(self) -> bool {
        matches!(self, Self::Proxy | Self::ProxyEndpoint)
    }

    /// Whether public authorities sign its certificate, so that AWS names none for it.
    pub fn has_public_certificate(self) -> bool {
        self.is_proxy() || self == Self::Dsql
    }

    /// The port, where the service has a fixed one.
    pub fn port(self) -> Option<u16> {
        // "Accessing Aurora DSQL with PostgreSQL-compatible clients".
        (self == Self::Dsql).then_some(5432)
    }

    /// The resource id for the permission of a login, where the name of the endpoint contains it.
    pub fn resource_id_of(self, host: &str) -> Option<&str> {
        (self == Self::Dsql).then(|| host.split('.').next())?
    }

    /// The reason why the rights of a database user are not looked up after a login; `None` where they are.
    pub fn unchecked_user(self) -> Option<&'static str> {
        match self {
            // "RDS Proxy", IAM authentication: the proxy has its own login to the database.
            Self::Proxy | Self::ProxyEndpoint => {
                Some("not needed: the RDS Proxy takes the token, and logs in to the database by itself")
            }
            // "Using database roles and IAM authentication": there is no other login.
            Self::Dsql => Some("not needed: Aurora DSQL lets in only who has the role by AWS IAM GRANT, or is admin"),
            Self::Instance | Self::Writer | Self::Reader | Self::Custom | Self::ShardGroup | Self::GlobalWriter => None,
        }
    }

    /// The way in which its users are tied to IAM ("Using database roles and IAM authentication").
    pub fn user_mapping(self) -> UserMapping {
        if self == Self::Dsql { UserMapping::ByGrant } else { UserMapping::OfUser }
    }

    /// The place to look at instead, for a service without a log of refused IAM logins; `None` where there is one.
    pub fn without_auth_log(self) -> Option<&'static str> {
        match self {
            Self::Proxy | Self::ProxyEndpoint => {
                Some("an RDS Proxy has no such log; see /aws/rds/proxy in CloudWatch Logs")
            }
            Self::Dsql => Some("Aurora DSQL has no such log; see DbConnect and DbConnectAdmin in CloudTrail"),
            Self::Instance | Self::Writer | Self::Reader | Self::Custom | Self::ShardGroup | Self::GlobalWriter => None,
        }
    }

    /// The request that is signed for a login as `user` ("Connecting to your DB instance using IAM authentication";
    /// "Generating an authentication token in Amazon Aurora DSQL").
    pub fn token(self, user: &str) -> TokenRequest {
        match self {
            Self::Instance
            | Self::Writer
            | Self::Reader
            | Self::Custom
            | Self::Proxy
            | Self::ProxyEndpoint
            | Self::ShardGroup
            | Self::GlobalWriter => TokenRequest {
                signing_name: "rds-db",
                action: "connect",
                user_parameter: Some("DBUser"),
                has_port: true,
            },
            Self::Dsql => TokenRequest {
                signing_name: "dsql",
                action: if user == DSQL_ADMIN { "DbConnectAdmin" } else { "DbConnect" },
                user_parameter: None,
                has_port: false,
            },
        }
    }

    /// The permission that the IAM policy must grant for a login as `user` ("Creating and using an IAM policy for IAM database access").
    pub fn permission(self, region: &Region, user: DatabaseUser<'_>) -> Permission {
        let DatabaseUser { account, resource_id, name } = user;
        match self {
            Self::Instance
            | Self::Writer
            | Self::Reader
            | Self::Custom
            | Self::Proxy
            | Self::ProxyEndpoint
            | Self::ShardGroup
            | Self::GlobalWriter => Permission {
                action: "rds-db:connect",
                resource: format!(
                    "arn:{}:rds-db:{region}:{}:dbuser:{}/{name}",
                    region.partition().name(),
                    account.unwrap_or("<account>"),
                    resource_id.unwrap_or("<DbiResourceId>"),
                ),
            },
            Self::Dsql => Permission {
                action: if name == DSQL_ADMIN { "dsql:DbConnectAdmin" } else { "dsql:DbConnect" },
                resource: format!(
                    "arn:{}:dsql:{region}:{}:cluster/{}",
                    region.partition().name(),
                    account.unwrap_or("<account>"),
                    resource_id.unwrap_or("<cluster>"),
                ),
            },
        }
    }

    /// The call that lists the endpoint. No call lists a shard group or a global database by its host name; both are
    /// looked up as instances, without a result.
    pub fn describe(self) -> Describe {
        match self {
            Self::Instance | Self::ShardGroup | Self::GlobalWriter => Describe::Instances,
            Self::Writer | Self::Reader => Describe::Clusters,
            Self::Custom => Describe::ClusterEndpoints,
            Self::Proxy => Describe::Proxies,
            Self::ProxyEndpoint => Describe::ProxyEndpoints,
            Self::Dsql => Describe::DsqlClusters,
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permission_names_account_resource_and_user() {
        for (region, account, resource_id, resource) in [
            (
                "eu-central-1",
                Some("123456789012"),
                Some("db-ABC"),
                "arn:aws:rds-db:eu-central-1:123456789012:dbuser:db-ABC/u",
            ),
            ("cn-north-1", None, None, "arn:aws-cn:rds-db:cn-north-1:<account>:dbuser:<DbiResourceId>/u"),
        ] {
            let user = DatabaseUser { account, resource_id, name: "u" };
            let permission = Service::Instance.permission(&region.parse().unwrap(), user);
            assert_eq!(permission.to_string(), format!("rds-db:connect on {resource}"));
        }
    }

    #[test]
    fn admin_of_dsql_has_an_action_of_its_own() {
        let region = "eu-central-1".parse().unwrap();
        for (name, action) in [("admin", "DbConnectAdmin"), ("app", "DbConnect"), ("Admin", "DbConnect")] {
            let user = DatabaseUser { account: Some("123456789012"), resource_id: Some("abc"), name };
            let permission = Service::Dsql.permission(&region, user);
            let resource = "arn:aws:dsql:eu-central-1:123456789012:cluster/abc";
            assert_eq!(permission.to_string(), format!("dsql:{action} on {resource}"));
            assert_eq!(Service::Dsql.token(name).action, action);
        }
        assert_eq!(Service::Dsql.resource_id_of("abc.dsql-fnh4.us-east-1.on.aws"), Some("abc"));
        assert_eq!(Service::Instance.resource_id_of("abc.c1.us-east-1.rds.amazonaws.com"), None);
    }

    #[test]
    fn names_are_those_of_the_serialized_form() {
        for service in [
            Service::Instance,
            Service::Writer,
            Service::Reader,
            Service::Custom,
            Service::Proxy,
            Service::ProxyEndpoint,
            Service::ShardGroup,
            Service::GlobalWriter,
            Service::Dsql,
        ] {
            assert_eq!(serde_json::to_value(service).unwrap(), service.name());
        }
    }
}
