//! A connection to the database, ready for queries: route, TLS, token and login, each with its deadline.
//!
//! The only file where the four meet. It serves one target and keeps what connections to it share: the identity, the TLS
//! configuration with its resumable sessions, the sessions of the route.

mod spares;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use futures_util::future::BoxFuture;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};
use tokio_rustls::client::TlsStream;
use tracing::{debug, warn};

use self::spares::Spares;
use super::{
    clock::{Clock, Deadline, Hope},
    error::{Error, Stage},
    explain::{self, Explainer},
    guard,
};
use crate::{
    aws::Account,
    limits::{PIPELINED_TIMEOUT, RELOGIN_TIMEOUT},
    login::{Login, Prepared, Proof},
    mysql::{self, Compression, TokenTiming, compress::Compressed},
    postgres::{self, CancelRequest, LoggedIn, Mode, Startup},
    stream::BoxIo,
    target::{Compress, Engine, Target},
    tls::{self, Verified},
    tunnel::{self, Dialer, pool::Pool},
};

/// An encrypted stream to the database.
pub type Stream = TlsStream<tunnel::Stream>;

/// What connections to one target share.
pub struct Upstream {
    target: Arc<Target>,
    account: Account,
    dialer: Dialer,
    tls: tls::Connector,
    /// The server does not take startup and password together.
    one_by_one: AtomicBool,
    /// A MySQL server has taken a token that was sent before it asked.
    early_token_taken: AtomicBool,
    /// A MySQL server has refused a login with such a token: from then on it gets the token when it asks.
    token_when_asked: AtomicBool,
    /// STS would not say who we are; it is not asked again.
    nameless: AtomicBool,
    explainer: Explainer,
    spares: Spares,
    /// It was said that the server does not have the compression that was asked for.
    said_no_compression: AtomicBool,
}

/// A connection that is logged in. `L` is what the engine's login came to, `S` the stream it goes on with.
pub struct Established<L, S = Stream> {
    /// The stream, ready for the client's first command.
    pub stream: S,
    /// What the client must hear.
    pub logged_in: L,
    /// How it came about.
    pub facts: Facts,
}

/// A MySQL server that has spoken first and waits.
pub struct Greeted {
    stream: tunnel::Stream,
    /// What it said.
    pub greeting: mysql::Greeting,
    login: Prepared,
    clock: Clock,
    /// When it was heard.
    since: Instant,
}

/// What a connection reached, and by which way.
struct Reached {
    session: Option<Arc<str>>,
    server: Option<Server>,
}

/// The very server that a connection has reached, and how its certificate is verified: where its cancel requests go, even
/// when the target's name leads to another server by now.
#[derive(Clone)]
pub struct Server {
    peer: tunnel::Peer,
    tls: tls::Connector,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.peer.fmt(f)
    }
}

impl Server {
    /// Forwards a CancelRequest, and waits until the server has taken it, which it says by closing. Neither starts a session
    /// nor waits for room in one.
    ///
    /// # Errors
    /// [`Error`], by stage.
    pub async fn cancel(&self, request: &CancelRequest, deadline: Deadline) -> Result<(), Error> {
        let mut clock = Clock::until(deadline);
        let dial = async { self.peer.dial().await.map_err(Error::Route) };
        let mut stream = clock.run(Stage::Route, Hope::None, dial).await?;
        answer(&mut clock, &mut stream, |stream| Box::pin(request_tls(stream))).await?;
        let handshake = async { self.tls.connect(stream).await.map_err(Error::from_tls) };
        let (mut stream, _) = clock.run(Stage::Tls, Hope::Real, handshake).await?;
        let exchange = async {
            let io = |cause| Error::from_login(postgres::Error::Io(cause));
            stream.write_all(&request.encode()).await.map_err(io)?;
            stream.flush().await.map_err(io)?;
            // However it closes, with or without a TLS alert, it has been read.
            let _ = stream.read(&mut [0]).await;
            Ok(())
        };
        clock.run(Stage::Login, Hope::Real, exchange).await
    }
}

