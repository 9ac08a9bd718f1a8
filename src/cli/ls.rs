//! `rdsgate ls`: the databases of an account and region, the managed nodes beside them, and the configured servers.

use std::{collections::BTreeSet, fmt::Write as _, sync::Arc};

use clap::Args;
use safe_display::printable;
use serde_json::{Value, json};

use super::{
    account::AccountArguments, again::again, caller::Parts, complete::exit_of, exit::Exit, output::Output,
    table::table, terminal,
};
use crate::{
    aws::{
        self, Accounts, Options,
        nodes::{Node, NodeKind, Nodes},
        rds::{Database, Databases},
    },
    config::Server,
    quote,
    service::Service,
};

/// List the databases of an account and region, and the managed nodes in their VPCs
///
/// Databases of engines that rdsgate does not speak are left out; a line on stderr says which engines those are. Targets of the
/// configuration files with the engine tcp follow, with the command that forwards each.
#[derive(Debug, Args)]
#[command(after_help = EPILOG)]
pub struct Arguments {
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Also endpoints, certificate authorities and VPCs
    #[arg(long, conflicts_with = "json")]
    wide: bool,
    /// Choose one of them, and open psql or mysql on it
    #[arg(long, conflicts_with_all = ["json", "wide"])]
    connect: bool,
    #[command(flatten)]
    account: AccountArguments,
}

pub(super) const EPILOG: &str = "\
Below each database is the command that opens it; USER is a database user that
logs in with IAM (rdsgate policy NAME --sql prints how to make one). IAM says
whether IAM authentication is on; NODES are the managed nodes and ECS tasks that
are online in the database's VPC. A \"?\" is what AWS did not say: a warning names
the permission that is missing.

Examples:
  rdsgate ls --profile dev --region eu-central-1
  rdsgate ls --connect
  rdsgate ls --role-arn arn:aws:iam::123456789012:role/reader
  rdsgate ls --json | jq -r '.databases[].host'
";

/// Runs the subcommand to its end.
pub fn run(arguments: Arguments, output: &mut Output) -> Exit {
    let Arguments { json, wide, connect, account } = arguments;
    let words = account.words();
    if connect && !terminal::is_attended() {
        let hint = "rdsgate ls lists the databases; rdsgate psql NAME opens one";
        output.problem("there is no terminal to choose on", Some(hint));
        return Exit::Usage;
    }
    let mut servers = Vec::new();
    let listed = account.known(output).and_then(|mut known| {
        servers = std::mem::take(&mut known.servers);
        let uses_dsql = known.uses_dsql;
        let (options, caller) = known.options(output)?;
        let mut parts = caller.into_parts(output)?;
        let seen = listed(&options, uses_dsql, &mut parts, output);
        parts.end();
        seen.map(|seen| (options, seen)).map_err(|error| {
            output.error(&error, error.hint().as_deref());
            exit_of(&error)
        })
    });
    let (options, Listed { databases, nodes }) = match listed {
        Ok(listed) => listed,
        Err(exit) => return exit,
    };
    if json {
        return output.json(&in_json(&options, &databases, &nodes, &servers));
    }
    if databases.is_empty() {
        output.note(&format!("no databases in {}", options.region));
    }
    let shown = match () {
        () if databases.is_empty() => String::new(),
        () if connect => return open(&databases, &words, output),
        () if wide => wide_table(&databases, &nodes),
        () => narrow_table(&databases, &nodes, &words),
    };
    output.data(&(shown + &server_table(&servers)))
}

/// The databases that rdsgate can serve, and the nodes that are online.
pub(super) struct Listed {
    pub(super) databases: Vec<Database>,
    pub(super) nodes: Vec<Node>,
}

