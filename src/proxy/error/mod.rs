//! Why a connection got no further, by stage, and what to do about it; what its client is told is in a file for each
//! engine.
//!
//! Message, DETAIL and HINT name hosts and principals of the user's own, never a token or key.

mod err_packet;
mod error_response;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    aws, causes,
    engine::postgres::quote_identifier,
    listen::access,
    mysql, postgres,
    proxy::explain::Facts,
    service::DatabaseUser,
    target::Target,
    tls,
    tunnel::{
        self, StreamError, direct, pool, ssm::conversation::EndReason, ssm::handshake::HandshakeError, ssm::session,
    },
};

/// What was being done; in the DETAIL of every error and in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Admitting the client and reading its startup.
    Client,
    /// Getting AWS credentials and signing.
    Credentials,
    /// Opening a session, or a TCP connection.
    Route,
    /// The bastion dials, the server answers SSLRequest.
    Database,
    /// The TLS handshake.
    Tls,
    /// Startup, token, ReadyForQuery.
    Login,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Self; 6] = [Self::Client, Self::Credentials, Self::Route, Self::Database, Self::Tls, Self::Login];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client startup",
            Self::Credentials => "AWS credentials",
            Self::Route => "route to the database",
            Self::Database => "database answer",
            Self::Tls => "TLS",
            Self::Login => "database login",
        }
    }

    /// The label for it in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Credentials => "credentials",
            Self::Route => "route",
            Self::Database => "database",
            Self::Tls => "tls",
            Self::Login => "login",
        }
    }
}

