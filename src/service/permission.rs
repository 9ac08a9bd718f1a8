//! The IAM permission that a login takes.

use std::fmt;

/// An IAM action on a resource, as a policy names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permission {
    /// The action, such as `rds-db:connect`.
    pub action: &'static str,
    /// The ARN of the resource.
    pub resource: String,
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.action, self.resource)
    }
}

/// A database user as IAM names it. Unknown parts appear in the ARN as placeholders.
#[derive(Debug, Clone, Copy)]
pub struct DatabaseUser<'a> {
    /// The account of the database, twelve digits.
    pub account: Option<&'a str>,
    /// The resource id of the instance, cluster or proxy: `db-…`, `cluster-…` or `prx-…`.
    pub resource_id: Option<&'a str>,
    /// The user's name in the database.
    pub name: &'a str,
}
