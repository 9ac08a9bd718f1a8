//! The JSON of `/status`. Keys and values are stable, because other programs read them.

use std::{
    collections::HashMap,
    time::{Instant, SystemTime},
};

use aws_smithy_types::{DateTime, date_time::Format};
use serde::{Deserialize, Serialize};

pub use super::phase::Phase;
use super::view::{Outcome, Reload, Served, View};
use crate::{
    proxy::{
        last_failure::Report,
        open::{HISTORY_INTERVAL, Snapshot, Totals},
        serve::HeldCredentials,
    },
    target::Route,
    tunnel::{
        pool::{Pool, SessionStats},
        ssm::load::Availability,
    },
};

/// The whole reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The version of rdsgate.
    pub version: String,
    /// The process id.
    pub pid: u32,
    /// The subcommand that the process runs: `up`, `run`, `psql` or `mysql`.
    pub command: String,
    /// Seconds since the process started to serve.
    pub uptime_seconds: u64,
    /// The phase of the process.
    pub phase: Phase,
    /// The result of the last reload; `null` if there was none.
    #[serde(default)]
    pub last_reload: Option<ReloadStatus>,
    /// The served targets, in the order of the configuration. Empty while the process starts.
    pub targets: Vec<TargetStatus>,
}

/// The result of a reload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadStatus {
    /// Whether the new configuration is served.
    pub ok: bool,
    /// Whether it is served but for some of its targets. If neither holds, the old one is served.
    #[serde(default)]
    pub in_part: bool,
    /// The changes, and the reasons why there are not all of them.
    pub message: String,
    /// The remedy.
    pub hint: Option<String>,
    /// The time of the result, as RFC 3339.
    pub at: String,
    /// Seconds since then.
    pub age_seconds: u64,
}

/// One served target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetStatus {
    /// The target's name.
    pub name: String,
    /// The label of its guard, such as `PRODUCTION`.
    pub label: Option<String>,
    /// Whether sessions are read only.
    pub read_only: bool,
    /// `postgres` or `mysql`.
    pub engine: String,
    /// The database's host name.
    pub host: String,
    /// The database's port.
    pub port: u16,
    /// The configured database user.
    pub user: Option<String>,
    /// The configured database.
    pub database: Option<String>,
    /// The AWS region; `None` for a target that asks AWS for nothing.
    pub region: Option<String>,
    /// The AWS profile, if one is configured.
    pub profile: Option<String>,
    /// `ssm`, `direct` or `auto`.
    pub route: String,
    /// The bastion; `null` on the route `direct`.
    pub bastion: Option<String>,
    /// The local addresses that are bound.
    pub listeners: Vec<String>,
    /// Open client connections, including those still being made.
    pub connections: u64,
    /// The same, one by one, oldest first.
    pub clients: Vec<ClientStatus>,
    /// Bytes of all connections since the start.
    pub traffic: TrafficStatus,
    /// The AWS credentials in use; `null` before they are needed.
    pub credentials: Option<CredentialsStatus>,
    /// The last failure to connect; `null` if there was none.
    pub last_failure: Option<FailureStatus>,
    /// SSM sessions being opened.
    pub sessions_opening: u64,
    /// SSM sessions.
    pub sessions: Vec<SessionStatus>,
}

/// One open client connection. It has no statement in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientStatus {
    /// A number that no other connection of the target has.
    pub id: u64,
    /// The client's address.
    pub peer: String,
    /// Whether it is logged in to the database.
    pub logged_in: bool,
    /// The database user; `null` before the login.
    pub user: Option<String>,
    /// The database; `null` before the login, and where the client named none.
    pub database: Option<String>,
    /// Seconds since it was accepted.
    pub age_seconds: u64,
    /// Bytes from the client to the database.
    pub sent_bytes: u64,
    /// Bytes from the database to the client.
    pub received_bytes: u64,
    /// `sent_bytes` per second, over five seconds.
    pub sent_rate: u64,
    /// `received_bytes` per second, over five seconds.
    pub received_rate: u64,
    /// The SSM session; `null` before the login, and on the direct route.
    pub session: Option<String>,
}

