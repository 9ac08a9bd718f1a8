//! `rdsgate status`: what the running processes of this user do.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _},
    time::Duration,
};

use clap::Args;
use serde_json::{Value, json};

use super::{
    exit::Exit,
    output::{self, INTERRUPTED, Output},
    progress::Progress,
    running::{self, Asked},
    table::{age, bytes, cut, table},
};
use crate::{
    admin::model::{ClientStatus, CredentialsStatus, Phase, ReloadStatus, SessionStatus, Status, TargetStatus},
    engine::doctor_command,
};

/// The interval of `--watch`.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// The width of a terminal that does not say it.
const COLUMNS: usize = 80;

/// Show what is running: targets, connections, sessions, credentials
///
/// All processes of this user that serve a database: `up`, `run`, `psql` and `mysql`. The keys of --json are those of /status at
/// the admin address, in a list `processes`.
#[derive(Debug, Args)]
#[command(after_help = EPILOG)]
pub struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Show it again every second, until Ctrl-C
    #[arg(long)]
    watch: bool,
}

pub(super) const EPILOG: &str = "\
SENT is from the client to the database. Rates are those of the last five
seconds. No statement is shown: rdsgate does not keep any.

Examples:
  rdsgate status
  rdsgate status --watch
  rdsgate status --json | jq '.processes[].targets[].clients'
";

/// Runs the subcommand to its end.
pub fn run(arguments: &Arguments, output: &mut Output) -> Exit {
    let on_terminal = io::stdout().is_terminal();
    let _watch = output::answer_interrupt(INTERRUPTED);
    loop {
        let progress = Progress::start("asking the running processes");
        let asked = running::ask_all();
        drop(progress);
        let exit = match (arguments.json, arguments.watch) {
            (true, false) => return output.json(&as_json(&asked)),
            (true, true) => output.data(&format!("{}\n", as_json(&asked))),
            (false, false) if asked.is_empty() => {
                output.note("no rdsgate of this user serves a database; rdsgate up or rdsgate psql NAME starts one");
                return Exit::Success;
            }
            (false, false) => return output.data(&text(&asked)),
            (false, true) if on_terminal => output.screen(&text(&asked)),
            (false, true) => output.data(&format!("{}\n", text(&asked))),
        };
        if exit != Exit::Success || output.is_closed() {
            return exit;
        }
        std::thread::sleep(WATCH_INTERVAL);
    }
}

fn as_json(asked: &[Asked]) -> Value {
    let process = |asked: &Asked| match &asked.status {
        Ok(status) => json!(status),
        Err(error) => json!({ "pid": asked.pid, "error": error.to_string() }),
    };
    json!({ "processes": asked.iter().map(process).collect::<Vec<_>>() })
}

/// Each process, its targets, and what goes on there.
fn text(asked: &[Asked]) -> String {
    if asked.is_empty() {
        return "nothing is running\n".into();
    }
    let mut text = String::new();
    for Asked { pid, status } in asked {
        if !text.is_empty() {
            text.push('\n');
        }
        match status {
            Ok(status) => process(status, &mut text),
            Err(error) => {
                let _ = writeln!(text, "process {pid}: {error}");
            }
        }
    }
    text
}

fn process(status: &Status, text: &mut String) {
    let Status { command, pid, uptime_seconds, phase, targets, last_reload, .. } = status;
    let phase = match phase {
        Phase::Running => "",
        Phase::Starting => ", starting",
        Phase::Draining => ", stopping",
    };
    let _ = writeln!(text, "rdsgate {command}, process {pid}, for {}{phase}", age(*uptime_seconds));
    if let Some(ReloadStatus { ok, in_part, message, age_seconds, .. }) = last_reload {
        let result = match (*ok, *in_part) {
            (true, _) => "reloaded",
            (false, true) => "reloaded in part",
            (false, false) => "reload failed",
        };
        let line = format!("  {result} {} ago: {message}", age(*age_seconds));
        let _ = writeln!(text, "{}", cut(&line, COLUMNS));
    }
    for target in targets {
        self::target(target, text);
    }
}

