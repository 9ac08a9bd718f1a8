//! The sessions that exist, their tokens and how each ended.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{Link, PATH, channel_closed};
use crate::{World, agent, faults::Faults, network::Destination};

/// What StartSession asks for, checked.
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

/// What a client needs to open the data channel.
pub(crate) struct Started {
    pub(crate) id: String,
    pub(crate) stream_url: String,
    pub(crate) token: String,
}

/// How a session ended.
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
    /// Why it was started, in the client's words.
    pub reason: Option<String>,
    /// Who started it.
    pub owner_arn: String,
    /// Seconds since the Unix epoch.
    pub started_at: u64,
    /// Whether a websocket is attached.
    pub connected: bool,
    /// Whether the handshake is complete.
    pub ready: bool,
    /// `None` while it lives.
    pub ended: Option<Ended>,
    /// Websockets opened so far.
    pub opens: u64,
    /// Stream data messages from the client, duplicates included.
    pub received: u64,
    /// Those that had come before.
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
    /// Good for one opening.
    token: Option<String>,
    /// Every token and query so far.
    handed_out: Vec<String>,
    link: Arc<Link>,
    /// Resolved when the session started, for good.
    destination: Destination,
    agent_runs: bool,
    started_at: u64,
    ended: Option<Ended>,
}

/// All sessions, the ended ones too.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<BTreeMap<String, Session>>);

/// Why a data channel may not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoEntry {
    UnknownSession,
    /// The query is not byte for byte the one handed out last.
    OtherUrl,
    Token,
}

impl Sessions {
    pub(crate) fn start(&self, world: &World, request: SessionRequest) -> Started {
        let mut random = world.random();
        let suffix: String = std::iter::repeat_with(|| random.alphanumeric().to_ascii_lowercase()).take(26).collect();
        let id = format!("{}-{suffix}", request.owner);
        let property = |name: &str| request.properties.iter().find(|(key, _)| key == name).map(|(_, v)| v.as_str());
        let host = property("host").unwrap_or("localhost");
        let port = property("portNumber").and_then(|port| port.parse().ok()).unwrap_or(80);
        let destination = world.network.resolve(host, port);
        let link = Arc::new(Link::new(random.u64(..)));
        let faults = world.lock().faults;
        set_faults(&link, faults);
        let mut session = Session {
            request,
            query: String::new(),
            token: None,
            handed_out: Vec::new(),
            link,
            destination,
            agent_runs: false,
            started_at: world.epoch_seconds(),
            ended: None,
        };
        let started = session.grant(world, &id, &mut random);
        self.lock().insert(id, session);
        world.touch();
        started
    }

    /// New URL and token for a session that lives; `None` when it does not.
    pub(crate) fn resume(&self, world: &World, id: &str) -> Option<Started> {
        let mut sessions = self.lock();
        let session = sessions.get_mut(id).filter(|session| session.ended.is_none())?;
        Some(session.grant(world, id, &mut world.random()))
    }

    /// TerminateSession. Unknown and ended sessions stay as they are.
    pub(crate) fn terminate(&self, id: &str) {
        self.end(id, Ended::ByApi, "");
    }

    /// Ends a session and tells the client.
    pub(crate) fn end(&self, id: &str, how: Ended, output: &str) {
        let mut sessions = self.lock();
        let Some(session) = sessions.get_mut(id).filter(|session| session.ended.is_none()) else { return };
        session.ended = Some(how);
        session.token = None;
        session.link.down.push_intact(channel_closed(id, output, crate::epoch_millis()));
        session.link.over.cancel();
    }

    /// Ends every session without a word: the sandbox stops.
    pub(crate) fn stop(&self) {
        for session in self.lock().values() {
            session.link.over.cancel();
        }
    }

    pub(super) fn check_url(&self, id: &str, query: &str) -> Result<(), NoEntry> {
        let sessions = self.lock();
        let session = sessions.get(id).filter(|session| session.ended.is_none()).ok_or(NoEntry::UnknownSession)?;
        if session.query == query { Ok(()) } else { Err(NoEntry::OtherUrl) }
    }

    /// Uses up the token. Starts the agent the first time.
    pub(super) fn open(&self, world: &Arc<World>, id: &str, token: &str) -> Result<Arc<Link>, NoEntry> {
        let mut sessions = self.lock();
        let session = sessions.get_mut(id).filter(|session| session.ended.is_none()).ok_or(NoEntry::UnknownSession)?;
        if session.token.as_deref() != Some(token) {
            return Err(NoEntry::Token);
        }
        session.token = None;
        if !session.agent_runs {
            session.agent_runs = true;
            agent::spawn(world, id, &session.link, session.destination.clone(), session.request.properties.clone());
        }
        Ok(Arc::clone(&session.link))
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

/// Applies faults to both directions of a session.
pub(crate) fn set_faults(link: &Link, faults: Faults) {
    link.up.set(faults.up, faults.delay, faults.pace);
    link.down.set(faults.down, faults.delay, None);
    let cut_after = faults.cut_after.unwrap_or(u64::MAX);
    link.cut_after.store(cut_after, Ordering::Relaxed);
    link.left.store(cut_after, Ordering::Relaxed);
}

impl Session {
    fn grant(&mut self, world: &World, id: &str, random: &mut fastrand::Rng) -> Started {
        let mut bytes = [0; 96];
        random.fill(&mut bytes);
        let token = STANDARD.encode(bytes);
        // Real cell numbers hold '+', '/' and '='; a client that decodes or encodes them signs and asks for another URL.
        let cell = format!("AAE+/{}+/==", STANDARD.encode(&bytes[..30]).replace('=', ""));
        self.query = format!("role=publish_subscribe&cell-number={cell}");
        self.token = Some(token.clone());
        self.handed_out.extend([token.clone(), self.query.clone()]);
        Started { id: id.into(), stream_url: format!("{}{PATH}{id}?{}", world.websocket_base(), self.query), token }
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
