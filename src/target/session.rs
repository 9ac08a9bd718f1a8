//! How SSM sessions to a target are asked for: the session document, its parameters, the reason, the service's endpoint.
//!
//! Source: SSM API reference, StartSession. The documents are AWS's own, or the account's.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use super::{Endpoint, ParseError};

/// What a target's sessions are like.
///
/// # Defaults
/// AWS-StartPortForwardingSessionToRemoteHost with its parameters, a reason with our name and version, AWS's own endpoint,
/// payloads of 1,024 bytes, no keep-alive, an idle timeout that is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSettings {
    /// The document that a session is started with.
    pub document: Document,
    /// Its parameters; `None` are those that such a document takes.
    pub parameters: Option<Vec<Parameter>>,
    /// What the session history and CloudTrail show.
    pub reason: Reason,
    /// Where the data channel is dialled instead of at AWS's public endpoint; the certificate is verified for this name.
    pub ssmmessages_endpoint: Option<Endpoint>,
    /// Whether the data channel is opened without a signature where the service refuses every signed request. The session's
    /// token alone opens it then.
    pub unsigned_stream: bool,
    /// Most bytes in one data message to the agent.
    pub payload_size: usize,
    /// Whether sessions with open connections are kept from the account's idle timeout.
    pub keep_alive: bool,
    /// The account's idle timeout where the user says it; else AWS is asked.
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
    /// What StartSession is given for the document's parameters, by name.
    pub fn parameters_for(&self, endpoint: &Endpoint) -> Vec<(String, String)> {
        let parameters = self.parameters.as_deref().unwrap_or_else(|| self.document.parameters());
        let given = |parameter: &Parameter| match parameter {
            Parameter::Host => ("host".into(), endpoint.host.to_string()),
            Parameter::PortNumber => ("portNumber".into(), endpoint.port.to_string()),
            Parameter::Fixed { name, value } => (name.clone(), value.clone()),
        };
        parameters.iter().map(given).collect()
    }

    /// The port of the node that the owner has chosen instead of the target's: `portNumber=…` for a document that dials the
    /// node itself.
    pub fn node_port(&self) -> Option<String> {
        let fixed = |parameter: &Parameter| match parameter {
            Parameter::Fixed { name, value } if name == "portNumber" => Some(value.clone()),
            Parameter::Host | Parameter::PortNumber | Parameter::Fixed { .. } => None,
        };
        self.parameters.as_ref().filter(|_| self.document.is_for_node())?.iter().find_map(fixed)
    }
}

/// The name of a session document, or its ARN where another account shares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document(Arc<str>);

impl Document {
    /// Forwards to a host behind the node.
    const REMOTE_HOST: &str = "AWS-StartPortForwardingSessionToRemoteHost";
    /// Forwards to a port of the node itself.
    const NODE: &str = "AWS-StartPortForwardingSession";

    /// The name as AWS knows it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether what is dialled is a port of the node itself.
    pub fn is_for_node(&self) -> bool {
        &*self.0 == Self::NODE
    }

    /// Whether the document is one of AWS's own. An account cannot give a document of its own such a name (CreateDocument,
    /// `Name`), and one that another account shares is named by its ARN.
    pub fn is_of_aws(&self) -> bool {
        self.0.starts_with("AWS-")
    }

    /// What to send unless the user says otherwise: AWS refuses a parameter that the document does not have. A document of
    /// one's own is mostly a copy of AWS's.
    fn parameters(&self) -> &'static [Parameter] {
        const NODE: &[Parameter] = &[Parameter::PortNumber];
        const REMOTE_HOST: &[Parameter] = &[Parameter::Host, Parameter::PortNumber];
        if self.is_for_node() { NODE } else { REMOTE_HOST }
    }
}

impl Default for Document {
    fn default() -> Self {
        Self(Self::REMOTE_HOST.into())
    }
}

impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Document {
    type Err = ParseError;

    /// The pattern is the API's.
    fn from_str(s: &str) -> Result<Self, ParseError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:/".contains(&byte);
        if (3..=128).contains(&s.len()) && s.bytes().all(allowed) {
            Ok(Self(s.into()))
        } else {
            Err(ParseError::Document(s.into()))
        }
    }
}

/// One parameter of a session document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parameter {
    /// `host`: the target's host name.
    Host,
    /// `portNumber`: the target's port.
    PortNumber,
    /// Any name with a value of the user's.
    Fixed {
        /// The name in the document.
        name: String,
        /// The value, not empty.
        value: String,
    },
}