/// The bytes of a target, as its clients see them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficStatus {
    /// Bytes from clients to the database.
    pub sent_bytes: u64,
    /// Bytes from the database to clients.
    pub received_bytes: u64,
    /// The length of an interval of the histories.
    pub interval_seconds: u64,
    /// `sent_bytes` in each of the last 60 intervals, oldest first; the last one is not over yet.
    pub sent_history: Vec<u64>,
    /// The same of `received_bytes`.
    pub received_history: Vec<u64>,
}

/// AWS credentials, without the keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialsStatus {
    /// The place that they come from.
    pub source: String,
    /// The ARN of the principal, if AWS has said it.
    pub principal: Option<String>,
    /// The time of expiry, as RFC 3339; `null` for long-term keys.
    pub expires_at: Option<String>,
    /// Seconds until then, 0 after it.
    pub expires_in_seconds: Option<u64>,
}

/// A failure to connect to the database, as the client received it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureStatus {
    /// The stage that failed, as in the label of metrics.
    pub stage: String,
    /// The database user; `null` where it was not known yet.
    pub user: Option<String>,
    /// The cause, on one line.
    pub message: String,
    /// The facts that AWS gave about it.
    pub fact: Option<String>,
    /// The remedy.
    pub hint: Option<String>,
    /// Seconds since then.
    pub age_seconds: u64,
    /// Whether a client has logged in since then.
    pub over: bool,
}

/// One SSM session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStatus {
    /// The session id at AWS.
    pub id: String,
    /// Seconds since it opened.
    pub age_seconds: u64,
    /// The condition of the session.
    pub condition: Condition,
    /// Open streams, including those that are closing.
    pub streams: u64,
    /// Bytes buffered for clients that have not read them.
    pub unread_bytes: u64,
    /// Bytes per second to the database, over five seconds, of the connections that are open now.
    pub sent_rate: u64,
    /// The same from the database.
    pub received_rate: u64,
}

/// The condition of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// Accepts new connections.
    Ready,
    /// Its connection to AWS is lost and being resumed.
    Restoring,
    /// Blocked by clients that do not read.
    Full,
    /// Blocked by a dial without an answer.
    Stuck,
    /// Its agent does not answer.
    Unresponsive,
    /// Accepts no new connections, and ends with its last one.
    Draining,
}

impl Condition {
    pub(super) const ALL: [Self; 6] =
        [Self::Ready, Self::Restoring, Self::Full, Self::Stuck, Self::Unresponsive, Self::Draining];

    /// The value in `/status` and in the label of metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Restoring => "restoring",
            Self::Full => "full",
            Self::Stuck => "stuck",
            Self::Unresponsive => "unresponsive",
            Self::Draining => "draining",
        }
    }

    /// `None` for a session that is over. A fault wins over draining, because it says more.
    pub(super) fn of(session: &SessionStats) -> Option<Self> {
        match session.status.condition.availability {
            Availability::Ready if session.draining => Some(Self::Draining),
            Availability::Ready => Some(Self::Ready),
            Availability::Restoring => Some(Self::Restoring),
            Availability::Full => Some(Self::Full),
            Availability::Stuck => Some(Self::Stuck),
            Availability::Unresponsive => Some(Self::Unresponsive),
            Availability::Over => None,
        }
    }
}

impl Status {
    pub(super) fn of(view: &View) -> Self {
        let now = Instant::now();
        let all = view.served();
        let served: Vec<&Served> = all.iter().filter(|served| !served.is_over()).collect();
        let open: Vec<Vec<Snapshot>> = served.iter().map(|served| served.service.get().open.snapshot(now)).collect();
        let rates = Rates::of(open.iter().flatten());
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            command: view.command().into(),
            uptime_seconds: now.saturating_duration_since(view.started()).as_secs(),
            phase: view.phase(),
            last_reload: view.last_reload().map(ReloadStatus::of),
            targets: served
                .iter()
                .zip(&open)
                .map(|(served, open)| TargetStatus::of(served, open, &rates, now))
                .collect(),
        }
    }
}

/// Bytes per second in each session, sent and received. Several targets may share a session.
#[derive(Default)]
struct Rates<'a>(HashMap<&'a str, (u64, u64)>);

