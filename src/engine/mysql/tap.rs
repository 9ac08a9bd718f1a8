//! Follows the bytes of a connection after its login: whether it may end, and what its client hears when it does.
//!
//! Drivers and pools decide from what they meet whether a connection is lost: all of them by a close, most by no error that a
//! server sends. So an ERR goes out only as the answer to a command of which nothing has been answered, and it is one that
//! they take for a lost connection; everywhere else the connection is closed, as the server would have closed it.

use database_wire::mysql::{Activity, Capabilities, ErrorReport, ReplyPosition, Signal, Watch, error::code};

use crate::{
    engine::Follow,
    stream::relay::{self, Reason, Side},
};

/// The part of a MySQL connection that has passed.
pub struct Tap {
    watch: Watch,
    /// Raised while a COM_CHANGE_USER or COM_RESET_CONNECTION waits to be answered here.
    change_user: Signal,
}

impl Tap {
    /// Of a connection that was logged in with these capabilities and this status.
    pub fn new(capabilities: Capabilities, status: u16, change_user: Signal) -> Self {
        Self { watch: Watch::new(capabilities, status), change_user }
    }

    /// The client was logged in again, with this status.
    pub fn logged_in_again(&mut self, status: u16) {
        self.watch.logged_in_again(status);
    }
}

impl relay::Tap for Tap {
    fn on_client(&mut self, bytes: &[u8]) {
        self.watch.on_client(bytes);
    }

    fn on_upstream(&mut self, bytes: &[u8]) {
        self.watch.on_upstream(bytes);
    }

    /// A new login waits for the answers to what came before it, the end for a transaction too.
    fn may_stop(&self) -> bool {
        if self.change_user.is_raised() { self.watch.is_answered() } else { self.watch.state() == Activity::Idle }
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

    fn last_words(&self, reason: &Reason) -> Option<Vec<u8>> {
        let position = self.watch.waiting()?;
        match reason {
            Reason::Stopped | Reason::Cut => Some(connection_lost("rdsgate is shutting down", position)),
            Reason::Broke(Side::Upstream, cause) => Some(connection_lost(&cause.to_string(), position)),
            Reason::Closed(_) | Reason::Broke(Side::Client, _) => None,
        }
    }
}

/// The reply to a command whose connection to the server has been lost.
pub fn connection_lost(cause: &str, position: ReplyPosition) -> Vec<u8> {
    let (code, sqlstate) = code::CONNECTION_LOST;
    // Words that drivers look for, in the place of codes that only they themselves may give.
    let message = format!("Lost connection to MySQL server. Connection to MySQL is not available: {cause}");
    let hint = Some("Connect again. A transaction that was open is rolled back.".into());
    ErrorReport { code, sqlstate, message, detail: None, hint }.encode(position)
}

#[cfg(test)]
mod tests {
    use std::io;

    use database_wire::mysql::{Commands, ServerError};

    use super::*;
    use crate::{engine::relayed::relayed, stream::relay::Tap as _};

    fn tap() -> Tap {
        Tap::new(Capabilities::PROTOCOL_41, 2, Commands::new(tokio::io::empty()).signal())
    }

    fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
        let [a, b, c, ..] = u32::try_from(payload.len()).unwrap().to_le_bytes();
        [&[a, b, c, sequence][..], payload].concat()
    }

    fn broken() -> Reason {
        Reason::Broke(Side::Upstream, io::Error::other("the SSM session has ended: Session idle timeout"))
    }

