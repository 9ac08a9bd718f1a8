//! One stream: its state, its buffers, and the tasks that wait for it.

use std::{
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes, BytesMut};

use super::{
    error::StreamError,
    state::{Purpose, State},
};
use crate::smux::frame::{Command, HEADER, Header, StreamId};

/// The contents of a stream that is younger than this are not known yet, and one on which nothing has moved for this long is
/// at rest.
const RECENTLY: Duration = Duration::from_millis(500);
/// Most bytes that one stream can have outstanding at the agent: its receive buffer of 4 MiB and, generously, the buffers of
/// its socket.
const MAX_OUTSTANDING: usize = 16 << 20;

/// One stream of a session.
#[derive(Debug)]
pub(super) struct Stream {
    state: State,
    /// Bytes that the client has not read.
    unread: BytesMut,
    /// Bytes of the client that are not sent.
    unsent: BytesMut,
    /// The SYN is still to be sent. The state alone does not tell: a broken agent may send data before it.
    syn_queued: bool,
    /// The stream is in the mux's list of those with something to send.
    in_turn: bool,
    opened: Instant,
    /// When bytes last moved, either way.
    used: Instant,
    /// Bytes went out since bytes last came: the client waits for a reply.
    expects_reply: bool,
    /// Upper estimate of the bytes that wait at the agent for a destination that does not read them. Grows with the bytes
    /// sent; each reply is taken as a sign that half of them were read.
    outstanding: usize,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Stream {
    pub(super) fn new(purpose: Purpose, now: Instant) -> Self {
        Self {
            state: State::new(purpose),
            unread: BytesMut::new(),
            unsent: BytesMut::new(),
            syn_queued: true,
            in_turn: false,
            opened: now,
            used: now,
            expects_reply: false,
            outstanding: 0,
            reader: None,
            writer: None,
        }
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// Whether a client has the stream open and bytes moved on it just now.
    pub(super) fn is_active(&self, now: Instant) -> bool {
        self.state.is_open() && now < self.used + RECENTLY
    }

    /// Whether the stream is being dialled, or was opened just now and is still open.
    pub(super) fn is_dialling(&self, now: Instant) -> bool {
        self.state.is_dialling() || self.state.is_open() && now < self.opened + RECENTLY
    }

    /// Whether a client waits for a reply.
    pub(super) fn is_awaiting(&self) -> bool {
        self.expects_reply && !self.state.is_dropped() && !self.state.is_closed_by_agent()
    }

    /// Upper estimate of the bytes that wait at the agent.
    pub(super) fn outstanding(&self) -> usize {
        if self.state.is_closed_by_agent() { 0 } else { self.outstanding }
    }

    /// Bytes that the client has not read.
    pub(super) fn unread(&self) -> usize {
        self.unread.len()
    }

    /// Whether the stream has something to send and is not in turn yet; then it counts as in turn.
    pub(super) fn takes_turn(&mut self) -> bool {
        let takes = !self.in_turn && self.has_output();
        self.in_turn |= takes;
        takes
    }

    fn has_output(&self) -> bool {
        self.syn_queued || !self.unsent.is_empty() || self.state.is_closing()
    }

    /// The agent has acknowledged the SYN.
    pub(super) fn on_acknowledged(&mut self, now: Instant) {
        self.state.on_acknowledged(now);
        self.wake();
    }

    /// The agent has come to a later stream.
    pub(super) fn on_later_reached(&mut self) {
        self.state.on_later_reached();
    }

    /// Bytes of the destination came. They are kept unless no client can read them.
    pub(super) fn on_data(&mut self, data: &Bytes, now: Instant) {
        self.state.on_data();
        self.expects_reply = false;
        self.outstanding /= 2;
        if self.state.is_dropped() {
            return;
        }
        self.used = now;
        self.unread.extend_from_slice(data);
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// The agent's FIN came, see [`State::on_fin`].
    pub(super) fn on_fin(&mut self, dial_failed: bool) -> bool {
        let refused = self.state.on_fin(dial_failed);
        // The agent has closed the connection in both directions and would throw away the queued bytes.
        self.unsent.clear();
        self.wake();
        refused
    }

    /// Fails the dial, see [`State::give_up_dial`].
    pub(super) fn give_up_dial(&mut self, limit: Duration) -> bool {
        let hangs = self.state.give_up_dial(limit);
        self.wake();
        hangs
    }

    /// Fails the stream if the agent may not know of it.
    pub(super) fn fail_unacknowledged(&mut self, error: &StreamError) {
        if self.state.fail_unacknowledged(error) {
            self.wake();
        }
    }

    /// See [`State::restart_dial`].
    pub(super) fn restart_dial(&mut self, now: Instant) {
        self.state.restart_dial(now);
    }

    /// The client writes nothing more.
    pub(super) fn shut_down(&mut self) {
        self.state.shut_down();
    }

    /// The client has dropped its handle: unread bytes are thrown away.
    pub(super) fn drop_handle(&mut self) {
        self.state.drop_handle();
        self.unread = BytesMut::new();
    }

    /// Wakes the tasks that read and write.
    pub(super) fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    /// It is the stream's turn: adds its frames to `payload`, which may grow to `max` bytes. A writer is woken when at most
    /// `wake_below` bytes are left. Returns whether the SYN is among the frames.
    pub(super) fn write_frames(
        &mut self,
        id: StreamId,
        payload: &mut BytesMut,
        max: usize,
        wake_below: usize,
        now: Instant,
    ) -> bool {
        self.in_turn = false;
        let announces = self.syn_queued;
        if announces {
            Header::control(Command::Syn, id).encode(payload);
            self.syn_queued = false;
            self.state.on_syn_sent(now);
        }
        let room = max.saturating_sub(payload.len() + HEADER);
        let length = self.unsent.len().min(room).min(usize::from(u16::MAX));
        if let Ok(length @ 1..) = u16::try_from(length) {
            Header { command: Command::Psh, length, stream: id }.encode(payload);
            let length = usize::from(length);
            payload.extend_from_slice(self.unsent.get(..length).unwrap_or_default());
            self.unsent.advance(length);
            self.used = now;
            self.expects_reply = true;
            self.outstanding = (self.outstanding + length).min(MAX_OUTSTANDING);
            // Not at every message: a writer that is woken for each thousand bytes costs more than it writes.
            if self.unsent.len() <= wake_below
                && let Some(writer) = self.writer.take()
            {
                writer.wake();
            }
        }
        if self.unsent.is_empty() && self.state.is_closing() && payload.len() + HEADER <= max {
            Header::control(Command::Fin, id).encode(payload);
            self.state.on_fin_sent();
        }
        announces
    }

    /// Takes at most `max` received bytes; an empty buffer at the end of the stream.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
        session_end: Option<&StreamError>,
    ) -> Poll<Result<BytesMut, StreamError>> {
        if !self.unread.is_empty() {
            let data = self.unread.split_to(max.min(self.unread.len()));
            if self.unread.is_empty() {
                // Idle connections hold no buffer.
                self.unread = BytesMut::new();
            }
            return Poll::Ready(Ok(data));
        }
        let Some(end) = self.state.end_of_input(session_end) else {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        Poll::Ready(end.map(|()| BytesMut::new()))
    }

    /// Waits until the agent has the SYN.
    pub(super) fn poll_announced(
        &mut self,
        cx: &mut Context<'_>,
        session_end: Option<&StreamError>,
    ) -> Poll<Result<(), StreamError>> {
        match self.state.end_of_input(session_end) {
            Some(end) => Poll::Ready(end),
            None if self.state.is_announced() => Poll::Ready(Ok(())),
            None => {
                self.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Queues bytes until `max_unsent` are queued. Returns their number.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        max_unsent: usize,
        session_end: Option<&StreamError>,
    ) -> Poll<Result<usize, StreamError>> {
        self.state.check_writable(session_end)?;
        let room = max_unsent.saturating_sub(self.unsent.len());
        if room == 0 {
            self.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.unsent.extend_from_slice(taken);
        Poll::Ready(Ok(taken.len()))
    }
}

#[cfg(test)]
impl Stream {
    /// Bytes of the client that are not sent.
    pub(super) fn unsent(&self) -> usize {
        self.unsent.len()
    }
}
