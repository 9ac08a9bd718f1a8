//! The result: a configuration that is not checked again.

use std::time::Duration;

use crate::{
    listen,
    target::{MfaCode, Target},
};

/// The complete configuration of a running proxy.
///
/// # Defaults
/// `connect_timeout` 30 s, `resume_for` 2 min, `min_sigterm_delay` 0 s, `max_sigterm_delay` 30 s, no `admin`, `open_browser` false.
#[derive(Debug, Clone)]
pub struct Config {
    /// The databases to serve, at least one; names are unique and no two listen on the same address.
    pub targets: Vec<Target>,
    /// The longest time from accepting a client to its login at the database. Long enough for a new SSM session, short
    /// enough that a client's own timeout does not hide our explanation.
    pub connect_timeout: Duration,
    /// The time for which a broken SSM session is resumed before its connections end.
    pub resume_for: Duration,
    /// The time after SIGTERM for which new clients are still accepted.
    pub min_sigterm_delay: Duration,
    /// The time that busy connections get to finish after SIGTERM or the first Ctrl-C.
    pub max_sigterm_delay: Duration,
    /// The address of health, metrics and status. `None`: not served.
    pub admin: Option<listen::Address>,
    /// A code for the first MFA device that requires one.
    pub mfa_code: Option<MfaCode>,
    /// Whether the page of an SSO login is opened in a browser, besides its address being printed.
    pub open_browser: bool,
}
