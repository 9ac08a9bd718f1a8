//! ErrorResponse, both ways: reports of ours, and those of a server, passed on with a HINT; and notices of ours.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | `E`, or `N` for a NoticeResponse |
//! | 1 | 4 | length, counting itself |
//! | 5 | | field code (one byte) and value (a C string), again and again |
//! | last | 1 | a NUL |
//!
//! Field codes: <https://www.postgresql.org/docs/18/protocol-error-fields.html>.

use std::{borrow::Cow, fmt};

use bytes::Bytes;

use super::{
    codec::{Reader, put_message},
    message::tag,
};
use safe_display::printable;

/// The longest ErrorResponse body in bytes, length field included: beyond it, libpq takes an error during login for
/// one of a server older than 7.4 (`MAX_ERRLEN` in `fe-connect.c`).
pub(super) const MAX_ERROR_LENGTH: usize = 30_000;
/// The longest text of ours in one field, in bytes; what is longer is cut. Three of them fit [`MAX_ERROR_LENGTH`].
const MAX_FIELD: usize = 8_000;

mod field {
    pub(super) const SEVERITY: u8 = b'S';
    pub(super) const SEVERITY_UNTRANSLATED: u8 = b'V';
    pub(super) const SQLSTATE: u8 = b'C';
    pub(super) const MESSAGE: u8 = b'M';
    pub(super) const DETAIL: u8 = b'D';
    pub(super) const HINT: u8 = b'H';
    pub(super) const ROUTINE: u8 = b'R';
}

/// An error that we tell a client, as PostgreSQL would. Always FATAL: the connection ends with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorReport {
    /// Five characters; see [`sqlstate`](super::error::sqlstate).
    pub sqlstate: &'static str,
    /// The event, in one line.
    pub message: String,
    /// The facts. May have several lines.
    pub detail: Option<String>,
    /// The remedy. May have several lines.
    pub hint: Option<String>,
}

impl ErrorReport {
    /// The message. What controls a terminal is escaped, but for the newlines of DETAIL and HINT; what goes beyond 8,000
    /// bytes is cut.
    pub fn encode(&self) -> Vec<u8> {
        let Self { sqlstate, message, detail, hint } = self;
        encode_texts(tag::ERROR_RESPONSE, "FATAL", [sqlstate, message], [detail.as_deref(), hint.as_deref()])
    }
}

/// A notice of ours to a client that is logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The event, in one line.
    pub message: String,
    /// The facts.
    pub detail: String,
    /// The remedy.
    pub hint: String,
}

impl Notice {
    /// The message, cut as an error's is. Its SQLSTATE is `00000` (`successful_completion`), as PostgreSQL's own NOTICE
    /// has it.
    pub fn encode(&self) -> Vec<u8> {
        let Self { message, detail, hint } = self;
        encode_texts(tag::NOTICE_RESPONSE, "NOTICE", ["00000", message], [Some(detail), Some(hint)])
    }
}

fn encode_texts(tag: u8, severity: &str, [sqlstate, message]: [&str; 2], more: [Option<&str>; 2]) -> Vec<u8> {
    let message = printable::line(message);
    let [detail, hint] = more.map(|text| text.map(printable::lines));
    let fields = [
        (field::SEVERITY, Some(severity)),
        (field::SEVERITY_UNTRANSLATED, Some(severity)),
        (field::SQLSTATE, Some(sqlstate)),
        (field::MESSAGE, Some(&*message)),
        (field::DETAIL, detail.as_deref()),
        (field::HINT, hint.as_deref()),
    ];
    let fields = fields.into_iter().filter_map(|(code, text)| {
        let text = text?;
        let end = text.floor_char_boundary(MAX_FIELD);
        Some((code, text.get(..end).unwrap_or(text).as_bytes()))
    });
    encode(tag, fields)
}

/// A server's ErrorResponse: its fields, in order, in the server's encoding.
///
/// Shown as severity, SQLSTATE and message on one line, control characters escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerError {
    fields: Vec<(u8, Bytes)>,
    /// The database that the refused login named.
    database: Option<String>,
}

impl ServerError {
    /// Reads a message body; `None` when it is not laid out as one or has neither SQLSTATE nor message.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let mut fields = Vec::new();
        loop {
            match reader.byte()? {
                0 => break,
                code => fields.push((code, Bytes::copy_from_slice(reader.cstr()?))),
            }
        }
        let error = Self { fields, database: None };
        (reader.is_empty() && error.field(field::SQLSTATE).is_some() && error.field(field::MESSAGE).is_some())
            .then_some(error)
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

