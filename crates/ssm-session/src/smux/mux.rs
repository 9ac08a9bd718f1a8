//! The client's side of one smux session: streams, their buffers, and whose turn it is to send. Sans-IO.
//!
//! ```text
//!              SYN                 first byte                 FIN (either side)
//!   open ──▶ Dialling ───────────────▶ Established ─────────────────────▶ gone
//!               │ Flag 3 + FIN: refused        │ poll_shutdown: half-closed, FIN with the agent's
//!               │ nothing in time: stuck       │ handle dropped: FIN after what is queued
//! ```
//!
//! The agent says nothing when a dial succeeds, so a silent database looks like none. After [`Options::dial_question`] another
//! stream is opened and closed in one breath: the agent comes to it only when the dial before it is over, and answers with
//! its FIN.
//! What else happens while a stream is being dialled is in `dials`.
//!
//! smux version 1 has no window for one stream, so what a client does not read piles up here: [`Mux::is_full`] asks the
//! driver to stop reading the websocket for all streams. The agent closes a connection completely at the first FIN, from
//! either side, so ours is delayed at a half-close (`poll_shutdown`) until the other side has finished.
//!
//! Sources: xtaci/smux `session.go`, `stream.go`; amazon-ssm-agent `agent/session/plugins/port/port_mux.go`
//! (handleServerConnections: serial dials, Flag 3 before the FIN of a failed dial).

mod dials;

use std::{
    collections::{HashMap, VecDeque},
    io,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes, BytesMut};

use self::dials::Syn;
use super::frame::{Command, FrameError, FrameReader, HEADER, Header, Piece, StreamId};
use crate::sequence::SequenceNumber;

/// Limits and delays of a session's streams.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes received and not yet read, of all streams together, beyond which the session reads nothing more.
    /// Default 64 MiB.
    pub max_unread: usize,
    /// Bytes written and not yet sent, of each stream. Default 256 KiB.
    pub max_unsent: usize,
    /// Without a first byte, FIN or refusal this long after the agent has acknowledged a stream's SYN the session is stuck:
    /// the agent dials one stream at a time and waits two minutes. Default 8 s.
    pub dial_timeout: Duration,
    /// When a dial without an answer is asked after, see the module's description. Default 4 s.
    pub dial_question: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_unread: 64 << 20, max_unsent: 256 << 10, dial_timeout: DIAL_TIMEOUT, dial_question: DIAL_QUESTION }
    }
}

/// A dial that nothing has accepted after this time is hopeless: SYN has been sent again after 1, 3 and 7 s (RFC 6298).
const DIAL_TIMEOUT: Duration = Duration::from_secs(8);
/// A dial that has not been answered after this time is asked after: whether the destination has accepted it.
const DIAL_QUESTION: Duration = Duration::from_secs(4);
/// A stream that is younger than this will show only later what it carries, and one on which nothing has moved for so long
/// is at rest.
const RECENTLY: Duration = Duration::from_millis(500);
/// Bytes that a session takes beyond [`Options::max_unread`] while an urgent stream is open. Each of its replies comes behind
/// everything that is under way for the clients that do not read: some 10 MB in the agent's outgoing buffer (agent
/// `config.go`: OutgoingMessageBufferCapacity, 10,000 messages) or in the buffers of sockets. A cancel request inside TLS
/// waits for four: TLS accepted, the server's handshake, its end and the close.
const URGENT_ROOM: usize = 64 << 20;
/// The agent stops reading its websocket, acknowledgements included, once 4 MiB wait for destinations that do not read
/// (agent `port_mux.go`: smux.DefaultConfig, MaxReceiveBuffer). With less than that outstanding it cannot be blocked.
const BLOCKS_FROM: usize = 4 << 20;
/// Most bytes that one stream can have outstanding at the agent: the above and the buffers of its socket, generously.
const MOST_OUTSTANDING: usize = 16 << 20;

