//! Discovery: finds the endpoint behind the name of a database, and the managed nodes beside a database.
//!
//! ```text
//!   alias of the user  ─▶ cname (DNS) ─▶ RDS name ─┐
//!   identifier, ARN ───────────────────────────────┼─▶ RDS Describe… ─▶ Database ─▶ its VPC ─▶ nodes online there
//!                                                  └── cache: an hour, in memory and in a file
//! ```
//!
//! - `cname`: the RDS name behind an alias, with `dns` for the messages; `alias` follows one while it is served;
//! - `cache`: keeps results, for this process and for later ones.
//!
//! This module finds candidates. It does not choose between them, ask the user, or know the configuration. A database with a
//! complete configuration needs nothing from here.

mod alias;
mod cache;
mod cname;
mod dns;
#[cfg(any(test, feature = "testing"))]
pub mod invariants;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tracing::debug;

use crate::{
    aws::{
        self, Account, Accounts,
        nodes::{Node, NodeKind},
        rds::Database,
    },
    target::{Host, Reference, Region},
};
pub use alias::{Alias, AliasError};
use cache::Cache;

/// The time for which facts about a database are cached. Endpoints do not move.
const DATABASE_MAX_AGE: Duration = Duration::from_hours(1);
/// The time for which the list of nodes is cached. Nodes start and stop.
const NODES_MAX_AGE: Duration = Duration::from_mins(5);
/// The time limit for optional facts.
const OPTIONAL_FACTS_TIMEOUT: Duration = Duration::from_secs(5);

/// A lookup failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// AWS did not reply, or refused.
    #[error("cannot look up {what}")]
    Aws {
        /// The subject of the lookup.
        what: String,
        /// The cause.
        #[source]
        cause: aws::Error,
    },
    /// No database has this name.
    #[error("there is no database {reference} in {region}")]
    NotFound {
        /// The name that was looked up.
        reference: Reference,
        /// The region that was searched.
        region: Region,
        /// A call that failed, because of which the database may exist all the same.
        #[source]
        gap: Option<aws::Error>,
    },
    /// Several databases have this identifier.
    #[error("{reference} names more than one database: {}", endpoints(candidates))]
    Ambiguous {
        /// The name that was looked up.
        reference: Reference,
        /// The databases with this identifier.
        candidates: Vec<Database>,
    },
    /// The database is being created, or is of a kind without an endpoint.
    #[error("{id} has no endpoint yet: it is {status}")]
    NoEndpoint {
        /// The database's identifier.
        id: String,
        /// The status, as RDS reports it.
        status: String,
    },
    /// Not a database that can be served.
    #[error("{id} runs {engine}: rdsgate serves {}", crate::target::Engine::products())]
    Engine {
        /// The database's identifier.
        id: String,
        /// The engine, as RDS reports it.
        engine: String,
    },
}

impl Error {
    /// A way to fix it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Aws { cause, .. } | Self::NotFound { gap: Some(cause), .. } => cause.hint().or_else(|| match cause {
                aws::Error::AccessDenied { .. } => {
                    Some("give the endpoint's host name and --bastion, which need no lookup permissions".into())
                }
                _ => None,
            }),
            Self::NotFound { .. } => {
                Some("run rdsgate ls to list the databases; --profile and --region select account and region".into())
            }
            Self::Ambiguous { .. } => Some("give the endpoint's host name or the ARN".into()),
            Self::NoEndpoint { .. } => Some("wait until it is available".into()),
            Self::Engine { .. } => None,
        }
    }
}

