//! How we prove ourselves to the database: what a login takes before anything is dialled, and what is sent when the
//! server asks for authentication. Nothing else knows of tokens.
//!
//! ```text
//!   Login::of(target) ── prepare(account) ──▶ Prepared ── proof(target, user, now) ──▶ Proof ──▶ server
//!                        before the dial                  after TLS: a token is fresh   on its request
//! ```
//!
//! A new login is a variant of the enums and, if users choose it, a value of the option `auth`, which [`Login::of`] reads. The
//! engines match on [`Proof`], because they know the requests of a server and what answers them.

use std::time::SystemTime;

use aws_credential_types::Credentials;

use crate::{
    aws::{Account, Error, PasswordInUse, token},
    target::{Auth, PasswordSource, Target},
};

/// A way to prove our identity to a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// By a token that is signed with IAM credentials.
    Iam,
    /// By the password of the client, which passes through.
    Password,
    /// By a password that is fetched: [`Target::password`].
    Secret,
}

/// A login with the data that had to be fetched for it.
#[derive(Clone)]
pub enum Prepared {
    /// The credentials that sign the token.
    Iam(Credentials),
    /// Nothing: the client has the password.
    Password,
    /// The password.
    Secret(PasswordInUse),
}

/// The proof of our identity, ready to be sent to the server.
pub enum Proof {
    /// A token, which is only sent in reply to a request for a cleartext password.
    Token(token::Token),
    /// The client's: the requests of the server go to it, and its answers to the server.
    OfClient,
    /// A password, which is sent in the form that the server asks for.
    Secret(PasswordInUse),
}

/// The part of a login that may be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// By a token.
    Token {
        /// Its length in characters.
        length: usize,
        /// When the server stops accepting it.
        expires: SystemTime,
    },
    /// By the password of the client.
    Password,
    /// By a password that was fetched.
    Secret,
}

impl Login {
    /// The login of a target.
    pub fn of(target: &Target) -> Self {
        match target.auth {
            Auth::Iam => Self::Iam,
            Auth::Password => Self::Password,
            Auth::Secret => Self::Secret,
        }
    }

    /// Whether it asks AWS for anything, whatever the route.
    pub fn needs_credentials(self, target: &Target) -> bool {
        match self {
            Self::Iam => true,
            Self::Password => false,
            Self::Secret => !matches!(target.password, PasswordSource::Command(_)),
        }
    }

    /// Fetches the data for the login. Called before the dial, so that expired credentials do not cost a session.
    ///
    /// # Errors
    /// As for [`Account::credentials_for_client`] and [`Account::password`].
    pub async fn prepare(self, target: &Target, account: &Account) -> Result<Prepared, Error> {
        match self {
            Self::Iam => account.credentials_for_client().await.map(Prepared::Iam),
            Self::Password => Ok(Prepared::Password),
            Self::Secret => Box::pin(account.password(&target.password, &target.endpoint)).await.map(Prepared::Secret),
        }
    }
}

impl Prepared {
    /// The only user that it can log in, if the password names one.
    pub fn user(&self) -> Option<&str> {
        match self {
            Self::Iam(_) | Self::Password => None,
            Self::Secret(password) => password.user(),
        }
    }

    /// Whether both prove the same identity with the same credentials. Never for the password of a client, which only the client
    /// has.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Iam(one), Self::Iam(other)) => {
                (one.access_key_id(), one.session_token()) == (other.access_key_id(), other.session_token())
            }
            (Self::Secret(one), Self::Secret(other)) => one.is_same(other),
            (Self::Iam(_) | Self::Password | Self::Secret(_), _) => false,
        }
    }

    /// Whether the database has refused it since it was prepared. If not, it counts as sent: use it now.
    pub fn is_stale(&self) -> bool {
        match self {
            Self::Iam(_) | Self::Password => false,
            Self::Secret(password) => !password.claim(),
        }
    }

    /// Makes the proof for `user` at the target's endpoint. It makes no call; a token is valid from `now`.
    ///
    /// # Errors
    /// [`Error::Signing`], for a host that no URL can hold.
    pub fn proof(&self, target: &Target, user: &str, now: SystemTime) -> Result<Proof, Error> {
        match self {
            Self::Iam(credentials) => {
                token::sign(&target.endpoint, &target.region, user, credentials, now).map(Proof::Token)
            }
            Self::Password => Ok(Proof::OfClient),
            Self::Secret(password) => Ok(Proof::Secret(password.clone())),
        }
    }
}

impl Proof {
    /// The part of it that may be logged.
    pub fn record(&self) -> Record {
        match self {
            Self::Token(token) => Record::Token { length: token.secret().expose().len(), expires: token.expires_at() },
            Self::OfClient => Record::Password,
            Self::Secret(_) => Record::Secret,
        }
    }
}
