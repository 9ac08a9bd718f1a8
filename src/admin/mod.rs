//! HTTP endpoints on this machine for supervisors, scrapers and users: health, metrics and status of the running process, and a page
//! for eyes.
//!
//! ```text
//!   GET /          the page, see page
//!   GET /healthz   200 ok; 503 while it drains
//!   GET /readyz    200 ok once every listener is bound; else 503
//!   GET /metrics   OpenMetrics: telemetry's counts, and the sessions at the time of the request
//!   GET /status    JSON, see model; docs/operations.md lists the keys
//!   POST /reload   reads the configuration again; the reply says what has changed, or why nothing has
//! ```
//!
//! Every process that serves targets also answers on a socket of its own in the user's runtime folder, for `rdsgate status`.
//!
//! The endpoints contain no secrets and no statements, and all but `/reload` are read-only. They do contain host names, so the rule
//! for database clients applies to callers too ([`listen::access`](crate::listen::access)): only our own user and root.

mod forms;
pub mod model;
mod page;
mod phase;
pub mod server;
mod sessions;
mod view;

pub use self::{
    server::Server,
    view::{Outcome, Reload, ReloadRequest, Served, View},
};
