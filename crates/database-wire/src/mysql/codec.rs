//! Packets, and the protocol's primitive types. All integers are little endian.
//!
//! A packet is
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 3 | length of the payload |
//! | 3 | 1 | sequence number: 0 with each command, one more with each packet either way |
//! | 4 | | payload |
//!
//! (<https://dev.mysql.com/doc/dev/mysql-server/8.4.9/page_protocol_basic_packets.html>). A payload of 16 MiB - 1 and
//! more goes on in the next packet; packets of a login are shorter, and one that claims to be longer is refused by
//! [`MAX_LOGIN_PACKET`] before anything is allocated.
//!
//! Reading never panics: what is not there is `None`, and the caller names the message that was cut short.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::error::Error;

/// The longest payload of a login in bytes, of client and server: connection attributes may take 64 KiB, the rest is small.
pub(super) const MAX_LOGIN_PACKET: usize = 128 * 1024;
/// Length and sequence number.
pub(super) const HEADER: usize = 4;
/// A client's COM_QUIT as a packet: a payload of one byte, with the number of a first packet.
pub const QUIT: [u8; 5] = [1, 0, 0, 0, 1];
/// The length field of a packet whose payload goes on in the next one.
pub(super) const CONTINUED: usize = 0xff_ffff;

/// One packet of a login.
pub(super) struct Packet {
    pub(super) sequence: u8,
    pub(super) payload: Vec<u8>,
}

impl Packet {
    /// The sequence number of the answer.
    pub(super) fn next(&self) -> u8 {
        self.sequence.wrapping_add(1)
    }
}

/// The fields of a packet's header.
pub(super) fn header([a, b, c, sequence]: [u8; HEADER]) -> (usize, u8) {
    (usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16, sequence)
}

/// Reads one packet and not a byte further. Not cancel safe.
pub(super) async fn read_packet<S: AsyncRead + Unpin>(
    stream: &mut S,
    expected: u8,
    waiting_for: &'static str,
) -> Result<Packet, Error> {
    read_packet_or_end(stream, expected, waiting_for).await?.map_err(|_| Error::Closed { waiting_for })
}

/// How a peer leaves between two packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Departure {
    /// It has closed the connection.
    Closed,
    /// It has sent COM_QUIT.
    Quit,
}

/// As [`read_packet`], for a peer that may leave before the first byte.
pub(super) async fn read_packet_or_end<S: AsyncRead + Unpin>(
    stream: &mut S,
    expected: u8,
    waiting_for: &'static str,
) -> Result<Result<Packet, Departure>, Error> {
    let broke = |error| Error::broke(error, waiting_for);
    let mut head = [0; HEADER];
    let n = match stream.read(&mut head).await {
        Ok(0) => return Ok(Err(Departure::Closed)),
        Ok(n) => n,
        // A probe that closes with SO_LINGER 0 is as quiet as one that closes.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(Err(Departure::Closed)),
        Err(error) => return Err(broke(error)),
    };
    if let Some(missing) = head.get_mut(n..) {
        stream.read_exact(missing).await.map_err(broke)?;
    }
    if expected != 0 && QUIT.starts_with(&head) {
        return Ok(Err(Departure::Quit));
    }
    let (length, sequence) = header(head);
    if length > MAX_LOGIN_PACKET {
        return Err(Error::PacketLength { length, waiting_for });
    }
    if sequence != expected {
        return Err(Error::Sequence { expected, sequence, waiting_for });
    }
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await.map_err(broke)?;
    Ok(Ok(Packet { sequence, payload }))
}

/// Sends whole packets; a peer that has hung up is not found out here but by the read that follows, because what it
/// said before is worth more than that it has gone.
pub(super) async fn send<S: AsyncWrite + Unpin>(
    stream: &mut S,
    packets: &[u8],
    waiting_for: &'static str,
) -> Result<(), Error> {
    let sent = match stream.write_all(packets).await {
        Ok(()) => stream.flush().await,
        failed => failed,
    };
    match sent.map_err(|error| Error::broke(error, waiting_for)) {
        Err(Error::Closed { .. }) => Ok(()),
        result => result,
    }
}

/// Appends a packet whose payload `body` writes.
pub(super) fn put_packet<E>(
    out: &mut Vec<u8>,
    sequence: u8,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, sequence]);
    body(out)?;
    let length = u32::try_from(out.len() - start - HEADER).expect("we write no packet of 4 GiB");
    debug_assert!(length < 0xff_ffff, "a written packet is shorter");
    if let (Some(field), [low, middle, high, _]) = (out.get_mut(start..start + 3), length.to_le_bytes()) {
        field.copy_from_slice(&[low, middle, high]);
    }
    Ok(())
}

/// One packet with this payload.
pub(super) fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + payload.len());
    put_packet::<std::convert::Infallible>(&mut out, sequence, |out| {
        out.extend_from_slice(payload);
        Ok(())
    })
    .unwrap_or_else(|never| match never {});
    out
}

