//! One question to a server after the login, by the simple query protocol: text in, text out.
//!
//! For diagnosis, on a connection of our own. The relay never looks into a query.

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::{
    codec::{self, Reader},
    error::Error,
    login::{Conversation, server_error},
    message::tag,
};
use crate::c_string::put_cstr;

/// Values of the first row, in order; `None` is NULL.
pub type Row = Vec<Option<String>>;

/// Messages that are read for one answer: more than any question of ours has.
const MESSAGES: usize = 100;

/// Asks and reads the answer to its end: the first row, `None` when there is none. The caller sets the deadline. Not cancel
/// safe; after an error from the server the connection may be asked again.
///
/// # Errors
/// [`Error::Refused`] by the server, and whatever breaks the protocol or the connection.
pub async fn query<S: AsyncRead + AsyncWrite + Unpin>(upstream: &mut S, sql: &str) -> Result<Option<Row>, Error> {
    const WAITING_FOR: &str = "the answer to a query";
    let broke = |error| Error::broke(error, WAITING_FOR);
    let mut message = Vec::new();
    codec::put_message(&mut message, Some(b'Q'), |out| put_cstr(out, sql.as_bytes(), "query"))?;
    upstream.write_all(&message).await.map_err(broke)?;
    upstream.flush().await.map_err(broke)?;
    let mut conversation = Conversation { upstream, received: BytesMut::new(), greeting: BytesMut::new() };
    let (mut row, mut refused) = (None, None);
    for _ in 0..MESSAGES {
        let message = conversation.next(WAITING_FOR).await?;
        match message.tag {
            tag::READY_FOR_QUERY => return refused.map_or(Ok(row), |error| Err(Error::Refused(error))),
            tag::ERROR_RESPONSE => refused = Some(server_error(message.body())?),
            b'D' if row.is_none() => row = Some(data_row(message.body()).ok_or(Error::Malformed("DataRow"))?),
            // RowDescription, further rows, CommandComplete, notices and settings.
            _ => {}
        }
    }
    Err(Error::Malformed("answer to a query"))
}

/// The number of values, two bytes; then each behind its length, four bytes, where -1 is NULL.
fn data_row(body: &[u8]) -> Option<Row> {
    let mut reader = Reader::new(body);
    let values = u16::from_be_bytes([reader.byte()?, reader.byte()?]);
    let mut row = Vec::new();
    for _ in 0..values {
        let value = match reader.u32()? {
            u32::MAX => None,
            length => {
                let bytes = (0..length).map(|_| reader.byte()).collect::<Option<Vec<u8>>>()?;
                Some(String::from_utf8_lossy(&bytes).into_owned())
            }
        };
        row.push(value);
    }
    reader.is_empty().then_some(row)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, duplex};

    use super::*;

    const READY: &[u8] = b"Z\0\0\0\x05I";
    const ROW: &[u8] = b"D\0\0\0\x13\0\x02\0\0\0\x05hello\xff\xff\xff\xff";

    async fn answered(answer: &[&[u8]]) -> Result<Option<Row>, Error> {
        let (mut ours, mut theirs) = duplex(4096);
        let answer = answer.concat();
        let (result, ()) = tokio::join!(query(&mut ours, "SELECT 1"), async {
            let mut asked = [0; 14];
            theirs.read_exact(&mut asked).await.unwrap();
            assert_eq!(&asked, b"Q\0\0\0\x0dSELECT 1\0");
            theirs.write_all(&answer).await.unwrap();
            drop(theirs);
        });
        result
    }

    #[tokio::test]
    async fn the_first_row_is_the_answer_and_an_error_is_read_to_its_end() {
        let row = Some(vec![Some("hello".to_owned()), None]);
        assert_eq!(answered(&[ROW, b"C\0\0\0\x0dSELECT 1\0", READY]).await.unwrap(), row);
        assert_eq!(answered(&[READY]).await.unwrap(), None);
        let error = b"E\0\0\0\x17SERROR\0C42501\0Mno\0\0";
        assert!(matches!(answered(&[error, READY]).await, Err(Error::Refused(_))));
        assert!(matches!(answered(&[ROW]).await, Err(Error::Closed { .. })));
        assert!(matches!(answered(&[&b"N\0\0\0\x04".repeat(200)]).await, Err(Error::Malformed(_))));
    }

    #[test]
    fn a_row_is_read_exactly() {
        let body = &ROW[5..];
        for end in 0..body.len() {
            assert_eq!(data_row(&body[..end]), None, "cut at {end}");
        }
        assert_eq!(data_row(&[body, b"x"].concat()), None);
        assert_eq!(data_row(&[0, 1, 0x7f, 0xff, 0xff, 0xff]), None);
    }
}
