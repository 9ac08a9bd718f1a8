//! Whether a client that chose to compress does so: the form of its first packet says.

/// The magic number that a zstd frame begins with, of which two bytes are looked at
/// (<https://www.rfc-editor.org/rfc/rfc8878#section-3.1.1>).
const ZSTD: [u8; 2] = [0x28, 0xb5];
/// Bytes that decide: a header of compressed packets, and two of the payload behind it.
const NEEDED: usize = 9;
/// The shortest payload of a compressed packet: a header, and a command.
const MIN_PAYLOAD: usize = 5;

/// The form of compression that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Plain,
    Compressed,
}

impl Form {
    /// By the first bytes of the first command; `None` when they are too few.
    ///
    /// A compressed packet says at offset 4 how long its payload was: not at all, where it is not compressed; a plain packet
    /// has its command there, and 0 is none that a client sends (COM_SLEEP). Otherwise the payload begins as zlib streams
    /// (<https://www.rfc-editor.org/rfc/rfc1950#section-2.2>) and zstd frames do, which no statement does.
    pub(super) fn of_first_packet(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, ..] = *bytes else { return None };
        let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
        if length < MIN_PAYLOAD {
            return (bytes.len() > MIN_PAYLOAD - 1).then_some(Self::Plain);
        }
        let [_, _, _, _, d, e, f, first, second] = *bytes.first_chunk::<NEEDED>()?;
        let is_stored = [d, e, f] == [0; 3];
        let is_zlib = first & 0x0f == 8 && (u16::from(first) << 8 | u16::from(second)) % 31 == 0;
        let is_compressed = is_stored || is_zlib || [first, second] == ZSTD;
        Some(if is_compressed { Self::Compressed } else { Self::Plain })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysql::{Compression, compress::put, script::packet};

    #[test]
    fn the_first_packet_says_whether_a_client_compresses() {
        let long = [&b"\x03select '"[..], &[b'x'; 5000], b"'"].concat();
        for command in [
            &b"\x03select 1"[..],
            b"\x03do 0",
            b"\x0e",
            b"\x01",
            b"\x02appdb",
            b"\x16select ?",
            b"\x03\0\x01select 1",
            &long,
        ] {
            let plain = packet(0, command);
            assert_eq!(Form::of_first_packet(&plain), Some(Form::Plain), "{}", command.escape_ascii());
            for algorithm in [Compression::Zlib, Compression::Zstd] {
                let mut coded = bytes::BytesMut::new();
                put(&mut coded, 0, &plain, algorithm).unwrap();
                assert_eq!(Form::of_first_packet(&coded), Some(Form::Compressed), "{}", command.escape_ascii());
                for end in 0..NEEDED {
                    assert_eq!(Form::of_first_packet(&coded[..end]), None, "cut at {end}");
                }
            }
        }
        for end in 0..5 {
            assert_eq!(Form::of_first_packet(&packet(0, b"\x0e")[..end]), None, "cut at {end}");
        }
    }
}
