//! A half-close through an SSM session. The agent has none: at a FIN it closes the connection to the server in both directions
//! and drops the reply. So the FIN of a client that has half-closed waits for the end of the server, and is sent after a
//! silence, since a server may wait for it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};
use tracing::info;

/// The silence of the server after which a half-closed connection is closed. Servers that reply to the end of their input mostly
/// do so within seconds.
const HALF_CLOSED_SILENCE: Duration = Duration::from_secs(30);

/// A stream that ends for its reader after [`HALF_CLOSED_SILENCE`] once it has been shut down.
pub(super) struct HalfCloses<S> {
    stream: S,
    /// Set by the shutdown; starts again with each byte.
    silence: Option<Pin<Box<Sleep>>>,
}

impl<S> HalfCloses<S> {
    /// Of a stream whose shutdown does not reach the server.
    pub(super) fn new(stream: S) -> Self {
        Self { stream, silence: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HalfCloses<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, silence } = self.get_mut();
        let read = Pin::new(stream).poll_read(cx, buf);
        let Some(silence) = silence else { return read };
        if read.is_ready() {
            silence.as_mut().reset(Instant::now() + HALF_CLOSED_SILENCE);
            return read;
        }
        silence.as_mut().poll(cx).map(|()| {
            info!(
                silence_s = HALF_CLOSED_SILENCE.as_secs(),
                "closing a half-closed connection to the server, which has sent nothing since: an SSM agent cannot half-close"
            );
            Ok(())
        })
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HalfCloses<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, silence } = self.get_mut();
        let shut_down = Pin::new(stream).poll_shutdown(cx);
        if matches!(shut_down, Poll::Ready(Ok(()))) {
            // Polled, so that the reader is woken even if it does not read before.
            let silence = silence.get_or_insert_with(|| Box::pin(sleep(HALF_CLOSED_SILENCE)));
            let _ = silence.as_mut().poll(cx);
        }
        shut_down
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::{
        engine::tcp::tap::Tap,
        stream::relay::{Reason, Side, relay},
    };

    /// A stream of a session: its shutdown does not reach the server.
    struct OfSession(DuplexStream);

    impl AsyncRead for OfSession {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }

    impl AsyncWrite for OfSession {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.0).poll_write(cx, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn half_closed_connection_ends_after_a_silence_that_begins_again_with_each_byte() {
        let (mut client, mut inner_client) = duplex(1000);
        let (inner_upstream, mut server) = duplex(1000);
        let relaying = async {
            let mut upstream = HalfCloses::new(OfSession(inner_upstream));
            relay(&mut inner_client, &mut upstream, &mut Tap, pending(), pending()).await
        };
        let ends = async {
            let begun = Instant::now();
            client.write_all(b"all that there is").await.unwrap();
            client.shutdown().await.unwrap();
            let mut input = [0; 17];
            server.read_exact(&mut input).await.unwrap();
            for word in [b"a", b"b"] {
                sleep(Duration::from_secs(29)).await;
                server.write_all(word).await.unwrap();
            }
            let mut output = Vec::new();
            client.read_to_end(&mut output).await.unwrap();
            (output, begun.elapsed().as_secs())
        };
        let (end, (output, took)) = tokio::join!(relaying, ends);
        assert!(matches!(end.reason, Reason::Closed(Side::Client)), "{:?}", end.reason);
        assert_eq!((output.as_slice(), took), (&b"ab"[..], 2 * 29 + 30));
    }

    #[tokio::test(start_paused = true)]
    async fn open_connection_may_be_silent_for_days() {
        let (mut client, mut inner_client) = duplex(1000);
        let (inner_upstream, mut server) = duplex(1000);
        let relaying = async {
            let mut upstream = HalfCloses::new(OfSession(inner_upstream));
            relay(&mut inner_client, &mut upstream, &mut Tap, pending(), pending()).await
        };
        let talks = async {
            sleep(Duration::from_hours(72)).await;
            server.write_all(b"hello").await.unwrap();
            drop(server);
            let mut output = Vec::new();
            client.read_to_end(&mut output).await.unwrap();
            drop(client);
            output
        };
        let (end, output) = tokio::join!(relaying, talks);
        assert!(matches!(end.reason, Reason::Closed(Side::Upstream)), "{:?}", end.reason);
        assert_eq!(output, b"hello");
    }
}
