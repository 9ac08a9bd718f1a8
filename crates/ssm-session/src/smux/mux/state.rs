//! The state of one stream, and its transitions: how far the agent is with the connection to the destination, and how far we
//! are with our side.
//!
//! ```text
//!   the agent's side
//!                   SYN sent             acknowledged           a later stream reached          first byte
//!     Unannounced ───────────▶ Announced ────────────▶ Dialling ─────────────────────▶ Accepted ──────────▶ Established
//!          │                      │                        │
//!          └─ agent silent, connection lost ─▶ Failed ◀────┘ no sign in time
//!     any of these ── the agent's FIN ──▶ Closed (after a Flag 3, and if no byte has come: refused)
//!
//!   our side
//!            shutdown              agent's FIN, handle dropped            nothing queued: FIN sent
//!     Open ───────────▶ HalfClosed ────────────────────────────▶ Closing ───────────────────────────▶ Closed
//!       └────────────── agent's FIN, handle dropped ────────────────▲
//! ```
//!
//! The first byte may come in any state of the agent's side before it, since the agent does not report a successful dial.
//! Closing and Closed remember whether the client still holds the stream's handle. A stream is over once the handle is
//! dropped, our FIN is sent and the agent has been heard on it: before that the agent may still be dialling for it.
//!
//! The agent dials when it processes a SYN, one stream after the other, and sends nothing when a dial succeeds. It
//! acknowledges the message that carries the SYN, as every message: from then on a silence is the destination's, before
//! that it is the agent's. Source: agent [`port_mux.go`], handleServerConnections.
//!
//! [`port_mux.go`]: https://github.com/aws/amazon-ssm-agent/blob/1c217c89b42de51d4f4063363d8ec1f2eef56055/agent/session/plugins/port/port_mux.go#L257-L298

use std::{
    mem,
    time::{Duration, Instant},
};

use super::error::StreamError;

/// The purpose of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A client's connection.
    Client,
    /// A client's connection that is served while the session is full. It has no dial timeout: its reply comes behind all
    /// bytes that are under way for other streams.
    Urgent,
    /// No connection of a client: the agent's FIN shows that the dials before this stream are over.
    Question,
}

/// How far the agent is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Far {
    /// The SYN waits for room in the window.
    Unannounced,
    /// The SYN was sent, or the wait for its acknowledgement began again.
    Announced { since: Instant },
    /// The agent has acknowledged the SYN, or the wait for the dial began again.
    Dialling { since: Instant },
    /// The destination has accepted the connection and sent nothing yet.
    Accepted,
    /// The destination has sent something.
    Established,
    /// The stream was given up. The agent may not know that, and be `heard` on it later.
    Failed { error: StreamError, heard: bool },
    /// The agent's FIN came.
    Closed { accepted: bool, error: Option<StreamError> },
}

/// How far we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Near {
    /// The client may write.
    Open,
    /// The client writes nothing more. The FIN waits: the agent would close both ways at once and the reply be lost.
    HalfClosed,
    /// The FIN follows the queued bytes.
    Closing(Handle),
    /// The FIN is sent.
    Closed(Handle),
}

/// Whether a client can still read from a stream whose sending side is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Handle {
    Held,
    Dropped,
}

/// The state of one stream. See the module for a drawing.
#[derive(Debug)]
pub(super) struct State {
    purpose: Purpose,
    far: Far,
    near: Near,
}

impl State {
    pub(super) fn new(purpose: Purpose) -> Self {
        let near = match purpose {
            Purpose::Client | Purpose::Urgent => Near::Open,
            Purpose::Question => Near::Closing(Handle::Dropped),
        };
        Self { purpose, far: Far::Unannounced, near }
    }

    /// The SYN is sent.
    pub(super) fn on_syn_sent(&mut self, now: Instant) {
        if self.far == Far::Unannounced {
            self.far = Far::Announced { since: now };
        }
    }

    /// The agent has acknowledged the message with the SYN.
    pub(super) fn on_acknowledged(&mut self, now: Instant) {
        if let Far::Announced { .. } = self.far {
            self.far = Far::Dialling { since: now };
        }
    }

    /// The agent has come to a later stream, so the dial for this one is over. A dial that failed has had its FIN by then.
    pub(super) fn on_later_reached(&mut self) {
        if self.dial_began().is_some() {
            self.far = Far::Accepted;
        }
    }

    /// Bytes of the destination came.
    pub(super) fn on_data(&mut self) {
        match &mut self.far {
            Far::Failed { heard, .. } => *heard = true,
            Far::Closed { accepted, .. } => *accepted = true,
            Far::Unannounced | Far::Announced { .. } | Far::Dialling { .. } | Far::Accepted | Far::Established => {
                self.far = Far::Established;
            }
        }
    }

