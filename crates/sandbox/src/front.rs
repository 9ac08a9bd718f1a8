//! A PostgreSQL that demands TLS and an IAM token, made of a real PostgreSQL that trusts this machine.
//!
//! The front answers the SSLRequest, asks for the password, checks it as RDS would and then passes the startup message
//! on and relays. It does not have PostgreSQL's own TLS and PAM, which the servers in `tests/servers` have.

use std::{
    fmt,
    io::{self, ErrorKind},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use database_wire::postgres::error::ErrorReport;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
};
use tokio_rustls::TlsAcceptor;

use super::{DatabaseServer, Sandbox, World, pki::Leaf};

/// A stream to the backend: TCP or a unix socket.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Io for S {}
type BoxIo = Box<dyn Io>;

/// PostgreSQL's own limits (`MAX_STARTUP_PACKET_LENGTH`, `PG_MAX_AUTH_TOKEN_LENGTH`), and its authentication_timeout.
const LONGEST_STARTUP: usize = 10_000;
const LONGEST_PASSWORD: usize = 65_535;
const LOGIN_TIMEOUT: Duration = Duration::from_mins(1);

const SSL_REQUEST: u32 = 80_877_103;
const CANCEL_REQUEST: u32 = 80_877_102;
const GSSENC_REQUEST: u32 = 80_877_104;

/// The address of the real PostgreSQL.
#[derive(Debug, Clone)]
pub enum Backend {
    /// A port on loopback.
    Tcp(SocketAddr),
    /// The path of its unix socket, `…/.s.PGSQL.5432`.
    Unix(PathBuf),
}

/// The way in which a front reads the first message of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// To its end, as PostgreSQL does: what comes behind it waits.
    InOrder,
    /// With whatever has come, which is dropped but for the startup, as some proxies do: a password that came early is lost.
    StartupAlone,
}

/// A front on loopback; it lives as long as its sandbox.
#[derive(Debug, Clone, Copy)]
pub struct Front {
    /// The address of the listener.
    pub address: SocketAddr,
}

impl Front {
    /// Listens as `server`, with this certificate, before this PostgreSQL.
    ///
    /// # Errors
    /// [`Error`](super::Error) when loopback cannot be listened on or the certificate cannot be used.
    pub async fn start(
        sandbox: &Sandbox,
        server: DatabaseServer,
        leaf: &Leaf,
        backend: Backend,
        reads: Reads,
    ) -> Result<Self, super::Error> {
        let tls = TlsAcceptor::from(leaf.server_config(true)?);
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(super::Error::Listen)?;
        let address = listener.local_addr().map_err(super::Error::Listen)?;
        let inner = Arc::new(Inner { world: Arc::clone(&sandbox.world), server, backend, reads, tls });
        let (tasks, stop) = (sandbox.world.tasks.clone(), sandbox.world.stop.clone());
        sandbox.world.tasks.spawn(async move {
            loop {
                let accepted = tokio::select! {
                    () = stop.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                let Ok((socket, _)) = accepted else { continue };
                let (inner, stop) = (Arc::clone(&inner), stop.clone());
                tasks.spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        ended = inner.serve(socket) => if let Err(error) = ended {
                            tracing::debug!(%error, "sandbox front");
                        },
                    }
                });
            }
        });
        Ok(Self { address })
    }
}

struct Inner {
    world: Arc<World>,
    server: DatabaseServer,
    backend: Backend,
    reads: Reads,
    tls: TlsAcceptor,
}

/// A first packet: what it asks for, and its bytes.
struct First {
    code: u32,
    packet: Vec<u8>,
}

