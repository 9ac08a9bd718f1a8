//! The request for a session: destination, session document, parameters and reason.
//!
//! Source: Systems Manager API reference, [StartSession]. The documents are AWS's own or the account's.
//!
//! [StartSession]: https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_StartSession.html

use std::{fmt, str::FromStr, sync::Arc};

/// The address that the agent of a node dials.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Destination {
    /// The host name or address, as it is sent to the agent.
    pub host: Arc<str>,
    /// The TCP port.
    pub port: u16,
}

impl Destination {
    /// A host and a port.
    pub fn new(host: impl Into<Arc<str>>, port: u16) -> Self {
        Self { host: host.into(), port }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Most characters of a session's reason ([StartSession], `Reason`).
///
/// [StartSession]: https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_StartSession.html
pub const MAX_REASON: usize = 256;

/// The document, parameters and reason of a session.
///
/// # Defaults
/// `AWS-StartPortForwardingSessionToRemoteHost` with its parameters. The reason is this crate's name and version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The session document.
    pub document: Document,
    /// The parameters of the document. `None`: those of AWS's document of this kind.
    pub parameters: Option<Vec<Parameter>>,
    /// The text in the session history and in CloudTrail, 1 to [`MAX_REASON`] characters.
    pub reason: Arc<str>,
}

impl Default for Request {
    fn default() -> Self {
        let reason = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));
        Self { document: Document::default(), parameters: None, reason: reason.into() }
    }
}

impl Request {
    /// The names and values of the document's parameters for StartSession.
    ///
    /// ```
    /// use ssm_session::request::{Destination, Request};
    ///
    /// let parameters = Request::default().parameters_for(&Destination::new("db.example", 5432));
    /// assert_eq!(parameters, [("host".into(), "db.example".into()), ("portNumber".into(), "5432".into())]);
    /// ```
    pub fn parameters_for(&self, destination: &Destination) -> Vec<(String, String)> {
        let parameters = self.parameters.as_deref().unwrap_or_else(|| self.document.parameters());
        let given = |parameter: &Parameter| match parameter {
            Parameter::Host => ("host".into(), destination.host.to_string()),
            Parameter::PortNumber => ("portNumber".into(), destination.port.to_string()),
            Parameter::Fixed { name, value } => (name.clone(), value.clone()),
        };
        parameters.iter().map(given).collect()
    }

    /// The port that the caller has chosen instead of the destination's, by `portNumber=…` for a document that dials the node
    /// itself; `None` if there is none.
    pub fn node_port(&self) -> Option<String> {
        let fixed = |parameter: &Parameter| match parameter {
            Parameter::Fixed { name, value } if name == "portNumber" => Some(value.clone()),
            Parameter::Host | Parameter::PortNumber | Parameter::Fixed { .. } => None,
        };
        self.parameters.as_ref().filter(|_| self.document.is_for_node())?.iter().find_map(fixed)
    }

    /// The reason followed by `mark`, by which the session can be found again. The reason is cut to fit [`MAX_REASON`].
    pub fn marked_reason(&self, mark: &str) -> String {
        let room = MAX_REASON.saturating_sub(mark.chars().count() + 1);
        let text: String = self.reason.chars().take(room).collect();
        format!("{text} {mark}")
    }
}

/// The name of a session document, or its ARN where another account shares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document(Arc<str>);

impl Document {
    /// The document of AWS that forwards to a host behind the node.
    const REMOTE_HOST: &str = "AWS-StartPortForwardingSessionToRemoteHost";
    /// The document of AWS that forwards to a port of the node itself.
    const NODE: &str = "AWS-StartPortForwardingSession";

    /// The document of AWS that forwards to a port of the node itself.
    pub fn of_node() -> Self {
        Self(Self::NODE.into())
    }

    /// The name or ARN for StartSession.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the document forwards to a port of the node itself.
    pub fn is_for_node(&self) -> bool {
        &*self.0 == Self::NODE
    }

    /// Whether the document is one of AWS's own. An account cannot give such a name to a document of its own ([CreateDocument],
    /// `Name`), and a document that another account shares is named by its ARN.
    ///
    /// [CreateDocument]: https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_CreateDocument.html
    pub fn is_of_aws(&self) -> bool {
        self.0.starts_with("AWS-")
    }

    /// The default parameters. AWS refuses a parameter that the document does not have; documents of accounts are mostly copies of
    /// AWS's.
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

    /// The pattern is that of StartSession, `DocumentName`.
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
    /// `host`: the host of the destination.
    Host,
    /// `portNumber`: the port of the destination.
    PortNumber,
    /// A parameter with a fixed value.
    Fixed {
        /// The name in the document: letters, digits and `_`.
        name: String,
        /// The value, not empty and without control characters.
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

/// Why a text is not a document, a parameter or an isolation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The text is not the name of a session document.
    #[error("{0:?} is not the name of a session document: expected 3 to 128 letters, digits and any of _ - . : /")]
    Document(String),
    /// The text is not a document parameter.
    #[error("{0:?} is not a document parameter: expected host, portNumber or NAME=VALUE")]
    Parameter(String),
    /// The text is not an [`Isolation`](crate::pool::Isolation).
    #[error("{0:?} is not an isolation: expected shared or connection")]
    Isolation(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mark_follows_the_reason_within_the_limit_of_the_api() {
        let request = |reason: &str| Request { reason: reason.into(), ..Request::default() };
        assert_eq!(request("release of orders").marked_reason("#1"), "release of orders #1");
        let marked = request(&"ö".repeat(256)).marked_reason("#12345678");
        assert_eq!(marked.chars().count(), 256);
        assert!(marked.ends_with("ö #12345678"));
    }

    #[test]
    fn each_document_gets_its_own_parameters() {
        let destination = Destination::new("db.example", 5432);
        for (document, expected) in [
            ("AWS-StartPortForwardingSessionToRemoteHost", &[("host", "db.example"), ("portNumber", "5432")][..]),
            ("AWS-StartPortForwardingSession", &[("portNumber", "5432")]),
            ("Corp-Databases", &[("host", "db.example"), ("portNumber", "5432")]),
        ] {
            let request = Request { document: document.parse().unwrap(), ..Request::default() };
            let given = request.parameters_for(&destination);
            let given: Vec<_> = given.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(given, expected, "{document}");
        }
        let parameters = ["portNumber", "stage=a=b"].map(|text| text.parse().unwrap()).to_vec();
        let request = Request { parameters: Some(parameters), ..Request::default() };
        let expected = [("portNumber".into(), "5432".into()), ("stage".into(), "a=b".into())];
        assert_eq!(request.parameters_for(&destination), expected);
    }

    #[test]
    fn names_and_parameters_keep_within_the_limits_of_the_api() {
        for name in ["abc", "arn:aws:ssm:eu-central-1:123456789012:document/Corp_Databases-1.0", &"x".repeat(128)] {
            assert_eq!(name.parse::<Document>().unwrap().as_str(), name);
        }
        for name in ["", "ab", "a document", "dokumenté", &"x".repeat(129)] {
            assert!(name.parse::<Document>().is_err(), "{name}");
        }
        for parameter in ["", "hostname", "=x", "host=", "a b=c", "a=\n"] {
            assert!(parameter.parse::<Parameter>().is_err(), "{parameter:?}");
        }
    }
}
