//! The sequence numbers towards a client that compresses, for which we are the server.
//!
//! Clients check the numbers of compressed packets, which are counted like those of packets: a command begins with 0 and its
//! answer goes on behind it. The packets inside have the numbers that the server gave them. An answer begins with a compressed
//! packet of its own; it is found by its first packet's number, one above the last of its command's. Where a client sends
//! commands ahead of their answers, an answer of more than 255 packets may be taken for two: none does that and compresses.

use std::collections::VecDeque;

use super::numbers::{Segment, UNANSWERED};
use crate::mysql::{
    codec::{self, CONTINUED, HEADER},
    commands::Last,
};

/// The numbers of both directions.
#[derive(Default)]
pub(super) struct Answers {
    // From the client.
    /// The number of the compressed packet that is being read.
    received: u8,
    /// A header and the first byte of its payload, come in part.
    begun: [u8; HEADER + 1],
    have: usize,
    /// Bytes of the current packet still to come.
    body: usize,
    last: Last,
    current: Current,
    /// Commands whose answer has not begun.
    commands: VecDeque<Command>,

    // Towards the client.
    /// Bytes of the current packet still to be sent.
    down_body: usize,
    /// The current packet's payload goes on in the next one.
    down_continues: bool,
    /// The number that the next packet has if it goes on with an answer.
    down_next: u8,
    /// The next compressed packet's number.
    next: u8,
}

/// What the client is sending.
#[derive(Default, PartialEq)]
enum Current {
    /// The last of [`Answers::commands`].
    Command,
    /// A command without an answer.
    #[default]
    Unanswered,
    /// What the server has asked for: a file, or more of a COM_CHANGE_USER.
    Reply,
}

/// A command that is to be answered: the numbers that its answer begins with.
struct Command {
    compressed: u8,
    packet: u8,
}

impl Answers {
    /// A compressed packet of the client begins.
    pub(super) fn on_compressed(&mut self, sequence: u8) {
        self.received = sequence;
    }

    /// Plain bytes from the client.
    pub(super) fn on_client(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (body, rest) = bytes.split_at(self.body.min(bytes.len()));
            if !body.is_empty() {
                self.body -= body.len();
                self.goes_on();
            }
            let [byte, rest @ ..] = rest else { return };
            bytes = rest;
            if let Some(field) = self.begun.get_mut(self.have) {
                *field = *byte;
            }
            self.have += 1;
            let [header @ .., first] = self.begun;
            let (length, sequence) = codec::header(header);
            if self.have > HEADER || self.have == HEADER && length == 0 {
                self.have = 0;
                self.on_packet(Last { length, sequence }, first);
                self.body = length.saturating_sub(1);
            }
        }
    }

    fn on_packet(&mut self, packet: Last, first: u8) {
        if self.last.is_command(packet.sequence) {
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

    /// What the client is sending goes on in the compressed packet that is being read.
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
        let mut length = 0;
        loop {
            let skip = self.down_body.min(bytes.len() - length);
            self.down_body -= skip;
            length += skip;
            let Some((head, _)) = bytes.get(length..).and_then(<[u8]>::split_first_chunk::<HEADER>) else { break };
            let (body, sequence) = codec::header(*head);
            if let Some(begins_with) = self.begins_with(sequence) {
                if length > 0 {
                    break;
                }
                self.next = begins_with;
                self.commands.pop_front();
            }
            self.down_next = sequence.wrapping_add(1);
            self.down_continues = body == CONTINUED;
            self.down_body = body;
            length += HEADER;
        }
        if length == 0 {
            return None;
        }
        let sequence = self.next;
        self.next = sequence.wrapping_add(1);
        Some(Segment { length, sequence })
    }

    /// The number of the compressed packet that a packet with this number begins, if it begins an answer.
    fn begins_with(&self, sequence: u8) -> Option<u8> {
        match self.commands.front() {
            _ if self.down_continues => None,
            Some(command) => (command.packet == sequence).then_some(command.compressed),
            // Nobody asked: the server says that it closes.
            None => (sequence == 0 && self.down_next != 0).then_some(0),
        }
    }
}