    /// The agent's FIN came, while a Flag 3 waits for its stream if `dial_failed`. Returns whether this is that stream: one on
    /// which nothing was heard, even if it has been given up meanwhile.
    pub(super) fn on_fin(&mut self, dial_failed: bool) -> bool {
        let (heard, accepted, error) = match mem::replace(&mut self.far, Far::Established) {
            Far::Unannounced | Far::Announced { .. } | Far::Dialling { .. } => (false, false, None),
            Far::Accepted => (false, true, None),
            Far::Established => (true, true, None),
            Far::Failed { error, heard } => (heard, heard, Some(error)),
            closed @ Far::Closed { .. } => {
                self.far = closed;
                return false;
            }
        };
        let refused = dial_failed && !heard;
        self.far = Far::Closed { accepted, error: error.or(refused.then_some(StreamError::Refused)) };
        // The agent has closed both directions.
        if let Near::Open | Near::HalfClosed = self.near {
            self.near = Near::Closing(Handle::Held);
        }
        refused
    }

    /// Fails a stream that has not been dialled within `limit`. Returns whether its dial hangs, so that the agent cannot dial
    /// for others.
    pub(super) fn give_up_dial(&mut self, limit: Duration) -> bool {
        let hangs = matches!(self.far, Far::Dialling { .. });
        if let Some(error) = self.overdue(limit) {
            self.far = Far::Failed { error, heard: false };
        }
        hangs
    }

    /// Why the stream has not been dialled after this time; `None` if it has, or if its SYN is not sent.
    pub(super) fn overdue(&self, after: Duration) -> Option<StreamError> {
        match self.far {
            Far::Announced { .. } => Some(StreamError::AgentSilent),
            Far::Dialling { .. } => Some(StreamError::DialTimeout(after)),
            _ => None,
        }
    }

    /// Fails a stream that the agent may not know of. Returns whether it did.
    pub(super) fn fail_unacknowledged(&mut self, error: &StreamError) -> bool {
        let fails = self.is_dialling() && !matches!(self.far, Far::Dialling { .. });
        if fails {
            self.far = Far::Failed { error: error.clone(), heard: false };
        }
        fails
    }

    /// Reading was paused, so no sign could be received: the dial gets its whole time again.
    pub(super) fn restart_dial(&mut self, now: Instant) {
        if self.is_dialling()
            && let Far::Announced { since } | Far::Dialling { since } = &mut self.far
        {
            *since = now;
        }
    }

    /// The client writes nothing more.
    pub(super) fn shut_down(&mut self) {
        if self.near == Near::Open {
            self.near = Near::HalfClosed;
        }
    }

    /// The client has dropped its handle.
    pub(super) fn drop_handle(&mut self) {
        self.near = match self.near {
            Near::Open | Near::HalfClosed | Near::Closing(_) => Near::Closing(Handle::Dropped),
            Near::Closed(_) => Near::Closed(Handle::Dropped),
        };
    }

    /// Our FIN is sent.
    pub(super) fn on_fin_sent(&mut self) {
        if let Near::Closing(handle) = self.near {
            self.near = Near::Closed(handle);
        }
    }

    pub(super) fn is_urgent(&self) -> bool {
        self.purpose == Purpose::Urgent
    }

    /// Whether the agent has the SYN: from then on no other session may dial for this stream.
    pub(super) fn is_announced(&self) -> bool {
        !matches!(self.far, Far::Unannounced | Far::Announced { .. })
    }

    /// Whether the client may write.
    pub(super) fn is_open(&self) -> bool {
        self.near == Near::Open
    }

    /// Whether our FIN is to follow the queued bytes.
    pub(super) fn is_closing(&self) -> bool {
        matches!(self.near, Near::Closing(_))
    }

    /// Whether no client can read from the stream.
    pub(super) fn is_dropped(&self) -> bool {
        matches!(self.near, Near::Closing(Handle::Dropped) | Near::Closed(Handle::Dropped))
    }

    /// Whether the agent's FIN came.
    pub(super) fn is_closed_by_agent(&self) -> bool {
        matches!(self.far, Far::Closed { .. })
    }

    /// Whether a client's connection is being made.
    pub(super) fn is_dialling(&self) -> bool {
        self.purpose != Purpose::Question
            && matches!(self.far, Far::Unannounced | Far::Announced { .. } | Far::Dialling { .. })
    }

    /// When the time of a dial began; `None` for a stream without a dial timeout, or whose SYN is not sent.
    pub(super) fn dial_began(&self) -> Option<Instant> {
        match self.far {
            Far::Announced { since } | Far::Dialling { since } if self.purpose == Purpose::Client => Some(since),
            _ => None,
        }
    }

    /// Since when a client waits for the agent to dial, which has acknowledged that it is to.
    pub(super) fn unanswered_dial_since(&self) -> Option<Instant> {
        match self.far {
            Far::Dialling { since } if self.purpose == Purpose::Client && !self.is_dropped() => Some(since),
            _ => None,
        }
    }

