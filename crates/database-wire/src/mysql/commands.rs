//! A client's stream after its login, which stops before a COM_CHANGE_USER for us to take that over, and, where a guard asks
//! for it, before a COM_RESET_CONNECTION.
//!
//! Only headers are looked at, and the first byte of a command; what they announce is skipped by its length. Bytes go
//! straight into the reader's buffer, except a header in part (4 bytes), which is held until it is whole, and what was
//! read together with a COM_CHANGE_USER.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    codec::{self, HEADER},
    last::Last,
    signal::Signal,
};

/// COM_CHANGE_USER, as all commands the first byte of a payload (`enum_server_command` in
/// `include/my_command.h`, `mysql-8.4.9`).
pub(super) const COM_CHANGE_USER: u8 = 0x11;

/// COM_RESET_CONNECTION, there.
pub(super) const COM_RESET_CONNECTION: u8 = 0x1f;

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

    /// The same, but stopping before a COM_RESET_CONNECTION as well.
    #[must_use]
    pub fn with_resets(mut self, resets: bool) -> Self {
        self.follower.resets = resets;
        self
    }

    /// Whether the command that is to be taken over is a COM_RESET_CONNECTION. To be asked while the signal is raised.
    pub fn is_reset(&self) -> bool {
        self.held.get(HEADER) == Some(&COM_RESET_CONNECTION)
    }

    /// Raised when the next command is a COM_CHANGE_USER.
    pub fn signal(&self) -> Signal {
        self.signal.clone()
    }

    /// Everything as the client sent it, beginning with the bytes that were held back. Drop it only on a packet boundary;
    /// command detection restarts there.
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
                // The client no longer wakes a task: the receiver of the signal polls again.
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

/// A client's stream while one of its commands is taken over. See [`Commands::take_over`].
pub struct TakenOver<'a, C>(&'a mut Commands<C>);

