//! The client's side of one smux session: its streams, and whose turn it is to send. Sans-IO.
//!
//! ```text
//!   open ──▶ dialled by the agent ──▶ bytes both ways ──▶ FIN from both sides: forgotten
//! ```
//!
//! The state of one stream, with a drawing, is in `mux/state.rs`, its buffers in `mux/stream.rs`.
//!
//! The agent sends nothing when a dial succeeds, so a destination that has not spoken yet looks like one that has not
//! accepted. After [`Options::dial_question`] another stream is opened and closed at once: the agent reaches it only when the
//! dial before it is over, and replies with its FIN.
//!
//! smux version 1 has no window for one stream, so the bytes that a client does not read pile up here: [`Mux::is_full`] asks
//! the driver to stop reading the websocket for all streams. The agent closes a connection completely at the first FIN from
//! either side, so ours is delayed at a half-close ([`Mux::shutdown`]) until the other side has finished.
//!
//! Sources: xtaci/smux [`session.go`] and agent [`port_mux.go`], handleServerConnections: serial dials, Flag 3 before the FIN
//! of a failed dial.
//!
//! [`session.go`]: https://github.com/xtaci/smux/blob/09e2c01560df5aaaed50e48e77547858e2623498/session.go#L306
//! [`port_mux.go`]: https://github.com/aws/amazon-ssm-agent/blob/1c217c89b42de51d4f4063363d8ec1f2eef56055/agent/session/plugins/port/port_mux.go#L257-L298

mod error;
mod state;
mod stream;

use std::{
    collections::{HashMap, VecDeque},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};

pub use self::error::StreamError;
use self::{state::Purpose, stream::Stream};
use super::frame::{Command, FrameError, FrameReader, HEADER, Piece, StreamId};
use crate::sequence::SequenceNumber;

/// Limits and delays of a session's streams.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes received and not yet read, of all streams together, beyond which the session reads nothing more.
    /// Default 64 MiB.
    pub max_unread: usize,
    /// Bytes written and not yet sent, of each stream. Default 256 KiB.
    pub max_unsent: usize,
    /// A session is stuck when a stream has had no first byte, FIN or refusal for this long after the agent acknowledged its
    /// SYN: the agent dials one stream at a time, and a dial takes up to two minutes. Default 8 s.
    pub dial_timeout: Duration,
    /// The age of a dial at which a question stream follows it, see the module's description. Default 4 s.
    pub dial_question: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_unread: 64 << 20, max_unsent: 256 << 10, dial_timeout: DIAL_TIMEOUT, dial_question: DIAL_QUESTION }
    }
}

/// A dial that is not accepted in this time is hopeless: Linux has then sent the TCP SYN again after 1, 3 and 7 s
/// ([RFC 6298, section 2](https://www.rfc-editor.org/rfc/rfc6298#section-2): 1 s at first, doubled each time).
const DIAL_TIMEOUT: Duration = Duration::from_secs(8);
/// The age of a dial at which a question stream follows it.
const DIAL_QUESTION: Duration = Duration::from_secs(4);
/// Bytes that a session takes beyond [`Options::max_unread`] while an urgent stream is open. Each of its replies comes behind
/// all bytes that are under way for clients that do not read, in the agent's outgoing buffer (agent [`config.go`],
/// OutgoingMessageBufferCapacity: at most 100,000 messages) and in the buffers of sockets. A cancel request inside TLS waits
/// for four replies: TLS accepted, the server's handshake, its end and the close.
///
/// [`config.go`]: https://github.com/aws/amazon-ssm-agent/blob/1c217c89b42de51d4f4063363d8ec1f2eef56055/agent/session/config/config.go#L51
const URGENT_ROOM: usize = 64 << 20;
/// The agent stops reading its websocket, acknowledgements included, once this many bytes wait for destinations that do not
/// read (agent [`port_mux.go`]: smux.DefaultConfig; smux [`mux.go`]: MaxReceiveBuffer). With less outstanding it cannot be
/// blocked.
///
/// [`port_mux.go`]: https://github.com/aws/amazon-ssm-agent/blob/1c217c89b42de51d4f4063363d8ec1f2eef56055/agent/session/plugins/port/port_mux.go#L193
/// [`mux.go`]: https://github.com/xtaci/smux/blob/09e2c01560df5aaaed50e48e77547858e2623498/mux.go#L50
const BLOCKS_FROM: usize = 4 << 20;

