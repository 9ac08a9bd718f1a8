//! Cancelling a query: BackendKeyData hands out a key, a CancelRequest on a connection of its own presents it.
//!
//! The client is given the upstream's own key, so a request is forwarded as it came, once it is known to be for a
//! connection of ours. <https://www.postgresql.org/docs/18/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS>

use std::fmt;

use super::{
    codec::{Reader, put_message},
    error::Error,
};
use safe_display::Secret;

/// The code in place of a protocol version that makes a startup packet a CancelRequest: 1234.5678 (`CANCEL_REQUEST_CODE`
/// in `src/include/libpq/pqcomm.h`, `REL_18_0`).
pub(super) const CANCEL_REQUEST_CODE: u32 = 80_877_102;

/// Lengths of a secret key in bytes: 4 up to protocol 3.0; up to 256 since 3.2 (PostgreSQL 18 sends 32).
const KEY_LENGTHS: std::ops::RangeInclusive<usize> = 4..=256;

/// A server process, and the secret that allows to cancel its query.
#[derive(Clone)]
pub struct CancelKey {
    /// The server's process id; not unique among targets.
    pub process_id: u32,
    key: Secret<Vec<u8>>,
}

impl CancelKey {
    /// Reads process id and key, the layout that BackendKeyData and CancelRequest share.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let process_id = reader.u32()?;
        let key = reader.rest();
        KEY_LENGTHS.contains(&key.len()).then(|| Self { process_id, key: Secret::new(key.to_vec()) })
    }

    /// Another key of the same process and length, that only we know.
    pub(super) fn with_another_secret(&self) -> Self {
        let mut key = vec![0; self.key.expose().len()];
        aws_lc_rs::rand::fill(&mut key).expect("the system has random numbers");
        Self { process_id: self.process_id, key: Secret::new(key) }
    }

    /// The body of a BackendKeyData.
    pub(super) fn body(&self) -> Vec<u8> {
        [&self.process_id.to_be_bytes()[..], self.key.expose()].concat()
    }

    /// Whether both are the same, in a time that does not tell how many bytes of the keys agree.
    pub fn matches(&self, other: &Self) -> bool {
        let keys = aws_lc_rs::constant_time::verify_slices_are_equal(self.key.expose(), other.key.expose());
        self.process_id == other.process_id && keys.is_ok()
    }
}

impl fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CancelKey of process {}", self.process_id)
    }
}

/// A client's wish to cancel a query of another connection.
///
/// | offset | size | field |
/// |---|---|---|
/// | 0 | 4 | length, counting itself |
/// | 4 | 4 | 80877102 |
/// | 8 | 4 | process id |
/// | 12 | 4 to 256 | secret key |
#[derive(Debug, Clone)]
pub struct CancelRequest(CancelKey);

impl CancelRequest {
    /// Reads what follows the code in the packet.
    ///
    /// # Errors
    /// [`Error::CancelLength`] when the key is shorter or longer than any.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Error> {
        CancelKey::parse(body).map(Self).ok_or(Error::CancelLength(body.len()))
    }

    /// The request that cancels what `key` is for.
    pub fn new(key: CancelKey) -> Self {
        Self(key)
    }

    /// The process that it names.
    pub fn process_id(&self) -> u32 {
        self.0.process_id
    }

    /// Whether it is for the connection that was given `key`. Constant-time in the key's bytes.
    pub fn is_for(&self, key: &CancelKey) -> bool {
        self.0.matches(key)
    }

    /// The packet, as the client sent it. The server answers by closing the connection.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_message::<std::convert::Infallible>(&mut out, None, |out| {
            out.extend_from_slice(&CANCEL_REQUEST_CODE.to_be_bytes());
            out.extend_from_slice(&self.0.process_id.to_be_bytes());
            out.extend_from_slice(self.0.key.expose());
            Ok(())
        })
        .unwrap_or_else(|never| match never {});
        out
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use postgres_protocol::message::frontend;

    use super::*;

    fn key(process_id: u32, key: &[u8]) -> CancelKey {
        CancelKey { process_id, key: Secret::new(key.to_vec()) }
    }

    #[test]
    fn a_request_is_that_of_another_implementation() {
        let mut theirs = BytesMut::new();
        frontend::cancel_request(4711, 0x0102_0304, &mut theirs);
        let request = CancelRequest::parse(&theirs[8..]).unwrap();
        assert_eq!(request.encode(), theirs[..]);
        assert_eq!(request.process_id(), 4711);
        assert!(request.is_for(&key(4711, &[1, 2, 3, 4])));
    }

    #[test]
    fn only_the_whole_key_of_the_same_process_matches() {
        let request = CancelRequest::new(key(7, &[9; 32]));
        assert!(request.is_for(&key(7, &[9; 32])));
        let mut almost = [9; 32];
        almost[31] = 8;
        for other in [key(8, &[9; 32]), key(7, &almost), key(7, &[9; 31]), key(7, &[9; 33]), key(7, &[9; 4])] {
            assert!(!request.is_for(&other), "{other:?}");
        }
    }

    #[test]
    fn keys_have_four_to_256_bytes() {
        for (length, ok) in [(0, false), (3, false), (4, true), (32, true), (256, true), (257, false)] {
            let body = vec![1; 4 + length];
            assert_eq!(CancelRequest::parse(&body).is_ok(), ok, "{length}");
        }
        for length in 0..4 {
            assert!(CancelRequest::parse(&vec![0; length]).is_err());
        }
    }

    #[test]
    fn a_key_is_not_shown() {
        let shown = format!("{:?}", CancelRequest::new(key(7, b"hush")));
        assert_eq!(shown, "CancelRequest(CancelKey of process 7)");
    }
}
