//! The AgentMessage: the one binary frame of the data channel, encoded and decoded.
//!
//! | offset | size | field | encoding (integers big-endian) |
//! |---|---|---|---|
//! | 0 | 4 | HeaderLength | u32: bytes before PayloadLength, 116 (112 in some messages of the service: no PayloadType) |
//! | 4 | 32 | MessageType | ASCII, padded with spaces (the service pads with NUL) |
//! | 36 | 4 | SchemaVersion | u32 = 1 |
//! | 40 | 8 | CreatedDate | u64, milliseconds since the Unix epoch, never 0 |
//! | 48 | 8 | SequenceNumber | i64 |
//! | 56 | 8 | Flags | u64: bit 0 SYN, bit 1 FIN; the receivers do not read it |
//! | 64 | 16 | MessageId | UUID, its two halves swapped |
//! | 80 | 32 | PayloadDigest | SHA-256 of the payload |
//! | 112 | 4 | PayloadType | u32 |
//! | 116 | 4 | PayloadLength | u32 |
//! | 120 | n | Payload | at least one byte |
//!
//! Sources: plugin [`clientmessage.go`] (offsets) and [`messageparser.go`] (DeserializeClientMessage, SerializeClientMessage);
//! agent [`agentmessage.go`]. The contents of payloads are in [`crate::payload`]; [`crate::channel`] handles order and loss.
//!
//! [`clientmessage.go`]: https://github.com/aws/session-manager-plugin/blob/61cf1288c7c66b4cbff922b7ed8a6604b3a3c2ea/src/message/clientmessage.go#L146-L171
//! [`messageparser.go`]: https://github.com/aws/session-manager-plugin/blob/61cf1288c7c66b4cbff922b7ed8a6604b3a3c2ea/src/message/messageparser.go#L36
//! [`agentmessage.go`]: https://github.com/aws/amazon-ssm-agent/blob/1c217c89b42de51d4f4063363d8ec1f2eef56055/agent/session/contracts/agentmessage.go#L80-L105

use aws_lc_rs::digest::{SHA256, digest};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use uuid::Uuid;

/// The value of HeaderLength that both official encoders write (plugin [`clientmessage.go`], ClientMessage_PayloadLengthOffset).
///
/// [`clientmessage.go`]: https://github.com/aws/session-manager-plugin/blob/61cf1288c7c66b4cbff922b7ed8a6604b3a3c2ea/src/message/clientmessage.go#L169
const HEADER_LENGTH_FIELD: u32 = 116;
/// [`HEADER_LENGTH_FIELD`] as a number of bytes.
const HEADER_LENGTH: usize = 116;
/// HeaderLength without the PayloadType field, observed in `channel_closed` of the service.
const HEADER_LENGTH_WITHOUT_PAYLOAD_TYPE: usize = 112;
/// Bytes of the MessageType field (plugin [`clientmessage.go`], ClientMessage_MessageTypeLength).
///
/// [`clientmessage.go`]: https://github.com/aws/session-manager-plugin/blob/61cf1288c7c66b4cbff922b7ed8a6604b3a3c2ea/src/message/clientmessage.go#L148
const MESSAGE_TYPE_LENGTH: usize = 32;
/// The only SchemaVersion (plugin [`streaming.go`], SendInputDataMessage).
///
/// [`streaming.go`]: https://github.com/aws/session-manager-plugin/blob/61cf1288c7c66b4cbff922b7ed8a6604b3a3c2ea/src/datachannel/streaming.go#L272
const SCHEMA_VERSION: u32 = 1;
/// Bytes that a message adds to its payload: the header and PayloadLength.
const OVERHEAD: usize = HEADER_LENGTH + 4;

/// The word in the MessageType field (plugin [`clientmessage.go`]; agent [`model.go`]).
///
/// [`clientmessage.go`]: https://github.com/aws/session-manager-plugin/blob/61cf1288c7c66b4cbff922b7ed8a6604b3a3c2ea/src/message/clientmessage.go#L22-L41
/// [`model.go`]: https://github.com/aws/amazon-ssm-agent/blob/1c217c89b42de51d4f4063363d8ec1f2eef56055/agent/session/contracts/model.go#L45
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageType {
    /// Data from client to agent, acknowledged.
    InputStreamData,
    /// Data from agent to client, acknowledged.
    OutputStreamData,
    /// An acknowledgement, in both directions; never acknowledged itself.
    Acknowledge,
    /// The service ends the session.
    ChannelClosed,
    /// The service reports that the peer is connected again.
    StartPublication,
    /// The service reports that the peer is disconnected.
    PausePublication,
    /// Any other word: ignored, never acknowledged.
    Unknown,
}

