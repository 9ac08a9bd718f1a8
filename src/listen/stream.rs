//! The connection of a client, accepted by any kind of listener.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};

/// A client's connection.
#[derive(Debug)]
pub struct Stream {
    socket: Socket,
    /// Bytes that [`peek`](Self::peek) has taken from a unix socket, which has no peek without unsafe code. The next
    /// reads return them.
    ahead: Vec<u8>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self { socket: Socket::Tcp(stream), ahead: Vec::new() }
    }
}

impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Self {
        Self { socket: Socket::Unix(stream), ahead: Vec::new() }
    }
}

impl Stream {
    /// Makes the close a reset, which no client takes for the end of a reply. A unix socket has none.
    pub fn reset_on_close(&self) {
        if let Socket::Tcp(stream) = &self.socket {
            // Fails for a socket that is broken already.
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }

    /// Shows the next bytes as soon as there are any, 0 at the end; the next read returns them again. Cancel safe.
    ///
    /// # Errors
    /// The error of the connection.
    pub async fn peek(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match &mut self.socket {
            Socket::Tcp(stream) => stream.peek(buf).await,
            Socket::Unix(stream) => {
                if self.ahead.is_empty() {
                    let count = stream.read(buf).await?;
                    self.ahead.extend(buf.iter().take(count));
                    return Ok(count);
                }
                let shown = buf.iter_mut().zip(&self.ahead).map(|(to, from)| *to = *from).count();
                Ok(shown)
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { socket, ahead } = self.get_mut();
        if !ahead.is_empty() {
            let taken: Vec<u8> = ahead.drain(..ahead.len().min(buf.remaining())).collect();
            buf.put_slice(&taken);
            return Poll::Ready(Ok(()));
        }
        match socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Socket::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Socket::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.socket {
            Socket::Tcp(stream) => stream.is_write_vectored(),
            Socket::Unix(stream) => stream.is_write_vectored(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn peeked_bytes_are_read_again() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let tcp = (Stream::from(client), Stream::from(listener.accept().await.unwrap().0));
        let (client, server) = UnixStream::pair().unwrap();
        let unix = (Stream::from(client), Stream::from(server));
        for (mut client, mut server) in [tcp, unix] {
            client.write_all(b"hello").await.unwrap();
            let mut shown = [0; 3];
            for _ in 0..2 {
                assert_eq!(server.peek(&mut shown).await.unwrap(), 3);
                assert_eq!(shown, *b"hel");
            }
            let mut read = [0; 5];
            server.read_exact(&mut read).await.unwrap();
            assert_eq!(read, *b"hello");
            client.shutdown().await.unwrap();
            assert_eq!(server.peek(&mut shown).await.unwrap(), 0);
        }
    }
}