    fn field(&self, code: u8) -> Option<&[u8]> {
        self.fields.iter().find(|(c, _)| *c == code).map(|(_, text)| &text[..])
    }

    fn text(&self, code: u8) -> Option<String> {
        self.field(code).map(|text| String::from_utf8_lossy(text).into_owned())
    }

    /// The SQLSTATE, as the server sent it.
    pub fn sqlstate(&self) -> String {
        self.text(field::SQLSTATE).unwrap_or_default()
    }

    /// The message.
    pub fn message(&self) -> String {
        self.text(field::MESSAGE).unwrap_or_default()
    }

    /// The function of the server's source that reported it: what tells apart errors with the same SQLSTATE.
    pub fn routine(&self) -> Option<&[u8]> {
        self.field(field::ROUTINE)
    }

    /// The message to pass on: all fields as they came, with `remedy` behind the server's message, and `detail` and `hint` behind
    /// the server's own, if any. Characters that control a terminal are escaped, except newlines. A text that would make the
    /// message too long for a client is left out, the detail first.
    pub fn encode_with(&self, remedy: Option<&str>, detail: Option<&str>, hint: Option<&str>) -> Vec<u8> {
        let mut error = self.clone();
        for (_, text) in &mut error.fields {
            if let Cow::Owned(escaped) = printable::bytes(text) {
                *text = escaped.into();
            }
        }
        error.append(field::MESSAGE, b" ", remedy);
        error.append(field::HINT, b"\n", hint);
        error.append(field::DETAIL, b"\n", detail);
        encode(tag::ERROR_RESPONSE, error.fields.iter().map(|(code, text)| (*code, &text[..])))
    }

    fn append(&mut self, code: u8, separator: &[u8], text: Option<&str>) {
        let Some(text) = text else { return };
        let text = printable::lines(text);
        let length: usize = self.fields.iter().map(|(_, text)| text.len() + 2).sum();
        if length + text.len() + 8 > MAX_ERROR_LENGTH {
            return;
        }
        match self.fields.iter_mut().find(|(c, _)| *c == code) {
            Some((_, theirs)) => *theirs = [theirs, separator, text.as_bytes()].concat().into(),
            None => self.fields.push((code, Bytes::copy_from_slice(text.as_bytes()))),
        }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = self.text(field::SEVERITY_UNTRANSLATED).or_else(|| self.text(field::SEVERITY));
        let severity = severity.as_deref().unwrap_or("FATAL");
        f.write_str(&printable::line(&format!("{severity} {}: {}", self.sqlstate(), self.message())))
    }
}

