//! The payloads of the data channel: types, flags and JSON documents.
//!
//! Sources: plugin [`clientmessage.go`]; agent [`model.go`]. Acknowledgements, the documents on the hot path, are written and
//! read without a JSON tree.
//!
//! [`clientmessage.go`]: https://github.com/aws/session-manager-plugin/blob/61cf1288c7c66b4cbff922b7ed8a6604b3a3c2ea/src/message/clientmessage.go#L43-L96
//! [`model.go`]: https://github.com/aws/amazon-ssm-agent/blob/1c217c89b42de51d4f4063363d8ec1f2eef56055/agent/session/contracts/model.go#L313-L411

use std::{borrow::Cow, collections::HashMap};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::message::{AgentMessage, MessageType};

/// The kind of content in a stream data message. The named ones are all that a Port session uses (plugin [`clientmessage.go`],
/// PayloadType).
///
/// [`clientmessage.go`]: https://github.com/aws/session-manager-plugin/blob/61cf1288c7c66b4cbff922b7ed8a6604b3a3c2ea/src/message/clientmessage.go#L73-L88
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadType {
    /// Bytes of the forwarded stream (smux).
    Output,
    /// [`HandshakeRequest`], agent to client.
    HandshakeRequest,
    /// [`HandshakeResponse`], client to agent.
    HandshakeResponse,
    /// [`HandshakeComplete`], agent to client.
    HandshakeComplete,
    /// A [`Flag`].
    Flag,
    /// The number of a type that Port sessions do not use: acknowledged and ignored.
    Other(u32),
}

impl PayloadType {
    /// The number on the wire.
    pub fn number(self) -> u32 {
        match self {
            Self::Output => 1,
            Self::HandshakeRequest => 5,
            Self::HandshakeResponse => 6,
            Self::HandshakeComplete => 7,
            Self::Flag => 10,
            Self::Other(number) => number,
        }
    }
}

impl From<u32> for PayloadType {
    fn from(number: u32) -> Self {
        match number {
            1 => Self::Output,
            5 => Self::HandshakeRequest,
            6 => Self::HandshakeResponse,
            7 => Self::HandshakeComplete,
            10 => Self::Flag,
            other => Self::Other(other),
        }
    }
}

/// The content of a Flag payload: four bytes, big-endian (plugin [`clientmessage.go`], PayloadTypeFlag).
///
/// [`clientmessage.go`]: https://github.com/aws/session-manager-plugin/blob/61cf1288c7c66b4cbff922b7ed8a6604b3a3c2ea/src/message/clientmessage.go#L90-L96
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    /// Client to agent: close the connection. Only in sessions without multiplexing.
    DisconnectToPort,
    /// Client to agent: end the session.
    TerminateSession,
    /// Agent to client: a dial failed. The flag does not name the stream.
    ConnectToPortError,
}

impl Flag {
    /// The payload of the flag.
    pub fn encode(self) -> Bytes {
        Bytes::from_static(match self {
            Self::DisconnectToPort => &[0, 0, 0, 1],
            Self::TerminateSession => &[0, 0, 0, 2],
            Self::ConnectToPortError => &[0, 0, 0, 3],
        })
    }

    /// The flag in a payload; `None` for unknown numbers and other lengths.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        match payload {
            [0, 0, 0, 1] => Some(Self::DisconnectToPort),
            [0, 0, 0, 2] => Some(Self::TerminateSession),
            [0, 0, 0, 3] => Some(Self::ConnectToPortError),
            _ => None,
        }
    }
}

/// The version of the messages in [`OpenDataChannelInput`] (plugin [`config.go`], MessageSchemaVersion).
///
/// [`config.go`]: https://github.com/aws/session-manager-plugin/blob/61cf1288c7c66b4cbff922b7ed8a6604b3a3c2ea/src/config/config.go#L21
pub const MESSAGE_SCHEMA_VERSION: &str = "1.0";

/// The first frame after the websocket opens, as text (plugin [`service.go`], OpenDataChannelInput). It has no `Debug`, because
/// it carries the token.
///
/// [`service.go`]: https://github.com/aws/session-manager-plugin/blob/61cf1288c7c66b4cbff922b7ed8a6604b3a3c2ea/src/service/service.go#L17-L35
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct OpenDataChannelInput<'a> {
    /// [`MESSAGE_SCHEMA_VERSION`].
    pub message_schema_version: Cow<'a, str>,
    /// A UUID, new for each open.
    pub request_id: Cow<'a, str>,
    /// The token of StartSession or ResumeSession.
    pub token_value: Cow<'a, str>,
    /// A UUID, the same for all opens of one session.
    #[serde(default)]
    pub client_id: Cow<'a, str>,
    /// [`CLIENT_VERSION`](crate::features::CLIENT_VERSION).
    #[serde(default)]
    pub client_version: Cow<'a, str>,
}