/// How a connection came about, for the log. Nothing secret.
#[derive(Debug)]
pub struct Facts {
    /// The SSM session; `None` on the direct route.
    pub session: Option<Arc<str>>,
    /// The server that was reached, for a cancel request.
    pub server: Option<Server>,
    /// What TLS verified.
    pub verified: Verified,
    /// Characters of the token.
    pub token_length: usize,
    /// When it stops being accepted.
    pub token_expires: SystemTime,
    /// How long each stage took.
    pub stages: Vec<(Stage, Duration)>,
}

impl Upstream {
    /// What connections to `target` will share.
    pub fn new(target: Arc<Target>, account: Account, dialer: Dialer, tls: tls::Connector) -> Self {
        let explainer = Explainer::new(Arc::clone(&target), account.clone());
        Self {
            target,
            account,
            dialer,
            tls,
            one_by_one: AtomicBool::new(false),
            early_token_taken: AtomicBool::new(false),
            token_when_asked: AtomicBool::new(false),
            nameless: AtomicBool::new(false),
            explainer,
            spares: Spares::default(),
            said_no_compression: AtomicBool::new(false),
        }
    }

    /// Who calls AWS for it.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// The way to the database.
    pub fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// How the database's certificate is verified.
    pub fn tls(&self) -> &tls::Connector {
        &self.tls
    }

    /// The target.
    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// What AWS knows that explains an error, if it says so quickly.
    pub async fn facts(&self, error: &Error) -> explain::Facts {
        self.explainer.facts(error).await
    }

    /// Whether somebody is there who will be asked for what credentials take, when a client needs them.
    pub fn may_ask(&self) -> bool {
        self.account.may_ask()
    }

    /// Asks for credentials before the first client needs them. No person is asked for anything.
    ///
    /// # Errors
    /// What the first client would be told.
    pub async fn check_credentials(&self) -> Result<(), crate::aws::Error> {
        self.account.credentials().await.map(drop)
    }

    /// Opens what is to be open before the first client comes.
    ///
    /// # Errors
    /// What the first client would be told.
    pub async fn warm(&self) -> Result<(), Error> {
        self.dialer.warm().await.map_err(Error::Route)
    }

    /// A server that is to be the writer has refused to write: the name may lead to another one by now.
    pub fn on_refused_to_write(&self) {
        // What the guard makes read only says nothing about the server.
        if self.target.endpoint.service().is_writer() && !self.target.guard.read_only {
            self.dialer.suspect_failover();
        }
    }