/// Why a stream gives no more bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The agent could not connect to the database.
    #[error("the bastion could not connect to the database (refused, unreachable, or its name does not resolve there)")]
    Refused,
    /// No byte within [`Options::dial_timeout`].
    #[error("the bastion did not reach the database within {} s", .0.as_secs())]
    DialTimeout(Duration),
    /// The agent did not acknowledge that it was to dial. Nothing has been said on the stream.
    #[error("the SSM agent on the bastion does not answer")]
    AgentSilent,
    /// The session has lost its connection before the agent acknowledged that it was to dial.
    #[error("the SSM session has lost its connection to AWS")]
    LinkLost,
    /// The session ended under the stream.
    #[error("the SSM session ended: {0}")]
    SessionEnded(String),
    /// A write after the end of the stream.
    #[error("the stream is closed")]
    Closed,
}

impl StreamError {
    /// The form in which an asynchronous reader can carry it.
    pub fn into_io(self) -> io::Error {
        let kind = match self {
            Self::Refused => io::ErrorKind::ConnectionRefused,
            Self::DialTimeout(_) | Self::AgentSilent | Self::LinkLost => io::ErrorKind::TimedOut,
            Self::SessionEnded(_) => io::ErrorKind::NetworkDown,
            Self::Closed => io::ErrorKind::BrokenPipe,
        };
        io::Error::new(kind, self)
    }

    /// Whether another session may do better: the database was not dialled, or the session `is_old` and may have ended
    /// unnoticed. One that ends as soon as it has opened would do so again.
    pub fn calls_for_another_session(&self, is_old: bool) -> bool {
        match self {
            Self::AgentSilent | Self::LinkLost => true,
            Self::SessionEnded(_) => is_old,
            Self::Refused | Self::DialTimeout(_) | Self::Closed => false,
        }
    }

    /// The stream error inside an I/O error, if that is where it came from.
    pub fn from_io(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

#[derive(Debug)]
enum Local {
    Open,
    /// The FIN waits for the agent's, or for the end of the handle: the agent would close both ways, and the answer be lost.
    HalfClosed,
    /// The FIN follows what is queued.
    Closing,
    /// The FIN is out.
    Closed,
}

#[derive(Debug)]
struct Stream {
    unread: BytesMut,
    unsent: BytesMut,
    syn: Syn,
    local: Local,
    /// The agent's FIN came.
    remote_closed: bool,
    opened: Instant,
    /// When data last moved, either way.
    used: Instant,
    heard: bool,
    /// Data went out since data last came: the client waits for an answer.
    unanswered: bool,
    /// At most so many bytes may wait at the agent for a destination that does not read them. Grows with what is sent; an
    /// answer is taken as a sign that half of it was read.
    outstanding: usize,
    error: Option<StreamError>,
    /// Nobody holds the handle any more.
    abandoned: bool,
    /// Opened by [`Mux::open_urgent`].
    urgent: bool,
    /// The agent has connected it to its destination, which has not said anything yet.
    accepted: bool,
    /// Not a client's: it asks whether the dials before it are over.
    question: bool,
    queued: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Stream {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    fn has_output(&self) -> bool {
        matches!(self.syn, Syn::Queued) || !self.unsent.is_empty() || matches!(self.local, Local::Closing)
    }

    /// Its client may still send.
    fn is_open(&self) -> bool {
        matches!(self.local, Local::Open)
    }
}

/// All streams of one session.
#[derive(Debug)]
pub struct Mux {
    options: Options,
    reader: FrameReader,
    streams: HashMap<StreamId, Stream>,
    next_id: u32,
    /// Streams with something to send, in turn.
    ready: VecDeque<StreamId>,
    unread: usize,
    /// Flag 3 received, the FIN of its stream not yet.
    failed_dials: usize,
    /// Streams whose SYN is in the payload that [`Mux::poll_output`] made last.
    syns: Vec<StreamId>,
    /// Streams whose SYN the agent has not acknowledged, with the sequence number of its message.
    unacknowledged: Vec<(SequenceNumber, StreamId)>,
    stuck: bool,
    /// The stream that asks whether a dial is over, until it is answered.
    question: Option<StreamId>,
    ended: Option<StreamError>,
}

impl Mux {
    /// A session without streams.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            reader: FrameReader::default(),
            streams: HashMap::new(),
            // xtaci/smux session.go: a client's first id is 3, then odd ones.
            next_id: 3,
            ready: VecDeque::new(),
            unread: 0,
            failed_dials: 0,
            syns: Vec::new(),
            unacknowledged: Vec::new(),
            stuck: false,
            question: None,
            ended: None,
        }
    }

    /// Opens a stream; the agent dials when it sees the SYN. `None` when the session has ended or has no ids left.
    pub fn open(&mut self, now: Instant) -> Option<StreamId> {
        if self.ended.is_some() {
            return None;
        }
        let id = StreamId(self.next_id);
        self.next_id = self.next_id.checked_add(2)?;
        self.streams.insert(
            id,
            Stream {
                unread: BytesMut::new(),
                unsent: BytesMut::new(),
                syn: Syn::Queued,
                local: Local::Open,
                remote_closed: false,
                opened: now,
                used: now,
                heard: false,
                unanswered: false,
                outstanding: 0,
                error: None,
                abandoned: false,
                urgent: false,
                accepted: false,
                question: false,
                queued: false,
                reader: None,
                writer: None,
            },
        );
        self.queue(id);
        Some(id)
    }

    /// Opens a stream that must be heard even while the session is full: until it ends, [`Mux::is_full`] allows 64 MiB more.
    pub fn open_urgent(&mut self, now: Instant) -> Option<StreamId> {
        let id = self.open(now)?;
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.urgent = true;
        }
        Some(id)
    }

