//! The origin of credentials, in words for people. It contains nothing of the credentials themselves.

/// The origin of credentials, stored as a property of them.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    /// The place.
    pub(super) place: &'static str,
    /// The profile that led there.
    pub(super) profile: Option<String>,
}
