//! The target that is checked, as far as it is known.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{report::Stage, words::NO_BASTION};
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
    /// The AWS profile, when one was named.
    pub profile: Option<String>,
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
    /// A command of the AWS CLI in the region and with the profile of the subject.
    pub(super) fn aws(&self, words: &str) -> String {
        let profile = self.profile.as_ref().map(|profile| format!(" --profile {}", quoted(profile)));
        // IAM is the same in all regions.
        let region =
            if words.starts_with("iam ") { String::new() } else { format!(" --region {}", self.extent.region()) };
        format!("aws {words}{region}{}", profile.unwrap_or_default())
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/@+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}
