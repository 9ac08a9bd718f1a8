//! ERR packets, both ways: reports of ours, and those of a server, passed on with a hint.
//!
//! | size | field |
//! |---|---|
//! | 1 | 0xff |
//! | 2 | error code |
//! | 6 | `#` and SQLSTATE; not before the client's response |
//! | | message, to the end |
//!
//! (<https://dev.mysql.com/doc/dev/mysql-server/8.4.9/page_protocol_basic_err_packet.html>)

use std::fmt;

use bytes::Bytes;

use super::{
    codec::{self, Reader},
    message,
};
use safe_display::printable;

/// The longest message in bytes: clients keep 512 with the NUL (`MYSQL_ERRMSG_SIZE` in `include/mysql_com.h`, `mysql-8.4.9`).
pub const MAX_MESSAGE: usize = 511;
/// The longest message in place of a greeting. MariaDB's client prepends 130 bytes of its own, a warning that text before TLS
/// is not authenticated (`client.c`, since 10.11.7).
const MAX_EARLY_MESSAGE: usize = 380;
/// The longest hint of ours in such a message, in bytes.
const MAX_HINT: usize = 240;
/// Less of a text than this says nothing.
const MIN_TEXT: usize = 40;

/// Where an ERR goes in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyPosition {
    sequence: u8,
    /// The client has said that it knows SQLSTATEs.
    sqlstate: bool,
}

impl ReplyPosition {
    /// In place of the greeting.
    pub const GREETING: Self = Self { sequence: 0, sqlstate: false };
    /// The answer to the client's response, when that could not be read.
    pub const RESPONSE: Self = Self { sequence: 2, sqlstate: true };
    /// The same, for a client from before 4.1.
    pub(super) const OLD_RESPONSE: Self = Self { sequence: 2, sqlstate: false };
    /// The answer to a command.
    pub const COMMAND: Self = Self { sequence: 1, sqlstate: true };

    /// The same place for a client that sent an SSLRequest first.
    #[must_use]
    pub fn behind_ssl_request(self) -> Self {
        Self { sequence: self.sequence.wrapping_add(1), ..self }
    }

    fn max_message(self) -> usize {
        if self == Self::GREETING { MAX_EARLY_MESSAGE } else { MAX_MESSAGE }
    }

    pub(super) fn answer(sequence: u8) -> Self {
        Self { sequence, sqlstate: true }
    }
}

/// An error that we tell a client, as MySQL would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorReport {
    /// See [`code`](super::error::code).
    pub code: u16,
    /// Five characters.
    pub sqlstate: &'static str,
    /// The event, in one line.
    pub message: String,
    /// The facts; the first to be left out where there is no room.
    pub detail: Option<String>,
    /// The remedy.
    pub hint: Option<String>,
}

impl ErrorReport {
    /// The packet. Its message holds message, hint and detail, a line each, in which what controls a terminal is escaped;
    /// what goes beyond 511 bytes is cut.
    pub fn encode(&self, position: ReplyPosition) -> Vec<u8> {
        let [hint, detail] = [&self.hint, &self.detail].map(|text| text.as_deref().map(printable::lines));
        let hint = hint.map(|hint| cut(&hint, MAX_HINT));
        let max = position.max_message();
        let room = max - hint.as_ref().map_or(0, |hint| hint.len() + HINT.len());
        let mut text = cut(&printable::line(&self.message), room);
        add(&mut text, HINT, hint.as_deref(), max);
        add(&mut text, "\n", detail.as_deref(), max);
        encode(position, self.code, self.sqlstate.as_bytes(), text.as_bytes())
    }
}

const HINT: &str = "\nHint: ";

/// Adds a text behind `separator`, cut to the room that there is.
fn add(to: &mut String, separator: &str, text: Option<&str>, max: usize) {
    let Some(text) = text else { return };
    let room = max.saturating_sub(to.len() + separator.len());
    if room >= text.len().min(MIN_TEXT) {
        to.push_str(separator);
        to.push_str(&cut(text, room));
    }
}

