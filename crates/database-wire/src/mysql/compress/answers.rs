//! The sequence numbers towards a client that compresses, for which we are the server.
//!
//! Clients check the numbers of compressed packets, which are counted like those of packets: a command begins with 0 and its
//! answer goes on behind it. The packets inside have the numbers that the server gave them.
//!
//! Packets of the client are renumbered: a server that compresses checks none, but a plain one does, and MariaDB's
//! Connector/J 2.7 begins commands with 1 and numbers all of a file 0. What a compressed packet begins with is therefore a
//! command if the compressed packet's number is 0.
//!
//! An answer begins with a compressed packet of its own; it is found by its first packet's number, one above the last of its
//! command's. Where a client sends commands ahead of their answers, an answer of more than 255 packets may be taken for two:
//! none does that and compresses.
//!
//! Compressed packets hold whole packets, as a server's mostly do: MySQL's Connector/Python in pure Python looks for the rest of
//! a packet in one further compressed packet at most, and for a header's in none. A packet that has come in part begins
//! a compressed packet that is not compressed, so that nothing must be kept until the rest is there.

use std::collections::VecDeque;

use super::numbers::{Command, Current, Segment, UNANSWERED};
use crate::mysql::{
    codec::{self, CONTINUED, HEADER},
    last::Last,
};

/// The longest payload of a compressed packet. A packet of this length does not fit with its header.
const LARGEST: usize = 0xff_ffff;

/// The numbers of both directions.
#[derive(Default)]
pub(super) struct Answers {
    // From the client.
    /// The number of the compressed packet that is being read.
    received: u8,
    /// None of it has been read yet.
    fresh: bool,
    /// Its number is 0 because the one before had 255.
    wrapped: bool,
    /// Something was sent to the client since its last packet.
    turned: bool,
    /// The current packet is the first in its compressed packet.
    leads: bool,
    /// The current packet begins a command.
    is_command: bool,
    /// A renumbered header and the first byte of its payload, received in part.
    begun: [u8; HEADER + 1],
    have: usize,
    /// Bytes of the current packet still to come.
    body: usize,
    last: Last,
    current: Current,
    /// Commands whose answer has not begun.
    commands: VecDeque<Command>,

    // Towards the client.
    /// Bytes of the current packet that its compressed packet had no room for.
    down_body: usize,
    /// The current packet's payload goes on in the next one.
    down_continues: bool,
    /// The number that the next packet has if it goes on with an answer.
    down_next: u8,
    /// The next compressed packet's number.
    next: u8,
}

impl Answers {
    /// A compressed packet of the client begins.
    pub(super) fn on_compressed(&mut self, sequence: u8) {
        self.wrapped = sequence == 0 && self.received == u8::MAX;
        self.received = sequence;
        self.fresh = true;
    }

    /// Plain bytes from the client: numbers them for the server.
    pub(super) fn on_client(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let skip = self.body.min(bytes.len());
            if skip > 0 {
                self.body -= skip;
                self.fresh = false;
                self.goes_on();
            }
            bytes = std::mem::take(&mut bytes).get_mut(skip..).unwrap_or_default();
            let Some((byte, rest)) = std::mem::take(&mut bytes).split_first_mut() else { return };
            if self.have == 0 {
                self.leads = self.fresh;
            }
            self.fresh = false;
            self.have += 1;
            if self.have == HEADER {
                *byte = self.number(*byte);
            }
            if let Some(field) = self.begun.get_mut(self.have - 1) {
                *field = *byte;
            }
            bytes = rest;
            let [header @ .., first] = self.begun;
            let (length, sequence) = codec::header(header);
            if self.have > HEADER || self.have == HEADER && length == 0 {
                self.have = 0;
                self.on_packet(Last { length, sequence }, first);
                self.body = length.saturating_sub(1);
            }
        }
    }

    /// The number for the server of a packet that the client has numbered so.
    fn number(&mut self, sequence: u8) -> u8 {
        // A file goes on until an empty packet.
        let in_file = self.current == Current::Reply && self.last.length > 0;
        self.is_command = match self.last.length {
            CONTINUED => false,
            _ if self.leads => self.received == 0 && !(self.wrapped && in_file),
            _ => self.last.is_command(sequence),
        };
        let turned = std::mem::take(&mut self.turned);
        if self.is_command {
            0
        } else if turned && self.last.length != CONTINUED {
            self.down_next
        } else {
            self.last.sequence.wrapping_add(1)
        }
    }

    fn on_packet(&mut self, packet: Last, first: u8) {
        if self.is_command {
            self.current = match first {
                _ if packet.length == 0 => Current::Command,
                first if UNANSWERED.contains(&first) => Current::Unanswered,
                _ => Current::Command,
            };
            if self.current == Current::Command {
                self.commands.push_back(Command { compressed: 0, packet: 0 });
            }
        } else if self.last.length != CONTINUED {
            self.current = Current::Reply;
        }
        if let (Current::Command, Some(command)) = (&self.current, self.commands.back_mut()) {
            command.packet = packet.sequence.wrapping_add(1);
        }
        self.last = packet;
        self.goes_on();
    }

    /// The command of the client continues in the compressed packet that is being read.
    fn goes_on(&mut self) {
        let next = self.received.wrapping_add(1);
        match (&self.current, self.commands.back_mut()) {
            (Current::Command, Some(command)) => command.compressed = next,
            (Current::Reply, _) => self.next = next,
            _ => {}
        }
    }

    /// How to go on with the server's `bytes`, which begin where the last segment ended; `None` if they are at most part of a
    /// header.
    pub(super) fn next_segment(&mut self, bytes: &[u8]) -> Option<Segment> {
        let mut segment = Segment { length: 0, to_come: 0, sequence: 0 };
        loop {
            let rest = bytes.get(segment.length..).unwrap_or_default();
            // What did not fit, or a packet.
            let (whole, header) = match (self.down_body, rest.split_first_chunk::<HEADER>()) {
                (0, None) => break,
                (0, Some((head, _))) => {
                    let header = codec::header(*head);
                    (HEADER + header.0, Some(header))
                }
                _ if rest.is_empty() => break,
                (left, _) => (left, None),
            };
            let begins_with = header.and_then(|(_, sequence)| self.begins_with(sequence));
            if segment.length > 0 && (begins_with.is_some() || whole > rest.len()) {
                break;
            }
            if let Some(begins_with) = begins_with {
                self.next = begins_with;
                self.commands.pop_front();
            }
            if let Some((body, sequence)) = header {
                self.down_next = sequence.wrapping_add(1);
                self.down_continues = body == CONTINUED;
            }
            let goes = whole.min(LARGEST);
            self.down_body = whole - goes;
            let here = goes.min(rest.len());
            segment.length += here;
            segment.to_come = goes - here;
            if segment.to_come > 0 || self.down_body > 0 {
                break;
            }
        }
        if segment.length == 0 {
            return None;
        }
        self.turned = true;
        segment.sequence = self.next;
        self.next = segment.sequence.wrapping_add(1);
        Some(segment)
    }

    /// The number of the compressed packet that a packet with this number begins, if it begins an answer.
    fn begins_with(&self, sequence: u8) -> Option<u8> {
        match self.commands.front() {
            _ if self.down_continues => None,
            Some(command) => (command.packet == sequence).then_some(command.compressed),
            // A packet without a command: the server announces that it closes.
            None => (sequence == 0 && self.down_next != 0).then_some(0),
        }
    }
}