fn endpoints(candidates: &[Database]) -> String {
    let one =
        |database: &Database| format!("{} ({})", database.host.as_deref().unwrap_or("no endpoint"), database.kind);
    candidates.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Nodes that can probably reach a database.
#[derive(Debug, Clone, Default)]
pub struct Bastions {
    /// The candidates, sorted by name.
    pub candidates: Vec<Node>,
    /// Whether they are known to be in the database's VPC.
    pub in_vpc: bool,
    /// The number of nodes that are offline, or online in another VPC.
    pub others: usize,
}

/// Looks things up, and caches the results.
pub struct Discovery {
    cache: Cache,
    nameservers: Vec<SocketAddr>,
    accounts: Arc<Accounts>,
    loaded: tokio::sync::Mutex<Vec<(aws::Options, Account)>>,
}

impl Discovery {
    /// Uses this machine's name servers and the user's cache.
    pub fn of_process(accounts: Arc<Accounts>) -> Self {
        Self::new(accounts, Cache::of_user(), cname::nameservers())
    }

    fn new(accounts: Arc<Accounts>, cache: Cache, nameservers: Vec<SocketAddr>) -> Self {
        Self { cache, nameservers, accounts, loaded: tokio::sync::Mutex::default() }
    }

    /// Obtains credentials, and prompts a person if necessary and possible. Failures are ignored here: the lookups that follow
    /// report them.
    pub async fn may_ask(&self, options: &aws::Options) {
        if let Ok(account) = self.account(options).await
            && let Err(cause) = account.credentials_for_client().await
        {
            debug!(%cause, "no credentials for lookups");
        }
    }

    /// The account for these options. Equal options share an account.
    ///
    /// # Errors
    /// As for [`Accounts::load`].
    pub async fn account(&self, options: &aws::Options) -> Result<Account, aws::Error> {
        let mut loaded = self.loaded.lock().await;
        if let Some((_, account)) = loaded.iter().find(|(known, _)| known == options) {
            return Ok(account.clone());
        }
        let account = self.accounts.load(options)?;
        loaded.push((options.clone(), account.clone()));
        Ok(account)
    }

    /// The RDS name behind an alias; `None` if there is none, or no DNS reply. Not cached, because an alias may point to another
    /// database at any time.
    pub async fn rds_name(&self, alias: &Host) -> Option<Host> {
        let found = match cname::chase(alias, &self.nameservers).await {
            Ok(found) => found.filter(Host::is_regional_endpoint)?,
            Err(cause) => {
                debug!(%alias, %cause, "no DNS reply for an alias");
                return None;
            }
        };
        debug!(%alias, %found, "an alias of an RDS endpoint");
        Some(found)
    }

    /// The database that `reference` names. It has an endpoint and a supported engine.
    ///
    /// # Errors
    /// If there is no such database.
    pub async fn database(&self, options: &aws::Options, reference: &Reference) -> Result<Database, Error> {
        let key = format!("database {options:?} {reference:?}");
        if let Some(known) = self.cache.get(&key, DATABASE_MAX_AGE) {
            return Ok(known);
        }
        let failed = |cause| Error::Aws { what: reference.to_string(), cause };
        let account = self.account(options).await.map_err(failed)?;
        let (mut found, gap) = match reference {
            Reference::Identifier(id) => {
                let databases = account.databases_called(id).await.map_err(failed)?;
                (databases.found, databases.gaps.into_iter().next())
            }
            Reference::Arn(arn) => (account.database_with_arn(arn).await.map_err(failed)?.into_iter().collect(), None),
            Reference::Host(host) => (account.database_at(host).await.map_err(failed)?.into_iter().collect(), None),
        };
        // A database that cannot be served is not a candidate beside one that can.
        if found.iter().any(|database| database.endpoint().is_some()) {
            found.retain(|database| database.endpoint().is_some());
        }
        let database = match found.as_slice() {
            [] => {
                return Err(Error::NotFound { reference: reference.clone(), region: options.region.clone(), gap });
            }
            [database] => database.clone(),
            _ => return Err(Error::Ambiguous { reference: reference.clone(), candidates: found }),
        };
        if database.protocol().is_none() {
            return Err(Error::Engine { id: database.id, engine: database.engine });
        }
        if database.endpoint().is_none() {
            return Err(Error::NoEndpoint { id: database.id, status: database.status });
        }
        self.cache.put(&key, &database);
        Ok(database)
    }

    /// [`Discovery::database`] for optional facts: `None` if it fails or takes long.
    pub async fn database_if_known(&self, options: &aws::Options, reference: &Reference) -> Option<Database> {
        match tokio::time::timeout(OPTIONAL_FACTS_TIMEOUT, self.database(options, reference)).await {
            Ok(Ok(database)) => Some(database),
            Ok(Err(cause)) => {
                debug!(%reference, %cause, source = cause.source_text(), "continuing without facts from RDS");
                None
            }
            Err(_) => {
                debug!(%reference, "no reply from RDS in time; continuing without its facts");
                None
            }
        }
    }

    /// The nodes that could forward to a database in `vpc`: managed nodes that are online there; otherwise ECS tasks there;
    /// otherwise nodes whose VPC is unknown.
    ///
    /// # Errors
    /// If Systems Manager does not list its nodes.
    pub async fn bastions(&self, options: &aws::Options, vpc: Option<&str>) -> Result<Bastions, Error> {
        let nodes = self.nodes(options).await?;
        let beside = |nodes: &[Node]| -> Vec<Node> {
            let here = |node: &&Node| node.online && vpc.is_some() && node.vpc.as_deref() == vpc;
            nodes.iter().filter(here).cloned().collect()
        };
        let candidates = beside(&nodes);
        if !candidates.is_empty() {
            return Ok(Bastions { others: nodes.len() - candidates.len(), candidates, in_vpc: true });
        }
        let tasks = self.tasks(options).await?;
        let candidates = beside(&tasks);
        let all = nodes.len() + tasks.len();
        if !candidates.is_empty() {
            return Ok(Bastions { others: all - candidates.len(), candidates, in_vpc: true });
        }
        // A machine elsewhere may have a route to the VPC, and without facts from EC2 any node may be in it.
        let unplaced = |node: &Node| node.online && (vpc.is_none() || node.vpc.is_none());
        let mut candidates: Vec<Node> = nodes.into_iter().filter(&unplaced).collect();
        if candidates.is_empty() {
            candidates = tasks.into_iter().filter(&unplaced).collect();
        }
        Ok(Bastions { others: all - candidates.len(), candidates, in_vpc: false })
    }

    async fn nodes(&self, options: &aws::Options) -> Result<Vec<Node>, Error> {
        let key = format!("nodes {options:?}");
        if let Some(known) = self.cache.get(&key, NODES_MAX_AGE) {
            return Ok(known);
        }
        let failed = |cause| Error::Aws { what: "the managed nodes".into(), cause };
        let account = self.account(options).await.map_err(failed)?;
        let nodes = account.managed_nodes().await.map_err(failed)?;
        note(&nodes.gaps);
        // An incomplete list is not cached, because the missing part may become visible, nor one without a node that is online.
        if nodes.gaps.is_empty() && nodes.found.iter().any(|node| node.online) {
            self.cache.put(&key, &nodes.found);
        }
        Ok(nodes.found)
    }

    async fn tasks(&self, options: &aws::Options) -> Result<Vec<Node>, Error> {
        let key = format!("tasks {options:?}");
        if let Some(known) = self.cache.get(&key, NODES_MAX_AGE) {
            return Ok(known);
        }
        let failed = |cause| Error::Aws { what: "the ECS tasks".into(), cause };
        let account = self.account(options).await.map_err(failed)?;
        let tasks = account.ecs_tasks().await;
        note(&tasks.gaps);
        if tasks.gaps.is_empty() {
            self.cache.put(&key, &tasks.found);
        }
        Ok(tasks.found)
    }
}

impl Error {
    fn source_text(&self) -> Option<String> {
        std::error::Error::source(self).map(ToString::to_string)
    }
}

fn note(gaps: &[aws::Error]) {
    for cause in gaps {
        debug!(%cause, "a lookup failed; its facts are unknown");
    }
}

/// A node as a line of a list: `i-0123456789abcdef0  bastion  (agent 3.3.987.0, vpc-1)`.
pub fn describe(node: &Node) -> String {
    let name = node.name.as_deref().map(|name| format!("  {name}")).unwrap_or_default();
    let agent = node.agent.as_deref().map(|agent| format!("agent {agent}"));
    let kind = match node.kind {
        NodeKind::Ec2 => None,
        NodeKind::Hybrid => Some("hybrid".to_owned()),
        NodeKind::EcsTask => Some("ECS task".to_owned()),
    };
    let facts: Vec<String> = [kind, agent, node.vpc.clone()].into_iter().flatten().collect();
    if facts.is_empty() { format!("{}{name}", node.id) } else { format!("{}{name}  ({})", node.id, facts.join(", ")) }
}

#[cfg(test)]
mod tests;