    /// Whether the destination is known to have accepted the connection.
    pub(super) fn is_accepted(&self) -> bool {
        match self.far {
            Far::Accepted | Far::Established => true,
            Far::Failed { heard: accepted, .. } | Far::Closed { accepted, .. } => accepted,
            Far::Unannounced | Far::Announced { .. } | Far::Dialling { .. } => false,
        }
    }

    /// Whether the agent is held up: it has not come to the end of the dial for this stream.
    pub(super) fn hangs(&self) -> bool {
        match &self.far {
            Far::Closed { .. } => false,
            Far::Failed { error: StreamError::DialTimeout(_), .. } => true,
            _ => self.purpose == Purpose::Question,
        }
    }

    /// Whether the stream can be forgotten, in a session that has ended or has not.
    pub(super) fn is_over(&self, session_ended: bool) -> bool {
        let heard = matches!(self.far, Far::Established | Far::Failed { heard: true, .. } | Far::Closed { .. });
        match self.near {
            Near::Closed(Handle::Dropped) => session_ended || heard,
            Near::Closing(Handle::Dropped) => session_ended,
            Near::Open | Near::HalfClosed | Near::Closing(Handle::Held) | Near::Closed(Handle::Held) => false,
        }
    }

    /// The result of reading when all received bytes are read: `None` while more may come, `Ok` at the end of the stream.
    pub(super) fn end_of_input(&self, session_end: Option<&StreamError>) -> Option<Result<(), StreamError>> {
        match &self.far {
            Far::Failed { error, .. } | Far::Closed { error: Some(error), .. } => Some(Err(error.clone())),
            Far::Closed { error: None, .. } => Some(Ok(())),
            _ => session_end.map(|error| Err(error.clone())),
        }
    }

    /// Whether bytes can be written.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn check_writable(&self, session_end: Option<&StreamError>) -> Result<(), StreamError> {
        match &self.far {
            Far::Failed { error, .. } | Far::Closed { error: Some(error), .. } => return Err(error.clone()),
            _ => {}
        }
        match session_end {
            Some(error) => Err(error.clone()),
            None if self.is_closed_by_agent() || !self.is_open() => Err(StreamError::Closed),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(8);

    /// A client's stream whose SYN the agent has acknowledged.
    fn dialling(now: Instant) -> State {
        let mut state = State::new(Purpose::Client);
        state.on_syn_sent(now);
        state.on_acknowledged(now);
        state
    }

    #[test]
    fn a_dial_that_times_out_blames_the_destination_only_after_the_acknowledgement() {
        let now = Instant::now();
        let mut announced = State::new(Purpose::Client);
        announced.on_syn_sent(now);
        assert!(!announced.give_up_dial(LIMIT) && !announced.hangs());
        assert_eq!(announced.end_of_input(None), Some(Err(StreamError::AgentSilent)));
        let mut dialling = dialling(now);
        assert!(dialling.give_up_dial(LIMIT) && dialling.hangs());
        assert_eq!(dialling.end_of_input(None), Some(Err(StreamError::DialTimeout(LIMIT))));
        assert!(dialling.on_fin(true), "the refusal comes late");
        assert!(!dialling.hangs());
        assert_eq!(dialling.end_of_input(None), Some(Err(StreamError::DialTimeout(LIMIT))), "and changes no error");
    }

    #[test]
    fn a_refusal_belongs_to_a_stream_on_which_nothing_was_heard() {
        let now = Instant::now();
        let mut established = dialling(now);
        established.on_data();
        assert!(!established.on_fin(true));
        assert_eq!(established.end_of_input(None), Some(Ok(())));
        let mut silent = dialling(now);
        assert!(silent.on_fin(true));
        assert_eq!(silent.end_of_input(None), Some(Err(StreamError::Refused)));
        assert!(!silent.on_fin(true), "a second FIN of a broken agent takes no refusal of another stream");
    }

    #[test]
    fn a_stream_is_over_when_both_sides_are_or_with_its_session() {
        let now = Instant::now();
        let mut state = dialling(now);
        state.shut_down();
        assert!(!state.is_open() && !state.is_closing(), "the FIN waits for the reply");
        state.drop_handle();
        assert!(state.is_closing() && state.is_over(true) && !state.is_over(false));
        state.on_fin_sent();
        assert!(!state.is_over(false), "the agent may still be dialling");
        state.on_fin(false);
        assert!(state.is_over(false));
    }

    #[test]
    fn questions_and_urgent_streams_have_no_dial_timeout() {
        let now = Instant::now();
        for purpose in [Purpose::Question, Purpose::Urgent] {
            let mut state = State::new(purpose);
            state.on_syn_sent(now);
            state.on_acknowledged(now);
            assert_eq!((state.dial_began(), state.unanswered_dial_since()), (None, None));
            state.on_later_reached();
            assert!(!state.is_accepted());
            assert_eq!(state.is_dialling(), purpose == Purpose::Urgent);
            assert_eq!(state.hangs(), purpose == Purpose::Question);
        }
    }
}
