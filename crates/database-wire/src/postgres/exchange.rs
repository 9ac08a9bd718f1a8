//! The replies that a server still owes to a client: the messages that ReadyForQuery will answer, and those that the server skips.
//!
//! Query, FunctionCall and Sync are answered by one ReadyForQuery each; Parse, Bind, Describe, Execute and Close by one last
//! message each. A client may send all of them ahead of the answers, so they are kept in order until they are answered.
//! Three rules of the server make counting alone wrong:
//!
//! - after an error in a message of the extended protocol it discards everything up to the next Sync, Query and
//!   FunctionCall too (`ignore_till_sync` in `postgres.c`);
//! - a COPY from the client reads the messages that follow: it ignores Flush and Sync, ends with CopyDone or CopyFail, and
//!   fails with any other message, which it has consumed then (`CopyGetData`);
//! - CopyData, CopyDone and CopyFail outside of a COPY are ignored: the client may still send when the COPY has failed.
//!
//! Flush has no answer and leaves nothing behind.

use std::collections::VecDeque;

/// The most exchanges that a client may send ahead of their answers and be followed.
const MAX_AHEAD: usize = 1 << 16;
/// A queue that was longer than this gives its memory back when it is empty.
const KEPT: usize = 64;

/// Messages of the extended protocol, and what stands behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Exchange {
    /// Messages that wait for their last answer.
    unanswered: u32,
    end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Query or FunctionCall: answered, then ReadyForQuery.
    Query,
    /// Sync: ReadyForQuery.
    Sync,
    /// CopyDone or CopyFail, sent before the server has said that it copies.
    CopyDone,
}

/// A COPY from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CopyIn {
    /// The server reads the client's messages as data.
    Reading,
    /// The client has sent the last of them; the server is to say what came of it.
    Ended,
}

/// See the module's description.
#[derive(Debug, Clone, Default)]
pub(super) struct Exchanges {
    /// Those with their end, the oldest first.
    sent: VecDeque<Exchange>,
    /// Unanswered messages of the extended protocol behind those, whose Sync is to come; `None`: there were no such messages.
    open: Option<u32>,
    /// After an error the server discards what comes, and the client has not sent the Sync yet that ends this.
    skipping: bool,
    copy: Option<CopyIn>,
    /// There were too many to follow.
    lost: bool,
}

