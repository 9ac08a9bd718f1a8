//! The limits in time between a client's arrival and its login, in one table.
//!
//! Two rules. A step may use what is left of `--connect-timeout`: nothing of its own ends it while there is real hope. And a
//! client without hope is told why within [`EXPLAIN_WITHIN`] of its arrival, before it gives up by itself.
//!
//! | step | real hope, which may use the whole `--connect-timeout` | without it |
//! |---|---|---|
//! | AWS credentials | a person is asked, or a `credential_process` runs | [`EXPLAIN_WITHIN`] |
//! | route | AWS has answered: the session was granted, or the call is throttled | [`EXPLAIN_WITHIN`] |
//! | direct route of `--via auto` | none: there is the bastion | [`AUTO_DIRECT_TIMEOUT`] |
//! | database answer | the database has accepted the connection | [`DIAL_TIMEOUT`] |
//! | TLS, login | always: the database has answered | |
//!
//! A step that begins late has [`STEP_MINIMUM`] all the same.

use std::time::Duration;

/// From a client's arrival until it is told why it is not connected, when nothing gives hope. pgAdmin and Node's mysql2 give
/// up by themselves after 10 s.
pub const EXPLAIN_WITHIN: Duration = Duration::from_secs(9);
/// A dial that nothing has accepted after this time is hopeless: SYN has been sent again after 1, 3 and 7 s (RFC 6298).
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(8);
/// What a step has at least, when those before it have used the time up.
pub const STEP_MINIMUM: Duration = Duration::from_secs(3);
/// A bastion's dial that has not been answered after this time is asked after: whether the database has accepted it.
pub const DIAL_QUESTION: Duration = Duration::from_secs(4);
/// For the direct route of `--via auto`, lookup, connection and first byte together. Far above what a VPN takes, and a firewall
/// that drops costs no more.
pub const AUTO_DIRECT_TIMEOUT: Duration = Duration::from_secs(2);
/// For a client's first packets: it has nothing to wait for.
pub const CLIENT_STARTUP_TIMEOUT: Duration = Duration::from_secs(10);
/// For a further login on a MySQL connection, by COM_CHANGE_USER, and for a reset.
pub const RELOGIN_TIMEOUT: Duration = Duration::from_secs(35);
/// For a server to judge a password that came before it asked. One that takes this long has dropped it, as a proxy does that
/// reads the startup alone, or it has much to do; either way a second connection that waits to be asked does no harm.
pub const PIPELINED_TIMEOUT: Duration = Duration::from_secs(3);
/// For what AWS knows of a failure, which the client waits for.
pub const FACTS_TIMEOUT: Duration = Duration::from_secs(2);
