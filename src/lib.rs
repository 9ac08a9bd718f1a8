//! rdsgate: a local, passwordless door to private Amazon RDS and Aurora databases.
//!
//! ```text
//!   psql ─▶ listen: access ─▶ proxy: connection ─▶ engine::accept       user, database, options
//!                                │                    ▼
//!                                │     engine, connect: credentials ─▶ route ─▶ answer ─▶ TLS ─▶ login
//!                                │                               │                │        └ login: token ─▶ ReadyForQuery
//!                                │                               │                └ tls::connect(real host name)
//!                                │                               └ tunnel: direct │ pool ▸ SSM session ▸ stream ─▶ agent ─▶ RDS
//!                                │                    ▼ greeting to the client, leftover bytes first
//!                                └──────────── stream::relay  client ⇄ TLS ⇄ tunnel, engine: tap on the way back
//!                                                     ▼
//!                                               End { side, reason, bytes, duration } ─▶ one log line, metrics
//! ```
//!
//! docs/architecture.md describes the modules; `tests/it/layering.rs` holds each to the modules that it may import.

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
pub mod local_connection;
pub mod local_password;
pub mod login;
pub mod outbound;
pub mod platform;
pub mod proxy;
pub mod quote;
pub mod regular_file;
pub mod service;
pub mod stream;
pub mod target;
pub mod telemetry;
pub mod tls;
pub mod tunnel;