/// All streams of one session.
#[derive(Debug)]
pub struct Mux {
    options: Options,
    reader: FrameReader,
    streams: HashMap<StreamId, Stream>,
    next_id: StreamId,
    /// Streams with something to send, in turn.
    ready: VecDeque<StreamId>,
    /// Bytes received and not read, of all streams together.
    unread: usize,
    /// Flags 3 received whose stream has not had its FIN yet.
    failed_dials: usize,
    /// Streams whose SYN is in the payload that [`Mux::poll_output`] made last.
    syns: Vec<StreamId>,
    /// Streams whose SYN the agent has not acknowledged, with the sequence number of its message.
    unacknowledged: Vec<(SequenceNumber, StreamId)>,
    /// A dial hangs, so the agent dials for no other stream. Cleared when the agent ends the dials that hung.
    stuck: bool,
    /// The question stream, until the agent's FIN.
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
            next_id: StreamId::FIRST,
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
        self.open_for(Purpose::Client, now)
    }

    /// Opens a stream that is served even while the session is full: until it ends, [`Mux::is_full`] allows 64 MiB more.
    /// `None` as for [`Mux::open`].
    pub fn open_urgent(&mut self, now: Instant) -> Option<StreamId> {
        self.open_for(Purpose::Urgent, now)
    }

    fn open_for(&mut self, purpose: Purpose, now: Instant) -> Option<StreamId> {
        if self.ended.is_some() {
            return None;
        }
        let id = self.next_id;
        self.next_id = id.next()?;
        self.streams.insert(id, Stream::new(purpose, now));
        self.queue(id);
        Some(id)
    }

    /// Whether the agent is known to have connected the stream to its destination.
    pub fn is_accepted(&self, id: StreamId) -> bool {
        self.streams.get(&id).is_some_and(|stream| stream.state().is_accepted())
    }

    /// Why the agent has not connected the stream to its destination after this time; `None` if it has, or if it has not been
    /// asked to.
    pub fn overdue(&self, id: StreamId, after: Duration) -> Option<StreamError> {
        self.streams.get(&id)?.state().overdue(after)
    }

    /// The number of open streams, including those whose last frames are under way.
    pub fn stream_count(&self) -> usize {
        self.streams.len()
    }

    /// Whether the session cannot serve a new stream: a dial hangs, or there are no ids left.
    pub fn is_stuck(&self) -> bool {
        self.stuck || self.next_id.next().is_none()
    }

    /// The number of streams on which bytes moved in the last half second.
    pub fn active_count(&self, now: Instant) -> usize {
        self.streams.values().filter(|stream| stream.is_active(now)).count()
    }

    /// Whether a stream is being dialled, or was opened only just now and is still open.
    pub fn is_dialling(&self, now: Instant) -> bool {
        self.streams.values().any(|stream| stream.is_dialling(now))
    }

    /// Whether a client waits for a reply: the bytes that moved last on its stream were its own.
    pub fn is_awaiting(&self) -> bool {
        self.streams.values().any(Stream::is_awaiting)
    }

    /// Whether the agent may have stopped reading because destinations do not read: then its silence shows nothing.
    pub fn may_block_the_agent(&self) -> bool {
        self.streams.values().map(Stream::outstanding).sum::<usize>() >= BLOCKS_FROM
    }

    /// Whether clients have left so much unread that nothing more may be read from the websocket.
    pub fn is_full(&self) -> bool {
        if self.unread < self.options.max_unread {
            return false;
        }
        let is_urgent = |stream: &Stream| stream.state().is_urgent() && !stream.state().is_dropped();
        !self.streams.values().any(is_urgent) || self.unread - self.options.max_unread >= URGENT_ROOM
    }

    /// Bytes received and not yet read, of all streams together.
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
                // The agent opens no streams; keep-alive needs no reply.
                Piece::Control(Command::Syn | Command::Nop | Command::Psh | Command::Upd, _) => {}
            }
        }
        Ok(())
    }

    fn on_data(&mut self, id: StreamId, data: &Bytes, now: Instant) {
        self.on_reached(id);
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let before = stream.unread();
        stream.on_data(data, now);
        self.unread += stream.unread() - before;
    }

    fn on_fin(&mut self, id: StreamId) {
        self.on_reached(id);
        self.question = self.question.filter(|&question| question != id);
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.on_fin(self.failed_dials > 0) {
            self.failed_dials -= 1;
        }
        self.queue(id);
        self.forget_if_over(id);
        // The agent dials again only now, so a stuck session has come loose.
        self.stuck &= self.streams.values().any(|stream| stream.state().hangs());
    }

    /// The agent dials one stream after the other, in the order of their ids, and has come to this one.
    fn on_reached(&mut self, id: StreamId) {
        for (_, stream) in self.streams.iter_mut().filter(|(earlier, _)| **earlier < id) {
            stream.on_later_reached();
        }
    }

    /// Flag 3 came: the next FIN of a stream on which nothing was heard is that of a failed dial.
    pub fn on_dial_failed(&mut self) {
        self.failed_dials += 1;
    }

    /// Whether [`Mux::poll_output`] has frames.
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
            if stream.write_frames(id, &mut payload, max, self.options.max_unsent / 2, now) {
                self.syns.push(id);
            }
            if !self.queue(id) {
                self.forget_if_over(id);
            }
        }
        (!payload.is_empty()).then(|| payload.freeze())
    }

    /// The payload that [`Mux::poll_output`] made last goes out in the message of this number.
    pub fn on_sent(&mut self, sequence: SequenceNumber) {
        self.unacknowledged.extend(self.syns.drain(..).map(|id| (sequence, id)));
    }

    /// Starts the time of the dials whose SYN has been `acknowledged`.
    pub fn on_acknowledged(&mut self, acknowledged: impl Fn(SequenceNumber) -> bool, now: Instant) {
        for (_, id) in self.unacknowledged.extract_if(.., |(sequence, _)| acknowledged(*sequence)) {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.on_acknowledged(now);
            }
        }
    }

    /// Fails the streams that the agent may not know of: another session may serve them.
    pub fn fail_unacknowledged(&mut self, error: &StreamError) {
        for stream in self.streams.values_mut() {
            stream.fail_unacknowledged(error);
        }
    }

    /// Reading was paused until now, so no reply to a dial could be received: the dial timeouts start again.
    pub fn restart_dials(&mut self, now: Instant) {
        for stream in self.streams.values_mut() {
            stream.restart_dial(now);
        }
    }

    /// When [`Mux::on_timeout`] has to be called.
    pub fn next_timeout(&self) -> Option<Instant> {
        let dials = self.streams.values().filter_map(|stream| stream.state().dial_began());
        dials.map(|at| at + self.options.dial_timeout).chain(self.question_at()).min()
    }

    /// When a question stream is to be opened; `None` while there is one, or no dial to ask about. Before the agent has
    /// acknowledged a SYN, the question is whether the agent is there.
    fn question_at(&self) -> Option<Instant> {
        let dials = self.streams.values().filter_map(|stream| stream.state().unanswered_dial_since());
        let oldest = dials.min().filter(|_| self.question.is_none())?;
        Some(oldest + self.options.dial_question)
    }

    /// Does what is due at `now`.
    pub fn on_timeout(&mut self, now: Instant) {
        if self.question_at().is_some_and(|due| now >= due) {
            self.question = self.open_for(Purpose::Question, now);
        }
        let limit = self.options.dial_timeout;
        for stream in self.streams.values_mut() {
            if stream.state().dial_began().is_some_and(|at| now >= at + limit) {
                self.stuck |= stream.give_up_dial(limit);
            }
        }
    }

    /// The session is over: received bytes can still be read, then every stream fails with this error.
    pub fn end(&mut self, error: StreamError) {
        for stream in self.streams.values_mut() {
            stream.wake();
        }
        self.ended.get_or_insert(error);
    }

    /// Takes at most `max` received bytes; an empty buffer at the end of the stream.
    ///
    /// # Errors
    /// [`StreamError`], after the last received byte.
    pub fn poll_read(&mut self, id: StreamId, cx: &mut Context<'_>, max: usize) -> Poll<Result<BytesMut, StreamError>> {
        let Some(stream) = self.streams.get_mut(&id) else { return Poll::Ready(Err(StreamError::Closed)) };
        let result = stream.poll_read(cx, max, self.ended.as_ref());
        if let Poll::Ready(Ok(data)) = &result {
            self.unread -= data.len();
        }
        result
    }

    /// Waits until the agent has acknowledged that it is to dial.
    ///
    /// # Errors
    /// [`StreamError`]: it has not, or the dial has failed already.
    pub fn poll_announced(&mut self, id: StreamId, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        let Some(stream) = self.streams.get_mut(&id) else { return Poll::Ready(Err(StreamError::Closed)) };
        stream.poll_announced(cx, self.ended.as_ref())
    }

    /// Queues bytes for sending. Returns how many: those for which there is room.
    ///
    /// # Errors
    /// [`StreamError`]: the stream takes no more bytes.
    pub fn poll_write(&mut self, id: StreamId, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, StreamError>> {
        let Some(stream) = self.streams.get_mut(&id) else { return Poll::Ready(Err(StreamError::Closed)) };
        let result = stream.poll_write(cx, bytes, self.options.max_unsent, self.ended.as_ref());
        if let Poll::Ready(Ok(_)) = result {
            self.queue(id);
        }
        result
    }

    /// Half-close: the client writes nothing more. The FIN waits for the agent's, or for [`Mux::abandon`].
    pub fn shutdown(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.shut_down();
        }
    }

    /// The client has dropped its handle: the FIN follows the queued bytes, and received bytes are thrown away.
    pub fn abandon(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        self.unread -= stream.unread();
        stream.drop_handle();
        self.queue(id);
        self.forget_if_over(id);
    }

    fn forget_if_over(&mut self, id: StreamId) {
        let ended = self.ended.is_some();
        if self.streams.get(&id).is_some_and(|stream| stream.state().is_over(ended)) {
            self.streams.remove(&id);
        }
    }

    /// Gives a stream with something to send its turn. Returns whether it got one now.
    fn queue(&mut self, id: StreamId) -> bool {
        let queued = self.streams.get_mut(&id).is_some_and(Stream::takes_turn);
        if queued {
            self.ready.push_back(id);
        }
        queued
    }
}

#[cfg(test)]
#[path = "mux_tests.rs"]
mod tests;
