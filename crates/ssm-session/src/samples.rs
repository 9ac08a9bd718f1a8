//! Messages and frames of a far side, for tests.

use bytes::{Bytes, BytesMut};
use uuid::Uuid;

use crate::{
    message::{AgentMessage, MessageType},
    smux::frame::{Command, Header, StreamId},
};

/// A message of the far side. Its id is that of the same number again.
pub(crate) fn message(
    message_type: MessageType,
    sequence_number: i64,
    payload_type: Option<u32>,
    payload: Bytes,
) -> AgentMessage {
    let message_id = Uuid::from_u128(u128::from(sequence_number.unsigned_abs()) + 1);
    AgentMessage { message_type, created_date: 1, sequence_number, flags: 0, message_id, payload_type, payload }
}

/// The HandshakeRequest of an agent of this version, for a session to `db.example`, port 5432.
pub(crate) fn handshake_request(agent_version: &str) -> String {
    format!(
        r#"{{"AgentVersion":"{agent_version}","RequestedClientActions":[{{"ActionType":"SessionType","ActionParameters":
        {{"SessionType":"Port","Properties":{{"host":"db.example","portNumber":"5432","type":"LocalPortForwarding"}}}}}}]}}"#
    )
}

/// A smux frame.
pub(crate) fn frame(command: Command, stream: StreamId, data: &[u8]) -> Bytes {
    let length = u16::try_from(data.len()).expect("a frame's worth of data");
    let mut frame = BytesMut::new();
    Header { command, length, stream }.encode(&mut frame);
    frame.extend_from_slice(data);
    frame.freeze()
}
