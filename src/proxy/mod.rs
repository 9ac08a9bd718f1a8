//! The proxy core: listeners, who may connect, and the life of a connection.
//!
//! ```text
//!   listener ─▶ serve ─▶ access, postgres::accept ─▶ upstream: route, TLS, token, login ─▶ relay ─▶ one log line
//! ```
//!
//! It knows nothing of configuration files and command lines; tasks and signals are [`crate::app`]'s.

pub mod access;
pub mod clock;
pub mod error;
pub mod explain;
pub mod guard;
pub mod listener;
mod names;
mod os_user;
pub mod owner;
pub mod registry;
pub mod serve;
pub mod upstream;
