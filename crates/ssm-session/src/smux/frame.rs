//! smux version 1 frames: eight bytes of header, then the payload of a PSH.
//!
//! | offset | size | field (integers little-endian, unlike the AgentMessage around them) |
//! |---|---|---|
//! | 0 | 1 | version = 1 |
//! | 1 | 1 | cmd: 0 SYN, 1 FIN, 2 PSH, 3 NOP (4 UPD belongs to version 2) |
//! | 2 | 2 | length, payload bytes; 0 for SYN, FIN and NOP, 8 for UPD |
//! | 4 | 4 | stream id |
//!
//! Source: xtaci/smux 1.5.16 [`frame.go`], which session-manager-plugin vendors; amazon-ssm-agent vendors 1.5.15 with the same
//! frames. Version 1 is their default ([`mux.go`]).
//!
//! [`frame.go`]: https://github.com/xtaci/smux/blob/09e2c01560df5aaaed50e48e77547858e2623498/frame.go#L8-L37
//! [`mux.go`]: https://github.com/xtaci/smux/blob/09e2c01560df5aaaed50e48e77547858e2623498/mux.go#L46

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes of the header ([`frame.go`], headerSize).
///
/// [`frame.go`]: https://github.com/xtaci/smux/blob/09e2c01560df5aaaed50e48e77547858e2623498/frame.go#L31-L37
pub const HEADER: usize = 8;
/// The protocol version that both official sides speak.
const VERSION: u8 = 1;

/// Bytes of an UPD's payload ([`frame.go`], szCmdUPD).
///
/// [`frame.go`]: https://github.com/xtaci/smux/blob/09e2c01560df5aaaed50e48e77547858e2623498/frame.go#L20-L24
const UPD_PAYLOAD: u16 = 8;

/// Identifies one stream of a session. Ids are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u32);

impl StreamId {
    /// The id in frames that belong to no stream, such as NOP.
    pub const NONE: Self = Self(0);
    /// The id of a client's first stream: the counter starts at 1 and is advanced before its first use
    /// ([`session.go`], newSession and OpenStream).
    ///
    /// [`session.go`]: https://github.com/xtaci/smux/blob/09e2c01560df5aaaed50e48e77547858e2623498/session.go#L98-L127
    pub const FIRST: Self = Self(3);

    /// The id of the client's next stream; `None` when there are no ids left.
    pub fn next(self) -> Option<Self> {
        Some(Self(self.0.checked_add(2)?))
    }
}

/// The command of a frame ([`frame.go`], cmdSYN and the following).
///
/// [`frame.go`]: https://github.com/xtaci/smux/blob/09e2c01560df5aaaed50e48e77547858e2623498/frame.go#L8-L18
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Command {
    /// Opens a stream.
    Syn = 0,
    /// Ends the sender's side of a stream.
    Fin = 1,
    /// Carries bytes.
    Psh = 2,
    /// Keep-alive, stream id 0.
    Nop = 3,
    /// A window update, which belongs to version 2. Never sent; the reference receiver of version 1 skips it.
    Upd = 4,
}

/// Why bytes are not smux version 1. The session is dead, because the start of the next frame is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The version is not 1.
    #[error("smux version {0}, expected 1")]
    Version(u8),
    /// The command does not belong to version 1.
    #[error("unknown smux command {0}")]
    Command(u8),
    /// SYN, FIN and NOP carry no bytes and UPD carries 8. The reference receiver would take the payload for frames.
    #[error("smux {command:?} with a length of {length}")]
    Length {
        /// The command of the frame.
        command: Command,
        /// Its length field, in bytes.
        length: u16,
    },
}

/// A frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The command.
    pub command: Command,
    /// Bytes of payload that follow.
    pub length: u16,
    /// The stream that the command is for.
    pub stream: StreamId,
}

impl Header {
    /// A frame without payload.
    pub fn control(command: Command, stream: StreamId) -> Self {
        Self { command, length: 0, stream }
    }

    /// Reads a header.
    ///
    /// # Errors
    /// [`FrameError`] when the bytes cannot be a version 1 header.
    pub fn decode(bytes: [u8; HEADER]) -> Result<Self, FrameError> {
        let [version, command, l0, l1, s0, s1, s2, s3] = bytes;
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        let command = match command {
            0 => Command::Syn,
            1 => Command::Fin,
            2 => Command::Psh,
            3 => Command::Nop,
            4 => Command::Upd,
            other => return Err(FrameError::Command(other)),
        };
        let length = u16::from_le_bytes([l0, l1]);
        let expected = match command {
            Command::Psh => length,
            Command::Upd => UPD_PAYLOAD,
            Command::Syn | Command::Fin | Command::Nop => 0,
        };
        if length != expected {
            return Err(FrameError::Length { command, length });
        }
        Ok(Self { command, length, stream: StreamId(u32::from_le_bytes([s0, s1, s2, s3])) })
    }

    /// Writes the header.
    pub fn encode(self, out: &mut BytesMut) {
        out.put_u8(VERSION);
        out.put_u8(self.command as u8);
        out.put_u16_le(self.length);
        out.put_u32_le(self.stream.0);
    }
}

