//! The messages that the service itself sends to a client.

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::json;
use uuid::Uuid;

/// The message that tells a client that its session is over.
///
/// Its layout is the service's own: HeaderLength 112, no PayloadType, NUL padding. Made by hand, for no codec of ours
/// should agree with itself here.
pub(super) fn channel_closed(session_id: &str, output: &str, created_date: u64) -> Bytes {
    let message_id = Uuid::new_v4();
    let payload = json!({
        "MessageId": message_id.to_string(), "CreatedDate": created_date.to_string(), "DestinationId": "client",
        "SessionId": session_id, "MessageType": "channel_closed", "SchemaVersion": 1, "Output": output,
    })
    .to_string();
    service_message("channel_closed", &payload, created_date)
}

/// A message as the service makes it.
pub(crate) fn service_message(message_type: &str, payload: &str, created_date: u64) -> Bytes {
    let mut frame = BytesMut::with_capacity(116 + payload.len());
    frame.put_u32(112);
    frame.put_slice(message_type.as_bytes());
    frame.put_bytes(0, 32_usize.saturating_sub(message_type.len()));
    frame.put_u32(1);
    frame.put_u64(created_date);
    frame.put_i64(0);
    frame.put_u64(0);
    frame.put_u128(Uuid::new_v4().as_u128().rotate_left(64));
    frame.put_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, payload.as_bytes()).as_ref());
    frame.put_u32(u32::try_from(payload.len()).unwrap_or(0));
    frame.put_slice(payload.as_bytes());
    frame.freeze()
}
