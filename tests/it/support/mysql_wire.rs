//! A MySQL client by hand: every packet as it came, with the capabilities that a test chooses, and no password.

use database_wire::mysql::{Capabilities, Greeting, Watch};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};

use super::{driver::within, gate::Gate, servers::Server};

/// The capabilities of every client since MySQL 4.1; no extended ones.
pub(crate) const PLAIN: u64 = 1 | 1 << 2 | 1 << 9 | 1 << 13 | 1 << 15;
/// CLIENT_MULTI_STATEMENTS, CLIENT_MULTI_RESULTS, CLIENT_PS_MULTI_RESULTS.
pub(crate) const MULTI: u64 = 1 << 16 | 1 << 17 | 1 << 18;
/// CLIENT_PLUGIN_AUTH.
pub(crate) const PLUGIN_AUTH: u64 = 1 << 19;
/// CLIENT_SESSION_TRACK.
pub(crate) const SESSION_TRACK: u64 = 1 << 23;
/// CLIENT_DEPRECATE_EOF.
pub(crate) const DEPRECATE_EOF: u64 = 1 << 24;
/// CLIENT_COMPRESS.
pub(crate) const COMPRESS: u64 = 1 << 5;
/// CLIENT_OPTIONAL_RESULTSET_METADATA.
pub(crate) const OPTIONAL_METADATA: u64 = 1 << 25;
/// CLIENT_QUERY_ATTRIBUTES.
pub(crate) const QUERY_ATTRIBUTES: u64 = 1 << 27;

pub(crate) const COM_INIT_DB: u8 = 2;
pub(crate) const COM_QUERY: u8 = 3;

/// The longest payload of one packet.
const MAX_PACKET: usize = 0xff_ffff;

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Io for S {}

/// One connection that is logged in.
pub(crate) struct Wire {
    stream: Box<dyn Io>,
    /// Sees all that this client sends and hears after its login: where an answer ends is for it to say, and if it is
    /// wrong the next answer does not begin with number 1, or this one never ends.
    pub(crate) watch: Watch,
    /// The capabilities that were agreed on.
    agreed: Capabilities,
    /// The OK of the login.
    pub(crate) login: Vec<u8>,
    pub(crate) greeting: Greeting,
}

impl Wire {
    /// Logs in through the gate as app_user.
    pub(crate) async fn through(gate: &Gate, capabilities: u64) -> Self {
        let said = Self::try_through(gate, capabilities, "app_user", "appdb").await;
        said.unwrap_or_else(|error| panic!("{}\n{}", error.escape_ascii(), gate.log()))
    }

    /// The same, for one that may be refused: with the ERR.
    pub(crate) async fn try_through(
        gate: &Gate,
        capabilities: u64,
        user: &str,
        database: &str,
    ) -> Result<Self, Vec<u8>> {
        let stream = TcpStream::connect(("127.0.0.1", gate.port)).await.expect("rdsgate listens");
        within("the login", Self::log_in(Box::new(stream), capabilities, user, database)).await
    }

    /// Logs in to the server itself as its master, past the gate.
    pub(crate) async fn past(server: &Server, capabilities: u64) -> Self {
        let stream = UnixStream::connect(server.socket_dir.join("mysqld.sock")).await.expect("it listens there");
        let said = within("the login", Self::log_in(Box::new(stream), capabilities, "master", "appdb")).await;
        said.unwrap_or_else(|error| panic!("{}", error.escape_ascii()))
    }

    async fn log_in(mut stream: Box<dyn Io>, capabilities: u64, user: &str, database: &str) -> Result<Self, Vec<u8>> {
        let (_, first) = packet(&mut stream).await;
        let Ok(greeting) = Greeting::parse(&first) else { return Err(first) };
        // CLIENT_CONNECT_WITH_DB
        let wanted = Capabilities(capabilities | 1 << 3);
        let mut response = wanted.0.to_le_bytes()[..4].to_vec();
        response.extend([0, 0, 0, 64, 45]);
        response.extend([0; 19]);
        response.extend(&wanted.0.to_le_bytes()[4..]);
        // Nothing for a password, be it a length or a C string.
        response.extend([user.as_bytes(), b"\0\0", database.as_bytes(), b"\0"].concat());
        if wanted.0 & PLUGIN_AUTH != 0 {
            response.extend([&greeting.plugin[..], b"\0"].concat());
        }
        send(&mut stream, 1, &response).await;
        loop {
            let (sequence, payload) = packet(&mut stream).await;
            match payload.first() {
                Some(0) => {
                    let status = database_wire::mysql::OkPacket::parse(payload.clone()).expect("an OK").status;
                    let agreed = wanted & greeting.capabilities;
                    let watch = Watch::new(agreed, status);
                    return Ok(Self { stream, watch, agreed, login: payload, greeting });
                }
                Some(0xfe) => send(&mut stream, sequence + 1, b"").await,
                Some(1) => {}
                _ => return Err(payload),
            }
        }
    }