    /// Opens and closes a stream, to hear whether the dials before it are over.
    fn ask_after_dials(&mut self, now: Instant) {
        self.question = self.open(now);
        if let Some(stream) = self.question.and_then(|id| self.streams.get_mut(&id)) {
            (stream.question, stream.abandoned, stream.local) = (true, true, Local::Closing);
        }
    }

    /// Whether the agent is known to have connected the stream to its destination.
    pub fn is_accepted(&self, id: StreamId) -> bool {
        self.streams.get(&id).is_some_and(|stream| stream.heard || stream.accepted)
    }

    /// The agent dials one stream after the other, in the order of their ids: a sign of one shows that the dials of all before
    /// it have come to their end. One that failed has had its FIN by then.
    fn has_reached(&mut self, id: StreamId) {
        for (&earlier, stream) in &mut self.streams {
            if earlier < id && stream.dial_started().is_some() {
                stream.accepted = true;
            }
        }
    }

    /// How many streams are open.
    pub fn stream_count(&self) -> usize {
        self.streams.len()
    }

    /// Whether no new stream can be served: a dial hung, and the agent dials one at a time; or there are no ids left.
    pub fn is_stuck(&self) -> bool {
        self.stuck || self.next_id.checked_add(2).is_none()
    }

    /// How many streams are in use just now.
    pub fn active_count(&self, now: Instant) -> usize {
        self.streams.values().filter(|stream| stream.is_open() && now < stream.used + RECENTLY).count()
    }

    /// Whether a client waits for an answer: what moved last on its stream was its own.
    pub fn is_awaiting(&self) -> bool {
        self.streams.values().any(|stream| stream.unanswered && !stream.abandoned && !stream.remote_closed)
    }

    /// Whether the agent may have stopped reading because destinations do not: then its silence says nothing.
    pub fn may_block_the_agent(&self) -> bool {
        let outstanding = self.streams.values().filter(|stream| !stream.remote_closed).map(|stream| stream.outstanding);
        outstanding.sum::<usize>() >= BLOCKS_FROM
    }

    /// Whether clients have left so much unread that nothing more may be read from the websocket.
    pub fn is_full(&self) -> bool {
        if self.unread < self.options.max_unread {
            return false;
        }
        let urgent = self.streams.values().any(|stream| stream.urgent && !stream.abandoned);
        !urgent || self.unread - self.options.max_unread >= URGENT_ROOM
    }

    /// Bytes received and not yet read.
    pub fn unread(&self) -> usize {
        self.unread
    }

    /// Takes bytes of the frame stream.
    ///
    /// # Errors
    /// [`FrameError`]: the session is dead.
    pub fn on_input(&mut self, mut input: Bytes, now: Instant) -> Result<(), FrameError> {
        while let Some(piece) = self.reader.next(&mut input)? {
            match piece {
                Piece::Data(id, data) => self.on_data(id, &data, now),
                Piece::Control(Command::Fin, id) => self.on_fin(id),
                // The agent opens no streams; keep-alive needs no answer.
                Piece::Control(Command::Syn | Command::Nop | Command::Psh | Command::Upd, _) => {}
            }
        }
        Ok(())
    }

