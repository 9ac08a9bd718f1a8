//! Follows a connection after its login, to know when it is idle and what the next packet's number would be.
//!
//! Each command but a few has one answer, which is a packet or a result; where it ends is told by the kind of command, the
//! number of columns and the first byte of what comes behind them. Of a packet only the header and the first
//! few bytes are looked at, rows are skipped by their length. It never holds bytes back and never fails: what it
//! cannot follow it calls busy.
//!
//! That a server was silent for a while tells none of this: a query may think between two rows, a transaction waits for
//! its client.
//!
//! The rules are those of
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_command_phase.html> and, for what is MariaDB's own,
//! <https://mariadb.com/kb/en/result-set-packets/>.

mod answer;

use std::collections::VecDeque;

use self::answer::{Answer, Expect, Lost};
use super::{
    capabilities::Capabilities,
    codec::{self, CONTINUED, HEADER},
    commands::Last,
    error::{Turn, code},
    message,
};

/// What of a payload is looked at: an OK up to its status, two integers of nine bytes before it.
const HEAD: usize = 21;
/// Commands that a client may send ahead of their answers. Drivers that do it stay far below.
const MAX_OWED: usize = 4096;

/// `SERVER_STATUS_IN_TRANS`.
const IN_TRANSACTION: u16 = 1;
/// `SERVER_STATUS_CURSOR_EXISTS`: rows wait for COM_STMT_FETCH.
const CURSOR_EXISTS: u16 = 1 << 6;
/// `SERVER_STATUS_LAST_ROW_SENT`: none waits any more.
const LAST_ROW_SENT: u16 = 1 << 7;

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Waits for a command, outside a transaction: ending the connection loses nothing but session state.
    Idle,
    /// Waits for a command inside a transaction, or with a cursor that is not read to its end.
    InTransaction,
    /// A command runs, or a packet is on its way.
    Busy,
}

/// Follows both directions of one connection: each chunk as it is relayed, however split.
#[derive(Debug, Clone)]
pub struct Watch {
    capabilities: Capabilities,
    client: Packets,
    upstream: Packets,
    /// Commands whose answer has not begun.
    owed: VecDeque<Answer>,
    /// What comes next of the answer that has begun.
    expect: Option<Expect>,
    /// Status flags of the last OK or EOF.
    status: u16,
    refused_to_write: bool,
    /// It cannot be followed any more.
    lost: bool,
    /// The client has sent COM_QUIT.
    quit: bool,
}

impl Watch {
    /// For a connection that was just logged in, with what client and server agreed on and the status in its OK.
    pub fn new(capabilities: Capabilities, status: u16) -> Self {
        Self {
            capabilities,
            client: Packets::default(),
            upstream: Packets::default(),
            owed: VecDeque::new(),
            expect: None,
            status,
            refused_to_write: false,
            // Where results have their columns only on request, one without them begins as an OK does.
            lost: capabilities.contains(Capabilities::OPTIONAL_RESULTSET_METADATA),
            quit: false,
        }
    }

    /// The connection has been logged in anew, all commands before having been answered.
    pub fn logged_in_anew(&mut self, status: u16) {
        self.status = status;
    }

    /// Sees bytes on their way to the upstream.
    pub fn on_client(&mut self, chunk: &[u8]) {
        let Self { client, owed, status, lost, quit, .. } = self;
        client.follow(chunk, |before, packet, head| {
            if packet.length == 0 || !before.is_command(packet.sequence) {
                return;
            }
            let answer = match head.first() {
                // COM_QUIT
                Some(0x01) => {
                    *quit = true;
                    return;
                }
                // COM_STMT_SEND_LONG_DATA
                Some(0x18) | None => return,
                // COM_STMT_CLOSE
                Some(0x19) => {
                    *status &= !CURSOR_EXISTS;
                    return;
                }
                // COM_FIELD_LIST, COM_BINLOG_DUMP, COM_TABLE_DUMP, COM_STMT_FETCH, COM_BINLOG_DUMP_GTID
                Some(0x04 | 0x12 | 0x13 | 0x1c | 0x1e) => Answer::Rows,
                // COM_STATISTICS
                Some(0x09) => Answer::Text,
                // COM_STMT_PREPARE
                Some(0x16) => Answer::Prepare,
                Some(_) => Answer::Usual,
            };
            owed.push_back(answer);
            *lost |= owed.len() > MAX_OWED;
        });
        if self.lost {
            self.owed = VecDeque::new();
        }
    }

