//! A relay before a PostgreSQL server, which notes the server name that each ClientHello asks for.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use rustls::server::Acceptor;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

/// The relay. Its tasks end with the runtime of the test.
pub(crate) struct SniRelay {
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    names: Arc<Mutex<Vec<Option<String>>>>,
}

impl SniRelay {
    /// Relays to the server at `to`.
    pub(crate) async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback can be listened on");
        let addr = listener.local_addr().expect("it is bound");
        let names = Arc::<Mutex<Vec<Option<String>>>>::default();
        let noted = Arc::clone(&names);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let noted = Arc::clone(&noted);
                tokio::spawn(async move { Self::serve(client, to, &noted).await });
            }
        });
        Self { addr, names }
    }

    async fn serve(mut client: TcpStream, to: SocketAddr, names: &Mutex<Vec<Option<String>>>) -> io::Result<()> {
        let mut server = TcpStream::connect(to).await?;
        let (mut ssl_request, mut reply) = ([0; 8], [0; 1]);
        client.read_exact(&mut ssl_request).await?;
        server.write_all(&ssl_request).await?;
        server.read_exact(&mut reply).await?;
        client.write_all(&reply).await?;
        let mut hello = Vec::new();
        let name = loop {
            if client.read_buf(&mut hello).await? == 0 {
                return Ok(());
            }
            let mut acceptor = Acceptor::default();
            acceptor.read_tls(&mut &hello[..])?;
            match acceptor.accept() {
                Ok(Some(accepted)) => break accepted.client_hello().server_name().map(str::to_owned),
                Ok(None) => {}
                Err(_) => return Err(io::ErrorKind::InvalidData.into()),
            }
        };
        // Before the server can answer, so that a client that is served has been noted.
        names.lock().expect("no holder panics").push(name);
        server.write_all(&hello).await?;
        copy_bidirectional(&mut client, &mut server).await.map(drop)
    }

    /// Asserts that clients have come, and that each asked for this name.
    #[track_caller]
    pub(crate) fn was_asked_for(&self, host: &str) {
        let names = self.names.lock().expect("no holder panics");
        assert!(!names.is_empty() && names.iter().all(|name| name.as_deref() == Some(host)), "{names:?}");
    }
}
