//! Roles with conditions, and MFA devices.

use super::identity::{ACCOUNT, Identity};

/// A role with conditions. Any caller may assume a role that is not among them.
#[derive(Clone)]
pub struct Role {
    pub(super) name: String,
    pub(super) external_id: Option<String>,
    pub(super) mfa: bool,
    pub(super) trusted: Option<String>,
    pub(super) gives: Option<Identity>,
}

impl Role {
    /// A role of the sandbox's account, without conditions.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), external_id: None, mfa: false, trusted: None, gives: None }
    }

    /// Its ARN.
    pub fn arn(&self) -> String {
        format!("arn:aws:iam::{ACCOUNT}:role/{}", self.name)
    }

    /// The trust policy wants this external id.
    #[must_use]
    pub fn external_id(mut self, id: &str) -> Self {
        self.external_id = Some(id.into());
        self
    }

    /// The trust policy wants MFA.
    #[must_use]
    pub fn mfa(mut self) -> Self {
        self.mfa = true;
        self
    }

    /// The trust policy names only this role.
    #[must_use]
    pub fn trusts(mut self, role: &str) -> Self {
        self.trusted = Some(role.into());
        self
    }

    /// Its sessions have this identity's keys, which a database may know.
    #[must_use]
    pub fn gives(mut self, identity: Identity) -> Self {
        self.gives = Some(identity);
        self
    }
}

/// A user's MFA device.
#[derive(Debug, Clone)]
pub struct MfaDevice {
    /// Its ARN.
    pub serial: String,
    /// The codes that it will show, each good once.
    pub codes: Vec<String>,
}

impl MfaDevice {
    /// The virtual device of a user of the sandbox's account.
    pub fn of_user(name: &str, codes: &[&str]) -> Self {
        let codes = codes.iter().map(|&code| code.into()).collect();
        Self { serial: format!("arn:aws:iam::{ACCOUNT}:mfa/{name}"), codes }
    }
}