    /// Sends a command without waiting for its answer.
    pub(crate) async fn send(&mut self, command: u8, argument: &[u8]) {
        let payload = [&[command], argument].concat();
        let sent = send(&mut self.stream, 0, &payload);
        within("sending", sent).await;
        self.watch.on_client(&framed(0, &payload));
    }

    /// The next packet: its number and payload.
    pub(crate) async fn packet(&mut self) -> (u8, Vec<u8>) {
        let (sequence, payload) = within("a packet", packet(&mut self.stream)).await;
        self.watch.on_upstream(&framed(sequence, &payload));
        (sequence, payload)
    }

    /// The whole answer to a command: the payload of each packet.
    pub(crate) async fn ask(&mut self, command: u8, argument: &[u8]) -> Vec<Vec<u8>> {
        self.send(command, argument).await;
        let mut answer = Vec::new();
        // Of the last packet so far.
        let mut number = (argument.len() + 1) / MAX_PACKET;
        while !self.watch.is_answered() {
            let (sequence, payload) = self.packet().await;
            number += payload.len() / MAX_PACKET + 1;
            assert_eq!(usize::from(sequence), number % 256, "{}", payload.escape_ascii());
            answer.push(payload);
        }
        answer
    }

    /// The answer to a statement, which is sent without attributes.
    pub(crate) async fn query(&mut self, sql: &str) -> Vec<Vec<u8>> {
        let none: &[u8] = if self.agreed.contains(Capabilities(QUERY_ATTRIBUTES)) { &[0, 1] } else { &[] };
        self.ask(COM_QUERY, &[none, sql.as_bytes()].concat()).await
    }

    /// The first column of each row of a statement's one result, as text.
    pub(crate) async fn column(&mut self, sql: &str) -> Vec<String> {
        let answer = self.query(sql).await;
        assert!(answer.len() > 1, "{sql}: {}", answer[0].escape_ascii());
        // A definition of a column begins with the catalog, "def".
        let rows = answer[1..answer.len() - 1].iter();
        rows.filter(|payload| !payload.starts_with(b"\x03def") && payload[0] != 0xfe)
            .map(|row| String::from_utf8_lossy(&row[1..=usize::from(row[0])]).into_owned())
            .collect()
    }

    /// Everything up to the end.
    pub(crate) async fn rest(mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = within("the end", self.stream.read_to_end(&mut rest)).await;
        rest
    }
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), sequence: u8, payload: &[u8]) {
    stream.write_all(&framed(sequence, payload)).await.expect("it reads");
    stream.flush().await.expect("it reads");
}

/// The next payload, which may take several packets, and the number of the last.
async fn packet(stream: &mut (impl AsyncRead + Unpin)) -> (u8, Vec<u8>) {
    let mut payload = Vec::new();
    loop {
        let [a, b, c, sequence] = {
            let mut header = [0; 4];
            stream.read_exact(&mut header).await.expect("a packet before the end");
            header
        };
        let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
        let have = payload.len();
        payload.resize(have + length, 0);
        stream.read_exact(&mut payload[have..]).await.expect("a whole packet");
        if length < MAX_PACKET {
            return (sequence, payload);
        }
    }
}

/// In packets, the first with this number.
fn framed(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 8);
    let mut rest = payload;
    for sequence in (0..=u8::MAX).cycle().skip(sequence.into()) {
        let (now, behind) = rest.split_at(rest.len().min(MAX_PACKET));
        out.extend(&now.len().to_le_bytes()[..3]);
        out.push(sequence);
        out.extend(now);
        rest = behind;
        if now.len() < MAX_PACKET {
            break;
        }
    }
    out
}
