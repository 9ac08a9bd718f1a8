//! Follows the bytes of a connection after its login: whether it may end, and what its client hears when it does.

use database_wire::postgres::{
    Activity, ErrorReport, Watch,
    error::sqlstate::{ADMIN_SHUTDOWN, CONNECTION_FAILURE},
};

use crate::{
    engine::Follow,
    stream::{
        goodbye::Goodbye,
        relay::{self, Reason, Side},
    },
};

/// The part of a PostgreSQL connection that has passed.
pub struct Tap {
    watch: Watch,
    /// Withheld from the server while the connection can be reused.
    goodbye: Option<Goodbye>,
}

impl Tap {
    /// Of a connection whose client has been sent `greeting`, which ends with ReadyForQuery.
    pub fn new(greeting: &[u8]) -> Self {
        let mut watch = Watch::new();
        watch.on_upstream(greeting);
        Self { watch, goodbye: None }
    }

    /// Withholds the client's goodbye while its connection can be reused.
    #[must_use]
    pub fn withholding(self, goodbye: Option<Goodbye>) -> Self {
        let tap = Self { goodbye, ..self };
        tap.note_idle();
        tap
    }

    fn note_idle(&self) {
        if let Some(goodbye) = &self.goodbye {
            let is_idle = self.watch.state() == Activity::Idle;
            goodbye.set_idle(is_idle && self.watch.at_boundary() && !self.watch.is_unusual());
        }
    }
}

impl relay::Tap for Tap {
    fn on_client(&mut self, bytes: &[u8]) {
        self.watch.on_client(bytes);
        self.note_idle();
    }

    fn on_upstream(&mut self, bytes: &[u8]) {
        self.watch.on_upstream(bytes);
        self.note_idle();
    }

    fn may_stop(&self) -> bool {
        self.watch.state() == Activity::Idle && self.watch.at_boundary()
    }

    fn is_busy(&self) -> bool {
        self.watch.state() == Activity::Busy
    }

    fn is_over(&self) -> bool {
        self.watch.is_over()
    }
}

impl Follow for Tap {
    fn take_refused_to_write(&mut self) -> bool {
        self.watch.take_refused_to_write()
    }

    /// An error that drivers and their pools take for a lost connection, as they take PostgreSQL's own when it shuts down (their
    /// rules are a table in the tests).
    fn last_words(&self, reason: &Reason) -> Option<Vec<u8>> {
        let (sqlstate, message, hint) = match reason {
            Reason::Stopped | Reason::Cut => {
                (ADMIN_SHUTDOWN, "terminating connection: rdsgate is shutting down".into(), None)
            }
            Reason::Broke(Side::Upstream, cause) => (
                CONNECTION_FAILURE,
                format!("terminating connection: the connection to the database was lost: {cause}"),
                Some("Connect again. A transaction that was open is rolled back.".into()),
            ),
            Reason::Closed(_) | Reason::Broke(Side::Client, _) => return None,
        };
        // In the middle of a message an error would be read as its rest, and behind the server's own it would not be read.
        self.watch.may_add_error().then(|| ErrorReport { sqlstate, message, detail: None, hint }.encode())
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::{engine::relayed::relayed, stream::relay::Tap as _};

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        [&[tag][..], &u32::try_from(body.len() + 4).unwrap().to_be_bytes(), body].concat()
    }

    /// The tags and bodies of the messages, and what is left behind the last whole one.
    fn parse(mut bytes: &[u8]) -> (Vec<(u8, Vec<u8>)>, Vec<u8>) {
        let mut messages = Vec::new();
        while let Some((&[tag, a, b, c, d], rest)) = bytes.split_first_chunk() {
            let body = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap() - 4;
            let Some((body, rest)) = rest.split_at_checked(body) else { break };
            messages.push((tag, body.to_vec()));
            bytes = rest;
        }
        (messages, bytes.to_vec())
    }

    /// The first line of the message, and the SQLSTATE, of an ErrorResponse with severity FATAL.
    fn last_words_of(reason: &Reason) -> (String, String) {
        let words = Tap::new(b"").last_words(reason).unwrap();
        let (messages, rest) = parse(&words);
        assert!(rest.is_empty());
        let [(b'E', body)] = &messages[..] else { panic!("{messages:?}") };
        let body = String::from_utf8(body.clone()).unwrap();
        let field = |code| body.split('\0').find_map(|field| field.strip_prefix(code)).unwrap_or_default().to_owned();
        assert_eq!(field('V'), "FATAL", "pgx closes by the severity");
        (field('M').lines().next().unwrap_or_default().to_owned(), field('C'))
    }

    #[test]
    fn drivers_and_pools_take_our_last_words_for_a_lost_connection() {
        type Rule = fn(&str, &str) -> bool;
        // Those that go by the end of the connection alone (libpq, psycopg, asyncpg, pg, pgjdbc, and SQLAlchemy over them) have
        // no row; tests/it/reconnects.rs runs them.
        let rules: [(&str, Rule); 2] = [
            // PGDialect_psycopg2.is_disconnect: known words in the first line, without a quote before them.
            ("SQLAlchemy over psycopg2", |message, _| {
                message.find("terminating connection").is_some_and(|at| !message[..at].contains('"'))
            }),
            // ProxyConnection.checkException: class 08, and ERROR_STATES.
            ("HikariCP", |_, state| state.starts_with("08") || ["57P01", "57P02", "57P03"].contains(&state)),
        ];
        let lost = io::Error::other("the SSM session ended");
        for reason in [Reason::Stopped, Reason::Cut, Reason::Broke(Side::Upstream, lost)] {
            let (message, state) = last_words_of(&reason);
            for (driver, is_lost) in rules {
                assert!(is_lost(&message, &state), "{driver}: {state} {message}");
            }
        }
    }

    #[tokio::test]
    async fn a_client_never_finds_our_words_inside_a_message() {
        let answer =
            [message(b'T', &[7; 30]), message(b'D', &[b'x'; 90]), message(b'D', b""), message(b'C', b"SELECT 2\0")];
        let ends: Vec<usize> = answer
            .iter()
            .scan(0, |end, message| {
                *end += message.len();
                Some(*end)
            })
            .collect();
        let answer = answer.concat();
        for broken in [false, true] {
            for room in 1..answer.len() {
                let mut tap = Tap::new(&message(b'Z', b"I"));
                tap.on_client(&message(b'Q', b"select\0"));
                let heard = relayed(tap, &answer, room, broken).await;
                let (written, behind) = heard.split_at(room);
                assert_eq!(written, &answer[..room]);
                let (messages, rest) = parse(behind);
                assert!(rest.is_empty(), "cut at {room}");
                assert_eq!(messages.len(), usize::from(ends.contains(&room)), "cut at {room}");
                assert!(messages.iter().all(|(tag, _)| *tag == b'E'), "cut at {room}");
            }
        }
    }
}
