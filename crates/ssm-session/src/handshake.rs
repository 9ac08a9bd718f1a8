//! The handshake at the start of a session: the agent's requests and our response. Sans-IO.
//!
//! Sources: plugin [`streaming.go`] (handleHandshakeRequest, ProcessSessionTypeHandshakeAction); agent [`datachannel.go`]
//! (PerformHandshake).
//!
//! [`streaming.go`]: https://github.com/aws/session-manager-plugin/blob/61cf1288c7c66b4cbff922b7ed8a6604b3a3c2ea/src/datachannel/streaming.go#L434
//! [`datachannel.go`]: https://github.com/aws/amazon-ssm-agent/blob/1c217c89b42de51d4f4063363d8ec1f2eef56055/agent/session/datachannel/datachannel.go#L949

use std::net::IpAddr;

use super::{
    features::{AgentFeatures, CLIENT_VERSION, Version},
    payload::{
        ActionStatus, HandshakeRequest, HandshakeResponse, ProcessedClientAction, RequestedClientAction,
        SessionTypeRequest,
    },
    request::{Destination, Document, Request},
};

/// Why a session cannot be used, as its handshake shows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The session document opens a session of another type.
    #[error("the SSM document opens a session of type {0}, expected Port")]
    SessionType(String),
    /// The session document forwards without multiplexing.
    #[error("the SSM document forwards in mode {0:?}, expected LocalPortForwarding")]
    ForwardingMode(String),
    /// The agent has this version and cannot multiplex.
    #[error("the SSM agent has version {0}; forwarding to another host needs 3.1.1374.0 or newer")]
    AgentTooOld(String),
    /// The agent has this version, accepts the host parameter and dials itself all the same.
    #[error("the SSM agent has version {0}; forwarding to another host needs 3.1.1374.0 or newer")]
    NoRemoteHost(String),
    /// The agent requests an action that port sessions never use.
    #[error("the session asks for {0}, which port forwarding sessions do not use")]
    Unsupported(String),
    /// Data came before the handshake.
    #[error("the SSM agent sent data before the handshake")]
    NoHandshake,
    /// A handshake message is not the JSON document that it should be.
    #[error("the SSM agent sent a malformed handshake message")]
    Malformed,
    /// The agent would dial another address than the destination.
    #[error("the SSM agent would dial {dials} instead of {asked}")]
    Elsewhere {
        /// The destination.
        asked: Destination,
        /// The address in the handshake, escaped and shortened.
        dials: String,
    },
    /// The document is the account's own, and the handshake does not name the address that the agent dials.
    #[error("the handshake does not say which address the SSM agent dials with the document {0}")]
    NoAddress(Document),
}

/// The agent's account of itself and of the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// The version as announced.
    pub version: String,
    /// The abilities of that version.
    pub features: AgentFeatures,
    /// The host that the agent will dial, by the session document. Not verified before [`Agent::check_destination`].
    pub host: Option<String>,
    /// The port that the agent will dial. Not verified before [`Agent::check_destination`].
    pub port: Option<String>,
}

impl Agent {
    /// Checks that the agent dials `destination`, as far as the handshake names it. Otherwise no secret may be sent through the
    /// session.
    ///
    /// The documents of AWS need not name the host: `AWS-StartPortForwardingSession` dials a port of the node itself, which the
    /// caller has chosen by naming that document.
    ///
    /// # Errors
    /// [`HandshakeError::Elsewhere`], [`HandshakeError::NoAddress`].
    pub fn check_destination(&self, destination: &Destination, request: &Request) -> Result<(), HandshakeError> {
        let document = &request.document;
        let (host, port) = (named(self.host.as_deref()), named(self.port.as_deref()));
        if !document.is_of_aws() && (host.is_none() || port.is_none()) {
            return Err(HandshakeError::NoAddress(document.clone()));
        }
        let is_destination = |host: &str| host.trim_end_matches('.').eq_ignore_ascii_case(&destination.host);
        let is_node = |host: &str| document.is_for_node() && LOCALHOST.contains(&host);
        let expected_port = request.node_port().unwrap_or_else(|| destination.port.to_string());
        if host.is_none_or(|host| is_destination(host) || is_node(host))
            && port.is_none_or(|port| port == expected_port)
        {
            return Ok(());
        }
        let shown = |part: Option<&str>| part.unwrap_or("?").escape_debug().take(MAX_SHOWN).collect::<String>();
        Err(HandshakeError::Elsewhere { asked: destination.clone(), dials: format!("{}:{}", shown(host), shown(port)) })
    }
}

