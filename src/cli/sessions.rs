//! `rdsgate sessions`: the sessions of Session Manager that rdsgate has open, and ending them.

use std::{collections::HashSet, fmt::Write as _, sync::Arc};

use aws_smithy_types::{DateTime, date_time::Format};
use clap::Args;
use safe_display::printable;
use serde_json::{Value, json};

use super::{complete::Ready, exit::Exit, output::Output, target_arguments::TargetArguments};
use crate::{
    app,
    aws::{self, Account, Accounts, OpenSession},
    target::{Region, Target},
};

/// List your open SSM sessions, or end them
///
/// Those that rdsgate started under your identity, wherever it runs, in the accounts and regions of the targets. One that is
/// left over from a machine that died ends by itself after the account's idle timeout.
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
comes; connections in it are lost.

Examples:
  rdsgate sessions
  rdsgate sessions --terminate alice-0123456789abcdef0
  rdsgate sessions --all-mine
";

/// How the reason of every session of ours begins, unless the user has another.
const OURS: &str = "rdsgate/";

/// A session and where it is.
struct Found {
    region: Region,
    session: OpenSession,
}

/// Runs the subcommand.
pub fn run(arguments: Arguments, output: &mut Output) -> Exit {
    let Arguments { targets, terminate, all_mine, all, json, options } = arguments;
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
    let done: Result<_, aws::Error> = parts.block_on(output, work);
    let exit = match done {
        Err(error) => {
            output.error(&error, error.hint().as_deref());
            app::Cause::from(&error).into()
        }
        Ok((_, found)) if terminate.is_empty() && !all_mine => {
            if json {
                output.json(&as_json(&found))
            } else {
                output.data(&as_table(&found))
            }
        }
        Ok((accounts, found)) => parts.runtime.block_on(async {
            let ids = if all_mine { found.into_iter().map(|found| found.session.id).collect() } else { terminate };
            let mut exit = Exit::Success;
            for id in &ids {
                exit = exit.or(end(&accounts, id, output).await);
            }
            if all_mine {
                output.note(&format!("{} ended", counted(ids.len())));
            }
            exit
        }),
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
        found.extend(sessions.map(|session| Found { region: account.region().clone(), session }));
    }
    found.sort_by(|a, b| (a.session.started, &a.session.id).cmp(&(b.session.started, &b.session.id)));
    // Two profiles may be one identity.
    let mut ids = HashSet::new();
    found.retain(|found| ids.insert(found.session.id.clone()));
    Ok(found)
}

/// Ends a session in whichever account has it: AWS says yes for those that it does not know as well.
async fn end(accounts: &[Account], id: &str, output: &mut Output) -> Exit {
    let mut exit = Exit::Success;
    for account in accounts {
        match account.terminate_session(id).await {
            Ok(()) => {
                output.note(&format!("terminated {id}"));
                return Exit::Success;
            }
            Err(error) => {
                exit = app::Cause::from(&error).into();
                output.error(&error, error.hint().as_deref());
            }
        }
    }
    exit
}

fn counted(sessions: usize) -> String {
    format!("{sessions} session{}", if sessions == 1 { "" } else { "s" })
}

fn started(session: &OpenSession) -> Option<String> {
    DateTime::from(session.started?).fmt(Format::DateTime).ok()
}

fn as_json(found: &[Found]) -> Value {
    let sessions: Vec<_> = found
        .iter()
        .map(|Found { region, session }| {
            json!({
                "session_id": session.id, "target": session.target, "region": region.as_str(),
                "started": started(session), "status": session.status, "document": session.document,
                "reason": session.reason,
            })
        })
        .collect();
    json!(sessions)
}

fn as_table(found: &[Found]) -> String {
    let head = ["SESSION", "BASTION", "REGION", "STARTED", "STATUS", "REASON"].map(str::to_owned);
    let rows = found.iter().map(|Found { region, session }| {
        [
            session.id.clone(),
            session.target.clone(),
            region.to_string(),
            started(session).unwrap_or_else(|| "-".into()),
            session.status.clone(),
            session.reason.clone(),
        ]
        .map(|cell| if cell.is_empty() { "-".into() } else { printable::line(&cell).into_owned() })
    });
    table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}

/// Columns as wide as their widest cell, two spaces apart, none behind the last.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut text = String::new();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..N).map(|column| width(column).unwrap_or_default()).collect();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

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
        vec![Found { region: region.clone(), session }, Found { region, session: odd }]
    }

    #[test]
    fn a_table_has_a_line_for_each() {
        assert_eq!(
            as_table(&found()),
            "SESSION     BASTION              REGION        STARTED               STATUS     REASON\n\
             alice-0123  i-0123456789abcdef0  eu-central-1  2026-09-21T14:13:20Z  Connected  rdsgate/0.1.0\n\
             b           i-0123456789abcdef0  eu-central-1  -                     Connected  \\u{1b}[2J\n"
        );
        assert_eq!(as_table(&[]), "SESSION  BASTION  REGION  STARTED  STATUS  REASON\n");
    }

    #[test]
    fn json_has_an_object_for_each() {
        let value = as_json(&found());
        assert_eq!(value[0]["started"], "2026-09-21T14:13:20Z");
        assert_eq!(value[1]["started"], Value::Null);
        assert_eq!(value[1]["reason"], "\u{1b}[2J");
        assert_eq!(as_json(&[]), json!([]));
    }
}
