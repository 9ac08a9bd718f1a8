//! The proxy core: the life of a connection, from its acceptance to its end.
//!
//! ```text
//!   listen ─▶ serve ─▶ listen::access, postgres::accept ─▶ upstream: connect, guard ─▶ relay ─▶ one log line
//! ```
//!
//! It knows nothing of configuration files and command lines; tasks and signals are [`crate::app`]'s.

pub mod error;
pub mod explain;
pub mod facts;
mod names;
mod os_user;
pub mod registry;
pub mod serve;
pub mod stage;
pub mod upstream;
