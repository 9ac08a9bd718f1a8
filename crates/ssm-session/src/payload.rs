//! What the payloads of the data channel say: types, flags and the JSON documents.
//!
//! Source: session-manager-plugin `src/message/clientmessage.go`; amazon-ssm-agent `agent/session/contracts/model.go`.
//! The two documents on the hot path, acknowledgements, are written and read without a JSON tree.

use std::{borrow::Cow, collections::HashMap};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::message::{AgentMessage, MessageType};

/// The kind of content in a stream data message. A Port session uses only these.
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
    /// A type that Port sessions do not use: acknowledged and ignored.
    Other(u32),
}

impl PayloadType {
    /// The number on the wire (`clientmessage.go`, PayloadType constants).
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

/// The content of a Flag payload: four bytes, big-endian (`clientmessage.go`, PayloadTypeFlag).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    /// Client to agent, basic mode only.
    DisconnectToPort,
    /// Client to agent: end the session.
    TerminateSession,
    /// Agent to client: a dial failed. It does not say for which stream.
    ConnectToPortError,
}

impl Flag {
    /// The payload that says this flag.
    pub fn encode(self) -> Bytes {
        Bytes::from_static(match self {
            Self::DisconnectToPort => &[0, 0, 0, 1],
            Self::TerminateSession => &[0, 0, 0, 2],
            Self::ConnectToPortError => &[0, 0, 0, 3],
        })
    }

    /// The flag that a payload says; `None` for unknown numbers and other lengths.
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
    /// UUID, new for each open.
    pub request_id: Cow<'a, str>,
    /// From StartSession or ResumeSession.
    pub token_value: Cow<'a, str>,
    /// UUID, the same for all opens of one session.
    #[serde(default)]
    pub client_id: Cow<'a, str>,
    /// [`super::features::CLIENT_VERSION`].
    #[serde(default)]
    pub client_version: Cow<'a, str>,
}

/// The document of an `acknowledge` message.
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

/// The `acknowledge` that answers one stream data message of type `acknowledged`, with that message's id and sequence
/// number. It acknowledges that message alone, never those before it.
pub fn acknowledge(
    acknowledged: MessageType,
    acknowledged_id: Uuid,
    sequence_number: i64,
    message_id: Uuid,
    created_date: u64,
) -> AgentMessage {
    // The order of the keys is the reference encoder's, so that our acknowledgements are byte for byte its own.
    let payload = format!(
        "{{\"AcknowledgedMessageType\":\"{}\",\"AcknowledgedMessageId\":\"{}\",\"AcknowledgedMessageSequenceNumber\":{sequence_number},\"IsSequentialMessage\":true}}",
        acknowledged.as_str(),
        acknowledged_id.as_hyphenated(),
    );
    AgentMessage {
        message_type: MessageType::Acknowledge,
        created_date,
        sequence_number: 0,
        // SYN and FIN, as both official sides send it (plugin SendAcknowledgeMessage).
        flags: 3,
        message_id,
        payload_type: Some(0),
        payload: payload.into(),
    }
}

/// The sequence number that an `acknowledge` payload acknowledges: the only field that receivers match by.
///
/// # Errors
/// The JSON error of a malformed document.
pub fn acknowledged_sequence_number(payload: &[u8]) -> Result<i64, serde_json::Error> {
    serde_json::from_slice::<AcknowledgeContent<'_>>(payload).map(|ack| ack.acknowledged_message_sequence_number)
}

/// What the agent asks of the client at the start (payload type 5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HandshakeRequest {
    /// Four numbers with dots.
    #[serde(default)]
    pub agent_version: String,
    /// One entry for each thing to agree on.
    #[serde(default)]
    pub requested_client_actions: Vec<RequestedClientAction>,
}

/// One thing that the agent asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RequestedClientAction {
    /// `SessionType` or `KMSEncryption`.
    pub action_type: String,
    /// Depends on the type; read by [`SessionTypeRequest::from_action`].
    #[serde(default)]
    pub action_parameters: serde_json::Value,
}

/// The parameters of the action `SessionType`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SessionTypeRequest {
    /// `Port`, `Standard_Stream`, …
    pub session_type: String,
    /// The document's properties: strings, though some agents have sent numbers.
    #[serde(default)]
    pub properties: Option<HashMap<String, serde_json::Value>>,
}

impl SessionTypeRequest {
    /// Reads the parameters of an action of type `SessionType`; `None` when they have another shape.
    pub fn from_action(action: &RequestedClientAction) -> Option<Self> {
        Self::deserialize(&action.action_parameters).ok()
    }

    /// One property as text.
    pub fn property(&self, name: &str) -> Option<String> {
        match self.properties.as_ref()?.get(name)? {
            serde_json::Value::String(text) => Some(text.clone()),
            serde_json::Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }
}

/// The client's answer to a [`HandshakeRequest`] (payload type 6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HandshakeResponse {
    /// [`super::features::CLIENT_VERSION`]; it selects the agent's behaviour.
    pub client_version: String,
    /// One entry for each requested action.
    pub processed_client_actions: Vec<ProcessedClientAction>,
    /// What went wrong, if anything.
    pub errors: Option<Vec<String>>,
}

/// The answer to one requested action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ProcessedClientAction {
    /// As in the request.
    pub action_type: String,
    /// See [`ActionStatus`].
    pub action_status: u32,
    /// Null for `SessionType`.
    pub action_result: serde_json::Value,
    /// Why it was not done.
    pub error: String,
}

/// How an action ended (agent `agent/session/contracts/model.go`, ActionStatus).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum ActionStatus {
    /// Done.
    Success = 1,
    /// Tried in vain.
    Failed = 2,
    /// Not known to this client.
    Unsupported = 3,
}

/// The agent's end of the handshake (payload type 7).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HandshakeComplete {
    /// Nanoseconds.
    pub handshake_time_to_complete: i64,
    /// A text for the user, mostly empty.
    pub customer_message: String,
}

/// The document of `channel_closed`. All fields are optional: nothing about its layout is promised.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ChannelClosed {
    /// The session that ended.
    pub session_id: String,
    /// The cause in words, from the agent or the service; often empty.
    pub output: String,
}

impl ChannelClosed {
    /// Reads what can be read; a document that cannot gives an empty one.
    pub fn decode(payload: &[u8]) -> Self {
        serde_json::from_slice(payload).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_is_byte_for_byte_the_reference_clients() {
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