    fn on_data(&mut self, id: StreamId, data: &Bytes, now: Instant) {
        self.has_reached(id);
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.heard = true;
        stream.unanswered = false;
        stream.outstanding /= 2;
        if stream.abandoned {
            return;
        }
        stream.used = now;
        stream.unread.extend_from_slice(data);
        self.unread += data.len();
        if let Some(reader) = stream.reader.take() {
            reader.wake();
        }
    }

    fn on_fin(&mut self, id: StreamId) {
        self.has_reached(id);
        self.question = self.question.filter(|&question| question != id);
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.remote_closed = true;
        if self.failed_dials > 0 && !stream.heard {
            // Also for a stream that has been given up meanwhile: the refusal is not the next one's.
            self.failed_dials -= 1;
            stream.error.get_or_insert(StreamError::Refused);
        }
        // The agent has closed the connection both ways; what is queued would be thrown away there.
        stream.unsent.clear();
        if !matches!(stream.local, Local::Closed) {
            stream.local = Local::Closing;
        }
        stream.wake();
        self.queue(id);
        self.forget_if_over(id);
        // The agent dials again only now, so a stuck session has come loose.
        let hangs = |stream: &Stream| stream.question || matches!(stream.error, Some(StreamError::DialTimeout(_)));
        self.stuck &= self.streams.values().any(|stream| hangs(stream) && !stream.remote_closed);
    }

