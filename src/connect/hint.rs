//! The remedies for an error of connecting.

use std::sync::Arc;

use super::{error::Error, step::Step};
use crate::{
    aws,
    target::{Remote, Target},
    tunnel::{
        self, StreamError, control::aws_error, direct, message_service, pool, ssm::conversation::EndReason,
        ssm::handshake::HandshakeError, ssm::session,
    },
};

/// For an answer that does not look like the database's.
pub const NO_DATABASE_HINT: &str =
    "Check that host and port are those of the database's endpoint, and that it is available.";

impl Error {
    /// The remedy.
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
                "Check that the security group of the {remote} lets the bastion in on port {port}, that {port} is its port, and \
                 that {host} resolves on the bastion.",
                remote = target.remote(),
                port = target.endpoint.port,
                host = target.endpoint.host,
            )),
            Self::Stream(StreamError::DialTimeout(_)) => Step::Answer.timeout_hint(target),
            Self::Stream(StreamError::AgentSilent) => Some(
                "See whether the bastion is running and its DNS answers; restart its SSM agent, or update it.".into(),
            ),
            Self::Stream(StreamError::LinkLost) => Step::Route.timeout_hint(target),
            Self::Stream(StreamError::SessionEnded(_)) => Some(session_ended_hint(target)),
            Self::Pace(_) => Some(
                "Use a connection pool with fewer connections, or raise --connect-timeout: RDS takes about 200 IAM logins a second.".into(),
            ),
            Self::Timeout { step, .. } => step.timeout_hint(target),
            Self::Answer(error) => error.hint().or_else(|| Some(NO_DATABASE_HINT.into())),
            Self::Login(error) => error.hint(),
            Self::Stream(StreamError::Closed) => None,
        }
    }
}

/// The message holds the agent's or the service's last words, whose text is not documented.
fn session_ended_hint(target: &Target) -> String {
    // Short, so that a MySQL client sees both this and what it is about.
    format!(
        "If it is about {}, check the name and the bastion's DNS; if about logs or encryption, Session Manager's preferences; \
         otherwise restart or update the bastion's SSM agent.",
        target.endpoint.host
    )
}

fn route_hint(cause: &tunnel::Error, target: &Target) -> Option<String> {
    match cause {
        tunnel::Error::Pool(pool::Error::Session(error)) => session_hint(error, target),
        tunnel::Error::Pool(pool::Error::Closed) | tunnel::Error::PeerGone | tunnel::Error::Peer { .. } => None,
        tunnel::Error::Nowhere(_) => Some(match target.remote() {
            Remote::Database => {
                "Correct the DNS record, or name the database's own endpoint; rdsgate ls shows it.".into()
            }
            Remote::Server => "Correct the DNS record, or name the server's own host.".into(),
        }),
        tunnel::Error::Pool(pool::Error::NoRoom { .. }) => {
            Some("Close idle connections, make clients read their results, or raise max_sessions.".into())
        }
        tunnel::Error::Direct(direct::Error::Resolve { .. }) => {
            Some("Private endpoints may resolve inside their VPC only: use --bastion.".into())
        }
        tunnel::Error::Direct(direct::Error::Own { hosts: Some(line), .. }) => Some(format!(
            "Remove line {} of /etc/hosts: clients connect to localhost, and rdsgate needs the address of the {}.",
            line.number,
            target.remote()
        )),
        tunnel::Error::Direct(direct::Error::Own { endpoint, .. }) => {
            Some(format!("Correct the name server of this machine, which says that {} is here.", endpoint.host))
        }
        tunnel::Error::Direct(direct::Error::Connect { .. }) => Some(format!(
            "A private {} is not reachable from here: use --bastion, or check the VPN and security group.",
            target.remote()
        )),
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
        session::Error::Start { cause, .. } | session::Error::Sign(cause) => {
            let error = aws_error(cause)?;
            let hint = error.hint()?;
            let prints = format!("; run: rdsgate policy {}", target.name);
            Some(if matches!(error, aws::Error::AccessDenied { .. }) { hint + &prints } else { hint })
        }
        session::Error::WebSocket(cause) => Some(message_service::hint(cause).map_or_else(way, str::to_owned)),
        session::Error::WebSocketTimeout | session::Error::FirstFrame(_) => Some(way()),
        session::Error::Ended { node, reason } => match reason {
            EndReason::Handshake(HandshakeError::AgentTooOld(_) | HandshakeError::NoRemoteHost(_)) => Some(format!(
                "Update the SSM agent: aws ssm send-command --document-name AWS-UpdateSSMAgent --instance-ids {node}"
            )),
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
