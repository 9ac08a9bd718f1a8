//! The state that all parts of a sandbox share: resources, requested failures, recorded calls, and the clock.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    call::Call,
    database::Database,
    failure::Injected,
    faults::Faults,
    identity::Identity,
    network::Network,
    operation::Operation,
    options::{
        AgentOptions, Node, Offline, Options, Oversize, SecurityGroup, SessionDocument, Task, Vpc, WebSocketSignature,
    },
    portal::Portal,
    roles::{MfaDevice, Role},
    secret::StoredSecret,
    session::{SessionRequest, Sessions, Started},
    sigv4::{self, DatabaseServer, TokenRefusal},
};

/// The state that all parts of a sandbox share.
pub(super) struct World {
    pub(super) region: String,
    pub(super) address: SocketAddr,
    pub(super) tls: bool,
    /// Whether clients reach it under the names of AWS.
    pub(super) public: bool,
    pub(super) documents: Vec<SessionDocument>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) largest_payload: Option<(usize, Oversize)>,
    /// The largest number of entries in one answer of a list.
    pub(super) page: usize,
    pub(super) network: Network,
    pub(super) sessions: Sessions,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    pub(super) changes: watch::Sender<()>,
    seed: AtomicU64,
    /// Milliseconds; apart from the state, so that the time can be read while the state is locked.
    clock_ahead: AtomicU64,
    state: Mutex<State>,
}

/// The state that may change while the sandbox runs.
pub(super) struct State {
    pub(super) identities: HashMap<String, Identity>,
    pub(super) roles: Vec<Role>,
    pub(super) mfa_devices: Vec<MfaDevice>,
    pub(super) portal: Portal,
    pub(super) nodes: Vec<Node>,
    pub(super) tasks: Vec<Task>,
    pub(super) databases: Vec<Database>,
    /// By name.
    pub(super) secrets: HashMap<String, StoredSecret>,
    pub(super) security_groups: Vec<SecurityGroup>,
    pub(super) vpc: Vpc,
    /// Log groups: times in milliseconds since the Unix epoch, and messages.
    pub(super) logs: HashMap<String, Vec<(u64, String)>>,
    pub(super) agent: AgentOptions,
    pub(super) faults: Faults,
    pub(super) injected: Injected,
    pub(super) websocket_signature: WebSocketSignature,
    pub(super) bye_after: Option<Duration>,
    pub(super) offline: Offline,
    pub(super) calls: Vec<Call>,
}

impl World {
    pub(super) fn new(options: Options, address: SocketAddr) -> Self {
        Self {
            region: options.region,
            address,
            tls: options.tls,
            public: !options.names_of_endpoint.is_empty(),
            documents: options.documents,
            idle_timeout: options.idle_timeout,
            largest_payload: options.largest_payload,
            page: options.page,
            network: Network::new(options.names),
            sessions: Sessions::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            changes: watch::Sender::new(()),
            seed: AtomicU64::new(options.seed),
            clock_ahead: AtomicU64::new(0),
            state: Mutex::new(State {
                identities: options.identities.into_iter().map(|i| (i.access_key.clone(), i)).collect(),
                roles: options.roles,
                mfa_devices: options.mfa_devices,
                portal: Portal::new(options.sso_roles),
                nodes: options.nodes,
                tasks: options.tasks,
                databases: options.databases,
                secrets: HashMap::new(),
                security_groups: options.security_groups,
                vpc: options.vpc,
                logs: HashMap::new(),
                agent: options.agent,
                faults: options.faults,
                injected: Injected::default(),
                websocket_signature: options.websocket_signature,
                bye_after: options.bye_after,
                offline: options.offline,
                calls: Vec::new(),
            }),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn shut_down(&self) {
        self.stop.cancel();
        self.sessions.stop();
        self.tasks.close();
    }

    /// Starts a session. Its destination is resolved now, for good.
    pub(super) fn start_session(&self, request: SessionRequest) -> Started {
        let random = self.random();
        let (host, port) = request.destination();
        let destination = self.network.resolve(host, port);
        let faults = self.lock().faults;
        let place = (self.websocket_base(), self.epoch_seconds());
        let started = self.sessions.start(request, destination, faults, (&place.0, place.1), random);
        self.touch();
        started
    }

    /// New URL and token for a session that lives; `None` when it does not.
    pub(super) fn resume_session(&self, id: &str) -> Option<Started> {
        self.sessions.resume(&self.websocket_base(), id, self.random())
    }

    /// Scheme and authority of stream URLs.
    fn websocket_base(&self) -> String {
        if self.public {
            return format!("wss://ssmmessages.{}.amazonaws.com", self.region);
        }
        format!("{}://{}", if self.tls { "wss" } else { "ws" }, self.address)
    }

    pub(super) fn now(&self) -> SystemTime {
        SystemTime::now() + Duration::from_millis(self.clock_ahead.load(Ordering::Relaxed))
    }

    pub(super) fn set_clock_ahead(&self, by: Duration) {
        self.clock_ahead.store(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn epoch_seconds(&self) -> u64 {
        self.now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }

    /// A new generator; all come from one seed.
    pub(super) fn random(&self) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed))
    }

    pub(super) fn find_identity(&self, access_key: &str) -> Option<Identity> {
        self.lock().identities.get(access_key).cloned()
    }

    pub(super) fn verify_token(&self, token: &str, user: &str, database: &DatabaseServer) -> Result<(), TokenRefusal> {
        sigv4::verify_token(token, user, database, self.now(), |key| self.find_identity(key)).map(drop)
    }

    /// A websocket brought no token, or a wrong one: noted as the error of a call.
    pub(super) fn refused_token(&self, session_id: &str) {
        let mut state = self.lock();
        let of_session = |call: &&mut Call| {
            call.operation == Operation::OpenDataChannel && call.session_id.as_deref() == Some(session_id)
        };
        if let Some(call) = state.calls.iter_mut().rev().find(of_session) {
            call.error = Some("wrong token".into());
        }
    }

    pub(super) fn record(&self, call: Call) {
        tracing::debug!(operation = %call.operation, session = call.session_id, error = call.error, "sandbox call");
        self.lock().calls.push(call);
        self.touch();
    }

    /// Wakes the waiters in [`super::Sandbox::until`].
    pub(super) fn touch(&self) {
        self.changes.send_replace(());
    }
}
