//! One direction of a relay: reads from one side, writes to the other.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The size of one read: two TLS records.
const BUFFER: usize = 32 * 1024;
/// The number of bytes that one direction moves before the other is polled.
const TURN: usize = 16 * BUFFER;

/// The event of one direction, with its bytes.
pub(super) enum Moved<'a> {
    Read(&'a [u8]),
    Written(&'a [u8]),
}

/// The operation that failed.
pub(super) enum Broken {
    Read(io::Error),
    Write(io::Error),
}

/// The bytes of one direction that are on their way, and how many there were.
#[derive(Default)]
pub(super) struct Direction {
    buffer: Vec<u8>,
    /// The part of the buffer that is still to be written.
    start: usize,
    end: usize,
    /// Set by a write, cleared by a flush.
    unflushed: bool,
    /// The reader has ended.
    eof: bool,
    /// The writer has been shut down after that.
    done: bool,
    /// Bytes read so far.
    pub(super) bytes: u64,
}

impl Direction {
    /// Whether no byte is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end && !self.unflushed
    }

    /// Whether the reader has ended and all its bytes are written, though perhaps not flushed.
    pub(super) fn is_ending(&self) -> bool {
        self.eof && self.start == self.end
    }

    /// Moves bytes until one side is not ready or the other direction has its turn; `seen` hears of each piece. Ready when the
    /// reader has ended and the writer has been shut down.
    pub(super) fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        mut seen: impl FnMut(Moved<'_>),
    ) -> Poll<Result<(), Broken>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        if self.done {
            return Poll::Ready(Ok(()));
        }
        let mut moved = 0;
        loop {
            while self.start < self.end {
                let pending = self.buffer.get(self.start..self.end).unwrap_or_default();
                let written = ready!(Pin::new(&mut *writer).poll_write(cx, pending)).map_err(Broken::Write)?;
                if written == 0 {
                    return Poll::Ready(Err(Broken::Write(io::ErrorKind::WriteZero.into())));
                }
                seen(Moved::Written(pending.get(..written).unwrap_or(pending)));
                self.start += written;
                self.unflushed = true;
            }
            if self.eof {
                ready!(Pin::new(&mut *writer).poll_shutdown(cx)).map_err(Broken::Write)?;
                self.buffer = Vec::new();
                self.done = true;
                return Poll::Ready(Ok(()));
            }
            if moved >= TURN {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.buffer.resize(BUFFER, 0);
            let mut buffer = ReadBuf::new(&mut self.buffer);
            match Pin::new(&mut *reader).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) => {
                    (self.start, self.end) = (0, buffer.filled().len());
                    self.eof = self.end == 0;
                    moved += self.end;
                    self.bytes += self.end as u64;
                    seen(Moved::Read(buffer.filled()));
                }
                // TLS that ends without its close_notify, as MySQL's server ends: what is cut off shows in the protocol
                // inside.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => self.eof = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Broken::Read(error))),
                Poll::Pending => {
                    self.buffer = Vec::new();
                    (self.start, self.end) = (0, 0);
                    if self.unflushed {
                        ready!(Pin::new(&mut *writer).poll_flush(cx)).map_err(Broken::Write)?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
        }
    }
}