impl<C> Drop for TakenOver<'_, C> {
    fn drop(&mut self) {
        self.0.follower = Follower { resets: self.0.follower.resets, ..Follower::default() };
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
    /// Whether to stop before a COM_RESET_CONNECTION.
    resets: bool,
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
                    Some(&COM_RESET_CONNECTION) if self.resets => return (clear, true),
                    Some(_) => {}
                }
            }
            self.last = Last { length, sequence };
            self.body = length;
            clear += HEADER;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::mysql::codec::CONTINUED;
    use crate::mysql::script::packet;

    const CHANGE_USER: &[u8] = b"\x07\0\0\0\x11root\0\0";

    /// Yields `pieces`, one a read, and then ends.
    struct Pieces(Vec<Vec<u8>>);

    impl Pieces {
        /// `bytes` in pieces of 1 to 16 bytes, by `seed`.
        fn new(bytes: &[u8], mut seed: u32) -> Self {
            let (mut pieces, mut rest) = (Vec::new(), bytes);
            while !rest.is_empty() {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let (piece, behind) = rest.split_at(((seed >> 28) as usize + 1).min(rest.len()));
                pieces.push(piece.to_vec());
                rest = behind;
            }
            pieces.reverse();
            Self(pieces)
        }
    }

    impl AsyncRead for Pieces {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            if let Some(mut piece) = self.0.pop() {
                let rest = piece.split_off(piece.len().min(buf.remaining()));
                buf.put_slice(&piece);
                self.0.extend(Some(rest).filter(|rest| !rest.is_empty()));
            }
            Poll::Ready(Ok(()))
        }
    }

    /// The commands in a client's bytes up to the end or a COM_CHANGE_USER, and the bytes behind them.
    fn split(bytes: &[u8], seed: u32, room: usize) -> (Vec<u8>, Vec<u8>) {
        let mut commands = Commands::new(Pieces::new(bytes, seed));
        let signal = commands.signal();
        let mut yielded = Vec::new();
        loop {
            let mut buffer = vec![0; room];
            match commands.read(&mut buffer).now_or_never() {
                Some(read) => match read.unwrap() {
                    0 => break,
                    n => yielded.extend_from_slice(&buffer[..n]),
                },
                None => break assert!(signal.is_raised() && signal.raised().now_or_never().is_some()),
            }
        }
        let mut rest = Vec::new();
        commands.take_over().read_to_end(&mut rest).now_or_never().unwrap().unwrap();
        (yielded, rest)
    }

    #[test]
    fn a_change_of_user_is_found_however_it_is_split() {
        let before = [packet(0, b"\x03select 1"), packet(0, b"\x0e"), packet(0, b"")].concat();
        let behind = packet(0, b"\x03select 2");
        let bytes = [&before, CHANGE_USER, &behind[..]].concat();
        for seed in 0..200 {
            for room in [1, 2, 4, 5, 7, 1000] {
                assert_eq!(
                    split(&bytes, seed, room),
                    (before.clone(), [CHANGE_USER, &behind].concat()),
                    "{seed} {room}"
                );
            }
        }
    }

    #[test]
    fn a_client_that_ends_in_a_header_is_relayed_to_its_end() {
        for end in 0..CHANGE_USER.len() {
            let (yielded, rest) = split(&CHANGE_USER[..end], 1, 100);
            let expected = if end > HEADER {
                (vec![], CHANGE_USER[..end].to_vec())
            } else {
                (CHANGE_USER[..end].to_vec(), vec![])
            };
            assert_eq!((yielded, rest), expected, "cut at {end}");
        }
    }

    #[test]
    fn data_is_not_taken_for_a_command() {
        // LOCAL INFILE: numbers go on from the server's request and begin again at 0; an empty packet ends it.
        let mut infile = packet(0, b"\x03load data local infile 'x'");
        for sequence in (2..=255).chain(0..=255).chain(0..3) {
            infile.extend(packet(sequence, b"\x11 is a number in this file"));
        }
        infile.extend(packet(3, b""));
        // 16 MiB - 1 and more: the second packet's number is 1, and 0 again after 256 of them.
        let mut long = packet(0, b"");
        long[..3].copy_from_slice(&[255; 3]);
        long.extend(vec![b'x'; CONTINUED]);
        long.extend(packet(0, b"\x11 the rest"));
        for bytes in [infile, long, packet(0, b"\x18\x01\0\0\0\0\0\x11 long data")] {
            let (yielded, rest) = split(&[&bytes, CHANGE_USER].concat(), 3, 100_000);
            assert!(yielded == bytes && rest == CHANGE_USER);
        }
    }

    #[test]
    fn a_command_after_the_255th_packet_of_a_file_is_one() {
        let bytes = [packet(254, b"data"), packet(255, b"")].concat();
        assert_eq!(split(&[&bytes, CHANGE_USER].concat(), 5, 100), (bytes, CHANGE_USER.to_vec()));
    }

    #[tokio::test]
    async fn commands_go_on_when_one_has_been_taken_over() {
        let (client, mut theirs) = tokio::io::duplex(1000);
        let mut commands = Commands::new(client);
        let (first, second) = (packet(0, b"\x03a"), packet(0, b"\x03b"));
        theirs.write_all(&[&first, CHANGE_USER, CHANGE_USER, &second].concat()).await.unwrap();
        let signal = commands.signal();
        let mut buffer = [0; 100];
        assert_eq!(commands.read(&mut buffer).await.unwrap(), first.len());
        for _ in 0..2 {
            assert!(signal.is_raised() && commands.read(&mut buffer).now_or_never().is_none());
            let mut taken = commands.take_over();
            taken.read_exact(&mut buffer[..CHANGE_USER.len()]).await.unwrap();
            assert_eq!(&buffer[..CHANGE_USER.len()], CHANGE_USER);
            taken.write_all(b"answer").await.unwrap();
        }
        assert!(!signal.is_raised() && signal.raised().now_or_never().is_none());
        assert_eq!(commands.read(&mut buffer).await.unwrap(), second.len());
        theirs.read_exact(&mut buffer[..12]).await.unwrap();
        assert_eq!(&buffer[..12], b"answeranswer");
    }

    #[tokio::test]
    async fn a_reset_is_stopped_at_where_it_is_asked_for() {
        let bytes = [packet(0, b"\x03a"), packet(0, &[COM_RESET_CONNECTION])].concat();
        for (resets, yielded) in [(false, bytes.len()), (true, bytes.len() - 5)] {
            let mut commands = Commands::new(Pieces(vec![bytes.clone()])).with_resets(resets);
            let mut buffer = [0; 100];
            assert_eq!(commands.read(&mut buffer).await.unwrap(), yielded);
            assert_eq!((commands.signal().is_raised(), commands.is_reset()), (resets, resets));
            drop(commands.take_over());
            assert_eq!(commands.signal().is_raised(), resets, "nobody has read it");
        }
    }

    #[tokio::test]
    async fn a_signal_wakes_who_waits_for_it() {
        let (client, mut theirs) = tokio::io::duplex(1000);
        let mut commands = Commands::new(client);
        let signal = commands.signal();
        let reads = tokio::spawn(async move { commands.read_u8().await });
        tokio::join!(signal.raised(), async { theirs.write_all(CHANGE_USER).await.unwrap() });
        reads.abort();
    }

    proptest! {
        #[test]
        fn nothing_is_lost_whatever_comes(bytes in proptest::collection::vec(0..20_u8, 0..200), seed: u32, room in 1..50_usize) {
            let (yielded, rest) = split(&bytes, seed, room);
            prop_assert_eq!([yielded, rest].concat(), bytes);
        }
    }
}
