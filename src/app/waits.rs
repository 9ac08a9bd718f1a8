//! The waits of a running proxy's clients, for a person at its terminal.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    proxy::serve::Service,
    tunnel::{pool::Pool, ssm::load::Availability},
};

/// After this time without an answer a database is busy or paused.
const WAKE_UP_AFTER: Duration = Duration::from_secs(5);

/// The part of the way to a database that is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// AWS credentials, which a login may have to precede.
    Credentials,
    /// An SSM session is being opened.
    Session,
    /// The connection of an SSM session to AWS is lost and being resumed.
    Resume,
    /// The database has not finished a login.
    Database,
    /// The database has not finished a login after 5 s: it is busy, or wakes up from a pause, as Aurora Serverless does.
    WakeUp,
}

/// A wait of a target's clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// The target's name.
    pub target: Arc<str>,
    /// The part.
    pub stage: Stage,
}

impl Stage {
    /// The stage for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Credentials => "AWS credentials",
            Self::Session => "opening an SSM session",
            Self::Resume => "resuming the SSM session",
            Self::Database => "waiting for the database",
            Self::WakeUp => "waiting for the database, which may be waking up",
        }
    }
}

/// The stage of a connection that is being made without a client, `since` a time.
pub(super) fn reaching(service: &Service, since: Instant) -> Stage {
    let stats = service.upstream.pool().map(Pool::stats);
    match stats {
        _ if lacks_credentials(service) => Stage::Credentials,
        Some(stats) if stats.sessions.is_empty() => Stage::Session,
        Some(_) | None => database(since.elapsed()),
    }
}

fn lacks_credentials(service: &Service) -> bool {
    service.upstream.needs_credentials() && service.credentials().is_none()
}

fn database(waited: Duration) -> Stage {
    if waited < WAKE_UP_AFTER { Stage::Database } else { Stage::WakeUp }
}

/// The wait of a target's clients; `None` when none waits.
pub(super) fn stage(service: &Service) -> Option<Stage> {
    let stats = service.upstream.pool().map(Pool::stats);
    let availability = |wanted| {
        let sessions = stats.iter().flat_map(|stats| &stats.sessions);
        sessions.filter(|session| session.status.condition.availability == wanted).count()
    };
    if availability(Availability::Restoring) > 0 {
        return Some(Stage::Resume);
    }
    let open = service.open.snapshot(Instant::now());
    let connecting = open.iter().filter(|connection| connection.login.is_none());
    let longest = connecting.map(|connection| connection.age).max()?;
    Some(match stats {
        _ if lacks_credentials(service) => Stage::Credentials,
        Some(stats) if stats.opening > 0 || stats.sessions.is_empty() => Stage::Session,
        Some(_) | None => database(longest),
    })
}
