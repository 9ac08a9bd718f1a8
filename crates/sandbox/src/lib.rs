//! The far side, emulated on loopback: AWS's APIs, the message service, the agent on a managed node, certificates and
//! faults. For the demo, the tests and the benchmarks; absent from a normal build.
//!
//! ```text
//!   rdsgate ── AWS_ENDPOINT_URL ──▶ http ─▶ aws (STS, SSO, SSM, RDS)   sigv4 checks every call
//!                                    └────▶ websocket ─▶ session ─▶ agent ─▶ smux_server ─▶ network ─▶ database
//!                                               faults in the link of a session                └▶ front (TLS, token)
//! ```
//!
//! ```no_run
//! # use sandbox::{Options, Sandbox, Error};
//! # async fn example(database: std::net::SocketAddr) -> Result<(), Error> {
//! let options = Options::default().database("db.c1abcdefghij.us-east-1.rds.amazonaws.com", 5432, database);
//! let sandbox = Sandbox::start(options).await?;
//! let variables = sandbox.env(); // for the program under test
//! sandbox.cut_all();
//! assert!(sandbox.violations().is_empty());
//! # sandbox.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! It uses the product's own codecs, so it cannot catch a misreading that both halves share: golden vectors and real
//! servers do. Everything listens on loopback, on ports that the system chooses.

mod agent;
mod aws;
mod call;
mod clock;
mod database;
mod failure;
mod faults;
pub mod front;
mod http;
mod identity;
mod network;
mod operation;
mod options;
pub mod pki;
mod portal;
mod reliability;
mod roles;
mod secret;
mod session;
mod sigv4;
mod smux_server;
mod socket;
mod websocket;
mod world;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

pub use self::{
    call::Call,
    database::Database,
    failure::Failure,
    faults::{Faults, Messages, Pace, Rates},
    identity::{ACCOUNT, Identity, SessionToken},
    network::Destination,
    operation::Operation,
    options::{
        AclRule, AgentOptions, Node, Offline, Options, Oversize, SecurityGroup, SessionDocument, Task, Vpc,
        WebSocketSignature,
    },
    roles::{MfaDevice, Role},
    secret::StoredSecret,
    session::{Ended, SessionReport},
    sigv4::{DatabaseServer, Refusal, TokenRefusal},
};
use self::{
    clock::epoch_millis,
    session::{Command, service_message},
    world::World,
};

