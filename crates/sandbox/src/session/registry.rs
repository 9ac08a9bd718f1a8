//! The sessions that exist, their tokens and how each ended.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{link::Link, message::channel_closed};
use crate::{clock::epoch_millis, faults::Faults, network::Destination};

/// The path of data channels (amazon-ssm-agent `agent/session/config/config.go`).
pub(crate) const PATH: &str = "/v1/data-channel/";

/// The checked request of StartSession.
pub(crate) struct SessionRequest {
    /// The name that session ids begin with.
    pub(crate) owner: String,
    pub(crate) owner_arn: String,
    pub(crate) target: String,
    pub(crate) document: String,
    /// The document's parameters.
    pub(crate) properties: Vec<(String, String)>,
    pub(crate) reason: Option<String>,
}

impl SessionRequest {
    /// The host and port that the agent forwards to.
    pub(crate) fn destination(&self) -> (&str, u16) {
        let property = |name: &str| self.properties.iter().find(|(key, _)| key == name).map(|(_, v)| v.as_str());
        let port = property("portNumber").and_then(|port| port.parse().ok()).unwrap_or(80);
        (property("host").unwrap_or("localhost"), port)
    }
}

/// The data that a client needs to open the data channel.
pub(crate) struct Started {
    pub(crate) id: String,
    pub(crate) stream_url: String,
    pub(crate) token: String,
}

/// The errand of a session's agent.
pub(crate) struct Errand {
    pub(crate) destination: Destination,
    /// The parameters of the session document.
    pub(crate) properties: Vec<(String, String)>,
}

/// The end of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// TerminateSession was called.
    ByApi,
    /// The client sent the TerminateSession flag.
    ByFlag,
    /// The agent or the service ended it, with this text.
    Failed(String),
}

/// A session as seen from outside, for assertions.
#[derive(Debug, Clone)]
pub struct SessionReport {
    /// Its id.
    pub id: String,
    /// The managed node.
    pub target: String,
    /// The document it was started with.
    pub document: String,
    /// The parameters it was started with.
    pub properties: Vec<(String, String)>,
    /// The reason that the client gave.
    pub reason: Option<String>,
    /// The ARN of the caller who started it.
    pub owner_arn: String,
    /// Seconds since the Unix epoch.
    pub started_at: u64,
    /// Whether a websocket is attached.
    pub connected: bool,
    /// Whether the handshake is complete.
    pub ready: bool,
    /// The end; `None` while the session lives.
    pub ended: Option<Ended>,
    /// Websockets opened so far.
    pub opens: u64,
    /// Stream data messages from the client, duplicates included.
    pub received: u64,
    /// Duplicates among the received messages.
    pub duplicates: u64,
    /// Stream data messages of the agent, without retransmissions.
    pub sent: u64,
    /// The agent's retransmissions.
    pub resent: u64,
    /// Streams that the client opened.
    pub streams: u64,
    /// Dials that failed.
    pub failed_dials: u64,
    /// Rules of the protocol that the client broke.
    pub violations: Vec<String>,
}

struct Session {
    request: SessionRequest,
    /// The part of the stream URL after the path, as handed out last.
    query: String,
    /// The token, which is valid for one opening.
    token: Option<String>,
    /// All tokens and queries so far.
    handed_out: Vec<String>,
    link: Arc<Link>,
    /// Resolved when the session started, for good.
    destination: Destination,
    agent_runs: bool,
    started_at: u64,
    ended: Option<Ended>,
}

/// All sessions, including ended ones.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<BTreeMap<String, Session>>);

/// The reason why a data channel may not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoEntry {
    UnknownSession,
    /// The query is not byte for byte the one handed out last.
    OtherUrl,
    Token,
}

impl Sessions {
    /// Adds a session. `base` is scheme and authority of stream URLs, `started_at` in seconds since the Unix epoch.
    pub(crate) fn start(
        &self,
        request: SessionRequest,
        destination: Destination,
        faults: Faults,
        (base, started_at): (&str, u64),
        mut random: fastrand::Rng,
    ) -> Started {
        let suffix: String = std::iter::repeat_with(|| random.alphanumeric().to_ascii_lowercase()).take(26).collect();
        let id = format!("{}-{suffix}", request.owner);
        let link = Arc::new(Link::new(random.u64(..)));
        link.set_faults(faults);
        let mut session = Session {
            request,
            query: String::new(),
            token: None,
            handed_out: Vec::new(),
            link,
            destination,
            agent_runs: false,
            started_at,
            ended: None,
        };
        let started = session.grant(base, &id, &mut random);
        self.lock().insert(id, session);
        started
    }

