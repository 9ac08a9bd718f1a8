//! The time limits of connecting, from the arrival of a client to its login, in one table. [`connect`](crate::connect) applies
//! them for the proxy and for doctor.
//!
//! Two rules: A step may use all of the remaining `--connect-timeout`; its own limit only ends an attempt that is hopeless. A
//! client without hope gets an error within [`EXPLAIN_WITHIN`] of its arrival, before it gives up by itself.
//!
//! | step | hope, with which it may use the whole `--connect-timeout` | limit without hope |
//! |---|---|---|
//! | AWS credentials | a person is asked, or a `credential_process` runs | [`EXPLAIN_WITHIN`] |
//! | route | AWS has answered: the session was granted, or the call is throttled | [`EXPLAIN_WITHIN`] |
//! | direct route of `--via auto` | none: the bastion is tried next | [`AUTO_DIRECT_TIMEOUT`] |
//! | database answer | the database has accepted the connection | [`DIAL_TIMEOUT`] |
//! | TLS, login | always: the database has answered | |
//!
//! A step that begins late still gets [`STEP_MINIMUM`].

use std::time::Duration;

/// The time from a client's arrival to its error, if the attempt is hopeless. pgAdmin and Node's mysql2 give up after 10 s.
pub const EXPLAIN_WITHIN: Duration = Duration::from_secs(9);
/// A dial that was not accepted within this time is hopeless: SYN has been sent again after 1, 3 and 7 s (RFC 6298).
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(8);
/// The shortest limit of a step, if the steps before it have used up the time.
pub const STEP_MINIMUM: Duration = Duration::from_secs(3);
/// The time without a reply after which the agent of the bastion is asked whether the database has accepted the dial.
pub const DIAL_QUESTION: Duration = Duration::from_secs(4);
/// For the direct route of `--via auto`: name lookup, connection and first byte together. Far above the time that a VPN
/// takes, and the whole cost of a firewall that drops packets.
pub const AUTO_DIRECT_TIMEOUT: Duration = Duration::from_secs(2);
/// For the first packets of a client, which depend on nothing else.
pub const CLIENT_STARTUP_TIMEOUT: Duration = Duration::from_secs(10);
/// From a wrong local password to its refusal.
pub const WRONG_PASSWORD_DELAY: Duration = Duration::from_secs(1);
/// For another login on a MySQL connection, by COM_CHANGE_USER, and for a reset.
pub const RELOGIN_TIMEOUT: Duration = Duration::from_secs(35);
/// For a server to check a password that was sent before its request. A server that takes longer has dropped it, like a proxy
/// that reads only the startup message, or is busy. In both cases a second connection that waits for the request is harmless.
pub const PIPELINED_TIMEOUT: Duration = Duration::from_secs(3);
/// For facts from AWS about a failure, for which the client waits.
pub const FACTS_TIMEOUT: Duration = Duration::from_secs(2);