    fn note_failover<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        result.inspect_err(|error| {
            if error.suggests_failover() {
                self.dialer.suspect_failover();
            }
            if matches!(error, Error::Login(postgres::Error::Refused(_)) | Error::MysqlLogin(mysql::Error::Refused(_)))
            {
                self.account.login_was_refused();
            }
        })
    }

    /// The route's sessions, which other targets may share; `None` when it has none.
    pub fn pool(&self) -> Option<&Pool> {
        self.dialer.pool()
    }

    /// Goes to the database as far as it is possible without a user, before `deadline`: with PostgreSQL that is TLS, with
    /// MySQL its greeting. Afterwards the route has what the first client needs; a greeted connection is for
    /// [`keep_spare`](Self::keep_spare).
    ///
    /// # Errors
    /// [`Error`], by stage.
    pub async fn reach(&self, deadline: Deadline) -> Result<Option<Greeted>, Error> {
        match self.target.engine {
            Engine::Postgres => {
                let mut clock = Clock::until(deadline);
                self.prepare(&mut clock).await?;
                self.connect(&mut clock).await.map(|_| None)
            }
            Engine::Mysql => self.greet_mysql(deadline).await.map(Some),
        }
    }

    /// Connects and logs in as `startup` says, before `deadline`.
    ///
    /// # Errors
    /// [`Error`], by stage.
    pub async fn log_in(&self, startup: &Startup, deadline: Deadline) -> Result<Established<LoggedIn>, Error> {
        let mode = if self.one_by_one.load(Ordering::Relaxed) { Mode::OneByOne } else { Mode::Pipelined };
        match self.try_log_in(startup, mode, deadline).await {
            Err(Error::Login(postgres::Error::NotPipelined(why))) => {
                debug!(target = %self.target.name, why, "logging in one message after the other from now on");
                let established = self.note_failover(self.try_log_in(startup, Mode::OneByOne, deadline).await)?;
                self.one_by_one.store(true, Ordering::Relaxed);
                Ok(established)
            }
            result => self.note_failover(result),
        }
    }

    async fn try_log_in(
        &self,
        startup: &Startup,
        mode: Mode,
        deadline: Deadline,
    ) -> Result<Established<LoggedIn>, Error> {
        let user = String::from_utf8_lossy(startup.get(b"user").unwrap_or_default()).into_owned();
        let mut clock = Clock::until(deadline);
        let prepared = self.prepare(&mut clock).await?;
        let (mut stream, reached, verified) = self.learning_who(self.connect(&mut clock)).await?;
        let startup = guard::startup(startup, &self.target.guard, self.account.known_principal());
        let startup = startup.map_err(Error::Client)?;
        let proof = self.proof(&user, &prepared)?;
        let login = log_in_postgres(&mut stream, &startup, &proof, mode);
        let login = async { login.await.map_err(Error::from_login) };
        let logged_in = clock.run(Stage::Login, Hope::Real, login).await?;
        let facts = Facts::new(reached, verified, &proof, clock);
        Ok(Established { stream, logged_in, facts })
    }

    /// Connects to a MySQL server and hears its greeting, before `deadline`.
    ///
    /// # Errors
    /// [`Error`], by stage.
    pub async fn greet_mysql(&self, deadline: Deadline) -> Result<Greeted, Error> {
        self.greet_mysql_noting(deadline, &AtomicBool::new(false)).await
    }

    /// The same; `reached` is set as soon as the server may know of the connection. Cancelling this before has no effect on
    /// the server; after it, the server counts a broken handshake.
    ///
    /// # Errors
    /// [`Error`], by stage.
    pub async fn greet_mysql_noting(&self, deadline: Deadline, reached: &AtomicBool) -> Result<Greeted, Error> {
        let mut clock = Clock::until(deadline);
        let prepared = self.prepare(&mut clock).await?;
        let exchange = self.first_exchange(&mut clock, |stream| {
            reached.store(true, Ordering::Relaxed);
            Box::pin(read_greeting(stream))
        });
        let exchange = self.learning_who(exchange).await;
        let (stream, greeting) = self.note_failover(exchange)?;
        Ok(Greeted { stream, greeting, login: prepared, clock, since: Instant::now() })
    }

    /// Connects again to a MySQL server for a client that was greeted as `greeting` says, before `deadline`. Only the
    /// connection id may differ.
    ///
    /// # Errors
    /// [`Error`], by stage; [`mysql::Error::GreetingChanged`] when another kind of server answers.
    pub async fn greet_mysql_again(&self, greeting: &mysql::Greeting, deadline: Deadline) -> Result<Greeted, Error> {
        let greeted = self.greet_mysql(deadline).await?;
        if greeted.greeting.is_compatible_with(greeting) {
            return Ok(greeted);
        }
        self.retire(greeted).await;
        Err(Error::MysqlLogin(mysql::Error::GreetingChanged))
    }

    /// Logs in to a MySQL server as `response` says.
    ///
    /// The first refusal of a token that was sent before the server asked may be due to that: the login is tried once more
    /// on another connection, which has another connection id than the one that the client was greeted with.
    ///
    /// # Errors
    /// [`Error`], by stage.
    pub async fn log_in_mysql(
        &self,
        greeted: Greeted,
        response: &mysql::HandshakeResponse,
    ) -> Result<Established<mysql::LoggedIn, BoxIo>, Error> {
        let deadline = greeted.clock.deadline;
        let timing = match TokenTiming::for_server(&greeted.greeting) {
            TokenTiming::Early if self.token_when_asked.load(Ordering::Relaxed) => TokenTiming::WhenAsked,
            timing => timing,
        };
        let result = self.note_failover(self.try_log_in_mysql(greeted, response, timing).await);
        if timing == TokenTiming::WhenAsked || self.early_token_taken.load(Ordering::Relaxed) {
            return result;
        }
        match result {
            Err(Error::MysqlLogin(why)) if why.suggests_misread_token() => {
                debug!(target = %self.target.name, %why, "sending the token when the server asks for it from now on");
                self.token_when_asked.store(true, Ordering::Relaxed);
                let greeted = self.greet_mysql(deadline).await?;
                self.note_failover(self.try_log_in_mysql(greeted, response, TokenTiming::WhenAsked).await)
            }
            Ok(established) => {
                self.early_token_taken.store(true, Ordering::Relaxed);
                Ok(established)
            }
            Err(error) => Err(error),
        }
    }

    async fn try_log_in_mysql(
        &self,
        greeted: Greeted,
        response: &mysql::HandshakeResponse,
        timing: TokenTiming,
    ) -> Result<Established<mysql::LoggedIn, BoxIo>, Error> {
        let Greeted { mut stream, greeting, login: prepared, mut clock, .. } = greeted;
        let user = String::from_utf8_lossy(response.user()).into_owned();
        let reached = self.reached(&stream);
        let response = &self.introduced(response, &greeting);
        let compression = Compression::choose(self.compressions(reached.session.is_some()), &greeting);
        self.say_compression(compression, &greeting);
        // Before TLS, so that nothing of ours can break off what has begun.
        let proof = match self.proof(&user, &prepared) {
            Ok(_) if !greeting.capabilities.contains(mysql::Capabilities::SSL) => {
                Err(Error::MysqlLogin(mysql::Error::NoTls))
            }
            proof => proof,
        };
        let proof = match proof {
            Ok(proof) => proof,
            Err(error) => {
                let _ = timeout(spares::RETIRE_TIMEOUT, spares::decline(&mut stream, &greeting)).await;
                return Err(error);
            }
        };
        let secure = async {
            mysql::ssl_request(&mut stream, &greeting, response, compression).await.map_err(Error::from_mysql)?;
            self.tls.connect(stream).await.map_err(Error::from_tls)
        };
        let (mut stream, verified) = clock.run(Stage::Tls, Hope::Real, secure).await?;
        let login = async {
            mysql::login(&mut stream, &greeting, response, compression, proof.cleartext(), timing)
                .await
                .map_err(Error::from_mysql)
        };
        let logged_in = clock.run(Stage::Login, Hope::Real, login).await?;
        debug!(target = %self.target.name, ?compression, "packets between us and the server");
        let mut stream: BoxIo = match compression {
            Some(compression) => Box::new(Compressed::new(stream, compression)),
            None => Box::new(stream),
        };
        self.guard_mysql(&mut stream, &greeting, logged_in.capabilities, &mut clock).await?;
        self.spares.logged_in(&user);
        let facts = Facts::new(reached, verified, &proof, clock);
        Ok(Established { stream, logged_in, facts })
    }

    /// Says once that packets are not compressed as the configuration asks.
    fn say_compression(&self, chosen: Option<Compression>, greeting: &mysql::Greeting) {
        let asked = match self.target.compress {
            Compress::Zlib => "zlib",
            Compress::Zstd => "zstd",
            Compress::Auto | Compress::Off => return,
        };
        if chosen.is_none() && !self.said_no_compression.swap(true, Ordering::Relaxed) {
            let server = if greeting.is_mariadb() { "MariaDB" } else { "MySQL" };
            warn!(
                target = %self.target.name,
                version = %String::from_utf8_lossy(&greeting.version).escape_debug(),
                "this {server} server does not offer {asked} compression: packets are not compressed; use --compress auto"
            );
        }
    }

    /// Logs in anew on a MySQL connection, with a fresh token.
    ///
    /// # Errors
    /// [`Error`], by stage; the connection is of no use then.
    pub async fn change_user_mysql(
        &self,
        stream: &mut BoxIo,
        greeting: &mysql::Greeting,
        logged_in: &mysql::LoggedIn,
        response: &mysql::HandshakeResponse,
    ) -> Result<mysql::OkPacket, Error> {
        let mut clock = Clock::until(Deadline::patient(Instant::now() + RELOGIN_TIMEOUT));
        let prepared = self.prepare(&mut clock).await?;
        let proof = self.proof(&String::from_utf8_lossy(response.user()), &prepared)?;
        let response = self.introduced(response, greeting);
        let login = async {
            mysql::change_user(stream, logged_in, &response, proof.cleartext()).await.map_err(Error::from_mysql)
        };
        let ok = clock.run(Stage::Login, Hope::Real, login).await?;
        self.guard_mysql(stream, greeting, logged_in.capabilities, &mut clock).await?;
        Ok(ok)
    }

    /// Resets a MySQL connection, and guards it again.
    ///
    /// # Errors
    /// [`Error`], by stage; the connection is of no use then.
    pub async fn reset_mysql(
        &self,
        stream: &mut BoxIo,
        greeting: &mysql::Greeting,
        logged_in: &mysql::LoggedIn,
    ) -> Result<mysql::OkPacket, Error> {
        let mut clock = Clock::until(Deadline::patient(Instant::now() + RELOGIN_TIMEOUT));
        let reset = async { mysql::command::reset_connection(stream).await.map_err(Error::from_mysql) };
        let ok = clock.run(Stage::Login, Hope::Real, reset).await?;
        self.guard_mysql(stream, greeting, logged_in.capabilities, &mut clock).await?;
        Ok(ok)
    }

    /// Whether MySQL sessions have something to guard, which a reset would undo.
    pub fn guards_sessions(&self) -> bool {
        !guard::statements(&self.target.guard, false).is_empty()
    }

    async fn guard_mysql(
        &self,
        stream: &mut BoxIo,
        greeting: &mysql::Greeting,
        capabilities: mysql::Capabilities,
        clock: &mut Clock,
    ) -> Result<(), Error> {
        let run = async {
            for statement in guard::statements(&self.target.guard, greeting.is_mariadb()) {
                mysql::command::query(stream, capabilities, &statement).await.map_err(Error::from_mysql)?;
            }
            Ok(())
        };
        clock.run(Stage::Login, Hope::Real, run).await
    }

    /// The response with the principal among its attributes, where it is known and the server takes them.
    fn introduced(&self, response: &mysql::HandshakeResponse, greeting: &mysql::Greeting) -> mysql::HandshakeResponse {
        let mut response = response.clone();
        if let Some(principal) = self.account.known_principal()
            && greeting.capabilities.contains(mysql::Capabilities::CONNECT_ATTRS)
        {
            response.add_attribute(guard::ATTRIBUTE, principal.short());
        }
        response
    }

    /// Does `work`, and asks AWS who we are while that takes its time: never longer, and only until it is known.
    async fn learning_who<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        if self.account.known_principal().is_none() && !self.nameless.load(Ordering::Relaxed) {
            tokio::select! {
                done = &mut work => return done,
                principal = self.account.principal() => if let Err(error) = principal {
                    debug!(target = %self.target.name, %error, "the database will not hear who this is");
                    self.nameless.store(true, Ordering::Relaxed);
                },
            }
        }
        work.await
    }

    async fn connect(&self, clock: &mut Clock) -> Result<(Stream, Reached, Verified), Error> {
        let (stream, ()) = self.first_exchange(clock, |stream| Box::pin(request_tls(stream))).await?;
        let reached = self.reached(&stream);
        let handshake = async { self.tls.connect(stream).await.map_err(Error::from_tls) };
        let (stream, verified) = clock.run(Stage::Tls, Hope::Real, handshake).await?;
        Ok((stream, reached, verified))
    }

    fn reached(&self, stream: &tunnel::Stream) -> Reached {
        let server = stream.peer().map(|peer| Server { peer, tls: self.tls.clone() });
        Reached { session: stream.session_id(), server }
    }

    /// What to ask the server for on the way that was taken, best first.
    fn compressions(&self, through_session: bool) -> &'static [Compression] {
        match self.target.compress {
            Compress::Auto if through_session => &[Compression::Zstd, Compression::Zlib],
            Compress::Zstd => &[Compression::Zstd],
            Compress::Zlib => &[Compression::Zlib],
            Compress::Auto | Compress::Off => &[],
        }
    }

    /// Dials, and exchanges the first bytes with the database, which can be said again on another connection: when the session
    /// turns out to be of no use, once more on another one.
    async fn first_exchange<T>(
        &self,
        clock: &mut Clock,
        exchange: impl for<'a> Fn(&'a mut tunnel::Stream) -> BoxFuture<'a, Result<T, Error>> + Sync,
    ) -> Result<(tunnel::Stream, T), Error> {
        if let Dialer::Auto(auto) = &self.dialer
            && let Some(reached) =
                clock.run(Stage::Route, Hope::None, auto.direct(&exchange, Error::is_from_database)).await?
        {
            return Ok(reached);
        }
        let started = std::time::Instant::now();
        let mut stream = self.dial(clock).await?;
        let said = answer(clock, &mut stream, &exchange).await;
        let is_old = stream.is_in_session_from_before(started);
        match said {
            Err(Error::Stream(cause)) if cause.calls_for_another_session(is_old) => {
                debug!(target = %self.target.name, %cause, "connecting again through another SSM session");
                stream = self.dial(clock).await?;
                let said = answer(clock, &mut stream, &exchange).await?;
                Ok((stream, said))
            }
            said => Ok((stream, said?)),
        }
    }

    async fn dial(&self, clock: &mut Clock) -> Result<tunnel::Stream, Error> {
        let dial = async { self.dialer.dial().await.map_err(Error::Route) };
        let gives_hope = || self.dialer.pool().is_some_and(Pool::gives_hope);
        clock.run(Stage::Route, Hope::If(&gives_hope), dial).await
    }

    async fn prepare(&self, clock: &mut Clock) -> Result<Prepared, Error> {
        let login = Login::of(&self.target);
        let may_wait = || login.may_wait(&self.account);
        let prepare = async { login.prepare(&self.account).await.map_err(Error::Credentials) };
        clock.run(Stage::Credentials, Hope::If(&may_wait), prepare).await
    }

    /// Made last, so that it is fresh.
    fn proof(&self, user: &str, prepared: &Prepared) -> Result<Proof, Error> {
        prepared.proof(&self.target, user, SystemTime::now()).map_err(Error::Credentials)
    }
}