    /// Sees bytes on their way to the client.
    pub fn on_upstream(&mut self, chunk: &[u8]) {
        let Self { capabilities, upstream, owed, expect, status, refused_to_write, lost, .. } = self;
        upstream.follow(chunk, |_, packet, head| {
            // Nearly always: a row.
            if let (Some(Expect::Rows), Some(..message::EOF)) = (&*expect, head.first()) {
                return;
            }
            if let [message::ERR, low, high, ..] = head {
                *refused_to_write |= code::READ_ONLY.contains(&u16::from_le_bytes([*low, *high]));
            }
            // What nobody asked for is an ERR before the end.
            if let Some(now) = expect.take().or_else(|| owed.pop_front().map(Expect::Answer)) {
                match now.then(packet.length, head, *capabilities, status) {
                    Ok(next) => *expect = next,
                    Err(Lost) => *lost = true,
                }
            }
        });
    }

    /// Whether the server has refused to write because it is read only, since the last time this was asked.
    pub fn take_refused_to_write(&mut self) -> bool {
        std::mem::take(&mut self.refused_to_write)
    }

    /// Whether every command has had its whole answer; true too where that cannot be told.
    pub fn is_answered(&self) -> bool {
        let between = self.client.at_boundary() && self.upstream.at_boundary();
        self.lost || self.owed.is_empty() && self.expect.is_none() && between
    }

    /// What the connection is doing.
    pub fn state(&self) -> Activity {
        let cursor = self.status & (CURSOR_EXISTS | LAST_ROW_SENT) == CURSOR_EXISTS;
        match self.is_answered() && !self.lost {
            true if self.status & IN_TRANSACTION != 0 || cursor => Activity::InTransaction,
            true => Activity::Idle,
            false => Activity::Busy,
        }
    }

    /// Whether the client has said goodbye (COM_QUIT) after the answers to all its commands.
    pub fn is_over(&self) -> bool {
        self.quit && self.is_answered()
    }

    /// Where an ERR of ours would go now: behind what has come of an answer, or in its place; `None` inside a packet and
    /// where the server waits for the client's file.
    pub fn turn(&self) -> Option<Turn> {
        match self.expect {
            _ if self.lost || !self.upstream.at_boundary() => None,
            Some(Expect::File) => None,
            Some(_) => Some(Turn::answer(self.upstream.last.sequence.wrapping_add(1))),
            None if self.owed.is_empty() => Some(Turn::COMMAND),
            // A command of more than 16 MiB takes several packets.
            None => Some(Turn::answer(self.client.last.sequence.wrapping_add(1))),
        }
    }
}

/// Follows the packets of one direction by their headers.
#[derive(Debug, Clone, Default)]
struct Packets {
    last: Last,
    /// A header and the beginning of its payload, come in part.
    begun: [u8; HEADER + HEAD],
    have: usize,
    /// Bytes of the last packet still to come.
    body: usize,
}

impl Packets {
    /// Whether no packet is on its way.
    fn at_boundary(&self) -> bool {
        self.have == 0 && self.body == 0 && self.last.length != CONTINUED
    }

    /// Calls `on_packet` with the packet before, each payload's first packet, and how it begins, as soon as that has come.
    fn follow(&mut self, mut chunk: &[u8], mut on_packet: impl FnMut(Last, Last, &[u8])) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysql::script::packet;

    const OK: &[u8] = b"\0\0\0\x02\0\0\0";
    const EOF: &[u8] = b"\xfe\0\0\x02\0";
    const COLUMN: &[u8] = b"\x03def\0\0\0\x011\0\x0c\x3f\0\x01\0\0\0\x08\x81\0\0\0\0";

    fn logged_in(flags: Capabilities) -> Watch {
        let watch = Watch::new(Capabilities::PROTOCOL_41 | flags, 2);
        assert_eq!((watch.state(), watch.turn()), (Activity::Idle, Some(Turn::COMMAND)));
        watch
    }

    /// Asks, and is answered by packets numbered from 1: busy up to the last byte, whose state is returned.
    fn asked(watch: &mut Watch, command: &[u8], answer: &[&[u8]]) -> Activity {
        watch.on_client(&packet(0, command));
        for (n, payload) in (1..).zip(answer) {
            for byte in packet(n, payload) {
                assert_eq!(watch.state(), Activity::Busy, "{} {n}", command.escape_ascii());
                watch.on_upstream(&[byte]);
            }
        }
        assert_eq!(watch.turn(), Some(Turn::COMMAND), "{}", command.escape_ascii());
        watch.state()
    }