/// A bounded view of bytes from a peer, taken from the front.
#[derive(Clone)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    pub(super) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    /// Bytes up to the next NUL, which is consumed and not returned.
    pub(super) fn cstr(&mut self) -> Option<&'a [u8]> {
        let text = self.bytes(self.0.iter().position(|&b| b == 0)?)?;
        self.byte()?;
        Some(text)
    }

    /// The same; a missing NUL is taken for granted at the end, as servers and clients do for a last field.
    pub(super) fn last_cstr(&mut self) -> &'a [u8] {
        self.cstr().unwrap_or_else(|| std::mem::take(&mut self.0))
    }

    /// A length-encoded integer
    /// (<https://dev.mysql.com/doc/dev/mysql-server/8.4.9/page_protocol_basic_dt_integers.html>). 0xfb is NULL in a
    /// row and 0xff an error: no integers.
    pub(super) fn lenenc_int(&mut self) -> Option<u64> {
        match self.byte()? {
            small @ ..=0xfa => Some(small.into()),
            0xfc => self.u16().map(u64::from),
            0xfd => self.array().map(|[a, b, c]| u32::from_le_bytes([a, b, c, 0]).into()),
            0xfe => self.array().map(u64::from_le_bytes),
            0xfb | 0xff => None,
        }
    }

    /// Bytes behind their length-encoded length.
    pub(super) fn lenenc_bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.lenenc_int()?;
        self.bytes(usize::try_from(length).ok()?)
    }

    /// All that is left.
    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Appends a length-encoded integer.
pub(super) fn put_lenenc_int(out: &mut Vec<u8>, value: usize) {
    let bytes = (value as u64).to_le_bytes();
    let (prefix, length) = match value {
        ..0xfb => (None, 1),
        0xfb..0x1_0000 => (Some(0xfc), 2),
        0x1_0000..0x100_0000 => (Some(0xfd), 3),
        _ => (Some(0xfe), 8),
    };
    out.extend(prefix);
    out.extend(bytes.iter().take(length));
}

/// Appends bytes behind their length-encoded length.
pub(super) fn put_lenenc_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_lenenc_int(out, bytes.len());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_reader_takes_what_is_there_and_nothing_more() {
        let mut reader = Reader::new(b"\x0a\x02\x01one\0\0four\x03abcrest");
        assert_eq!(reader.byte(), Some(10));
        assert_eq!(reader.u16(), Some(0x0102));
        assert_eq!(reader.cstr(), Some(&b"one"[..]));
        assert_eq!(reader.cstr(), Some(&b""[..]));
        assert_eq!(reader.u32(), Some(u32::from_le_bytes(*b"four")));
        assert_eq!(reader.lenenc_bytes(), Some(&b"abc"[..]));
        assert_eq!(reader.cstr(), None, "no terminator");
        assert_eq!(reader.bytes(5), None);
        assert!(!reader.is_empty());
        assert_eq!(reader.clone().rest(), b"rest");
        assert_eq!(reader.last_cstr(), b"rest");
        assert!(reader.is_empty());
        assert_eq!(Reader::new(&[0, 0, 1]).u32(), None);
        assert_eq!(Reader::new(&[]).byte(), None);
    }

    #[test]
    fn lengths_are_encoded_as_the_documentation_says() {
        for (value, bytes) in [
            (0, &[0][..]),
            (250, &[250]),
            (251, &[0xfc, 251, 0]),
            (65_535, &[0xfc, 255, 255]),
            (65_536, &[0xfd, 0, 0, 1]),
            (0xff_ffff, &[0xfd, 255, 255, 255]),
            (0x100_0000, &[0xfe, 0, 0, 0, 1, 0, 0, 0, 0]),
        ] {
            let mut out = Vec::new();
            put_lenenc_int(&mut out, value);
            assert_eq!(out, bytes);
            assert_eq!(Reader::new(bytes).lenenc_int(), Some(value as u64));
            for end in 0..bytes.len() {
                assert_eq!(Reader::new(&bytes[..end]).lenenc_int(), None, "{value} cut at {end}");
            }
        }
        assert_eq!(Reader::new(&[0xfb]).lenenc_int(), None);
        assert_eq!(Reader::new(&[0xff]).lenenc_int(), None);
        assert_eq!(Reader::new(&[0xfe, 255, 255, 255, 255, 255, 255, 255, 255, 1]).lenenc_bytes(), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..70_000)) {
            let mut out = Vec::new();
            put_lenenc_bytes(&mut out, &bytes);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.lenenc_bytes(), Some(&bytes[..]));
            prop_assert!(reader.is_empty());
        }
    }

    #[tokio::test]
    async fn a_packet_is_read_whole_and_nothing_beyond() {
        let bytes = [packet(7, b"payload"), b"more".to_vec()].concat();
        let mut stream = &bytes[..];
        let read = read_packet(&mut stream, 7, "x").await.unwrap();
        assert_eq!((read.sequence, read.next(), &read.payload[..]), (7, 8, &b"payload"[..]));
        assert_eq!(stream, b"more");
        for end in 0..11 {
            let error = read_packet(&mut &bytes[..end], 7, "x").await.err().unwrap();
            assert!(matches!(error, Error::Closed { waiting_for: "x" }), "cut at {end}: {error}");
        }
        for (bytes, departure) in [(&b""[..], Departure::Closed), (&QUIT, Departure::Quit)] {
            let mut stream = bytes;
            let read = read_packet_or_end(&mut stream, 7, "x").await.unwrap();
            assert_eq!(read.err(), Some(departure));
        }
    }

    #[tokio::test]
    async fn a_packet_too_long_or_out_of_turn_is_refused_before_its_payload() {
        let mut stream = &b"\xff\xff\xff\0abc"[..];
        let error = read_packet(&mut stream, 0, "x").await.err().unwrap();
        assert!(matches!(error, Error::PacketLength { length: CONTINUED, .. }), "{error}");
        assert_eq!(stream, b"abc");
        let error = read_packet(&mut &b"\x01\0\0\x02a"[..], 1, "x").await.err().unwrap();
        assert!(matches!(error, Error::Sequence { expected: 1, sequence: 2, .. }), "{error}");
    }
}
