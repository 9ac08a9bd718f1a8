//! Follows a connection after its login, to know when it is idle and what the next packet's number would be.
//!
//! Each command but a few has one answer, which is a packet or a result; its end follows from the kind of command, the
//! number of columns and the first byte of what comes behind them. Of a packet only the header and the first
//! few bytes are looked at, rows are skipped by their length. It never holds bytes back and never fails. An answer that it
//! cannot follow counts as busy until the server has said something and stands between two packets, and the next command
//! begins afresh: so no combination of capabilities, known or not, keeps a connection busy for ever.
//!
//! That a server was silent for a while tells none of this: a query may think between two rows, a transaction waits for
//! its client.
//!
//! The rules are those of
//! <https://dev.mysql.com/doc/dev/mysql-server/8.4.9/page_protocol_command_phase.html> and, for what is MariaDB's own,
//! <https://mariadb.com/kb/en/result-set-packets/>.

mod answer;
mod packets;

use std::collections::VecDeque;

use self::{
    answer::{Answer, CURSOR_EXISTS, Expect},
    packets::Packets,
};
use super::{
    capabilities::Capabilities,
    error::{ReplyPosition, code},
    message,
};

/// Commands that a client may send ahead of their answers. Drivers that do it stay far below.
const MAX_OWED: usize = 4096;

/// `SERVER_STATUS_IN_TRANS` (`include/mysql_com.h`, `mysql-8.4.9`).
const IN_TRANSACTION: u16 = 1;
/// `SERVER_STATUS_LAST_ROW_SENT`, there: none waits any more.
const LAST_ROW_SENT: u16 = 1 << 7;