    /// Whether [`Mux::poll_output`] has something to say.
    pub fn has_output(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The next payload, at most `max` bytes: frames of the streams in turn, as many as fit.
    pub fn poll_output(&mut self, max: usize, now: Instant) -> Option<Bytes> {
        let mut payload = BytesMut::new();
        let mut turns = self.ready.len();
        while turns > 0
            && payload.len() + HEADER < max
            && let Some(id) = self.ready.pop_front()
        {
            turns -= 1;
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            stream.queued = false;
            if matches!(stream.syn, Syn::Queued) {
                Header::control(Command::Syn, id).encode(&mut payload);
                stream.syn = Syn::Sent(now);
                self.syns.push(id);
            }
            let room = max.saturating_sub(payload.len() + HEADER);
            let length = stream.unsent.len().min(room).min(usize::from(u16::MAX));
            if let Ok(length @ 1..) = u16::try_from(length) {
                Header { command: Command::Psh, length, stream: id }.encode(&mut payload);
                payload.extend_from_slice(stream.unsent.get(..usize::from(length)).unwrap_or_default());
                stream.unsent.advance(usize::from(length));
                stream.used = now;
                stream.unanswered = true;
                stream.outstanding = (stream.outstanding + usize::from(length)).min(MOST_OUTSTANDING);
                // Not at every message: a writer that is woken for each thousand bytes costs more than it writes.
                if stream.unsent.len() <= self.options.max_unsent / 2
                    && let Some(writer) = stream.writer.take()
                {
                    writer.wake();
                }
            }
            if stream.unsent.is_empty() && matches!(stream.local, Local::Closing) && payload.len() + HEADER <= max {
                Header::control(Command::Fin, id).encode(&mut payload);
                stream.local = Local::Closed;
            }
            if stream.has_output() {
                stream.queued = true;
                self.ready.push_back(id);
            } else {
                self.forget_if_over(id);
            }
        }
        (!payload.is_empty()).then(|| payload.freeze())
    }

    /// When [`Mux::on_timeout`] wants to be called.
    pub fn next_timeout(&self) -> Option<Instant> {
        let question = self.streams.values().filter_map(|stream| self.question_due(stream)).min();
        self.streams.values().filter_map(|stream| self.deadline(stream)).chain(question).min()
    }

    /// When a dial is asked after; `None` when that is not needed or has been done.
    fn question_due(&self, stream: &Stream) -> Option<Instant> {
        // Before the agent has acknowledged the SYN, the question is whether it is there, and not the dial.
        let asks = self.question.is_none() && !stream.abandoned && matches!(stream.syn, Syn::Taken(_));
        stream.dial_started().filter(|_| asks).map(|at| at + self.options.dial_question)
    }

    fn deadline(&self, stream: &Stream) -> Option<Instant> {
        stream.dial_started().map(|at| at + self.options.dial_timeout)
    }

    /// Does what is due at `now`.
    pub fn on_timeout(&mut self, now: Instant) {
        if self.streams.values().any(|stream| self.question_due(stream).is_some_and(|due| now >= due)) {
            self.ask_after_dials(now);
        }
        for stream in self.streams.values_mut() {
            if stream.dial_started().is_some_and(|at| now >= at + self.options.dial_timeout) {
                self.stuck |= stream.give_up_dial(self.options.dial_timeout);
            }
        }
    }

    /// The session is over: what was received can still be read, then every stream fails with this.
    pub fn end(&mut self, error: StreamError) {
        for stream in self.streams.values_mut() {
            stream.wake();
        }
        self.ended.get_or_insert(error);
    }

    /// Takes at most `max` received bytes; none of them at the end of the stream.
    pub fn poll_read(&mut self, id: StreamId, cx: &mut Context<'_>, max: usize) -> Poll<Result<BytesMut, StreamError>> {
        let Some(stream) = self.streams.get_mut(&id) else { return Poll::Ready(Err(StreamError::Closed)) };
        if !stream.unread.is_empty() {
            let data = stream.unread.split_to(max.min(stream.unread.len()));
            if stream.unread.is_empty() {
                // Idle connections hold no buffer.
                stream.unread = BytesMut::new();
            }
            self.unread -= data.len();
            return Poll::Ready(Ok(data));
        }
        match stream.error.as_ref().or_else(|| self.ended.as_ref().filter(|_| !stream.remote_closed)) {
            Some(error) => Poll::Ready(Err(error.clone())),
            None if stream.remote_closed => Poll::Ready(Ok(BytesMut::new())),
            None => {
                stream.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Queues bytes for sending, as many as there is room for.
    pub fn poll_write(&mut self, id: StreamId, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, StreamError>> {
        let Some(stream) = self.streams.get_mut(&id) else { return Poll::Ready(Err(StreamError::Closed)) };
        if let Some(error) = stream.error.as_ref().or(self.ended.as_ref()) {
            return Poll::Ready(Err(error.clone()));
        }
        if stream.remote_closed || !matches!(stream.local, Local::Open) {
            return Poll::Ready(Err(StreamError::Closed));
        }
        let room = self.options.max_unsent.saturating_sub(stream.unsent.len());
        if room == 0 {
            stream.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let taken = bytes.get(..room).unwrap_or(bytes);
        stream.unsent.extend_from_slice(taken);
        self.queue(id);
        Poll::Ready(Ok(taken.len()))
    }

    /// Half-close: nothing more will be written. The FIN waits for the agent's, or for the end of the handle.
    pub fn shutdown(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id)
            && matches!(stream.local, Local::Open)
        {
            stream.local = Local::HalfClosed;
        }
    }

    /// The handle is gone: FIN after what is queued, and nothing more is kept of what comes.
    pub fn abandon(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.abandoned = true;
        self.unread -= stream.unread.len();
        stream.unread = BytesMut::new();
        if matches!(stream.local, Local::Open | Local::HalfClosed) {
            stream.local = Local::Closing;
        }
        self.queue(id);
        self.forget_if_over(id);
    }

    /// A stream is remembered until both sides have closed it, or the session has ended: an agent that has not sent its
    /// FIN may still be dialling for it.
    fn forget_if_over(&mut self, id: StreamId) {
        let over = self.streams.get(&id).is_some_and(|stream| {
            stream.abandoned
                && (self.ended.is_some()
                    || matches!(stream.local, Local::Closed) && (stream.heard || stream.remote_closed))
        });
        if over {
            self.streams.remove(&id);
        }
    }

    fn queue(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id)
            && !stream.queued
            && stream.has_output()
        {
            stream.queued = true;
            self.ready.push_back(id);
        }
    }
}

#[cfg(test)]
#[path = "mux_tests.rs"]
mod tests;