/// The sandbox cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Loopback cannot be listened on.
    #[error("cannot listen on loopback")]
    Listen(#[source] io::Error),
    /// A certificate cannot be made.
    #[error("cannot make certificates")]
    Pki(#[from] pki::Error),
    /// The CA's certificate cannot be written where `AWS_CA_BUNDLE` is to find it.
    #[error("cannot write {path}")]
    CaFile {
        /// The path of the file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// A running sandbox. Dropping it ends its tasks.
pub struct Sandbox {
    world: Arc<World>,
    identity: Identity,
    authority: Option<Trust>,
}

/// The file with the root of the endpoint's certificate, removed on drop.
struct Trust {
    path: PathBuf,
}

impl Trust {
    fn new(names: &[String]) -> Result<(Self, TlsAcceptor), Error> {
        let authority = pki::Authority::new()?;
        let names: Vec<&str> = ["127.0.0.1", "localhost"].into_iter().chain(names.iter().map(String::as_str)).collect();
        let leaf = authority.endpoint_leaf(&names)?;
        let path = std::env::temp_dir().join(format!("rdsgate-sandbox-{}.pem", uuid::Uuid::new_v4()));
        let trust = Self { path: path.clone() };
        std::fs::write(&path, authority.root_pem()).map_err(|source| Error::CaFile { path, source })?;
        Ok((trust, TlsAcceptor::from(leaf.server_config(false)?)))
    }
}

impl Drop for Trust {
    fn drop(&mut self) {
        // The file may be gone already.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Sandbox {
    /// Starts a sandbox, which is ready once this returns.
    ///
    /// # Errors
    /// [`Error`] when loopback cannot be listened on.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(Error::Listen)?;
        let address = listener.local_addr().map_err(Error::Listen)?;
        let trust = options.tls.then(|| Trust::new(&options.names_of_endpoint)).transpose()?;
        let (authority, acceptor) = trust.unzip();
        let identity = options.identities.first().cloned().unwrap_or_else(Identity::user);
        let world = Arc::new(World::new(options, address));
        world.tasks.spawn(http::serve(Arc::clone(&world), listener, acceptor));
        Ok(Self { world, identity, authority })
    }

    /// The URL for `AWS_ENDPOINT_URL`.
    pub fn endpoint(&self) -> String {
        let scheme = if self.world.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.world.address)
    }

    /// The address of the endpoint, for a proxy that leads to it.
    pub fn address(&self) -> SocketAddr {
        self.world.address
    }

    /// The region of all resources.
    pub fn region(&self) -> &str {
        &self.world.region
    }

    /// The environment for a program that is to see this sandbox and nothing of the machine's own AWS configuration;
    /// as the first of the identities.
    pub fn env(&self) -> Vec<(String, String)> {
        self.env_for(&self.identity)
    }

    /// [`Sandbox::env`] for another identity, whether the sandbox knows it or not.
    pub fn env_for(&self, identity: &Identity) -> Vec<(String, String)> {
        let mut env = identity.env();
        let endpoint = (!self.world.public).then(|| ("AWS_ENDPOINT_URL".into(), self.endpoint()));
        env.extend(endpoint);
        let fixed = [
            ("AWS_REGION", self.world.region.clone()),
            ("AWS_EC2_METADATA_DISABLED", "true".into()),
            ("AWS_CONFIG_FILE", "/dev/null".into()),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null".into()),
        ];
        env.extend(fixed.map(|(name, value)| (name.to_string(), value)));
        if let Some(Trust { path }) = &self.authority {
            env.push(("AWS_CA_BUNDLE".into(), path.display().to_string()));
        }
        env
    }

    /// All calls so far, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.world.lock().calls.clone()
    }

    /// All sessions so far, by id.
    pub fn sessions(&self) -> Vec<SessionReport> {
        self.world.sessions.reports()
    }

    /// Every stream token handed out so far, and the query of every stream URL: what no log may show.
    pub fn stream_secrets(&self) -> Vec<String> {
        self.world.sessions.handed_out()
    }

    /// Every rule of the protocol that a client broke; tests of good clients assert that there is none.
    pub fn violations(&self) -> Vec<String> {
        self.sessions().into_iter().flat_map(|session| session.violations).collect()
    }

    /// Waits until the sessions are as `condition` wants them. The caller sets the deadline. Cancel safe.
    pub async fn until(&self, condition: impl Fn(&[SessionReport]) -> bool) {
        let mut changes = self.world.changes.subscribe();
        while !condition(&self.sessions()) {
            // Counters move without notice: look again now and then.
            let _ = tokio::time::timeout(Duration::from_millis(20), changes.changed()).await;
        }
    }

    /// Changes the faults of all sessions, those to come included.
    pub fn faults(&self, faults: Faults) {
        self.world.lock().faults = faults;
        for link in self.world.sessions.links(None) {
            link.set_faults(faults);
        }
    }

    /// Cuts every websocket with RST.
    pub fn cut_all(&self) {
        self.command(None, Command::Cut);
    }

    /// Cuts one session's websocket with RST.
    pub fn cut(&self, session_id: &str) {
        self.command(Some(session_id), Command::Cut);
    }

    /// Closes every websocket with 1000 "Bye", as AWS does about hourly.
    pub fn bye_all(&self) {
        self.command(None, Command::Bye);
    }

    /// Sets the lifetime of websockets that open from now on, which ends with "1000 Bye"; `None` is without a limit.
    pub fn bye_after(&self, life: Option<Duration>) {
        self.world.lock().bye_after = life;
    }

    /// Closes one session's websocket with 1000 "Bye".
    pub fn bye(&self, session_id: &str) {
        self.command(Some(session_id), Command::Bye);
    }

    /// Leaves every websocket half-open: bytes are swallowed both ways, the sockets stay.
    pub fn half_open_all(&self) {
        self.command(None, Command::GoDeaf);
    }

    /// Kills the agents of all sessions, as when their machine stops: nothing more is acknowledged or said, while the service
    /// goes on answering pings. Sessions that start from now on have an agent.
    pub fn kill_agents(&self) {
        for link in self.world.sessions.links(None) {
            link.agent_dead.cancel();
        }
    }

    fn command(&self, session_id: Option<&str>, command: Command) {
        for link in self.world.sessions.links(session_id) {
            link.command(command);
        }
    }

    /// Sends the clients pause_publication (true) or start_publication (false).
    pub fn pause_clients(&self, pause: bool) {
        let name = if pause { "pause_publication" } else { "start_publication" };
        for link in self.world.sessions.links(None) {
            link.down.push_intact(service_message(name, "{}", epoch_millis()));
        }
    }

    /// Ends every session with `channel_closed` and this text, as the service does after an idle time.
    pub fn end_all(&self, output: &str) {
        for id in self.world.sessions.ids() {
            self.world.sessions.end(&id, Ended::Failed(output.into()), output);
        }
        self.world.touch();
    }

    /// Makes the next `times` calls fail; `None` is all of them until [`Sandbox::heal`].
    pub fn fail(&self, operation: Operation, failure: Failure, times: Option<u32>) {
        self.world.lock().injected.fail(operation, failure, times);
    }

    /// Forgets the failures of an operation.
    pub fn heal(&self, operation: Operation) {
        self.world.lock().injected.heal(operation);
    }

    /// Delays the answers of an operation from now on.
    pub fn delay(&self, operation: Operation, delay: Duration) {
        self.world.lock().injected.delay(operation, delay);
    }

    /// The codes of SSO logins that wait for a person.
    pub fn sso_codes(&self) -> Vec<String> {
        let state = self.world.lock();
        let waiting = state.portal.devices.iter().filter(|device| device.approved.is_none());
        waiting.map(|device| device.user_code.clone()).collect()
    }

    /// Says what a person says to an SSO login in their browser; false when there is none with this code.
    pub fn sso_decide(&self, user_code: &str, approve: bool) -> bool {
        let mut state = self.world.lock();
        let device = state.portal.devices.iter_mut().find(|device| device.user_code == user_code);
        device.map(|device| device.approved = Some(approve)).is_some()
    }

    /// Ends every SSO session: no token is good any more.
    pub fn sso_revoke(&self) {
        self.world.lock().portal.tokens.clear();
    }

    /// Changes what an identity may do; false when there is none with this access key.
    pub fn identity(&self, access_key: &str, change: impl FnOnce(&mut Identity)) -> bool {
        self.world.lock().identities.get_mut(access_key).map(change).is_some()
    }

    /// Points a host name and port elsewhere, for sessions that start from now on.
    pub fn name(&self, host: &str, port: u16, destination: Destination) {
        self.world.network.set(host, port, destination);
    }

    /// While true, agents' dials hang.
    pub fn hold_dials(&self, hold: bool) {
        self.world.network.hold_dials(hold);
    }

    /// Changes the agents of sessions that start from now on.
    pub fn agent(&self, change: impl FnOnce(&mut AgentOptions)) {
        change(&mut self.world.lock().agent);
    }

    /// Connects or disconnects the agent of a managed node, which is added if it is unknown.
    pub fn bastion(&self, id: &str, connected: bool) {
        let mut state = self.world.lock();
        match state.nodes.iter_mut().find(|node| node.id == id) {
            Some(node) => node.online = connected,
            None if connected => state.nodes.push(Node::new(id, "bastion")),
            None => {}
        }
    }

    /// Sets a secret of Secrets Manager.
    pub fn set_secret(&self, name: &str, secret: StoredSecret) {
        self.world.lock().secrets.insert(name.into(), secret);
    }

    /// Changes a secret; false when there is none with this name.
    pub fn change_secret(&self, name: &str, change: impl FnOnce(&mut StoredSecret)) -> bool {
        self.world.lock().secrets.get_mut(name).map(change).is_some()
    }

    /// Writes a line to a log group, which is there from then on; without a message it is only made.
    pub fn log(&self, group: &str, message: Option<&str>) {
        let mut state = self.world.lock();
        let events = state.logs.entry(group.into()).or_default();
        events.extend(message.map(|message| (epoch_millis(), message.into())));
    }

    /// Moves the service's clock ahead of the real one.
    pub fn clock_ahead(&self, by: Duration) {
        self.world.set_clock_ahead(by);
    }

    /// Says whether `database` would let `user` in with `token`; for servers that are not PostgreSQL with PAM.
    ///
    /// # Errors
    /// [`TokenRefusal`], the first thing that is wrong with it.
    pub fn verify_token(&self, token: &str, user: &str, database: &DatabaseServer) -> Result<(), TokenRefusal> {
        self.world.verify_token(token, user, database)
    }

    /// Ends all tasks and waits until they have ended.
    pub async fn stop(self) {
        self.world.shut_down();
        self.world.tasks.wait().await;
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.world.shut_down();
    }
}

#[cfg(test)]
mod tests;