fn target(target: &TargetStatus, text: &mut String) {
    let label = target.label.as_ref().map(|label| format!(" {label}")).unwrap_or_default();
    let guard = if target.read_only { ", read only" } else { "" };
    let route = match (target.route.as_str(), &target.bastion) {
        ("auto", Some(bastion)) => format!("direct or via {bastion}"),
        (_, Some(bastion)) => format!("via {bastion}"),
        (_, None) => "direct".into(),
    };
    let mut addresses: Vec<String> = target.listeners.iter().map(|address| local(address)).collect();
    addresses.dedup();
    // Several addresses, or a path, have a line of their own.
    let (address, more) = match addresses.as_slice() {
        [] => (String::new(), None),
        [one] if !one.starts_with("unix:") => (format!("  {one}"), None),
        several => (String::new(), Some(several.join(", "))),
    };
    let head = format!("  {}{label}{address}  {}{guard}", target.name, target.engine);
    let _ = writeln!(text, "{}", cut(&head, COLUMNS));
    if let Some(addresses) = more {
        let _ = writeln!(text, "    listens on   {}", cut(&addresses, COLUMNS - 17));
    }
    let _ = writeln!(text, "    {}", cut(&format!("{}:{}", target.host, target.port), COLUMNS - 4));
    let region = target.region.as_ref().map(|region| format!(", {region}")).unwrap_or_default();
    let _ = writeln!(text, "    route        {}{region}", cut(&route, 45));
    let _ = writeln!(text, "    credentials  {}", cut(&credentials(target.credentials.as_ref()), COLUMNS - 17));
    if let Some(failure) = target.last_failure.as_ref().filter(|failure| !failure.over) {
        let since = format!("failed {} ago: {}", age(failure.age_seconds), failure.message);
        let _ = writeln!(text, "    last client  {}", cut(&since, COLUMNS - 17));
        let _ = writeln!(text, "                 run: {}", doctor_command(&target.name, failure.user.as_deref()));
    }
    let _ = writeln!(text, "    connections  {}", target.clients.len());
    text.push_str(&clients(&target.clients));
    if target.bastion.is_some() {
        let opening = match target.sessions_opening {
            0 => String::new(),
            number => format!(", {number} opening"),
        };
        let _ = writeln!(text, "    sessions     {}{opening}", target.sessions.len());
        text.push_str(&sessions(&target.sessions));
    }
}

/// The name that clients use for a bound address.
fn local(address: &str) -> String {
    match address.rsplit_once(':') {
        Some(("127.0.0.1" | "[::1]", port)) => format!("localhost:{port}"),
        _ => address.to_owned(),
    }
}

fn credentials(credentials: Option<&CredentialsStatus>) -> String {
    let Some(CredentialsStatus { source, expires_in_seconds, .. }) = credentials else {
        return "none yet: fetched for the first connection".into();
    };
    match expires_in_seconds {
        None => format!("no expiry ({source})"),
        Some(0) => format!("expired ({source})"),
        Some(seconds) => format!("expire in {} ({source})", age(*seconds)),
    }
}

fn clients(clients: &[ClientStatus]) -> String {
    if clients.is_empty() {
        return String::new();
    }
    let head = ["CLIENT", "USER", "DATABASE", "AGE", "SENT", "RECEIVED"].map(str::to_owned);
    let rows = clients.iter().map(|client| {
        let user =
            if client.logged_in { client.user.clone().unwrap_or_else(|| "-".into()) } else { "(connecting)".into() };
        let database = client.database.clone().unwrap_or_else(|| "-".into());
        [
            client.peer.clone(),
            user,
            database,
            age(client.age_seconds),
            bytes(client.sent_bytes),
            bytes(client.received_bytes),
        ]
    });
    table(6, [17, 15, 12, 6, 6, 8], &std::iter::once(head).chain(rows).collect::<Vec<_>>())
}