impl FromStr for Parameter {
    type Err = ParseError;

    /// `host`, `portNumber`, or `NAME=VALUE`.
    fn from_str(s: &str) -> Result<Self, ParseError> {
        let word =
            |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        match (s, s.split_once('=')) {
            ("host", _) => Ok(Self::Host),
            ("portNumber", _) => Ok(Self::PortNumber),
            (_, Some((name, value))) if word(name) && !value.is_empty() && !value.contains(char::is_control) => {
                Ok(Self::Fixed { name: name.into(), value: value.into() })
            }
            _ => Err(ParseError::Parameter(s.into())),
        }
    }
}

/// Why a session was started, 1 to 256 characters. Whoever may read the session history sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason(Arc<str>);

impl Reason {
    /// The API's limit, in characters.
    const MAX: usize = 256;

    /// Our name and version, then who is served what: what an auditor asks first. As much of it as is allowed.
    pub fn of(user: Option<&str>, endpoint: &Endpoint) -> Self {
        let by = user.map(|user| format!(" by {user}")).unwrap_or_default();
        let text = format!("{}{by} for {endpoint}", Self::default());
        Self(text.chars().filter(|c| !c.is_control()).take(Self::MAX).collect::<String>().into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text with one host's name in the place of another's, as much of it as is allowed.
    #[must_use]
    pub fn renamed(&self, from: &str, to: &str) -> Self {
        Self(self.0.replace(from, to).chars().take(Self::MAX).collect::<String>().into())
    }

    /// The text with a mark behind it, by which one session can be found again. As much of the text as is allowed.
    pub fn marked(&self, mark: &str) -> String {
        let room = Self::MAX.saturating_sub(mark.chars().count() + 1);
        let text: String = self.0.chars().take(room).collect();
        format!("{text} {mark}")
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
        if (1..=Self::MAX).contains(&length) && !s.contains(char::is_control) {
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
    fn a_mark_stands_behind_a_reason_that_may_be_as_long_as_it_may() {
        let reason: Reason = "release of orders".parse().unwrap();
        assert_eq!(reason.marked("#1"), "release of orders #1");
        let long: Reason = "ö".repeat(256).parse().unwrap();
        let marked = long.marked("#12345678");
        assert_eq!(marked.chars().count(), 256);
        assert!(marked.ends_with("ö #12345678"));
    }

    #[test]
    fn each_document_gets_the_parameters_that_it_has() {
        for (document, expected) in [
            ("AWS-StartPortForwardingSessionToRemoteHost", &[("host", "db.example"), ("portNumber", "5432")][..]),
            ("AWS-StartPortForwardingSession", &[("portNumber", "5432")]),
            ("Corp-Databases", &[("host", "db.example"), ("portNumber", "5432")]),
        ] {
            let settings = SessionSettings { document: document.parse().unwrap(), ..SessionSettings::default() };
            let given = settings.parameters_for(&endpoint());
            let given: Vec<_> = given.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(given, expected, "{document}");
        }
        let parameters = ["portNumber", "stage=a=b"].map(|text| text.parse().unwrap()).to_vec();
        let settings = SessionSettings { parameters: Some(parameters), ..SessionSettings::default() };
        let expected = [("portNumber".into(), "5432".into()), ("stage".into(), "a=b".into())];
        assert_eq!(settings.parameters_for(&endpoint()), expected);
    }

    #[test]
    fn names_reasons_and_parameters_keep_to_the_limits_of_the_api() {
        for name in ["abc", "arn:aws:ssm:eu-central-1:123456789012:document/Corp_Databases-1.0", &"x".repeat(128)] {
            assert_eq!(name.parse::<Document>().unwrap().as_str(), name);
        }
        for name in ["", "ab", "a document", "dokumenté", &"x".repeat(129)] {
            assert!(name.parse::<Document>().is_err(), "{name}");
        }
        assert!("é".repeat(256).parse::<Reason>().is_ok());
        for reason in ["", "a\nb", &"x".repeat(257)] {
            assert!(reason.parse::<Reason>().is_err(), "{reason:?}");
        }
        for parameter in ["", "hostname", "=x", "host=", "a b=c", "a=\n"] {
            assert!(parameter.parse::<Parameter>().is_err(), "{parameter:?}");
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