/// The activity of a connection.
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
    /// The next part of the answer that has begun.
    expect: Option<Expect>,
    /// Status flags of the last OK or EOF.
    status: u16,
    refused_to_write: bool,
    /// The answer under way cannot be followed. Cleared by the next command.
    lost: bool,
    /// The client has sent COM_QUIT.
    quit: bool,
    /// The client has sent a command since the server last said anything.
    unheard: bool,
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
            quit: false,
            lost: false,
            unheard: false,
        }
    }

    /// Records another login on the connection, after the replies to all earlier commands.
    pub fn logged_in_again(&mut self, status: u16) {
        self.status = status;
    }

    /// Sees bytes on their way to the upstream.
    pub fn on_client(&mut self, chunk: &[u8]) {
        let Self { client, owed, expect, status, lost, unheard, quit, .. } = self;
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
                // COM_BINLOG_DUMP, COM_BINLOG_DUMP_GTID: for ever, unless BINLOG_DUMP_NON_BLOCK is set
                // (<https://dev.mysql.com/doc/dev/mysql-server/8.4.9/page_protocol_com_binlog_dump.html>).
                Some(0x12) if head.get(5).is_some_and(|flags| flags & 1 == 0) => Answer::Events,
                Some(0x1e) if head.get(1).is_some_and(|flags| flags & 1 == 0) => Answer::Events,
                // The same with an end; COM_FIELD_LIST, COM_TABLE_DUMP, COM_STMT_FETCH
                Some(0x04 | 0x12 | 0x13 | 0x1c | 0x1e) => Answer::Rows,
                // COM_STATISTICS
                Some(0x09) => Answer::Text,
                // COM_STMT_PREPARE
                Some(0x16) => Answer::Prepare,
                Some(_) => Answer::Usual,
            };
            // Clients wait for an answer before they send more, but for those that send far ahead.
            if *lost && !*unheard {
                (*lost, *expect) = (false, None);
            }
            *unheard = true;
            owed.push_back(answer);
            if *lost || owed.len() > MAX_OWED {
                (*lost, *owed) = (true, VecDeque::new());
            }
        });
    }

    /// Sees bytes on their way to the client.
    pub fn on_upstream(&mut self, chunk: &[u8]) {
        let Self { capabilities, upstream, owed, expect, status, refused_to_write, lost, unheard, .. } = self;
        upstream.follow(chunk, |_, packet, head| {
            *unheard = false;
            // Nearly always: a row.
            if let (Some(Expect::Rows), Some(..message::EOF)) = (&*expect, head.first()) {
                return;
            }
            if let [message::ERR, low, high, ..] = head {
                *refused_to_write |= code::READ_ONLY.contains(&u16::from_le_bytes([*low, *high]));
            }
            // A packet without a command is an ERR before the end.
            if let Some(now) = expect.take().or_else(|| owed.pop_front().map(Expect::Answer)) {
                if let Ok(next) = now.then(packet.length, head, *capabilities, status) {
                    *expect = next;
                } else {
                    (*lost, *owed) = (true, VecDeque::new());
                }
            }
        });
    }

    /// Whether the server has refused to write because it is read only, since the last time this was asked.
    pub fn take_refused_to_write(&mut self) -> bool {
        std::mem::take(&mut self.refused_to_write)
    }

    /// Whether every command has had its whole answer; also true if that is unknown.
    pub fn is_answered(&self) -> bool {
        self.lost || self.owed.is_empty() && self.expect.is_none() && self.is_between_packets()
    }

    /// The activity of the connection.
    pub fn state(&self) -> Activity {
        let cursor = self.status & (CURSOR_EXISTS | LAST_ROW_SENT) == CURSOR_EXISTS;
        let waits = match self.expect {
            _ if self.lost => !self.unheard,
            // A client that follows the binary log resumes at its position, and never finishes.
            None | Some(Expect::Events) => self.owed.is_empty(),
            Some(_) => false,
        };
        match waits && self.is_between_packets() {
            true if self.status & IN_TRANSACTION != 0 || cursor => Activity::InTransaction,
            true => Activity::Idle,
            false => Activity::Busy,
        }
    }

    /// Whether the client has said goodbye (COM_QUIT) after the answers to all its commands.
    pub fn is_over(&self) -> bool {
        self.quit && self.is_answered()
    }

    /// Where an ERR of ours would go that answers a command of which nothing has been answered; `None` where no command is
    /// waiting, an answer has begun, or the client is sending.
    pub fn waiting(&self) -> Option<ReplyPosition> {
        let waits = !self.lost && self.expect.is_none() && !self.owed.is_empty() && self.is_between_packets();
        // A command of more than 16 MiB takes several packets.
        waits.then(|| ReplyPosition::answer(self.client.last().sequence.wrapping_add(1)))
    }

    fn is_between_packets(&self) -> bool {
        self.client.at_boundary() && self.upstream.at_boundary()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysql::{codec::CONTINUED, script::packet};

    const OK: &[u8] = b"\0\0\0\x02\0\0\0";
    const EOF: &[u8] = b"\xfe\0\0\x02\0";
    const COLUMN: &[u8] = b"\x03def\0\0\0\x011\0\x0c\x3f\0\x01\0\0\0\x08\x81\0\0\0\0";

    fn logged_in(flags: Capabilities) -> Watch {
        let watch = Watch::new(Capabilities::PROTOCOL_41 | flags, 2);
        assert_eq!((watch.state(), watch.waiting()), (Activity::Idle, None));
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
        assert_eq!(watch.waiting(), None, "{}", command.escape_ascii());
        watch.state()
    }

    #[test]
    fn a_connection_is_over_when_the_client_has_quit_after_its_answers() {
        let mut watch = logged_in(Capabilities::default());
        watch.on_client(&packet(0, b"\x03do 0"));
        watch.on_client(&packet(0, b"\x01"));
        assert!(!watch.is_over(), "an answer is owed");
        watch.on_upstream(&packet(1, OK));
        assert!(watch.is_over());
        assert!(!logged_in(Capabilities::default()).is_over());
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
        watch.logged_in_again(3);
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
    fn an_error_of_ours_answers_a_command_or_is_not_said() {
        let mut watch = logged_in(Capabilities::default());
        let command = packet(0, b"\x03a");
        let (begun, rest) = command.split_at(3);
        watch.on_client(begun);
        assert_eq!(watch.waiting(), None, "the client is sending");
        watch.on_client(rest);
        assert_eq!(watch.waiting(), Some(ReplyPosition::COMMAND));
        for (n, payload) in (1..).zip([b"\x01", COLUMN, EOF, b"\x01x", EOF]) {
            for byte in packet(n, payload) {
                watch.on_upstream(&[byte]);
                assert_eq!(watch.waiting(), None, "part of an answer");
            }
        }
        watch.on_client(&[packet(0, b"\x03a"), packet(0, b"\x0e")].concat());
        watch.on_upstream(&packet(1, OK));
        assert_eq!(watch.waiting(), Some(ReplyPosition::COMMAND), "the second");
        watch.on_upstream(&packet(1, OK));

        watch.on_client(&packet(0, b"\x03load"));
        watch.on_upstream(&packet(1, b"\xfbname"));
        assert_eq!(watch.waiting(), None, "the client sends");
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
        assert_eq!((watch.state(), watch.waiting()), (Activity::Busy, None), "it goes on");
        watch.on_upstream(&packet(5, b""));
        assert_eq!(watch.state(), Activity::Busy);
        watch.on_upstream(&packet(6, EOF));
        assert_eq!(watch.state(), Activity::Idle);

        // And a command of that size.
        watch.on_client(&[&b"\xff\xff\xff\0\x03"[..], &vec![b'x'; CONTINUED - 1], &packet(1, b"rest")].concat());
        assert_eq!((watch.state(), watch.waiting()), (Activity::Busy, Some(ReplyPosition::answer(2))));
        watch.on_upstream(&packet(2, OK));
        assert_eq!((watch.state(), watch.waiting()), (Activity::Idle, None));
    }

    #[test]
    fn results_without_their_columns_are_followed() {
        let optional = Capabilities::OPTIONAL_RESULTSET_METADATA;
        // A thousand columns: the length of their number takes three bytes.
        for (columns, row) in [(&b"\x02"[..], &b"\0"[..]), (b"\xfc\xe8\x03", b"\x01x")] {
            // As MySQL 9.7 sends them.
            let (none, full) = ([columns, b"\0"].concat(), vec![1, 1]);
            for (command, answer) in [
                (&b"\x03select"[..], &[&none[..], EOF, row, EOF][..]),
                (b"\x03select", &[&full, COLUMN, EOF, row, row, EOF]),
                (b"\x17", &[&none, EOF, row, EOF]),
                (b"\x16select", &[b"\0\x01\0\0\0\x02\0\x01\0\0\0\0\0", EOF, EOF]),
                (b"\x16select", &[b"\0\x01\0\0\0\x02\0\0\0\0\0\0\x01", COLUMN, COLUMN, EOF]),
                (b"\x03do 0", &[OK]),
                (b"\x03selec", &[b"\xff\x15\x04#28000no"]),
                (b"\x03load", &[b"\xfbname", OK]),
            ] {
                assert_eq!(asked(&mut logged_in(optional), command, answer), Activity::Idle);
            }
            let end = b"\xfe\0\0\x02\0\0\0";
            let mut watch = logged_in(optional | Capabilities::DEPRECATE_EOF);
            assert_eq!(asked(&mut watch, b"\x03select", &[&none, row, row, end]), Activity::Idle);
            assert_eq!(asked(&mut watch, b"\x03select", &[&full, COLUMN, row, end]), Activity::Idle);
            let prepared = b"\0\x01\0\0\0\x02\0\x01\0\0\0\0\0";
            assert_eq!(asked(&mut watch, b"\x16select", &[prepared]), Activity::Idle);
        }
    }

    #[test]
    fn client_of_the_binary_log_is_idle_between_events() {
        let (position, number) = (4_u32.to_le_bytes(), 7_u32.to_le_bytes());
        for (flags, between) in [(0_u16, Activity::Idle), (1, Activity::Busy)] {
            let flags = flags.to_le_bytes();
            for dump in [
                [&b"\x12"[..], &position, &flags, &number, b"binlog.000001"].concat(),
                [&b"\x1e"[..], &flags, &number, b"\0\0\0\0"].concat(),
            ] {
                let mut watch = logged_in(Capabilities::default());
                watch.on_client(&packet(0, &dump));
                assert_eq!(watch.state(), Activity::Busy);
                for n in 1..5 {
                    let event = packet(n, b"\0 an event of the binary log, longer than what is looked at");
                    let (begun, rest) = event.split_at(10);
                    watch.on_upstream(begun);
                    assert_eq!(watch.state(), Activity::Busy);
                    watch.on_upstream(rest);
                    assert_eq!(watch.state(), between);
                    assert!(!watch.is_answered());
                }
                watch.on_upstream(&packet(5, EOF));
                assert_eq!((watch.state(), watch.is_answered()), (Activity::Idle, true));
            }
        }
    }

    #[test]
    fn what_cannot_be_followed_keeps_nothing_busy() {
        for answer in [&b""[..], b"\0\0", b"\xfc\x01"] {
            let mut watch = logged_in(Capabilities::default());
            watch.on_client(&packet(0, b"\x03a"));
            assert_eq!(watch.state(), Activity::Busy);
            let answer = [packet(1, answer), packet(2, b"who knows what")].concat();
            let (all_but_one, last) = answer.split_at(answer.len() - 1);
            watch.on_upstream(all_but_one);
            assert_eq!((watch.state(), watch.waiting()), (Activity::Busy, None), "in a packet");
            watch.on_upstream(last);
            assert_eq!((watch.state(), watch.waiting()), (Activity::Idle, None));
            assert!(watch.is_answered(), "nobody is to wait for it");
            // And the next command is followed again.
            watch.on_client(&packet(0, b"\x03begin"));
            assert_eq!((watch.state(), watch.waiting()), (Activity::Busy, Some(ReplyPosition::COMMAND)));
            watch.on_upstream(&packet(1, b"\0\0\0\x03\0\0\0"));
            assert_eq!(watch.state(), Activity::InTransaction);
        }
        let mut watch = logged_in(Capabilities::default());
        watch.on_client(&packet(0, b"\x03a").repeat(MAX_OWED + 1));
        assert_eq!((watch.state(), watch.owed.capacity()), (Activity::Busy, 0));
        watch.on_upstream(&packet(1, OK).repeat(MAX_OWED + 1));
        assert_eq!(watch.state(), Activity::Idle);
    }
}
