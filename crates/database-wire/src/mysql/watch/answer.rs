//! Where the answer to a command ends: a state for each packet that may come next, and what the one that came makes of it.

use crate::mysql::{
    capabilities::Capabilities,
    codec::{CONTINUED, Reader},
    message,
};

/// `SERVER_STATUS_CURSOR_EXISTS` (`include/mysql_com.h`, `mysql-8.4.9`): rows wait for COM_STMT_FETCH.
pub(super) const CURSOR_EXISTS: u16 = 1 << 6;
/// `SERVER_MORE_RESULTS_EXISTS`, there.
const MORE_RESULTS: u16 = 1 << 3;

/// The first packet of the answer to COM_STMT_PREPARE, without metadata_follows.
const PREPARED: usize = 12;

/// How a command is answered.
#[derive(Debug, Clone, Copy)]
pub(super) enum Answer {
    /// By OK, ERR, EOF, results, or the server's request for a file.
    Usual,
    /// By rows alone, up to EOF or ERR: COM_STMT_FETCH, COM_FIELD_LIST and the binary log up to now, whose events look like
    /// rows.
    Rows,
    /// By the events of the binary log as they come, without an end.
    Events,
    /// COM_STMT_PREPARE: by numbers of parameters and columns, and as many definitions.
    Prepare,
    /// COM_STATISTICS: by a text.
    Text,
}

/// The next part of an answer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Expect {
    Answer(Answer),
    /// The client sends its file; then comes an OK or ERR.
    File,
    /// This number of column definitions, then rows.
    Columns(u64),
    Rows,
    /// Another event of the binary log.
    Events,
    /// This number of packets.
    Rest(u32),
}

/// There is no such packet where it came.
pub(super) struct Lost;

impl Expect {
    /// The part behind a packet of this length with this beginning; `None` at the end of the answer.
    pub(super) fn then(
        self,
        length: usize,
        head: &[u8],
        capabilities: Capabilities,
        status: &mut u16,
    ) -> Result<Option<Self>, Lost> {
        let deprecate_eof = capabilities.contains(Capabilities::DEPRECATE_EOF);
        let mut reader = Reader::new(head);
        Ok(match (self, reader.byte()) {
            // MariaDB reports progress with an ERR of an impossible number.
            (now, Some(message::ERR)) if head.get(1..3) == Some(&[0xff; 2]) => Some(now),
            (Self::Answer(Answer::Text), _) | (_, Some(message::ERR)) => None,
            (Self::Rest(left), _) => left.checked_sub(1).filter(|left| *left > 0).map(Self::Rest),
            (Self::Answer(Answer::Prepare), Some(message::OK)) => {
                let packets = definitions(reader, length, capabilities).ok_or(Lost)?;
                (packets > 0).then_some(Self::Rest(packets))
            }
            (Self::Answer(Answer::Usual) | Self::File, Some(message::OK)) => {
                *status = status_of_ok(reader).ok_or(Lost)?;
                (*status & MORE_RESULTS != 0).then_some(Self::Answer(Answer::Usual))
            }
            (Self::Answer(Answer::Usual), Some(message::LOCAL_INFILE)) => Some(Self::File),
            (Self::Answer(Answer::Usual), Some(first)) if first != message::EOF => {
                let packets = columns(head, capabilities).ok_or(Lost)?;
                Some(if packets == 0 { Self::Rows } else { Self::Columns(packets) })
            }
            // The EOF between columns and rows: the rows come later if there is a cursor.
            (Self::Columns(1), Some(message::EOF)) if !deprecate_eof => {
                let now = status_of_eof(reader).ok_or(Lost)?;
                if now & CURSOR_EXISTS == 0 {
                    return Ok(Some(Self::Rows));
                }
                *status = now;
                None
            }
            (Self::Columns(left), _) => Some(if left > 1 { Self::Columns(left - 1) } else { Self::Rows }),
            // A row whose first column is as long as this byte says goes on in the next packet.
            (
                Self::Rows | Self::Events | Self::Answer(Answer::Rows | Answer::Events | Answer::Usual),
                Some(message::EOF),
            ) if length != CONTINUED => {
                let now = if deprecate_eof { status_of_ok(reader) } else { status_of_eof(reader) };
                *status = now.ok_or(Lost)?;
                (*status & MORE_RESULTS != 0).then_some(Self::Answer(Answer::Usual))
            }
            (Self::Rows | Self::Answer(Answer::Rows), _) => Some(Self::Rows),
            (Self::Events | Self::Answer(Answer::Events), _) => Some(Self::Events),
            (Self::Answer(Answer::Usual | Answer::Prepare) | Self::File, _) => return Err(Lost),
        })
    }
}

/// The status in an OK behind its first byte, be that of an OK or, with CLIENT_DEPRECATE_EOF, of an EOF.
fn status_of_ok(mut reader: Reader<'_>) -> Option<u16> {
    let (_affected_rows, _last_insert_id) = (reader.lenenc_int()?, reader.lenenc_int()?);
    reader.u16()
}

/// The status in an EOF behind its first byte.
fn status_of_eof(mut reader: Reader<'_>) -> Option<u16> {
    let _warnings = reader.u16()?;
    reader.u16()
}

/// How many packets with columns, and the EOF behind them, follow the head of a result.
fn columns(head: &[u8], capabilities: Capabilities) -> Option<u64> {
    let mut reader = Reader::new(head);
    let columns = reader.lenenc_int()?;
    // Whether they follow stands behind their number, whatever MySQL's documentation says (tried with 9.7).
    let may_be_missing = capabilities.contains(Capabilities::MARIADB_CACHE_METADATA)
        || capabilities.contains(Capabilities::OPTIONAL_RESULTSET_METADATA);
    let are_missing = may_be_missing && reader.byte()? == 0;
    let eof = u64::from(!capabilities.contains(Capabilities::DEPRECATE_EOF));
    if are_missing { Some(eof) } else { columns.checked_add(eof) }
}

/// How many packets follow the first of the answer to COM_STMT_PREPARE, which has this length. Where the definitions are
/// missing, the EOF behind each kind of them is not.
fn definitions(mut reader: Reader<'_>, length: usize, capabilities: Capabilities) -> Option<u32> {
    let (_statement, columns, parameters) = (reader.u32()?, reader.u16()?, reader.u16()?);
    let mut are_missing = false;
    if capabilities.contains(Capabilities::OPTIONAL_RESULTSET_METADATA) && length > PREPARED {
        let (_filler, _warnings, metadata_follows) = (reader.byte()?, reader.u16()?, reader.byte()?);
        are_missing = metadata_follows == 0;
    }
    let eof = u32::from(!capabilities.contains(Capabilities::DEPRECATE_EOF));
    let packets = |n: u16| eof + if are_missing { 0 } else { u32::from(n) };
    Some([columns, parameters].into_iter().filter(|n| *n > 0).map(packets).sum())
}
