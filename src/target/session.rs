//! The settings of SSM sessions to a target: the session document, its parameters, the reason, the endpoint of the service.
//!
//! Source: SSM API reference, StartSession. Documents belong to AWS or to the account.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

pub use ssm_session::request::{Document, Parameter};
use ssm_session::request::{MAX_REASON, Request};

use super::{Endpoint, ParseError};

/// The settings of a target's sessions.
///
/// # Defaults
/// AWS-StartPortForwardingSessionToRemoteHost with its parameters, a reason with our name and version, the public endpoint,
/// payloads of 1,024 bytes, no keep-alive, an unknown idle timeout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSettings {
    /// The document of StartSession.
    pub document: Document,
    /// The parameters of the document; `None` for those that a known document takes.
    pub parameters: Option<Vec<Parameter>>,
    /// The reason that the session history and CloudTrail show.
    pub reason: Reason,
    /// The endpoint of the data channel in place of the public one. The certificate is verified for this name.
    pub ssmmessages_endpoint: Option<Endpoint>,
    /// Whether the data channel is opened without a signature if the service refuses every signed request. Then the token of the
    /// session alone authenticates it.
    pub unsigned_stream: bool,
    /// The largest number of bytes in one data message to the agent.
    pub payload_size: usize,
    /// Whether sessions with open connections are kept alive beyond the idle timeout of the account.
    pub keep_alive: bool,
    /// The idle timeout of the account, if configured. Otherwise it is fetched from AWS.
    pub idle_timeout: Option<Duration>,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            document: Document::default(),
            parameters: None,
            reason: Reason::default(),
            ssmmessages_endpoint: None,
            unsigned_stream: false,
            payload_size: 1024,
            keep_alive: false,
            idle_timeout: None,
        }
    }
}

impl SessionSettings {
    /// The request that starts a session.
    pub fn request(&self) -> Request {
        Request {
            document: self.document.clone(),
            parameters: self.parameters.clone(),
            reason: Arc::clone(&self.reason.0),
        }
    }
}

/// The reason of a session, 1 to 256 characters, visible in the session history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason(Arc<str>);

impl Reason {
    /// The default reason, for auditors: our name and version, the user and the endpoint, cut to the allowed length.
    pub fn of(user: Option<&str>, endpoint: &Endpoint) -> Self {
        let by = user.map(|user| format!(" by {user}")).unwrap_or_default();
        let text = format!("{}{by} for {endpoint}", Self::default());
        Self(text.chars().filter(|c| !c.is_control()).take(MAX_REASON).collect::<String>().into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text with one host name replaced by another, cut to the allowed length.
    #[must_use]
    pub fn renamed(&self, from: &str, to: &str) -> Self {
        Self(self.0.replace(from, to).chars().take(MAX_REASON).collect::<String>().into())
    }
}

impl Default for Reason {
    fn default() -> Self {
        Self(concat!("rdsgate/", env!("CARGO_PKG_VERSION")).into())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Reason {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        let length = s.chars().count();
        if (1..=MAX_REASON).contains(&length) && !s.contains(char::is_control) {
            Ok(Self(s.into()))
        } else {
            Err(ParseError::Reason(length))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> Endpoint {
        Endpoint { host: "db.example".parse().unwrap(), port: 5432 }
    }

    #[test]
    fn reasons_keep_to_the_limit_of_the_api() {
        assert!("é".repeat(256).parse::<Reason>().is_ok());
        for reason in ["", "a\nb", &"x".repeat(257)] {
            assert!(reason.parse::<Reason>().is_err(), "{reason:?}");
        }
    }

    #[test]
    fn the_reason_says_who_and_what_and_is_never_too_long() {
        let version = env!("CARGO_PKG_VERSION");
        let reason = Reason::of(Some("alice"), &endpoint());
        assert_eq!(reason.as_str(), format!("rdsgate/{version} by alice for db.example:5432"));
        let reason = Reason::of(None, &endpoint());
        assert_eq!(reason.as_str(), format!("rdsgate/{version} for db.example:5432"));
        let long = Reason::of(Some(&"ü\u{7}".repeat(300)), &endpoint());
        assert_eq!((long.as_str().chars().count(), long.as_str().contains('\u{7}')), (256, false));
        assert_eq!(long.as_str().parse::<Reason>(), Ok(long));
    }
}
