//! The reaction that an [`Error`] calls for: a retry, other credentials, or a person.

use super::{Error, Tried};

/// Error codes for a signature that is too old, from the future, or wrong.
pub(super) const CLOCK_CODES: [&str; 3] = ["InvalidSignatureException", "RequestExpired", "SignatureDoesNotMatch"];

/// Error codes for parameters that a session document does not have, or whose pattern they do not fit.
pub(super) const PARAMETER_CODES: [&str; 2] = ["ValidationException", "InvalidParameters"];

/// Whether a call is worth a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The same reply would come.
    Never,
    /// The failure may be transient.
    Backoff,
    /// With other credentials it may work; [`crate::aws::Account`] has already tried once with fresh ones.
    RefreshCredentials,
}

impl Error {
    /// Whether a call is worth a retry.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Throttled { .. }
            | Self::Service { .. }
            | Self::Timeout { .. }
            | Self::Transport { .. }
            | Self::CredentialsTimeout { .. }
            | Self::CredentialsTransport { .. } => Retry::Backoff,
            Self::CredentialsRefused { .. } | Self::CredentialsExpired { .. } => Retry::RefreshCredentials,
            Self::NoCredentials { .. }
            | Self::ProfileNotFound { .. }
            | Self::SsoSessionOver { .. }
            | Self::ConsoleSessionOver { .. }
            | Self::AwsFile { .. }
            | Self::Setting { .. }
            | Self::ChainBroken { .. }
            | Self::SsoRole { .. }
            | Self::SsoLogin { .. }
            | Self::ConsoleLogin { .. }
            | Self::TokenFile { .. }
            | Self::WebIdentity { .. }
            | Self::MfaNeeded { .. }
            | Self::MfaCommand { .. }
            | Self::MfaRefused { .. }
            | Self::RoleDenied { .. }
            | Self::Credentials { .. }
            | Self::AccessDenied { .. }
            | Self::TargetNotConnected { .. }
            | Self::InvalidDocument { .. }
            | Self::SessionGone { .. }
            | Self::Secret { .. }
            | Self::NoMasterSecret { .. }
            | Self::PasswordCommand { .. }
            | Self::PasswordRefused { .. }
            | Self::BadRequest { .. }
            | Self::Incomplete { .. }
            | Self::CaBundle { .. }
            | Self::Proxy(_)
            | Self::HttpClient(_)
            | Self::Signing { .. } => Retry::Never,
        }
    }

    /// Whether AWS may have done what was asked all the same: its answer was lost, or did not say.
    pub fn is_uncertain(&self) -> bool {
        matches!(self, Self::Service { .. } | Self::Timeout { .. } | Self::Transport { .. })
    }

    /// Whether there are no usable credentials: every other call would fail alike.
    pub fn concerns_credentials(&self) -> bool {
        match self {
            Self::NoCredentials { .. }
            | Self::ProfileNotFound { .. }
            | Self::SsoSessionOver { .. }
            | Self::ConsoleSessionOver { .. }
            | Self::CredentialsExpired { .. }
            | Self::CredentialsTimeout { .. }
            | Self::AwsFile { .. }
            | Self::Setting { .. }
            | Self::ChainBroken { .. }
            | Self::SsoRole { .. }
            | Self::SsoLogin { .. }
            | Self::ConsoleLogin { .. }
            | Self::TokenFile { .. }
            | Self::WebIdentity { .. }
            | Self::CredentialsTransport { .. }
            | Self::MfaNeeded { .. }
            | Self::MfaCommand { .. }
            | Self::MfaRefused { .. }
            | Self::RoleDenied { .. }
            | Self::Credentials { .. }
            | Self::CredentialsRefused { .. } => true,
            Self::BadRequest { code, .. } => CLOCK_CODES.contains(&code.as_str()),
            Self::AccessDenied { .. }
            | Self::TargetNotConnected { .. }
            | Self::InvalidDocument { .. }
            | Self::SessionGone { .. }
            | Self::Secret { .. }
            | Self::NoMasterSecret { .. }
            | Self::PasswordCommand { .. }
            | Self::PasswordRefused { .. }
            | Self::Throttled { .. }
            | Self::Service { .. }
            | Self::Incomplete { .. }
            | Self::Timeout { .. }
            | Self::Transport { .. }
            | Self::CaBundle { .. }
            | Self::Proxy(_)
            | Self::HttpClient(_)
            | Self::Signing { .. } => false,
        }
    }

    /// Whether a password for a database could not be fetched.
    pub fn concerns_password(&self) -> bool {
        match self {
            Self::Secret { .. }
            | Self::NoMasterSecret { .. }
            | Self::PasswordCommand { .. }
            | Self::PasswordRefused { .. } => true,
            Self::AccessDenied { operation, .. }
            | Self::BadRequest { operation, .. }
            | Self::Service { operation, .. }
            | Self::Throttled { operation }
            | Self::Timeout { operation, .. }
            | Self::Transport { operation, .. } => *operation == "GetSecretValue",
            _ => false,
        }
    }

    /// Whether the caller is the one who may not, as opposed to something that is broken: credentials and permissions.
    pub fn denies(&self) -> bool {
        let passes = matches!(self, Self::CredentialsTimeout { .. } | Self::CredentialsTransport { .. });
        matches!(self, Self::AccessDenied { .. }) || self.concerns_credentials() && !passes
    }

    /// The places that were searched for credentials, each with the reason that it gave none.
    pub fn tried(&self) -> Option<&[String]> {
        match self {
            Self::NoCredentials { cause, .. } => cause.downcast_ref::<Tried>().map(|tried| tried.0.as_slice()),
            _ => None,
        }
    }

    /// Whether a person could help at once, by a login or a code.
    pub fn needs_person(&self) -> bool {
        matches!(self, Self::SsoSessionOver { .. } | Self::ConsoleSessionOver { .. } | Self::MfaNeeded { .. })
    }
}
