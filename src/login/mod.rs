//! How we prove ourselves to the database: what a login takes before anything is dialled, and what is sent when the
//! server asks for authentication. Nothing else knows of tokens.
//!
//! ```text
//!   Login::of(target) ── prepare(account) ──▶ Prepared ── proof(target, user, now) ──▶ Proof ── cleartext() ──▶ server
//!                        before the dial                  after TLS: it is fresh              on its request
//! ```
//!
//! A new login is a variant of the three enums and, if users choose it, an option that [`Login::of`] reads.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use safe_display::Secret;

use crate::{
    aws::{Account, Error, token},
    target::Target,
};

/// A way to prove our identity to a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// By a token that is signed with IAM credentials.
    Iam,
}

/// A login with the data that had to be fetched for it.
pub enum Prepared {
    /// The credentials that sign the token.
    Iam(Credentials),
}

/// The proof of our identity, ready to be sent to the server.
pub enum Proof {
    /// A token, which is only sent in reply to a request for a cleartext password.
    Token(token::Token),
}

impl Login {
    /// The login of a target.
    pub fn of(_: &Target) -> Self {
        Self::Iam
    }

    /// Fetches the data for the login. Called before the dial, so that expired credentials do not cost a session.
    ///
    /// # Errors
    /// As for [`Account::credentials_for_client`].
    pub async fn prepare(self, account: &Account) -> Result<Prepared, Error> {
        match self {
            Self::Iam => account.credentials_for_client().await.map(Prepared::Iam),
        }
    }

    /// Whether [`prepare`](Self::prepare) may wait for a person or for another program.
    pub fn may_wait(self, account: &Account) -> bool {
        match self {
            Self::Iam => account.may_ask() || account.runs_process(),
        }
    }
}

impl Prepared {
    /// Makes the proof for `user` at the target's endpoint. It makes no call; a token is valid from `now`.
    ///
    /// # Errors
    /// [`Error::Signing`], for a host that no URL can hold.
    pub fn proof(&self, target: &Target, user: &str, now: SystemTime) -> Result<Proof, Error> {
        match self {
            Self::Iam(credentials) => {
                token::sign(&target.endpoint, &target.region, user, credentials, now).map(Proof::Token)
            }
        }
    }
}

impl Proof {
    /// The answer to a request for a cleartext password: PostgreSQL's AuthenticationCleartextPassword, MySQL's
    /// `mysql_clear_password`.
    pub fn cleartext(&self) -> &Secret<String> {
        match self {
            Self::Token(token) => token.secret(),
        }
    }

    /// The length of that answer in bytes.
    #[expect(clippy::len_without_is_empty, reason = "no proof is empty")]
    pub fn len(&self) -> usize {
        self.cleartext().expose().len()
    }

    /// When the server stops accepting it.
    pub fn expires_at(&self) -> SystemTime {
        match self {
            Self::Token(token) => token.expires_at(),
        }
    }
}