fn encode<'a>(tag: u8, fields: impl Iterator<Item = (u8, &'a [u8])>) -> Vec<u8> {
    let mut out = Vec::new();
    put_message::<std::convert::Infallible>(&mut out, Some(tag), |out| {
        for (code, text) in fields {
            out.push(code);
            out.extend(text.iter().filter(|&&b| b != 0));
            out.push(0);
        }
        out.push(0);
        Ok(())
    })
    .unwrap_or_else(|never| match never {});
    out
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use postgres_protocol::message::backend::{ErrorField, Message};
    use tokio_postgres::fallible_iterator::FallibleIterator;

    use super::*;

    /// From PostgreSQL 15.18.
    const WRONG_PASSWORD: &[u8] = b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user \"app_user\"\0\
        Fauth.c\0L334\0Rauth_failed\0\0";

    /// The fields as another implementation reads them.
    fn fields(message: &[u8]) -> Vec<(u8, String)> {
        let fields = match Message::parse(&mut BytesMut::from(message)).unwrap().unwrap() {
            Message::ErrorResponse(body) => body.fields().map(|field| Ok(owned(&field))).collect(),
            Message::NoticeResponse(body) => body.fields().map(|field| Ok(owned(&field))).collect(),
            _ => panic!("another message"),
        };
        fields.unwrap()
    }

    fn owned(field: &ErrorField<'_>) -> (u8, String) {
        (field.type_(), String::from_utf8(field.value_bytes().to_vec()).unwrap())
    }

    fn report() -> ErrorReport {
        ErrorReport { sqlstate: "08001", message: "no way".into(), detail: None, hint: None }
    }

    #[test]
    fn another_implementation_reads_our_reports() {
        let whole = ErrorReport { detail: Some("two\nlines, zoë".into()), hint: Some("do this".into()), ..report() };
        let expected = [
            (b'S', "FATAL"),
            (b'V', "FATAL"),
            (b'C', "08001"),
            (b'M', "no way"),
            (b'D', "two\nlines, zoë"),
            (b'H', "do this"),
        ];
        assert_eq!(fields(&whole.encode()), expected.map(|(code, text)| (code, text.to_owned())));
        assert_eq!(fields(&report().encode()).len(), 4, "what is not said is not there");
    }

    #[test]
    fn another_implementation_reads_our_notices() {
        let notice = Notice { message: "as app".into(), detail: "sent x".into(), hint: "name it".into() }.encode();
        assert_eq!(notice[0], b'N');
        let expected = [
            (b'S', "NOTICE"),
            (b'V', "NOTICE"),
            (b'C', "00000"),
            (b'M', "as app"),
            (b'D', "sent x"),
            (b'H', "name it"),
        ];
        assert_eq!(fields(&notice), expected.map(|(code, text)| (code, text.to_owned())));
    }

    #[test]
    fn a_report_fits_what_clients_read_and_holds_no_nul() {
        let long = "é".repeat(20_000);
        let report = ErrorReport {
            sqlstate: "08001",
            message: format!("a\0b{long}"),
            detail: Some(long.clone()),
            hint: Some(long),
        };
        let message = report.encode();
        assert!(message.len() < MAX_ERROR_LENGTH, "{}", message.len());
        let fields = fields(&message);
        assert!(fields[3].1.starts_with(r"a\u{0}bé") && fields[3].1.ends_with('é'));
        assert_eq!(fields.len(), 6);
    }

    #[test]
    fn a_servers_error_is_read_and_passed_on_as_it_came() {
        let error = ServerError::parse(WRONG_PASSWORD).unwrap();
        assert_eq!(error.sqlstate(), "28P01");
        assert_eq!(error.message(), "password authentication failed for user \"app_user\"");
        assert_eq!(error.routine(), Some(&b"auth_failed"[..]));
        assert_eq!(error.to_string(), "FATAL 28P01: password authentication failed for user \"app_user\"");
        assert_eq!(error.encode_with(None, None, None)[5..], *WRONG_PASSWORD);
    }

    #[test]
    fn remedy_hint_and_detail_are_added_behind_the_servers_own() {
        let error = ServerError::parse(WRONG_PASSWORD).unwrap();
        let added = fields(&error.encode_with(None, Some("as arn:…"), Some("grant")));
        assert_eq!(added[..7], fields(&error.encode_with(None, None, None))[..]);
        assert_eq!(added[7..], [(b'H', "grant".to_owned()), (b'D', "as arn:…".to_owned())]);
        let error = ServerError::parse(b"C53300\0Mfull\0Hwait\0\0").unwrap();
        let added = fields(&error.encode_with(Some("(run this)"), None, Some("or grow")));
        assert_eq!(added[1], (b'M', "full (run this)".to_owned()));
        assert_eq!(added[2], (b'H', "wait\nor grow".to_owned()));
    }

    #[test]
    fn an_error_is_not_made_longer_than_clients_read() {
        let body = [b"C53300\0M", &vec![b'x'; MAX_ERROR_LENGTH - 100][..], b"\0\0"].concat();
        let error = ServerError::parse(&body).unwrap();
        assert_eq!(
            error.encode_with(Some(&"r".repeat(200)), Some(&"d".repeat(200)), Some(&"h".repeat(200)))[5..],
            body
        );
    }

    #[test]
    fn malformed_message_is_not_taken_for_an_error_response() {
        for end in 0..WRONG_PASSWORD.len() {
            assert_eq!(ServerError::parse(&WRONG_PASSWORD[..end]), None, "cut at {end}");
        }
        for body in [&b"\0"[..], b"C28000\0\0", b"Mtext\0\0", b"C28000\0Mtext\0\0\0"] {
            assert_eq!(ServerError::parse(body), None, "{body:?}");
        }
    }

    #[test]
    fn bytes_of_a_server_cannot_play_with_a_terminal_or_a_log() {
        let error = ServerError::parse(b"C28000\0M\x1b[2J\xff\nFATAL\0\0").unwrap();
        assert_eq!(error.to_string(), "FATAL 28000: \\u{1b}[2J\u{fffd}\\nFATAL");
        let passed_on = error.encode_with(None, Some("a\u{202e}"), None);
        assert!(!passed_on[5..].iter().any(|byte| (1..0x20).contains(byte) && *byte != b'\n'), "{passed_on:?}");
        assert!(!passed_on.windows(3).any(|bytes| bytes == "\u{202e}".as_bytes()));
        let text = "\u{1b}[2J\u{9b}\r\u{2067}\n";
        let report =
            ErrorReport { message: text.into(), detail: Some(text.into()), hint: Some(text.into()), ..report() };
        for (code, text) in fields(&report.encode()) {
            assert!(!text.contains(|c| printable::controls(c) && (c != '\n' || code == b'M')), "{text:?}");
        }
    }
}
