//! The databases that RDS describes.

/// A database as the Describe calls show it.
#[derive(Debug, Clone)]
pub struct Database {
    /// The endpoint's host name, whose first label is the identifier. The second label says what it is: `cluster-…` a
    /// cluster, `cluster-custom-…` a custom endpoint, `proxy-…` a proxy, `endpoint` a proxy's endpoint, `dsql` a cluster of Aurora DSQL, anything else an
    /// instance.
    pub host: String,
    /// The endpoint's port. A proxy does not say its own.
    pub port: u16,
    /// `postgres`, `aurora-postgresql`, …; for a proxy its family, `POSTGRESQL` or `MYSQL`.
    pub engine: String,
    /// Whether IAM database authentication is on.
    pub iam: bool,
    /// The engine's version.
    pub version: String,
    /// The VPC it is in; of a cluster, that of its members.
    pub vpc: String,
    /// The cluster of an instance or custom endpoint, the proxy of a proxy's endpoint.
    pub parent: Option<String>,
    /// `available`, `creating`, …
    pub status: String,
    /// Its security groups.
    pub groups: Vec<String>,
    /// The name of the secret with the master user's password, if RDS manages it.
    pub master_secret: Option<String>,
    /// The authority behind its certificate; a cluster and a proxy do not say it.
    pub ca: String,
}

/// The kinds of endpoint, each with a call of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Instance,
    Cluster,
    ClusterEndpoint,
    Proxy,
    ProxyEndpoint,
    /// Of Aurora DSQL.
    DsqlCluster,
}

impl Database {
    /// An available database with IAM authentication.
    pub fn new(host: &str, port: u16, engine: &str) -> Self {
        Self {
            host: host.into(),
            port,
            engine: engine.into(),
            iam: true,
            version: "15.8".into(),
            vpc: "vpc-0a1b2c3d4e5f60718".into(),
            parent: None,
            status: "available".into(),
            groups: vec!["sg-0d0000000000da7a0".into()],
            master_secret: None,
            ca: "rds-ca-rsa2048-g1".into(),
        }
    }

    /// Makes it a part of this cluster or proxy.
    #[must_use]
    pub fn of(mut self, parent: &str) -> Self {
        self.parent = Some(parent.into());
        self
    }

    /// Puts it into this VPC.
    #[must_use]
    pub fn vpc(mut self, vpc: &str) -> Self {
        self.vpc = vpc.into();
        self
    }

    pub(super) fn identifier(&self) -> &str {
        self.host.split('.').next().unwrap_or_default()
    }

    pub(super) fn kind(&self) -> Kind {
        match self.host.split('.').nth(1).unwrap_or_default() {
            "endpoint" => Kind::ProxyEndpoint,
            "dsql" => Kind::DsqlCluster,
            label if label.starts_with("dsql-") => Kind::DsqlCluster,
            label if label.starts_with("proxy-") => Kind::Proxy,
            label if label.starts_with("cluster-custom-") => Kind::ClusterEndpoint,
            label if label.starts_with("cluster-") => Kind::Cluster,
            _ => Kind::Instance,
        }
    }

    /// Stable and shaped like the real ones: the policies for `rds-db:connect` name it.
    pub(super) fn resource_id(&self, prefix: &str) -> String {
        let tag: String = self.identifier().to_ascii_uppercase().chars().filter(char::is_ascii_alphanumeric).collect();
        format!("{prefix}-{tag:A<26.26}")
    }
}