/// Lists both, and prints what is missing from the list. A user of Aurora DSQL is warned where its clusters may not be listed.
///
/// # Errors
/// If the databases cannot be listed.
pub(super) fn listed(
    options: &Options,
    uses_dsql: bool,
    parts: &mut Parts,
    output: &mut Output,
) -> Result<Listed, aws::Error> {
    let accounts = Arc::clone(&parts.accounts);
    let Seen { databases, nodes, tasks } =
        parts.wait_for("listing databases and nodes", output, look(options, &accounts))?;
    let (dsql, gaps): (Vec<_>, Vec<_>) = databases.gaps.iter().partition(|gap| !uses_dsql && is_list_of_dsql(gap));
    if !dsql.is_empty() {
        output.note("left out: clusters of Aurora DSQL, for want of dsql:ListClusters");
    }
    for gap in gaps.into_iter().chain(&nodes.gaps).chain(&tasks.gaps) {
        output.warning(&format!("{gap}; the output is incomplete"), None);
    }
    let (spoken, other): (Vec<_>, Vec<_>) =
        databases.found.into_iter().partition(|database| database.protocol().is_some());
    if !other.is_empty() {
        let engines: BTreeSet<&str> = other.iter().map(|database| database.engine.as_str()).collect();
        let engines = engines.into_iter().collect::<Vec<_>>().join(", ");
        output.note(&format!("left out: {} of other engines ({engines})", other.len()));
    }
    let nodes = nodes.found.into_iter().chain(tasks.found).filter(|node| node.online).collect();
    Ok(Listed { databases: spoken, nodes })
}

/// Whether the list of Aurora DSQL was denied. Among the calls for databases, no other has this name.
fn is_list_of_dsql(gap: &aws::Error) -> bool {
    matches!(gap, aws::Error::AccessDenied { operation: "ListClusters", .. })
}

/// Lets the user choose a database and a user, and opens a client on it.
fn open(databases: &[Database], words: &[String], output: &mut Output) -> Exit {
    let open: Vec<&Database> = databases.iter().filter(|database| database.endpoint().is_some()).collect();
    let lines: Vec<String> = open.iter().map(|database| describe(database)).collect();
    let mut input = std::io::stdin().lock();
    let chosen = output.choose("open", &lines, Some(0), &mut input).and_then(|index| open.get(index).copied());
    let Some((database, endpoint)) = chosen.and_then(|database| Some((database, database.endpoint()?))) else {
        return Exit::Failure;
    };
    let usual = database.user.clone().or_else(|| std::env::var("USER").ok()).filter(|user| !user.is_empty());
    let Some(user) = output.ask("database user", usual.as_deref(), &mut input) else { return Exit::Failure };
    // A client of such an engine that names none asks for a database called like the user.
    let usual = database.protocol().and_then(|engine| engine.facts().maintenance_database);
    let name = usual.and_then(|usual| output.ask("database inside it", Some(usual), &mut input));
    drop(input);
    let own = [program(database).to_owned(), endpoint.to_string(), format!("--user={user}")];
    let name = name.map(|name| format!("--database={name}"));
    again(own.into_iter().chain(name).chain(words.iter().cloned()), output)
}

/// `orders  instance, postgres 15.8, IAM on`, for a choice.
pub(super) fn describe(database: &Database) -> String {
    let version = database.version.as_deref().map(|version| format!(" {version}")).unwrap_or_default();
    let status = if is_available(database) { String::new() } else { format!(", {}", database.status) };
    let iam = match database.iam {
        Some(true) => ", IAM on",
        Some(false) => ", IAM off",
        None => "",
    };
    format!("{}  {}, {}{version}{iam}{status}", database.id, database.kind, database.engine)
}

/// The client program of a database, which is the name of the subcommand as well.
pub(super) fn program(database: &Database) -> &'static str {
    database.protocol().and_then(|engine| engine.facts().client).map_or("psql", |client| client.program)
}

/// Whether the identifier alone means this database.
fn is_named(database: &Database, databases: &[Database]) -> bool {
    let others = databases.iter().filter(|other| other.id == database.id && other.kind != Service::Reader);
    database.kind != Service::Reader && others.count() == 1
}