impl Inner {
    async fn serve(&self, socket: TcpStream) -> io::Result<()> {
        socket.set_nodelay(true)?;
        let login = tokio::time::timeout(LOGIN_TIMEOUT, self.log_in(socket));
        let Some((mut client, mut server)) = login.await.map_err(|_| ErrorKind::TimedOut)?? else { return Ok(()) };
        tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop)
    }

    /// Both ends, ready to be relayed; `None` if the connection is not a login, or is refused.
    async fn log_in(&self, mut socket: TcpStream) -> io::Result<Option<(BoxIo, BoxIo)>> {
        let mut first = read_first(&mut socket).await?;
        if first.code == GSSENC_REQUEST {
            socket.write_all(b"N").await?;
            first = read_first(&mut socket).await?;
        }
        let mut client: BoxIo = Box::new(socket);
        let encrypted = first.code == SSL_REQUEST;
        if encrypted {
            client.write_all(b"S").await?;
            client = Box::new(self.tls.accept(client).await?);
            first = match self.reads {
                Reads::InOrder => read_first(&mut client).await?,
                Reads::StartupAlone => read_first_alone(&mut client).await?,
            };
        }
        if first.code == CANCEL_REQUEST {
            self.connect().await?.write_all(&first.packet).await?;
            return Ok(None);
        }
        let user = parameter(&first.packet, "user").unwrap_or_default();
        if !encrypted {
            let database = parameter(&first.packet, "database").unwrap_or(user);
            let message = format!(
                "no pg_hba.conf entry for host \"127.0.0.1\", user \"{user}\", database \"{database}\", no encryption"
            );
            return refuse(client, message).await;
        }
        // AuthenticationCleartextPassword.
        client.write_all(&[b'R', 0, 0, 0, 8, 0, 0, 0, 3]).await?;
        client.flush().await?;
        let token = read_password(&mut client).await?;
        if let Err(refusal) = self.world.verify_token(&token, user, &self.server) {
            tracing::debug!(%refusal, user, "sandbox front refuses a token");
            return refuse(client, format!("PAM authentication failed for user \"{user}\"")).await;
        }
        let mut server = self.connect().await?;
        server.write_all(&first.packet).await?;
        Ok(Some((client, server)))
    }

    async fn connect(&self) -> io::Result<BoxIo> {
        Ok(match &self.backend {
            Backend::Tcp(address) => {
                let socket = TcpStream::connect(address).await?;
                socket.set_nodelay(true)?;
                Box::new(socket)
            }
            Backend::Unix(path) => Box::new(UnixStream::connect(path).await?),
        })
    }
}

/// Length, code and the rest: SSLRequest, CancelRequest or StartupMessage.
async fn read_first<S: AsyncRead + Unpin>(client: &mut S) -> io::Result<First> {
    let length = client.read_u32().await?;
    let body_length = usize::try_from(length).unwrap_or(usize::MAX).saturating_sub(4);
    if !(4..=LONGEST_STARTUP).contains(&body_length) {
        return Err(invalid("length of a startup packet"));
    }
    let code = client.read_u32().await?;
    let mut packet = [length.to_be_bytes(), code.to_be_bytes()].concat();
    client.take((body_length - 4) as u64).read_to_end(&mut packet).await?;
    if packet.len() != body_length + 4 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(First { code, packet })
}

/// The same in one read, whose rest is dropped.
async fn read_first_alone<S: AsyncRead + Unpin>(client: &mut S) -> io::Result<First> {
    let mut chunk = vec![0; LONGEST_STARTUP + LONGEST_PASSWORD];
    let read = client.read(&mut chunk).await?;
    chunk.truncate(read);
    read_first(&mut chunk.as_slice()).await
}

async fn read_password<S: AsyncRead + Unpin>(client: &mut S) -> io::Result<String> {
    if client.read_u8().await? != b'p' {
        return Err(invalid("message instead of a password"));
    }
    let length = usize::try_from(client.read_u32().await?).unwrap_or(usize::MAX).saturating_sub(4);
    if !(1..=LONGEST_PASSWORD).contains(&length) {
        return Err(invalid("length of a password"));
    }
    let mut password = vec![0; length];
    client.read_exact(&mut password).await?;
    if password.pop() != Some(0) {
        return Err(invalid("password without its end"));
    }
    String::from_utf8(password).map_err(|_| invalid("password that is not UTF-8"))
}

/// One parameter of a startup message.
fn parameter<'a>(packet: &'a [u8], name: &str) -> Option<&'a str> {
    let mut words = packet.get(8..)?.split(|&b| b == 0).map(|word| std::str::from_utf8(word).ok());
    while let (Some(key), Some(value)) = (words.next()?, words.next()?) {
        if key == name {
            return Some(value);
        }
    }
    None
}

async fn refuse<S: AsyncWrite + Unpin>(mut client: S, message: String) -> io::Result<Option<(BoxIo, BoxIo)>> {
    let report = ErrorReport { sqlstate: "28000", message, detail: None, hint: None };
    client.write_all(&report.encode()).await?;
    client.shutdown().await?;
    Ok(None)
}

fn invalid(what: impl fmt::Display) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("bad {what}"))
}