async fn log_in_postgres(
    stream: &mut Stream,
    startup: &Startup,
    proof: &Proof,
    mode: Mode,
) -> Result<LoggedIn, postgres::Error> {
    let mut login = postgres::Login::begin(stream, startup, proof.cleartext(), mode).await?;
    match mode {
        Mode::Pipelined => {
            let dropped = |_| postgres::Error::NotPipelined("it asked for the password that had been sent, and waited");
            timeout(PIPELINED_TIMEOUT, login.authenticate()).await.map_err(dropped)??;
        }
        Mode::OneByOne => login.authenticate().await?,
    }
    login.greeting().await
}

async fn request_tls(stream: &mut tunnel::Stream) -> Result<(), Error> {
    postgres::request_tls(stream).await.map_err(Error::from_answer)
}

async fn read_greeting(stream: &mut tunnel::Stream) -> Result<mysql::Greeting, Error> {
    mysql::read_greeting(stream).await.map_err(Error::from_mysql)
}

/// Waits for the database's first word: as long as it takes, once it is known to have accepted.
async fn answer<T>(
    clock: &mut Clock,
    stream: &mut tunnel::Stream,
    exchange: impl for<'a> Fn(&'a mut tunnel::Stream) -> BoxFuture<'a, Result<T, Error>>,
) -> Result<T, Error> {
    let acceptance = stream.acceptance();
    let accepted = || acceptance.is_accepted();
    clock.run(Stage::Database, Hope::If(&accepted), exchange(stream)).await
}

impl Facts {
    fn new(Reached { session, server }: Reached, verified: Verified, proof: &Proof, clock: Clock) -> Self {
        let (token_length, token_expires) = (proof.len(), proof.expires_at());
        Self { session, server, verified, token_length, token_expires, stages: clock.stages }
    }
}
