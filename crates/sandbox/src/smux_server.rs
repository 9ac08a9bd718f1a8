//! The agent's end of smux: one dial after the other, and a pair of copy loops for each stream.
//!
//! As amazon-ssm-agent `agent/session/plugins/port/port_mux.go` (handleServerConnections, handleDataTransfer) over
//! xtaci/smux version 1: no window for a stream, one bucket of memory for all; a FIN in either direction ends both.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use bytes::{BufMut, Bytes, BytesMut};
use ssm_session::smux::frame::{Command, FrameError, FrameReader, Piece, StreamId};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Notify, mpsc},
    task::JoinSet,
};

use super::{
    network::Destination,
    session::{Counters, Link},
    world::World,
};

/// smux MaxReceiveBuffer: unread bytes of all streams at which nothing more is read.
const BUCKET: i64 = 4 << 20;
/// smux MaxFrameSize, and what `io.Copy` reads at once.
const FRAME: usize = 32 << 10;
/// Frames between the streams and the agent's sender: about what the unix socket between them holds.
const BACKLOG: usize = 8;

/// Events of the streams, which the agent sends.
#[derive(Debug)]
pub(super) enum Event {
    /// Bytes from a database, at most one frame of them.
    Data(StreamId, Bytes),
    /// A stream has ended.
    Fin(StreamId),
    /// A dial failed; the FIN of its stream follows.
    DialFailed,
}

/// The streams of one session.
pub(super) struct SmuxServer {
    reader: FrameReader,
    streams: HashMap<StreamId, mpsc::UnboundedSender<Bytes>>,
    bucket: Arc<Bucket>,
    dials: mpsc::UnboundedSender<Dial>,
    link: Arc<Link>,
    /// Set when a frame is received; cleared by [`SmuxServer::heard`].
    heard: bool,
}

struct Dial {
    stream: StreamId,
    data: mpsc::UnboundedReceiver<Bytes>,
}

impl SmuxServer {
    /// Starts the accept loop, which ends with the session.
    pub(super) fn start(
        world: &Arc<World>,
        link: &Arc<Link>,
        destination: Destination,
    ) -> (Self, mpsc::Receiver<Event>) {
        let (events, received) = mpsc::channel(BACKLOG);
        let (dials, requested) = mpsc::unbounded_channel();
        let bucket = Arc::new(Bucket { tokens: AtomicI64::new(BUCKET), refilled: Notify::new() });
        let accept =
            accept_loop(Arc::clone(world), Arc::clone(link), destination, requested, Arc::clone(&bucket), events);
        let over = link.over.clone();
        world.tasks.spawn(async move {
            tokio::select! {
                () = over.cancelled() => {}
                () = accept => {}
            }
        });
        let link = Arc::clone(link);
        let server =
            Self { reader: FrameReader::default(), streams: HashMap::new(), bucket, dials, link, heard: false };
        (server, received)
    }

    /// The memory that unread data may take.
    pub(super) fn bucket(&self) -> Arc<Bucket> {
        Arc::clone(&self.bucket)
    }

    /// Whether a frame was received since the last call.
    pub(super) fn heard(&mut self) -> bool {
        std::mem::take(&mut self.heard)
    }

    /// Takes the next bytes of the client.
    pub(super) fn receive(&mut self, mut payload: Bytes) -> Result<(), FrameError> {
        while let Some(piece) = self.reader.next(&mut payload)? {
            self.heard = true;
            match piece {
                Piece::Control(Command::Syn, stream) => self.open(stream),
                // Dropping the sender lets the stream write what it has, then end.
                Piece::Control(Command::Fin, stream) => drop(self.streams.remove(&stream)),
                Piece::Control(Command::Nop | Command::Psh, _) => {}
                Piece::Control(Command::Upd, _) => self.link.violation("an UPD of smux version 2"),
                Piece::Data(stream, data) => {
                    let length = data.len();
                    if let Some(sender) = self.streams.get(&stream)
                        && sender.send(data).is_ok()
                    {
                        self.bucket.take(length);
                    }
                }
            }
        }
        Ok(())
    }

