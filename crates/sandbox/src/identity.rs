//! The callers of the sandbox: access keys, their secrets and permissions.

use std::collections::BTreeSet;

use safe_display::secret::Secret;

use super::operation::Operation;

/// The account that every identity of the sandbox belongs to.
pub const ACCOUNT: &str = "123456789012";

/// One access key that the sandbox knows. Flags may be changed while it runs, see [`super::Sandbox::identity`].
#[derive(Clone)]
pub struct Identity {
    /// The access key id.
    pub access_key: String,
    /// The secret access key.
    pub secret: Secret<String>,
    /// The session token that a request must contain.
    pub session_token: SessionToken,
    /// The ARN that GetCallerIdentity returns.
    pub arn: String,
    /// The database users for which the key has `rds-db:connect`; `None` is all of them.
    pub database_users: Option<Vec<String>>,
    /// Whether every call is refused, because the credentials have expired.
    pub expired: bool,
    /// The operations that IAM denies.
    pub denied: BTreeSet<Operation>,
    /// Whether a code of an MFA device preceded these credentials.
    pub mfa: bool,
}

/// The session token that belongs to an access key.
#[derive(Clone)]
pub enum SessionToken {
    /// A long-term key: none may be sent.
    None,
    /// Any token must be sent.
    Any,
    /// Exactly this token.
    Exact(Secret<String>),
}

impl SessionToken {
    pub(super) fn accepts(&self, sent: Option<&str>) -> bool {
        match self {
            Self::None => sent.is_none(),
            Self::Any => sent.is_some_and(|token| !token.is_empty()),
            Self::Exact(token) => sent == Some(token.expose()),
        }
    }
}

impl Identity {
    /// An identity that may do everything.
    pub fn new(access_key: &str, secret: &str, session_token: SessionToken, name: &str) -> Self {
        Self {
            access_key: access_key.into(),
            secret: Secret::new(secret.into()),
            session_token,
            arn: format!("arn:aws:iam::{ACCOUNT}:user/{name}"),
            database_users: None,
            expired: false,
            denied: BTreeSet::new(),
            mfa: false,
        }
    }

    /// A user with a long-term key, which the test servers in `tests/servers` know too.
    pub fn user() -> Self {
        Self::new("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", SessionToken::None, "dev")
    }

    /// Temporary credentials that take any session token; known to the test servers.
    pub fn temporary() -> Self {
        Self::new("ASIAIOSFODNN7EXAMPLE", "sTsXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY+/", SessionToken::Any, "dev").role()
    }

    /// Temporary credentials with exactly this (long) session token; known to the test servers by a file they share.
    pub fn temporary_with(session_token: String) -> Self {
        let token = SessionToken::Exact(Secret::new(session_token));
        Self::new("ASIALONGDNN7EXAMPLE0", "lOnGXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY/", token, "dev").role()
    }

    /// A user whose policy allows `rds-db:connect` for the database user `readonly` alone; known to the test servers.
    pub fn readonly() -> Self {
        Self {
            database_users: Some(vec!["readonly".into()]),
            ..Self::new(
                "AKIAREADONLYEXAMPLE0",
                "rEaDXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY0",
                SessionToken::None,
                "readonly",
            )
        }
    }

    fn role(mut self) -> Self {
        self.arn = format!("arn:aws:sts::{ACCOUNT}:assumed-role/developer/dev");
        self
    }

    /// The name at the end of the ARN; session ids begin with it.
    pub(super) fn name(&self) -> &str {
        self.arn.rsplit('/').next().unwrap_or(&self.arn)
    }

    /// The environment of a program that uses this identity.
    pub fn env(&self) -> Vec<(String, String)> {
        let mut env = vec![
            ("AWS_ACCESS_KEY_ID".into(), self.access_key.clone()),
            ("AWS_SECRET_ACCESS_KEY".into(), self.secret.expose().clone()),
        ];
        match &self.session_token {
            SessionToken::None => {}
            // The length of a usual one.
            SessionToken::Any => env.push(("AWS_SESSION_TOKEN".into(), "IQoJb3JpZ2luX2VjE".repeat(24))),
            SessionToken::Exact(token) => env.push(("AWS_SESSION_TOKEN".into(), token.expose().clone())),
        }
        env
    }
}
