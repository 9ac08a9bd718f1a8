//! A client that has to answer the requests of a server, and does not take for ever: after its time it counts as one that has left.
//! The login can then be ended in order.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

/// A client with a limit in time for all its answers together.
pub(super) struct Answering<'a, C> {
    client: &'a mut C,
    began: Instant,
    limit: Pin<Box<Sleep>>,
    is_over: bool,
}

impl<'a, C> Answering<'a, C> {
    pub(super) fn until(client: &'a mut C, end: Instant) -> Self {
        Self { client, began: Instant::now(), limit: Box::pin(sleep_until(end)), is_over: false }
    }

    /// How long the client had, if it took longer.
    pub(super) fn overdue(&self) -> Option<Duration> {
        self.is_over.then(|| self.began.elapsed())
    }

    /// Resolves at the end of the time.
    fn poll_limit(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_over {
            ready!(self.limit.as_mut().poll(cx));
            self.is_over = true;
        }
        Poll::Ready(())
    }

    fn poll_write_or_limit<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut C>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>>
    where
        C: Unpin,
    {
        if let Poll::Ready(done) = poll(Pin::new(self.client), cx) {
            return Poll::Ready(done);
        }
        ready!(self.poll_limit(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Answering<'_, C> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Poll::Ready(read) = Pin::new(&mut *this.client).poll_read(cx, buffer) {
            return Poll::Ready(read);
        }
        // With no bytes: the end.
        this.poll_limit(cx).map(Ok)
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Answering<'_, C> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_write_or_limit(cx, |client, cx| client.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_write_or_limit(cx, AsyncWrite::poll_flush)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_write_or_limit(cx, AsyncWrite::poll_shutdown)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silent_client_has_left_after_its_time() {
        let (mut ours, mut theirs) = duplex(4);
        let mut client = Answering::until(&mut ours, Instant::now() + Duration::from_secs(5));
        theirs.write_all(b"ab").await.unwrap();
        let mut read = [0; 4];
        assert_eq!(client.read(&mut read).await.unwrap(), 2);
        assert_eq!(client.overdue(), None);
        assert_eq!(client.read(&mut read).await.unwrap(), 0);
        assert_eq!(client.overdue(), Some(Duration::from_secs(5)));
        let error = client.write_all(b"more than it takes").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