    /// How drivers and frameworks recognise a lost connection by an ERR: its code, SQLSTATE and text. Of those that go by
    /// the close alone (mysql2, go-sql-driver, mysql_async, Django's ping) nothing is asked.
    type IsDisconnect = fn(u16, &str, &str) -> bool;
    const RULES: [(&str, IsDisconnect); 7] = [
        // `is_disconnect` of dialects/mysql/base.py: PyMySQL, mysqlclient, aiomysql, asyncmy.
        ("SQLAlchemy", |code, _, _| [1927, 2006, 2013, 2014, 2045, 2055, 4031].contains(&code)),
        // The same of dialects/mysql/mysqlconnector.py: of codes only a client's own.
        ("SQLAlchemy with Connector/Python", |_, _, text| text.contains("Connection to MySQL is not available")),
        // `translate_exception` of abstract_mysql_adapter.rb: ConnectionFailed.
        ("Active Record", |code, _, _| [1053, 1927, 2006, 2013, 4031].contains(&code)),
        // `DetectsLostConnections`.
        ("Laravel", |_, _, text| text.contains("Lost connection")),
        // `ProxyConnection.checkException`.
        ("HikariCP", |_, sqlstate, _| sqlstate.starts_with("08")),
        // `SQLError.createSQLException`, `ExceptionFactory`: SQLNonTransientConnectionException.
        ("Connector/J of MySQL and of MariaDB", |_, sqlstate, _| sqlstate.starts_with("08")),
        // `_SQLSTATE_CLASS_EXCEPTION` of errors.py: OperationalError.
        ("Connector/Python", |_, sqlstate, _| sqlstate.starts_with("08")),
    ];

    #[test]
    fn every_driver_takes_our_last_words_for_a_lost_connection() {
        let mut tap = tap();
        tap.on_client(&packet(0, b"\x03select 1"));
        for reason in [broken(), Reason::Cut] {
            let words = tap.last_words(&reason).unwrap();
            assert_eq!(words[3], 1, "the answer to the command");
            let told = ServerError::parse(&words[4..]).unwrap();
            for (driver, is_disconnect) in RULES {
                assert!(is_disconnect(told.code(), &told.sqlstate(), &told.message()), "{driver}: {told}");
            }
        }
        let told = String::from_utf8_lossy(&tap.last_words(&broken()).unwrap()).into_owned();
        assert!(told.contains("Session idle timeout") && told.contains("\nHint: Connect again."), "{told}");
    }

    #[test]
    fn a_client_that_waits_for_nothing_or_has_part_of_an_answer_is_closed() {
        let mut tap = tap();
        for reason in [broken(), Reason::Stopped, Reason::Cut] {
            assert!(tap.last_words(&reason).is_none(), "idle: {reason:?}");
        }
        tap.on_client(&packet(0, b"\x03select 1"));
        for (n, payload) in (1..).zip([&b"\x01"[..], b"\x03def", b"\xfe\0\0\x02\0", b"\x011"]) {
            for bytes in packet(n, payload).chunks(2) {
                tap.on_upstream(bytes);
                for reason in [broken(), Reason::Cut] {
                    assert!(tap.last_words(&reason).is_none(), "within the answer: {reason:?}");
                }
            }
        }
        tap.on_upstream(&packet(5, b"\xfe\0\0\x02\0"));
        assert!(tap.last_words(&broken()).is_none(), "answered");
        for reason in [Reason::Closed(Side::Upstream), Reason::Closed(Side::Client)] {
            tap.on_client(&packet(0, b"\x03select 1"));
            assert!(tap.last_words(&reason).is_none(), "{reason:?}");
        }
    }

    #[tokio::test]
    async fn a_client_never_finds_our_words_inside_a_packet() {
        let column = b"\x03def\0\0\0\x011\0\x0c\x3f\0\x01\0\0\0\x08\x81\0\0\0\0";
        let packets = [
            packet(1, b"\x01"),
            packet(2, column),
            packet(3, b"\xfe\0\0\x02\0"),
            packet(4, &[&b"\x50"[..], &[b'x'; 80]].concat()),
            packet(5, b"\x01x"),
            packet(6, b"\xfe\0\0\x02\0"),
        ];
        let answer = packets.concat();
        for broken in [false, true] {
            for room in 1..answer.len() {
                let mut tap = tap();
                tap.on_client(&packet(0, b"\x03select"));
                let heard = relayed(tap, &answer, room, broken).await;
                let (written, behind) = heard.split_at(room);
                assert_eq!(written, &answer[..room]);
                assert!(behind.is_empty(), "cut at {room}");
            }
        }
    }
}
