//! `rdsgate ls`: the databases of an account and region, and the managed nodes beside them.

use std::{collections::BTreeSet, fmt::Write as _, sync::Arc};

use clap::{ArgMatches, Args, Command, FromArgMatches};
use safe_display::printable;
use serde_json::{Value, json};

use super::{caller::Caller, complete::exit_of, exit::Exit, flags::Flags, output::Output, trust};
use crate::{
    app::Cause,
    aws::{
        self, Account, Accounts, Options,
        nodes::{Node, NodeKind, Nodes},
        rds::{Database, Databases},
    },
    config::{self, Key, Place, options::Group},
};

/// List the databases of an account and region, and the managed nodes in their VPCs
///
/// Databases of engines that rdsgate does not speak are left out; a line on stderr says which engines those are.
#[derive(Debug, Args)]
#[command(after_help = EPILOG)]
pub struct Arguments {
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    account: AccountArguments,
}

/// The options that say who we are for AWS, and where.
#[derive(Debug)]
struct AccountArguments(Flags);

impl AccountArguments {
    fn keys() -> impl Iterator<Item = Key> + Clone {
        Key::flags().filter(|key| key.entry().group == Group::Identity)
    }
}

impl Args for AccountArguments {
    fn augment_args(command: Command) -> Command {
        Flags::augment(command, Self::keys())
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for AccountArguments {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(Flags::read(matches, Self::keys())))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

pub(super) const EPILOG: &str = "\
IAM says whether IAM authentication is on; NODES are the managed nodes and ECS
tasks that are online in the database's VPC. A \"?\" is what AWS did not say: a
warning names the permission that is missing.

Examples:
  rdsgate ls --profile dev --region eu-central-1
  rdsgate ls --role-arn arn:aws:iam::123456789012:role/reader
  rdsgate ls --json | jq -r '.databases[].host'
";

/// Runs the subcommand to its end.
pub fn run(arguments: Arguments, output: &mut Output) -> Exit {
    match listed(arguments, output) {
        Ok(()) => Exit::Success,
        Err(exit) => exit,
    }
}

fn listed(arguments: Arguments, output: &mut Output) -> Result<(), Exit> {
    let json = arguments.json;
    let (options, caller) = options(arguments, output)?;
    let mut parts = caller.into_parts(output)?;
    let accounts = Arc::clone(&parts.accounts);
    let seen = parts.block_on(output, look(&options, &accounts));
    parts.end();
    let Seen { databases, nodes, tasks } = seen.map_err(|error| {
        output.error(&error, error.hint().as_deref());
        exit_of(&error)
    })?;
    for gap in databases.gaps.iter().chain(&nodes.gaps).chain(&tasks.gaps) {
        output.warning(&format!("{gap}; the output is incomplete"), None);
    }
    let (spoken, other): (Vec<_>, Vec<_>) =
        databases.found.into_iter().partition(|database| database.protocol().is_some());
    if !other.is_empty() {
        let engines: BTreeSet<&str> = other.iter().map(|database| database.engine.as_str()).collect();
        let engines = engines.into_iter().collect::<Vec<_>>().join(", ");
        output.note(&format!("left out: {} of other engines ({engines})", other.len()));
    }
    let online: Vec<Node> = nodes.found.into_iter().chain(tasks.found).filter(|node| node.online).collect();
    if json {
        output.json(&in_json(&options, &spoken, &online));
        return Ok(());
    }
    if spoken.is_empty() {
        output.note(&format!("no databases in {}", options.region));
        return Ok(());
    }
    output.data(&table(&spoken, &online));
    Ok(())
}

fn options(arguments: Arguments, output: &mut Output) -> Result<(Options, Caller), Exit> {
    let request = arguments.account.0.request(Vec::new());
    let place = trust::with_consent(
        output,
        |environment, _| config::place(&request, environment),
        |place: &Place| place.consent.as_ref(),
    );
    let Place { identity, region, mfa_code, open_browser, warnings, consent: _ } = place.map_err(|error| {
        output.error(&error, error.hint().as_deref());
        Exit::Usage
    })?;
    output.warnings(&warnings);
    let of_profile = match region {
        Some(region) => Ok(Some(region)),
        None => Account::region_of_profile(identity.profile.as_deref()),
    };
    let region = of_profile.map_err(|error| {
        output.error(&error, error.hint().as_deref());
        Exit::from(Cause::from(&error))
    })?;
    let Some(region) = region else {
        output.problem("the region is unknown", Some("set --region, AWS_REGION or the profile's region"));
        return Err(Exit::Usage);
    };
    Ok((Options { identity, region }, Caller::new(mfa_code, open_browser)))
}

/// The databases and nodes that AWS lists.
struct Seen {
    databases: Databases,
    nodes: Nodes,
    tasks: Nodes,
}

/// Databases must be seen; nodes are good to have.
async fn look(options: &Options, accounts: &Accounts) -> Result<Seen, aws::Error> {
    let account = accounts.load(options)?;
    account.credentials_for_client().await?;
    let (databases, nodes, tasks) = tokio::join!(account.databases(), account.managed_nodes(), account.ecs_tasks());
    let nodes = nodes.unwrap_or_else(|error| Nodes { gaps: vec![error], ..Nodes::default() });
    Ok(Seen { databases: databases?, nodes, tasks })
}

const UNKNOWN: &str = "?";

/// Columns as wide as what stands in them, two spaces apart; the endpoint, which is long, in a line of its own below.
fn table(databases: &[Database], nodes: &[Node]) -> String {
    let mut rows = vec![["NAME", "KIND", "ENGINE", "IAM", "CA", "VPC", "NODES"].map(str::to_owned)];
    for database in databases {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| UNKNOWN.into());
        let version = database.version.as_deref().map(|version| format!(" {version}")).unwrap_or_default();
        let status = if is_available(database) { String::new() } else { format!(" ({})", database.status) };
        rows.push(
            [
                database.id.clone(),
                format!("{}{status}", database.kind),
                format!("{}{version}", database.engine),
                database.iam.map_or(UNKNOWN, |on| if on { "on" } else { "off" }).to_owned(),
                // A proxy's certificate is one of the public authorities'.
                if database.ca.is_none() && is_proxy(database) { "public".into() } else { text(&database.ca) },
                text(&database.vpc),
                beside(database, nodes),
            ]
            .map(|cell| printable::line(&cell).into_owned()),
        );
    }
    let mut widths = [0; 7];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for (row, database) in rows.iter().zip([None].into_iter().chain(databases.iter().map(Some))) {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
        if let Some(endpoint) = database.and_then(Database::endpoint) {
            let _ = writeln!(text, "  {}", printable::line(&endpoint.to_string()));
        }
    }
    text
}

fn is_proxy(database: &Database) -> bool {
    database.kind.is_proxy()
}

fn is_available(database: &Database) -> bool {
    database.status == "available" || database.status.is_empty()
}

/// The nodes in the database's VPC, two of them by id.
fn beside(database: &Database, nodes: &[Node]) -> String {
    let Some(vpc) = &database.vpc else { return UNKNOWN.into() };
    let here: Vec<&Node> = nodes.iter().filter(|node| node.vpc.as_ref() == Some(vpc)).collect();
    match here.as_slice() {
        [] if nodes.iter().any(|node| node.vpc.is_none()) => UNKNOWN.into(),
        [] => "none".into(),
        [first] => shown(first).into(),
        [first, rest @ ..] => format!("{} +{}", shown(first), rest.len()),
    }
}

/// A task's id has a hundred characters; its name says as much.
fn shown(node: &Node) -> &str {
    match (node.kind, &node.name) {
        (NodeKind::EcsTask, Some(name)) => name,
        _ => &node.id,
    }
}

/// The keys are stable: further ones may come, none goes or changes its meaning. docs/discovery.md lists them.
fn in_json(options: &Options, databases: &[Database], nodes: &[Node]) -> Value {
    let node = |node: &Node| {
        json!({
            "id": node.id, "kind": node.kind, "name": node.name, "agent_version": node.agent, "platform": node.platform,
            "vpc": node.vpc,
        })
    };
    let database = |database: &Database| {
        let here = |node: &&Node| database.vpc.is_some() && node.vpc == database.vpc;
        json!({
            "id": database.id, "kind": database.kind.name(), "arn": database.arn, "resource_id": database.resource_id,
            "status": database.status, "engine": database.engine, "version": database.version,
            "protocol": database.protocol().map(|engine| engine.to_string()),
            "host": database.host, "port": database.port, "iam": database.iam, "ca": database.ca, "vpc": database.vpc,
            "parent": database.parent,
            "nodes": nodes.iter().filter(here).map(|node| node.id.as_str()).collect::<Vec<_>>(),
        })
    };
    json!({
        "region": options.region.as_str(),
        "databases": databases.iter().map(database).collect::<Vec<_>>(),
        "nodes": nodes.iter().map(node).collect::<Vec<_>>(),
    })
}
