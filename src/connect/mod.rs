//! The way to a database, step by step. The proxy takes it for its clients, `rdsgate doctor` to report on it.
//!
//! ```text
//!   Credentials ─▶ Route ─▶ Answer ─▶ Tls ─▶ Login
//!                   ▲          │
//!                   └──────────┘ once, on a new SSM session, when the old one turns out to be dead
//! ```
//!
//! - [`Plan`] has the steps that are the same for every engine: credentials, route and answer, token;
//! - [`postgres`] and [`mysql`] have those that are not: what the first bytes are, how TLS begins, the login;
//! - [`Attempt`] gives each step its time by the table in [`limits`](crate::limits), and keeps the record of the steps: the
//!   proxy makes metrics and log lines of it, doctor its report.
//!
//! The order of the calls is the caller's: a MySQL server greets before the client has said anything, so there the proxy
//! waits for its client between answer and TLS.

mod attempt;
mod error;
mod hint;
pub mod mysql;
mod plan;
pub mod postgres;
mod server;
mod step;

pub use self::{
    attempt::{Attempt, Deadline, Hope, TakenRoute},
    error::Error,
    plan::{Plan, Stream},
    server::Server,
    step::Step,
};