/// A piece of the frame stream. Payloads are handed on in the chunks in which they arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// SYN, FIN or NOP.
    Control(Command, StreamId),
    /// Bytes of a PSH, at least one.
    Data(StreamId, Bytes),
}

/// Cuts a stream of bytes, in chunks of any size, into [`Piece`]s. Keeps state over chunks and copies no payload.
#[derive(Debug, Default)]
pub struct FrameReader {
    partial: BytesMut,
    /// Command, stream and remaining bytes of the frame under way.
    payload: Option<(Command, StreamId, usize)>,
}

impl FrameReader {
    /// Takes the next piece out of `input`. `Ok(None)`: all of `input` is consumed.
    ///
    /// # Errors
    /// [`FrameError`]: the stream is not smux version 1. The reader stays unusable.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<Piece>, FrameError> {
        loop {
            if let Some((command, stream, left)) = self.payload {
                if input.is_empty() {
                    return Ok(None);
                }
                let data = input.split_to(left.min(input.len()));
                self.payload = (left > data.len()).then(|| (command, stream, left - data.len()));
                if command == Command::Psh {
                    return Ok(Some(Piece::Data(stream, data)));
                }
                continue;
            }
            let missing = HEADER.saturating_sub(self.partial.len()).min(input.len());
            self.partial.extend_from_slice(&input.split_to(missing));
            let Ok(header) = <[u8; HEADER]>::try_from(&self.partial[..]) else { return Ok(None) };
            self.partial.advance(HEADER);
            let header = Header::decode(header)?;
            match header.command {
                Command::Psh if header.length == 0 => {}
                Command::Psh | Command::Upd => {
                    self.payload = Some((header.command, header.stream, usize::from(header.length)));
                }
                command @ (Command::Syn | Command::Fin | Command::Nop) => {
                    return Ok(Some(Piece::Control(command, header.stream)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vectors::{self, unhex};

    #[test]
    fn golden_headers_decode_and_encode_byte_for_byte() {
        let vectors = vectors::smux();
        let frames = vectors["frames"].as_array().unwrap();
        assert_eq!(frames.len(), 11);
        for frame in frames {
            let golden =
                unhex(if frame["hex"].is_string() { &frame["hex"] } else { &frame["header_hex"] }).slice(..HEADER);
            let header = Header::decode(golden[..].try_into().unwrap()).unwrap();
            assert_eq!(u64::from(header.length), frame["length"].as_u64().unwrap(), "{}", frame["name"]);
            assert_eq!(u64::from(header.stream.0), frame["stream_id"].as_u64().unwrap(), "{}", frame["name"]);
            assert_eq!(header.command as u64, frame["cmd"].as_u64().unwrap(), "{}", frame["name"]);
            let mut written = BytesMut::new();
            header.encode(&mut written);
            assert_eq!(written, golden, "{}", frame["name"]);
        }
    }

    #[test]
    fn headers_of_other_versions_and_unknown_commands_are_refused() {
        let good = [1, 2, 5, 0, 3, 0, 0, 0];
        assert!(Header::decode(good).is_ok());
        for version in (0..=255).filter(|&v| v != 1) {
            assert_eq!(Header::decode([version, 2, 5, 0, 3, 0, 0, 0]), Err(FrameError::Version(version)));
        }
        for command in 5..=255 {
            assert_eq!(Header::decode([1, command, 0, 0, 3, 0, 0, 0]), Err(FrameError::Command(command)));
        }
        for command in [0, 1, 3, 4] {
            assert!(matches!(Header::decode([1, command, 1, 0, 3, 0, 0, 0]), Err(FrameError::Length { .. })));
        }
    }

    proptest! {
        #[test]
        fn frames_survive_any_cut(sizes in prop::collection::vec(0_u16..300, 1..8), cut in 1_usize..50) {
            let mut wire = BytesMut::new();
            let mut sent = Vec::new();
            for (n, &length) in sizes.iter().enumerate() {
                let stream = StreamId(u32::try_from(n).unwrap());
                Header::control(Command::Syn, stream).encode(&mut wire);
                Header { command: Command::Psh, length, stream }.encode(&mut wire);
                wire.put_bytes(u8::try_from(n).unwrap(), usize::from(length));
                sent.push((stream, usize::from(length)));
            }
            let mut reader = FrameReader::default();
            let mut got: Vec<(StreamId, usize)> = Vec::new();
            for chunk in wire.freeze().chunks(cut) {
                let mut chunk = Bytes::copy_from_slice(chunk);
                while let Some(piece) = reader.next(&mut chunk).unwrap() {
                    match piece {
                        Piece::Control(command, stream) => { prop_assert_eq!(command, Command::Syn); got.push((stream, 0)); }
                        Piece::Data(stream, data) => {
                            prop_assert!(data.iter().all(|&b| u32::from(b) == stream.0));
                            let last = got.last_mut().unwrap();
                            prop_assert_eq!(last.0, stream);
                            last.1 += data.len();
                        }
                    }
                }
            }
            prop_assert_eq!(got, sent);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let mut reader = FrameReader::default();
            let mut input = Bytes::from(bytes);
            while let Ok(Some(_)) = reader.next(&mut input) {}
        }
    }
}