/// The document of an `acknowledge` message (plugin [`clientmessage.go`], AcknowledgeContent).
///
/// [`clientmessage.go`]: https://github.com/aws/session-manager-plugin/blob/61cf1288c7c66b4cbff922b7ed8a6604b3a3c2ea/src/message/clientmessage.go#L43-L53
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AcknowledgeContent<'a> {
    #[serde(borrow, default)]
    acknowledged_message_type: Cow<'a, str>,
    #[serde(borrow, default)]
    acknowledged_message_id: Cow<'a, str>,
    acknowledged_message_sequence_number: i64,
    #[serde(default)]
    is_sequential_message: bool,
}

/// Flags of an acknowledgement, SYN and FIN, as both official sides send them (plugin [`streaming.go`],
/// SendAcknowledgeMessage).
///
/// [`streaming.go`]: https://github.com/aws/session-manager-plugin/blob/61cf1288c7c66b4cbff922b7ed8a6604b3a3c2ea/src/datachannel/streaming.go#L382
const ACKNOWLEDGE_FLAGS: u64 = 3;

/// The `acknowledge` message for one stream data message of type `acknowledged`, with the id and sequence number of that
/// message. It acknowledges that message alone, and none before it.
pub fn acknowledge(
    acknowledged: MessageType,
    acknowledged_id: Uuid,
    sequence_number: i64,
    message_id: Uuid,
    created_date: u64,
) -> AgentMessage {
    // The keys are in the order of the reference encoder, so that our acknowledgements equal its own byte for byte.
    let payload = format!(
        "{{\"AcknowledgedMessageType\":\"{}\",\"AcknowledgedMessageId\":\"{}\",\"AcknowledgedMessageSequenceNumber\":{sequence_number},\"IsSequentialMessage\":true}}",
        acknowledged.as_str(),
        acknowledged_id.as_hyphenated(),
    );
    AgentMessage {
        message_type: MessageType::Acknowledge,
        created_date,
        sequence_number: 0,
        flags: ACKNOWLEDGE_FLAGS,
        message_id,
        payload_type: Some(0),
        payload: payload.into(),
    }
}

/// The sequence number in the payload of an `acknowledge` message. It is the only field by which receivers match.
///
/// # Errors
/// The document is malformed.
pub fn acknowledged_sequence_number(payload: &[u8]) -> Result<i64, serde_json::Error> {
    serde_json::from_slice::<AcknowledgeContent<'_>>(payload).map(|ack| ack.acknowledged_message_sequence_number)
}

/// The agent's requests at the start of a session (payload type 5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HandshakeRequest {
    /// The version of the agent: four numbers with dots.
    #[serde(default)]
    pub agent_version: String,
    /// The requests. A Port session has one, of the type `SessionType`.
    #[serde(default)]
    pub requested_client_actions: Vec<RequestedClientAction>,
}

/// One request of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RequestedClientAction {
    /// `SessionType` or `KMSEncryption`.
    pub action_type: String,
    /// The parameters, by type. [`SessionTypeRequest::from_action`] reads those of `SessionType`.
    #[serde(default)]
    pub action_parameters: serde_json::Value,
}

/// The parameters of the action `SessionType`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SessionTypeRequest {
    /// `Port`, `Standard_Stream`, …
    pub session_type: String,
    /// The properties of the session document: strings, although some agents have sent numbers.
    #[serde(default)]
    pub properties: Option<HashMap<String, serde_json::Value>>,
}

impl SessionTypeRequest {
    /// Reads the parameters of an action of type `SessionType`; `None` if they have another shape.
    pub fn from_action(action: &RequestedClientAction) -> Option<Self> {
        Self::deserialize(&action.action_parameters).ok()
    }

