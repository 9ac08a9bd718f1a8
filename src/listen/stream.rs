//! The connection of a client, accepted by any kind of listener.

use std::{
    io::{self, IoSlice},
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::FutureExt as _;
use rustls::ServerConfig;
use socket2::SockRef;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// A client's connection.
#[derive(Debug)]
pub struct Stream {
    socket: Socket,
    /// Bytes that [`peek`](Self::peek) has taken from TLS, or from a unix socket, which has no peek without unsafe code; and bytes
    /// that were [put back](Self::unread). The next reads return them.
    ahead: Vec<u8>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
    /// Inside TLS.
    Tls(Box<TlsStream<Stream>>),
    /// Lost with a TLS handshake that failed or was broken off: at its end for a reader.
    Lost,
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self { socket: Socket::Tcp(stream), ahead: Vec::new() }
    }
}

#[cfg(unix)]
impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Self {
        Self { socket: Socket::Unix(stream), ahead: Vec::new() }
    }
}

impl Stream {
    /// Makes the close a reset, which no client takes for the end of a reply. A unix socket has none.
    pub fn reset_on_close(&self) {
        match &self.socket {
            // Fails for a socket that is broken already.
            Socket::Tcp(stream) => _ = SockRef::from(stream).set_linger(Some(Duration::ZERO)),
            Socket::Tls(stream) => stream.get_ref().0.reset_on_close(),
            #[cfg(unix)]
            Socket::Unix(_) => {}
            Socket::Lost => {}
        }
    }

    /// Does the handshake of a TLS server, and carries on inside. The stream is lost with a handshake that fails or is dropped. The
    /// caller sets the time limit.
    ///
    /// # Errors
    /// The client has left, or does not accept the certificate, or the two have no parameters in common.
    pub async fn start_tls(&mut self, config: Arc<ServerConfig>) -> io::Result<()> {
        let plain = mem::replace(self, Self { socket: Socket::Lost, ahead: Vec::new() });
        let inside = TlsAcceptor::from(config).accept(plain).await?;
        self.socket = Socket::Tls(Box::new(inside));
        Ok(())
    }

    /// The protocol that the client chose inside TLS (ALPN).
    pub fn alpn_protocol(&self) -> Option<&[u8]> {
        match &self.socket {
            Socket::Tls(stream) => stream.get_ref().1.alpn_protocol(),
            #[cfg(unix)]
            Socket::Unix(_) => None,
            Socket::Tcp(_) | Socket::Lost => None,
        }
    }

    /// Puts bytes back that were read, before all others.
    pub fn unread(&mut self, bytes: &[u8]) {
        self.ahead.splice(..0, bytes.iter().copied());
    }

    /// Whether the client has sent bytes that have arrived and were not read.
    pub fn has_unread(&mut self) -> bool {
        matches!(self.peek(&mut [0]).now_or_never(), Some(Ok(1..)))
    }

    /// Shows the next bytes as soon as there are any, 0 at the end; the next read returns them again. Cancel safe.
    ///
    /// # Errors
    /// The error of the connection.
    pub async fn peek(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if !self.ahead.is_empty() {
            return Ok(buf.iter_mut().zip(&self.ahead).map(|(to, from)| *to = *from).count());
        }
        if let Socket::Tcp(stream) = &mut self.socket {
            return stream.peek(buf).await;
        }
        let count = self.read(buf).await?;
        self.ahead.extend(buf.iter().take(count));
        Ok(count)
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
            #[cfg(unix)]
            Socket::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            // Few clients say goodbye to TLS. What is cut off shows in the protocol inside.
            Socket::Tls(stream) => match ready!(Pin::new(stream).poll_read(cx, buf)) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
                read => Poll::Ready(read),
            },
            Socket::Lost => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            #[cfg(unix)]
            Socket::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Socket::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            Socket::Lost => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            #[cfg(unix)]
            Socket::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Lost => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(unix)]
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Lost => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            #[cfg(unix)]
            Socket::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Socket::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Socket::Lost => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.socket {
            Socket::Tcp(stream) => stream.is_write_vectored(),
            #[cfg(unix)]
            Socket::Unix(stream) => stream.is_write_vectored(),
            Socket::Tls(stream) => stream.is_write_vectored(),
            Socket::Lost => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use rustls::{ClientConfig, RootCertStore, pki_types::PrivateKeyDer};
    use tokio::io::AsyncWriteExt as _;
    use tokio_rustls::{TlsConnector, client};

    use super::*;

    /// A client and a server, which talk inside TLS.
    async fn inside_tls() -> (client::TlsStream<TcpStream>, Stream, Arc<ServerConfig>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut server = Stream::from(listener.accept().await.unwrap().0);
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let client = client.unwrap().with_root_certificates(roots).with_no_client_auth();
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let chain = vec![made.cert.der().clone()];
        let mut config = config.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap();
        config.send_tls13_tickets = 0;
        let config = Arc::new(config);
        let connector = TlsConnector::from(Arc::new(client));
        let connect = connector.connect("localhost".try_into().unwrap(), socket);
        let (client, started) = tokio::join!(connect, server.start_tls(Arc::clone(&config)));
        started.unwrap();
        (client.unwrap(), server, config)
    }

    #[tokio::test]
    async fn stream_inside_tls_closes_each_direction_on_its_own() {
        let (mut client, mut server, _) = inside_tls().await;
        client.write_all(b"hello").await.unwrap();
        for _ in 0..2 {
            let mut shown = [0; 3];
            assert_eq!((server.peek(&mut shown).await.unwrap(), shown), (3, *b"hel"));
        }
        let mut read = [0; 5];
        server.read_exact(&mut read).await.unwrap();
        assert_eq!(read, *b"hello");
        client.shutdown().await.unwrap();
        assert_eq!(server.peek(&mut read).await.unwrap(), 0);
        server.write_all(b"reply").await.unwrap();
        server.shutdown().await.unwrap();
        let mut reply = Vec::new();
        client.read_to_end(&mut reply).await.unwrap();
        assert_eq!(reply, b"reply");
    }

    #[tokio::test]
    async fn end_without_goodbye_to_tls_is_an_end() {
        let (client, mut server, _) = inside_tls().await;
        drop(client.into_inner().0);
        assert_eq!(server.read(&mut [0; 5]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn stream_of_a_failed_handshake_is_at_its_end() {
        let (_, _, config) = inside_tls().await;
        let (mut client, server) = UnixStream::pair().unwrap();
        let mut server = Stream::from(server);
        client.write_all(b"behind").await.unwrap();
        assert_eq!(server.read(&mut [0; 2]).await.unwrap(), 2);
        assert!(server.has_unread());
        server.unread(b"be");
        assert!(server.start_tls(config).await.is_err());
        assert_eq!(server.read(&mut [0; 5]).await.unwrap(), 0);
        assert_eq!(server.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

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