impl<'a> Rates<'a> {
    fn of(open: impl Iterator<Item = &'a Snapshot>) -> Self {
        let mut rates = Self::default();
        for snapshot in open {
            if let Some(session) = snapshot.login.as_ref().and_then(|login| login.session.as_deref()) {
                let (sent, received) = rates.0.entry(session).or_default();
                *sent += snapshot.sent_rate;
                *received += snapshot.received_rate;
            }
        }
        rates
    }
}

impl TargetStatus {
    fn of(served: &Served, open: &[Snapshot], rates: &Rates<'_>, now: Instant) -> Self {
        let service = served.service.get();
        let target = service.upstream.target();
        let (route, bastion) = match &target.route {
            Route::Ssm(bastion) => ("ssm", Some(bastion.to_string())),
            Route::Auto(bastion) => ("auto", Some(bastion.to_string())),
            Route::Direct => ("direct", None),
        };
        let stats = service.upstream.pool().map(Pool::stats);
        let sessions = stats.iter().flat_map(|stats| &stats.sessions);
        Self {
            name: target.name.to_string(),
            label: target.guard.label.as_ref().map(ToString::to_string),
            read_only: target.guard.read_only,
            engine: target.engine.to_string(),
            host: target.endpoint.host.to_string(),
            port: target.endpoint.port,
            user: target.user.clone(),
            database: target.database.clone(),
            region: target.needs_aws().then(|| target.region.to_string()),
            profile: target.identity.profile.clone(),
            route: route.into(),
            bastion,
            listeners: served.listeners.iter().map(ToString::to_string).collect(),
            connections: service.connections.open().try_into().unwrap_or_default(),
            clients: open.iter().map(ClientStatus::of).collect(),
            traffic: TrafficStatus::of(service.open.totals(now)),
            credentials: service.credentials().map(CredentialsStatus::of),
            last_failure: service.last_failure.report(now).map(FailureStatus::of),
            sessions_opening: stats.as_ref().map_or(0, |stats| stats.opening as u64),
            sessions: sessions.filter_map(|session| SessionStatus::of(session, rates)).collect(),
        }
    }
}

impl ClientStatus {
    fn of(snapshot: &Snapshot) -> Self {
        let login = snapshot.login.as_ref();
        Self {
            id: snapshot.id,
            peer: snapshot.peer.to_string(),
            logged_in: login.is_some(),
            user: login.map(|login| login.user.clone()).filter(|user| !user.is_empty()),
            database: login.map(|login| login.database.clone()).filter(|database| !database.is_empty()),
            age_seconds: snapshot.age.as_secs(),
            sent_bytes: snapshot.sent,
            received_bytes: snapshot.received,
            sent_rate: snapshot.sent_rate,
            received_rate: snapshot.received_rate,
            session: login.and_then(|login| login.session.as_deref()).map(str::to_owned),
        }
    }
}

impl TrafficStatus {
    fn of(totals: Totals) -> Self {
        Self {
            sent_bytes: totals.sent,
            received_bytes: totals.received,
            interval_seconds: HISTORY_INTERVAL.as_secs(),
            sent_history: totals.sent_history,
            received_history: totals.received_history,
        }
    }
}

impl FailureStatus {
    fn of(report: Report) -> Self {
        let Report { stage, user, message, fact, hint, age, is_over } = report;
        let user = Some(user).filter(|user| !user.is_empty());
        Self { stage: stage.label().into(), user, message, fact, hint, age_seconds: age.as_secs(), over: is_over }
    }
}

impl CredentialsStatus {
    fn of(held: HeldCredentials) -> Self {
        let left = held.expires.map(|at| at.duration_since(SystemTime::now()).unwrap_or_default().as_secs());
        let expires_at = held.expires.and_then(rfc3339);
        Self { source: held.source, principal: held.principal, expires_at, expires_in_seconds: left }
    }
}

impl ReloadStatus {
    fn of(Reload { at, outcome, message, hint }: Reload) -> Self {
        let age_seconds = SystemTime::now().duration_since(at).unwrap_or_default().as_secs();
        let (ok, in_part) = (outcome == Outcome::Done, outcome == Outcome::InPart);
        Self { ok, in_part, message, hint, at: rfc3339(at).unwrap_or_default(), age_seconds }
    }
}

