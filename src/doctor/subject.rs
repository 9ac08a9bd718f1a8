//! The target that is checked, as far as it is known.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{
    report::Stage,
    run::Known,
    words::{NO_BASTION, NO_CREDENTIALS, NO_ENDPOINT},
};
use crate::{
    aws::{self, Account},
    target::{Host, InstanceId, Region, Route, Target},
};

/// How much of the target is known.
#[derive(Debug)]
pub enum Extent {
    /// All of it.
    Complete(Box<Target>),
    /// All but the bastion, which was neither configured nor found; the target's route means nothing.
    WithoutRoute(Box<Target>),
    /// The endpoint was not found.
    WithoutEndpoint {
        /// The region where it was looked for.
        region: Region,
        /// The configured bastion.
        bastion: Option<InstanceId>,
    },
}

impl Extent {
    /// The target, if its endpoint is known.
    pub fn target(&self) -> Option<&Target> {
        match self {
            Self::Complete(target) | Self::WithoutRoute(target) => Some(target),
            Self::WithoutEndpoint { .. } => None,
        }
    }

    pub(super) fn region(&self) -> &Region {
        match self {
            Self::Complete(target) | Self::WithoutRoute(target) => &target.region,
            Self::WithoutEndpoint { region, .. } => region,
        }
    }

    /// The bastion, if one is needed.
    ///
    /// # Errors
    /// Why that is not known.
    pub(super) fn bastion(&self) -> Result<Option<&InstanceId>, &'static str> {
        match self {
            Self::Complete(target) => match &target.route {
                Route::Ssm(id) | Route::Auto(id) => Ok(Some(id)),
                Route::Direct => Ok(None),
            },
            Self::WithoutEndpoint { bastion: Some(id), .. } => Ok(Some(id)),
            Self::WithoutRoute(_) | Self::WithoutEndpoint { .. } => Err(NO_BASTION),
        }
    }
}

/// The target that is checked, with what the checks are made with.
#[derive(Debug)]
pub struct Subject {
    /// How much of the target is known.
    pub extent: Extent,
    /// The result of looking up the missing values.
    pub discovery: Stage,
    /// The name that the user gave, when it was an alias of the endpoint.
    pub alias: Option<Host>,
    /// The AWS account; an error is a finding.
    pub account: Result<Account, aws::Error>,
    /// The time that a client has to be connected, as in `rdsgate up`.
    pub connect_timeout: Duration,
    /// How long a lost session is resumed, as in `rdsgate up`.
    pub resume_for: Duration,
    /// The message that the local port leads to another target, when a running rdsgate serves that there.
    pub port_of_another: Option<String>,
    /// Ends the checks early, and in good order.
    pub stop: CancellationToken,
}

impl Subject {
    /// What a connection is made with.
    ///
    /// # Errors
    /// Why none can be made.
    pub(super) fn connectable(&self, known: &Known) -> Result<(&Target, &Account), &'static str> {
        let target = self.extent.target().ok_or(NO_ENDPOINT)?;
        match &self.account {
            Ok(account) if known.login.is_some() || target.route == Route::Direct => Ok((target, account)),
            _ => Err(NO_CREDENTIALS),
        }
    }
}
