//! Finds the packets in the bytes of one direction, however split.

use crate::mysql::{
    codec::{self, CONTINUED, HEADER},
    last::Last,
};

/// The number of bytes of a payload that are read: an OK up to its status, two integers of nine bytes before it.
const HEAD: usize = 21;
/// Follows the packets of one direction by their headers.
#[derive(Debug, Clone, Default)]
pub(super) struct Packets {
    last: Last,
    /// A header and the beginning of its payload, come in part.
    begun: [u8; HEADER + HEAD],
    have: usize,
    /// Bytes of the last packet still to come.
    body: usize,
}

impl Packets {
    /// The last packet whose header has come.
    pub(super) fn last(&self) -> Last {
        self.last
    }

    /// Whether no packet is on its way.
    pub(super) fn at_boundary(&self) -> bool {
        self.have == 0 && self.body == 0 && self.last.length != CONTINUED
    }

    /// Calls `on_packet` with the packet before, each payload's first packet, and how it begins, as soon as that has come.
    pub(super) fn follow(&mut self, mut chunk: &[u8], mut on_packet: impl FnMut(Last, Last, &[u8])) {
        loop {
            let (_, rest) = chunk.split_at(self.body.min(chunk.len()));
            self.body -= chunk.len() - rest.len();
            chunk = rest;
            if chunk.is_empty() {
                return;
            }
            // Nearly always: a row is a packet.
            if self.have == 0
                && let Some((packet, head)) = beginning(chunk)
            {
                self.on_packet(packet, head, &mut on_packet);
                chunk = chunk.get(HEADER..).unwrap_or_default();
                continue;
            }
            let (Some(to), [byte, rest @ ..]) = (self.begun.get_mut(self.have), chunk) else { return };
            (*to, chunk) = (*byte, rest);
            self.have += 1;
            let begun = self.begun;
            if let Some((packet, head)) = begun.get(..self.have).and_then(beginning) {
                self.have = 0;
                self.on_packet(packet, head, &mut on_packet);
                self.body -= head.len();
            }
        }
    }

    fn on_packet(&mut self, packet: Last, head: &[u8], on_packet: &mut impl FnMut(Last, Last, &[u8])) {
        let before = std::mem::replace(&mut self.last, packet);
        self.body = packet.length;
        if before.length != CONTINUED {
            on_packet(before, packet, head);
        }
    }
}

/// A packet's header and as much of its payload as is looked at, when `bytes` hold that.
fn beginning(bytes: &[u8]) -> Option<(Last, &[u8])> {
    let (header, rest) = bytes.split_first_chunk()?;
    let (length, sequence) = codec::header(*header);
    Some((Last { length, sequence }, rest.get(..length.min(HEAD))?))
}
