//! `rdsgate sessions`: the sessions of Session Manager that rdsgate has open, and ending them.

use std::{collections::HashSet, fmt::Write as _, sync::Arc};

use aws_smithy_types::{DateTime, date_time::Format};
use clap::Args;
use safe_display::printable;
use serde_json::{Value, json};

use super::{
    complete::Ready,
    exit::Exit,
    output::Output,
    table::{age, cut, table},
    target_arguments::TargetArguments,
};
use crate::{
    app,
    aws::{self, Account, Accounts, OpenSession},
    target::{Region, Target},
    tunnel::owner::Owner,
};

/// List your open SSM sessions, or end them
///
/// Those that rdsgate started under your identity, wherever it runs, in the accounts and regions of the targets. An orphan is one
/// whose process ran on this machine and has ended; it ends by itself after the account's idle timeout, or with --orphans.
#[derive(Debug, Args)]
#[command(after_help = EPILOG)]
pub struct Arguments {
    /// Targets whose accounts and regions are searched [default: every target of the configuration files]
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// End this session; may be given several times
    #[arg(long, value_name = "ID", conflicts_with = "all_mine")]
    terminate: Vec<String>,
    /// End every session that is listed
    #[arg(long)]
    all_mine: bool,
    /// End every orphan: a session whose process ran on this machine and has ended
    #[arg(long, conflicts_with_all = ["terminate", "all_mine"])]
    orphans: bool,
    /// Also sessions of yours that other programs started
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    options: TargetArguments,
}

pub(super) const EPILOG: &str = "\
A running rdsgate up replaces a session that is ended here when the next client
comes; connections in it are lost. A session of another machine, or of another
program, is never an orphan.

Examples:
  rdsgate sessions
  rdsgate sessions --terminate alice-0123456789abcdef0
  rdsgate sessions --orphans
  rdsgate sessions --all-mine
";

/// The width of a list that every terminal can show.
const COLUMNS: usize = 80;

/// How the reason of every session of ours begins, unless the user has another.
const OURS: &str = "rdsgate/";

/// A session and where it is.
struct Found {
    region: Region,
    session: OpenSession,
    owner: Owner,
}

/// Runs the subcommand.
pub fn run(arguments: Arguments, output: &mut Output) -> Exit {
    let Arguments { targets, terminate, all_mine, orphans, all, json, options } = arguments;
    let Ready { config, caller, complete, .. } = match options.without_bastion().load(targets, output) {
        Ok(ready) => ready,
        Err(exit) => return exit,
    };
    let mut parts = match caller.into_parts(output) {
        Ok(parts) => parts,
        Err(exit) => return exit,
    };
    let accounts = Arc::clone(&parts.accounts);
    let work = async {
        let accounts = places(&config.targets, &accounts).await?;
        let found = if terminate.is_empty() { find(&accounts, &config.targets, all).await? } else { Vec::new() };
        Ok((accounts, found))
    };
    let done: Result<_, aws::Error> = parts.wait_for("listing sessions", output, work);
    let exit = match done {
        Err(error) => {
            output.error(&error, error.hint().as_deref());
            app::Cause::from(&error).into()
        }
        Ok((_, found)) if terminate.is_empty() && !all_mine && !orphans => {
            if json {
                output.json(&as_json(&found))
            } else {
                let shown = if found.is_empty() {
                    output.note(&format!("no open SSM sessions {}", if all { "of yours" } else { "of rdsgate" }));
                    Exit::Success
                } else {
                    output.data(&as_table(&found))
                };
                let left = found.iter().filter(|found| found.is_orphan()).count();
                if left > 0 {
                    output.note(&format!("{}; rdsgate sessions --orphans ends them", orphaned(left)));
                }
                shown
            }
        }
        Ok((accounts, found)) => {
            let chosen = found.into_iter().filter(|found| all_mine || found.is_orphan());
            let listed = all_mine || orphans;
            let ids = if listed { chosen.map(|found| found.session.id).collect() } else { terminate };
            let mut exit = Exit::Success;
            for id in &ids {
                let replies = parts.wait_for("ending a session", output, end(&accounts, id));
                exit = exit.or(tell(id, &replies, output));
            }
            if listed {
                output.note(&format!("{} ended", counted(ids.len())));
            }
            exit
        }
    };
    parts.end();
    exit.or(complete)
}

/// The accounts and regions of the targets, each once, with credentials.
async fn places(targets: &[Target], accounts: &Accounts) -> Result<Vec<Account>, aws::Error> {
    let mut seen = HashSet::new();
    let mut places = Vec::new();
    for target in targets.iter().filter(|target| seen.insert((&target.identity, &target.region))) {
        let options = aws::Options { identity: target.identity.clone(), region: target.region.clone() };
        let account = accounts.load(&options)?;
        account.credentials_for_client().await?;
        places.push(account);
    }
    Ok(places)
}

/// Our sessions, those of a `reason` of the targets' own as well; or all of them.
async fn find(accounts: &[Account], targets: &[Target], all: bool) -> Result<Vec<Found>, aws::Error> {
    let ours = |reason: &str| {
        // A mark stands behind it.
        reason.starts_with(OURS) || targets.iter().any(|target| reason.starts_with(target.session.reason.as_str()))
    };
    let mut found = Vec::new();
    for account in accounts {
        let sessions = account.open_sessions().await?.into_iter().filter(|session| all || ours(&session.reason));
        found.extend(sessions.map(|session| Found {
            region: account.region().clone(),
            owner: Owner::of(&session.reason),
            session,
        }));
    }
    found.sort_by(|a, b| (a.session.started, &a.session.id).cmp(&(b.session.started, &b.session.id)));
    // Two profiles may be one identity.
    let mut ids = HashSet::new();
    found.retain(|found| ids.insert(found.session.id.clone()));
    Ok(found)
}