fn sessions(sessions: &[SessionStatus]) -> String {
    if sessions.is_empty() {
        return String::new();
    }
    let head = ["AGE", "STREAMS", "STATE", "SENT/S", "RECEIVED/S", "SESSION"].map(str::to_owned);
    let rows = sessions.iter().map(|session| {
        [
            age(session.age_seconds),
            session.streams.to_string(),
            session.condition.as_str().to_owned(),
            bytes(session.sent_rate),
            bytes(session.received_rate),
            session.id.clone(),
        ]
    });
    table(6, [6, 7, 12, 6, 10, 0], &std::iter::once(head).chain(rows).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::model::{Condition, FailureStatus};

    fn status() -> Status {
        let mut target = TargetStatus {
            host: "orders.cluster-ro-c1abcdefghij.eu-central-1.rds.amazonaws.com".into(),
            listeners: vec!["127.0.0.1:5432".into(), "[::1]:5432".into()],
            credentials: Some(CredentialsStatus {
                source: "an SSO session, profile \"dev\"".into(),
                principal: None,
                expires_at: None,
                expires_in_seconds: Some(7500),
            }),
            last_failure: Some(FailureStatus {
                stage: "login".into(),
                user: Some("app".into()),
                message: "the database refused the login: FATAL 28000: role is not permitted to log in".into(),
                fact: None,
                hint: None,
                age_seconds: 9,
                over: false,
            }),
            sessions_opening: 1,
            ..TargetStatus::sample()
        };
        let client = &mut target.clients[0];
        (client.peer, client.user) = ("127.0.0.1:52114".into(), Some("a_user_with_a_long_name".into()));
        (client.database, client.age_seconds) = (Some("orders_db".into()), 7500);
        (client.sent_bytes, client.received_bytes) = (1200, 3_400_000);
        let connecting = ClientStatus { logged_in: false, user: None, database: None, session: None, ..client.clone() };
        target.clients.push(connecting);
        let session = &mut target.sessions[0];
        (session.id, session.age_seconds) = ("alice-0123456789abcdef0".into(), 90);
        (session.condition, session.streams) = (Condition::Unresponsive, 2);
        (session.sent_rate, session.received_rate) = (12, 700_000);
        let last_reload = Some(ReloadStatus {
            ok: false,
            in_part: false,
            message: "/home/a/config.toml:3:1: unknown key `hots`, and more words about it than fit".into(),
            hint: None,
            at: "2026-01-02T03:04:05Z".into(),
            age_seconds: 61,
        });
        Status { uptime_seconds: 8000, last_reload, ..Status::sample(vec![target]) }
    }

    #[test]
    fn status_is_readable_at_eighty_columns() {
        let asked =
            [Asked { pid: 4711, status: Ok(status()) }, Asked { pid: 7, status: Err(running::AskError::NoSocket) }];
        let text = text(&asked);
        assert_eq!(
            text,
            "rdsgate up, process 4711, for 2h13m\n  \
             reload failed 1m ago: /home/a/config.toml:3:1: unknown key `hots`, and more w…\n  \
             orders PRODUCTION  localhost:5432  postgres, read only\n    \
             orders.cluster-ro-c1abcdefghij.eu-central-1.rds.amazonaws.com:5432\n    \
             route        via i-0123456789abcdef0, eu-central-1\n    \
             credentials  expire in 2h05m (an SSO session, profile \"dev\")\n    \
             last client  failed 9s ago: the database refused the login: FATAL 28000: ro…\n    \
             \x20            run: rdsgate doctor orders --user app\n    \
             connections  2\n      \
             CLIENT           USER             DATABASE   AGE    SENT    RECEIVED\n      \
             127.0.0.1:52114  a_user_with_a_…  orders_db  2h05m  1.2 kB  3.4 MB\n      \
             127.0.0.1:52114  (connecting)     -          2h05m  1.2 kB  3.4 MB\n    \
             sessions     1, 1 opening\n      \
             AGE  STREAMS  STATE         SENT/S  RECEIVED/S  SESSION\n      \
             1m   2        unresponsive  12 B    700 kB      alice-0123456789abcdef0\n\
             \nprocess 7: it has no status socket: an older version, or XDG_RUNTIME_DIR has a path that is too long for one\n"
        );
        let own = text.lines().filter(|line| !line.starts_with("process 7"));
        assert!(own.map(|line| line.chars().count()).max() <= Some(80), "{text}");
    }

    #[test]
    fn json_has_the_keys_of_the_admin_endpoint() {
        let value = as_json(&[Asked { pid: 4711, status: Ok(status()) }]);
        assert_eq!(value["processes"][0]["targets"][0]["clients"][0]["user"], "a_user_with_a_long_name");
        assert_eq!(as_json(&[]), json!({ "processes": [] }));
    }
}
