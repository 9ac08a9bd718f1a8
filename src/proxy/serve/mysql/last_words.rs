//! What a client hears of an end that is not its own.
//!
//! Drivers and pools decide from what they meet whether a connection is lost: all of them by a close, most by no error that a
//! server sends. So an ERR goes out only as the answer to a command of which nothing has been answered, and it is one that
//! they take for a lost connection; everywhere else the connection is closed, as the server would have closed it.

use crate::{
    connect,
    mysql::{self, ErrorReport, Turn, Watch, error::code},
    proxy::error::Error,
    stream::relay::{Reason, Side},
};

/// The ERR that goes to the client before it is closed; `None` where the close says it all.
pub(super) fn last_words(reason: &Reason, watch: &Watch) -> Option<Vec<u8>> {
    let turn = watch.waiting()?;
    match reason {
        Reason::Stopped | Reason::Cut => Some(lost("rdsgate is shutting down", turn)),
        Reason::Broke(Side::Upstream, cause) => Some(lost(&cause.to_string(), turn)),
        Reason::Closed(_) | Reason::Broke(Side::Client, _) => None,
    }
}

/// The answer to a command that the server has not answered.
fn lost(cause: &str, turn: Turn) -> Vec<u8> {
    let (code, sqlstate) = code::CONNECTION_LOST;
    // Words that drivers look for, in the place of codes that only they themselves may give.
    let message = format!("Lost connection to MySQL server. Connection to MySQL is not available: {cause}");
    let hint = Some("Connect again. A transaction that was open is rolled back.".into());
    ErrorReport { code, sqlstate, message, detail: None, hint }.encode(turn)
}

/// The same for a command that was carried out here, where the error is that the connection has broken.
pub(super) fn lost_in_command(error: &Error, turn: Turn) -> Option<Vec<u8>> {
    let broken = matches!(
        error,
        Error::StartupTimeout(_)
            | Error::Connect(
                connect::Error::Stream(_)
                    | connect::Error::MysqlLogin(mysql::Error::Io(_) | mysql::Error::Closed { .. })
                    | connect::Error::Timeout { .. }
            )
    );
    broken.then(|| lost(&error.message(), turn))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::mysql::{Capabilities, ServerError};

    fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
        [&[u8::try_from(payload.len()).unwrap(), 0, 0, sequence][..], payload].concat()
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
        let mut watch = Watch::new(Capabilities::PROTOCOL_41, 2);
        watch.on_client(&packet(0, b"\x03select 1"));
        for reason in [broken(), Reason::Cut] {
            let words = last_words(&reason, &watch).unwrap();
            assert_eq!(words[3], 1, "the answer to the command");
            let told = ServerError::parse(&words[4..]).unwrap();
            for (driver, is_disconnect) in RULES {
                assert!(is_disconnect(told.code(), &told.sqlstate(), &told.message()), "{driver}: {told}");
            }
        }
        let told = String::from_utf8_lossy(&last_words(&broken(), &watch).unwrap()).into_owned();
        assert!(told.contains("Session idle timeout") && told.contains("\nHint: Connect again."), "{told}");
    }

    #[test]
    fn a_client_that_waits_for_nothing_or_has_part_of_an_answer_is_closed() {
        let mut watch = Watch::new(Capabilities::PROTOCOL_41, 2);
        for reason in [broken(), Reason::Stopped, Reason::Cut] {
            assert!(last_words(&reason, &watch).is_none(), "idle: {reason:?}");
        }
        watch.on_client(&packet(0, b"\x03select 1"));
        for (n, payload) in (1..).zip([&b"\x01"[..], b"\x03def", b"\xfe\0\0\x02\0", b"\x011"]) {
            for bytes in packet(n, payload).chunks(2) {
                watch.on_upstream(bytes);
                for reason in [broken(), Reason::Cut] {
                    assert!(last_words(&reason, &watch).is_none(), "within the answer: {reason:?}");
                }
            }
        }
        watch.on_upstream(&packet(5, b"\xfe\0\0\x02\0"));
        assert!(last_words(&broken(), &watch).is_none(), "answered");
        for reason in [Reason::Closed(Side::Upstream), Reason::Closed(Side::Client)] {
            watch.on_client(&packet(0, b"\x03select 1"));
            assert!(last_words(&reason, &watch).is_none(), "{reason:?}");
        }
    }
}