impl Exchanges {
    /// Whether everything is answered and nothing has begun.
    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty() && self.open.is_none() && !self.skipping && self.copy.is_none() && !self.lost
    }

    /// A message from the client.
    pub(super) fn on_client(&mut self, tag: u8) {
        match (tag, self.copy) {
            _ if self.lost => {}
            // Flush, Terminate, CopyData.
            (b'H' | b'X' | b'd', _) | (b'S', Some(CopyIn::Reading)) => {}
            // CopyDone, CopyFail, and what makes a COPY fail.
            (_, Some(CopyIn::Reading)) => self.copy = Some(CopyIn::Ended),
            (b'S', _) => {
                self.skipping = false;
                self.end(End::Sync);
            }
            _ if self.skipping => {}
            (b'Q' | b'F', _) => self.end(End::Query),
            (b'P' | b'B' | b'D' | b'E' | b'C', _) => self.open = Some(self.open.unwrap_or(0).saturating_add(1)),
            (b'c' | b'f', None) if self.open.is_some() => {
                self.end(End::CopyDone);
                self.open = Some(0);
            }
            (b'c' | b'f', None) if !self.sent.is_empty() => self.end(End::CopyDone),
            _ => {}
        }
    }

    /// A message from the server. Those that may come at any time, and rows, change nothing.
    pub(super) fn on_upstream(&mut self, tag: u8) {
        match tag {
            // ReadyForQuery.
            b'Z' => {
                self.copy = None;
                // Of a Sync that was taken for part of a COPY, when the COPY had failed already.
                self.skipping = false;
                while let Some(exchange) = self.sent.pop_front() {
                    if exchange.end != End::CopyDone {
                        break;
                    }
                }
                self.tidy();
            }
            b'E' => self.on_error(),
            // CopyInResponse, and CopyBothResponse of a replication.
            b'G' | b'W' => self.on_copy_in(),
            // CommandComplete.
            b'C' => {
                self.copy = None;
                self.on_last_answer();
            }
            // ParseComplete, BindComplete, CloseComplete, RowDescription or NoData, EmptyQueryResponse, PortalSuspended.
            b'1' | b'2' | b'3' | b'T' | b'n' | b'I' | b's' => self.on_last_answer(),
            _ => {}
        }
    }

    fn end(&mut self, end: End) {
        let unanswered = self.open.take().unwrap_or(0);
        self.sent.push_back(Exchange { unanswered, end });
        if self.sent.len() > MAX_AHEAD {
            *self = Self { lost: true, ..Self::default() };
        }
        self.tidy();
    }

    /// Drops a CopyDone that no COPY has read, and what it cost to have many.
    fn tidy(&mut self) {
        while let Some(Exchange { unanswered: 0, end: End::CopyDone }) = self.sent.front() {
            self.sent.pop_front();
        }
        if self.sent.is_empty() && self.sent.capacity() > KEPT {
            self.sent = VecDeque::new();
        }
    }

    /// Of a message of the extended protocol, if one is next; otherwise it is part of a Query's answer.
    fn on_last_answer(&mut self) {
        if let Some(unanswered) = self.next_unanswered() {
            *unanswered = unanswered.saturating_sub(1);
        }
        self.tidy();
    }

    fn on_error(&mut self) {
        self.copy = None;
        match (self.sent.front(), self.open) {
            // Of a Query, of the commit that a Sync does, or out of turn.
            (Some(Exchange { unanswered: 0, .. }), _) | (None, None | Some(0)) => return,
            _ => {}
        }
        while let Some(exchange) = self.sent.pop_front() {
            if exchange.end == End::Sync {
                self.sent.push_front(Exchange { unanswered: 0, ..exchange });
                return;
            }
        }
        self.open = None;
        self.skipping = true;
        self.tidy();
    }

    /// The server begins to read as data what stands behind the Query or Execute that it answers.
    fn on_copy_in(&mut self) {
        let query = self.sent.front().is_some_and(|first| first.unanswered == 0 && first.end == End::Query);
        if query {
            let query = self.sent.pop_front();
            self.copy = Some(self.read_ahead());
            self.sent.extend(query);
            self.sent.rotate_right(1);
        } else {
            let running = self.next_unanswered().map(std::mem::take).unwrap_or_default();
            self.copy = Some(self.read_ahead());
            let next = match self.sent.front_mut() {
                Some(exchange) => &mut exchange.unanswered,
                None => self.open.get_or_insert(0),
            };
            *next = next.saturating_add(running);
        }
    }

    /// Takes away what a COPY reads of the messages that the client sent before it knew of it.
    fn read_ahead(&mut self) -> CopyIn {
        while let Some(exchange) = self.sent.front_mut() {
            if exchange.unanswered > 0 {
                exchange.unanswered -= 1;
                return CopyIn::Ended;
            }
            let end = exchange.end;
            self.sent.pop_front();
            if end != End::Sync {
                return CopyIn::Ended;
            }
        }
        match &mut self.open {
            Some(open @ 1..) => {
                *open -= 1;
                CopyIn::Ended
            }
            _ => CopyIn::Reading,
        }
    }

    /// The messages that wait for what the server says next, if those are of the extended protocol.
    fn next_unanswered(&mut self) -> Option<&mut u32> {
        match self.sent.front_mut() {
            Some(exchange) => Some(&mut exchange.unanswered),
            None => self.open.as_mut(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays messages, `>` before those of the client and `<` before those of the server, and says where nothing is owed: by
    /// the number of messages before.
    fn empty_after(messages: &str) -> Vec<usize> {
        let mut exchanges = Exchanges::default();
        let mut empty = Vec::new();
        for (n, message) in messages.split_whitespace().enumerate() {
            let [direction, tag] = message.as_bytes() else { panic!("{message}") };
            match direction {
                b'>' => exchanges.on_client(*tag),
                _ => exchanges.on_upstream(*tag),
            }
            if exchanges.is_empty() {
                empty.push(n + 1);
            }
        }
        empty
    }

    #[test]
    fn nothing_is_owed_where_the_server_waits_for_a_command() {
        for (messages, empty) in [
            // Simple, with an error, with two results.
            (">Q <T <D <C <Z", &[5][..]),
            (">Q <E <Z", &[3]),
            (">Q <T <D <C <T <C <Z", &[7]),
            (">F <V <Z", &[3]),
            // Extended, pipelined with and without a Sync for each.
            (">P >B >D >E >S <1 <2 <T <D <C <Z", &[11]),
            (">P >B >E >P >B >E >S <1 <2 <C <1 <2 <I <Z", &[14]),
            (">B >E >S >B >E >S <2 <C <Z <2 <s <Z", &[12]),
            (">D >S <t <n <Z", &[5]),
            (">P >D >H <1 <t <T >B >E >S <2 <D <C <Z", &[13]),
            // A lone Flush, and Terminate.
            (">H", &[1]),
            (">Q <C <Z >H >X", &[3, 4, 5]),
            (">P >H <1 >S <Z", &[5]),
            // After an error what follows is passed over, up to the Sync: sent before it or after it.
            (">P >Q >S <E <Z", &[5]),
            (">P >B >E >Q >F >P >S >Q <E <Z <C <Z", &[12]),
            (">P <E >Q >B >H >S <Z >Q <C <Z", &[7, 10]),
            (">P >Q >S <1 <C <Z <Z", &[7]),
            (">P >Q >S <1 <E <Z <Z", &[7]),
            (">S <E <Z", &[3]),
            (">P >E >S >P >E >S <E <Z <1 <C <Z", &[11]),
            // COPY from the client.
            (">Q <G >d >c <C <Z", &[6]),
            (">Q <G >d >f <E <Z", &[6]),
            (">Q <G >d <E <Z >d >c", &[5, 6, 7]),
            (">Q <G >d >H >S >d >c <C <Z", &[9]),
            (">Q <G >c <C <G >c <C <Z", &[8]),
            (">B >E >S <2 <G >d >c >S <C <Z", &[10]),
            (">B >E >S >d >c >S <2 <G <C <Z", &[10]),
            (">B >E >H <2 <G >d >c >S <C <Z", &[10]),
            (">B >E >S <2 <G >d >f >S <E <Z", &[10]),
            (">B >E >S <2 <G >d <E >d >c >S <Z", &[11]),
            (">B >E >S <E <Z >d >c >S <Z", &[5, 6, 7, 9]),
            (">B >E >S >d >c >S <E <Z <Z", &[9]),
            // A COPY that another command breaks off, sent before and after it is known.
            (">Q <G >Q <E <Z", &[5]),
            (">Q >Q <G <E <Z", &[5]),
            (">B >E >S <2 <G >Q >P >S <E <Z", &[10]),
            // A replication, which the client ends, and the server.
            (">Q <W <d >d <d >c <c <C <Z", &[9]),
            (">Q <W <d <c >c <T <D <C <C <Z >Q <C <Z", &[10, 13]),
            // To the client.
            (">Q <H <d <d <c <C <Z", &[7]),
            // Out of turn.
            ("<N <A <S <E", &[1, 2, 3, 4]),
            (">Q <N <A <S <C <Z", &[6]),
        ] {
            assert_eq!(empty_after(messages), empty, "{messages}");
        }
    }

    #[test]
    fn a_client_that_never_reads_costs_little_memory() {
        let mut exchanges = Exchanges::default();
        for _ in 0..=MAX_AHEAD {
            exchanges.on_client(b'S');
        }
        assert!(exchanges.lost && exchanges.sent.capacity() == 0);
        exchanges.on_client(b'S');
        exchanges.on_upstream(b'Z');
        assert!(!exchanges.is_empty(), "what cannot be followed is busy");

        let mut exchanges = Exchanges::default();
        for _ in 0..1000 {
            exchanges.on_client(b'S');
        }
        for _ in 0..1000 {
            exchanges.on_upstream(b'Z');
        }
        assert!(exchanges.is_empty() && exchanges.sent.capacity() <= KEPT);
    }
}
