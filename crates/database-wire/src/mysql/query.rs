//! One question to a server after the login, by the text protocol.
//!
//! For diagnosis, on a connection of our own, logged in to without compression, CLIENT_DEPRECATE_EOF and MariaDB's cached
//! metadata. The relay never looks into a query.

use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    codec::{self, Reader},
    error::{Error, ServerError},
    message,
};

/// Values of the first row, in order; `None` is NULL.
pub type Row = Vec<Option<String>>;

/// `COM_QUERY`.
const COM_QUERY: u8 = 3;
/// NULL in the place of a length.
const NULL: u8 = 0xfb;
/// The longest EOF packet's payload; a row that begins with the same byte is longer.
const EOF_LENGTH: usize = 9;
/// Packets that are read for one answer: more than any question of ours has.
const PACKETS: u8 = 100;
const WAITING_FOR: &str = "the answer to a query";

/// Asks and reads the answer to its end: the first row, `None` when there is none. The caller sets the deadline. Not cancel
/// safe; after an error from the server the connection may be asked again.
///
/// # Errors
/// [`Error::Refused`] by the server, and whatever breaks the protocol or the connection.
pub async fn query<S: AsyncRead + AsyncWrite + Unpin>(upstream: &mut S, sql: &str) -> Result<Option<Row>, Error> {
    let command = [&[COM_QUERY], sql.as_bytes()].concat();
    codec::send(upstream, &codec::packet(0, &command), WAITING_FOR).await?;
    let (mut row, mut ends) = (None, 0);
    for sequence in 1..=PACKETS {
        let payload = codec::read_packet(upstream, sequence, WAITING_FOR).await?.payload;
        match payload.first() {
            Some(&message::ERR) => {
                return Err(Error::Refused(ServerError::parse(&payload).ok_or(Error::Malformed("ERR"))?));
            }
            // OK: there are no rows.
            Some(&message::OK) if sequence == 1 => return Ok(None),
            Some(&message::AUTH_SWITCH) if payload.len() < EOF_LENGTH => ends += 1,
            // Between the two ends are the rows, before the first the columns.
            _ if ends == 1 && row.is_none() => row = Some(text_row(&payload).ok_or(Error::Malformed("row"))?),
            _ => {}
        }
        if ends == 2 {
            return Ok(row);
        }
    }
    Err(Error::Malformed("answer to a query"))
}

fn text_row(payload: &[u8]) -> Option<Row> {
    let mut reader = Reader::new(payload);
    let mut row = Vec::new();
    while !reader.is_empty() {
        let mut ahead = reader.clone();
        if ahead.byte() == Some(NULL) {
            reader = ahead;
            row.push(None);
        } else {
            row.push(Some(String::from_utf8_lossy(reader.lenenc_bytes()?).into_owned()));
        }
    }
    Some(row)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const EOF: &[u8] = b"\xfe\0\0\x02\0";

    async fn answered(payloads: &[&[u8]]) -> Result<Option<Row>, Error> {
        let (mut ours, mut theirs) = duplex(4096);
        let answer: Vec<u8> =
            (1..).zip(payloads).flat_map(|(number, payload)| codec::packet(number, payload)).collect();
        let (result, ()) = tokio::join!(query(&mut ours, "SELECT 1"), async {
            let mut asked = [0; 13];
            theirs.read_exact(&mut asked).await.unwrap();
            assert_eq!(&asked, b"\x09\0\0\0\x03SELECT 1");
            theirs.write_all(&answer).await.unwrap();
            drop(theirs);
        });
        result
    }

    #[tokio::test]
    async fn the_first_row_is_the_answer() {
        let rows = answered(&[b"\x02", b"column", b"column", EOF, b"\x05hello\xfb", b"\x01x\x01y", EOF]).await;
        assert_eq!(rows.unwrap(), Some(vec![Some("hello".into()), None]));
        assert_eq!(answered(&[b"\x01", b"column", EOF, EOF]).await.unwrap(), None);
        assert_eq!(answered(&[b"\0\0\0\x02\0\0\0"]).await.unwrap(), None);
        assert!(matches!(answered(&[b"\xff\x15\x04#28000no"]).await, Err(Error::Refused(_))));
        assert!(matches!(answered(&[b"\x01", b"column", EOF, b"\x05hel"]).await, Err(Error::Malformed(_))));
        assert!(matches!(answered(&[b"\x01"]).await, Err(Error::Closed { .. })));
        assert!(matches!(answered(&[&b"x"[..]; 120]).await, Err(Error::Malformed(_))));
    }
}
