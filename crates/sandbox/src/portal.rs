//! The state of IAM Identity Center: the roles of its user, registered clients, logins and tokens.

use std::{collections::HashMap, time::SystemTime};

use super::identity::Identity;

/// The portal of IAM Identity Center.
#[derive(Default)]
pub(super) struct Portal {
    /// The roles that a logged-in user may assume.
    pub(super) roles: HashMap<String, Identity>,
    pub(super) clients: HashMap<String, String>,
    pub(super) devices: Vec<Device>,
    pub(super) tokens: HashMap<String, SystemTime>,
    pub(super) refresh_tokens: Vec<String>,
}

impl Portal {
    pub(super) fn new(roles: HashMap<String, Identity>) -> Self {
        Self { roles, ..Self::default() }
    }
}

/// A login that has started.
pub(super) struct Device {
    pub(super) code: String,
    pub(super) user_code: String,
    pub(super) begun: SystemTime,
    /// The decision of the person: approved or refused.
    pub(super) approved: Option<bool>,
}