/// As much of a text as fits, ending in an ellipsis if that is not all.
fn cut(text: &str, room: usize) -> String {
    if text.len() <= room {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(room.saturating_sub('…'.len_utf8()));
    format!("{}…", text.get(..end).unwrap_or_default())
}

fn encode(position: ReplyPosition, code: u16, sqlstate: &[u8], message: &[u8]) -> Vec<u8> {
    let mut payload = vec![message::ERR];
    payload.extend_from_slice(&code.to_le_bytes());
    if position.sqlstate {
        payload.push(b'#');
        payload.extend_from_slice(sqlstate);
    }
    payload.extend_from_slice(message);
    codec::packet(position.sequence, &payload)
}

/// A server's ERR packet, in the server's encoding.
///
/// Shown as code, SQLSTATE and message on one line, control characters escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerError {
    code: u16,
    sqlstate: Option<[u8; 5]>,
    message: Bytes,
    /// The database that the refused login named.
    database: Option<String>,
}

impl ServerError {
    /// Reads a payload; `None` when it is not one.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(payload);
        reader.byte().filter(|&b| b == message::ERR)?;
        let code = reader.u16()?;
        let mut marked = reader.clone();
        let sqlstate = marked.byte().filter(|&b| b == b'#').and_then(|_| marked.array());
        let message = if sqlstate.is_some() { marked.rest() } else { reader.rest() };
        Some(Self { code, sqlstate, message: Bytes::copy_from_slice(message), database: None })
    }

    /// The same, as the answer to a login that named this database.
    #[must_use]
    pub fn of_database(self, database: Option<&[u8]>) -> Self {
        Self { database: database.map(|database| String::from_utf8_lossy(database).into_owned()), ..self }
    }

    /// The database that the refused login named; `None` where it named none.
    pub fn database(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// The error code.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The SQLSTATE; `HY000`, which says nothing, where the server sends none.
    pub fn sqlstate(&self) -> String {
        String::from_utf8_lossy(&self.sqlstate.unwrap_or(*b"HY000")).into_owned()
    }

    /// The message.
    pub fn message(&self) -> String {
        String::from_utf8_lossy(&self.message).into_owned()
    }

    /// The packet to pass on, with `hint` behind the server's message as far as there is room. What controls a terminal is
    /// escaped in both, but for newlines.
    pub fn encode_with(&self, position: ReplyPosition, hint: Option<&str>) -> Vec<u8> {
        let sqlstate = self.sqlstate.unwrap_or(*b"HY000");
        let message = printable::bytes(&self.message);
        let hint = hint.map(printable::lines);
        let max = position.max_message();
        let Some(hint) = hint.filter(|hint| message.len() + HINT.len() + hint.len().min(MIN_TEXT) <= max) else {
            return encode(position, self.code, &sqlstate, &message);
        };
        let hint = cut(&hint, max - message.len() - HINT.len());
        encode(position, self.code, &sqlstate, &[&message, HINT.as_bytes(), hint.as_bytes()].concat())
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable::line(&format!("ERROR {} ({}): {}", self.code, self.sqlstate(), self.message())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From MySQL, after the client's response.
    const DENIED: &[u8] = b"\xff\x15\x04#28000Access denied for user 'app_user'@'10.0.0.7' (using password: YES)";

    fn report(message: &str, detail: Option<&str>, hint: Option<&str>) -> ErrorReport {
        let (detail, hint) = (detail.map(Into::into), hint.map(Into::into));
        ErrorReport { code: 2003, sqlstate: "HY000", message: message.into(), detail, hint }
    }

    fn text(packet: &[u8]) -> String {
        ServerError::parse(&packet[4..]).unwrap().message()
    }

    #[test]
    fn a_report_says_cause_hint_and_facts() {
        let packet = report("no way", Some("as root"), Some("try harder")).encode(ReplyPosition::COMMAND);
        assert_eq!(packet, b"\x28\0\0\x01\xff\xd3\x07#HY000no way\nHint: try harder\nas root");
        let packet = report("no way", None, None).encode(ReplyPosition::GREETING);
        assert_eq!(packet, b"\x09\0\0\0\xff\xd3\x07no way", "nothing was agreed on before the greeting");
    }

    #[test]
    fn a_report_fits_what_clients_keep() {
        let long = "é".repeat(400);
        for (message, hint, detail) in [
            (&*long, Some(&*long), Some(&*long)),
            (&*long, None, Some(&*long)),
            ("short", Some(&*long), Some(&*long)),
            ("short", None, Some(&*long)),
        ] {
            let text = text(&report(message, detail, hint).encode(ReplyPosition::RESPONSE));
            assert!((MAX_MESSAGE - 40..=MAX_MESSAGE).contains(&text.len()), "{}", text.len());
            assert!(text.ends_with('…'));
            assert_eq!(text.contains("\nHint: é"), hint.is_some());
        }
        let text = text(&report("short", Some(&long), Some("hint")).encode(ReplyPosition::RESPONSE));
        assert!(text.starts_with("short\nHint: hint\né"));
    }

    #[test]
    fn a_servers_error_is_read_and_passed_on_as_it_came() {
        let error = ServerError::parse(DENIED).unwrap();
        assert_eq!((error.code(), &*error.sqlstate()), (1045, "28000"));
        assert_eq!(
            error.to_string(),
            "ERROR 1045 (28000): Access denied for user 'app_user'@'10.0.0.7' (using password: YES)"
        );
        assert_eq!(error.encode_with(ReplyPosition::answer(4), None), codec::packet(4, DENIED));
    }

    #[test]
    fn a_hint_is_added_where_there_is_room() {
        let error = ServerError::parse(DENIED).unwrap();
        let told = text(&error.encode_with(ReplyPosition::RESPONSE, Some("grant")));
        assert_eq!(told, format!("{}\nHint: grant", error.message()));
        let told = text(&error.encode_with(ReplyPosition::RESPONSE, Some(&"x".repeat(600))));
        assert_eq!((told.len(), told.ends_with('…')), (MAX_MESSAGE, true));
        let full = ServerError::parse(&[&DENIED[..9], &[b'm'; 490]].concat()).unwrap();
        assert_eq!(text(&full.encode_with(ReplyPosition::RESPONSE, Some(&"x".repeat(60)))).len(), 490);
    }

    #[test]
    fn an_error_without_sqlstate_gets_the_general_one_when_the_client_wants_one() {
        let error = ServerError::parse(b"\xff\x10\x04Too many connections").unwrap();
        assert_eq!(error.encode_with(ReplyPosition::GREETING, None), b"\x17\0\0\0\xff\x10\x04Too many connections");
        assert_eq!(
            error.encode_with(ReplyPosition::RESPONSE, None),
            b"\x1d\0\0\x02\xff\x10\x04#HY000Too many connections"
        );
    }

    #[test]
    fn malformed_packet_is_not_taken_for_an_error() {
        for end in 0..3 {
            assert_eq!(ServerError::parse(&DENIED[..end]), None, "cut at {end}");
        }
        assert_eq!(ServerError::parse(b"\0\0\0\x02\0\0\0"), None);
        // Marker or message: a hash and fewer than five characters is the latter.
        assert_eq!(ServerError::parse(b"\xff\x15\x04#2800").unwrap().message(), "#2800");
    }

    #[test]
    fn bytes_of_a_server_cannot_play_with_a_terminal_or_a_log() {
        let error = ServerError::parse(b"\xff\x15\x04#28000\x1b[2J\xff\nERROR").unwrap();
        assert_eq!(error.to_string(), "ERROR 1045 (28000): \\u{1b}[2J\u{fffd}\\nERROR");
    }
}
