//! Failures to connect a client, by stage, with their hints. [`Error::failure`] is the reply to the client, which the engines
//! express in their protocols.
//!
//! Message, DETAIL and HINT name hosts and principals of the user's own, never a token or key.

mod failure;

use std::time::Duration;

use database_wire as wire;
use tokio::time::Instant;

use crate::{
    causes, connect,
    listen::access,
    proxy::{
        facts::Facts,
        stage::{CLIENT_STARTUP, Stage},
    },
    service::DatabaseUser,
    target::Target,
    tls::local::HandshakeError,
};

/// Why a client is not connected.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client is not admitted.
    #[error("this client may not use the proxy")]
    Access(#[from] access::Error),
    /// The client asks for another user than the one that the target is pinned to.
    #[error("this listener serves the database user {user:?} only, and the client asks for {asked:?}")]
    PinnedUser {
        /// The user in the client's startup.
        asked: String,
        /// The target's.
        user: String,
    },
    /// The client does not know the password of the listener.
    #[error("password authentication failed for user \"{user}\"")]
    LocalPassword {
        /// The database user in the client's startup.
        user: String,
        /// The client's address.
        host: String,
        /// Whether it gave a password.
        given: bool,
    },
    /// The client does not keep to the protocol.
    #[error(transparent)]
    Client(wire::Error),
    /// The client asked for TLS, and the handshake failed.
    #[error(transparent)]
    LocalTls(#[from] HandshakeError),
    /// The client's startup took too long.
    #[error("{CLIENT_STARTUP} took longer than {} s", .0.as_secs())]
    StartupTimeout(Duration),
    /// There is no connection to the database.
    #[error(transparent)]
    Connect(#[from] connect::Error),
    /// All stages together took too long.
    #[error("no connection within {after:?} (--connect-timeout)")]
    ConnectTimeout {
        /// The stage that was under way.
        stage: Stage,
        /// The limit.
        after: Duration,
    },
    /// The client left before it was connected.
    #[error("the client left while it was being connected")]
    ClientLeft,
    /// The target has as many clients as it may have.
    #[error("sorry, too many clients already: this listener serves {0} at a time (max_connections)")]
    TooManyClients(usize),
    /// We are shutting down.
    #[error("rdsgate is shutting down")]
    ShuttingDown,
}

impl Error {
    /// The stage that was under way.
    pub fn stage(&self) -> Stage {
        match self {
            Self::Access(_)
            | Self::PinnedUser { .. }
            | Self::LocalPassword { .. }
            | Self::Client(_)
            | Self::LocalTls(_)
            | Self::StartupTimeout(_)
            | Self::ClientLeft
            | Self::TooManyClients(_)
            | Self::ShuttingDown => Stage::Client,
            Self::Connect(error) => Stage::Connect(error.step()),
            Self::ConnectTimeout { stage, .. } => *stage,
        }
    }

    /// Whether the client has gone, before there was anything to refuse.
    pub(super) fn is_clients_departure(&self) -> bool {
        match self {
            Self::ClientLeft | Self::Access(access::Error::Gone) => true,
            Self::Client(error) => error.is_closed(),
            _ => false,
        }
    }

    /// An error of the client's side of the conversation.
    pub fn from_client(error: impl Into<wire::Error>) -> Self {
        Self::Client(error.into())
    }

    /// Whether a connection to the database that worked has been lost.
    pub(super) fn is_lost_connection(&self) -> bool {
        match self {
            Self::StartupTimeout(_) => true,
            Self::Connect(error) => error.is_lost_connection(),
            _ => false,
        }
    }

    /// Reports the timeout of a stage as that of the whole, when that is over too.
    #[must_use]
    pub(super) fn or_connect_timeout(self, deadline: Instant, after: Duration) -> Self {
        match self {
            Self::StartupTimeout(_) | Self::Connect(connect::Error::Timeout { .. }) if Instant::now() >= deadline => {
                Self::ConnectTimeout { stage: self.stage(), after }
            }
            other => other,
        }
    }

    /// The remedy.
    pub fn hint(&self, target: &Target) -> Option<String> {
        match self {
            Self::Connect(error) => error.hint(target),
            Self::ConnectTimeout { stage: Stage::Connect(step), .. } => step.timeout_hint(target),
            Self::Access(access::Error::Unmapped { .. }) => {
                Some("Run rdsgate and its clients as a user of their own, in one user namespace.".into())
            }
            Self::Access(access::Error::OtherUser { peer, .. }) if *peer != access::overflow_user() => Some(format!(
                "Run rdsgate as the user that connects, or allow that user in your own configuration: allow_users = [{peer}]."
            )),
            Self::Access(_) => Some("Run rdsgate as the user that connects.".into()),
            // Without the path of its file: the client may be anyone.
            Self::LocalPassword { .. } => Some(
                "Use rdsgate's local password, not the database's. The user that runs rdsgate finds it with: rdsgate password."
                    .into(),
            ),
            Self::PinnedUser { user, .. } => {
                Some(format!("Connect as {user:?}, or remove pin_user from the target {}.", target.name))
            }
            Self::TooManyClients(_) => {
                Some("Close idle connections, make pools smaller, or raise max_connections.".into())
            }
            Self::Client(_)
            | Self::LocalTls(_)
            | Self::StartupTimeout(_)
            | Self::ConnectTimeout { stage: Stage::Client, .. }
            | Self::ClientLeft
            | Self::ShuttingDown => None,
        }
    }

    /// The facts of AWS about the part that failed.
    fn fact(&self, target: &Target, login: &Login<'_>) -> Option<String> {
        login.facts.of_bastion(target).or_else(|| login.facts.of_database(self.stage(), target))
    }

    /// The error with its causes, one line, about the remote end of the target.
    pub fn message(&self, target: &Target) -> String {
        match self {
            Self::Connect(error) => error.message(target.remote()),
            error => causes::one_line(error),
        }
    }
}

/// The user of the failed login, for the text of an error.
pub struct Login<'a> {
    /// The database user; empty when it is not known yet.
    pub user: &'a str,
    /// The facts of AWS that bear on the error.
    pub facts: &'a Facts,
}

impl Login<'_> {
    fn context(&self, stage: Stage, target: &Target) -> String {
        let mut facts =
            vec![format!("Stage: {}. Database: {} {}.", stage.name(target.remote()), target.endpoint, target.route)];
        if !self.user.is_empty() {
            let configured = target.user.as_deref().filter(|configured| *configured != self.user);
            let asked = configured.map(|user| format!(", as the client asks (configured: {user})"));
            facts.push(format!("User: {}{}.", self.user, asked.unwrap_or_default()));
        }
        if let Some(principal) = &self.facts.principal {
            facts.push(format!("IAM principal: {}.", principal.arn));
        }
        facts.push(format!("Region: {}.", target.region));
        facts.join(" ")
    }

    /// The permission that the policy must give, as far as it is known: the resource id of the database is not in its name.
    fn permission(&self, target: &Target) -> String {
        let Facts { principal, database, .. } = self.facts;
        let user = DatabaseUser {
            account: principal.as_ref().map(|principal| principal.account.as_str()),
            resource_id: database.as_ref().and_then(|database| database.resource_id.as_deref()),
            name: self.user,
        };
        target.endpoint.permission(&target.region, user).to_string()
    }
}
