//! The sequence numbers of a compressed connection.
//!
//! Compressed packets are numbered like packets: from 0 with each command, one more with each either way. A command
//! therefore begins a compressed packet of its own, because a server that finds two commands in one counts wrongly.
//!
//! The numbers of the packets inside follow no rule. A server checks none of the client's, and its own follow the
//! compressed packets' number whenever it has flushed (`net_flush` of `net_serv.cc`): behind the first of several
//! results, or a request for a file, they jump. A client that does not compress checks them. So the numbers towards the
//! client are rewritten: an answer begins one above its command and continues by one.
//!
//! For that it must be known where an answer begins. It does so with a compressed packet, whose number is one above the
//! last of its command's. Where clients wait for each answer, that is all. Where they do not, a long answer that is
//! flushed in its middle just when its compressed packets' number passes through that value would be cut in two; the
//! numbers inside, equal only after a flush, make that improbable.

use std::collections::VecDeque;

use crate::mysql::{
    codec::{self, CONTINUED, HEADER},
    last::Last,
};

/// Commands that a server does not answer: COM_QUIT, COM_STMT_SEND_LONG_DATA, COM_STMT_CLOSE (`enum_server_command` in
/// `include/my_command.h`, `mysql-8.4.9`).
pub(super) const UNANSWERED: [u8; 3] = [0x01, 0x18, 0x19];

/// The numbers of both directions.
#[derive(Default)]
pub(super) struct Numbers {
    // Towards the server.
    /// Bytes of the current packet still to come from the client.
    body: usize,
    last: Last,
    /// The next compressed packet's number.
    next: u8,
    current: Current,
    /// Commands whose answer has not begun.
    commands: VecDeque<Command>,

    // Towards the client.
    /// The number of the last compressed packet from the server.
    received: Option<u8>,
    /// If it has just begun: whether its number is one above the last in this conversation.
    fresh: Option<bool>,
    /// A compressed packet has come since the last was sent.
    turned: bool,
    header: [u8; HEADER],
    /// How much of the current packet's header has come.
    have: usize,
    /// Bytes of the current packet still to come from the server.
    down_body: usize,
    /// The same, if the current packet is at its beginning.
    beginning: Option<bool>,
    /// The next packet's number for the client.
    down_next: u8,
}

/// The kind of packet that the client is sending.
#[derive(Default, PartialEq)]
pub(super) enum Current {
    /// The last of the commands that are to be answered.
    Command,
    /// A command without an answer.
    #[default]
    Unanswered,
    /// The request of the server to the client: for a file, or for more of a COM_CHANGE_USER.
    Reply,
}

/// A command that is to be answered.
pub(super) struct Command {
    /// The number of the compressed packet that its answer begins with.
    pub(super) compressed: u8,
    /// The number of the packet that its answer begins with.
    pub(super) packet: u8,
}

/// The bytes for one compressed packet.
pub(super) struct Segment {
    /// How many, from the front.
    pub(super) length: usize,
    /// How many more belong to it that have yet to come; if any, it is not compressed.
    pub(super) to_come: usize,
    /// The compressed packet's number.
    pub(super) sequence: u8,
}

impl Numbers {
    /// How to go on with a client's `bytes`, which begin where the last segment ended; `None` if they are at most part of
    /// a header, or of a packet without its first byte.
    pub(super) fn next_segment(&mut self, bytes: &[u8]) -> Option<Segment> {
        let mut length = 0;
        loop {
            let skip = self.body.min(bytes.len() - length);
            self.body -= skip;
            length += skip;
            let Some((head, payload)) = bytes.get(length..).and_then(<[u8]>::split_first_chunk::<HEADER>) else {
                break;
            };
            let (body, sequence) = codec::header(*head);
            if body > 0 && payload.is_empty() {
                break;
            }
            let is_command = self.last.is_command(sequence);
            let is_reply = !is_command && self.turned && self.last.length != CONTINUED;
            if (is_command || is_reply) && length > 0 {
                break;
            }
            if is_command {
                self.next = 0;
                self.current = match payload.first() {
                    Some(command) if body > 0 && UNANSWERED.contains(command) => Current::Unanswered,
                    _ => Current::Command,
                };
                if self.current == Current::Command {
                    self.commands.push_back(Command { compressed: 0, packet: 0 });
                }
            } else if is_reply {
                self.next = self.received.map_or(0, |received| received.wrapping_add(1));
                self.current = Current::Reply;
            }
            match (&self.current, self.commands.back_mut()) {
                (Current::Command, Some(command)) => command.packet = sequence.wrapping_add(1),
                (Current::Reply, _) => self.down_next = sequence.wrapping_add(1),
                _ => {}
            }
            self.turned = false;
            self.last = Last { length: body, sequence };
            self.body = body;
            length += HEADER;
        }
        if length == 0 {
            return None;
        }
        let sequence = self.next;
        self.next = sequence.wrapping_add(1);
        match (&self.current, self.commands.back_mut()) {
            (Current::Command, Some(command)) => command.compressed = self.next,
            // The server goes on behind it.
            (Current::Reply, _) => self.received = Some(sequence),
            _ => {}
        }
        Some(Segment { length, to_come: 0, sequence })
    }

    /// A compressed packet of the server begins.
    pub(super) fn on_compressed(&mut self, sequence: u8) {
        let before = self.received.replace(sequence);
        self.fresh = Some(before.is_some_and(|before| before.wrapping_add(1) == sequence));
        self.turned = true;
    }

    /// Plain bytes from the server: numbers them for the client.
    pub(super) fn on_upstream(&mut self, mut bytes: &mut [u8]) {
        if bytes.is_empty() {
            return;
        }
        while !bytes.is_empty() {
            let skip = self.down_body.min(bytes.len());
            self.down_body -= skip;
            bytes = std::mem::take(&mut bytes).get_mut(skip..).unwrap_or_default();
            let Some((byte, rest)) = std::mem::take(&mut bytes).split_first_mut() else { break };
            if self.have == 0 {
                self.beginning = self.fresh;
            }
            self.fresh = None;
            if let Some(field) = self.header.get_mut(self.have) {
                *field = *byte;
            }
            self.have += 1;
            if self.have == HEADER {
                let (length, sequence) = codec::header(self.header);
                *byte = self.number(sequence);
                self.down_next = byte.wrapping_add(1);
                self.down_body = length;
                self.have = 0;
            }
            bytes = rest;
        }
        // Whatever begins now does so in the middle of a compressed packet.
        self.fresh = None;
    }

    /// The number for the client of a packet that the server has numbered so.
    fn number(&mut self, sequence: u8) -> u8 {
        let (Some(goes_on), Some(compressed)) = (self.beginning.take(), self.received) else { return self.down_next };
        match self.commands.front() {
            Some(command) if command.compressed == compressed && (sequence == compressed || !goes_on) => {
                let number = command.packet;
                self.commands.pop_front();
                number
            }
            // A packet without a command: the server announces that it closes.
            None if !goes_on => sequence,
            _ => self.down_next,
        }
    }
}