    #[test]
    fn answers_end_where_they_do() {
        let denied = b"\xff\x15\x04#28000no";
        for (command, answer) in [
            (&b"\x0e"[..], &[OK][..]),
            (b"\x03do 0", &[OK]),
            (b"\x03selec", &[denied]),
            // Results; rows that look like other things, and one that ends in an error.
            (b"\x03select", &[b"\x02", COLUMN, COLUMN, EOF, EOF]),
            (b"\x03select", &[b"\x01", COLUMN, EOF, b"\0", b"\x01x", b"\xfb", EOF]),
            (b"\x03select", &[b"\x01", COLUMN, EOF, b"\x01x", denied]),
            // More than one; a file.
            (b"\x03two", &[b"\0\0\0\x0a\0\0\0", b"\x01", COLUMN, EOF, b"\x01x", b"\xfe\0\0\x0a\0", OK]),
            (b"\x03load", &[b"\xfbname", OK]),
            (b"\x03alter", &[b"\xff\xff\xff\x01\x01\x03\0\0\0\0", b"\xff\xff\xff\x01\x01\x03\0\0\0\0", OK]),
            // Prepared: nothing, a parameter and two columns; executed.
            (b"\x16do 0", &[b"\0\x01\0\0\0\0\0\0\0\0\0\0"]),
            (b"\x16select", &[b"\0\x01\0\0\0\x02\0\x01\0\0\0\0", COLUMN, EOF, COLUMN, COLUMN, EOF]),
            (b"\x17", &[b"\x01", COLUMN, EOF, b"\0\0\x01", EOF]),
            (b"\x09", &[b"Uptime: 1"]),
            (b"\x04t\0", &[COLUMN, COLUMN, EOF]),
            (b"\x1b\0\0", &[EOF]),
        ] {
            assert_eq!(asked(&mut logged_in(Capabilities::default()), command, answer), Activity::Idle);
        }
    }

    #[test]
    fn without_eof_packets_they_do_too() {
        let end = b"\xfe\0\0\x02\0\0\0";
        for (command, answer) in [
            (&b"\x03select"[..], &[b"\x02", COLUMN, COLUMN, &end[..]][..]),
            (b"\x03select", &[b"\x01", COLUMN, b"\x01x", b"\0", end]),
            (b"\x16select", &[b"\0\x01\0\0\0\x02\0\x01\0\0\0\0", COLUMN, COLUMN, COLUMN]),
            (b"\x04t\0", &[COLUMN, end]),
        ] {
            assert_eq!(asked(&mut logged_in(Capabilities::DEPRECATE_EOF), command, answer), Activity::Idle);
        }
    }

    #[test]
    fn columns_that_the_client_knows_are_not_waited_for() {
        let mut watch = logged_in(Capabilities::MARIADB_CACHE_METADATA);
        assert_eq!(asked(&mut watch, b"\x17", &[b"\x02\0", EOF, b"\0\0\x01", EOF]), Activity::Idle);
        assert_eq!(asked(&mut watch, b"\x17", &[b"\x01\x01", COLUMN, EOF, EOF]), Activity::Idle);
    }

    #[test]
    fn a_transaction_and_a_cursor_are_not_idle() {
        let mut watch = logged_in(Capabilities::default());
        assert_eq!(asked(&mut watch, b"\x03begin", &[b"\0\0\0\x03\0\0\0"]), Activity::InTransaction);
        assert!(watch.is_answered());
        assert_eq!(asked(&mut watch, b"\x03selec", &[b"\xff\x28\x04#42000no"]), Activity::InTransaction);
        assert_eq!(asked(&mut watch, b"\x03commit", &[OK]), Activity::Idle);
        for end in [true, false] {
            assert_eq!(asked(&mut watch, b"\x17", &[b"\x01", COLUMN, b"\xfe\0\0\x42\0"]), Activity::InTransaction);
            let fetched = asked(&mut watch, b"\x1c", &[b"\0\0\x01", b"\xfe\0\0\x42\0"]);
            assert_eq!(fetched, Activity::InTransaction);
            if end {
                assert_eq!(asked(&mut watch, b"\x1c", &[b"\0\0\x01", b"\xfe\0\0\xc2\0"]), Activity::Idle);
            } else {
                watch.on_client(&packet(0, b"\x19\x01\0\0\0"));
                assert_eq!(watch.state(), Activity::Idle, "closed");
            }
        }
        watch.logged_in_anew(3);
        assert_eq!(watch.state(), Activity::InTransaction);
    }

    #[test]
    fn a_refusal_to_write_is_met_once() {
        let mut watch = logged_in(Capabilities::default());
        for (answer, met) in [
            (&[&b"\xff\x0a\x05#HY000The MySQL server is running with the --read-only option"[..]][..], true),
            (&[b"\xff\x2c\x07#HY000Running in read-only mode"], true),
            (&[b"\xff\x28\x04#42000no"], false),
            (&[b"\x01", COLUMN, EOF, b"\x05\xff\x0a\x05xx", EOF], false),
        ] {
            assert_eq!(asked(&mut watch, b"\x03insert", answer), Activity::Idle);
            assert_eq!((watch.take_refused_to_write(), watch.take_refused_to_write()), (met, false));
        }
    }

