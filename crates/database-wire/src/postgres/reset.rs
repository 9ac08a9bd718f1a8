//! Takes everything back that a client has changed in its session, so that the connection can serve another client.
//!
//! [`DISCARD ALL`] leaves what the startup of the session has set. It does not say whether anything is left that it does not know,
//! so the session is compared with its greeting afterwards: the settings that the server reports, and the role.
//!
//! [`DISCARD ALL`]: https://www.postgresql.org/docs/18/sql-discard.html

use std::fmt::Write as _;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::{
    cancel::CancelKey,
    codec,
    error::Error,
    login::{Conversation, LoggedIn, server_error},
    message::{self, tag},
};
use crate::c_string::put_cstr;

const DISCARD: &str = "DISCARD ALL";
/// Messages that are read for the two replies. `DISCARD ALL` has one for each setting that it takes back.
const MESSAGES: usize = 200;

/// Resets the session of a connection that is idle, and was logged in as `logged_in` says. Returns whether it is as it was then.
/// The caller sets the deadline. After an error, or if the session is not as it was, the connection must not be used again.
///
/// # Errors
/// [`Error::Refused`] by the server, and whatever breaks the protocol or the connection.
pub async fn reset<S: AsyncRead + AsyncWrite + Unpin>(upstream: &mut S, logged_in: &LoggedIn) -> Result<bool, Error> {
    const WAITING_FOR: &str = "the reply to DISCARD ALL";
    let Some(comparison) = comparison(logged_in) else { return Ok(false) };
    let mut messages = Vec::new();
    for sql in [DISCARD, &comparison] {
        codec::put_message(&mut messages, Some(b'Q'), |out| put_cstr(out, sql.as_bytes(), "query"))?;
    }
    let broke = |error| Error::broke(error, WAITING_FOR);
    upstream.write_all(&messages).await.map_err(broke)?;
    upstream.flush().await.map_err(broke)?;
    let mut conversation = Conversation { upstream, received: BytesMut::new(), greeting: BytesMut::new() };
    let (mut is_same, mut replies) = (false, 0);
    for _ in 0..MESSAGES {
        let message = conversation.next(WAITING_FOR).await?;
        match (message.tag, message.body()) {
            (tag::READY_FOR_QUERY, b"I") => replies += 1,
            (tag::ERROR_RESPONSE, body) => return Err(Error::Refused(server_error(body)?)),
            // One row of one value.
            (b'D', row) => is_same = row == b"\0\x01\0\0\0\x01t",
            // RowDescription, CommandComplete, and the settings that were taken back.
            (b'T' | b'C' | tag::PARAMETER_STATUS, _) => {}
            // A notice or a notification is for the client that has left.
            _ => return Ok(false),
        }
        if replies == 2 {
            return Ok(is_same && conversation.received.is_empty());
        }
    }
    Ok(false)
}

/// A query for whether the settings that the server reports are those of the greeting, and the role is that of the login. All names
/// are qualified, because the search path may name a schema in which other users can create functions. `None` for a value that is not
/// easily quoted.
fn comparison(logged_in: &LoggedIn) -> Option<String> {
    let mut sql = "SELECT pg_catalog.current_setting('role') OPERATOR(pg_catalog.=) 'none'".to_owned();
    for (name, value) in logged_in.parameters() {
        let (name, value) = (quoted(name)?, quoted(value)?);
        let setting = format!("pg_catalog.current_setting({name}, true)");
        let _ = write!(sql, " AND {setting} OPERATOR(pg_catalog.=) {value}");
    }
    Some(sql)
}

/// A literal that reads the same whatever `standard_conforming_strings` is, in any encoding that has ASCII.
fn quoted(text: &[u8]) -> Option<String> {
    let text = str::from_utf8(text).ok().filter(|text| text.is_ascii() && !text.contains('\\'))?;
    Some(format!("'{}'", text.replace('\'', "''")))
}

/// A cancel key that a client was given, and the one of the server that it stands for.
#[derive(Debug, Clone)]
pub struct ReplacedKey {
    /// The client's.
    pub given: CancelKey,
    /// The server's.
    pub servers: CancelKey,
}

impl ReplacedKey {
    /// The server's own key, which the client was given.
    pub fn unchanged(key: CancelKey) -> Self {
        Self { given: key.clone(), servers: key }
    }
}

impl LoggedIn {
    /// The settings that the server reported at the login, by name.
    fn parameters(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        messages(&self.greeting)
            .filter(|(tag, _)| *tag == tag::PARAMETER_STATUS)
            .filter_map(|(_, range)| message::parameter_status(self.greeting.get(range)?).ok())
    }

    /// Gives the greeting another cancel key, of the same process. Returns the server's own. `None` if it has none.
    pub fn replace_cancel_key(&mut self) -> Option<ReplacedKey> {
        let servers = self.cancel_key.clone()?;
        let given = servers.with_another_secret();
        let mut greeting = BytesMut::from(&self.greeting[..]);
        let keys = messages(&self.greeting).filter(|(tag, _)| *tag == tag::BACKEND_KEY_DATA).map(|(_, range)| range);
        for range in keys {
            let body = greeting.get_mut(range).filter(|body| body.len() == given.body().len())?;
            body.copy_from_slice(&given.body());
        }
        self.greeting = greeting.freeze();
        self.cancel_key = Some(given.clone());
        Some(ReplacedKey { given, servers })
    }
}

