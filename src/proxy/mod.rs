//! The proxy core: the life of a connection, from its acceptance to its end.
//!
//! ```text
//!   listen ─▶ serve ─▶ listen::access, engine: accept ─▶ engine: connect, guard ─▶ relay ─▶ one log line
//! ```
//!
//! It knows nothing of configuration files and command lines; tasks and signals are [`crate::app`]'s.

pub mod error;
mod explain;
pub mod facts;
pub mod last_failure;
mod names;
pub mod open;
mod os_user;
mod registry;
pub mod serve;
pub mod stage;