    #[test]
    fn commands_without_an_answer_and_ahead_of_it_are_told_apart() {
        let mut watch = logged_in(Capabilities::default());
        watch.on_client(&[packet(0, b"\x18\x01\0\0\0"), packet(0, b"\x19\x01\0\0\0")].concat());
        assert_eq!(watch.state(), Activity::Idle);
        watch.on_client(&[packet(0, b"\x03a"), packet(0, b"\x0e")].concat());
        watch.on_upstream(&packet(1, OK));
        assert_eq!(watch.state(), Activity::Busy);
        watch.on_upstream(&packet(1, OK));
        assert_eq!(watch.state(), Activity::Idle);
        watch.on_client(b"\x01\0\0");
        assert_eq!((watch.state(), watch.is_answered()), (Activity::Busy, false), "half a header");
    }

    #[test]
    fn an_error_of_ours_has_the_number_that_is_next() {
        let mut watch = logged_in(Capabilities::default());
        watch.on_client(&packet(0, b"\x03a"));
        assert_eq!(watch.turn(), Some(Turn::COMMAND));
        for (n, payload) in (1..).zip([b"\x01", COLUMN, EOF, b"\x01x"]) {
            watch.on_upstream(&packet(n, payload));
            assert_eq!(watch.turn(), Some(Turn::answer(n + 1)));
        }
        watch.on_upstream(b"\x10");
        assert_eq!(watch.turn(), None, "in a header");
        watch.on_upstream(b"\0\0\x05\x01x");
        assert_eq!(watch.turn(), None, "in a row");

        let mut watch = logged_in(Capabilities::default());
        watch.on_client(&packet(0, b"\x03load"));
        watch.on_upstream(&packet(1, b"\xfbname"));
        assert_eq!(watch.turn(), None, "the client sends");
        watch.on_client(&[packet(2, b"\x03 a line"), packet(3, b"")].concat());
        watch.on_upstream(&packet(4, OK));
        assert_eq!(watch.state(), Activity::Idle);
    }

    #[test]
    fn a_row_of_more_than_sixteen_megabytes_is_one() {
        let mut watch = logged_in(Capabilities::default());
        watch.on_client(&packet(0, b"\x03a"));
        watch.on_upstream(&[packet(1, b"\x01"), packet(2, COLUMN), packet(3, EOF)].concat());
        // The length of its column takes eight bytes, behind what is an EOF elsewhere.
        let row = [&b"\xff\xff\xff\x04\xfe\xf6\xff\xff\0\0\0\0\0"[..], &vec![b'x'; CONTINUED - 9]].concat();
        watch.on_upstream(&row);
        assert_eq!((watch.state(), watch.turn()), (Activity::Busy, None), "it goes on");
        watch.on_upstream(&packet(5, b""));
        assert_eq!(watch.state(), Activity::Busy);
        watch.on_upstream(&packet(6, EOF));
        assert_eq!(watch.state(), Activity::Idle);

        // And a command of that size.
        watch.on_client(&[&b"\xff\xff\xff\0\x03"[..], &vec![b'x'; CONTINUED - 1], &packet(1, b"rest")].concat());
        assert_eq!((watch.state(), watch.turn()), (Activity::Busy, Some(Turn::answer(2))));
        watch.on_upstream(&packet(2, OK));
        assert_eq!((watch.state(), watch.turn()), (Activity::Idle, Some(Turn::COMMAND)));
    }

    #[test]
    fn what_cannot_be_followed_is_busy_for_ever() {
        for answer in [&b""[..], b"\0\0", b"\xfc\x01"] {
            let mut watch = logged_in(Capabilities::default());
            watch.on_client(&packet(0, b"\x03a"));
            watch.on_upstream(&[packet(1, answer), packet(1, OK)].concat());
            assert_eq!((watch.state(), watch.turn()), (Activity::Busy, None));
            assert!(watch.is_answered(), "nobody is to wait for it");
        }
        let watch = Watch::new(Capabilities::OPTIONAL_RESULTSET_METADATA, 2);
        assert_eq!(watch.state(), Activity::Busy);
        let mut watch = logged_in(Capabilities::default());
        watch.on_client(&packet(0, b"\x03a").repeat(MAX_OWED + 1));
        assert_eq!((watch.state(), watch.owed.capacity()), (Activity::Busy, 0));
    }
}
