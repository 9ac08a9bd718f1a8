//! The JSON of `/status`. Keys and values are stable, because other programs read them.

use serde::{Deserialize, Serialize};

pub use super::phase::Phase;
use super::view::{Served, View};
use crate::{
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
    /// The phase of the process.
    pub phase: Phase,
    /// The served targets, in the order of the configuration. Empty while the process starts.
    pub targets: Vec<TargetStatus>,
}

/// One served target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetStatus {
    /// The target's name.
    pub name: String,
    /// `postgres` or `mysql`.
    pub engine: String,
    /// The database's host name.
    pub host: String,
    /// The database's port.
    pub port: u16,
    /// `ssm`, `direct` or `auto`.
    pub route: String,
    /// The bastion; `null` on the route `direct`.
    pub bastion: Option<String>,
    /// The local addresses that are bound.
    pub listeners: Vec<String>,
    /// Open client connections, including those still being made.
    pub connections: u64,
    /// SSM sessions being opened.
    pub sessions_opening: u64,
    /// SSM sessions.
    pub sessions: Vec<SessionStatus>,
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
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            phase: view.phase(),
            targets: view.served().iter().map(TargetStatus::of).collect(),
        }
    }
}

impl TargetStatus {
    fn of(served: &Served) -> Self {
        let service = served.service.get();
        let target = service.upstream.target();
        let (route, bastion) = match &target.route {
            Route::Ssm(bastion) => ("ssm", Some(bastion.to_string())),
            Route::Auto(bastion) => ("auto", Some(bastion.to_string())),
            Route::Direct => ("direct", None),
        };
        let stats = service.upstream.pool().map(Pool::stats);
        Self {
            name: target.name.to_string(),
            engine: target.engine.to_string(),
            host: target.endpoint.host.to_string(),
            port: target.endpoint.port,
            route: route.into(),
            bastion,
            listeners: served.listeners.iter().map(ToString::to_string).collect(),
            connections: service.connections.open().try_into().unwrap_or_default(),
            sessions_opening: stats.as_ref().map_or(0, |stats| stats.opening as u64),
            sessions: stats.iter().flat_map(|stats| &stats.sessions).filter_map(SessionStatus::of).collect(),
        }
    }
}

impl SessionStatus {
    fn of(session: &SessionStats) -> Option<Self> {
        Some(Self {
            id: session.id.to_string(),
            age_seconds: session.age.as_secs(),
            condition: Condition::of(session)?,
            streams: session.status.streams as u64,
            unread_bytes: session.status.unread as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::tunnel::ssm::{load, session, tally::Tally};

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
        let status = Status {
            version: "1.2.3".into(),
            phase: Phase::Running,
            targets: vec![TargetStatus {
                name: "orders".into(),
                engine: "postgres".into(),
                host: "orders.example".into(),
                port: 5432,
                route: "ssm".into(),
                bastion: Some("i-0123456789abcdef0".into()),
                listeners: vec!["127.0.0.1:5432".into(), "[::1]:5432".into()],
                connections: 2,
                sessions_opening: 1,
                sessions: SessionStatus::of(&session(Availability::Ready, false)).into_iter().collect(),
            }],
        };
        let text = r#"{"version":"1.2.3","phase":"running","targets":[{"name":"orders","engine":"postgres","host":"orders.example","port":5432,"route":"ssm","bastion":"i-0123456789abcdef0","listeners":["127.0.0.1:5432","[::1]:5432"],"connections":2,"sessions_opening":1,"sessions":[{"id":"dev-0123","age_seconds":61,"condition":"ready","streams":3,"unread_bytes":4096}]}]}"#;
        assert_eq!(serde_json::to_string(&status).unwrap(), text);
        assert_eq!(serde_json::from_str::<Status>(text).unwrap(), status);
        for condition in Condition::ALL {
            assert_eq!(serde_json::to_string(&condition).unwrap(), format!("{:?}", condition.as_str()));
        }
    }
}