/// The tag of each message, and where its body is.
fn messages(bytes: &[u8]) -> impl Iterator<Item = (u8, std::ops::Range<usize>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let (&[tag, ref length @ ..], _) = bytes.get(at..)?.split_first_chunk::<5>()?;
        let end = at.checked_add(1)?.checked_add(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        let body = at + 5..end;
        bytes.get(body.clone())?;
        at = end;
        Some((tag, body))
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, duplex};

    use super::*;
    use crate::postgres::{CancelRequest, Mode, ProtocolVersion, Startup};

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        [&[tag][..], &u32::try_from(body.len() + 4).unwrap().to_be_bytes(), body].concat()
    }

    const READY: &[u8] = b"Z\0\0\0\x05I";

    async fn logged_in(parameters: &[&[u8]]) -> LoggedIn {
        let (mut ours, mut theirs) = duplex(4096);
        let mut greeting = message(b'R', &[0, 0, 0, 3]);
        greeting.extend(message(b'R', &[0; 4]));
        for parameter in parameters {
            greeting.extend(message(b'S', parameter));
        }
        greeting.extend(message(b'K', &[0, 0, 0, 7, 1, 2, 3, 4]));
        greeting.extend(READY);
        theirs.write_all(&greeting).await.unwrap();
        let mut startup = Startup::new(ProtocolVersion { major: 3, minor: 0 });
        startup.set(b"user", b"u").unwrap();
        crate::postgres::login(&mut ours, &startup, &safe_display::Secret::new("t".into()), Mode::Pipelined)
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn session_is_reusable_only_if_the_server_finds_it_as_it_was() {
        let same = message(b'D', b"\0\x01\0\0\0\x01t");
        let done = message(b'C', b"DISCARD ALL\0");
        let setting = message(b'S', b"TimeZone\0UTC\0");
        let error = message(b'E', b"SERROR\0VERROR\0C25001\0Mno\0\0");
        for (replies, expected) in [
            (vec![&done[..], READY, &same, READY], Some(true)),
            (vec![&setting[..], &done, READY, &same, READY], Some(true)),
            (vec![&done[..], READY, &message(b'D', b"\0\x01\0\0\0\x01f"), READY], Some(false)),
            (vec![&done[..], READY, &message(b'D', b"\0\x01\xff\xff\xff\xff"), READY], Some(false)),
            (vec![&done[..], READY, READY], Some(false)),
            (vec![&message(b'A', b"\0\0\0\x01a\0b\0")[..], &done, READY, &same, READY], Some(false)),
            (vec![&message(b'N', b"SWARNING\0\0")[..], &done, READY, &same, READY], Some(false)),
            (vec![&done[..], READY, &same, READY, b"A"], Some(false)),
            (vec![&error[..], READY, &same, READY], None),
            (vec![&done[..], b"Z\0\0\0\x05T", &same, READY], Some(false)),
            (vec![&done[..], READY], None),
        ] {
            let logged_in = logged_in(&[b"TimeZone\0UTC\0"]).await;
            let (mut ours, mut theirs) = duplex(4096);
            theirs.write_all(&replies.concat()).await.unwrap();
            theirs.shutdown().await.unwrap();
            assert_eq!(reset(&mut ours, &logged_in).await.ok(), expected, "{replies:?}");
        }
    }

    #[tokio::test]
    async fn settings_are_compared_as_literals() {
        let sent = logged_in(&[b"TimeZone\0UTC\0", b"a'b\0c'd\0"]).await;
        let (mut ours, mut theirs) = duplex(4096);
        let ((), asked) = tokio::join!(
            async {
                let _ = reset(&mut ours, &sent).await;
                drop(ours);
            },
            async {
                let mut asked = vec![0; 300];
                let n = theirs.read(&mut asked).await.unwrap();
                drop(theirs);
                String::from_utf8_lossy(&asked[..n]).into_owned()
            }
        );
        assert!(asked.starts_with("Q\0\0\0\u{10}DISCARD ALL\0"), "{asked:?}");
        assert!(asked.contains("current_setting('TimeZone', true) OPERATOR(pg_catalog.=) 'UTC'"), "{asked}");
        assert!(asked.contains("current_setting('a''b', true) OPERATOR(pg_catalog.=) 'c''d'"), "{asked}");
        for odd in [&b"a\0b\\c\0"[..], b"a\0\xff\0"] {
            assert_eq!(comparison(&logged_in(&[odd]).await), None);
        }
    }

    #[tokio::test]
    async fn greeting_gets_another_cancel_key_of_the_same_process() {
        let mut login = logged_in(&[b"TimeZone\0UTC\0"]).await;
        let before = login.greeting.clone();
        let replaced = login.replace_cancel_key().unwrap();
        assert_eq!((replaced.given.process_id, replaced.servers.process_id), (7, 7));
        assert!(!replaced.given.matches(&replaced.servers));
        assert_eq!(login.greeting.len(), before.len());
        let shown = messages(&login.greeting).find(|(tag, _)| *tag == b'K').unwrap().1;
        let request = CancelRequest::parse(&login.greeting[shown]).unwrap();
        assert!(request.is_for(&replaced.given) && !request.is_for(&replaced.servers));
    }
}