/// To the second.
fn rfc3339(at: SystemTime) -> Option<String> {
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    DateTime::from_secs(seconds.try_into().ok()?).fmt(Format::DateTime).ok()
}

impl SessionStatus {
    fn of(session: &SessionStats, rates: &Rates<'_>) -> Option<Self> {
        let (sent_rate, received_rate) = rates.0.get(&*session.id).copied().unwrap_or_default();
        Some(Self {
            id: session.id.to_string(),
            age_seconds: session.age.as_secs(),
            condition: Condition::of(session)?,
            streams: session.status.streams as u64,
            unread_bytes: session.status.unread as u64,
            sent_rate,
            received_rate,
        })
    }
}

#[cfg(test)]
impl Status {
    /// A running process, for tests.
    pub fn sample(targets: Vec<TargetStatus>) -> Self {
        let phase = Phase::Running;
        Self {
            version: "1.2.3".into(),
            pid: 4711,
            command: "up".into(),
            uptime_seconds: 62,
            phase,
            last_reload: None,
            targets,
        }
    }
}

#[cfg(test)]
impl TargetStatus {
    /// A target with a client and a session, for tests.
    pub fn sample() -> Self {
        Self {
            name: "orders".into(),
            label: Some("PRODUCTION".into()),
            read_only: true,
            engine: "postgres".into(),
            host: "orders.example".into(),
            port: 5432,
            user: Some("app".into()),
            database: Some("shop".into()),
            region: Some("eu-central-1".into()),
            profile: Some("dev".into()),
            route: "ssm".into(),
            bastion: Some("i-0123456789abcdef0".into()),
            listeners: vec!["127.0.0.1:5432".into()],
            connections: 1,
            clients: vec![ClientStatus {
                id: 7,
                peer: "127.0.0.1:40000".into(),
                logged_in: true,
                user: Some("app".into()),
                database: Some("shop".into()),
                age_seconds: 61,
                sent_bytes: 10,
                received_bytes: 2000,
                sent_rate: 0,
                received_rate: 400,
                session: Some("dev-0123".into()),
            }],
            traffic: TrafficStatus {
                sent_bytes: 10,
                received_bytes: 2000,
                interval_seconds: 10,
                sent_history: vec![0; 60],
                received_history: vec![100; 60],
            },
            credentials: Some(CredentialsStatus {
                source: "the environment".into(),
                principal: None,
                expires_at: Some("2026-09-21T14:13:20Z".into()),
                expires_in_seconds: Some(600),
            }),
            last_failure: None,
            sessions_opening: 0,
            sessions: vec![SessionStatus {
                id: "dev-0123".into(),
                age_seconds: 61,
                condition: Condition::Ready,
                streams: 1,
                unread_bytes: 0,
                sent_rate: 0,
                received_rate: 400,
            }],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        connect::Step,
        listen::Peer,
        proxy::{open::Login, stage::Stage},
        tunnel::ssm::{load, session, tally::Tally},
    };

    fn session(availability: Availability, draining: bool) -> SessionStats {
        let condition = load::Condition { availability, bulk: false, stalled: false, idle: false };
        let status = session::Status { condition, streams: 3, unread: 4096, tally: Tally::default() };
        SessionStats { id: "dev-0123".into(), age: Duration::from_millis(61_500), draining, status }
    }

    #[test]
    fn fault_of_a_session_wins_over_draining() {
        for (availability, draining, condition) in [
            (Availability::Ready, false, Some(Condition::Ready)),
            (Availability::Ready, true, Some(Condition::Draining)),
            (Availability::Restoring, true, Some(Condition::Restoring)),
            (Availability::Full, false, Some(Condition::Full)),
            (Availability::Stuck, true, Some(Condition::Stuck)),
            (Availability::Unresponsive, false, Some(Condition::Unresponsive)),
            (Availability::Over, true, None),
        ] {
            assert_eq!(Condition::of(&session(availability, draining)), condition);
        }
    }

    #[test]
    fn keys_and_values_are_stable() {
        let login = Login { user: "app".into(), database: String::new(), session: Some("dev-0123".into()) };
        let client = Snapshot {
            id: 7,
            peer: Peer::Unix { uid: Some(1000) },
            age: Duration::from_secs(5),
            login: Some(login),
            sent: 10,
            received: 2000,
            sent_rate: 1,
            received_rate: 400,
        };
        let totals = Totals { sent: 10, received: 2000, sent_history: vec![0, 10], received_history: vec![0, 2000] };
        let credentials = HeldCredentials {
            source: "the environment".into(),
            expires: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000)),
            principal: None,
        };
        let rates = Rates::of([&client].into_iter());
        let mut credentials = CredentialsStatus::of(credentials);
        credentials.expires_in_seconds = Some(60);
        let target = TargetStatus {
            database: None,
            profile: None,
            listeners: vec!["127.0.0.1:5432".into(), "[::1]:5432".into()],
            connections: 2,
            clients: vec![ClientStatus::of(&client)],
            traffic: TrafficStatus::of(totals),
            credentials: Some(credentials),
            last_failure: Some(FailureStatus::of(Report {
                stage: Stage::Connect(Step::Login),
                user: "app".into(),
                message: "refused".into(),
                fact: None,
                hint: Some("Grant rds_iam.".into()),
                age: Duration::from_secs(9),
                is_over: true,
            })),
            sessions_opening: 1,
            sessions: SessionStatus::of(&session(Availability::Ready, false), &rates).into_iter().collect(),
            ..TargetStatus::sample()
        };
        let mut status = Status::sample(vec![target]);
        let (message, hint) = ("cannot serve orders".into(), None);
        let reload = Reload { at: SystemTime::UNIX_EPOCH, outcome: Outcome::Refused, message, hint };
        status.last_reload = Some(ReloadStatus { age_seconds: 0, ..ReloadStatus::of(reload) });
        let text = concat!(
            r#"{"version":"1.2.3","pid":4711,"command":"up","uptime_seconds":62,"phase":"running","#,
            r#""last_reload":{"ok":false,"in_part":false,"message":"cannot serve orders","hint":null,"at":"1970-01-01T00:00:00Z","#,
            r#""age_seconds":0},"targets":["#,
            r#"{"name":"orders","label":"PRODUCTION","read_only":true,"engine":"postgres","host":"orders.example","#,
            r#""port":5432,"user":"app","database":null,"region":"eu-central-1","profile":null,"route":"ssm","#,
            r#""bastion":"i-0123456789abcdef0","listeners":["127.0.0.1:5432","[::1]:5432"],"connections":2,"#,
            r#""clients":[{"id":7,"peer":"unix:uid=1000","logged_in":true,"user":"app","database":null,"age_seconds":5,"#,
            r#""sent_bytes":10,"received_bytes":2000,"sent_rate":1,"received_rate":400,"session":"dev-0123"}],"#,
            r#""traffic":{"sent_bytes":10,"received_bytes":2000,"interval_seconds":10,"sent_history":[0,10],"#,
            r#""received_history":[0,2000]},"credentials":{"source":"the environment","principal":null,"#,
            r#""expires_at":"2026-09-21T14:13:20Z","expires_in_seconds":60},"last_failure":{"stage":"login","#,
            r#""user":"app","message":"refused","fact":null,"hint":"Grant rds_iam.","age_seconds":9,"over":true},"#,
            r#""sessions_opening":1,"#,
            r#""sessions":[{"id":"dev-0123","age_seconds":61,"condition":"ready","streams":3,"unread_bytes":4096,"#,
            r#""sent_rate":1,"received_rate":400}]}]}"#,
        );
        assert_eq!(serde_json::to_string(&status).unwrap(), text);
        assert_eq!(serde_json::from_str::<Status>(text).unwrap(), status);
        for condition in Condition::ALL {
            assert_eq!(serde_json::to_string(&condition).unwrap(), format!("{:?}", condition.as_str()));
        }
    }

    #[test]
    fn documentation_lists_every_key() {
        let documentation = include_str!("../../docs/operations.md");
        let source = include_str!("model.rs").split("#[cfg(test)]").next().unwrap();
        let keys = source.lines().filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(": "));
        let keys: Vec<&str> = keys.map(|(key, _)| key).filter(|key| !key.contains(' ')).collect();
        assert!(keys.len() > 30, "{keys:?}");
        for key in keys {
            assert!(documentation.contains(&format!("`{key}`")), "docs/operations.md does not list {key}");
        }
    }
}
