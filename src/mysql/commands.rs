//! A client's stream after its login, which stops before a COM_CHANGE_USER for us to take that over.
//!
//! Only headers are looked at, and the first byte of a command; what they announce is skipped by its length. Bytes go
//! straight into the reader's buffer, except a header in part (4 bytes), which is held until it is whole, and what was
//! read together with a COM_CHANGE_USER.

use std::{
    fmt, io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
};

use super::codec::{self, CONTINUED, HEADER};

/// COM_CHANGE_USER, as all commands the first byte of a payload (`enum_server_command` in `my_command.h`).
pub(super) const COM_CHANGE_USER: u8 = 0x11;

/// Says that a client's next command is for us: raised before it, lowered when it has been taken over.
#[derive(Clone, Default)]
pub struct Signal(Arc<State>);

#[derive(Default)]
struct State {
    raised: AtomicBool,
    changed: Notify,
}

impl Signal {
    /// Whether it is raised.
    pub fn is_raised(&self) -> bool {
        self.0.raised.load(Ordering::Relaxed)
    }

    /// Waits until it is raised. For one task. Cancel safe.
    pub async fn raised(&self) {
        while !self.is_raised() {
            self.0.changed.notified().await;
        }
    }

    fn set(&self, raised: bool) {
        if self.0.raised.swap(raised, Ordering::Relaxed) != raised && raised {
            self.0.changed.notify_one();
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signal({})", self.is_raised())
    }
}

/// A client's stream. Reading yields commands up to the next COM_CHANGE_USER, then raises the [`Signal`] and yields
/// nothing until the command has been read through [`Commands::take_over`]; writing goes straight through.
pub struct Commands<C> {
    inner: C,
    signal: Signal,
    follower: Follower,
    /// Read from the client and not yet yielded.
    held: BytesMut,
    /// How much of `held` may go. The rest is part of a header, or begins with a COM_CHANGE_USER.
    clear: usize,
}

impl<C> Commands<C> {
    /// For a client whose next byte begins a command.
    pub fn new(inner: C) -> Self {
        let (signal, follower, held) = (Signal::default(), Follower::default(), BytesMut::new());
        Self { inner, signal, follower, held, clear: 0 }
    }

    /// Raised when the next command is a COM_CHANGE_USER.
    pub fn signal(&self) -> Signal {
        self.signal.clone()
    }

    /// The stream itself. What was read ahead stays behind.
    pub fn get_ref(&self) -> &C {
        &self.inner
    }

    /// Everything as the client sent it, beginning with what was held back. Ends where it is dropped, which must be
    /// between packets, for the next command is then looked for.
    pub fn take_over(&mut self) -> TakenOver<'_, C> {
        TakenOver(self)
    }

    /// Looks at what is held, of which nothing has been seen.
    fn follow_held(&mut self) {
        let (clear, change_user) = self.follower.follow(&self.held);
        self.clear = clear;
        self.signal.set(change_user);
    }

    fn yield_held(&mut self, up_to: usize, buf: &mut ReadBuf<'_>) {
        let now = self.held.split_to(up_to.min(self.held.len()).min(buf.remaining()));
        buf.put_slice(&now);
        self.clear = self.clear.saturating_sub(now.len());
        // An empty buffer would keep its allocation alive for the life of the connection.
        if self.held.is_empty() {
            self.held = BytesMut::new();
        }
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Commands<C> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while buf.remaining() > 0 {
            if this.clear > 0 {
                this.yield_held(this.clear, buf);
                break;
            }
            if this.signal.is_raised() {
                // Nobody is woken by the client any more: whoever the signal is for polls again.
                return Poll::Pending;
            }
            if this.held.is_empty() {
                let start = buf.filled().len();
                ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
                let read = buf.filled().get(start..).unwrap_or_default();
                let (clear, change_user) = this.follower.follow(read);
                let (end, all) = (start + clear, clear == read.len());
                this.held.extend_from_slice(read.get(clear..).unwrap_or_default());
                buf.set_filled(end);
                this.signal.set(change_user);
                if clear > 0 || all {
                    break;
                }
                continue;
            }
            // The rest of a header, and the command's byte.
            let mut missing = [0; HEADER + 1];
            let mut missing = ReadBuf::new(missing.get_mut(this.held.len()..).unwrap_or_default());
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut missing))?;
            if missing.filled().is_empty() {
                this.clear = this.held.len();
            } else {
                this.held.extend_from_slice(missing.filled());
                this.follow_held();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Commands<C> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// A client's stream while a command of its is ours. See [`Commands::take_over`].
pub struct TakenOver<'a, C>(&'a mut Commands<C>);

impl<C> Drop for TakenOver<'_, C> {
    fn drop(&mut self) {
        self.0.follower = Follower::default();
        self.0.follow_held();
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for TakenOver<'_, C> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let commands = &mut *self.0;
        if commands.held.is_empty() {
            return Pin::new(&mut commands.inner).poll_read(cx, buf);
        }
        commands.yield_held(usize::MAX, buf);
        Poll::Ready(Ok(()))
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for TakenOver<'_, C> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.inner).poll_shutdown(cx)
    }
}

/// Follows a client's packets from header to header.
#[derive(Debug, Clone, Default)]
struct Follower {
    /// Bytes of the current payload still to come.
    body: usize,
    last: Last,
}

impl Follower {
    /// Goes on with `chunk`, which begins where the last one was clear to: how much of it is clear now, and whether a
    /// COM_CHANGE_USER follows. What is not clear and not that is part of a header or lacks its command byte.
    fn follow(&mut self, chunk: &[u8]) -> (usize, bool) {
        let mut clear = 0;
        loop {
            let rest = chunk.get(clear..).unwrap_or_default();
            let skip = self.body.min(rest.len());
            self.body -= skip;
            clear += skip;
            let Some((head, payload)) = chunk.get(clear..).and_then(<[u8]>::split_first_chunk::<HEADER>) else {
                return (clear, false);
            };
            let (length, sequence) = codec::header(*head);
            if length > 0 && self.last.is_command(sequence) {
                match payload.first() {
                    None => return (clear, false),
                    Some(&COM_CHANGE_USER) => return (clear, true),
                    Some(_) => {}
                }
            }
            self.last = Last { length, sequence };
            self.body = length;
            clear += HEADER;
        }
    }
}

/// A client's last packet.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Last {
    pub(super) length: usize,
    pub(super) sequence: u8,
}

impl Last {
    /// Whether the packet that follows begins a command, by its sequence number: a command's is 0. But 0 also comes
    /// after 255, which is as far as the data of a LOCAL INFILE goes with 256 packets; that ends with an empty one. And
    /// what continues a payload of 16 MiB - 1 begins nothing.
    pub(super) fn is_command(self, sequence: u8) -> bool {
        sequence == 0 && self.length != CONTINUED && (self.sequence != u8::MAX || self.length == 0)
    }
}
