//! Follows a connection after its login, to know when it is idle and where a message ends.
//!
//! Only tags and lengths are looked at, and the one status byte of ReadyForQuery; bodies are skipped unread. It never
//! holds bytes back and never fails: what it cannot follow it calls busy.
//!
//! Idle means that each command has had its ReadyForQuery; which those are is the matter of `exchange`.

use super::{error::sqlstate::READ_ONLY, exchange::Exchanges};

/// The activity of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Waits for a command, outside a transaction: ending the connection loses nothing but session state.
    Idle,
    /// Waits for a command inside a transaction block, failed or not.
    InTransaction,
    /// A command runs, or a message is on its way; also a connection that has not logged in.
    Busy,
}

/// Follows both directions of one connection. Start with the greeting, then each chunk as it is relayed, however split.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    upstream: Follower,
    client: Follower,
    exchanges: Exchanges,
    /// The status of the last ReadyForQuery: `I`, `T` or `E`.
    status: Option<u8>,
    refused_to_write: bool,
    /// The server has said that it ends the connection.
    fatal: bool,
    /// The client has sent Terminate.
    terminated: bool,
    /// The client has done something that a reset may not undo. Never cleared.
    unusual: bool,
}

impl Watch {
    /// For a connection whose greeting is the next thing to see.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sees bytes on their way to the client.
    pub fn on_upstream(&mut self, chunk: &[u8]) {
        let Self { upstream, exchanges, status, refused_to_write, fatal, unusual, .. } = self;
        upstream.follow(chunk, |tag, start| {
            exchanges.on_upstream(tag);
            match tag {
                b'Z' => *status = start.first().copied(),
                // A notification; COPY in either direction or in both.
                b'A' | b'G' | b'H' | b'W' => *unusual = true,
                b'C' => *unusual |= start.starts_with(b"LISTEN\0") || start.starts_with(b"LOAD\0"),
                b'E' => {
                    let read_only = field(start, b'C') == Some(READ_ONLY.as_bytes());
                    *refused_to_write |= read_only;
                    *unusual |= read_only;
                    *fatal |= [&b"FATAL"[..], b"PANIC"].map(Some).contains(&field(start, b'V'));
                }
                _ => {}
            }
        });
    }

    /// Whether the server has refused to write (25006) since the last time this was asked.
    pub fn take_refused_to_write(&mut self) -> bool {
        std::mem::take(&mut self.refused_to_write)
    }

    /// Whether an ErrorResponse of ours can follow what has gone to the client: it ends with a whole message, and the server
    /// has not said itself that it ends the connection.
    pub fn may_add_error(&self) -> bool {
        self.upstream.at_boundary() && !self.fatal
    }

    /// Sees bytes on their way to the upstream.
    pub fn on_client(&mut self, chunk: &[u8]) {
        let Self { client, exchanges, terminated, .. } = self;
        client.follow(chunk, |tag, _| {
            *terminated |= tag == b'X';
            exchanges.on_client(tag);
        });
    }

    /// The activity of the connection.
    pub fn state(&self) -> Activity {
        match self.status {
            Some(status) if self.exchanges.is_empty() && self.at_boundary() && self.client.at_boundary() => {
                if status == b'I' { Activity::Idle } else { Activity::InTransaction }
            }
            _ => Activity::Busy,
        }
    }

    /// Whether the client has said goodbye (Terminate) after the answers to all its commands.
    pub fn is_over(&self) -> bool {
        self.terminated && self.exchanges.is_empty()
    }

    /// Whether the client has used COPY, LISTEN or LOAD, was notified, or was refused to write, by a server that may not be the
    /// writer any more. Such a session is not reset for another client.
    pub fn is_unusual(&self) -> bool {
        self.unusual
    }

    /// Whether what has gone to the client so far ends with a whole message, so that one of ours can follow.
    pub fn at_boundary(&self) -> bool {
        self.upstream.at_boundary()
    }
}

/// A field of an ErrorResponse, when it is within its start: `V` is the severity, in English and since PostgreSQL 9.6, `C`
/// the SQLSTATE.
fn field(start: &[u8], code: u8) -> Option<&[u8]> {
    start.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(&[code]))
}

/// Tag and length.
const HEADER: usize = 5;
/// So much of a body is kept: the severity, twice, and the code stand first in an ErrorResponse.
const START: usize = 32;

/// Follows the messages of one direction by their headers.
#[derive(Debug, Clone, Default)]
struct Follower {
    header: [u8; HEADER],
    /// How much of the current message's header has come: none is between messages, all is in a body.
    have: usize,
    /// Bytes of the current body still to come.
    body: usize,
    /// The start of the current body, as far as it has come.
    start: [u8; START],
    started: usize,
    /// A length that cannot be was met: where messages begin is not known any more.
    lost: bool,
}