/// The names of a node for itself.
const LOCALHOST: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// Most characters of a name from the handshake in an error message. The longest DNS name has 253.
const MAX_SHOWN: usize = 255;

/// A property that is present and not blank.
fn named(property: Option<&str>) -> Option<&str> {
    property.map(str::trim).filter(|property| !property.is_empty())
}

/// Decodes a HandshakeRequest and makes the one response to it. The response has to be sent even with an error: then it makes
/// the agent end the session.
///
/// # Errors
/// [`HandshakeError`], in the second value: the session cannot be used.
pub fn respond(payload: &[u8]) -> (HandshakeResponse, Result<Agent, HandshakeError>) {
    let Ok(request) = serde_json::from_slice::<HandshakeRequest>(payload) else {
        return (response(Vec::new()), Err(HandshakeError::Malformed));
    };
    let features = AgentFeatures::of(Version::parse(&request.agent_version));
    let mut agent = Agent { version: request.agent_version, features, host: None, port: None };
    let mut outcome = Err(HandshakeError::Malformed);
    let mut refused = None;
    let mut processed = Vec::new();
    for action in &request.requested_client_actions {
        let result = process(action, &mut agent);
        processed.push(ProcessedClientAction {
            action_type: action.action_type.clone(),
            action_status: if result.is_ok() { ActionStatus::Success } else { ActionStatus::Unsupported } as u32,
            action_result: serde_json::Value::Null,
            error: result.as_ref().err().map(ToString::to_string).unwrap_or_default(),
        });
        match result {
            Ok(()) => outcome = Ok(()),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    (response(processed), refused.map_or(outcome, Err).map(|()| agent))
}

fn process(action: &RequestedClientAction, agent: &mut Agent) -> Result<(), HandshakeError> {
    if action.action_type != "SessionType" {
        return Err(HandshakeError::Unsupported(action.action_type.clone()));
    }
    let request = SessionTypeRequest::from_action(action).ok_or(HandshakeError::Malformed)?;
    if request.session_type != "Port" {
        return Err(HandshakeError::SessionType(request.session_type));
    }
    if !agent.features.mux() {
        return Err(HandshakeError::AgentTooOld(agent.version.clone()));
    }
    let mode = request.property("type").unwrap_or_default();
    if mode != "LocalPortForwarding" {
        return Err(HandshakeError::ForwardingMode(mode));
    }
    agent.host = request.property("host").filter(|host| !host.is_empty());
    // Refused before any byte: the agent would dial its own localhost, where another service may listen.
    if agent.host.as_deref().is_some_and(|host| !is_itself(host)) && !agent.features.remote_host() {
        return Err(HandshakeError::NoRemoteHost(agent.version.clone()));
    }
    agent.port = request.property("portNumber");
    Ok(())
}

/// Whether a host is the node that the agent runs on.
fn is_itself(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn response(processed_client_actions: Vec<ProcessedClientAction>) -> HandshakeResponse {
    HandshakeResponse { client_version: CLIENT_VERSION.to_owned(), processed_client_actions, errors: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(version: &str, kind: &str, mode: &str, more: &str) -> Vec<u8> {
        format!(
            r#"{{"AgentVersion":"{version}","RequestedClientActions":[{{"ActionType":"SessionType","ActionParameters":{{
            "SessionType":"{kind}","Properties":{{"host":"db.example","portNumber":"5432","type":"{mode}"}}}}}}{more}]}}"#
        )
        .into_bytes()
    }

    #[test]
    fn response_to_a_port_session_equals_that_of_the_reference_client() {
        let (response, agent) = respond(&request("3.3.987.0", "Port", "LocalPortForwarding", ""));
        let agent = agent.unwrap();
        assert_eq!((agent.host.as_deref(), agent.port.as_deref()), (Some("db.example"), Some("5432")));
        assert_eq!(
            serde_json::to_string(&response).unwrap(),
            r#"{"ClientVersion":"1.2.896.0","ProcessedClientActions":[{"ActionType":"SessionType","ActionStatus":1,"ActionResult":null,"Error":""}],"Errors":null}"#
        );
    }

    #[test]
    fn agents_without_remote_hosts_serve_only_their_own_machine() {
        for (host, version, serves) in [
            ("db.example", "3.1.1373.9", false),
            ("db.example", "3.1.1374.0", true),
            ("db.example", "unknown", false),
            ("localhost", "3.1.1004.0", true),
            ("127.0.0.1", "3.1.1004.0", true),
            ("", "3.1.1004.0", true),
        ] {
            let request = request(version, "Port", "LocalPortForwarding", "");
            let request = String::from_utf8(request).unwrap().replace("db.example", host);
            assert_eq!(respond(request.as_bytes()).1.is_ok(), serves, "{host} {version}");
        }
    }

    #[test]
    fn unsupported_sessions_get_a_response_with_the_reason() {
        let kms = r#",{"ActionType":"KMSEncryption","ActionParameters":{"KMSKeyId":"arn"}}"#;
        for (request, status, error) in [
            (
                request("3.0.196.0", "Port", "LocalPortForwarding", ""),
                3,
                HandshakeError::AgentTooOld("3.0.196.0".into()),
            ),
            (
                request("3.1.1004.0", "Port", "LocalPortForwarding", ""),
                3,
                HandshakeError::NoRemoteHost("3.1.1004.0".into()),
            ),
            (request("3.3.0.0", "Standard_Stream", "", ""), 3, HandshakeError::SessionType("Standard_Stream".into())),
            (request("3.3.0.0", "Port", "", ""), 3, HandshakeError::ForwardingMode(String::new())),
            (
                request("3.3.0.0", "Port", "LocalPortForwarding", kms),
                1,
                HandshakeError::Unsupported("KMSEncryption".into()),
            ),
        ] {
            let (response, outcome) = respond(&request);
            assert_eq!(outcome, Err(error));
            assert_eq!(response.processed_client_actions[0].action_status, status);
            assert_eq!(response.processed_client_actions.last().unwrap().action_status, 3);
        }
        for garbage in [&b"{"[..], b"[]", b"{}", b"\xff"] {
            assert_eq!(respond(garbage).1, Err(HandshakeError::Malformed));
        }
    }

    #[test]
    fn agent_that_dials_another_address_or_names_none_is_refused() {
        let destination = Destination::new("db.example", 5432);
        let (remote, node) = ("AWS-StartPortForwardingSessionToRemoteHost", "AWS-StartPortForwardingSession");
        for (document, parameters, host, port, dials) in [
            (remote, None, Some("db.example"), Some("5432"), Ok(())),
            (remote, None, Some("DB.example."), Some("5432"), Ok(())),
            (remote, None, None, None, Ok(())),
            (remote, None, Some("evil.example"), Some("5432"), Err("evil.example:5432")),
            (remote, None, Some("db.example"), Some("5433"), Err("db.example:5433")),
            (
                remote,
                Some("host=evil.example,portNumber"),
                Some("evil.example"),
                Some("5432"),
                Err("evil.example:5432"),
            ),
            (remote, None, Some("localhost"), Some("5432"), Err("localhost:5432")),
            (remote, None, Some("x\u{1b}[2J"), None, Err("x\\u{1b}[2J:?")),
            (node, None, None, Some("5432"), Ok(())),
            (node, None, Some("localhost"), Some("5432"), Ok(())),
            (node, Some("portNumber=6432"), None, Some("6432"), Ok(())),
            (node, None, None, Some("22"), Err("?:22")),
            (node, None, Some("evil.example"), Some("5432"), Err("evil.example:5432")),
            ("Corp", None, Some("db.example"), Some("5432"), Ok(())),
            ("Corp", Some("portNumber=5433"), Some("db.example"), Some("5433"), Err("db.example:5433")),
            ("Corp", None, Some("localhost"), Some("5432"), Err("localhost:5432")),
            ("Corp", None, None, None, Err("")),
            ("Corp", None, Some("db.example"), None, Err("")),
            ("Corp", None, Some(" "), Some("5432"), Err("")),
            ("arn:aws:ssm:us-east-1:1:document/AWS-StartPortForwardingSession", None, None, Some("5432"), Err("")),
        ] {
            let parameters: Option<Vec<_>> =
                parameters.map(|text: &str| text.split(',').map(|word| word.parse().unwrap()).collect());
            let request = Request { document: document.parse().unwrap(), parameters, ..Request::default() };
            let agent = Agent {
                version: "3.3.987.0".into(),
                features: AgentFeatures::of(Version::parse("3.3.987.0")),
                host: host.map(str::to_owned),
                port: port.map(str::to_owned),
            };
            let expected = dials.map_err(|dials| match dials {
                "" => HandshakeError::NoAddress(document.parse().unwrap()),
                dials => HandshakeError::Elsewhere { asked: destination.clone(), dials: dials.into() },
            });
            assert_eq!(agent.check_destination(&destination, &request), expected, "{document} {host:?} {port:?}");
        }
    }
}