/// Ends a session in the first account that agrees: AWS agrees for unknown sessions as well. The replies of the accounts that were
/// asked.
async fn end(accounts: &[Account], id: &str) -> Vec<Result<(), aws::Error>> {
    let mut replies = Vec::new();
    for account in accounts {
        replies.push(account.terminate_session(id).await);
        if matches!(replies.last(), Some(Ok(()))) {
            break;
        }
    }
    replies
}

fn tell(id: &str, replies: &[Result<(), aws::Error>], output: &mut Output) -> Exit {
    let mut exit = Exit::Success;
    for reply in replies {
        match reply {
            Ok(()) => {
                output.note(&format!("terminated {id}"));
                exit = Exit::Success;
            }
            Err(error) => {
                exit = app::Cause::from(error).into();
                output.error(error, error.hint().as_deref());
            }
        }
    }
    exit
}

fn orphaned(sessions: usize) -> String {
    format!("{sessions} orphan{}", if sessions == 1 { "" } else { "s" })
}

fn counted(sessions: usize) -> String {
    format!("{sessions} session{}", if sessions == 1 { "" } else { "s" })
}

fn age_of(session: &OpenSession) -> Option<String> {
    Some(age(session.started?.elapsed().unwrap_or_default().as_secs()))
}

fn started(session: &OpenSession) -> Option<String> {
    DateTime::from(session.started?).fmt(Format::DateTime).ok()
}

fn as_json(found: &[Found]) -> Value {
    let sessions: Vec<_> = found
        .iter()
        .map(|Found { region, session, owner }| {
            json!({
                "session_id": session.id, "target": session.target, "region": region.as_str(),
                "started": started(session), "status": session.status, "document": session.document,
                "reason": session.reason, "owner": owner_word(*owner), "process": process(*owner),
            })
        })
        .collect();
    json!(sessions)
}

impl Found {
    fn is_orphan(&self) -> bool {
        matches!(self.owner, Owner::Ended(_))
    }
}

/// The value of `owner` in JSON.
fn owner_word(owner: Owner) -> &'static str {
    match owner {
        Owner::Process(_) => "process",
        Owner::Ended(_) => "orphan",
        Owner::Elsewhere => "elsewhere",
        Owner::Unknown => "unknown",
    }
}

fn process(owner: Owner) -> Option<u32> {
    match owner {
        Owner::Process(pid) | Owner::Ended(pid) => Some(pid),
        Owner::Elsewhere | Owner::Unknown => None,
    }
}

/// A line for each session, and its reason in a line below.
fn as_table(found: &[Found]) -> String {
    let head = ["SESSION", "BASTION", "AGE", "OWNER"].map(str::to_owned);
    let rows = found.iter().map(|Found { session, owner, .. }| {
        let owner = match owner {
            Owner::Process(pid) => format!("pid {pid}"),
            Owner::Ended(_) => "orphan".into(),
            Owner::Elsewhere => "elsewhere".into(),
            Owner::Unknown => String::new(),
        };
        [session.id.clone(), session.target.clone(), age_of(session).unwrap_or_default(), owner]
            .map(|cell| if cell.is_empty() { "-".into() } else { printable::line(&cell).into_owned() })
    });
    let table = table(0, [0, 0, 0, 0], &std::iter::once(head).chain(rows).collect::<Vec<_>>());
    let mut text = String::new();
    for (line, found) in table.lines().zip(std::iter::once(None).chain(found.iter().map(Some))) {
        let _ = writeln!(text, "{line}");
        if let Some(Found { region, session, .. }) = found {
            let line = format!("  {region}, {}: {}", session.status, session.reason);
            let _ = writeln!(text, "{}", cut(&printable::line(&line), COLUMNS));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::*;

    fn found() -> Vec<Found> {
        let session = OpenSession {
            id: "alice-0123".into(),
            target: "i-0123456789abcdef0".into(),
            started: Some(UNIX_EPOCH + Duration::from_secs(1_790_000_000)),
            status: "Connected".into(),
            document: "AWS-StartPortForwardingSessionToRemoteHost".into(),
            reason: "rdsgate/0.1.0".into(),
        };
        let odd = OpenSession { id: "b".into(), started: None, reason: "\u{1b}[2J".into(), ..session.clone() };
        let region: Region = "eu-central-1".parse().unwrap();
        vec![
            Found { region: region.clone(), session, owner: Owner::Process(4711) },
            Found { region, session: odd, owner: Owner::Ended(8) },
        ]
    }

    #[test]
    fn table_has_two_lines_for_each_session() {
        let mut sessions = found();
        sessions[0].session.started = SystemTime::now().checked_sub(Duration::from_secs(80));
        assert_eq!(
            as_table(&sessions),
            "SESSION     BASTION              AGE  OWNER\n\
             alice-0123  i-0123456789abcdef0  1m   pid 4711\n  \
             eu-central-1, Connected: rdsgate/0.1.0\n\
             b           i-0123456789abcdef0  -    orphan\n  \
             eu-central-1, Connected: \\u{1b}[2J\n"
        );
    }

    #[test]
    fn json_has_an_object_for_each() {
        let value = as_json(&found());
        assert_eq!(value[0]["started"], "2026-09-21T14:13:20Z");
        assert_eq!(value[1]["started"], Value::Null);
        assert_eq!(value[1]["reason"], "\u{1b}[2J");
        assert_eq!((&value[0]["owner"], &value[1]["owner"]), (&json!("process"), &json!("orphan")));
        assert_eq!(as_json(&[]), json!([]));
    }
}