    /// New URL and token for a session that lives; `None` when it does not.
    pub(crate) fn resume(&self, base: &str, id: &str, mut random: fastrand::Rng) -> Option<Started> {
        let mut sessions = self.lock();
        let session = sessions.get_mut(id).filter(|session| session.ended.is_none())?;
        Some(session.grant(base, id, &mut random))
    }

    /// TerminateSession. Unknown and ended sessions stay as they are.
    pub(crate) fn terminate(&self, id: &str) {
        self.end(id, Ended::ByApi, "");
    }

    /// Ends a session and notifies the client.
    pub(crate) fn end(&self, id: &str, how: Ended, output: &str) {
        let mut sessions = self.lock();
        let Some(session) = sessions.get_mut(id).filter(|session| session.ended.is_none()) else { return };
        session.ended = Some(how);
        session.token = None;
        session.link.down.push_intact(channel_closed(id, output, epoch_millis()));
        session.link.over.cancel();
    }

    /// Ends every session without a message, because the sandbox stops.
    pub(crate) fn stop(&self) {
        for session in self.lock().values() {
            session.link.over.cancel();
        }
    }

    pub(crate) fn check_url(&self, id: &str, query: &str) -> Result<(), NoEntry> {
        let sessions = self.lock();
        let session = sessions.get(id).filter(|session| session.ended.is_none()).ok_or(NoEntry::UnknownSession)?;
        if session.query == query { Ok(()) } else { Err(NoEntry::OtherUrl) }
    }

    /// Uses up the token. The first opening also gives the errand of the agent, which is to be started.
    pub(crate) fn open(&self, id: &str, token: &str) -> Result<(Arc<Link>, Option<Errand>), NoEntry> {
        let mut sessions = self.lock();
        let session = sessions.get_mut(id).filter(|session| session.ended.is_none()).ok_or(NoEntry::UnknownSession)?;
        if session.token.as_deref() != Some(token) {
            return Err(NoEntry::Token);
        }
        session.token = None;
        let is_first = !std::mem::replace(&mut session.agent_runs, true);
        let errand = is_first.then(|| Errand {
            destination: session.destination.clone(),
            properties: session.request.properties.clone(),
        });
        Ok((Arc::clone(&session.link), errand))
    }

    /// The links of living sessions: one, or all.
    pub(crate) fn links(&self, id: Option<&str>) -> Vec<Arc<Link>> {
        let sessions = self.lock();
        let living = sessions.iter().filter(|(_, session)| session.ended.is_none());
        living.filter(|(key, _)| id.is_none_or(|id| id == *key)).map(|(_, s)| Arc::clone(&s.link)).collect()
    }

    pub(crate) fn ids(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    pub(crate) fn handed_out(&self) -> Vec<String> {
        self.lock().values().flat_map(|session| session.handed_out.clone()).collect()
    }

    pub(crate) fn reports(&self) -> Vec<SessionReport> {
        self.lock().iter().map(|(id, session)| session.report(id)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    fn grant(&mut self, base: &str, id: &str, random: &mut fastrand::Rng) -> Started {
        let mut bytes = [0; 96];
        random.fill(&mut bytes);
        let token = STANDARD.encode(bytes);
        // Real cell numbers hold '+', '/' and '='; a client that decodes or encodes them signs and asks for another URL.
        let cell = format!("AAE+/{}+/==", STANDARD.encode(&bytes[..30]).replace('=', ""));
        self.query = format!("role=publish_subscribe&cell-number={cell}");
        self.token = Some(token.clone());
        self.handed_out.extend([token.clone(), self.query.clone()]);
        Started { id: id.into(), stream_url: format!("{base}{PATH}{id}?{}", self.query), token }
    }

    fn report(&self, id: &str) -> SessionReport {
        let Self { request, link, .. } = self;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SessionReport {
            id: id.into(),
            target: request.target.clone(),
            document: request.document.clone(),
            properties: request.properties.clone(),
            reason: request.reason.clone(),
            owner_arn: request.owner_arn.clone(),
            started_at: self.started_at,
            connected: *link.present.borrow(),
            ready: link.ready.load(Ordering::Relaxed),
            ended: self.ended.clone(),
            opens: count(&link.counters.opens),
            received: count(&link.counters.received),
            duplicates: count(&link.counters.duplicates),
            sent: count(&link.counters.sent),
            resent: count(&link.counters.resent),
            streams: count(&link.counters.streams),
            failed_dials: count(&link.counters.failed_dials),
            violations: link.violations(),
        }
    }
}