impl MessageType {
    /// The word on the wire; empty for [`MessageType::Unknown`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InputStreamData => "input_stream_data",
            Self::OutputStreamData => "output_stream_data",
            Self::Acknowledge => "acknowledge",
            Self::ChannelClosed => "channel_closed",
            Self::StartPublication => "start_publication",
            Self::PausePublication => "pause_publication",
            Self::Unknown => "",
        }
    }

    fn parse(word: &[u8]) -> Self {
        match word {
            b"input_stream_data" => Self::InputStreamData,
            b"output_stream_data" => Self::OutputStreamData,
            b"acknowledge" => Self::Acknowledge,
            b"channel_closed" => Self::ChannelClosed,
            b"start_publication" => Self::StartPublication,
            b"pause_publication" => Self::PausePublication,
            _ => Self::Unknown,
        }
    }

    /// Whether the payload must match its digest. Messages of the service itself may carry a wrong one.
    fn digest_counts(self) -> bool {
        matches!(self, Self::InputStreamData | Self::OutputStreamData | Self::Acknowledge)
    }
}

/// Why bytes are not an AgentMessage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The frame ends inside the header or the payload.
    #[error("message of {actual} bytes is shorter than its {needed}")]
    Truncated {
        /// Bytes that the header announces.
        needed: usize,
        /// Bytes of the frame.
        actual: usize,
    },
    /// The frame has more bytes than HeaderLength and PayloadLength announce.
    #[error("message has {0} bytes after its payload")]
    TrailingBytes(usize),
    /// HeaderLength is too small for the fixed fields.
    #[error("HeaderLength {0} is below 112")]
    HeaderLength(usize),
    /// MessageType is blank.
    #[error("MessageType is empty")]
    EmptyMessageType,
    /// CreatedDate is 0, which both official validators refuse.
    #[error("CreatedDate is 0")]
    NoCreatedDate,
    /// The payload was changed on the way.
    #[error("PayloadDigest does not match the payload")]
    Digest,
}

/// One message of the data channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentMessage {
    /// The type, which decides the meaning of the other fields.
    pub message_type: MessageType,
    /// Milliseconds since the Unix epoch, not 0.
    pub created_date: u64,
    /// The position among the sender's stream data messages, see [`SequenceNumber`](crate::sequence::SequenceNumber); 0 and
    /// without meaning in acknowledgements and messages of the service.
    pub sequence_number: i64,
    /// Bit 0 SYN, bit 1 FIN. The receivers do not read them.
    pub flags: u64,
    /// Identifies the message in its acknowledgement.
    pub message_id: Uuid,
    /// The number of a [`PayloadType`](crate::payload::PayloadType); `None` if the header has no such field.
    pub payload_type: Option<u32>,
    /// The content. Neither official encoder can send an empty one.
    pub payload: Bytes,
}

impl AgentMessage {
    /// Decodes one whole message, as a websocket frame carries it. The payload shares the frame's memory.
    ///
    /// # Errors
    /// [`DecodeError`]: the frame is not exactly one well-formed message. The digest is checked for stream data and
    /// acknowledgements.
    pub fn decode(frame: &Bytes) -> Result<Self, DecodeError> {
        let truncated = |needed| DecodeError::Truncated { needed, actual: frame.len() };
        let mut header = frame.get(..OVERHEAD - 4).ok_or(truncated(OVERHEAD - 4))?;

        let header_length = header.get_u32() as usize;
        if header_length < HEADER_LENGTH_WITHOUT_PAYLOAD_TYPE {
            return Err(DecodeError::HeaderLength(header_length));
        }
        let (word, mut header) = header.split_at(MESSAGE_TYPE_LENGTH);
        let word = word.trim_ascii().split(|&b| b == 0).next().unwrap_or_default().trim_ascii();
        if word.is_empty() {
            return Err(DecodeError::EmptyMessageType);
        }
        let message_type = MessageType::parse(word);
        let _schema_version = header.get_u32();
        let created_date = header.get_u64();
        let sequence_number = header.get_i64();
        let flags = header.get_u64();
        let message_id = uuid_from_wire(header.get_u128());
        let payload_digest: &[u8] = &header.copy_to_bytes(32);
        let payload_type = (header_length >= HEADER_LENGTH).then(|| header.get_u32());

        let payload_start = header_length.checked_add(4).ok_or(truncated(usize::MAX))?;
        let mut length_field = frame.get(header_length..payload_start).ok_or(truncated(payload_start))?;
        let payload_length = length_field.get_u32() as usize;
        let end = payload_start.checked_add(payload_length).ok_or(truncated(usize::MAX))?;
        if frame.len() < end {
            return Err(truncated(end));
        }
        if frame.len() > end {
            return Err(DecodeError::TrailingBytes(frame.len() - end));
        }
        let payload = frame.slice(payload_start..end);

        if message_type.digest_counts() {
            if created_date == 0 {
                return Err(DecodeError::NoCreatedDate);
            }
            if digest(&SHA256, &payload).as_ref() != payload_digest {
                return Err(DecodeError::Digest);
            }
        }
        Ok(Self { message_type, created_date, sequence_number, flags, message_id, payload_type, payload })
    }

