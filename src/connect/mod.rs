//! The way to a database, step by step. The proxy takes it for its clients, `rdsgate doctor` to report on it.
//!
//! ```text
//!   Credentials ─▶ Route ─▶ Answer ─▶ Tls ─▶ Login
//!                   ▲          │
//!                   └──────────┘ once, on a new SSM session, when the old one turns out to be dead
//! ```
//!
//! - [`Plan`] has the steps that are the same for every engine: credentials, route and answer, token;
//! - the folders of [`engine`](crate::engine) have those that are not: the first bytes, the beginning of TLS, the login;
//! - [`Attempt`] gives each step its time by the table in [`limits`](crate::limits), and keeps the record of the steps: the
//!   proxy makes metrics and log lines of it, doctor its report;
//! - [`Pace`] keeps the number of logins a second below the limit of RDS;
//! - [`Upstream`] has what all connections of the proxy to one database share.
//!
//! The order of the calls is the caller's: a MySQL server greets before the client has said anything, so there the proxy
//! waits for its client between answer and TLS.

mod attempt;
mod error;
mod hint;
mod pace;
mod plan;
mod server;
mod step;
mod upstream;

pub use self::{
    attempt::{Attempt, Deadline, Hope, TakenRoute},
    error::Error,
    hint::NO_DATABASE_HINT,
    pace::{Overrun, Pace},
    plan::{Plan, Stream},
    server::Server,
    step::Step,
    upstream::{PasswordTries, Record, Upstream},
};