/// Why a connection got no further.
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
    /// The client's startup is wrong.
    #[error(transparent)]
    Client(postgres::Error),
    /// No usable credentials or no token.
    #[error("no AWS credentials for the database login")]
    Credentials(#[source] aws::Error),
    /// The route does not lead there.
    #[error("cannot open the route to the database")]
    Route(#[source] tunnel::Error),
    /// The route is open but the database did not answer.
    #[error("cannot reach the database")]
    Stream(#[source] StreamError),
    /// What answered is no database that would speak TLS with us.
    #[error(transparent)]
    Answer(postgres::Error),
    /// TLS failed.
    #[error("cannot set up TLS with the database server")]
    Tls(#[source] tls::Error),
    /// The database's part of the login went wrong.
    #[error(transparent)]
    Login(postgres::Error),
    /// The same of a MySQL client.
    #[error(transparent)]
    MysqlClient(mysql::Error),
    /// The same of a MySQL server's part.
    #[error(transparent)]
    MysqlLogin(mysql::Error),
    /// A stage took too long.
    #[error("{} took longer than {} s", stage.as_str(), after.as_secs())]
    Timeout {
        /// Which one.
        stage: Stage,
        /// Its deadline.
        after: Duration,
    },
    /// All stages together took too long.
    #[error("no connection within {after:?} (--connect-timeout)")]
    ConnectTimeout {
        /// Which one was at work.
        stage: Stage,
        /// The deadline.
        after: Duration,
    },
    /// The client left before it was connected.
    #[error("the client left while it was being connected")]
    ClientLeft,
    /// We are shutting down.
    #[error("rdsgate is shutting down")]
    ShuttingDown,
}

impl Error {
    /// What was being done.
    pub fn stage(&self) -> Stage {
        match self {
            Self::Access(_)
            | Self::PinnedUser { .. }
            | Self::Client(_)
            | Self::MysqlClient(_)
            | Self::ClientLeft
            | Self::ShuttingDown => Stage::Client,
            Self::Credentials(_) => Stage::Credentials,
            Self::Route(_) => Stage::Route,
            Self::Stream(_)
            | Self::Answer(_)
            | Self::MysqlLogin(mysql::Error::NoTls | mysql::Error::RefusedBeforeTls(_)) => Stage::Database,
            Self::Tls(_) => Stage::Tls,
            Self::Login(_) | Self::MysqlLogin(_) => Stage::Login,
            Self::Timeout { stage, .. } | Self::ConnectTimeout { stage, .. } => *stage,
        }
    }

    /// Sorts an error of the answer to SSLRequest: what broke underneath it says more.
    pub fn from_answer(error: postgres::Error) -> Self {
        stream_error(&error).map_or_else(|| Self::Answer(error), Self::Stream)
    }

    /// The same for a login.
    pub fn from_login(error: postgres::Error) -> Self {
        stream_error(&error).map_or_else(|| Self::Login(error), Self::Stream)
    }

    /// The same for TLS.
    pub fn from_tls(error: tls::Error) -> Self {
        let stream = match &error {
            tls::Error::Io(cause) => StreamError::from_io(cause),
            _ => None,
        };
        match stream {
            // A write after the server's end, in TLS's words.
            Some(StreamError::Closed) => Self::Tls(tls::Error::Closed),
            Some(stream) => Self::Stream(stream.clone()),
            None => Self::Tls(error),
        }
    }

    /// Whether it shows that the database itself answered, before TLS.
    pub fn is_from_database(&self) -> bool {
        matches!(
            self,
            Self::Answer(postgres::Error::NoTls | postgres::Error::RefusedBeforeTls(_))
                | Self::MysqlLogin(
                    mysql::Error::NoTls
                        | mysql::Error::RefusedBeforeTls(_)
                        | mysql::Error::GreetingVersion(_)
                        | mysql::Error::TooOld(_)
                )
        )
    }

    /// Whether the client has gone, before there was anything to refuse.
    pub(super) fn is_clients_departure(&self) -> bool {
        matches!(
            self,
            Self::ClientLeft
                | Self::Access(access::Error::Gone)
                | Self::Client(postgres::Error::Closed { .. })
                | Self::MysqlClient(mysql::Error::Closed { .. })
        )
    }

    /// A timeout that was that of all stages together is called so.
    #[must_use]
    pub(super) fn or_connect_timeout(self, deadline: Instant, after: Duration) -> Self {
        match self {
            Self::Timeout { stage, .. } if Instant::now() >= deadline => Self::ConnectTimeout { stage, after },
            other => other,
        }
    }

    /// What to do about it.
    pub fn hint(&self, target: &Target) -> Option<String> {
        match self {
            Self::Credentials(cause) => cause.hint(),
            Self::Route(cause) => route_hint(cause, target),
            Self::Tls(cause) => cause.hint(),
            Self::Stream(StreamError::Refused) if target.session.document.is_for_node() => Some(format!(
                "The session document forwards to the bastion itself: check that something listens on its port {}.",
                target.endpoint.port
            )),
            Self::Stream(StreamError::Refused) => Some(format!(
                "Check that the security group of the database lets the bastion in on port {port}, that {port} is its port, and \
                 that {host} resolves on the bastion.",
                port = target.endpoint.port,
                host = target.endpoint.host,
            )),
            Self::Stream(StreamError::DialTimeout(_)) => stage_hint(Stage::Database, target),
            Self::Stream(StreamError::AgentSilent) => Some(
                "See whether the bastion is running and its DNS answers; restart its SSM agent, or update it.".into(),
            ),
            Self::Stream(StreamError::LinkLost) => stage_hint(Stage::Route, target),
            Self::Stream(StreamError::SessionEnded(_)) => Some(session_ended_hint(target)),
            Self::Timeout { stage, .. } | Self::ConnectTimeout { stage, .. } => stage_hint(*stage, target),
            Self::Answer(error) => {
                error.report().and_then(|report| report.hint).or_else(|| Some(NO_DATABASE_HINT.into()))
            }
            Self::MysqlLogin(error) => error.report().and_then(|report| report.hint),
            Self::Access(access::Error::Unmapped { .. }) => {
                Some("Run rdsgate and its clients as a user of their own, in one user namespace.".into())
            }
            Self::Access(_) => Some("Run rdsgate as the user that connects.".into()),
            Self::PinnedUser { user, .. } => {
                Some(format!("Connect as {user:?}, or remove pin_user from the target {}.", target.name))
            }
            Self::Stream(StreamError::Closed)
            | Self::Client(_)
            | Self::Login(_)
            | Self::MysqlClient(_)
            | Self::ClientLeft
            | Self::ShuttingDown => None,
        }
    }

    /// Whether the database may have moved to another address: what was dialled refuses, goes away or shuts down.
    pub(super) fn suggests_failover(&self) -> bool {
        match self {
            Self::Stream(StreamError::Refused) | Self::Tls(tls::Error::Closed | tls::Error::Io(_)) => true,
            Self::Answer(error) | Self::Login(error) => error.suggests_failover(),
            Self::MysqlLogin(error) => error.suggests_failover(),
            Self::Stream(_)
            | Self::Tls(_)
            | Self::Access(_)
            | Self::PinnedUser { .. }
            | Self::Client(_)
            | Self::MysqlClient(_)
            | Self::Credentials(_)
            | Self::Route(_)
            | Self::Timeout { .. }
            | Self::ConnectTimeout { .. }
            | Self::ClientLeft
            | Self::ShuttingDown => false,
        }
    }

    /// What AWS says of the thing that failed.
    fn fact(&self, target: &Target, login: &Login<'_>) -> Option<String> {
        login.facts.of_bastion(target).or_else(|| login.facts.of_database(self.stage(), target))
    }

    /// Whether Systems Manager has no connection to the bastion's agent.
    pub(super) fn bastion_is_not_connected(&self) -> bool {
        match self {
            Self::Route(tunnel::Error::Pool(pool::Error::Session(error))) => {
                let session::Error::Start { cause, .. } = &**error else { return false };
                matches!(&**cause, aws::Error::TargetNotConnected { .. })
            }
            _ => false,
        }
    }

    /// The error with its causes, one line.
    pub fn message(&self) -> String {
        causes::one_line(self)
    }
}

/// Who was to log in, for the words of an error.
pub struct Login<'a> {
    /// The database user; empty when it is not known yet.
    pub user: &'a str,
    /// What AWS knows that bears on the error.
    pub facts: &'a Facts,
}

impl Login<'_> {
    fn context(&self, stage: Stage, target: &Target) -> String {
        let mut facts = vec![format!("Stage: {}. Database: {} {}.", stage.as_str(), target.endpoint, target.route)];
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

    fn grant_hint(&self) -> String {
        format!(
            "As an administrator: GRANT rds_iam TO {}; and check that IAM database authentication is enabled on the instance, \
             cluster or RDS Proxy.",
            quote_identifier(self.user)
        )
    }

    /// What the policy must allow, as far as it is known: the resource id of the database is not in its name.
    fn permission(&self, target: &Target) -> String {
        let Facts { principal, database, .. } = self.facts;
        let user = DatabaseUser {
            account: principal.as_ref().map(|principal| principal.account.as_str()),
            resource_id: database.as_ref().and_then(|database| database.resource_id.as_deref()),
            name: self.user,
        };
        target.endpoint.service().permission(&target.region, user).to_string()
    }
}

fn stage_hint(stage: Stage, target: &Target) -> Option<String> {
    match stage {
        Stage::Route => Some("Check the network and that the SSM agent on the bastion is online.".into()),
        Stage::Database if target.session.document.is_for_node() => Some(format!(
            "See whether what listens on port {} of the bastion itself answers there.",
            target.endpoint.port
        )),
        Stage::Database => Some(format!(
            "Silence mostly means a security group or network ACL between the bastion and the database: allow port {} from \
             the bastion.",
            target.endpoint.port,
        )),
        Stage::Login => {
            Some("The database is busy, or its authentication is: IAM logins are limited to about 200 a second.".into())
        }
        Stage::Credentials => Some(
            "If rdsgate's terminal asks for a login or an MFA code, answer there and connect again; otherwise see whether \
             aws sts get-caller-identity answers."
                .into(),
        ),
        Stage::Client | Stage::Tls => None,
    }
}

/// The agent's or the service's last words are in the message; nobody has promised what they are.
fn session_ended_hint(target: &Target) -> String {
    // Short, so that a MySQL client sees both this and what it is about.
    format!(
        "If about {}: correct the name or the bastion's DNS. If about logs or encryption: Session Manager's preferences. \
         Else restart or update the bastion's SSM agent.",
        target.endpoint.host
    )
}

const NO_DATABASE_HINT: &str =
    "Check that host and port are those of the database's endpoint, and that it is available.";

fn stream_error(error: &postgres::Error) -> Option<StreamError> {
    match error {
        postgres::Error::Io(cause) => StreamError::from_io(cause).cloned(),
        _ => None,
    }
}

fn route_hint(cause: &tunnel::Error, target: &Target) -> Option<String> {
    match cause {
        tunnel::Error::Pool(pool::Error::Session(error)) => session_hint(error, target),
        tunnel::Error::Pool(pool::Error::Closed) | tunnel::Error::PeerGone | tunnel::Error::Peer { .. } => None,
        tunnel::Error::Nowhere(_) => {
            Some("Correct the DNS record, or name the database's own endpoint; rdsgate ls shows it.".into())
        }
        tunnel::Error::Pool(pool::Error::NoRoom { .. }) => {
            Some("Close connections, read what they have to say, or raise max_sessions.".into())
        }
        tunnel::Error::Direct(direct::Error::Resolve { .. }) => {
            Some("Private endpoints may resolve inside their VPC only: use --bastion.".into())
        }
        tunnel::Error::Direct(direct::Error::Own { hosts: Some(line), .. }) => Some(format!(
            "Remove line {} of /etc/hosts: clients connect to localhost, and rdsgate needs the address of the database.",
            line.number
        )),
        tunnel::Error::Direct(direct::Error::Own { endpoint, .. }) => {
            Some(format!("Correct the name server of this machine, which says that {} is here.", endpoint.host))
        }
        tunnel::Error::Direct(direct::Error::Connect { .. }) => Some(
            "A private database is not reachable from here: use --bastion, or check the VPN and security group.".into(),
        ),
    }
}

fn session_hint(error: &Arc<session::Error>, target: &Target) -> Option<String> {
    let way = || {
        format!(
            "Check the way to ssmmessages.{}.{}: proxy, firewall, VPC endpoint.",
            target.region,
            target.region.partition().dns_suffix()
        )
    };
    match &**error {
        session::Error::Start { cause, .. } | session::Error::Sign(cause) => cause.hint(),
        session::Error::WebSocket(cause) => Some(cause.hint().map_or_else(way, str::to_owned)),
        session::Error::WebSocketTimeout | session::Error::FirstFrame(_) => Some(way()),
        session::Error::Ended { reason, .. } => match reason {
            EndReason::Handshake(HandshakeError::AgentTooOld(_) | HandshakeError::NoRemoteHost(_)) => {
                Some("Update the SSM agent: aws ssm send-command --document-name AWS-UpdateSSMAgent --targets …".into())
            }
            EndReason::Handshake(HandshakeError::Elsewhere { .. } | HandshakeError::NoAddress(_)) => Some(
                "Check --document and --document-parameters: the document must dial the target's host and port, and name \
                 both in its properties."
                    .into(),
            ),
            EndReason::HandshakeTimeout(_) => Some("Restart the SSM agent on the bastion, or update it.".into()),
            EndReason::ChannelClosed(_) => Some(session_ended_hint(target)),
            _ => None,
        },
    }
}
