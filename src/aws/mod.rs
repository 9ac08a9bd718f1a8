//! AWS: credentials, renewed before expiry; the session calls of SSM; descriptions of databases and managed nodes; the caller's
//! identity; signatures.
//!
//! An [`Account`] is one identity in one region, one of the [`Accounts`] of a process. Those share one HTTP client
//! (`http`), and accounts with the same identity one cache of credentials (`credentials`), which are made by `issue` with
//! the help of `profiles`, `provide`, `mfa`, `assume` and `sso`. The SDK reads no variable and no file by itself: `calls` gives it
//! the settings from `profiles` and `endpoints`. An [`Interaction`] carries questions that only a person can answer.
//! [`token`] and [`sign`] are pure and make no call. `call` serves the APIs whose SDK is not used here ([`Api`]). Every call has its own
//! time limit (`limits`), so none can hang, and runs without a log subscriber, because trace lines of the SDK contain session tokens.
//! `password` holds the passwords of databases, which `secret` fetches. `meaning` turns failures of the SDK and error codes into [`Error`]s.
//!
//! This module knows nothing of tunnels and database protocols.

mod account;
mod api;
mod assume;
mod call;
mod calls;
mod credentials;
mod endpoints;
mod error;
mod flight;
mod http;
mod interaction;
#[cfg(any(test, feature = "testing"))]
pub mod invariants;
mod issue;
mod lifetime;
mod limits;
mod meaning;
mod mfa;
pub mod network;
pub mod nodes;
mod obtain;
mod origin;
mod password;
pub mod permission;
mod principal;
mod process;
mod profiles;
mod provide;
pub mod rds;
#[cfg(test)]
mod reference;
mod secret;
mod sessions;
pub mod sign;
mod ssm;
mod sso;
mod start;
mod sts;
mod time;
pub mod token;
mod unreachable;
pub mod vpc;
pub mod xml;

pub use self::{
    account::{Account, Accounts, Options},
    api::Api,
    error::{Error, FileProblem, Retry, StrayTitle, is_sentence},
    interaction::{Answer, Interaction, Prompt},
    password::{Password, PasswordInUse},
    principal::Principal,
    sessions::OpenSession,
    start::Start,
    unreachable::Unreachable,
};

#[cfg(test)]
pub(crate) mod tests;