/// The command that opens a database, with a remark where it will not work as things are.
fn command(database: &Database, databases: &[Database], words: &[String]) -> String {
    let target = match (is_named(database, databases), database.endpoint()) {
        (true, _) => database.id.clone(),
        (false, Some(endpoint)) => endpoint.to_string(),
        (false, None) => return format!("# {}", database.status),
    };
    let user = database.user.as_deref().map_or("USER".into(), quote::shell);
    let words: String = words.iter().map(|word| format!(" {}", quote::shell(word))).collect();
    let remark = match database.iam {
        _ if !is_available(database) => format!("  # {}", database.status),
        Some(false) => "  # IAM authentication is off".to_owned(),
        Some(true) | None => String::new(),
    };
    let (open, own) =
        (format!("rdsgate {} {}", program(database), quote::shell(&target)), format!("--user {user}{words}"));
    let fits = open.chars().count() + own.chars().count() < COLUMNS - 2;
    format!("{open}{}{own}{remark}", if fits { " " } else { " \\\n    " })
}

/// A line that fits 80 columns for each database, and the command that opens it, on two lines where it has no room on one.
fn narrow_table(databases: &[Database], nodes: &[Node], words: &[String]) -> String {
    let head = ["NAME", "KIND", "ENGINE", "IAM", "NODES"].map(str::to_owned);
    let rows = databases.iter().map(|database| {
        let version = database.version.as_deref().map(|version| format!(" {version}")).unwrap_or_default();
        [
            database.id.clone(),
            database.kind.to_string(),
            format!("{}{version}", database.engine),
            database.iam.map_or(UNKNOWN, |on| if on { "on" } else { "off" }).to_owned(),
            match count_beside(database, nodes) {
                Some(count) if count > 1 => format!("{count} nodes"),
                _ => beside(database, nodes),
            },
        ]
        .map(|cell| printable::line(&cell).into_owned())
    });
    let table = table(0, [18, 9, 22, 3, 20], &std::iter::once(head).chain(rows).collect::<Vec<_>>());
    let mut text = String::new();
    for (line, database) in table.lines().zip(std::iter::once(None).chain(databases.iter().map(Some))) {
        let _ = writeln!(text, "{line}");
        if let Some(database) = database {
            let _ = writeln!(text, "  {}", printable::lines(&command(database, databases, words)));
        }
    }
    text
}

/// A line for each configured server, and the command that forwards it; empty where there are none.
fn server_table(servers: &[Server]) -> String {
    if servers.is_empty() {
        return String::new();
    }
    let head = ["SERVER", "ADDRESS"].map(str::to_owned);
    let rows =
        servers.iter().map(|server| [&server.name, &server.address].map(|cell| printable::line(cell).into_owned()));
    let table = table(0, [18, 0], &std::iter::once(head).chain(rows).collect::<Vec<_>>());
    let mut text = String::new();
    for (line, server) in table.lines().zip(std::iter::once(None).chain(servers.iter().map(Some))) {
        let _ = writeln!(text, "{line}");
        if let Some(server) = server {
            let _ = writeln!(text, "  rdsgate forward {}", printable::line(&quote::shell(&server.name)));
        }
    }
    text
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
/// The width of most terminals.
const COLUMNS: usize = 80;

/// Columns as wide as what stands in them, two spaces apart; the endpoint, which is long, in a line of its own below.
fn wide_table(databases: &[Database], nodes: &[Node]) -> String {
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
                if database.ca.is_none() && database.kind.has_public_certificate() {
                    "public".into()
                } else {
                    text(&database.ca)
                },
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

fn is_available(database: &Database) -> bool {
    database.status == "available" || database.status.is_empty()
}

/// The number of nodes in the database's VPC, if that is known.
fn count_beside(database: &Database, nodes: &[Node]) -> Option<usize> {
    let vpc = database.vpc.as_ref()?;
    Some(nodes.iter().filter(|node| node.vpc.as_ref() == Some(vpc)).count())
}

/// The nodes in the database's VPC, two of them by id.
fn beside(database: &Database, nodes: &[Node]) -> String {
    if database.endpoint().is_some_and(|endpoint| endpoint.host.is_public()) {
        return "not needed".into();
    }
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
fn in_json(options: &Options, databases: &[Database], nodes: &[Node], servers: &[Server]) -> Value {
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
        "servers": servers
            .iter()
            .map(|server| json!({ "name": server.name, "address": server.address }))
            .collect::<Vec<_>>(),
    })
}