    /// A property as text; `None` if it is absent, or neither a string nor a number.
    pub fn property(&self, name: &str) -> Option<String> {
        match self.properties.as_ref()?.get(name)? {
            serde_json::Value::String(text) => Some(text.clone()),
            serde_json::Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }
}

/// The client's response to a [`HandshakeRequest`] (payload type 6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HandshakeResponse {
    /// [`CLIENT_VERSION`](crate::features::CLIENT_VERSION). It selects the agent's behaviour.
    pub client_version: String,
    /// One entry for each requested action.
    pub processed_client_actions: Vec<ProcessedClientAction>,
    /// Errors that concern no single action.
    pub errors: Option<Vec<String>>,
}

/// The response to one requested action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ProcessedClientAction {
    /// The type of the request.
    pub action_type: String,
    /// The number of an [`ActionStatus`].
    pub action_status: u32,
    /// Null for `SessionType`.
    pub action_result: serde_json::Value,
    /// Why the action was not performed; empty on success.
    pub error: String,
}

/// The result of an action (agent [`model.go`], ActionStatus). Any but `Success` makes the agent end the session.
///
/// [`model.go`]: https://github.com/aws/amazon-ssm-agent/blob/1c217c89b42de51d4f4063363d8ec1f2eef56055/agent/session/contracts/model.go#L360-L366
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum ActionStatus {
    /// The action was performed.
    Success = 1,
    /// The action was tried and failed.
    Failed = 2,
    /// The client does not know the action, or cannot serve the session.
    Unsupported = 3,
}

/// The agent's end of the handshake (payload type 7).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HandshakeComplete {
    /// Duration of the handshake, in nanoseconds.
    pub handshake_time_to_complete: i64,
    /// A text of the account's administrators for the user, mostly empty.
    pub customer_message: String,
}

/// The document of `channel_closed` (plugin [`clientmessage.go`], ChannelClosed). All fields are optional, because AWS does
/// not document it.
///
/// [`clientmessage.go`]: https://github.com/aws/session-manager-plugin/blob/61cf1288c7c66b4cbff922b7ed8a6604b3a3c2ea/src/message/clientmessage.go#L55-L71
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ChannelClosed {
    /// The session that ended.
    pub session_id: String,
    /// The reason in the words of the agent or the service; often empty.
    pub output: String,
}

impl ChannelClosed {
    /// Decodes the document. A malformed one yields an empty document.
    pub fn decode(payload: &[u8]) -> Self {
        serde_json::from_slice(payload).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgement_equals_that_of_the_reference_client() {
        let vectors = crate::vectors::ssm();
        let golden = vectors["messages"].as_array().unwrap().iter().find(|m| m["name"] == "ack_by_client").unwrap();
        let acknowledged = "00112233-4455-4677-8899-aabbccddeeff".parse().unwrap();
        let id = "6ba7b810-9dad-41d1-80b4-00c04fd430c8".parse().unwrap();
        let ack = acknowledge(MessageType::OutputStreamData, acknowledged, 5, id, 1_700_000_000_000);
        let hex: String = ack.encode().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, golden["hex"].as_str().unwrap());
        assert_eq!(acknowledged_sequence_number(&ack.payload).unwrap(), 5);
    }

    #[test]
    fn a_handshake_request_with_numbers_for_strings_is_read() {
        let request: HandshakeRequest = serde_json::from_str(
            r#"{"AgentVersion":"3.3.987.0","RequestedClientActions":[{"ActionType":"SessionType","ActionParameters":
               {"SessionType":"Port","Properties":{"portNumber":5432,"type":"LocalPortForwarding","host":"db.example"}}}]}"#,
        )
        .unwrap();
        let action = SessionTypeRequest::from_action(&request.requested_client_actions[0]).unwrap();
        assert_eq!(action.property("portNumber").as_deref(), Some("5432"));
        assert_eq!(action.property("host").as_deref(), Some("db.example"));
        assert_eq!(action.property("absent"), None);
    }

    #[test]
    fn flags_round_trip_and_other_payloads_are_none() {
        for flag in [Flag::DisconnectToPort, Flag::TerminateSession, Flag::ConnectToPortError] {
            assert_eq!(Flag::decode(&flag.encode()), Some(flag));
        }
        for payload in [&b""[..], &[0, 0, 0], &[0, 0, 0, 4], &[1, 0, 0, 0], &[0, 0, 0, 1, 0]] {
            assert_eq!(Flag::decode(payload), None);
        }
    }

    #[test]
    fn channel_closed_is_read_leniently() {
        assert_eq!(ChannelClosed::decode(br#"{"Output":"idle","SchemaVersion":1}"#).output, "idle");
        assert_eq!(ChannelClosed::decode(b"garbage"), ChannelClosed::default());
    }
}
