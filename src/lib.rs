//! rdsgate: a local, passwordless door to private Amazon RDS and Aurora databases.
//!
//! ```text
//!   psql ─▶ listen ───▶ access ─▶ connection ─▶ serve/postgres ─▶ postgres::accept      user, database, options
//!                                     │               ▼ upstream
//!                                     │        tunnel::dial ─▶ direct │ pool ▸ session ▸ smux stream ▸ channel ▸ websocket ─▶ agent ─▶ RDS
//!                                     │        postgres::login asks TLS ─▶ tls::connect(real host name) ─▶ aws::token ─▶ password ─▶ ReadyForQuery
//!                                     │               ▼ greeting to the client, leftover bytes first
//!                                     └──────── stream::relay  client ⇄ TLS ⇄ tunnel,  postgres::watch on the way back
//!                                                     ▼
//!                                               End { side, reason, bytes, duration } ─▶ one log line, metrics
//! ```
//!
//! The modules, from the words up; each imports only those above it (`tests/it/layering.rs` holds them to it):

pub mod admin;
pub mod app;
pub mod aws;
pub mod causes;
pub mod cli;
pub mod config;
pub mod connect;
pub mod discover;
pub mod doctor;
pub mod engine;
pub mod limits;
pub mod listen;
pub mod login;
pub mod outbound;
pub mod proxy;
pub mod quote;
pub mod regular_file;
pub mod service;
pub mod stream;
pub mod target;
pub mod telemetry;
pub mod tls;
pub mod tunnel;

pub use database_wire::{mysql, postgres};
pub use safe_display::{printable, secret};