    fn open(&mut self, stream: StreamId) {
        if self.streams.contains_key(&stream) {
            self.link.violation(format!("SYN for the live stream {}", stream.0));
            return;
        }
        if stream.0.is_multiple_of(2) || stream.0 < 3 {
            self.link.violation(format!("a client's stream with the number {}", stream.0));
        }
        let (sender, data) = mpsc::unbounded_channel();
        self.streams.insert(stream, sender);
        Counters::add(&self.link.counters.streams, 1);
        // The accept loop lives as long as the session.
        let _ = self.dials.send(Dial { stream, data });
    }

    /// The stream has ended: what still comes for it is ignored.
    pub(super) fn forget(&mut self, stream: StreamId) {
        self.streams.remove(&stream);
    }
}

/// smux's token bucket, shared by all streams of a session.
pub(super) struct Bucket {
    tokens: AtomicI64,
    refilled: Notify,
}

impl Bucket {
    /// Whether the session may read more.
    pub(super) fn has_tokens(&self) -> bool {
        self.tokens.load(Ordering::Relaxed) > 0
    }

    /// Waits for [`Bucket::has_tokens`]. Cancel safe; one waiter.
    pub(super) async fn refilled(&self) {
        while !self.has_tokens() {
            self.refilled.notified().await;
        }
    }

    fn take(&self, length: usize) {
        self.tokens.fetch_sub(signed(length), Ordering::Relaxed);
    }

    fn give(&self, length: usize) {
        let before = self.tokens.fetch_add(signed(length), Ordering::Relaxed);
        if before <= 0 {
            self.refilled.notify_one();
        }
    }
}

fn signed(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

/// handleServerConnections: dials one stream after the other, without a deadline of its own.
async fn accept_loop(
    world: Arc<World>,
    link: Arc<Link>,
    destination: Destination,
    mut dials: mpsc::UnboundedReceiver<Dial>,
    bucket: Arc<Bucket>,
    events: mpsc::Sender<Event>,
) {
    // Dropped with this future: the sockets of all streams close when the session ends.
    let mut streams = JoinSet::new();
    while let Some(Dial { stream, data }) = dials.recv().await {
        let dialled = world.network.dial(&destination).await;
        while streams.try_join_next().is_some() {}
        match dialled {
            Ok(socket) => {
                let copy = Copy { stream, socket, data, bucket: Arc::clone(&bucket), events: events.clone() };
                streams.spawn(copy.run());
            }
            Err(error) => {
                tracing::debug!(%error, stream = stream.0, "sandbox agent cannot dial");
                Counters::add(&link.counters.failed_dials, 1);
                give_back(data, &bucket);
                for event in [Event::DialFailed, Event::Fin(stream)] {
                    if events.send(event).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// handleDataTransfer: two copies, and when one ends, both do.
struct Copy {
    stream: StreamId,
    socket: TcpStream,
    data: mpsc::UnboundedReceiver<Bytes>,
    bucket: Arc<Bucket>,
    events: mpsc::Sender<Event>,
}

impl Copy {
    async fn run(mut self) {
        let Self { stream, socket, data, bucket, events } = &mut self;
        let (mut read, mut write) = socket.split();
        let to_database = async {
            let mut chunks = Vec::new();
            let mut buffer = BytesMut::new();
            while data.recv_many(&mut chunks, 64).await > 0 {
                for chunk in chunks.drain(..) {
                    buffer.extend_from_slice(&chunk);
                }
                bucket.give(buffer.len());
                if write.write_all(&buffer).await.is_err() {
                    return;
                }
                buffer.clear();
            }
        };
        let from_database = async {
            let mut buffer = BytesMut::new();
            loop {
                buffer.reserve(FRAME);
                match read.read_buf(&mut (&mut buffer).limit(FRAME)).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                }
                if events.send(Event::Data(*stream, buffer.split().freeze())).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = to_database => {}
            () = from_database => {}
        }
        let Self { stream, socket, data, bucket, events } = self;
        drop(socket);
        give_back(data, &bucket);
        // The send fails when the agent is gone.
        let _ = events.send(Event::Fin(stream)).await;
    }
}

/// Returns the tokens of data that will not be read.
fn give_back(mut data: mpsc::UnboundedReceiver<Bytes>, bucket: &Bucket) {
    data.close();
    while let Ok(chunk) = data.try_recv() {
        bucket.give(chunk.len());
    }
}
