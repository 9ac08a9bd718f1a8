//! Withholds the goodbye of a client from the server, so that the connection can serve another client.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

/// The goodbye of one client, and whether it was said. Clones share it.
#[derive(Debug, Clone)]
pub struct Goodbye {
    bytes: &'static [u8],
    /// The client waits for nothing, and the next bytes begin a message. Set and cleared by whatever follows the connection.
    idle: Arc<AtomicBool>,
    said: CancellationToken,
}

impl Goodbye {
    /// Of a client whose goodbye has these bytes.
    pub fn new(bytes: &'static [u8]) -> Self {
        Self { bytes, idle: Arc::default(), said: CancellationToken::new() }
    }

    /// Says whether a goodbye would be withheld now.
    pub fn set_idle(&self, idle: bool) {
        self.idle.store(idle, Ordering::Relaxed);
    }

    /// Resolves when the goodbye has been withheld.
    pub async fn said(&self) {
        self.said.cancelled().await;
    }

    /// Whether it has been withheld.
    pub fn is_said(&self) -> bool {
        self.said.is_cancelled()
    }
}

/// A client whose goodbye is withheld if it comes alone while the client is idle. After that nothing is read.
#[derive(Debug)]
pub struct Withholding<'a, S> {
    inner: &'a mut S,
    goodbye: Option<Goodbye>,
}

impl<'a, S> Withholding<'a, S> {
    /// Passes everything on without a goodbye to withhold.
    pub fn new(inner: &'a mut S, goodbye: Option<Goodbye>) -> Self {
        Self { inner, goodbye }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Withholding<'_, S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { inner, goodbye } = &mut *self;
        let Some(goodbye) = goodbye else { return Pin::new(inner).poll_read(cx, buf) };
        if goodbye.is_said() {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        ready!(Pin::new(inner).poll_read(cx, buf))?;
        let is_goodbye = buf.filled().get(before..) == Some(goodbye.bytes);
        if is_goodbye && goodbye.idle.load(Ordering::Relaxed) {
            buf.set_filled(before);
            goodbye.said.cancel();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Withholding<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn goodbye_is_withheld_only_alone_and_from_an_idle_client() {
        for (idle, said, withheld) in [
            (true, &b"bye"[..], true),
            (false, b"bye", false),
            (true, b"by", false),
            (true, b"bye!", false),
            (true, b"!bye", false),
            (true, b"", false),
        ] {
            let (mut client, mut inner) = duplex(100);
            let goodbye = Goodbye::new(b"bye");
            goodbye.set_idle(idle);
            let mut withholding = Withholding::new(&mut inner, Some(goodbye.clone()));
            client.write_all(said).await.unwrap();
            client.shutdown().await.unwrap();
            let mut heard = [0; 10];
            let read = withholding.read(&mut heard).now_or_never();
            assert_eq!(read.is_none(), withheld, "{said:?}");
            assert_eq!((goodbye.is_said(), goodbye.said().now_or_never().is_some()), (withheld, withheld));
            if withheld {
                assert!(withholding.read(&mut heard).now_or_never().is_none(), "nor the end of the client");
            }
        }
    }
}
