//! The steps of connecting, in order.

use crate::target::{Remote, Target};

/// A step of connecting to a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// AWS credentials, and the token signed with them.
    Credentials,
    /// An SSM session, or a TCP connection of our own.
    Route,
    /// The server's first bytes: they prove that the connection reaches it.
    Answer,
    /// The TLS handshake.
    Tls,
    /// Startup, token, and the server's verdict.
    Login,
}

impl Step {
    /// Every step, in order.
    pub const ALL: [Self; 5] = [Self::Credentials, Self::Route, Self::Answer, Self::Tls, Self::Login];

    /// The name for people, on the way to this remote end.
    pub fn name(self, remote: Remote) -> &'static str {
        match (self, remote) {
            (Self::Credentials, _) => "AWS credentials",
            (Self::Route, Remote::Database) => "route to the database",
            (Self::Route, Remote::Server) => "route to the server",
            (Self::Answer, Remote::Database) => "database answer",
            (Self::Answer, Remote::Server) => "server answer",
            (Self::Tls, _) => "TLS",
            (Self::Login, _) => "database login",
        }
    }

    /// The label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Credentials => "credentials",
            Self::Route => "route",
            Self::Answer => "database",
            Self::Tls => "tls",
            Self::Login => "login",
        }
    }

    /// The remedy when the step takes too long.
    pub fn timeout_hint(self, target: &Target) -> Option<String> {
        match self {
            Self::Route => Some("Check the network and that the SSM agent on the bastion is online.".into()),
            Self::Answer if target.session.document.is_for_node() => Some(format!(
                "See whether what listens on port {} of the bastion itself answers there.",
                target.endpoint.port
            )),
            Self::Answer => Some(format!(
                "Check the security groups and network ACLs between the bastion and the {}: silence mostly means that one of \
                 them drops port {}.",
                target.remote(),
                target.endpoint.port,
            )),
            Self::Login => {
                Some("The database is busy, or its authentication is: IAM logins are limited to about 200 a second.".into())
            }
            Self::Credentials => Some(
                "If rdsgate's terminal asks for a login or an MFA code, answer there and connect again; otherwise see whether \
                 rdsgate whoami answers."
                    .into(),
            ),
            Self::Tls => None,
        }
    }
}