    /// Encodes the message as one websocket frame.
    pub fn encode(&self) -> Bytes {
        let mut frame = BytesMut::with_capacity(OVERHEAD + self.payload.len());
        frame.put_u32(HEADER_LENGTH_FIELD);
        let word = self.message_type.as_str().as_bytes();
        frame.put_slice(word);
        frame.put_bytes(b' ', MESSAGE_TYPE_LENGTH - word.len());
        frame.put_u32(SCHEMA_VERSION);
        frame.put_u64(self.created_date);
        frame.put_i64(self.sequence_number);
        frame.put_u64(self.flags);
        frame.put_u128(uuid_to_wire(self.message_id));
        frame.put_slice(digest(&SHA256, &self.payload).as_ref());
        frame.put_u32(self.payload_type.unwrap_or_default());
        frame.put_u32(u32::try_from(self.payload.len()).expect("a payload of ours is far below 4 GiB"));
        frame.put_slice(&self.payload);
        frame.freeze()
    }
}

/// Wire order of a UUID: bytes 8 to 15, then bytes 0 to 7 (plugin [`messageparser.go`], putUuid; the agent has the same).
///
/// [`messageparser.go`]: https://github.com/aws/session-manager-plugin/blob/61cf1288c7c66b4cbff922b7ed8a6604b3a3c2ea/src/message/messageparser.go#L416
fn uuid_to_wire(id: Uuid) -> u128 {
    id.as_u128().rotate_left(64)
}

fn uuid_from_wire(wire: u128) -> Uuid {
    Uuid::from_u128(wire.rotate_left(64))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::vectors::{self, unhex};

    fn expected(vector: &Value) -> AgentMessage {
        AgentMessage {
            message_type: MessageType::parse(vector["message_type"].as_str().unwrap().as_bytes()),
            created_date: vector["created_date_ms"].as_u64().unwrap(),
            sequence_number: vector["sequence_number"].as_i64().unwrap(),
            flags: vector["flags"].as_u64().unwrap(),
            message_id: vector["message_id"].as_str().unwrap().parse().unwrap(),
            payload_type: vector["payload_type"].as_u64().map(|t| t.try_into().unwrap()),
            payload: unhex(&vector["payload_hex"]),
        }
    }

    #[test]
    fn golden_messages_decode_and_encode_byte_for_byte() {
        let vectors = vectors::ssm();
        let messages = vectors["messages"].as_array().unwrap();
        assert_eq!(messages.len(), 14);
        for vector in messages {
            let frame = unhex(&vector["hex"]);
            assert_eq!(AgentMessage::decode(&frame), Ok(expected(vector)), "{}", vector["name"]);
            assert_eq!(expected(vector).encode(), frame, "{}", vector["name"]);
        }
    }

    #[test]
    fn messages_of_the_service_without_payload_type_decode() {
        for vector in vectors::ssm()["decode_only"].as_array().unwrap() {
            assert_eq!(AgentMessage::decode(&unhex(&vector["hex"])), Ok(expected(vector)), "{}", vector["name"]);
        }
    }

    #[test]
    fn malformed_messages_are_refused() {
        let vectors = vectors::ssm();
        for vector in vectors["must_reject"]
            .as_array()
            .unwrap()
            .iter()
            .chain(vectors["implementation_defined"].as_array().unwrap())
        {
            assert!(AgentMessage::decode(&unhex(&vector["hex"])).is_err(), "{}", vector["name"]);
        }
    }

    #[test]
    fn every_truncation_and_every_header_length_is_refused() {
        let frame = unhex(&vectors::ssm()["messages"][0]["hex"]);
        for end in 0..frame.len() {
            assert!(AgentMessage::decode(&frame.slice(..end)).is_err(), "cut at {end}");
        }
        for header_length in (0..=200_u32).filter(|&n| n != 116) {
            let mut changed = BytesMut::from(&frame[..]);
            changed[..4].copy_from_slice(&header_length.to_be_bytes());
            assert!(AgentMessage::decode(&changed.freeze()).is_err(), "HeaderLength {header_length}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = AgentMessage::decode(&bytes.into());
        }

        #[test]
        fn messages_round_trip(sequence_number: i64, flags: u64, created_date in 1_u64.., id: u128, kind: u32, payload: Vec<u8>) {
            let message = AgentMessage {
                message_type: MessageType::OutputStreamData, created_date, sequence_number, flags,
                message_id: Uuid::from_u128(id), payload_type: Some(kind), payload: payload.into(),
            };
            prop_assert_eq!(AgentMessage::decode(&message.encode()), Ok(message));
        }
    }
}