impl Follower {
    fn at_boundary(&self) -> bool {
        self.have == 0 && !self.lost
    }

    /// Calls `on_message` with the tag and the body's start of each message that `chunk` completes.
    fn follow(&mut self, mut chunk: &[u8], mut on_message: impl FnMut(u8, &[u8])) {
        while !chunk.is_empty() && !self.lost {
            // Nearly always: a COPY or a result has a message for each row.
            if self.have == 0
                && let Some((tag, body, rest)) = whole_message(chunk)
            {
                on_message(tag, body.get(..START).unwrap_or(body));
                chunk = rest;
                continue;
            }
            if let Some(missing) = self.header.get_mut(self.have..).filter(|missing| !missing.is_empty()) {
                let (now, rest) = chunk.split_at(missing.len().min(chunk.len()));
                missing.iter_mut().zip(now).for_each(|(to, from)| *to = *from);
                self.have += now.len();
                chunk = rest;
                if self.have < HEADER {
                    return;
                }
                let body = body_length(self.header);
                self.lost = body.is_none();
                self.body = body.unwrap_or(0);
            }
            let (now, rest) = chunk.split_at(self.body.min(chunk.len()));
            let missing = self.start.get_mut(self.started..).unwrap_or_default();
            self.started += missing.iter_mut().zip(now).map(|(to, from)| *to = *from).count();
            self.body -= now.len();
            chunk = rest;
            if self.body == 0 && !self.lost {
                let [tag, ..] = self.header;
                on_message(tag, self.start.get(..self.started).unwrap_or_default());
                (self.have, self.started) = (0, 0);
            }
        }
    }
}

/// The first message's tag and body, and what is behind it, when `chunk` holds all of it.
fn whole_message(chunk: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&header, rest) = chunk.split_first_chunk()?;
    let (body, rest) = rest.split_at_checked(body_length(header)?)?;
    let [tag, ..] = header;
    Some((tag, body, rest))
}

