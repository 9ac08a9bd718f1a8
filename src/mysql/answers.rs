//! Follows what a server says after the login, from packet to packet, to know where a word of ours may come between.
//!
//! Only headers are looked at, and the first byte of a payload. Rows are not parsed, so where an answer ends is known by
//! the look of its last packet alone.

use super::{
    codec::{self, CONTINUED, HEADER},
    error_packet::Turn,
    message::{ERR, OK},
};

/// An EOF packet, and an OK packet in its place (<https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_ok_packet.html>).
const EOF: u8 = 0xfe;

/// The server's side of a connection that is logged in.
#[derive(Debug, Default)]
pub struct Answers {
    header: [u8; HEADER],
    /// How much of the header is there.
    have: usize,
    /// Bytes of the current payload still to come.
    body: usize,
    /// The first byte of the current payload is still to come.
    first: bool,
    length: usize,
    sequence: u8,
    /// The last packet looks like an answer's end, or the client has said something since.
    over: bool,
}

impl Answers {
    /// A connection on which the client has the word.
    pub fn new() -> Self {
        Self { over: true, ..Self::default() }
    }

    /// The client said something. What the server says next is an answer to that, unless it is not done with the last.
    pub fn on_client(&mut self) {
        if self.have == 0 && self.body == 0 && self.length != CONTINUED {
            self.over = true;
        }
    }

    /// The server's next bytes.
    pub fn on_server(&mut self, mut bytes: &[u8]) {
        while let Some((&first, rest)) = bytes.split_first() {
            if self.body > 0 {
                if std::mem::take(&mut self.first) {
                    self.over = self.ends_with(first);
                }
                let skip = self.body.min(bytes.len());
                self.body -= skip;
                bytes = bytes.get(skip..).unwrap_or_default();
                continue;
            }
            if let Some(slot) = self.header.get_mut(self.have) {
                *slot = first;
            }
            self.have += 1;
            bytes = rest;
            if self.have == HEADER {
                let continues = self.length == CONTINUED;
                (self.length, self.sequence) = codec::header(self.header);
                (self.have, self.body) = (0, self.length);
                (self.first, self.over) = (!continues, false);
            }
        }
    }

    /// Whether a packet that begins with this byte ends an answer. A row may begin so too, but then it is long (0xfe), or not
    /// the first packet (0x00).
    fn ends_with(&self, first: u8) -> bool {
        match first {
            ERR => true,
            OK => self.sequence == 1,
            EOF => self.length < CONTINUED,
            _ => false,
        }
    }

    /// Where an ERR of ours can go now; `None` in the middle of a packet, where it would be read as its rest.
    pub fn turn(&self) -> Option<Turn> {
        if self.have > 0 || self.body > 0 || self.length == CONTINUED {
            return None;
        }
        Some(if self.over { Turn::COMMAND } else { Turn::answer(self.sequence.wrapping_add(1)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(said: &[u8]) -> Option<Turn> {
        let mut answers = Answers::new();
        answers.on_client();
        answers.on_server(said);
        answers.turn()
    }

    #[test]
    fn an_error_of_ours_follows_the_last_packet_and_never_comes_inside_one() {
        let row = b"\x05\0\0\x04\x04text";
        assert_eq!(after(b""), Some(Turn::COMMAND), "instead of the answer");
        for cut in 1..row.len() {
            assert_eq!(after(&row[..cut]), None, "after {cut} bytes");
        }
        assert_eq!(after(row), Some(Turn::answer(5)), "in the row's place");
        assert_eq!(after(b"\x07\0\0\x01\0\0\0\x02\0\0\0"), Some(Turn::COMMAND), "OK");
        assert_eq!(after(b"\x05\0\0\x06\xfe\0\0\x02\0"), Some(Turn::COMMAND), "EOF");
        assert_eq!(after(b"\x03\0\0\x01\xff\0\0"), Some(Turn::COMMAND), "ERR");
        assert_eq!(after(b"\x01\0\0\x05\0"), Some(Turn::answer(6)), "a row of an empty text");
        assert_eq!(after(b"\0\0\0\x02"), Some(Turn::answer(3)), "an empty packet");
    }

    #[test]
    fn a_payload_of_sixteen_megabytes_is_not_over_before_its_last_packet() {
        let mut answers = Answers::new();
        answers.on_server(b"\xff\xff\xff\x01\x04");
        answers.on_server(&vec![0xff; CONTINUED - 1]);
        assert_eq!(answers.turn(), None);
        answers.on_client();
        answers.on_server(b"\x01\0\0\x02\xfe");
        assert_eq!(answers.turn(), Some(Turn::answer(3)), "what continues a row is no EOF");
    }

    #[test]
    fn any_pieces_are_followed_alike() {
        let said = b"\x01\0\0\x01\x02\x05\0\0\x02\x04text\x05\0\0\x03\x04more";
        let mut answers = Answers::new();
        for byte in said {
            answers.on_server(&[*byte]);
        }
        assert_eq!(answers.turn(), after(said));
    }
}