/// The server's own limit is 1 GB; a length field is signed.
fn body_length([_, length @ ..]: [u8; HEADER]) -> Option<usize> {
    i32::from_be_bytes(length).checked_sub(4).and_then(|body| usize::try_from(body).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message with this body.
    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[tag][..], &length.to_be_bytes(), body].concat()
    }

    fn ready(status: u8) -> Vec<u8> {
        message(b'Z', &[status])
    }

    fn logged_in() -> Watch {
        let mut watch = Watch::new();
        assert_eq!(watch.state(), Activity::Busy);
        watch.on_upstream(&[message(b'R', &[0; 4]), message(b'K', &[1; 8]), ready(b'I')].concat());
        assert_eq!(watch.state(), Activity::Idle);
        watch
    }

    #[test]
    fn a_refusal_to_write_is_met_once_however_its_message_is_split() {
        let error =
            |code: &str| message(b'E', format!("SERROR\0VERROR\0C{code}\0Mcannot execute INSERT\0\0").as_bytes());
        let whole = error(READ_ONLY);
        for at in 0..whole.len() {
            let mut watch = logged_in();
            let (first, second) = whole.split_at(at);
            watch.on_upstream(first);
            watch.on_upstream(second);
            assert!(watch.take_refused_to_write(), "{at}");
            assert!(!watch.take_refused_to_write(), "{at}");
        }
        let mut watch = logged_in();
        for other in [error("23505"), message(b'D', &whole), message(b'E', b""), message(b'E', b"C2500"), ready(b'I')] {
            watch.on_upstream(&other);
        }
        assert!(!watch.take_refused_to_write());
    }

    #[test]
    fn an_error_of_ours_comes_between_messages_and_not_behind_the_servers_last() {
        let error = |severity: &str| {
            message(b'E', format!("S{severity}\0V{severity}\0C57P01\0Mterminating connection\0\0").as_bytes())
        };
        for (severity, may) in [("ERROR", true), ("FATAL", false), ("PANIC", false)] {
            let mut watch = logged_in();
            for byte in error(severity) {
                watch.on_upstream(&[byte]);
            }
            assert_eq!(watch.may_add_error(), may, "{severity}");
            watch.on_upstream(b"D");
            assert!(!watch.may_add_error(), "{severity}");
        }
    }

    #[test]
    fn a_query_is_busy_until_its_answer_is_complete() {
        let mut watch = logged_in();
        watch.on_client(&message(b'Q', b"select 1\0"));
        assert_eq!(watch.state(), Activity::Busy);
        let answer = [message(b'T', &[7; 30]), message(b'D', &[b'Z'; 100]), message(b'C', b"SELECT 1\0"), ready(b'I')];
        let answer = answer.concat();
        let boundaries: Vec<usize> = [0, 35, 140, 154, 160].into();
        for (i, byte) in answer.iter().enumerate() {
            assert_eq!(watch.state(), Activity::Busy, "byte {i}");
            assert_eq!(watch.at_boundary(), boundaries.contains(&i), "byte {i}");
            watch.on_upstream(&[*byte]);
        }
        assert_eq!((watch.state(), watch.at_boundary()), (Activity::Idle, true));
    }

    #[test]
    fn a_transaction_is_not_idle_whether_open_or_failed() {
        let mut watch = logged_in();
        for status in [b'T', b'E'] {
            watch.on_client(&message(b'Q', b"\0"));
            watch.on_upstream(&ready(status));
            assert_eq!(watch.state(), Activity::InTransaction);
        }
    }

    #[test]
    fn a_pipelined_command_keeps_the_connection_busy_past_the_first_answer() {
        let mut watch = logged_in();
        watch.on_client(&[message(b'Q', b"a\0"), message(b'P', b"x"), message(b'S', b"")].concat());
        watch.on_upstream(&ready(b'I'));
        assert_eq!(watch.state(), Activity::Busy);
        watch.on_upstream(&ready(b'I'));
        assert_eq!(watch.state(), Activity::Idle);
    }

    #[test]
    fn an_exchange_without_its_sync_is_busy() {
        let mut watch = logged_in();
        watch.on_client(&[message(b'P', b"x"), message(b'H', b"")].concat());
        watch.on_upstream(&message(b'1', b""));
        assert_eq!(watch.state(), Activity::Busy);
        watch.on_client(&message(b'S', b""));
        watch.on_upstream(&ready(b'I'));
        assert_eq!(watch.state(), Activity::Idle);
    }

    #[test]
    fn a_connection_is_over_when_the_client_has_said_goodbye_after_its_answers() {
        let mut watch = logged_in();
        assert!(!watch.is_over());
        watch.on_client(&[message(b'Q', b"a\0"), message(b'X', b"")].concat());
        assert!(!watch.is_over(), "an answer is owed");
        watch.on_upstream(&ready(b'T'));
        assert!(watch.is_over());
    }

    #[test]
    fn copies_notifications_and_loaded_libraries_are_unusual() {
        let done = |tag: &[u8]| message(b'C', &[tag, b"\0"].concat());
        for (said, unusual) in [
            (done(b"SELECT 1"), false),
            (done(b"SET"), false),
            (done(b"LISTEN"), true),
            (done(b"LOAD"), true),
            (message(b'A', b"\0\0\0\x01a\0b\0"), true),
            (message(b'G', &[0; 3]), true),
            (message(b'H', &[0; 3]), true),
            (message(b'W', &[0; 3]), true),
        ] {
            let mut watch = logged_in();
            watch.on_upstream(&said);
            assert_eq!(watch.is_unusual(), unusual, "{said:?}");
        }
    }

    #[test]
    fn half_a_command_is_busy() {
        let mut watch = logged_in();
        watch.on_client(b"Q");
        assert_eq!(watch.state(), Activity::Busy);
    }

    #[test]
    fn a_sync_that_a_copy_swallows_is_not_waited_for() {
        let mut watch = logged_in();
        // As libpq and tokio-postgres do: Execute and Sync together, then the data, then CopyDone and another Sync.
        watch.on_client(&[message(b'B', b"x"), message(b'E', b"\0\0\0\0\0"), message(b'S', b"")].concat());
        watch.on_upstream(&message(b'G', &[0; 3]));
        watch.on_client(&message(b'd', b"1\n"));
        watch.on_client(&[message(b'c', b""), message(b'S', b"")].concat());
        assert_eq!(watch.state(), Activity::Busy);
        watch.on_upstream(&[message(b'C', b"COPY 1\0"), ready(b'I')].concat());
        assert_eq!(watch.state(), Activity::Idle);
        // The simple protocol has one ReadyForQuery for the Query and none for CopyDone.
        watch.on_client(&message(b'Q', b"copy t from stdin\0"));
        watch.on_upstream(&message(b'G', &[0; 3]));
        watch.on_client(&message(b'f', b"no\0"));
        assert_eq!(watch.state(), Activity::Busy);
        watch.on_upstream(&[message(b'E', b"\0"), ready(b'I')].concat());
        assert_eq!(watch.state(), Activity::Idle);
    }

    #[test]
    fn a_length_that_cannot_be_is_busy_for_ever() {
        for length in [[0, 0, 0, 3], [0x80, 0, 0, 4], [0; 4]] {
            let mut watch = logged_in();
            watch.on_upstream(&[&[b'D'][..], &length].concat());
            watch.on_upstream(&ready(b'I'));
            assert_eq!((watch.state(), watch.at_boundary()), (Activity::Busy, false), "{length:?}");
        }
    }
}
